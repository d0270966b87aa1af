"""Nothing is lost, nothing is paid for twice: every way a request, a batch or a POST can end, over HTTP."""

import asyncio
import os
from pathlib import Path
from typing import Any

import anthropic
import pytest
from conftest import ANSWER, answers_of, ask_ledger, batch_was_made, make_job, run

from emulator.faults import Call
from emulator.world import workspace_of
from flows.pump import pump
from rowtide.errors import RunStopped, StoppedByWorld, UserMistake


def one_turn(folder: Path, rows: int | str = 50, **spec: Any) -> Path:
    """A job whose every row takes one turn when nothing goes wrong: its top tier makes no mistakes."""
    return make_job(folder, rows=rows, tiers=["opus"], **spec)


def created(api: Any) -> int:
    return len(api.world.batches_of(os.environ["ANTHROPIC_API_KEY"]))


def requests_sent(api: Any) -> int:
    return sum(batch.row_count for batch in api.world.batches_of(os.environ["ANTHROPIC_API_KEY"]))


def requests_billed(api: Any) -> int:
    return api.world.bill_of(os.environ["ANTHROPIC_API_KEY"])["requests"]


def money_agrees(api: Any, found: dict[str, Any]) -> bool:
    return round(found["cost_usd"] * 1e6) == api.world.bill_of(os.environ["ANTHROPIC_API_KEY"])["cost_micro"]


LOST_REPLIES = {
    "the connection is cut": {"drop": "after"},
    "a 500 after the batch was made": {"status": 500, "moment": "after"},
    "a 529 after the batch was made": {"status": 529, "moment": "after"},
    "a page of HTML instead of the batch": {"garbage": "html"},
    "half of the batch's JSON": {"garbage": "json"},
}


@pytest.mark.parametrize("do", LOST_REPLIES.values(), ids=LOST_REPLIES.keys())
def test_a_batch_whose_reply_is_lost_is_found_and_paid_for_once(api: Any, faults: Any, tmp_path: Path, do: Any) -> None:
    faults({"call": "create", "nth": 1, "do": do})
    found = run(one_turn(tmp_path / "job"))
    assert (found["loaded"], found["batches"], created(api)) == (50, 1, 1)
    assert money_agrees(api, found)


@pytest.mark.parametrize("do", [{"drop": "before"}, {"status": 500}, {"status": 429, "retry_after": 0.2}])
def test_a_post_that_never_arrived_or_was_refused_is_sent_again(
    api: Any, faults: Any, tmp_path: Path, do: dict[str, Any]
) -> None:
    faults({"call": "create", "nth": 1, "do": do})
    found = run(one_turn(tmp_path / "job"))
    assert (found["loaded"], created(api)) == (50, 1)


def test_a_list_that_shows_a_new_batch_late_does_not_make_it_two(api: Any, faults: Any, tmp_path: Path) -> None:
    faults({"call": "create", "nth": 1, "do": {"drop": "after"}}, {"call": "list", "do": {"lag_seconds": 0.5}})
    found = run(one_turn(tmp_path / "job"))
    assert (found["loaded"], created(api)) == (50, 1)


def test_strangers_batches_of_the_same_size_are_left_alone(api: Any, faults: Any, tmp_path: Path) -> None:
    before, after = stranger(50), []
    faults({"call": "create", "nth": 1, "do": {"drop": "after"}}, {"batch": {"nth": 2}, "do": {"seconds": 1.0}})
    job = one_turn(tmp_path / "job")

    async def both() -> dict[str, Any]:
        made, running = batch_was_made(api), asyncio.create_task(pump(str(job)))
        await made.wait()
        after.append(await asyncio.to_thread(stranger, 50))  # as large, and younger than ours
        return await running

    found = asyncio.run(both())
    assert (found["loaded"], found["batches"], created(api)) == (50, 1, 3)
    assert before not in found_ids(tmp_path)
    assert after[0] not in found_ids(tmp_path)


@pytest.mark.parametrize("result", ["expired", "canceled", {"errored": "overloaded_error"}, {"errored": "api_error"}])
def test_rows_the_api_did_not_answer_are_sent_again_and_only_those(
    api: Any, faults: Any, tmp_path: Path, result: Any
) -> None:
    faults({"rows": {"text": "(1", "attempts": 1}, "result": result})  # 1, 10 to 19
    found = run(one_turn(tmp_path / "job"))
    assert (found["loaded"], requests_sent(api), sum(found["bounces"].values())) == (50, 61, 11)
    assert money_agrees(api, found)


def test_when_half_the_rows_expire_half_are_sent_again(api: Any, faults: Any, tmp_path: Path) -> None:
    faults({"rows": {"nth": list(range(1, 26)), "attempts": 1}, "result": "expired"})
    found = run(one_turn(tmp_path / "job"))
    assert (found["loaded"], requests_sent(api), created(api)) == (50, 75, 2)


def test_a_row_that_bounces_for_ever_is_set_aside_with_what_happened(api: Any, faults: Any, tmp_path: Path) -> None:
    faults({"rows": {"text": "(1)"}, "result": {"errored": "api_error"}})
    found = run(one_turn(tmp_path / "job", limits={"bounces": 2}))
    assert (found["loaded"], found["reasons"], found["bounces"]) == (49, {"bounced_out": 1}, {"api_error": 2})


def test_a_request_the_api_will_never_take_is_set_aside_at_once(api: Any, faults: Any, tmp_path: Path) -> None:
    faults({"rows": {"text": "(1)"}, "result": {"errored": "invalid_request_error"}})
    found = run(one_turn(tmp_path / "job"))
    assert (found["loaded"], found["reasons"], found["batches"]) == (49, {"rejected": 1}, 1)


@pytest.mark.parametrize("kind", ["credit", "billing_error", "authentication_error", "not_found_error"])
def test_an_error_every_row_would_meet_stops_the_run_and_nobody_is_the_worse_for_it(
    api: Any, faults: Any, tmp_path: Path, kind: str
) -> None:
    faults({"rows": {"share": 0.5}, "result": {"errored": kind}})
    job = one_turn(tmp_path / "job")
    with pytest.raises(StoppedByWorld):
        run(job, run_id="short")
    api.world.faults.clear()
    found = run(job, run_id="short")
    assert (found["loaded"], found["quarantined"], found["bounces"]) == (50, 0, {})
    assert money_agrees(api, found)


CRASHES = {
    "a check": "\n\ndef check_nothing(answer: Answer, row: dict[str, object]) -> str | None:\n    return 1 / 0\n",
    "a validator": "\n    def model_post_init(self, _: object) -> None:\n        1 / 0\n",
}


@pytest.mark.parametrize("code", CRASHES.values(), ids=CRASHES.keys())
def test_code_of_the_jobs_that_crashes_on_every_row_stops_the_run_after_what_was_paid_for_is_filed(
    api: Any, tmp_path: Path, code: str
) -> None:
    job = one_turn(tmp_path / "job")
    with (job / "answer.py").open("a") as file:
        file.write(code)
    with pytest.raises(RunStopped, match="ZeroDivisionError"):
        run(job, run_id="crashed")
    filed = "SELECT count(*), sum(cost_micro) FROM turn"
    billed = api.world.bill_of(os.environ["ANTHROPIC_API_KEY"])["cost_micro"]
    assert ask_ledger(tmp_path / "home", filed) == [(50, billed)]


WAITS = """
    def model_post_init(self, _: object) -> None:
        pipe = os.open("{pipe}", os.O_RDWR)
        select.select([pipe], [], [], 10)
        os.close(pipe)
"""


def test_the_next_results_come_in_while_a_batch_is_filed(api: Any, faults: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    job = one_turn(tmp_path / "job", rows=6, limits={"batch_rows": 3, "enough_rows": 1})
    (job / "answer.py").write_text(f"import os, select\n{ANSWER}{WAITS.format(pipe=tmp_path / 'pipe')}")
    pipe, filed = os.open(tmp_path / "pipe", os.O_RDWR), list[int]()
    workspace = workspace_of(os.environ["ANTHROPIC_API_KEY"])

    def on_call(call: Call) -> None:
        """Let answers be judged when the second batch's results are asked for."""
        if (call.name, call.workspace, call.moment) == ("GET /v1/messages/batches/{id}/results", workspace, "before"):
            ((count,),) = ask_ledger(tmp_path / "home", "SELECT count(*) FROM batch WHERE state = 'filed'")
            filed.append(count)
            if len(filed) == 2:
                os.write(pipe, b".")

    faults({"call": "retrieve", "first": 2, "do": {"status": 500}})  # until both have ended
    api.world.faults.on_call = on_call
    found = run(job)
    os.close(pipe)
    assert (found["loaded"], found["batches"], filed) == (6, 2, [0, 0])


STOPS = {
    "max_tokens": "truncated",
    "refusal": "refused",
    "model_context_window_exceeded": "context_full",
    "moon": "unknown_stop",
}


@pytest.mark.parametrize(("stop", "reason"), STOPS.items())
def test_a_row_that_stops_for_ever_in_a_way_of_its_own_is_set_aside_by_that_name(
    api: Any, faults: Any, tmp_path: Path, stop: str, reason: str
) -> None:
    faults({"rows": {"text": "(1)"}, "result": {"stop": stop}})
    found = run(one_turn(tmp_path / "job"))
    assert (found["loaded"], found["reasons"]) == (49, {reason: 1})
    assert money_agrees(api, found)


@pytest.mark.parametrize("result", [{"stop": "max_tokens"}, {"block": "hologram"}])
def test_a_row_that_stumbles_once_is_asked_again_and_loaded(api: Any, faults: Any, tmp_path: Path, result: Any) -> None:
    faults({"rows": {"text": "(1)", "attempts": 1}, "result": result})
    found = run(one_turn(tmp_path / "job"))
    assert (found["loaded"], found["quarantined"]) == (50, 0)
    assert money_agrees(api, found)


def test_a_row_that_was_paused_goes_on_where_it_was(api: Any, tmp_path: Path) -> None:
    rows = "id,message\nm1,a parcel [emulator:pause]\nm2,a parcel\n"
    found = run(one_turn(tmp_path / "job", rows=rows))
    assert (found["loaded"], found["turns"], found["batches"]) == (2, 3, 2)


DAMAGES = {
    "cut between lines": {"cut_after_lines": 20},
    "cut in a line": {"cut_mid_line": 20},
    "ended early without a word": {"end_after_lines": 20},
    "ended in a line without a word": {"cut_mid_line_cleanly": 20},
    "a line of garbage": {"garbage_line": 7},
    "every line twice": {"repeat_lines": True},
    "shuffled": {"shuffle": True},
    "no newline at the end": {"no_last_newline": True},
    "not found, for now": {"status": 404},
}


@pytest.mark.parametrize("do", DAMAGES.values(), ids=DAMAGES.keys())
def test_results_that_come_damaged_are_read_again_and_no_row_is_sent_twice(
    api: Any, faults: Any, tmp_path: Path, do: Any
) -> None:
    faults({"call": "results", "nth": 1, "do": do})
    found = run(one_turn(tmp_path / "job"))
    assert (found["loaded"], requests_sent(api), found["bounces"]) == (50, 50, {})
    assert len(answers_of(tmp_path / "home")) == 50


def test_rows_that_results_leave_out_every_time_are_held_and_never_guessed_about(
    api: Any, faults: Any, tmp_path: Path
) -> None:
    faults({"rows": {"text": "(1)"}, "result": "missing"})
    found = run(one_turn(tmp_path / "job"))
    assert (found["loaded"], found["held"], requests_sent(api)) == (49, 1, 50)


@pytest.mark.parametrize(("do", "why"), [({"deleted": True}, "batch_deleted"), ({"archived": True}, "batch_archived")])
def test_a_batch_that_is_gone_is_held_for_a_person_with_the_money_at_stake(
    api: Any, faults: Any, tmp_path: Path, do: dict[str, Any], why: str
) -> None:
    faults({"batch": {"nth": 1}, "do": do})
    found = run(one_turn(tmp_path / "job", limits={"batch_rows": 30}), run_id="gone")
    assert (found["loaded"], found["held"], created(api)) == (20, 30, 2 - ("deleted" in do))
    (batch,) = found["unsettled"]
    assert (batch["why"], batch["rows"], batch["needs_a_person"]) == (why, 30, True)
    assert batch["at_stake_usd"] == found["at_stake_usd"] > 0


@pytest.mark.parametrize("fate", [{"seconds": 1.5, "deleted": True}, {"archived": True}])
def test_a_candidate_that_vanishes_before_its_proof_is_a_persons_matter(
    api: Any, faults: Any, tmp_path: Path, fate: dict[str, Any]
) -> None:
    faults({"call": "create", "nth": 1, "do": {"drop": "after"}}, {"batch": {"nth": 1}, "do": fate})
    found = run(one_turn(tmp_path / "job"))
    assert (found["held"], found["unsettled"][0]["why"], requests_billed(api)) == (50, "batch_unproven", 50)


def test_a_body_the_api_calls_too_large_is_sent_in_halves(api: Any, faults: Any, tmp_path: Path) -> None:
    faults({"call": "create", "first": 2, "do": {"status": 413}})
    found = run(one_turn(tmp_path / "job"))
    assert found["loaded"] == 50
    assert created(api) >= 4
    assert requests_sent(api) == 50


def test_a_wrong_key_is_the_users_mistake_and_the_rows_wait(api: Any, tmp_path: Path, monkeypatch: Any) -> None:
    key = os.environ["ANTHROPIC_API_KEY"]
    job = one_turn(tmp_path / "job")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "bad-key")
    with pytest.raises(UserMistake):
        run(job, run_id="once")
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    assert run(job, run_id="once")["loaded"] == 50


def stranger(rows: int) -> str:
    """Somebody else makes a batch with the same key. Returns its id."""
    params: Any = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    with anthropic.Anthropic() as claude:
        return claude.messages.batches.create(
            requests=[{"custom_id": f"theirs-{n}", "params": params} for n in range(rows)]
        ).id


def found_ids(tmp_path: Path) -> list[str]:
    return [each[0] for each in ask_ledger(tmp_path / "home", "SELECT api_id FROM batch WHERE api_id IS NOT NULL")]
