"""The shapes of the API's answers that Rowtide relies on, and how an answer differs from them.

A field that is not named here may come or not: nothing reads it. Taken from the API reference
(platform.claude.com/docs/en/api), and from what reply_parsing and api_outcomes read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictInt,
    StrictStr,
    Tag,
    TypeAdapter,
    ValidationError,
)


@dataclass(frozen=True, slots=True)
class ShapeDifference:
    """One place in which an answer is not what Rowtide relies on."""

    path: str
    """`result.message.usage.output_tokens`"""
    problem: str
    """In Pydantic's words; it quotes nothing of the answer."""


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Usage(_Shape):
    input_tokens: Annotated[StrictInt, Field(ge=0)]
    output_tokens: Annotated[StrictInt, Field(ge=0)]
    cache_creation_input_tokens: StrictInt | None = None
    cache_read_input_tokens: StrictInt | None = None


class _Text(_Shape):
    type: Literal["text"]
    text: StrictStr


class _Call(_Shape):
    type: Literal["tool_use"]
    id: StrictStr
    name: StrictStr
    input: dict[str, Any]


class _OtherBlock(_Shape):
    """Thinking, and what is yet to come: kept and sent back as it came."""

    type: StrictStr


def _kind_of_block(block: Any) -> str:
    kind = block.get("type") if isinstance(block, dict) else None
    return kind if kind in ("text", "tool_use") else "other"


_Block = Annotated[
    Annotated[_Text, Tag("text")] | Annotated[_Call, Tag("tool_use")] | Annotated[_OtherBlock, Tag("other")],
    Discriminator(_kind_of_block),
]


class Message(_Shape):
    """A reply to `POST /v1/messages`."""

    id: StrictStr
    type: Literal["message"]
    role: Literal["assistant"]
    model: StrictStr
    content: list[_Block]
    stop_reason: Literal["end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal", "pause_turn"]
    usage: _Usage


class TokenCount(_Shape):
    """A reply to `POST /v1/messages/count_tokens`."""

    input_tokens: Annotated[StrictInt, Field(gt=0)]


class _Error(_Shape):
    type: StrictStr
    message: StrictStr


class ErrorBody(_Shape):
    """What comes with a status of 400 and above."""

    type: Literal["error"]
    error: _Error


class _Counts(_Shape):
    processing: StrictInt
    succeeded: StrictInt
    errored: StrictInt
    canceled: StrictInt
    expired: StrictInt


class Batch(_Shape):
    """A message batch, as it is created, retrieved and listed."""

    id: StrictStr
    type: Literal["message_batch"]
    processing_status: Literal["in_progress", "canceling", "ended"]
    request_counts: _Counts
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    results_url: StrictStr | None


class BatchList(_Shape):
    """A page of batches, newest first."""

    data: Annotated[list[Batch], Field(min_length=1)]
    has_more: bool


class _Succeeded(_Shape):
    type: Literal["succeeded"]
    message: Message


class _Errored(_Shape):
    type: Literal["errored"]
    error: ErrorBody


class ResultLine(_Shape):
    """A line of a batch's results."""

    custom_id: StrictStr
    result: Annotated[_Succeeded | _Errored, Field(discriminator="type")]


class _MessageStart(_Shape):
    type: Literal["message_start"]
    message: dict[str, Any]


class _BlockStart(_Shape):
    type: Literal["content_block_start"]
    index: StrictInt
    content_block: dict[str, Any]


class _BlockDelta(_Shape):
    type: Literal["content_block_delta"]
    index: StrictInt
    delta: dict[str, Any]


class _BlockStop(_Shape):
    type: Literal["content_block_stop"]
    index: StrictInt


class _StopDelta(_Shape):
    stop_reason: StrictStr


class _StopUsage(_Shape):
    output_tokens: StrictInt


class _MessageDelta(_Shape):
    type: Literal["message_delta"]
    delta: _StopDelta
    usage: _StopUsage


class _MessageStop(_Shape):
    type: Literal["message_stop"]


STREAM_ORDER = ("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta")
EVENTS: Mapping[str, type[_Shape]] = {
    "message_start": _MessageStart,
    "content_block_start": _BlockStart,
    "content_block_delta": _BlockDelta,
    "content_block_stop": _BlockStop,
    "message_delta": _MessageDelta,
    "message_stop": _MessageStop,
}


def shape_differences(shape: type[BaseModel], answer: bytes) -> list[ShapeDifference]:
    """How a JSON answer differs from a shape; empty where it does not."""
    try:
        TypeAdapter(shape).validate_json(answer)
    except ValidationError as error:
        return [ShapeDifference(_path(each["loc"]), each["msg"]) for each in error.errors(include_input=False)]
    return []


def stream_differences(events: list[tuple[str, bytes]]) -> list[ShapeDifference]:
    """How a stream's events (name, JSON) differ from what Rowtide relies on: their shapes, and their order."""
    found = [
        ShapeDifference(f"{name}.{each.path}".rstrip("."), each.problem)
        for name, data in events
        if name in EVENTS
        for each in shape_differences(EVENTS[name], data)
    ]
    names = list(dict.fromkeys(name for name, _ in events if name in EVENTS))
    if names != [*STREAM_ORDER, "message_stop"]:
        words = f"expected {', '.join([*STREAM_ORDER, 'message_stop'])}; came {', '.join(names) or 'nothing'}"
        found.append(ShapeDifference("events", words))
    return list(dict.fromkeys(found))


def _path(place: tuple[int | str, ...]) -> str:
    """The place of a difference, without the tags that Pydantic puts in for a union's member."""
    tags = {"text", "tool_use", "other", "succeeded", "errored"}
    kept = [str(each) for before, each in zip(("", *place), place, strict=False) if not _is_tag(before, each, tags)]
    return ".".join(kept)


def _is_tag(before: int | str, each: int | str, tags: set[str]) -> bool:
    return each in tags and (isinstance(before, int) or before == "result")
