"""Parses what the API sent for one request: the only module that knows a reply's shape.

Live or in a batch, everything it sends becomes an outcome. A reply that cannot be read, of any kind, is asked for again
a few times.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from rowtide.agent.outcome_policies import RESULTS, Policy, policy_of, policy_of_error
from rowtide.json_bytes import dump_json, parse_json
from rowtide.masking import mask_secrets
from rowtide.tiers.pricing import Usage, parse_usage

LINE_BYTES = 32_000_000  # a longer line is no result: a reply has at most some hundred thousand tokens
LONGEST_DETAIL = 2000  # characters of an error that are kept
LONGEST_STOP = 64
MOST_MADE_UP, LONGEST_MADE_UP = 20, 300  # of an emulator's sentences about a reply
LONGEST_NUMBER = 1000  # bits; longer numbers count as infinite when read again

_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")  # what the API accepts as the id of a call, or as its tool's name
_CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([A-Za-z0-9_-]{1,64})"')


class Replied(NamedTuple):
    """A reply of the model."""

    stop_reason: str
    content: bytes
    usage: Usage | None
    """None if the API gave no plausible usage: the reply's cost is unknown."""
    made_up: tuple[str, ...] = ()
    """What an emulator says it made up of it, in sentences; nothing of a model's reply."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request without a reply; the policy says what happens to the row."""

    policy: Policy
    detail: str
    is_billed: bool = False
    """Whether it may have been billed nevertheless."""


Outcome = Replied | Unanswered


class _Unreadable(ValueError):
    """What was sent is no reply; the message says why."""


def parse_result_line(line: bytes) -> tuple[str, Outcome]:
    """Return (custom_id, outcome) of one result line. Raises ValueError for a line that is none, or is truncated."""
    try:
        found = _loads(line)
        name, result = found["custom_id"], found["result"]
    except RecursionError:
        if (named := _CUSTOM_ID.search(line)) is None:
            raise ValueError("not a result line") from None
        return named[1].decode(), _unreadable("it is nested too deep")
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a result line: {error!r}") from None
    if not isinstance(name, str):
        raise ValueError(f"not a result line: its custom_id is {name!r:.80}")
    try:
        return name, _outcome(result)
    except (KeyError, TypeError, AttributeError) as error:
        return name, _unreadable(f"{error!r}")


def parse_live_body(body: bytes) -> Outcome:
    """Return the outcome of a live call that was answered with 200 and this body."""
    try:
        return parse_message(_loads(body))
    except (ValueError, RecursionError) as error:
        return _unreadable(f"not readable JSON: {error}")


def parse_message(message: Any) -> Outcome:
    """Return the reply that this message of the API holds; an `Unanswered` where it holds none that can be read."""
    try:
        return _replied(message)
    except _Unreadable as error:
        return _unreadable(str(error))


def parse_streamed_message(message: Any) -> Outcome:
    """Return the outcome of a streamed call from the SDK's message, which may hold values that JSON cannot."""
    try:
        return parse_message(_clean(message))
    except RecursionError:
        return _unreadable("it is nested too deep")


def parse_api_error(kind: str, message: str) -> Unanswered:
    """Return the outcome of an API error, live or in a batch."""
    detail = _shown(f"{kind}: {message}")
    return Unanswered(policy_of_error(kind, detail), detail)


def _replied(message: Any) -> Replied:
    if not isinstance(message, dict):
        raise _Unreadable(f"a message that is a {type(message).__name__}")
    found: dict[str, Any] = message
    blocks, stop = found.get("content"), found.get("stop_reason")
    if not isinstance(blocks, list):
        raise _Unreadable(f"its content is {type(blocks).__name__}, not a list")
    calls = _check_blocks(blocks)
    if stop is None:
        stop = "tool_use" if calls else "end_turn"
    if not isinstance(stop, str):
        raise _Unreadable(f"its stop_reason is {stop!r:.80}")
    made_up = _made_up(found["emulator"]) if "emulator" in found else ()
    return Replied(_shown(stop)[:LONGEST_STOP], _blocks_as_json(blocks), parse_usage(found.get("usage")), made_up)


def _made_up(emulator: Any) -> tuple[str, ...]:
    sentences = emulator.get("made_up") if isinstance(emulator, dict) else None
    sentences = sentences if isinstance(sentences, list) else []
    return tuple(_shown(each)[:LONGEST_MADE_UP] for each in sentences[:MOST_MADE_UP] if isinstance(each, str))


def _check_blocks(blocks: list[Any]) -> int:
    """Return the number of tool calls. Raises _Unreadable for a block that cannot be acted on or sent back."""
    calls: set[str] = set()
    for block in blocks:
        match block.get("type") if isinstance(block, dict) else None:
            case "text" if isinstance(block.get("text"), str):
                pass
            case "tool_use" if _is_call(block):
                call, name = block["id"], block["name"]
                if call in calls or not _ID.fullmatch(call) or not _ID.fullmatch(name):
                    raise _Unreadable(f"a call that cannot be answered: id {call!r:.80}, tool {name!r:.80}")
                calls.add(call)
            case "text" | "tool_use" as kind:
                raise _Unreadable(f"a {kind} block without what makes it one: {sorted(map(str, block))}")
            case str():
                pass
            case _:
                raise _Unreadable(f"a block that is a {type(block).__name__}")
    return len(calls)


def _is_call(block: Mapping[str, Any]) -> bool:
    call, name, given = block.get("id"), block.get("name"), block.get("input")
    return isinstance(call, str) and isinstance(name, str) and isinstance(given, dict)


def _outcome(result: Any) -> Outcome:
    match result["type"]:
        case "succeeded":
            return parse_message(result["message"])
        case "errored":
            # {"type": "error", "error": {"type", "message"}}, or only the inner one.
            error: Any = result["error"].get("error") or result["error"]
            return parse_api_error(str(error.get("type")), error_text_with_code(error))
        case str(kind) if kind != "unreadable":
            policy = policy_of(RESULTS, kind)
            return Unanswered(policy, policy.why if kind in RESULTS else f"the API called the outcome {kind!r:.80}")
        case kind:
            return _unreadable(f"the API called the outcome {kind!r:.80}")


def error_text_with_code(error: Mapping[str, Any]) -> str:
    """Return an error's message, with its code if it has one (`details.error_code`)."""
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    return mask_secrets(f"{error.get('message')} ({code})" if code else str(error.get("message")))


def _unreadable(why: str) -> Unanswered:
    return Unanswered(RESULTS["unreadable"], _shown(f"not a usable reply: {why}"), is_billed=True)


def _loads(line: bytes) -> Any:
    """Parse JSON as the API may send it, including NaN and lone surrogates, which orjson refuses."""
    try:
        return parse_json(line)
    except orjson.JSONDecodeError:
        return _clean(json.loads(line.decode("utf-8", "replace")))


def _blocks_as_json(blocks: list[Any]) -> bytes:
    try:
        return dump_json(blocks)
    except TypeError:  # a lone surrogate, or nested too deep to be read again
        try:
            return dump_json(_clean(blocks))
        except (TypeError, RecursionError) as error:
            raise _Unreadable(f"content that cannot be stored: {error}") from None


def _clean(value: Any) -> Any:
    """Return the value with everything replaced that databases or JSON cannot hold."""
    match value:
        case str() if value.isascii():
            return value
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case float() if not math.isfinite(value):
            return None
        case int() if value.bit_length() > LONGEST_NUMBER:
            return None
        case list():
            return [_clean(each) for each in value]
        case dict():
            return {_clean(name): _clean(each) for name, each in value.items()}
        case _:
            return value


def _shown(words: str) -> str:
    """Return an error's words as the ledger stores them: PostgreSQL's text has no NUL."""
    return _clean(words.replace("\0", "")[:LONGEST_DETAIL])
