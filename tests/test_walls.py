"""What stops a run on purpose, and how it goes on: the budget, a person's cancel, another process's lease."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW, answers_of, batch_was_made, make_job, make_rows, make_run, run
from run_summaries import summarize

from cli.main import app
from flows.pump import pump
from rowtide.errors import LeaseLost, RunStopped
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import leases as ledger_leases
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import Ledger, ledger_url


def summary_of(home: Path, run_id: str) -> dict[str, Any]:
    ledger = Ledger(ledger_url(None, home))
    with ledger.view() as tx:
        found = summarize(tx, ledgers.find_run(tx, run_id), now=datetime.now(UTC))
    ledger.close()
    return found


def billed_micro(api: Any) -> int:
    return api.world.bill_of(os.environ["ANTHROPIC_API_KEY"])["cost_micro"]


def test_a_run_stops_before_its_budget_loads_what_is_verified_and_goes_on_with_more(api: Any, tmp_path: Path) -> None:
    job, home = make_job(tmp_path / "job", rows=40, limits={"max_tokens": 200}), tmp_path / "home"
    free = run(make_job(tmp_path / "free", rows=40, limits={"max_tokens": 200}))
    wall = free["cost_usd"] / 2
    before = billed_micro(api)
    with pytest.raises(RunStopped, match=r"stopped at the budget.*rowtide resume r1 --budget"):
        run(job, run_id="r1", budget=wall)
    stopped = summary_of(home, "r1")
    assert stopped["stopped"] == "budget"
    assert stopped["rows"] == stopped["loaded"] + stopped["quarantined"] + stopped["waiting"]
    assert 0 < stopped["waiting"] < 40
    assert 0 < billed_micro(api) - before <= wall * 1e6
    found = run(job, run_id="r1", budget=10.0)
    assert (found["stopped"], found["loaded"], found["waiting"]) == (None, free["loaded"], 0)
    assert round(found["cost_usd"] * 1e6) == billed_micro(api) - before


def test_a_budget_too_small_for_one_row_sends_nothing(api: Any, tmp_path: Path) -> None:
    with pytest.raises(RunStopped):
        run(make_job(tmp_path / "job"), budget=0.000001)
    assert api.world.batches_of(os.environ["ANTHROPIC_API_KEY"]) == []


def test_the_jobs_own_budget_holds_when_nobody_gives_another(api: Any, tmp_path: Path) -> None:
    with pytest.raises(RunStopped):
        run(make_job(tmp_path / "job", limits={"budget_usd": 0.000001}))


def test_a_run_at_its_budget_exits_4_and_says_how_to_go_on(
    api: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        app(["run", str(make_job(tmp_path / "job")), "--budget", "0.000001", "--json"], result_action="return_value")
        == 4
    )
    said = capsys.readouterr()
    assert '"stopped":"budget"' in said.out
    assert "--budget" in said.err


def test_a_canceled_run_keeps_what_was_answered_and_resumes_without_a_bounce(
    api: Any, faults: Any, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    faults({"batch": {"nth": 1}, "do": {"seconds": 5}})
    job = make_job(tmp_path / "job", rows=40, tiers=["opus"])

    async def pump_while_somebody_cancels() -> None:
        made, running = batch_was_made(api), asyncio.create_task(pump(str(job), run_id="c1"))
        await made.wait()
        await asyncio.to_thread(app, ["cancel", "c1"], result_action="return_value")
        with pytest.raises(RunStopped, match="canceled"):
            await running

    asyncio.run(pump_while_somebody_cancels())
    api.world.faults.clear()
    stopped = summary_of(home, "c1")
    assert stopped["waiting"] + stopped["loaded"] == 40
    assert stopped["waiting"] > 0
    found = run(job, run_id="c1")
    assert (found["loaded"], found["bounces"]) == (40, {})
    assert round(found["cost_usd"] * 1e6) == billed_micro(api)


@pytest.mark.parametrize(("words", "loaded", "held"), [("--send-again", 50, 0), ("--give-up", 20, 0)])
def test_a_person_settles_a_lost_batch(
    api: Any, faults: Any, tmp_path: Path, words: str, loaded: int, held: int
) -> None:
    faults({"batch": {"nth": 1}, "do": {"deleted": True}})
    job = make_job(tmp_path / "job", rows=50, tiers=["opus"], limits={"batch_rows": 30})
    assert run(job, run_id="s1")["held"] == 30
    assert app(["reconcile", "s1", "1", words], result_action="return_value") == 0
    found = run(job, run_id="s1")
    assert (found["loaded"], found["held"], found["quarantined"]) == (loaded, held, 50 - loaded)
    assert found["at_stake_usd"] > 0  # it may have been paid for: the budget goes on counting it


def test_a_person_finds_a_lost_batch_and_its_results_are_read(api: Any, faults: Any, tmp_path: Path) -> None:
    key = os.environ["ANTHROPIC_API_KEY"]
    faults({"call": "retrieve", "do": {"status": 404}}, {"call": "list", "do": {"lag_seconds": 3600}})
    job = make_job(tmp_path / "job", rows=20, tiers=["opus"])
    assert run(job, run_id="f1")["held"] == 20
    api.world.faults.clear()
    (batch,) = api.world.batches_of(key)
    assert app(["reconcile", "f1", "1", "--found-as", batch.id], result_action="return_value") == 0
    found = run(job, run_id="f1")
    assert (found["loaded"], len(api.world.batches_of(key))) == (20, 1)
    assert round(found["cost_usd"] * 1e6) == billed_micro(api)


def test_two_pumps_on_one_run_take_turns_and_do_no_harm(
    api: Any, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWTIDE_LEDGER", address)
    job = make_job(tmp_path / "job", rows=60, limits={"batch_rows": 25})

    async def both() -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(pump(str(job), run_id="two") for _ in range(2))))

    first, second = asyncio.run(both())
    assert first["loaded"] + first["quarantined"] == 60
    same = ("rows", "loaded", "quarantined", "batches", "turns", "cost_usd")
    assert {name: first[name] for name in same} == {name: second[name] for name in same}
    assert len(answers_of(tmp_path / "home")) == first["loaded"]
    assert round(first["cost_usd"] * 1e6) == billed_micro(api)


def test_a_lease_is_taken_by_one_and_by_another_only_when_it_has_run_out(ledger: Ledger) -> None:
    make_run(ledger)
    mine, theirs = ledger_leases.new_lease_holder("a"), "elsewhere:1:1.0:b"
    late = NOW + ledger_leases.LEASE + timedelta(seconds=1)
    with ledger.page() as tx:
        assert ledger_leases.take_lease(tx, "run-1", theirs, now=NOW) is None
        assert ledger_leases.take_lease(tx, "run-1", mine, now=NOW) == theirs
        assert ledger_leases.take_lease(tx, "run-1", mine, now=late) is None
        with pytest.raises(LeaseLost, match="taken over"):
            ledger_leases.check_lease(tx, "run-1", theirs)
        ledger_leases.release_lease(tx, "run-1", theirs)
        ledger_leases.check_lease(tx, "run-1", mine)


def test_the_lease_of_a_dead_process_of_this_machine_is_not_waited_for(ledger: Ledger) -> None:
    make_run(ledger)
    machine, *_ = ledger_leases.new_lease_holder("x").rsplit(":", 3)
    with ledger.page() as tx:
        assert ledger_leases.take_lease(tx, "run-1", f"{machine}:{os.getpid()}:1.0:an-earlier-life", now=NOW) is None
        assert ledger_leases.take_lease(tx, "run-1", ledger_leases.new_lease_holder("b"), now=NOW) is None


def test_whoever_lost_its_lease_can_commit_nothing(ledger: Ledger) -> None:
    run = make_run(ledger)
    rows = make_rows(ledger, run, 2)
    with ledger.page() as tx:
        ledger_leases.take_lease(tx, "run-1", "elsewhere:1:1.0:b", now=NOW)
    ledger.guards.append(lambda tx: ledger_leases.check_lease(tx, "run-1", ledger_leases.new_lease_holder("a")))
    with pytest.raises(LeaseLost), ledger.page() as tx:
        ledger_rows.put_in_batch(tx, ledger_batches.begin_packing(tx, run, "tag", now=NOW), rows)
    with ledger.view() as tx:
        assert ledger_batches.batches_in_states(tx, run, ["packing"]) == []
