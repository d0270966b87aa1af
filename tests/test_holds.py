"""A run that a gate holds: nothing is sent or written until a person decides, and nothing is lost either way."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PROMPT, ask_ledger, make_job, run
from test_retry import suspend_and_answer

from cli.main import app

# A prompt that forgets to show the message, so the model makes one up from what it sees.
BLIND = PROMPT.replace("{{ message }}", "{{ id }}")
REAL_MESSAGES = {
    "type": "expect_column_value_lengths_to_be_between",
    "kwargs": {"column": "message", "min_value": 10, "mostly": 0.9},
    "severity": "critical",
}


def gated(folder: Path, gate: str, *expectations: dict[str, Any], **spec: Any) -> Path:
    """A job with a gate of these expectations."""
    job = make_job(folder, gates={gate: "gate.yaml"}, tiers=["opus"], **spec)
    (job / "gate.yaml").write_text(yaml.safe_dump(list(expectations)))
    return job


def command(*words: str) -> int:
    return app([*words], result_action="return_value")


def states(home: Path) -> dict[tuple[str, str | None], int]:
    found = ask_ledger(home, "SELECT state, reason, count(*) FROM row GROUP BY state, reason")
    return {(state, reason): count for state, reason, count in found}


def test_a_bad_prompt_holds_the_load_until_a_person_approves(api: Any, tmp_path: Path, capsys: Any) -> None:
    job, home = gated(tmp_path / "job", "answers", REAL_MESSAGES, rows=30, prompt=BLIND), tmp_path / "home"
    found = run(job, run_id="r1")
    assert (found["loaded"], found["held"], list(found["gate_approvals"])) == (0, 30, ["answers"])
    assert not list((home / "results").rglob("*.parquet"))
    assert command("approve", "r1") == 0
    said = capsys.readouterr().out
    assert "expect_column_value_lengths_to_be_between" in said
    assert "30 rows are written (30 new, 0 in the place of earlier ones)" in said
    assert run(job, run_id="r1")["held"] == 30  # asking again is no approval
    command("approve", "r1", "--gates", "--why", "it is a rehearsal")
    found = run(job, run_id="r1")
    assert (found["loaded"], found["held"], found["gate_approvals"]) == (30, 0, {})
    assert ask_ledger(home, "SELECT state, why FROM gate_approval") == [("approved", "it is a rehearsal")]


def test_what_is_rejected_is_set_aside_and_can_be_sent_again(api: Any, tmp_path: Path) -> None:
    job, home = gated(tmp_path / "job", "answers", REAL_MESSAGES, rows=30, prompt=BLIND), tmp_path / "home"
    run(job, run_id="r1")
    assert command("reject", "r1", "--why", "the prompt is blind") == 0
    found = run(job, run_id="r1")
    assert (found["loaded"], found["quarantined"], found["gate_approvals"]) == (0, 30, {})
    assert states(home) == {("quarantined", "rejected"): 30}
    assert not list((home / "results").rglob("*.parquet"))
    assert ask_ledger(home, "SELECT DISTINCT detail FROM note WHERE reason = 'rejected'") == [("the prompt is blind",)]
    command("quarantine", "retry", "r1", "--reason", "rejected")
    assert list(run(job, run_id="r1")["gate_approvals"]) == ["answers"]


def test_more_rows_than_were_approved_of_are_asked_about_again(api: Any, faults: Any, tmp_path: Path) -> None:
    job, home = gated(tmp_path / "job", "answers", REAL_MESSAGES, rows=30, prompt=BLIND), tmp_path / "home"
    faults({"rows": {"share": 0.3}, "result": {"errored": "invalid_request_error"}})
    first = run(job, run_id="r1")
    assert 0 < first["quarantined"] < 30
    command("approve", "r1", "--gates")
    api.world.faults.clear()
    command("quarantine", "retry", "r1", "--all")
    found = run(job, run_id="r1")
    assert (found["held"], found["loaded"]) == (30, 0)
    command("approve", "r1", "--gates")
    assert run(job, run_id="r1")["loaded"] == 30
    assert states(home) == {("loaded", None): 30}


def test_rows_that_fail_their_gate_cost_nothing(api: Any, tmp_path: Path) -> None:
    enough = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 100}, "severity": "critical"}
    known = {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "id", "regex": "^m[0-4]$"}}
    job, home = gated(tmp_path / "job", "rows", enough, {**known, "severity": "critical"}), tmp_path / "home"
    found = run(job, run_id="r1")
    assert (found["held"], found["quarantined"], found["turns"], found["batches"]) == (5, 1, 0, 0)
    command("reject", "r1")
    found = run(job, run_id="r1")
    assert (found["quarantined"], found["turns"], found["gate_approvals"]) == (6, 0, {})
    assert states(home) == {("quarantined", "gate"): 1, ("quarantined", "rejected"): 5}


def test_rows_are_asked_once_a_person_has_let_them_past_their_gate(api: Any, tmp_path: Path) -> None:
    enough = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 100}, "severity": "critical"}
    job = gated(tmp_path / "job", "rows", enough)
    run(job, run_id="r1")
    command("approve", "r1", "--gates")
    assert run(job, run_id="r1")["loaded"] == 6


@pytest.mark.slow
@pytest.mark.parametrize(("decision", "ends"), [("approve", ("loaded", None)), ("reject", ("quarantined", "rejected"))])
def test_a_form_on_the_flow_runs_page_decides_about_a_held_run(
    api: Any, tmp_path: Path, decision: str, ends: tuple[str, str | None]
) -> None:
    job = gated(tmp_path / "job", "answers", REAL_MESSAGES, rows=30, prompt=BLIND)
    answer = {"decision": decision, "why": "as I please", "who": "Ada"}
    seen, form = asyncio.run(suspend_and_answer(job, answer))
    assert seen == ["Suspended", "Completed"]
    assert "30 rows are written" in form
    assert states(tmp_path / "home") == {ends: 30}
    assert ask_ledger(tmp_path / "home", "SELECT decided_by FROM gate_approval") == [("Ada",)]
