"""What operators see of the work: logs as JSON, spans, figures for Prometheus. No row's words, no secret."""

import json
import logging
import os
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW, ask_ledger, make_job, make_rows, make_run, run
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import text

from cli.slo import EXIT_BREACHED
from cli.slo import slo as slo_command
from orchestration.set_up_observability import OURS, set_up_observability
from rowtide import tracing
from rowtide.errors import RunStopped, UserMistake
from rowtide.intake.messages import Message
from rowtide.job.job_spec import SloSpec
from rowtide.ledger import inbox as ledger_inbox
from rowtide.ledger.ledger import Ledger, to_timestamp
from rowtide.observing.slo import SloMeasurements, objective_statuses
from webhooks.prometheus import LedgerCollector, ReceiverMetrics

DESK = Path(__file__).parent / "servers" / "desk.py"
ANSWER = "from pydantic import BaseModel\n\n\nclass Answer(BaseModel):\n    desk: str\n"
PROMPT = "Find the desk.\n---\norder: {{ order }}\n"


@pytest.fixture
def spans() -> Generator[InMemorySpanExporter]:
    """Every span that is made."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use_provider(provider)
    yield exporter
    tracing.use_provider(None)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Logs as JSON, for this test alone."""
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).level) for name in OURS}
    monkeypatch.setenv("ROWTIDE_LOG", "json")
    yield
    for name, (handlers, level) in before.items():
        logging.getLogger(name).handlers = handlers
        logging.getLogger(name).setLevel(level)
        logging.getLogger(name).propagate = True


def test_a_run_says_what_happened_as_json_and_makes_spans_and_neither_holds_a_row_or_a_secret(
    api: Any, logged: None, spans: InMemorySpanExporter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = {"command": "python", "args": [str(DESK)], "env": {"DESK_LOG": str(tmp_path / "log")}}
    rows = "id,order\nm1,A-1\nm2,A-2\n,A-3\n"
    tools = {"desk": {**desk, "tools": ["find_order"]}}
    found = run(make_job(tmp_path / "job", rows=rows, answer=ANSWER, prompt=PROMPT, tools=tools), run_id="r1")
    assert (found["loaded"], found["quarantined"]) == (2, 1)

    stderr = capsys.readouterr().err
    lines = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    log_event = [(line["event"], line["run_id"]) for line in lines if "event" in line]
    batches = ["batch_sent", "batch_filed"] * 2
    assert log_event == [(event, "r1") for event in ("rows_in", *batches, "rows_loaded", "run_over")]
    _, sent, filed, *_, over = [line for line in lines if "event" in line]
    assert all(line["message"].startswith("run r1 of job: ") for line in lines if "event" in line)
    assert sent["batch_id"] == filed["batch_id"] and sent["batch_id"].startswith("msgbatch_")
    assert (sent["rows"], over["reasons"], over["level"]) == (2, {"missing_key": 1}, "INFO")

    made = {span.name: span for span in spans.get_finished_spans()}
    assert {"rowtide.submit", "rowtide.wait", "rowtide.post_batch", "execute_tool desk.find_order"} <= set(made)
    post = made["rowtide.post_batch"]
    submits = {each.context.span_id for each in spans.get_finished_spans() if each.name == "rowtide.submit"}
    assert post.parent and post.parent.span_id in submits
    assert dict(post.attributes or {})["rowtide.run_id"] == "r1"

    said = stderr + "".join(span.to_json() for span in spans.get_finished_spans())
    assert os.environ["ANTHROPIC_API_KEY"] not in said and "A-1" not in said


def test_what_is_promised_is_measured_shown_and_told_of_once(
    api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slo = {"coverage": 0.9, "accepted_share": 0.5, "cost_per_accepted_row": 1, "oldest_waiting_seconds": 3600}
    rows = "id,message\nm1,the invoice is wrong\n,the parcel is late\n"
    job = make_job(tmp_path / "job", rows=rows, tiers=["opus"], slo=slo)
    run(job, run_id="r1")
    told = "SELECT subject, occurrence FROM emitted_event"
    ((subject, occurrence),) = ask_ledger(tmp_path / "home", told)
    assert (subject, occurrence.split()[0]) == ("job", "coverage")

    assert slo_command(str(job), json=True) == EXIT_BREACHED
    said = {each["objective"]: each for each in json.loads(capsys.readouterr().out)["job"]}
    assert (said["coverage"]["was"], said["coverage"]["budget_left"]) == (0.5, -4.0)
    assert said["coverage"]["breached_since"] and not said["accepted_share"]["breached"]
    assert (said["accepted_share"]["was"], said["oldest_waiting_seconds"]["was"]) == (1.0, 0.0)
    assert 0 < said["cost_per_accepted_row"]["was"] < 0.01

    run(job, run_id="r2")  # still breached: nothing new is told
    assert len(ask_ledger(tmp_path / "home", told)) == 1
    run(make_job(job, rows=20, tiers=["opus"], slo=slo), run_id="r3")
    assert slo_command(str(job)) == 0
    assert "coverage" in capsys.readouterr().out
    assert [each[0] is not None for each in ask_ledger(tmp_path / "home", "SELECT ended_at FROM breach")] == [True]


def test_a_run_at_its_budget_and_one_that_a_gate_holds_are_told_of(api: Any, tmp_path: Path) -> None:
    with pytest.raises(RunStopped):
        run(make_job(tmp_path / "job", rows=3, tiers=["opus"]), run_id="poor", budget=0.000001)
    expectation = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 100}, "severity": "critical"}
    gated = make_job(tmp_path / "gated", rows=3, gates={"rows": "rows.yaml"})
    (gated / "rows.yaml").write_text(json.dumps([expectation]))
    assert run(gated, run_id="gated")["gate_approvals"]
    told = ask_ledger(tmp_path / "home", "SELECT subject, occurrence FROM emitted_event ORDER BY emitted_at")
    assert [tuple(each) for each in told] == [("poor", "budget 1"), ("gated", "hold 1")]


FIGURES = SloMeasurements(
    covered=980, settled=1000, accepted=900, judged=1000, cost_micro=1_800_000, oldest_seconds=90.0
)


def test_an_error_budget_is_what_may_go_wrong_without_the_objective_being_missed() -> None:
    spec = SloSpec(coverage=0.96, accepted_share=0.95, cost_per_accepted_row=0.004, oldest_waiting_seconds=60)
    found = {each.objective: each for each in objective_statuses(spec, FIGURES)}
    assert [(each.was, round(each.budget_left, 6), each.is_breached) for each in found.values()] == [
        (0.98, 0.5, False),  # 20 of the 40 rows that may
        (0.9, -1.0, True),  # 100 where 50 may
        (0.002, 0.5, False),
        (90.0, -0.5, True),
    ]
    nothing = SloMeasurements(0, 0, 0, 0, 0, 0.0)
    assert not any(each.is_breached for each in objective_statuses(spec, nothing))


def test_a_misspelt_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROWTIDE_LOG", "jsn")
    with pytest.raises(UserMistake, match="one of human, json, not 'jsn'"):
        set_up_observability()


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, False),
    ],
)
def test_spans_are_made_only_where_the_standard_variables_ask(variables: dict[str, str], wanted: bool) -> None:
    assert tracing.are_spans_wanted(variables) is wanted


def test_figures_are_the_ledgers_and_are_read_again_only_after_a_while(ledger: Ledger) -> None:
    run = make_run(ledger)
    make_rows(ledger, run, 3)
    message = Message("inbox", "m1", "hash", [("key", b"{}")])
    ledger_inbox.receive_messages(ledger, [message], "token", now=NOW - timedelta(seconds=40))
    posted = to_timestamp(NOW - timedelta(hours=2))
    with ledger.page() as tx:
        batch = (
            "INSERT INTO batch (run_no, tag, state, packed_at, posted_at, unconfirmed_at, cost_micro, reserved_micro)"
        )
        tx.exec_driver_sql(f"{batch} VALUES (1, 'a', 'open', '{posted}', '{posted}', NULL, 0, 500000)")
        tx.exec_driver_sql(f"{batch} VALUES (1, 'b', 'posting', '{posted}', '{posted}', '{posted}', 0, 0)")
        tx.exec_driver_sql(f"{batch} VALUES (1, 'c', 'filed', '{posted}', '{posted}', NULL, 2000000, 0)")
        for position, failed, remembered in [(0, 0, 0), (1, 1, 0), (2, 0, 1)]:
            values = f"10000000001, 1, {position}, 'c', 'desk.find', :arguments, '', {failed}, 1, {remembered}"
            tx.execute(text(f"INSERT INTO tool_call VALUES ({values})"), {"arguments": b"{}"})
    meters = ReceiverMetrics(ledger)
    meters.count("inbox", "accepted")
    told = meters.text().decode()
    for line in (
        'rowtide_rows{job="job",run_id="run-1",state="ready"} 3.0',
        'rowtide_batches{job="job",state="open"} 1.0',
        'rowtide_batches{job="job",state="unconfirmed"} 1.0',
        'rowtide_spent_usd_total{job="job"} 2.0',
        'rowtide_at_stake_usd{job="job"} 0.5',
        'rowtide_tool_calls{job="job",outcome="failed",tool="desk.find"} 1.0',
        'rowtide_tool_calls{job="job",outcome="answered",tool="desk.find"} 1.0',
        'rowtide_inbox_rows{job="inbox"} 1.0',
        'rowtide_messages_total{job="inbox",outcome="accepted"} 1.0',
    ):
        assert f"{line}\n" in told, told
    assert 'rowtide_batch_oldest_seconds{job="job",state="open"}' in told

    clock = [0.0]
    collector = LedgerCollector(ledger, lambda: clock[0])
    assert _rows(collector) == 3
    make_rows(ledger, make_run(ledger, "run-2"), 1)
    assert _rows(collector) == 3
    clock[0] = 11.0
    assert _rows(collector) == 4


def _rows(collector: LedgerCollector) -> float:
    return sum(
        sample.value for metric in collector.collect() if metric.name == "rowtide_rows" for sample in metric.samples
    )
