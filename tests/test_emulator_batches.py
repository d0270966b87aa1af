"""A batch's life in the emulator, from the first POST to the 29th day, seen through the real SDK."""

from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import orjson
import pytest
from anthropic import AsyncAnthropic

from emulator.clock import Clock
from emulator.server import Emulator, start

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TEN_SECONDS = (10.0, 10.0)


@pytest.fixture
def emulator() -> Generator[Emulator]:
    with start(clock=Clock(frozen_at=NOON), batch_seconds=TEN_SECONDS) as running:
        yield running


@pytest.fixture
async def claude(emulator: Emulator) -> AsyncGenerator[AsyncAnthropic]:
    async with connected(emulator) as client:
        yield client


def connected(emulator: Emulator, key: str = "key") -> AsyncAnthropic:
    return AsyncAnthropic(base_url=emulator.url, api_key=key, max_retries=0)


def requests(count: int, **params: Any) -> Any:
    given = {"model": "claude-haiku-5-5", "max_tokens": 100}
    return [
        {"custom_id": f"r-{n}", "params": {**given, "messages": [{"role": "user", "content": f"row {n}"}], **params}}
        for n in range(count)
    ]


async def raw(emulator: Emulator, path: str, method: str = "GET") -> httpx2.Response:
    headers = {"x-api-key": "key", "anthropic-version": "2026-10-21"}
    async with httpx2.AsyncClient(base_url=emulator.url, headers=headers) as client:
        return await client.request(method, path)


async def results(claude: AsyncAnthropic, batch_id: str) -> dict[str, Any]:
    found = [line async for line in await claude.messages.batches.results(batch_id)]
    assert len({line.custom_id for line in found}) == len(found)
    return {line.custom_id: line.result for line in found}


async def test_a_new_batch_is_in_progress_for_its_latency(emulator: Emulator, claude: AsyncAnthropic) -> None:
    batch = await claude.messages.batches.create(requests=requests(3))
    assert batch.id.startswith("msgbatch_01")
    assert len(batch.id) == len("msgbatch_") + 24
    assert (batch.created_at, batch.expires_at) == (NOON, NOON + timedelta(hours=24))
    emulator.world.clock.advance(9)
    answer = await raw(emulator, f"/v1/messages/batches/{batch.id}")
    assert answer.headers["retry-after"] == "10"
    assert answer.json() == {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": {"processing": 3, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
        "ended_at": None,
        "created_at": "2026-11-21T12:00:00.000000Z",
        "expires_at": "2026-11-22T12:00:00.000000Z",
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": None,
    }


async def test_a_batch_that_takes_no_time_is_still_new_to_its_creator() -> None:
    with start() as instant:
        batch = await connected(instant).messages.batches.create(requests=requests(1))
        assert batch.processing_status == "in_progress"
        assert (await connected(instant).messages.batches.retrieve(batch.id)).processing_status == "ended"


async def test_an_ended_batch_names_its_results_on_this_server(emulator: Emulator, claude: AsyncAnthropic) -> None:
    batch = await claude.messages.batches.create(requests=requests(2))
    emulator.world.clock.advance(10)
    ended = await claude.messages.batches.retrieve(batch.id)
    assert (ended.processing_status, ended.ended_at) == ("ended", NOON + timedelta(seconds=10))
    assert ended.results_url == f"{emulator.url}/v1/messages/batches/{batch.id}/results"
    assert ended.request_counts.succeeded == 2


async def test_results_hold_every_row_once_in_an_order_of_their_own(emulator: Emulator, claude: AsyncAnthropic) -> None:
    batch = await claude.messages.batches.create(requests=requests(50))
    emulator.world.clock.advance(10)
    path = f"/v1/messages/batches/{batch.id}/results"
    answer, again = await raw(emulator, path), await raw(emulator, path)
    assert answer.headers["content-type"] == "application/x-jsonl"
    order = [orjson.loads(line)["custom_id"] for line in answer.content.splitlines()]
    assert sorted(order) == sorted(f"r-{n}" for n in range(50))
    assert order != [f"r-{n}" for n in range(50)]
    assert answer.content == again.content
    assert answer.content.endswith(b"}\n")


async def test_results_before_the_end_are_not_found(emulator: Emulator, claude: AsyncAnthropic) -> None:
    batch = await claude.messages.batches.create(requests=requests(1))
    answer = await raw(emulator, f"/v1/messages/batches/{batch.id}/results")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error")
    assert answer.json()["error"]["message"] == f"Message Batch {batch.id} has no available results."


async def test_results_need_a_key(emulator: Emulator, claude: AsyncAnthropic) -> None:
    batch = await claude.messages.batches.create(requests=requests(1))
    emulator.world.clock.advance(10)
    async with httpx2.AsyncClient() as nobody:
        assert (await nobody.get(f"{emulator.url}/v1/messages/batches/{batch.id}/results")).status_code == 401


async def test_a_batch_belongs_to_the_workspace_of_its_key(emulator: Emulator, claude: AsyncAnthropic) -> None:
    batch = await claude.messages.batches.create(requests=requests(1))
    with pytest.raises(anthropic.NotFoundError, match=f"Message Batch {batch.id} not found."):
        await connected(emulator, "another").messages.batches.retrieve(batch.id)
    assert (await connected(emulator, "another").messages.batches.list()).data == []


async def test_every_post_makes_a_batch_whatever_key_of_idempotency_it_bears(claude: AsyncAnthropic) -> None:
    same = {"idempotency-key": "same"}
    first = await claude.messages.batches.create(requests=requests(1), extra_headers=same)
    second = await claude.messages.batches.create(requests=requests(1), extra_headers=same)
    assert first.id != second.id


async def test_a_list_is_newest_first_and_pages_both_ways(emulator: Emulator, claude: AsyncAnthropic) -> None:
    made = [(await claude.messages.batches.create(requests=requests(1))).id for _ in range(5)]
    newest_first = made[::-1]
    assert [batch.id async for batch in claude.messages.batches.list(limit=2)] == newest_first
    page = await claude.messages.batches.list(limit=2, after_id=newest_first[1])
    assert ([batch.id for batch in page.data], page.has_more) == (newest_first[2:4], True)
    assert (page.first_id, page.last_id) == (newest_first[2], newest_first[3])
    newer = await claude.messages.batches.list(limit=2, before_id=newest_first[3])
    assert ([batch.id for batch in newer.data], newer.has_more) == (newest_first[1:3], True)
    last = await claude.messages.batches.list(limit=2, after_id=newest_first[3])
    assert ([batch.id for batch in last.data], last.has_more) == (newest_first[4:], False)
    empty = (await raw(emulator, f"/v1/messages/batches?after_id={newest_first[4]}")).json()
    assert empty == {"data": [], "has_more": False, "first_id": None, "last_id": None}
    for limit in (0, 1001):
        with pytest.raises(anthropic.BadRequestError, match="limit: Input should be"):
            await claude.messages.batches.list(limit=limit)


async def test_a_cancel_keeps_what_was_finished_and_ends_soon(emulator: Emulator, claude: AsyncAnthropic) -> None:
    batch = await claude.messages.batches.create(requests=requests(10))
    emulator.world.clock.advance(5)
    canceling = await claude.messages.batches.cancel(batch.id)
    assert (canceling.processing_status, canceling.request_counts.processing) == ("canceling", 10)
    emulator.world.clock.advance(1)
    again = await claude.messages.batches.cancel(batch.id)
    assert again.cancel_initiated_at == canceling.cancel_initiated_at == NOON + timedelta(seconds=5)
    emulator.world.clock.advance(1)
    ended = await claude.messages.batches.retrieve(batch.id)
    assert ended.processing_status == "ended"
    assert (ended.request_counts.succeeded, ended.request_counts.canceled) == (5, 5)
    kinds = [result.type for result in (await results(claude, batch.id)).values()]
    assert sorted(kinds) == ["canceled"] * 5 + ["succeeded"] * 5


async def test_an_ended_batch_cannot_be_canceled(emulator: Emulator, claude: AsyncAnthropic) -> None:
    batch = await claude.messages.batches.create(requests=requests(1))
    emulator.world.clock.advance(10)
    with pytest.raises(anthropic.BadRequestError):
        await claude.messages.batches.cancel(batch.id)


async def test_a_batch_is_deleted_only_after_its_end(emulator: Emulator, claude: AsyncAnthropic) -> None:
    batch = await claude.messages.batches.create(requests=requests(2))
    with pytest.raises(anthropic.BadRequestError, match="In progress batches cannot be deleted"):
        await claude.messages.batches.delete(batch.id)
    emulator.world.clock.advance(10)
    answer = await raw(emulator, f"/v1/messages/batches/{batch.id}", "DELETE")
    assert answer.json() == {"id": batch.id, "type": "message_batch_deleted"}
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.batches.retrieve(batch.id)
    assert (await claude.messages.batches.list()).data == []
    assert emulator.world.ledger()["batches"][batch.id]["requests"] == 2


async def test_what_is_unfinished_after_a_day_expires() -> None:
    two_days = 2 * 24 * 3600.0
    with start(clock=Clock(frozen_at=NOON), batch_seconds=(two_days, two_days)) as slow:
        claude = connected(slow)
        batch = await claude.messages.batches.create(requests=requests(10))
        slow.world.clock.advance(24 * 3600)
        ended = await claude.messages.batches.retrieve(batch.id)
        assert (ended.ended_at, ended.request_counts.succeeded) == (ended.expires_at, 5)
        kinds = [result.type for result in (await results(claude, batch.id)).values()]
        assert sorted(kinds) == ["expired"] * 5 + ["succeeded"] * 5


async def test_results_are_gone_29_days_after_creation(emulator: Emulator, claude: AsyncAnthropic) -> None:
    batch = await claude.messages.batches.create(requests=requests(1))
    emulator.world.clock.advance(29 * 24 * 3600)
    archived = await claude.messages.batches.retrieve(batch.id)
    assert archived.archived_at == NOON + timedelta(days=29)
    assert archived.processing_status == "ended"
    with pytest.raises(anthropic.NotFoundError):
        await results(claude, batch.id)


async def test_time_can_be_moved_over_http(emulator: Emulator, claude: AsyncAnthropic) -> None:
    batch = await claude.messages.batches.create(requests=requests(1))
    async with httpx2.AsyncClient(base_url=emulator.url) as client:
        moved = await client.post("/_emulator/clock", json={"advance_seconds": 10})
    assert moved.json() == {"now": "2026-11-21T12:00:10.000000Z"}
    assert (await claude.messages.batches.retrieve(batch.id)).processing_status == "ended"


async def test_a_restarted_emulator_knows_its_batches_and_gives_the_same_results(tmp_path: Path) -> None:
    with start(tmp_path) as first:
        claude = connected(first)
        kept = await claude.messages.batches.create(requests=requests(20))
        deleted = await claude.messages.batches.create(requests=requests(1))
        before = await raw(first, f"/v1/messages/batches/{kept.id}/results")
        await claude.messages.batches.delete(deleted.id)
        billed = first.world.ledger()["total"]
    with start(tmp_path) as second:
        assert [batch.id for batch in second.world.batches_of("key")] == [kept.id]
        after = await raw(second, f"/v1/messages/batches/{kept.id}/results")
        assert after.content == before.content
        view = await connected(second).messages.batches.retrieve(kept.id)
        assert (view.results_url or "").startswith(second.url)
        assert second.world.ledger()["total"] == billed


async def test_two_emulators_on_one_folder_see_the_same_batches(tmp_path: Path) -> None:
    with start(tmp_path, batch_seconds=(600, 600)) as first, start(tmp_path) as second:
        batch = await connected(first).messages.batches.create(requests=requests(4))
        assert (await connected(second).messages.batches.retrieve(batch.id)).processing_status == "in_progress"
        await connected(second).messages.batches.cancel(batch.id)
        assert (await connected(first).messages.batches.retrieve(batch.id)).processing_status == "canceling"


async def test_the_ledger_tells_what_the_rows_say_was_used(emulator: Emulator, claude: AsyncAnthropic) -> None:
    system = [{"type": "text", "text": "rules " * 600, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    batch = await claude.messages.batches.create(requests=[*requests(5, system=system), requests(6, stream=True)[5]])
    emulator.world.clock.advance(10)
    found = await results(claude, batch.id)
    usages = [result.message.usage for result in found.values() if result.type == "succeeded"]
    assert [bool(usage.cache_creation_input_tokens) for usage in usages].count(True) == 1
    async with httpx2.AsyncClient(base_url=emulator.url) as client:
        told = (await client.get("/_emulator/ledger")).json()
    for name in ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"):
        assert told["total"][name] == sum(getattr(usage, name) for usage in usages)
    assert told["total"]["cache_creation_1h"] == told["total"]["cache_creation_input_tokens"] > 512
    assert (told["total"]["requests"], told["calls"]["POST /v1/messages/batches"]) == (5, 1)


async def test_a_cached_prompt_is_read_until_its_time_is_over(emulator: Emulator, claude: AsyncAnthropic) -> None:
    system: Any = [{"type": "text", "text": "rules " * 600, "cache_control": {"type": "ephemeral"}}]

    async def creates() -> bool:
        said = await claude.messages.create(
            model="claude-haiku-5-5", max_tokens=50, system=system, messages=[{"role": "user", "content": "hello"}]
        )
        return bool(said.usage.cache_creation_input_tokens)

    assert await creates()
    emulator.world.clock.advance(299)
    assert not await creates()
    emulator.world.clock.advance(301)
    assert await creates()
