"""The requests themselves: what the model reads, as bytes.

What all rows share (system, tools, answer schema) is serialised once for a run and frozen there, because the API
binds a conversation's thinking to it. A row adds its own message, then its conversation so far, verbatim.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson

from rowtide.policies import STOPS, Do, policy_of


class Said(Protocol):
    """A turn, as the ledger gives it back."""

    def __getitem__(self, name: str, /) -> Any: ...


class Heard(Protocol):
    """A tool's outcome, as the ledger gives it back."""

    @property
    def call_id(self) -> str: ...
    @property
    def output(self) -> str: ...
    @property
    def is_error(self) -> int: ...


class Talk(Protocol):
    """A row's present conversation."""

    @property
    def turns(self) -> Sequence[Said]: ...
    @property
    def tool_records(self) -> Mapping[int, Sequence[Heard]]: ...
    @property
    def corrections(self) -> Mapping[int, str]: ...


def shared_part(instructions: str, tools: Sequence[dict[str, object]], schema: dict[str, object]) -> bytes:
    """The keys every request of a run has in common, as the inside of a JSON object."""
    cached = {"type": "ephemeral", "ttl": "1h"}
    shared: dict[str, object] = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    if tools:
        shared["tools"] = list(tools)
    if instructions:
        # One breakpoint at the end of the system text covers the tools too: they come before it.
        shared["system"] = [{"type": "text", "text": instructions, "cache_control": cached}]
    return orjson.dumps(shared)[1:-1]


def request(custom_id: str, *, head: bytes, shared: bytes, messages: bytes) -> bytes:
    """One element of a batch's `requests`."""
    return b'{"custom_id":"%b","params":{%b,%b,"messages":%b}}' % (custom_id.encode(), head, shared, messages)


def head(model_id: str, max_tokens: int) -> bytes:
    """The keys that differ by tier."""
    return orjson.dumps({"model": model_id, "max_tokens": max_tokens})[1:-1]


def messages(first: str, talk: Talk | None) -> bytes:
    """The row's own message, then its conversation so far."""
    spoken: list[dict[str, object]] = [{"role": "user", "content": first}]
    for said in talk.turns if talk else ():
        assert talk is not None
        if policy_of(STOPS, said["stop_reason"]).do is Do.LENGTHEN:
            continue  # a reply that was cut is asked for again as if it had never been
        if said["content"] != b"[]":  # the API takes no empty message
            spoken.append({"role": "assistant", "content": orjson.Fragment(said["content"])})
        if heard := talk.tool_records.get(said["turn"]):
            spoken.append({"role": "user", "content": [_tool_result(each) for each in heard]})
        elif told := talk.corrections.get(said["turn"]):
            spoken.append({"role": "user", "content": told})
    return orjson.dumps(spoken)


def _tool_result(heard: Heard) -> dict[str, object]:
    result: dict[str, object] = {"type": "tool_result", "tool_use_id": heard.call_id, "content": heard.output}
    return result | {"is_error": True} if heard.is_error else result


def custom_id(tag: str, row_no: int) -> str:
    """At most 64 of [A-Za-z0-9_-]: the batch's tag proves whose it is, the number says which row."""
    return f"{tag}-{row_no}"


def row_no_of(custom_id: str, tag: str) -> int | None:
    """The row a custom_id of this batch names, or None when it is not of this batch."""
    head, _, number = custom_id.rpartition("-")
    return int(number) if head == tag and number.isdigit() else None
