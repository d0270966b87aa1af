"""Rows that do not wait for batches: live, streamed, in sequence, in a hurry. Through the emulator, over HTTP."""

import asyncio
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from conftest import answers_of, ask_ledger, batch_was_made, make_job, run

from cli.streamed_replies import record_live_text
from flows.pump import pump


@pytest.fixture
def account(api: Any) -> Generator[Any]:
    """The emulator's settings for this test's account."""
    key = os.environ["ANTHROPIC_API_KEY"]
    yield lambda **changes: api.world.settings.change(key, **changes)
    api.world.settings.reset(key)


def bill(api: Any) -> dict[str, Any]:
    return api.world.bill_of(os.environ["ANTHROPIC_API_KEY"])


@pytest.mark.parametrize(
    ("rows", "lane", "batches"), [(3, "live", 0), (15, "live", 0), (60, "stream", 0), (500, "batch", 1)]
)
def test_auto_goes_by_the_number_of_rows_and_says_why(
    api: Any, tmp_path: Path, rows: int, lane: str, batches: int
) -> None:
    found = run(make_job(tmp_path / "job", rows=rows, lane="auto"))
    assert (found["loaded"], found["lane"], found["batches"]) == (rows, lane, batches)
    assert str(rows) in found["lane_why"]
    assert round(found["cost_usd"] * 1e6) == bill(api)["cost_micro"]


def test_a_live_swarm_that_meets_a_rate_limit_slows_down_and_loses_nothing(
    api: Any, account: Any, tmp_path: Path
) -> None:
    """300 requests a minute, and 330 to make: the last ones come in at five a second."""
    account(limits={"requests": 300})
    found = run(make_job(tmp_path / "job", rows=330, lane="live"))
    assert (found["loaded"], found["turns"]) == (330, 330)
    settings = httpx2.get(f"{api.url}/_emulator/settings", params={"api_key": os.environ["ANTHROPIC_API_KEY"]}).json()
    assert settings["refused"].get("requests", 0) <= 16, (
        "told by the headers, it stops before it is turned away, but for those already on the wire"
    )


def test_a_stream_is_shown_as_it_is_written_and_filed_as_any_reply(api: Any, tmp_path: Path) -> None:
    with record_live_text("streamed") as lines:
        found = run(make_job(tmp_path / "job", rows=1, lane="stream"), run_id="streamed")
        (line,) = lines()
    assert (found["loaded"], found["lane"]) == (1, "stream")
    (content,) = ask_ledger(tmp_path / "home", "SELECT content FROM turn")[0]
    said = "".join(block["text"] for block in orjson.loads(content) if block["type"] == "text")
    assert line == f"m0: {said}"
    assert bill(api)["by_lane"]["stream"]["cost_micro"] == round(found["cost_usd"] * 1e6)


def test_a_reply_that_breaks_off_is_asked_for_again_and_what_it_may_have_cost_stays_reserved(
    api: Any, faults: Any, tmp_path: Path
) -> None:
    faults({"call": "messages", "nth": [1, 3], "do": {"cut_after_deltas": 2}})
    found = run(make_job(tmp_path / "job", rows=6, lane="stream"))
    assert (found["loaded"], found["turns"]) == (6, 6)
    assert sum(found["bounces"].values()) == 2
    spent, billed = round(found["cost_usd"] * 1e6), bill(api)["cost_micro"]
    assert spent < billed <= spent + round(found["at_stake_usd"] * 1e6)


def test_live_calls_stop_at_the_budget_and_never_cross_it(api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=40, lane="live", limits={"max_tokens": 256})
    with pytest.raises(Exception, match="stopped at the budget"):
        run(job, run_id="walled", budget=0.0008)
    assert 0 < bill(api)["cost_micro"] <= 800
    found = run(job, run_id="walled", budget=1.0)
    assert found["loaded"] == 40


def test_a_day_has_a_budget_over_all_runs_of_a_job(api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=40, lane="live", limits={"max_tokens": 256, "day_usd": 0.0008})
    for run_id in ("one", "two"):
        with pytest.raises(Exception, match="budget for today"):
            run(job, run_id=run_id)
    assert 0 < bill(api)["cost_micro"] <= 800


AFTER = "id,message,before\n" + "".join(f"m{n},the parcel is late,{f'm{n - 1}' if n else ''}\n" for n in range(30))
ODD = "id,message,before\n" + "".join(
    f"{row},the parcel is late,{before}\n" for row, before in ("ab", "ba", "cx", "d ")
)


def test_rows_that_come_after_others_see_their_answers_and_go_one_by_one(api: Any, tmp_path: Path) -> None:
    found = run(make_job(tmp_path / "job", rows=AFTER, after="before", lane="auto", live={"earlier_rows": 4}))
    assert (found["loaded"], found["lane"]) == (30, "sequential")
    query = "SELECT input_tokens + cache_read_tokens + cache_write_tokens FROM turn ORDER BY row_no"
    read = [tokens for (tokens,) in ask_ledger(tmp_path / "home", query)]
    assert read[:8] == sorted(set(read[:8])), "each of the first sees one more answer than the one before"
    assert max(read) < read[0] + 8.5 * (read[2] - read[1]), "and never more than eight"


def test_a_row_that_comes_after_nobody_or_after_itself_is_set_aside_with_the_reason(api: Any, tmp_path: Path) -> None:
    found = run(make_job(tmp_path / "job", rows=ODD, after="before", lane="auto"))
    assert found["reasons"] == {"after_circle": 2, "after_unknown": 1}
    assert list(answers_of(tmp_path / "home")) == ["d"]


def test_rows_go_live_when_batches_took_longer_than_there_is_time(api: Any, faults: Any, tmp_path: Path) -> None:
    """The API's own dates say that a batch took two hours; the deadline is in one."""
    faults({"batch": {}, "do": {"seconds": 7200}})

    async def two_hours() -> None:
        made = batch_was_made(api)
        running = asyncio.create_task(pump(str(make_job(tmp_path / "slow", rows=120))))  # pyright: ignore[reportArgumentType] # a coroutine
        await made.wait()
        api.world.clock.advance(7200)
        await running

    asyncio.run(two_hours())
    before = bill(api)["requests"]
    found = run(make_job(tmp_path / "job", rows=120, lane="auto"), finish_within_minutes=60)
    assert (found["loaded"], found["lane"], found["batches"]) == (120, "live", 0)
    assert re.search(r"took up to 2 h, and the deadline is in (1 h|59 min)", found["lane_why"])
    assert bill(api)["requests"] - before == 120
    assert found["hurry_usd"] == pytest.approx(found["cost_usd"] / 2)


def test_batches_that_would_be_late_are_canceled_and_their_rows_go_live(api: Any, faults: Any, tmp_path: Path) -> None:
    """Batches were quick so far; this one is not. Rows it had not come to cost nothing there: none is paid twice."""
    run(make_job(tmp_path / "quick", rows=3))
    faults({"batch": {}, "do": {"seconds": 100}})
    job = make_job(tmp_path / "job", rows=120, lane="auto", live={"concurrency": 100})
    found = run(job, finish_within_minutes=0.8)
    assert (found["loaded"], found["lane"], found["batches"]) == (120, "batch", 1)
    assert (bill(api)["requests"], found["turns"]) == (123, 120)
    assert found["hurry_usd"] > 0
