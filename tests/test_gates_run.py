"""What gates say of a run: rows quarantined, shares over all pages, drift from the last good run."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import yaml
from conftest import ANSWER, NOW, make_job
from sqlalchemy import text

from rowtide.gates.expectation_verdict import ExpectationVerdict
from rowtide.intake.admission import Admission
from rowtide.ledger import gate_results as ledger_gate_results
from rowtide.ledger import loads as ledger_loads
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import Ledger
from rowtide.stages.extract.begin_run import RunOptions, begin_new_run
from rowtide.stages.preflight import plan_run
from rowtide.stages.run_context import RunContext, load_gate, open_run
from rowtide.stages.validate.answers_gate import judge_answers
from rowtide.stages.validate.data_docs import docs_location
from rowtide.stages.validate.run_gates import judge_load, judge_rows

BILLING, DELIVERY, PRODUCT = "billing", "delivery", "product"
Begin = Callable[..., RunContext]


def clock() -> Any:
    return NOW


def gated(
    ledger: Ledger,
    folder: Path,
    count: int = 6,
    run_id: str = "run-1",
    answer_model: str = ANSWER,
    **gates: list[dict[str, Any]],
) -> RunContext:
    """A run of a job with these gates: that many rows are in, and none has been asked."""
    for name, entries in gates.items():
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))
    job = make_job(folder, rows=3, answer=answer_model, gates={name: f"{name}.yaml" for name in gates})
    found = asyncio.run(plan_run(job, None, {}))
    run = begin_new_run(ledger, found, RunOptions(run_id, lane="batch"), now=NOW)
    contents = [orjson.dumps({"id": f"m{n}", "message": f"row {n % 100}"}) for n in range(1, count + 1)]
    admitted = [Admission(run.first_row_no + n, f"m{n}", f"id-{n}", each) for n, each in enumerate(contents, 1)]
    with ledger.page() as tx:
        ledger_rows.admit_rows(tx, run, admitted, read_before=0, read_after=count, now=NOW)
        ledger_rows.route_rows(tx, run, 0)
    return open_run(ledger, folder / "home", run_id, {})


def answer(context: RunContext, topics: list[str]) -> None:
    """Let the first rows be answered, so many as there are topics."""
    first = context.run.first_row_no + 1
    found = [(first + n, orjson.dumps({"topic": topic, "message": f"row {n}"})) for n, topic in enumerate(topics)]
    with context.ledger.page() as tx:
        rows = {"first": first, "last": first + len(topics) - 1}
        tx.execute(text("UPDATE row SET state = 'replied', turn = 1 WHERE row_no BETWEEN :first AND :last"), rows)
        ledger_rows.record_answers(tx, context.run, dict(found))
    judge_answers(context, load_gate(context.job), clock=clock)


def load(context: RunContext) -> None:
    with context.ledger.page() as tx:
        part = ledger_loads.begin_load(tx, context.run, "sink", rows=10**6, size=10**9, now=NOW)
        assert part is not None
        ledger_loads.finish_load(tx, context.run, part, "sink", now=NOW)


def message(context: RunContext) -> list[ExpectationVerdict]:
    with context.ledger.view() as tx:
        return ledger_gate_results.gate_verdicts(tx, context.run)


def states(context: RunContext) -> dict[str, int]:
    with context.ledger.view() as tx:
        return {state.value: count for state, count in ledger_rows.count_by_state(tx, context.run).items() if count}


def expect(kind: str, severity: str = "critical", **kwargs: object) -> dict[str, Any]:
    return {"type": f"expect_{kind}", "kwargs": kwargs, "severity": severity}


IN_SET = expect("column_values_to_be_in_set", column="topic", value_set=[BILLING, DELIVERY])


def test_rows_that_fail_by_themselves_are_set_aside_before_a_cent_is_spent(ledger: Ledger, tmp_path: Path) -> None:
    rule = expect("column_values_to_not_match_regex", column="message", regex="7$")
    count = expect("table_row_count_to_be_between", min_value=50, max_value=90)
    context = gated(ledger, tmp_path / "job", 100, rows=[rule, count])
    first = judge_rows(context, clock=clock)
    assert states(context) == {"ready": 90, "quarantined": 10}
    assert [each.message for each in first] == [
        "all rows: expect_table_row_count_to_be_between(min_value=50, max_value=90), observed 100"
    ]
    assert judge_rows(context, clock=clock) == first, "judged again, as after a kill"
    assert states(context) == {"ready": 90, "quarantined": 10}
    rows, run = message(context)
    assert (rows.passed, rows.judged, rows.failed, rows.examples[0]) == (False, 100, 10, "m7")
    assert (run.passed, run.observed) == (False, 100)


def test_mostly_and_uniqueness_hold_over_the_run_and_not_over_a_page(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    mostly = expect("column_values_to_be_in_set", column="topic", value_set=[BILLING], mostly=0.6)
    unique = expect("column_values_to_be_unique", column="message")
    context = gated(sqlite_ledger, tmp_path / "job", 12_000, answers=[mostly, unique])
    answer(context, [BILLING] * 8_000 + [PRODUCT] * 4_000)  # the second page has no billing at all
    with sqlite_ledger.page() as tx:  # rows 1 and 12,000, in two pages, say the same
        twin = {"row": context.run.first_row_no + 12_000, "said": orjson.dumps({"topic": PRODUCT, "message": "row 0"})}
        tx.execute(text("UPDATE answer SET content = :said WHERE row_no = :row"), twin)
    (failure,) = judge_load(context, clock=clock)
    assert (failure.rows, failure.examples) == (2, ["m1", "m12000"])
    assert failure.message == "message: expect_column_values_to_be_unique(), 2 of 12,000 rows failed"
    counted, _ = message(context)
    assert (counted.passed, counted.judged, counted.failed) == (True, 12_000, 4_000)


def test_an_answer_that_fails_by_itself_climbs_and_is_counted_once(ledger: Ledger, tmp_path: Path) -> None:
    warning = expect("column_values_to_be_in_set", "warning", column="topic", value_set=[BILLING])
    context = gated(ledger, tmp_path / "job", 6, answers=[IN_SET, warning])
    answer(context, [BILLING, PRODUCT, DELIVERY])
    answer(context, [])
    assert states(context) == {"accepted": 2, "ready": 4}
    assert [(each.judged, each.failed, each.examples) for each in message(context)] == [
        (3, 1, ["m2"]),
        (3, 2, ["m2", "m3"]),
    ]
    assert judge_load(context, clock=clock) == []
    assert [each.judged for each in message(context)] == [3, 3]


def test_a_load_is_held_by_what_it_is_short_of_and_a_warning_is_only_written_down(
    ledger: Ledger, tmp_path: Path
) -> None:
    coverage = expect("column_values_to_be_between", column="coverage", min_value=0.9)
    keys = expect("column_values_to_be_between", "warning", column="new_keys", min_value=5)
    share = expect("column_values_to_be_between", "info", column="accepted_share", min_value=0.5)
    context = gated(ledger, tmp_path / "job", 6, load=[coverage, keys, share])
    answer(context, [BILLING] * 3)
    (failure,) = judge_load(context, clock=clock)
    assert failure.message == "coverage: expect_column_values_to_be_between(min_value=0.9), observed 0.5"
    assert [(each.passed, each.observed) for each in message(context)] == [(False, 0.5), (False, 3), (True, 1.0)]


def test_a_load_is_held_by_what_its_answers_are_like(ledger: Ledger, tmp_path: Path) -> None:
    """Known answers that came out wrong, one answer for everything, and texts that say nothing: no row shows them."""
    golden = "".join(f'{{"key": "m{n}", "answer": {{"topic": "billing"}}, "by": "ada"}}\n' for n in (1, 2, 3, 6))
    right = expect("column_values_to_be_between", column="golden_right", min_value=0.9)
    seen = expect("column_values_to_be_between", column="golden_rows", min_value=4)
    alike = expect("column_values_to_be_between", "warning", column="top_share.topic", max_value=0.7)
    texts = expect("column_values_to_be_between", column="shortest.message", min_value=5)
    kinds = expect("column_values_to_be_between", column="distinct.topic", min_value={"$PARAMETER": "accepted / 2"})
    context = gated(ledger, tmp_path / "job", 6, load=[right, seen, alike, texts, kinds])
    (context.job.folder / "golden.jsonl").write_text(golden)
    answer(context, [BILLING, BILLING, DELIVERY, BILLING])
    assert [each.message.partition(":")[0] for each in judge_load(context, clock=clock)] == [
        "golden_right",
        "golden_rows",
    ]
    assert [each.observed for each in message(context)] == [2 / 3, 3, 0.75, 5, 2]


def test_a_load_gate_counts_what_it_names_whatever_else_an_answer_has(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    """Three figures of each of a thousand fields would be more columns than a table of SQLite's can have."""
    fields = "".join(f"    f{n}: int\n" for n in range(1000))
    wide = f"from pydantic import BaseModel\n\n\nclass Answer(BaseModel):\n    topic: str\n    message: str\n{fields}"
    rule = expect("column_values_to_be_between", column="distinct.f7", max_value=1)
    context = gated(sqlite_ledger, tmp_path / "job", 6, answer_model=wide, load=[rule])
    answer(context, [BILLING] * 6)
    assert judge_load(context, clock=clock) == []
    assert [each.observed for each in message(context)] == [0]


DRIFT = expect(
    "column_kl_divergence_to_be_less_than",
    column="topic",
    partition_object={"$PARAMETER": "last.topic"},
    threshold=0.1,
    tail_weight_holdout=0.01,
)
FEWER = expect("column_values_to_be_between", column="accepted", min_value={"$PARAMETER": "last.accepted * 0.5"})


def test_drift_is_seen_against_the_last_good_run_and_not_asked_about_without_one(
    ledger: Ledger, tmp_path: Path
) -> None:
    first = gated(ledger, tmp_path / "job", 100, "run-1", load=[DRIFT, FEWER])
    answer(first, [BILLING, DELIVERY] * 50)
    assert judge_load(first, clock=clock) == []
    assert [(each.passed, each.message) for each in message(first)] == [(None, "no earlier run to compare with")] * 2
    load(first)
    same = gated(ledger, tmp_path / "job", 100, "run-2", load=[DRIFT, FEWER])
    answer(same, [BILLING, DELIVERY] * 30)
    assert judge_load(same, clock=clock) == []
    assert [each.passed for each in message(same)] == [True, True]
    other = gated(ledger, tmp_path / "job", 100, "run-3", load=[DRIFT, FEWER])
    answer(other, [BILLING] * 39 + [PRODUCT])
    drifted, fewer = judge_load(other, clock=clock)
    assert drifted.message.startswith("topic: expect_column_kl_divergence_to_be_less_than(")
    assert fewer.message == "accepted: expect_column_values_to_be_between(min_value=50.0), observed 40"


def test_a_run_that_a_gate_holds_is_no_run_to_compare_with(ledger: Ledger, tmp_path: Path) -> None:
    first = gated(ledger, tmp_path / "job", 6, "run-1")
    answer(first, [BILLING])
    load(first)
    second = gated(ledger, tmp_path / "job", 6, "run-2")
    with ledger.page() as tx:
        assert ledger_gate_results.last_good_run(tx, second.run) == first.run.run_no
        hold = "INSERT INTO gate_approval (run_no, gate, state, failures, rows, asked_at) VALUES "
        tx.execute(text(hold + "(:run, 'load', 'rejected', '[]', 1, '')"), {"run": first.run.run_no})
        assert ledger_gate_results.last_good_run(tx, second.run) is None


def test_the_pages_of_a_gate_are_built_and_what_a_model_wrote_cannot_act_in_them(
    sqlite_ledger: Ledger, tmp_path: Path
) -> None:
    evil = "</script><script>alert(1)</script> $topic"
    distinct = expect("column_distinct_values_to_be_in_set", "warning", column="message", value_set=["row 0"])
    context = gated(sqlite_ledger, tmp_path / "job", 6, load=[distinct, DRIFT])
    answer(context, [BILLING])
    with sqlite_ledger.page() as tx:
        tx.execute(text("UPDATE answer SET content = :said"), {"said": orjson.dumps({"topic": evil, "message": evil})})
    load(context)
    context = gated(sqlite_ledger, tmp_path / "job", 6, "run-2", load=[distinct, DRIFT])
    answer(context, [evil])
    judge_load(context, clock=clock)
    index = docs_location(context, "load")
    assert index.is_file()
    pages = "".join(page.read_text() for page in index.parent.rglob("*.html"))
    assert "distinct values must belong to this set" in pages
    assert "<script>alert" not in pages
    assert "great-expectations-web-assets" not in pages, "no picture that tells who looks"
