"""One line of a batch's results, taken apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from rowtide.agent.policies import RESULTS, Policy, policy_of, policy_of_error
from rowtide.compact import compact_json


class Replied(NamedTuple):
    """What the model said."""

    stop_reason: str
    content: bytes
    usage: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No reply and no bill; the policy says what becomes of the row."""

    policy: Policy
    detail: str


Outcome = Replied | Unanswered


def parse_line(line: bytes) -> tuple[str, Outcome]:
    """(custom_id, outcome) of one result line. Raises ValueError for a line that is not one."""
    try:
        found = orjson.loads(line)
        return str(found["custom_id"]), _outcome(found["result"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a result line: {error!r}") from None


def replied(message: Mapping[str, Any]) -> Replied:
    """A message, live or in a batch."""
    return Replied(message["stop_reason"] or "end_turn", compact_json(message["content"]), message["usage"])


def refused(kind: str, message: str) -> Unanswered:
    """An error of the API's, live or in a batch."""
    return Unanswered(policy_of_error(kind, message), f"{kind}: {message}")


def _outcome(result: Mapping[str, Any]) -> Outcome:
    match result["type"]:
        case "succeeded":
            return replied(result["message"])
        case "errored":
            # {"type": "error", "error": {"type", "message"}}, or only the inner one.
            error = result["error"].get("error", result["error"])
            return refused(str(error.get("type")), str(error.get("message")))
        case kind:
            policy = policy_of(RESULTS, kind)
            return Unanswered(policy, policy.why if kind in RESULTS else f"the API called the outcome {kind!r}")
