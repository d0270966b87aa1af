"""Rows and direct messages of the emulator: what succeeds, what is refused, and in which words."""

from collections.abc import AsyncGenerator, Generator
from typing import Any

import anthropic
import httpx2
import orjson
import pytest
from anthropic import AsyncAnthropic

from emulator.server import Emulator, start

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
PARAMS: Any = {"model": "claude-haiku-5-5", "max_tokens": 100, "messages": HELLO}
OPUS: Any = {"model": "claude-opus-5-5"}
OLD_HAIKU: Any = {"model": "claude-haiku-4-5-20251001"}
TOOL = {"name": "find", "description": "Find it.", "input_schema": {"type": "object", "properties": {}}}
FOUND_WITHOUT = "`tool_use` ids were found without `tool_result` blocks immediately after: toolu_01x."


def result_of(call_id: str = "toolu_01x") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": "42"}


ASKED: dict[str, Any] = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "toolu_01x", "name": "find", "input": {}}],
}
SAID = {"role": "assistant", "content": "hello"}


def saying(*messages: object) -> dict[str, Any]:
    return {"messages": [*HELLO, *messages]}


def output(schema: dict[str, Any]) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def an_object(*inner: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    fields = {f"it{n or ''}": each for n, each in enumerate(inner)}
    needed = [*fields] if required is None else required
    return output({"type": "object", "properties": fields, "required": needed, "additionalProperties": False})


def tool(schema: dict[str, Any]) -> dict[str, Any]:
    return {"tools": [{**TOOL, "input_schema": schema}]}


def asking(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


@pytest.fixture(scope="module")
def emulator() -> Generator[Emulator]:
    with start() as running:
        yield running


@pytest.fixture
async def claude(emulator: Emulator) -> AsyncGenerator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=emulator.url, api_key="key", max_retries=0) as client:
        yield client


async def row_result(claude: AsyncAnthropic, params: dict[str, Any], **options: Any) -> dict[str, Any]:
    """What a batch of one row gives."""
    requests: Any = [{"custom_id": "only", "params": params}]
    batch = await claude.messages.batches.create(requests=requests, **options)
    found = [line.result.to_dict() async for line in await claude.messages.batches.results(batch.id)]
    assert len(found) == 1
    counts = (await claude.messages.batches.retrieve(batch.id)).request_counts
    assert getattr(counts, str(found[0]["type"])) == 1
    return found[0]


async def raw_row(emulator: Emulator, params: dict[str, Any]) -> dict[str, Any]:
    headers = {"x-api-key": "key", "anthropic-version": "2023-06-01"}
    async with httpx2.AsyncClient(base_url=emulator.url, headers=headers) as client:
        envelope = {"requests": [{"custom_id": "only", "params": params}]}
        batch = (await client.post("/v1/messages/batches", json=envelope)).json()
        return orjson.loads((await client.get(f"/v1/messages/batches/{batch['id']}/results")).content)


async def test_a_succeeded_row_is_a_whole_message(emulator: Emulator) -> None:
    line = await raw_row(emulator, PARAMS | OLD_HAIKU)
    message = line["result"]["message"]
    assert (line["custom_id"], line["result"]["type"]) == ("only", "succeeded")
    assert message.pop("id").startswith("msg_01")
    assert message == {
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5-20251001",
        "content": [{"type": "text", "text": "Done."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": {
            "input_tokens": 9,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 8,
            "service_tier": "batch",
            "inference_geo": "not_available",
        },
    }


async def test_an_errored_row_carries_an_error_and_no_usage(emulator: Emulator) -> None:
    line = await raw_row(emulator, PARAMS | {"model": "claude-does-not-exist-9"})
    error = {
        "details": {"error_visibility": "user_facing"},
        "type": "not_found_error",
        "message": "model: claude-does-not-exist-9",
    }
    wrapped = {"type": "error", "error": error, "request_id": None}
    assert line == {"custom_id": "only", "result": {"type": "errored", "error": wrapped}}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"model": "claude-haiku-5-5", "max_tokens": 9}, "messages: Field required"),
        ({"max_tokens": 9, "messages": HELLO}, "model: Field required"),
        ({"model": "claude-haiku-5-5", "messages": HELLO}, "max_tokens: Field required"),
        (PARAMS | {"stream": True}, '"stream=True" is not supported in the Message Batches API'),
        (PARAMS | {"max_tokens": 0}, "max_tokens: must be greater than or equal to 1"),
        (
            PARAMS | OLD_HAIKU | {"max_tokens": 9999999},
            "max_tokens: 9999999 > 64000, which is the maximum allowed number of output tokens for "
            "claude-haiku-4-5-20251001",
        ),
        (PARAMS | {"speed": "fast"}, '"speed" is not supported in the Message Batches API'),
        (PARAMS | {"tools": [{**TOOL, "x": 1}]}, "tools.0.custom.x: Extra inputs are not permitted"),
        (PARAMS | {"frobnicate": 1}, "frobnicate: Extra inputs are not permitted"),
        (PARAMS | {"temperature": 1.0}, "temperature: Extra inputs are not permitted"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
async def test_a_row_that_makes_no_sense_comes_back_errored(
    claude: AsyncAnthropic, params: dict[str, Any], message: str
) -> None:
    result = await row_result(claude, params)
    assert result["type"] == "errored"
    assert (result["error"]["error"]["type"], result["error"]["error"]["message"]) == ("invalid_request_error", message)


async def test_sampling_is_refused_only_in_the_newest_version(claude: AsyncAnthropic) -> None:
    sampled = PARAMS | {"temperature": 0.5, "top_k": 3}
    older = {"anthropic-version": "2023-06-01"}
    assert (await row_result(claude, sampled))["type"] == "errored"
    assert (await row_result(claude, sampled, extra_headers=older))["type"] == "succeeded"


async def test_long_output_is_for_batches_with_its_beta(claude: AsyncAnthropic) -> None:
    long = PARAMS | {"max_tokens": 300_000}
    beta = {"anthropic-beta": "output-300k-2026-03-24"}
    assert (await row_result(claude, long))["type"] == "errored"
    assert (await row_result(claude, long, extra_headers=beta))["type"] == "succeeded"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (saying(ASKED), FOUND_WITHOUT),
        (saying(ASKED, {"role": "user", "content": "well?"}), FOUND_WITHOUT),
        (saying(SAID, {"role": "user", "content": [result_of()]}), "unexpected `tool_use_id` found in `tool_result`"),
        (
            saying(ASKED, {"role": "user", "content": [{"type": "text", "text": "so"}, result_of()]}),
            "`tool_result` blocks must come first",
        ),
        (saying(SAID), "This model does not support assistant message prefill."),
        (saying({"role": "user", "content": ""}), "messages.1: user messages must have non-empty content"),
        ({"tools": [TOOL, TOOL]}, "tools: Tool names must be unique."),
        (
            {"tools": [{**TOOL, "name": "a.b"}]},
            "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
        ),
        (tool({"type": "string"}), "tools.0.custom.input_schema.type: Input should be 'object'"),
        (
            tool({"type": "object", "anyOf": [{"required": ["a"]}]}),
            "tools.0.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level",
        ),
        (
            tool({"type": "object", "properties": {"$top": {"type": "integer"}}}),
            "tools.0.custom.input_schema.properties: Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'",
        ),
        (
            tool({"type": "object", "properties": {"a": {"type": "int"}}}),
            "tools.0.custom.input_schema: JSON schema is invalid. It must match JSON Schema draft 2020-12",
        ),
        (
            an_object(*[{"type": ["string", "null"]}] * 17),
            "Schemas contains too many parameters with union types (17 parameters with type arrays or anyOf)",
        ),
        (
            an_object(*[{"type": "string"}] * 25, required=[]),
            "Schemas contains too many optional parameters (25), which would make grammar compilation inefficient",
        ),
        (saying(asking("")), "messages: text content blocks must be non-empty"),
        (saying(asking(" \n")), "messages: text content blocks must contain non-whitespace text"),
        ({"system": [{"type": "text", "text": " "}]}, "system: text content blocks must contain non-whitespace text"),
        (
            saying({"role": "assistant", "content": [{**ASKED["content"][0], "id": "a b"}]}),
            "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
        ),
        (
            OPUS | {"tools": [TOOL], "tool_choice": {"type": "any"}},
            'tool_choice: type "tool" and "any" are not supported for this model.',
        ),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "find"}}, "Thinking may not be enabled when"),
        (OPUS | {"thinking": {"type": "disabled"}}, '"thinking.type.disabled" is not supported for this model.'),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
            '"output_config.effort" to control thinking behavior.',
        ),
        ({"output_config": {"effort": "huge"}}, "output_config.effort: Input should be"),
        (output({"type": "object", "properties": {}}), "'additionalProperties' must be explicitly set to false"),
        (an_object({"type": "integer", "minimum": 1}), "For 'integer' type, properties minimum are not supported"),
        (an_object({"type": "string", "maxLength": 1}), "For 'string' type, properties maxLength are not supported"),
        (an_object({"$ref": "https://example.com/x"}), "External $ref"),
        (an_object({"$ref": "#"}), "Circular"),
        (
            {"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}] * 5},
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        (
            saying({"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": "?"}]}, *HELLO),
            "messages.1.content.0: Invalid `signature` in `thinking` block",
        ),
        (
            saying({"role": "assistant", "content": [{"type": "document", "source": {}}]}, *HELLO),
            "`document` blocks are not permitted in `assistant` messages",
        ),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
async def test_a_request_is_refused_alike_in_a_row_a_call_and_a_count(
    claude: AsyncAnthropic, change: dict[str, Any], message: str
) -> None:
    params: dict[str, Any] = PARAMS | change
    refused = (await row_result(claude, params))["error"]["error"]
    assert refused["type"] == "invalid_request_error"
    assert message in refused["message"]
    with pytest.raises(anthropic.BadRequestError) as direct:
        await claude.messages.create(**params)
    assert direct.value.body["error"]["message"] == refused["message"]  # type: ignore[index]  # typed as object
    if "signature" not in message:
        with pytest.raises(anthropic.BadRequestError):
            await claude.messages.count_tokens(**{name: params[name] for name in params if name != "max_tokens"})


async def test_a_prompt_larger_than_the_context_is_refused(claude: AsyncAnthropic) -> None:
    long = PARAMS | OLD_HAIKU | {"messages": [{"role": "user", "content": "x" * 800_000}]}
    refused = (await row_result(claude, long))["error"]["error"]
    assert refused["message"] == "prompt is too long: 200008 tokens > 200000 maximum"


async def test_an_unknown_model_is_not_found(claude: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="model: claude-nope"):
        await claude.messages.create(**PARAMS | {"model": "claude-nope"})


async def test_tokens_are_counted_as_they_will_be_billed(claude: AsyncAnthropic) -> None:
    counted = await claude.messages.count_tokens(
        model="claude-haiku-5-5", messages=[{"role": "user", "content": "hello"}]
    )
    said = await claude.messages.create(**PARAMS)
    assert counted.input_tokens == said.usage.input_tokens > 0


async def test_a_tool_call_has_an_id_an_object_and_a_caller(claude: AsyncAnthropic) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    tools = [{"name": "find", "input_schema": schema}]
    row = [{"role": "user", "content": "name: Acme"}]
    said = await claude.messages.create(**PARAMS | {"messages": row, "tools": tools})
    thinking, call = (block.to_dict() for block in said.content)
    assert (said.stop_reason, thinking["type"], thinking["thinking"]) == ("tool_use", "thinking", "")
    assert str(call.pop("id")).startswith("toolu_01")
    assert call == {"type": "tool_use", "name": "find", "input": {"name": "Acme"}, "caller": {"type": "direct"}}


@pytest.mark.parametrize("row", ["name: Acme", "hello", "[emulator:refuse]", "[emulator:truncate] hello"])
async def test_a_stream_tells_the_same_message_event_by_event(claude: AsyncAnthropic, row: str) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    params: dict[str, Any] = PARAMS | {
        "messages": [{"role": "user", "content": row}],
        "tools": [{"name": "find", "input_schema": schema}],
    }
    whole = await claude.messages.create(**params)
    async with claude.messages.stream(**params) as stream:
        events = [event.type async for event in stream]
        streamed = await stream.get_final_message()
    assert (events[0], events[-1]) == ("message_start", "message_stop")
    assert streamed.stop_reason == whole.stop_reason
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    without_ids = [[block.to_dict() | {"id": None} for block in message.content] for message in (streamed, whole)]
    assert [{**block, "parsed_output": None} for block in without_ids[0]] == [
        {**block, "parsed_output": None} for block in without_ids[1]
    ]


async def test_server_sent_events_come_in_order_with_a_ping(emulator: Emulator) -> None:
    headers = {"x-api-key": "key", "anthropic-version": "2026-10-21"}
    async with httpx2.AsyncClient(base_url=emulator.url, headers=headers) as client:
        answer = await client.post("/v1/messages", json=PARAMS | OLD_HAIKU | {"stream": True})
    events = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    block = ["content_block_start", "ping", "content_block_delta", "content_block_stop"]
    assert events == ["message_start", *block, "message_delta", "message_stop"]


async def test_what_exceeds_max_tokens_is_cut(claude: AsyncAnthropic) -> None:
    said = await claude.messages.create(**PARAMS | OLD_HAIKU | {"max_tokens": 2})
    assert (said.stop_reason, said.usage.output_tokens) == ("max_tokens", 2)


async def test_thinking_that_comes_back_after_other_words_fails_a_call_and_is_dropped_in_a_batch(
    claude: AsyncAnthropic,
) -> None:
    said = await claude.messages.create(**PARAMS)
    answered = {"role": "assistant", "content": [block.to_dict() for block in said.content]}
    same = PARAMS | {"messages": [*HELLO, answered, *HELLO]}
    moved = PARAMS | {"messages": [{"role": "user", "content": "goodbye"}, answered, *HELLO]}
    strict = moved | {"thinking": {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "error"}}}
    edited = {"role": "assistant", "content": [{**answered["content"][0], "thinking": "hm"}, *answered["content"][1:]]}
    assert (await claude.messages.create(**same)).stop_reason == "end_turn"
    with pytest.raises(anthropic.BadRequestError, match="The block is bound to a different conversation"):
        await claude.messages.create(**moved)
    with pytest.raises(anthropic.BadRequestError, match="cannot be modified"):
        await claude.messages.create(**PARAMS | {"messages": [*HELLO, edited, *HELLO]})
    assert (await claude.messages.create(**moved | OPUS)).stop_reason == "end_turn"
    assert (await row_result(claude, moved))["type"] == "succeeded"
    assert (await row_result(claude, strict))["type"] == "errored"


async def test_a_paused_turn_goes_on_when_it_is_sent_back(claude: AsyncAnthropic) -> None:
    asking = [{"role": "user", "content": "[emulator:pause] hello"}]
    paused = await claude.messages.create(**PARAMS | {"messages": asking})
    assert paused.stop_reason == "pause_turn"
    said = {"role": "assistant", "content": [block.to_dict() for block in paused.content]}
    assert (await claude.messages.create(**PARAMS | {"messages": [*asking, said]})).stop_reason == "end_turn"


async def test_a_refusal_says_of_which_kind_it_is(claude: AsyncAnthropic) -> None:
    said = await claude.messages.create(**PARAMS | {"messages": [{"role": "user", "content": "[emulator:refuse]"}]})
    assert said.stop_reason == "refusal"
    assert said.stop_details is not None
    assert said.stop_details.category == "general_harms"


async def test_models_are_listed_with_what_they_can_take(claude: AsyncAnthropic) -> None:
    listed = [model.id async for model in claude.models.list(limit=3)]
    haiku = await claude.models.retrieve("claude-haiku-5-5")
    assert haiku.id in listed
    assert (haiku.max_input_tokens, haiku.max_tokens) == (1_000_000, 128_000)
    with pytest.raises(anthropic.NotFoundError):
        await claude.models.retrieve("claude-nope")
