"""Judges a run by its gates: rows before anything is asked, all answers, and what is about to be loaded.

Rows that fail the rows gate are quarantined here, those that fail the answers gate in `answers_gate`. Failures over the
whole run are returned; the caller decides what waits.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from typing import Any

import orjson

from rowtide.gates.answer_quality import AnswerQuality
from rowtide.gates.approvals import GateFailure
from rowtide.gates.distribution_counts import Distribution, distributions_of
from rowtide.gates.expectation_counts import (
    ExpectationCounts,
    critical_run_failures,
    failing_rows_of_page,
    verdicts_of_outcomes,
)
from rowtide.gates.expectation_verdict import ExpectationVerdict
from rowtide.gates.gate_files import Suite
from rowtide.gates.page_judging import PageJudge, PageResult
from rowtide.gates.run_metrics import GOLDEN_METRICS, fields_measured, parameter_values
from rowtide.gates.whole_run import ScratchTable, judge_whole_run, scratch_table
from rowtide.job.answer_fields import gate_column_names
from rowtide.ledger import gate_results as ledger_gate_results
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.gate_results import JudgedRow
from rowtide.ledger.rows import MoveReason
from rowtide.sinks.sinks import open_sink
from rowtide.stages.golden_score import golden_score
from rowtide.stages.run_context import Clock, RunContext, load_gate
from rowtide.stages.validate.data_docs import write_docs

NO_GOLDEN_ROWS: dict[str, float | None] = {"golden_rows": 0, "golden_right": None}
PAGE_ROWS = 10_000  # Great Expectations takes 50 ms for a page, whatever its size

Read = tuple[JudgedRow, dict[str, Any]]  # a row and its values
Turner = Callable[[int], list[JudgedRow]]  # returns the page after a row_no
Parameters = Mapping[str, Any]
Metrics = Mapping[str, float | None]


class GateJudging:
    """Judges a run by one gate, page by page and then as a whole."""

    def __init__(self, suite: Suite, table: ScratchTable) -> None:
        # The answers gate has judged single rows already.
        paged = suite.of("shares") if suite.gate == "answers" else suite.of("rows", "shares")
        self.suite, self._table, self._pages, self._counts = (
            suite,
            table,
            PageJudge(suite, paged),
            ExpectationCounts(paged),
        )
        self._needs_all = bool(suite.of("whole"))

    def add(self, page: Sequence[Read]) -> list[PageResult]:
        """Judge one more page. Returns its results."""
        found = self._pages.judge([(each.row_no, values) for each, values in page])
        self._counts.add(found, {each.row_no: each.row_key for each, _ in page})
        if self._needs_all:
            self._table.add([(each.row_key, values) for each, values in page])
        return found

    def verdicts(self, metrics: Metrics, parameters: Parameters) -> list[ExpectationVerdict]:
        """Return the verdict of each expectation, once all pages are in."""
        self._table.finish(metrics)
        whole = judge_whole_run(self.suite, self.suite.of("whole", "metrics"), self._table, parameters)
        outcomes = sorted(self._counts.outcomes() + whole, key=lambda each: each.expectation.place)
        return verdicts_of_outcomes(self.suite, outcomes, metrics)


def judge_rows(context: RunContext, *, clock: Clock) -> list[GateFailure]:
    """Judge the run's rows, and quarantine those that fail by themselves. Returns the failures over all of them.

    It can be repeated: only what has changed is judged differently.
    """
    suite = load_gate(context.job, "rows")
    if suite is None:
        return []
    with _judging(context, suite) as judging:
        for page in _pages(_rows_of(context)):
            _quarantine(context, page, failing_rows_of_page(judging.add(page)), clock)
        return _record_verdicts(context, suite, judging.verdicts({}, _parameters(context, {})), clock)


def judge_load(context: RunContext, *, clock: Clock) -> list[GateFailure]:
    """Judge all accepted answers, and those about to be loaded. Returns the failures over all of them.

    Stores the distributions of their values, for comparison by later runs.
    """
    answers, load = load_gate(context.job, "answers"), load_gate(context.job, "load")
    named = load.metrics if load else set[str]()  # what nobody asks about is not counted
    partitions = {name: Distribution() for name in gate_column_names(context.job.answer)}
    quality = AnswerQuality(fields_measured(named))
    with ExitStack() as stack:
        judgings = [stack.enter_context(_judging(context, suite)) for suite in (answers, load) if suite]
        for page in _pages(_answers_of(context)):
            for judging in judgings:
                is_load = judging.suite is load
                judging.add([read for read in page if not is_load or read[0].state == "accepted"])
            if load:
                for name, distribution in partitions.items():
                    distribution.add([values.get(name) for _, values in page])
                quality.add([values for _, values in page])
        with context.ledger.page() as tx:
            ledger_gate_results.store_distributions(tx, context.run, distributions_of(partitions))
        metrics = {**_metrics(context, named), **quality.metrics()} if load else {}
        parameters, failures = _parameters(context, metrics), list[GateFailure]()
        for judging in judgings:
            its_metrics = metrics if judging.suite is load else {}
            failures += _record_verdicts(context, judging.suite, judging.verdicts(its_metrics, parameters), clock)
    return failures


@contextmanager
def _judging(context: RunContext, suite: Suite) -> Generator[GateJudging]:
    with scratch_table(context.spool(f"gate-{suite.gate}.db"), suite.of("whole")) as table:
        yield GateJudging(suite, table)


def _record_verdicts(
    context: RunContext, suite: Suite, verdicts: Sequence[ExpectationVerdict], clock: Clock
) -> list[GateFailure]:
    """Store verdicts and build the gate's docs. Returns the critical failures."""
    with context.ledger.page() as tx:
        if suite.gate != "answers":  # the files of the others may change under a run
            ledger_gate_results.forget_verdicts(tx, context.run, suite.gate)
        ledger_gate_results.record_verdicts(tx, context.run, verdicts, now=clock())
    with context.ledger.view() as tx:
        of_gate = [each for each in ledger_gate_results.gate_verdicts(tx, context.run) if each.gate == suite.gate]
    write_docs(context, suite.gate, of_gate)
    return critical_run_failures(suite, verdicts)


def _quarantine(context: RunContext, page: Sequence[Read], failures: Mapping[int, list[str]], clock: Clock) -> None:
    """Quarantine failing rows of the page that have not begun, except those a person sent again."""
    waiting = [each for each, _ in page if each.row_no in failures and (each.state, each.turn) == ("ready", 0)]
    if not waiting:
        return
    with context.ledger.page() as tx:
        sent = ledger_gate_results.resent_rows(tx, [each.row_no for each in waiting])
        move_reasons = [
            MoveReason(each.row_no, each.turn, ledger_gate_results.REASON, "; ".join(failures[each.row_no]))
            for each in waiting
            if each.row_no not in sent
        ]
        ledger_rows.quarantine_rows(tx, move_reasons, now=clock())


def _metrics(context: RunContext, named: AbstractSet[str]) -> dict[str, float | None]:
    """Return the run's metrics; those of golden rows only where they are among `named`."""
    sink = open_sink(context.job.spec.sink, context.home, context.job.answer, context.environment, context.job.folder)[
        0
    ].location
    golden = _golden_metrics(context) if named & set(GOLDEN_METRICS) else {}
    with context.ledger.view() as tx:
        return {
            **ledger_gate_results.run_metrics(tx, context.run.run_no),
            **ledger_gate_results.load_metrics(tx, context.run, sink),
            **golden,
        }


def _golden_metrics(context: RunContext) -> dict[str, float | None]:
    score = golden_score(context)
    return {"golden_rows": score.rows, "golden_right": score.right / score.rows} if score else NO_GOLDEN_ROWS


def _parameters(context: RunContext, metrics: Metrics) -> Parameters:
    with context.ledger.view() as tx:
        last = ledger_gate_results.last_good_run(tx, context.run)
        before = None if last is None else ledger_gate_results.run_metrics(tx, last)
        return parameter_values(
            metrics, before, {} if last is None else ledger_gate_results.stored_distributions(tx, last)
        )


def _rows_of(context: RunContext) -> Turner:
    def turn(after: int) -> list[JudgedRow]:
        with context.ledger.view() as tx:
            return ledger_gate_results.rows_to_judge_page(tx, context.run, after=after, limit=PAGE_ROWS)

    return turn


def _answers_of(context: RunContext) -> Turner:
    def turn(after: int) -> list[JudgedRow]:
        with context.ledger.view() as tx:
            return ledger_gate_results.accepted_answers_page(tx, context.run, after=after, limit=PAGE_ROWS)

    return turn


def _pages(turner: Turner) -> Iterator[list[Read]]:
    after = 0
    while page := turner(after):
        yield [(each, orjson.loads(each.content)) for each in page]
        after = page[-1].row_no
