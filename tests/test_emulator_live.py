"""Direct calls as a busy client meets them: rates, writing speed, streams that break, models that are away, bills."""

import asyncio
import subprocess
import sys
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import httpx2
import orjson
import pytest
from anthropic import AsyncAnthropic

from emulator.clock import Clock
from emulator.server import Emulator, start
from emulator.settings import SettingsBook, SettingsError

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
HEADERS = {"x-api-key": "key", "anthropic-version": "2026-10-21"}
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
PARAMS: Any = {"model": HAIKU, "max_tokens": 400, "messages": HELLO}
LONG_RULES = [{"type": "text", "text": "rules " * 600, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
LETTER: Any = [{"role": "user", "content": f"note: {'word ' * 200}"}]


@pytest.fixture
def frozen() -> Generator[Emulator]:
    """Its clock stands still until somebody moves it."""
    with start(clock=Clock(frozen_at=NOON)) as emulator:
        yield emulator


@pytest.fixture
def claude(frozen: Emulator) -> AsyncAnthropic:
    return client_of(frozen)


def client_of(emulator: Emulator, key: str = "key") -> AsyncAnthropic:
    return AsyncAnthropic(base_url=emulator.url, api_key=key, max_retries=0)


async def rates(claude: AsyncAnthropic, **params: Any) -> dict[str, str]:
    """What a call says of the rates: `requests-remaining` and so on."""
    answer = await claude.messages.with_raw_response.create(**PARAMS | params)
    return told(answer.headers)


def told(headers: Any) -> dict[str, str]:
    start_of_name = "anthropic-ratelimit-"
    return {name.removeprefix(start_of_name): headers[name] for name in headers if name.startswith(start_of_name)}


async def refused(claude: AsyncAnthropic, **params: Any) -> anthropic.RateLimitError:
    with pytest.raises(anthropic.RateLimitError) as refusal:
        await claude.messages.create(**PARAMS | params)
    return refusal.value


async def result_of(claude: AsyncAnthropic, params: Any, **options: Any) -> Any:
    """What a batch of this one row gives."""
    batch = await claude.messages.batches.create(requests=[{"custom_id": "only", "params": params}], **options)
    return await anext(line.result async for line in await claude.messages.batches.results(batch.id))


# Rates


async def test_requests_run_out_come_back_with_time_and_every_answer_says_how_many_are_left(
    frozen: Emulator, claude: AsyncAnthropic
) -> None:
    frozen.world.settings.change(limits={"requests": 2})
    first, second = await rates(claude), await rates(claude)
    assert [each["requests-remaining"] for each in (first, second)] == ["1", "0"]
    assert (first["requests-limit"], first["requests-reset"]) == ("2", "2026-11-21T12:00:30.000000Z")
    refusal = await refused(claude)
    assert refusal.response.headers["retry-after"] == "30"
    assert told(refusal.response.headers)["requests-remaining"] == "0"
    assert "rate limit of 2 requests per minute" in refusal.message
    assert (await rates(claude, model=SONNET))["requests-remaining"] == "1"
    assert (await rates(client_of(frozen, "other")))["requests-remaining"] == "1"
    frozen.world.clock.advance(29)
    await refused(claude)
    frozen.world.clock.advance(1)
    assert (await rates(claude))["requests-remaining"] == "0"
    assert frozen.world.bill_of("key")["requests"] == 4


async def test_input_is_refused_before_it_is_read_and_what_is_cached_costs_nothing_of_it(
    frozen: Emulator, claude: AsyncAnthropic
) -> None:
    frozen.world.settings.change("key", limits={"input_tokens": 1100})
    first = await rates(claude, system=LONG_RULES)
    left = int(first["input-tokens-remaining"])
    assert left < 250
    again = await rates(claude, system=LONG_RULES)
    assert left - 30 < int(again["input-tokens-remaining"]) < left
    assert int(again["tokens-remaining"]) == int(again["input-tokens-remaining"]) + int(
        again["output-tokens-remaining"]
    )
    refusal = await refused(claude, messages=LETTER)
    assert "1,100 input tokens per minute" in refusal.message
    assert told(refusal.response.headers)["input-tokens-remaining"] == again["input-tokens-remaining"]
    frozen.world.clock.advance(int(refusal.response.headers["retry-after"]))
    await claude.messages.create(**PARAMS | {"messages": LETTER})


async def test_output_is_overdrawn_and_then_paid_back(frozen: Emulator, claude: AsyncAnthropic) -> None:
    frozen.world.settings.change(limits={"output_tokens": 30})
    said = await claude.messages.create(**PARAMS | {"messages": LETTER})
    refusal = await refused(claude)
    assert "30 output tokens per minute" in refusal.message
    reset = datetime.fromisoformat(told(refusal.response.headers)["output-tokens-reset"])
    assert reset == NOON + timedelta(seconds=said.usage.output_tokens * 2)
    frozen.world.clock.advance(int(refusal.response.headers["retry-after"]))
    await claude.messages.create(**PARAMS)


async def test_of_many_calls_at_once_no_more_get_in_than_there_is_room_for(
    frozen: Emulator, claude: AsyncAnthropic
) -> None:
    frozen.world.settings.change(limits={"requests": 7})
    answers = await asyncio.gather(*(claude.messages.create(**PARAMS) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(each, anthropic.RateLimitError) for each in answers) == 13
    with start() as other:
        async with httpx2.AsyncClient(base_url=other.url, params={"api_key": "key"}) as operator:
            path = "/_emulator/settings"
            await operator.put(path, json={"limits": {"requests": 1}})
            await rates(client_of(other))
            await refused(client_of(other))
            seen = (await operator.get(path)).json()
            assert (seen["remaining"]["haiku"]["requests"], seen["refused"]) == (0, {"requests": 1})
            wrong = await operator.put(path, json={"limits": {"request": 1}})
            assert wrong.status_code == 400
            assert "`limits.request`: no such key here; did you mean `requests`?" in wrong.text
            assert (await operator.delete(path)).json()["limits"]["requests"] == 10_000
            await rates(client_of(other))


async def test_counting_tokens_has_a_rate_of_its_own_and_takes_from_no_other(
    frozen: Emulator, claude: AsyncAnthropic
) -> None:
    frozen.world.settings.change(limits={"count_tokens": 1, "requests": 1})
    await claude.messages.count_tokens(model=HAIKU, messages=HELLO)
    with pytest.raises(anthropic.RateLimitError):
        await claude.messages.count_tokens(model=HAIKU, messages=HELLO)
    assert (await rates(claude))["requests-remaining"] == "0"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"limits": {"requests": 0}}, "limits.requests"),
        ({"reply_seconds": (2, 1)}, "LOW must be"),
        ({"hardnes": "features"}, "did you mean `hardness`"),
        ({"limits": 3}, "limits"),
    ],
)
def test_a_setting_that_makes_no_sense_changes_nothing(given: dict[str, Any], problem: str) -> None:
    book = SettingsBook(limits={"requests": 5})
    with pytest.raises(SettingsError, match=problem):
        book.change("key", **given)
    assert book.of(None).limits.requests == 5


# Time


async def test_a_stream_is_written_over_the_time_a_reply_takes_in_small_pieces_and_with_pings() -> None:
    asked, time = PARAMS | {"messages": LETTER, "max_tokens": 4000}, asyncio.get_running_loop().time
    events: list[tuple[float, dict[str, Any]]] = []
    with start(reply_seconds=(0.3, 0.5)) as emulator:
        async with httpx2.AsyncClient(base_url=emulator.url, headers=HEADERS) as client:
            async with client.stream("POST", "/v1/messages", json=asked | {"stream": True}) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: "):
                        events.append((time(), orjson.loads(line.removeprefix("data: "))))
            begun = time()
            whole = (await client.post("/v1/messages", json=asked)).json()
            assert 0.3 <= time() - begun < 5
    pieces = [
        (at, event["delta"]["text"]) for at, event in events if event.get("delta", {}).get("type") == "text_delta"
    ]
    assert "".join(text for _, text in pieces) == whole["content"][-1]["text"]
    assert (len(pieces) > 50, max(len(text) for _, text in pieces) <= 12) == (True, True)
    assert pieces[-1][0] - pieces[0][0] > 0.15
    assert sum(event["type"] == "ping" for _, event in events) > 1


async def test_the_same_request_takes_the_same_time_and_another_another() -> None:
    with start(reply_seconds=(0, 60)) as emulator:
        answer, asked = emulator.world.direct.answer, [PARAMS, PARAMS, PARAMS | {"messages": LETTER}]
        first, again, other = (answer("wrkspc_01", params, "2026-10-21").seconds for params in asked)
    assert 0 <= first == again != other <= 60


# Streams that break


async def streamed(claude: AsyncAnthropic, seen: list[str]) -> Any:
    async with claude.messages.stream(**PARAMS | {"messages": LETTER}) as stream:
        async for text in stream.text_stream:
            seen.append(text)
        return await stream.get_final_message()


@pytest.mark.parametrize(
    ("act", "error"),
    [
        ({"error_after_deltas": 4}, anthropic.APIStatusError),
        ({"error_after_deltas": 4, "error": "api_error"}, anthropic.APIStatusError),
        ({"cut_after_deltas": 4}, httpx2.RemoteProtocolError),
    ],
)
async def test_a_stream_breaks_in_the_middle_and_a_whole_reply_does_not(
    frozen: Emulator, claude: AsyncAnthropic, act: dict[str, Any], error: type[Exception]
) -> None:
    frozen.world.faults.load([{"call": "messages", "first": 2, "do": act}])
    await claude.messages.create(**PARAMS)
    seen: list[str] = []
    with pytest.raises(error) as broken:
        await streamed(claude, seen)
    assert 1 <= len(seen) <= 4
    if isinstance(broken.value, anthropic.APIStatusError):
        assert broken.value.type == act.get("error", "overloaded_error")
    assert (await streamed(claude, [])).stop_reason == "end_turn"
    assert frozen.world.faults.aim.view()["rules"][0]["struck"] == 1


async def test_a_stream_ends_without_a_word_or_stalls_and_goes_on(frozen: Emulator, claude: AsyncAnthropic) -> None:
    frozen.world.faults.load(
        [
            {"call": "messages", "nth": 1, "do": {"end_after_deltas": 4}},
            {"call": "messages", "nth": 2, "do": {"stall_after_deltas": 4, "stall_seconds": 0.3}},
        ]
    )
    seen: list[str] = []
    assert (await streamed(claude, seen)).stop_reason is None
    assert len(seen) <= 4
    begun = asyncio.get_running_loop().time()
    assert (await streamed(claude, [])).stop_reason == "end_turn"
    assert asyncio.get_running_loop().time() - begun >= 0.3


# Models that are away


async def test_one_model_can_be_missing_in_calls_and_rows_while_the_others_answer(
    frozen: Emulator, claude: AsyncAnthropic
) -> None:
    frozen.world.faults.load(
        [
            {"call": "messages", "model": HAIKU, "do": {"status": 404}},
            {"rows": {"model": HAIKU}, "result": {"errored": "not_found_error"}},
        ]
    )
    with pytest.raises(anthropic.NotFoundError, match=f"model: {HAIKU}"):
        await claude.messages.create(**PARAMS)
    lost = await result_of(claude, PARAMS)
    assert (lost.type, lost.error.error.type, lost.error.error.message) == (
        "errored",
        "not_found_error",
        f"model: {HAIKU}",
    )
    assert (await claude.messages.create(**PARAMS | {"model": SONNET})).stop_reason == "end_turn"
    assert (await result_of(claude, PARAMS | {"model": SONNET})).type == "succeeded"


async def test_one_model_can_be_overloaded_for_its_first_calls_and_rows(
    frozen: Emulator, claude: AsyncAnthropic
) -> None:
    frozen.world.faults.load(
        [
            {"call": "messages", "model": HAIKU, "first": 2, "do": {"status": 529}},
            {"rows": {"model": HAIKU, "first": 1}, "result": {"errored": "overloaded_error"}},
        ]
    )
    await claude.messages.create(**PARAMS | {"model": SONNET})
    for _ in range(2):
        with pytest.raises(anthropic.InternalServerError) as overloaded:
            await claude.messages.create(**PARAMS)
        assert (overloaded.value.status_code, overloaded.value.type) == (529, "overloaded_error")
    await claude.messages.create(**PARAMS)
    await result_of(claude, PARAMS | {"model": SONNET})
    assert [(await result_of(claude, PARAMS)).type for _ in range(2)] == ["errored", "succeeded"]


async def test_an_outage_begins_and_ends_by_the_emulators_clock(frozen: Emulator, claude: AsyncAnthropic) -> None:
    window = {"after_seconds": 10, "for_seconds": 20}
    frozen.world.faults.load(
        [
            {"call": "messages", "model": HAIKU, **window, "do": {"status": 529}},
            {"rows": {"model": HAIKU, **window}, "result": {"errored": "overloaded_error"}},
        ]
    )
    seen = ""
    for _ in range(4):
        row = (await result_of(claude, PARAMS)).type
        try:
            await claude.messages.create(**PARAMS)
            seen += "a" if row == "succeeded" else "?"
        except anthropic.InternalServerError:
            seen += "r" if row == "errored" else "?"
        frozen.world.clock.advance(10)
    assert seen == "arra"


# Counts, and what models hear of each other


def conversation(said: Any, model: str, *more: Any) -> Any:
    answered = {"role": "assistant", "content": [block.to_dict() for block in said.content]}
    return PARAMS | {"model": model, "messages": [*HELLO, answered, {"role": "user", "content": "And now?"}, *more]}


def prompt_of(usage: Any) -> int:
    return usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens


@pytest.mark.parametrize("model", [HAIKU, OPUS])
async def test_what_is_counted_is_what_a_call_and_a_row_are_billed_for(claude: AsyncAnthropic, model: str) -> None:
    tool = {"name": "find", "description": "Find it.", "input_schema": {"type": "object", "properties": {}}}
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    form = {"effort": "low", "format": {"type": "json_schema", "schema": schema}}
    first = await claude.messages.create(**PARAMS | {"model": SONNET})
    asked: list[Any] = [
        {**PARAMS, "model": model},
        {**PARAMS, "model": model, "system": LONG_RULES, "tools": [tool], "output_config": form},
        conversation(first, model),
    ]
    for given in asked:
        without: Any = {name: given[name] for name in given if name != "max_tokens"}
        counted = await claude.messages.count_tokens(**without)
        for _ in range(2):
            assert prompt_of((await claude.messages.create(**given)).usage) == counted.input_tokens
        assert prompt_of((await result_of(claude, given)).message.usage) == counted.input_tokens
    with pytest.raises(anthropic.BadRequestError, match="max_tokens: Extra inputs are not permitted"):
        await claude.messages.count_tokens(model=HAIKU, messages=HELLO, extra_body={"max_tokens": 5})


async def test_thinking_that_a_model_cannot_read_is_dropped_unbilled_and_told_if_asked(claude: AsyncAnthropic) -> None:
    """Sonnet thinks first; Opus hears it, Haiku does not; then Sonnet goes on with what all three have said."""
    beta = {"anthropic-beta": "thinking-binding-controls-2026-08-01"}
    said = await claude.messages.create(**PARAMS | {"model": SONNET})
    by_haiku = await claude.messages.create(**conversation(said, HAIKU), extra_headers=beta)
    by_opus = await claude.messages.create(**conversation(said, OPUS), extra_headers=beta)
    dropped = [{"type": "thinking_dropped", "path": "messages.1.content.0", "reason": "model_binding_mismatch"}]
    assert (by_haiku.to_dict()["input_transformations"], by_opus.to_dict()["input_transformations"]) == (dropped, [])
    assert prompt_of(by_opus.usage) > prompt_of(by_haiku.usage) + 30
    assert "input_transformations" not in (await claude.messages.create(**conversation(said, HAIKU))).to_dict()

    later = [
        {"role": "assistant", "content": [b.to_dict() for b in by_opus.content]},
        {"role": "user", "content": "So?"},
    ]
    switched = conversation(said, SONNET, *later)
    live = await claude.messages.create(**switched, extra_headers=beta)
    in_batch = (await result_of(claude, switched, extra_headers=beta)).message
    for message in (live, in_batch):
        assert [each["path"] for each in message.to_dict()["input_transformations"]] == ["messages.3.content.0"]
    assert prompt_of(live.usage) == prompt_of(in_batch.usage)


async def test_earlier_thinking_is_bound_to_its_words_too_though_another_model_spoke_last(
    claude: AsyncAnthropic,
) -> None:
    said = await claude.messages.create(**PARAMS)
    opus = await claude.messages.create(**conversation(said, OPUS))
    later = [{"role": "assistant", "content": [b.to_dict() for b in opus.content]}, {"role": "user", "content": "So?"}]
    again = conversation(said, HAIKU, *later)
    await claude.messages.create(**again)
    moved = again | {"system": "Be brief."}
    with pytest.raises(anthropic.BadRequestError, match=r"messages\.1\.content\.0: Invalid `signature`"):
        await claude.messages.create(**moved)
    dropped = (await result_of(claude, moved)).message.usage
    kept = (await result_of(claude, again)).message.usage
    assert dropped.input_tokens < kept.input_tokens


# Bills


async def test_a_bill_says_what_each_lane_and_each_model_cost_and_a_batch_pays_half(
    frozen: Emulator, claude: AsyncAnthropic
) -> None:
    given = PARAMS | {"model": OPUS}
    await claude.messages.create(**given)
    async with claude.messages.stream(**given) as stream:
        await stream.get_final_message()
    await result_of(claude, given)
    await claude.messages.create(**PARAMS)
    async with httpx2.AsyncClient(base_url=frozen.url) as operator:
        ledger = (await operator.get("/_emulator/ledger")).json()
    lanes = ledger["by_lane"]
    costs = {lane: lanes[lane]["by_model"][OPUS]["cost_micro"] for lane in ("live", "stream", "batch")}
    assert costs["live"] == costs["stream"] == 2 * costs["batch"]
    assert lanes["live"]["by_model"][HAIKU]["requests"] == 1
    assert sum(lane["cost_micro"] for lane in lanes.values()) == ledger["total"]["cost_micro"]
    assert frozen.world.bill_of("key")["by_lane"] == lanes


def test_the_command_takes_rates_and_times_and_refuses_a_rate_there_is_not() -> None:
    command = [sys.executable, "-m", "emulator", "--port", "0", "--until-stdin-closes"]
    options = ["--limits", "requests=1,output-tokens=500", "--reply-seconds", "0..0.01", "--hardness", "features"]
    process = subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    url = process.stdout.readline().split()[-1]
    answers = [httpx2.post(f"{url}/v1/messages", headers=HEADERS, json=PARAMS).status_code for _ in range(2)]
    assert answers == [200, 429]
    assert httpx2.get(f"{url}/_emulator/settings").json()["hardness"] == "features"
    process.communicate(timeout=10)
    refusal = subprocess.run([*command, "--limits", "request=1"], capture_output=True, text=True, check=False)
    assert (refusal.returncode, "did you mean `requests`" in refusal.stderr) == (2, True)
