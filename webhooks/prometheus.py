"""Metrics for Prometheus, read from the ledger when asked for. The only module that imports prometheus_client."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read.monitoring_figures import Counted, LedgerMetrics, read_ledger_metrics
from rowtide.observing.supervision import Background

KEPT_SECONDS = 10.0  # figures are read no more often, however often they are asked for
WAIT_SECONDS = 3.0  # for the ledger; after that there are the other figures

CONTENT_TYPE = CONTENT_TYPE_LATEST


class LedgerCollector(Collector):
    """The ledger's metrics. Several may ask at once and one reads. While the ledger does not answer there are none."""

    def __init__(self, ledger: Ledger, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ledger, self._monotonic, self._lock = ledger, monotonic, threading.Lock()
        self._reading: Future[LedgerMetrics] | None = None
        self._begun_at = float("-inf")

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering the collector does not query the ledger."""
        return []

    def collect(self) -> Iterator[Metric]:
        found, now = self._health(), datetime.now(UTC)
        yield _gauge("rowtide_ledger_up", "Whether the ledger answers.", [], [((), float(found is not None))])
        if found is None:
            return
        yield _gauge("rowtide_rows", "Rows of the runs that are not over.", ["job", "run_id", "state"], found.rows)
        yield _gauge(
            "rowtide_batches", "Batches at the API: open, unconfirmed, orphaned.", ["job", "state"], found.batches
        )
        words = "Age of the oldest batch that is open or unconfirmed."
        yield _gauge("rowtide_batch_oldest_seconds", words, ["job", "state"], found.batch_age)
        yield _counter("rowtide_spent_usd", "What a job's runs have cost, in US dollars.", ["job"], found.spent_usd)
        words = "What requests in flight cost at worst, in US dollars."
        yield _gauge("rowtide_at_stake_usd", words, ["job"], found.at_stake_usd)
        words = "Tool calls of the runs that are not over: answered, failed."
        yield _gauge("rowtide_tool_calls", words, ["job", "tool", "outcome"], found.tool_calls)
        yield _gauge("rowtide_holds", "Gates that wait for a person.", ["job", "gate"], found.pending_gate_approvals)
        waiting = [((each.job,), each.rows) for each in found.waiting]
        yield _gauge("rowtide_inbox_rows", "Rows that came by webhook and wait for a run.", ["job"], waiting)
        ages = [((each.job,), (now - each.oldest_at).total_seconds()) for each in found.waiting]
        yield _gauge("rowtide_inbox_oldest_seconds", "Age of the oldest row that waits so.", ["job"], ages)

    def _health(self) -> LedgerMetrics | None:
        with self._lock:
            reading, now = self._reading, self._monotonic()
            if reading is None or (reading.done() and (now - self._begun_at > KEPT_SECONDS or reading.exception())):
                reading = self._reading = Future[LedgerMetrics]()
                self._begun_at = now
                threading.Thread(target=_read, args=(self._ledger, reading), daemon=True).start()
        try:
            return reading.result() if reading.exception(WAIT_SECONDS) is None else None
        except TimeoutError:
            return None


class ReceiverMetrics:
    """All metrics of a process: the ledger's, and the receiver's own counts."""

    def __init__(self, ledger: Ledger, dropped: Mapping[str, int] | None = None) -> None:
        self._dropped = {} if dropped is None else dropped
        self._registry = CollectorRegistry()
        self._registry.register(LedgerCollector(ledger))
        words = "Messages by what became of them: accepted, repeated, or the reason of a refusal."
        self._messages = Counter("rowtide_messages", words, ["job", "outcome"], registry=self._registry)
        words = "Connections that were dropped: at a head, a body or an answer, for their number, for memory."
        self._connections = Gauge("rowtide_connections_dropped", words, ["why"], registry=self._registry)
        words = "How often background work failed and was started again."
        self._restarts = Gauge("rowtide_background_restarts", words, ["background"], registry=self._registry)
        words = "Whether background work is failing now."
        self._failing = Gauge("rowtide_background_failing", words, ["background"], registry=self._registry)

    def count(self, job: str, outcome: str) -> None:
        """Count a message. A refused message may name no real job: what strangers write is no label."""
        self._messages.labels(job, outcome).inc()

    def text(self, backgrounds: Sequence[Background] = ()) -> bytes:
        """All metrics, in Prometheus' text format."""
        for each in backgrounds:
            self._restarts.labels(each.name).set(each.restarts)
            self._failing.labels(each.name).set(each.is_failing)
        for why, count in list(self._dropped.items()):
            self._connections.labels(why).set(count)
        return generate_latest(self._registry)

    def serve(self, host: str, port: int) -> tuple[int, threading.Thread]:
        """Serve the metrics at /metrics, from a thread. Returns the port and the thread."""
        server, thread = start_http_server(port, host, self._registry)
        return server.server_port, thread


def _read(ledger: Ledger, into: Future[LedgerMetrics]) -> None:
    try:
        with ledger.view() as tx:
            found = read_ledger_metrics(tx, now=datetime.now(UTC))
    except Exception as error:  # noqa: BLE001 # whoever waits is to have it, whatever it was
        into.set_exception(error)
    else:
        into.set_result(found)


def _gauge(name: str, words: str, labels: list[str], counted: Counted) -> Metric:
    return _filled(GaugeMetricFamily(name, words, labels=labels), counted)


def _counter(name: str, words: str, labels: list[str], counted: Counted) -> Metric:
    return _filled(CounterMetricFamily(name, words, labels=labels), counted)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, counted: Counted) -> Metric:
    for values, figure in counted:
        family.add_metric(list(values), figure)
    return family
