"""Drift: a version asked anew, against its own first answers. A model that gets worse is told of, one that does not is
not."""

import asyncio
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import ThisProcess, ask_ledger, make_job, run
from outside import rowtide
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from test_eval_command import asked_of, make_golden, outcome_of

from emulator.clock import Clock
from emulator.server import Emulator, start
from flows.evaluate import evaluate
from flows.evaluate_job import evaluate_job
from flows.resume_runs import resume_runs
from rowtide.errors import UserMistake
from rowtide.evals.outcome import EvalOutcome
from rowtide.ledger import evals as ledger_evals
from rowtide.ledger.ledger import Ledger
from rowtide.stages.evaluate.choose_arms import Candidate
from rowtide.stages.evaluate.due_drift_checks import due_drift_checks
from rowtide.stages.orchestrator import orchestrated_by

EVALS = {"margins": {"right": 0.05, "harm": 0.05}, "dev_share": 0}
GETS_WORSE = {"name": "drift", "mistake": "other_value", "field": "topic", "share": 0.3}
LATER = timedelta(days=1)


@pytest.fixture
def drifting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Emulator]:
    """An API whose model gets worse from tomorrow on, by a clock that the test can set."""
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    monkeypatch.setenv("ROWTIDE_PAGE", "0")
    tomorrow = (datetime.now(UTC) + LATER).isoformat()
    with start(
        tmp_path / "api", clock=Clock(), batch_seconds=(0.0, 0.1), habits=[GETS_WORSE | {"since": tomorrow}]
    ) as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        yield api


def check_drift(job: Path, home: Path) -> EvalOutcome:
    with orchestrated_by(ThisProcess(None)):
        return outcome_of(home, asyncio.run(evaluate(str(job), Candidate(is_drift=True))))


def test_a_model_that_gets_worse_under_its_name_is_told_of_and_one_that_does_not_is_not(
    drifting: Emulator, tmp_path: Path
) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=200, evals=EVALS)
    make_golden(job, 200)
    with pytest.raises(UserMistake, match="keeps answers of this version to 0 golden rows, and a drift check needs 20"):
        check_drift(job, home)
    run(job, run_id="nightly")
    same = check_drift(job, home)
    assert (same.verdict, same.is_drift, same.use) == ("not_worse", True, 0)
    assert asked_of(home) == same.looks[-1].rows, "asked anew, and the first answers are the ledger's"
    assert all(row.incumbent.is_from_before and not row.candidate.is_from_before for row in same.rows)
    assert ask_ledger(home, "SELECT count(*) FROM emitted_event") == [(0,)]
    drifting.world.clock.advance(LATER.total_seconds() + 1)
    worse = check_drift(job, home)
    assert (worse.verdict, len(worse.looks)) == ("worse", 1)
    assert worse.reasons[-1].startswith("the same version answers worse than it did")
    assert worse.alpha < same.alpha, "all checks of a version have the level together"
    assert ask_ledger(home, "SELECT subject, occurrence FROM emitted_event") == [(worse.eval_id, "worse")]
    again = check_drift(job, home)
    assert again.verdict == "worse", "it is compared with the first answers, and not with those of yesterday's check"
    assert ask_ledger(home, "SELECT drift_no, may_gate, use_no FROM eval ORDER BY 1") == [
        (1, 0, 0),
        (2, 0, 0),
        (3, 0, 0),
    ]
    done = rowtide("eval", job, "--drift", environment={"ROWTIDE_HOME": str(home)})
    assert done.status == 6 and "drifted: it answers worse than it did" in done.out


def test_a_drift_check_is_killed_and_gone_on_with_as_any_eval(drifting: Emulator, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=60, evals=EVALS)
    make_golden(job, 60)
    run(job, run_id="nightly")

    def die(stage: str) -> None:
        if stage == "judge_look":
            raise KeyError

    with pytest.raises(KeyError), orchestrated_by(ThisProcess(die)):
        asyncio.run(evaluate(str(job), Candidate(is_drift=True)))
    assert check_drift(job, home).verdict in ("not_worse", "undecided")
    assert (asked_of(home), ask_ledger(home, "SELECT count(*) FROM eval")) == (60, [(1,)])


def test_a_job_is_due_when_its_last_check_is_older_than_it_says(ledger: Ledger, tmp_path: Path) -> None:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    asks, silent = make_job(tmp_path / "asks", evals={"drift_days": 7}), make_job(tmp_path / "silent")
    (broken := make_job(tmp_path / "broken")).joinpath("job.yaml").write_text("evals: [")
    folders = [asks, silent, broken]
    assert due_drift_checks(ledger, folders, "api", now=now) == [asks]
    with ledger.page() as tx:
        begun = {"job": "asks", "api": "api", "drift_no": 1, "started_at": "2026-11-22T00:00:00.000000+00:00"}
        ledger_evals.begin(tx, {**RECORD, **begun}, [])
    assert due_drift_checks(ledger, folders, "api", now=now) == []
    assert due_drift_checks(ledger, folders, "another", now=now) == [asks]
    assert due_drift_checks(ledger, folders, "api", now=now + timedelta(days=1)) == [asks]


RECORD: dict[str, Any] = {
    "eval_id": "e",
    "part": "confirm",
    "question": "q",
    "version": "v",
    "may_gate": 0,
    "candidate": '{"label": "", "folder": "", "asking": "", "judging": "", "tiers": []}',
    "incumbent": '{"label": "", "folder": "", "asking": "", "judging": "", "tiers": []}',
    "plan": '{"changed": [], "margins": {}, "level": 0.05, "alpha": 0.05, "level_left": 0.05, "looks": '
    '{"rows": [60], "alpha": 0.05}, "floors": {}, "least_group_rows": 20, "cost_per_accepted_micro": null, '
    '"reuse_days": 30, "lane": "batch", "settings_of": "candidate", "is_first": false}',
    "use_no": 0,
    "key_hashes": b"",
    "who": "",
}


async def test_the_watch_asks_for_a_check_once_a_day(
    drifting: Emulator, prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path / "jobs" / "watched", evals={**EVALS, "drift_days": 7})
    monkeypatch.chdir(tmp_path)
    deployment = await evaluate_job.ato_deployment(name="evaluate")  # pyright: ignore[reportGeneralTypeIssues] # a coroutine
    await deployment.aapply()
    assert [await resume_runs(), await resume_runs()] == [{}, {}]
    async with get_client() as client:
        flows = FlowFilter(name=FlowFilterName(any_=["evaluate_job"]))
        found = [each for each in await client.read_flow_runs(flow_filter=flows) if "watched" in each.name]
        (asked,) = found
        assert asked.parameters == {"job": str(job.resolve()), "drift": True, "who": "the watch"}
        await client.delete_flow_run(asked.id)
