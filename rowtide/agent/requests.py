"""Builds requests as bytes: what the model reads.

What rows share (system, tools, answer schema) is serialized once for each set of skills and frozen in the ledger,
because the API caches it and binds a conversation's thinking to it. A row adds its own message, then its conversation
so far, verbatim.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Protocol

import orjson

from rowtide.agent.outcome_policies import STOPS, Do, policy_of
from rowtide.errors import UserMistake
from rowtide.job.job_spec import LimitsSpec
from rowtide.json_bytes import dump_json, parse_json
from rowtide.tiers.catalogue import Model
from rowtide.tools.tool_rules import fence_output

BYTES_PER_TOKEN = 4
IN_FULL = "it is paid for in full with every turn"
MARK = "cache_control"
OUTPUT = b'"output_config":{'
THOUGHT = ("thinking", "redacted_thinking")
MAY_BE_BLANK = re.compile(rb'"text":"[ "\\\xc2\xe1\xe2\xe3]')  # begins with what may be white space
BY_THE_API = "mcptoolu_"  # id prefix of calls that the API makes itself and whose results it has


Earlier = tuple[str, str]  # an earlier row's message, and its answer as JSON


class TaughtSkill(Protocol):
    """A skill to put into a prefix."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def body(self) -> str: ...


class ToolResult(Protocol):
    """A tool's result, as the ledger returns it."""

    @property
    def call_id(self) -> str: ...
    @property
    def tool(self) -> str: ...
    @property
    def output(self) -> str: ...
    @property
    def is_error(self) -> int: ...


class PastTurn(Protocol):
    """A turn, as the ledger returns it, with the tool results or the correction that followed."""

    @property
    def stop_reason(self) -> str: ...
    @property
    def content(self) -> bytes: ...
    @property
    def model(self) -> str | None: ...
    @property
    def tool_results(self) -> Sequence[ToolResult]: ...
    @property
    def correction(self) -> str: ...


def shared_request_part(
    instructions: str, tools: Sequence[dict[str, object]], schema: dict[str, object], skills: Sequence[TaughtSkill] = ()
) -> bytes:
    """Return the keys that all requests with these skills share, as the inside of a JSON object."""
    shared: dict[str, Any] = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    if tools:
        shared["tools"] = list(tools)
    return _inside(shared, instructions, skills)


def with_skills(shared: bytes, instructions: str, skills: Sequence[TaughtSkill]) -> bytes:
    """Return the shared part with other skills. Tools and schema stay as frozen."""
    return _inside(orjson.loads(b"{%b}" % shared), instructions, skills)


def with_effort(shared: bytes, effort: str | None) -> bytes:
    """Return the shared part with this effort, which is no part of what the API caches."""
    if effort is None:
        return shared
    assert shared.startswith(OUTPUT), "what a model is to put out comes first in a shared part"
    return b'%b"effort":"%b",%b' % (OUTPUT, effort.encode(), shared.removeprefix(OUTPUT))


def cacheable_tokens(shared: bytes) -> int:
    """Return about how many tokens of a shared part the API can cache: its tools and system."""
    found = orjson.loads(b"{%b}" % shared)
    return sum(len(orjson.dumps(found[part])) for part in ("tools", "system") if part in found) // BYTES_PER_TOKEN


def cache_warnings(lengths: Sequence[int], minimums: Mapping[str, int]) -> list[str]:
    """Return a warning if tiers (name → fewest cacheable tokens) cannot cache the shortest length, in tokens."""
    shortest = min(lengths, default=0)
    short_for = {tier: least for tier, least in minimums.items() if shortest < least}
    if not lengths or not short_for:
        return []
    short = sum(length < max(short_for.values()) for length in lengths)
    where = f" in the shortest of {short:,} prefixes" if short > 1 else ""
    tiers = ", ".join(f"{tier} ({least:,})" for tier, least in short_for.items())
    what = f"what rows share is about {shortest:,} tokens{where}, fewer than can be cached by {tiers}"
    return [f"{what}; {IN_FULL}"]


def check_shared_part_size(shared: bytes, models: Iterable[Model], limits: LimitsSpec) -> None:
    """Raise UserMistake when not even an empty row would fit beside the shared part.

    Its tokens are estimated from its bytes.
    """
    found = orjson.loads(b"{%b}" % shared)
    parts = ", ".join(f"{part} {len(orjson.dumps(found[part])):,}" for part in ("system", "tools") if part in found)
    tokens = len(shared) // BYTES_PER_TOKEN
    for model in models:
        if tokens + limits.max_tokens > model.context_tokens:
            raise UserMistake(
                f"what rows share is about {tokens:,} tokens (in bytes: {parts}), and a reply may take "
                f"{limits.max_tokens:,}: {model.alias} takes {model.context_tokens:,} in all, so the API would refuse "
                "every row",
                file="job.yaml",
                key="tiers",
            )
    if len(shared) > limits.batch_bytes:
        raise UserMistake(
            f"what rows share is {len(shared):,} bytes ({parts}), more than a batch may hold ({limits.batch_bytes:,})",
            file="job.yaml",
            key="limits.batch_bytes",
        )


def _inside(shared: dict[str, Any], instructions: str, skills: Sequence[TaughtSkill]) -> bytes:
    texts = [instructions] if instructions else []
    if skills:
        texts.append("\n\n".join(_lesson(skill) for skill in skills))
    system: list[dict[str, object]] = [{"type": "text", "text": text} for text in texts]
    tools: list[dict[str, object]] = [
        {key: value for key, value in tool.items() if key != MARK} for tool in shared.get("tools", [])
    ]
    # The API reads tools first, then system: one mark at the very end covers them all.
    if marked := system or tools:
        marked[-1] = {**marked[-1], MARK: {"type": "ephemeral", "ttl": "1h"}}
    parts = {"tools": tools, "system": system}
    kept = {key: value for key, value in shared.items() if key not in parts}
    return orjson.dumps(kept | {key: value for key, value in parts.items() if value})[1:-1]


def _lesson(skill: TaughtSkill) -> str:
    return f'<skill name="{skill.name}">\n{skill.description}\n\n{skill.body}\n</skill>'


def batch_request(custom_id: str, params: bytes) -> bytes:
    """Return one element of a batch's `requests`."""
    return b'{"custom_id":"%b","params":%b}' % (custom_id.encode(), params)


def request_params(head: bytes, shared: bytes, messages: bytes) -> bytes:
    """Return one request as a live call sends it, and a batch under `params`."""
    return b'{%b,%b,"messages":%b}' % (head, shared, messages)


@cache
def tier_keys(model_id: str, max_tokens: int, thinking: str | None = None) -> bytes:
    """Return the keys of a request that differ by tier, as the inside of a JSON object."""
    keys: dict[str, object] = {"model": model_id, "max_tokens": max_tokens}
    return orjson.dumps(keys | ({"thinking": {"type": thinking}} if thinking else {}))[1:-1]


def conversation_messages(
    first: str, talk: Iterable[PastTurn] = (), speaker: str | None = None, earlier: Sequence[Earlier] = ()
) -> bytes:
    """Return the messages: earlier rows with their answers, the row's own message, then its conversation so far.

    `speaker` is the model that is asked, if not the tier's own: other models' thinking is left out.
    """
    encoded = [*_rolling(earlier), _user_message(first)]
    for past in talk:
        if policy_of(STOPS, past.stop_reason).do is Do.EXTEND_MAX_TOKENS:
            continue  # a cut reply is asked for again as if it had never come
        content = past.content if past.model == speaker else _without_thoughts(past.content)
        content = _takeable(content, {each.call_id for each in past.tool_results})
        if content != b"[]":  # the API takes no empty message
            encoded.append(b'{"role":"assistant","content":%b}' % content)
        if tool_results := [
            _tool_result(each) for each in past.tool_results if not each.call_id.startswith(BY_THE_API)
        ]:
            encoded.append(_user_message(tool_results))
        elif past.correction:
            encoded.append(_user_message(past.correction))
    return b"[%b]" % b",".join(encoded)


def _rolling(earlier: Sequence[Earlier]) -> list[bytes]:
    """Return earlier rows as a conversation that grows from row to row; its end is marked, so that the next row's
    request hits the cache.
    """
    encoded: list[bytes] = []
    for number, (message, answer) in enumerate(earlier, 1):
        block: dict[str, object] = {"type": "text", "text": answer}
        if number == len(earlier):
            block[MARK] = {"type": "ephemeral"}
        encoded += [_user_message(message), orjson.dumps({"role": "assistant", "content": [block]})]
    return encoded


def _without_thoughts(content: bytes) -> bytes:
    return dump_json([block for block in parse_json(content) if block.get("type") not in THOUGHT])


def _takeable(content: bytes, answered: Collection[str]) -> bytes:
    """Return a reply in a form that the API accepts back: without blank text and without unanswered calls."""
    if not (MAY_BE_BLANK.search(content) or b'"tool_use"' in content):
        return content
    blocks = parse_json(content)
    kept = [block for block in blocks if not _is_blank(block) and not _is_unanswered(block, answered)]
    return content if len(kept) == len(blocks) else dump_json(kept)


def _is_blank(block: Mapping[str, Any]) -> bool:
    return block.get("type") == "text" and not block["text"].strip()


def _is_unanswered(block: Mapping[str, Any], answered: Collection[str]) -> bool:
    return block.get("type") == "tool_use" and block["id"] not in answered


def _user_message(content: str | list[dict[str, object]]) -> bytes:
    return b'{"role":"user","content":%b}' % orjson.dumps(content)


def _tool_result(tool_results: ToolResult) -> dict[str, object]:
    # Fenced by marks that no tool output can forge: output is data, whatever it says.
    past = fence_output(tool_results.tool, tool_results.output)
    result: dict[str, object] = {"type": "tool_result", "tool_use_id": tool_results.call_id, "content": past}
    return result | {"is_error": True} if tool_results.is_error else result


def custom_id(tag: str, row_no: int) -> str:
    """Return a request's custom_id, at most 64 of [A-Za-z0-9_-]: the tag proves whose batch it is, the number names the
    row.
    """
    return f"{tag}-{row_no}"


def row_no_of_custom_id(custom_id: str, tag: str) -> int | None:
    """Return the row_no that a custom_id of this batch names, or None if it is not of this batch."""
    head, _, number = custom_id.rpartition("-")
    return int(number) if head == tag and number.isascii() and number.isdigit() and len(number) <= 19 else None
