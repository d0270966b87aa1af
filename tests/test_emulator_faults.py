"""Faults by plan: every kind of rule, once, seen through the real SDK; and the bills, which no fault may bend."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import orjson
import pytest
from anthropic import AsyncAnthropic

from emulator.clock import Clock
from emulator.plan import PlanError, read_plan
from emulator.server import Emulator, start

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
# Reading the machine's certificates anew for every client is most of a test's time.
UNUSED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
BATCHES = "/v1/messages/batches"
HEADERS = {"x-api-key": "key", "anthropic-version": "2026-10-21"}
HELLO: Any = [{"role": "user", "content": "hello"}]
LONG_RULES = [{"type": "text", "text": "rules " * 600, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running() -> Generator[Emulator]:
    """Batches end at once."""
    with start() as emulator:
        yield emulator


@pytest.fixture
def emulator(running: Emulator) -> Generator[Emulator]:
    yield running
    running.world.faults.clear()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """An account of the test's own."""
    return request.node.name


@pytest.fixture
def claude(emulator: Emulator, key: str) -> AsyncAnthropic:
    return client_of(emulator, key)


@pytest.fixture
def frozen() -> Generator[Emulator]:
    """Batches take ten seconds of a clock that stands still."""
    with start(clock=Clock(frozen_at=NOON), batch_seconds=(10, 10)) as emulator:
        yield emulator


def client_of(emulator: Emulator, key: str = "key") -> AsyncAnthropic:
    wire = anthropic.DefaultAsyncHttpxClient(verify=UNUSED)
    return AsyncAnthropic(base_url=emulator.url, api_key=key, max_retries=0, http_client=wire)


def raw(emulator: Emulator, key: str = "key") -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=emulator.url, headers={**HEADERS, "x-api-key": key}, verify=UNUSED)


def rows(count: int, **params: Any) -> Any:
    given = {"model": "claude-haiku-5-5", "max_tokens": 200}
    return [
        {"custom_id": f"r-{n}", "params": {**given, "messages": [{"role": "user", "content": f"row {n}"}], **params}}
        for n in range(count)
    ]


async def made(claude: AsyncAnthropic, count: int = 6, **params: Any) -> str:
    return (await claude.messages.batches.create(requests=rows(count, **params))).id


async def results(claude: AsyncAnthropic, batch_id: str) -> dict[str, Any]:
    return {line.custom_id: line.result async for line in await claude.messages.batches.results(batch_id)}


async def body(emulator: Emulator, key: str, batch_id: str) -> tuple[bytes, bool]:
    """What arrives of a batch's results, and whether the stream came to a proper end."""
    received = b""
    async with raw(emulator, key) as client:
        try:
            async with client.stream("GET", f"{BATCHES}/{batch_id}/results") as answer:
                async for chunk in answer.aiter_bytes():
                    received += chunk
        except httpx2.RemoteProtocolError:
            return received, False
    return received, True


def struck(emulator: Emulator) -> list[int]:
    return [each["struck"] for each in emulator.world.faults.aim.view()["rules"]]


# Which calls


async def outcomes(claude: AsyncAnthropic, calls: int) -> str:
    """A letter per list call: whether it was answered or refused."""
    letters = ""
    for _ in range(calls):
        try:
            await claude.messages.batches.list()
            letters += "a"
        except anthropic.InternalServerError:
            letters += "r"
    return letters


@pytest.mark.parametrize(
    ("which", "seen"),
    [
        ({"nth": 2}, "araaaa"),
        ({"nth": [1, 3]}, "raraaa"),
        ({"first": 2}, "rraaaa"),
        ({"every": 3}, "aaraar"),
        ({"every": 2, "first": 4}, "araraa"),
        ({"key": "nobody"}, "aaaaaa"),
        ({}, "rrrrrr"),
    ],
)
async def test_a_rule_says_which_calls_of_an_account(
    emulator: Emulator, claude: AsyncAnthropic, which: dict[str, Any], seen: str
) -> None:
    emulator.world.faults.load([{"call": "list", **which, "do": {"status": 500}}])
    assert await outcomes(claude, 6) == seen
    assert struck(emulator) == [seen.count("r")]


async def test_a_share_of_calls_is_the_same_calls_every_time(emulator: Emulator, claude: AsyncAnthropic) -> None:
    plan = [{"call": "list", "share": 0.5, "seed": 3, "do": {"status": 500}}]
    emulator.world.faults.load(plan)
    seen = await outcomes(claude, 10)
    assert 2 < seen.count("r") < 8
    emulator.world.faults.load(plan)
    assert await outcomes(claude, 10) == seen


async def test_accounts_are_counted_apart_and_a_rule_may_mean_one(emulator: Emulator, claude: AsyncAnthropic) -> None:
    other = client_of(emulator, "other")
    emulator.world.faults.load([{"call": "list", "nth": 1, "key": "other", "do": {"status": 529}}])
    assert await outcomes(claude, 2) == "aa"
    assert await outcomes(other, 2) == "ra"


async def test_the_first_rule_that_strikes_decides(emulator: Emulator, claude: AsyncAnthropic) -> None:
    emulator.world.faults.load(
        [{"call": "list", "nth": 2, "do": {"status": 404}}, {"call": "list", "do": {"status": 500}}]
    )
    assert await outcomes(claude, 1) == "r"
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.batches.list()
    assert struck(emulator) == [1, 1]


# What happens to a call


async def test_a_refusal_has_its_status_its_wait_and_its_code(emulator: Emulator, claude: AsyncAnthropic) -> None:
    act = {"status": 429, "retry_after": 2, "error_code": "enforced_spend_limit_reached"}
    emulator.world.faults.load([{"call": "messages", "do": act}])
    with pytest.raises(anthropic.RateLimitError) as refused:
        await claude.messages.create(model="claude-haiku-5-5", max_tokens=9, messages=HELLO)
    assert refused.value.response.headers["retry-after"] == "2"
    assert refused.value.body["error"]["details"] == {"error_code": "enforced_spend_limit_reached"}  # type: ignore[index] # untyped


@pytest.mark.parametrize(("moment", "batches"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize(
    ("act", "error"),
    [
        ({"status": 529, "moment": "{}"}, anthropic.InternalServerError),
        ({"drop": "{}"}, anthropic.APIConnectionError),
        ({"hang_seconds": 0.02, "then": "drop", "moment": "{}"}, anthropic.APIConnectionError),
    ],
)
async def test_a_create_fails_before_or_after_it_took_place(
    emulator: Emulator, claude: AsyncAnthropic, key: str, moment: str, batches: int, act: Any, error: Any
) -> None:
    meant = {name: moment if value == "{}" else value for name, value in act.items()}
    emulator.world.faults.load([{"call": "create", "nth": 1, "do": meant}])
    with pytest.raises(error):
        await made(claude)
    assert len(emulator.world.batches_of(key)) == batches
    await made(claude)
    assert (len(emulator.world.batches_of(key)), struck(emulator)) == (batches + 1, [1])


async def test_a_call_that_hangs_takes_place_though_its_caller_has_gone(
    emulator: Emulator, claude: AsyncAnthropic, key: str
) -> None:
    emulator.world.faults.load([{"call": "create", "nth": 1, "do": {"hang_seconds": 0.3}}])
    with pytest.raises(anthropic.APITimeoutError):
        await claude.with_options(timeout=0.1).messages.batches.create(requests=rows(1))
    assert emulator.world.batches_of(key) == []
    async with asyncio.timeout(5):
        while not emulator.world.batches_of(key):
            await claude.messages.batches.list()


@pytest.mark.parametrize(("kind", "start_of_it"), [(True, "<!DOCTYPE html>"), ("json", '{"id":"msgbatch_')])
async def test_garbage_comes_with_a_200_after_the_effect(
    emulator: Emulator, key: str, kind: Any, start_of_it: str
) -> None:
    emulator.world.faults.load([{"call": "create", "do": {"garbage": kind}}])
    async with raw(emulator, key) as client:
        answer = await client.post(BATCHES, json={"requests": rows(1)})
    assert (answer.status_code, answer.text.startswith(start_of_it)) == (200, True)
    with pytest.raises(ValueError):
        answer.json()
    assert len(emulator.world.batches_of(key)) == 1


@pytest.mark.parametrize("call", ["retrieve", "results"])
async def test_a_slow_body_is_whole_all_the_same(emulator: Emulator, claude: AsyncAnthropic, call: str) -> None:
    batch_id = await made(claude)
    emulator.world.faults.load([{"call": call, "do": {"slow_seconds": 0.1}}])
    assert len(await results(claude, batch_id)) == 6
    assert struck(emulator) == [1]


@pytest.mark.parametrize("call", ["retrieve", "results"])
async def test_a_batch_can_be_not_found_for_a_while(emulator: Emulator, claude: AsyncAnthropic, call: str) -> None:
    batch_id = await made(claude)
    emulator.world.faults.load([{"call": call, "first": 2, "do": {"status": 404}}])
    for _ in range(2):
        with pytest.raises(anthropic.NotFoundError, match=f"Message Batch {batch_id} not found"):
            await results(claude, batch_id)
    assert len(await results(claude, batch_id)) == 6


@pytest.mark.parametrize("call", ["cancel", "delete", "count_tokens"])
async def test_every_kind_of_call_can_be_struck(emulator: Emulator, claude: AsyncAnthropic, call: str) -> None:
    batch_id = await made(claude)
    emulator.world.faults.load([{"call": call, "do": {"status": 503}}])
    calls: dict[str, Any] = {
        "cancel": lambda: claude.messages.batches.cancel(batch_id),
        "delete": lambda: claude.messages.batches.delete(batch_id),
        "count_tokens": lambda: claude.messages.count_tokens(model="claude-haiku-5-5", messages=HELLO),
    }
    with pytest.raises(anthropic.InternalServerError):
        await calls[call]()
    assert (await claude.messages.batches.retrieve(batch_id)).id == batch_id


async def test_a_batch_is_listed_late(frozen: Emulator) -> None:
    claude = client_of(frozen)
    frozen.world.faults.load([{"call": "list", "do": {"lag_seconds": 5}}])
    await made(claude)
    assert (await claude.messages.batches.list()).data == []
    frozen.world.clock.advance(5)
    assert len((await claude.messages.batches.list()).data) == 1


# What happens to results


@pytest.mark.parametrize(
    ("act", "whole", "has_half", "has_end"),
    [
        ({"cut_after_lines": 4}, 4, False, False),
        ({"cut_after_lines": 0}, 0, False, False),
        ({"cut_after_lines": 99}, 6, False, False),
        ({"cut_mid_line": 3}, 2, True, False),
        ({"end_after_lines": 4}, 4, False, True),
        ({"cut_mid_line_cleanly": 3}, 2, True, True),
        ({"no_last_newline": True}, 5, True, True),
    ],
)
async def test_results_stop_early(
    emulator: Emulator, claude: AsyncAnthropic, key: str, act: Any, whole: int, has_half: bool, has_end: bool
) -> None:
    batch_id = await made(claude)
    true, _ = await body(emulator, key, batch_id)
    emulator.world.faults.load([{"call": "results", "nth": 1, "do": act}])
    received, ended = await body(emulator, key, batch_id)
    assert true.startswith(received)
    assert (received.count(b"\n"), bool(received.split(b"\n")[-1]), ended) == (whole, has_half, has_end)
    assert await body(emulator, key, batch_id) == (true, True)


async def test_results_come_twice_in_disorder_and_with_rubbish(
    emulator: Emulator, claude: AsyncAnthropic, key: str
) -> None:
    batch_id = await made(claude)
    true = (await body(emulator, key, batch_id))[0].splitlines()
    emulator.world.faults.load(
        [
            {"call": "results", "nth": 1, "do": {"repeat_lines": True}},
            {"call": "results", "nth": 2, "do": {"shuffle": True}},
            {"call": "results", "nth": 3, "do": {"garbage_line": 2}},
            {"call": "results", "nth": 4, "do": {"shuffle": True, "repeat_lines": True, "end_after_lines": 5}},
        ]
    )
    read = [(await body(emulator, key, batch_id))[0].splitlines() for _ in range(4)]
    assert read[0] == [line for line in true for _ in range(2)]
    assert read[1] != true
    assert sorted(read[1]) == sorted(true)
    assert [line == other for line, other in zip(read[2], true, strict=True)] == [True, False, *[True] * 4]
    assert (len(read[3]), len(set(read[3])), struck(emulator)) == (5, 3, [1, 1, 1, 1])


# Rows


async def fate_of(emulator: Emulator, claude: AsyncAnthropic, result: Any, **params: Any) -> tuple[Any, Any]:
    """What the struck one of three rows comes to, and the batch's counts."""
    emulator.world.faults.load([{"rows": {"nth": [2]}, "result": result}])
    batch_id = await made(claude, 3, **params)
    counts = (await claude.messages.batches.retrieve(batch_id)).request_counts
    found = await results(claude, batch_id)
    assert found["r-0"].type == found["r-2"].type == "succeeded"
    assert await results(claude, batch_id) == found
    return found.get("r-1"), counts


@pytest.mark.parametrize(
    "kind",
    [
        "api_error", "overloaded_error", "rate_limit_error", "timeout_error", "invalid_request_error",
        "not_found_error", "permission_error", "authentication_error", "billing_error", "request_too_large",
    ],
)  # fmt: skip
async def test_a_row_comes_back_errored_and_costs_nothing(
    emulator: Emulator, claude: AsyncAnthropic, key: str, kind: str
) -> None:
    found, counts = await fate_of(emulator, claude, {"errored": kind})
    assert (found.type, found.error.error.type) == ("errored", kind)
    assert (counts.succeeded, counts.errored, emulator.world.bill_of(key)["requests"]) == (2, 1, 2)


async def test_a_row_can_fail_for_want_of_credit(emulator: Emulator, claude: AsyncAnthropic) -> None:
    found, _ = await fate_of(emulator, claude, {"errored": "credit"})
    assert found.error.error.type == "invalid_request_error"
    assert found.error.error.message.startswith("Your credit balance is too low")


@pytest.mark.parametrize("kind", ["expired", "canceled"])
async def test_a_row_comes_back_unanswered(emulator: Emulator, claude: AsyncAnthropic, key: str, kind: str) -> None:
    found, counts = await fate_of(emulator, claude, kind)
    assert (found.type, getattr(counts, kind), emulator.world.bill_of(key)["requests"]) == (kind, 1, 2)


async def test_a_row_can_have_no_line_at_all(emulator: Emulator, claude: AsyncAnthropic, key: str) -> None:
    found, counts = await fate_of(emulator, claude, "missing")
    assert found is None
    assert (counts.succeeded, counts.errored, emulator.world.bill_of(key)["requests"]) == (2, 1, 2)


@pytest.mark.parametrize(
    "reason", ["max_tokens", "refusal", "pause_turn", "model_context_window_exceeded", "moon_too_bright"]
)
async def test_a_reply_stops_for_any_reason_and_is_billed(
    emulator: Emulator, claude: AsyncAnthropic, key: str, reason: str
) -> None:
    found, counts = await fate_of(emulator, claude, {"stop": reason})
    assert (found.message.stop_reason, counts.succeeded) == (reason, 3)
    assert emulator.world.bill_of(key)["requests"] == 3


async def test_a_strange_block_stands_before_the_real_ones_and_may_be_sent_back(
    emulator: Emulator, claude: AsyncAnthropic
) -> None:
    found, _ = await fate_of(emulator, claude, {"block": "hologram"})
    kinds = [block.type for block in found.message.content]
    assert kinds[-2:] == ["hologram", "text"]
    said = [block.to_dict() for block in found.message.content]
    again = [{"role": "user", "content": "row 1"}, {"role": "assistant", "content": said}, *HELLO]
    emulator.world.faults.clear()
    assert (await results(claude, await made(claude, 1, messages=again)))["r-0"].type == "succeeded"


async def test_an_answer_can_be_prose(emulator: Emulator, claude: AsyncAnthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "schema": schema}}
    found, _ = await fate_of(emulator, claude, "not_json", output_config=form)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(found.message.content[-1].text)


async def test_a_share_of_rows_is_the_same_rows_in_whatever_batch(emulator: Emulator, claude: AsyncAnthropic) -> None:
    emulator.world.faults.load([{"rows": {"share": 0.3, "seed": 7}, "result": "expired"}])
    requests = rows(100)
    first = await results(claude, (await claude.messages.batches.create(requests=requests)).id)
    second = await results(claude, (await claude.messages.batches.create(requests=requests[::-3])).id)
    hit = {custom_id for custom_id, result in first.items() if result.type == "expired"}
    assert 15 < len(hit) < 45
    assert {custom_id for custom_id, result in second.items() if result.type == "expired"} == hit & second.keys()


async def test_a_row_is_found_by_its_text(emulator: Emulator, claude: AsyncAnthropic) -> None:
    emulator.world.faults.load([{"rows": {"text": "row 4"}, "result": "canceled"}])
    found = await results(claude, await made(claude))
    assert [custom_id for custom_id, result in found.items() if result.type == "canceled"] == ["r-4"]


async def test_a_rule_for_first_attempts_lets_a_conversation_through_later(
    emulator: Emulator, claude: AsyncAnthropic
) -> None:
    emulator.world.faults.load([{"rows": {"attempts": 2}, "result": {"errored": "overloaded_error"}}])
    kinds = [(await results(claude, await made(claude, 1)))["r-0"].type for _ in range(3)]
    other = await results(claude, await made(claude, 1, model="claude-sonnet-5-5"))
    assert (kinds, other["r-0"].type) == (["errored", "errored", "succeeded"], "errored")
    assert struck(emulator) == [3]


# Batches


@pytest.mark.parametrize("share_of", ["canceled", "expired"])
async def test_a_batch_ends_with_a_share_of_its_rows(
    emulator: Emulator, claude: AsyncAnthropic, key: str, share_of: str
) -> None:
    emulator.world.faults.load([{"batch": {"nth": 1}, "do": {share_of: 0.5}}])
    batch_id = await made(claude)
    batch = await claude.messages.batches.retrieve(batch_id)
    assert (batch.processing_status, batch.request_counts.succeeded) == ("ended", 3)
    assert getattr(batch.request_counts, share_of) == 3
    assert sorted(each.type for each in (await results(claude, batch_id)).values())[:3] == [share_of] * 3
    assert (emulator.world.bill_of(key)["requests"], struck(emulator)) == (3, [1])
    assert (await claude.messages.batches.retrieve(await made(claude))).request_counts.succeeded == 6


async def test_somebody_else_cancels_a_batch_in_its_midst(frozen: Emulator) -> None:
    claude = client_of(frozen)
    frozen.world.faults.load([{"batch": {}, "do": {"canceled": 0.5}}])
    batch_id = await made(claude)
    statuses: list[str] = []
    for _ in range(4):
        batch = await claude.messages.batches.retrieve(batch_id)
        statuses.append(batch.processing_status)
        frozen.world.clock.advance(2.5)
    assert statuses == ["in_progress", "in_progress", "canceling", "ended"]
    assert (batch.cancel_initiated_at, batch.request_counts.canceled) == (NOON + timedelta(seconds=5), 3)


async def test_a_batch_somebody_deletes_is_billed(emulator: Emulator, claude: AsyncAnthropic, key: str) -> None:
    emulator.world.faults.load([{"batch": {"nth": 1}, "do": {"deleted": True}}])
    batch_id = await made(claude)
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.batches.retrieve(batch_id)
    assert (await claude.messages.batches.list()).data == []
    bill = emulator.world.bill_of(key)
    assert (bill["requests"], bill["batches_created"]) == (6, 1)


async def test_a_batch_is_archived_at_its_end(emulator: Emulator, claude: AsyncAnthropic) -> None:
    emulator.world.faults.load([{"batch": {"every": 1}, "do": {"archived": True}}])
    batch_id = await made(claude)
    assert (await claude.messages.batches.retrieve(batch_id)).archived_at is not None
    with pytest.raises(anthropic.NotFoundError):
        await results(claude, batch_id)


async def test_a_batch_takes_its_time_and_shows_its_counts(frozen: Emulator) -> None:
    claude = client_of(frozen)
    frozen.world.faults.load([{"batch": {"first": 1}, "do": {"seconds": 100, "partial_counts": True}}])
    batch_id = await made(claude)
    counts: list[int] = []
    for _ in range(3):
        counts.append((await claude.messages.batches.retrieve(batch_id)).request_counts.succeeded)
        frozen.world.clock.advance(50)
    assert counts == [0, 3, 6]


async def test_a_new_batch_is_not_found_for_a_while(frozen: Emulator) -> None:
    claude = client_of(frozen)
    frozen.world.faults.load([{"batch": {"key": "key"}, "do": {"invisible_seconds": 3}}])
    batch_id = await made(claude)
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.batches.retrieve(batch_id)
    frozen.world.clock.advance(3)
    assert (await claude.messages.batches.retrieve(batch_id)).id == batch_id


async def test_what_was_decided_lasts_like_the_batch(tmp_path: Path) -> None:
    with start(tmp_path) as first:
        first.world.faults.load(
            [
                {"rows": {"nth": 1}, "result": "missing"},
                {"rows": {"nth": 2}, "result": {"stop": "refusal"}},
                {"batch": {}, "do": {"expired": 0.7}},
            ]
        )
        batch_id = await made(client_of(first), 10)
        before, bill = await body(first, "key", batch_id), first.world.bill_of("key")
    with start(tmp_path) as second:
        assert await body(second, "key", batch_id) == before
        assert second.world.bill_of("key") == bill


# Plans


async def test_a_plan_is_put_shown_and_cleared_over_http(emulator: Emulator, claude: AsyncAnthropic) -> None:
    async with raw(emulator) as client:
        rules = [{"call": "list", "nth": 1, "do": {"status": 500}}]
        assert (await client.put("/_emulator/faults", json=rules)).json()["rules"][0]["struck"] == 0
        assert await outcomes(claude, 2) == "ra"
        shown = (await client.get("/_emulator/faults")).json()
        assert shown == {"rules": [{"rule": {"call": "list", "nth": [1], "do": {"status": 500}}, "struck": 1}]}
        refused = await client.put("/_emulator/faults", content="- call: list\n  do: {statsu: 500}\n")
        assert refused.status_code == 400
        assert refused.json()["error"]["message"] == (
            "rule 1 (call: list): `do.statsu`: no such key here; did you mean `status`?"
        )
        assert (await client.get("/_emulator/faults")).json() == shown
        assert (await client.delete("/_emulator/faults")).json() == {"rules": []}
    assert await outcomes(claude, 1) == "a"


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ("call: list", "a plan is a list"),
        ("- {do: {status: 500}}", "rule 1: has to have one of the keys"),
        ("- [", "YAML"),
        ("- {call: create, do: {}}", "rule 1 (call: create): `do`: says nothing to do"),
        ("- {call: create, do: {status: 418}}", "`do.status`: Input should be 400"),
        ("- {call: create, do: {drop: after, moment: after}}", "`do.moment`: no such key here"),
        ("- {call: create, do: {cut_mid_line: 3}}", "cut_mid_line: only for `call: results`"),
        ("- {call: results, do: {lag_seconds: 3}}", "lag_seconds: only for `call: list`"),
        ("- {call: results, do: {cut_mid_line: 3, end_after_lines: 2}}", "a stream ends once"),
        ("- {call: invent, do: {drop: after}}", "rule 1 (call: invent): `call`: Input should be 'create'"),
        ("- {call: create, model: claude-haiku-5-5, do: {status: 404}}", "model: only for `call: messages`"),
        ("- {call: results, do: {cut_after_deltas: 3}}", "cut_after_deltas: only for `call: messages`"),
        ("- {call: messages, do: {cut_after_deltas: 3, end_after_deltas: 3}}", "a stream breaks once"),
        ("- {call: messages, do: {stall_after_delta: 3}}", "did you mean `stall_after_deltas`?"),
        ("- {rows: {for_second: 2}, result: missing}", "did you mean `for_seconds`?"),
        ("- {rows: {}, result: {errored: api_eror}}", "rule 1 (rows): `result.errored`: Input should be"),
        ("- {rows: {}, result: {expired: true, missing: true}}", "a row has one result"),
        ("- {rows: {nths: 2}, result: missing}", "`rows.nths`: no such key here; did you mean `nth`?"),
        ("- {rows: {share: 1.5}, result: missing}", "`rows.share`: Input should be less than or equal to 1"),
        ("- {batch: {}, do: {canceld: 0.5}}", "`do.canceld`: no such key here; did you mean `canceled`?"),
        ("- {batch: {}, do: {canceled: 0.5, expired: 0.5}}", "a batch ends once"),
    ],
)
def test_a_plan_with_a_mistake_is_refused_and_says_where(plan: str, told: str) -> None:
    with pytest.raises(PlanError) as refused:
        read_plan(plan)
    assert told in str(refused.value)


def test_the_example_in_the_manual_is_a_plan(tmp_path: Path) -> None:
    manual = (Path(__file__).parent.parent / "emulator" / "README.md").read_text()
    plan = tmp_path / "plan.yaml"
    plan.write_text(manual.partition("```yaml\n")[2].partition("```")[0])
    assert len(read_plan(plan)) >= 10


def test_the_command_loads_a_plan_and_refuses_one_with_a_mistake(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    command = [sys.executable, "-m", "emulator", "--port", "0", "--until-stdin-closes", "--faults", str(plan)]
    plan.write_text("- {call: list, do: {status: 500}}")
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    url = process.stdout.readline().split()[-1]
    assert httpx2.get(f"{url}{BATCHES}", headers=HEADERS).status_code == 500
    assert process.communicate(timeout=10)[1] == ""
    plan.write_text("- {call: list, dow: {status: 500}}")
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, "did you mean `do`" in refused.stderr) == (2, True)


# Bills


def nano_by_hand(usage: Any) -> int:
    """What a direct call of Haiku 5.5 would cost, its prompt cached for an hour."""
    read, written = usage.cache_read_input_tokens * 10, usage.cache_creation_input_tokens * 200
    return usage.input_tokens * 100 + usage.output_tokens * 500 + read + written


async def test_a_bill_is_worked_out_reply_by_reply(emulator: Emulator, claude: AsyncAnthropic, key: str) -> None:
    batch_id = await made(claude, 5, system=LONG_RULES)
    said = await claude.messages.create(model="claude-opus-5-5", max_tokens=50, messages=HELLO)
    expected = round(said.usage.input_tokens * 4 + said.usage.output_tokens * 20)
    bill = emulator.world.bill_of(key)
    assert bill["direct"]["cost_micro"] == expected
    async with raw(emulator) as client:
        told = (await client.get("/_emulator/ledger", params={"api_key": key})).json()
        whole = (await client.get("/_emulator/ledger")).json()
    assert told == {"account": bill}
    used = [result.message.usage for result in (await results(claude, batch_id)).values()]
    micro = [int(nano_by_hand(usage) / 2000 + 0.5) for usage in used]
    assert whole["batches"][batch_id]["cost_micro"] == bill["by_batch"][batch_id]["cost_micro"] == sum(micro)
    mine = whole["workspaces"][bill["workspace"]]
    assert (mine["cost_micro"], mine["requests"]) == (sum(micro) + expected, 6)
    assert (mine["batches"], mine["batches_created"]) == (1, 1)


@pytest.mark.parametrize(("letters", "micro_per_token"), [(300_000, 0.05), (420_000, 0.25)])
async def test_a_long_prompt_is_dearer_as_a_whole(
    emulator: Emulator, claude: AsyncAnthropic, key: str, letters: int, micro_per_token: float
) -> None:
    batch_id = await made(claude, 1, messages=[{"role": "user", "content": "x" * letters}])
    usage = (await results(claude, batch_id))["r-0"].message.usage
    exact = usage.input_tokens * micro_per_token + usage.output_tokens * micro_per_token * 5
    assert emulator.world.bill_of(key)["cost_micro"] == int(exact + 0.5)


async def test_a_prompt_stays_cached_and_a_direct_call_billed_over_a_restart(tmp_path: Path) -> None:
    async def created(emulator: Emulator) -> int:
        found = await results(client_of(emulator), await made(client_of(emulator), 1, system=LONG_RULES))
        return found["r-0"].message.usage.cache_creation_input_tokens

    async def said(emulator: Emulator) -> None:
        await client_of(emulator).messages.create(model="claude-haiku-5-5", max_tokens=50, messages=HELLO)

    with start(tmp_path) as first:
        assert await created(first)
        await said(first)
        billed = first.world.bill_of("key")
    with start(tmp_path) as second:
        assert second.world.bill_of("key") == billed
        assert not await created(second)
        second.world.clock.advance(3601)
        assert await created(second)
