"""One line of a batch's results, taken apart.

A reply moves the row on. An outcome that is the world's fault bounces it; one that no repetition can mend sends it
to quarantine; one that would hit every row stops the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Replied:
    stop_reason: str
    content: bytes
    usage: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bounced:
    """The world's fault: send it again."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The API will never take this request."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class OutOfCredit:
    """Not this row's fault, and every other would meet it too."""

    detail: str


Outcome = Replied | Bounced | Rejected | OutOfCredit

# What no repetition mends. Anything else the API may call an error is worth another try, a bounded number of times.
FINAL_ERRORS = frozenset({"invalid_request_error", "not_found_error", "request_too_large", "permission_error"})


def parse_line(line: bytes) -> tuple[str, Outcome]:
    """(custom_id, outcome) of one result line. Raises ValueError for a line that is not one."""
    found = orjson.loads(line)
    result = found["result"]
    match result["type"]:
        case "succeeded":
            message = result["message"]
            outcome: Outcome = Replied(
                message["stop_reason"] or "end_turn", orjson.dumps(message["content"]), message["usage"]
            )
        case "errored":
            outcome = _error(result["error"]["error"])
        case "expired":
            outcome = Bounced("expired", "the batch ran out of its 24 hours before this row's turn")
        case "canceled":
            outcome = Bounced("canceled", "the batch was canceled before this row's turn")
        case unknown:
            outcome = Bounced("unknown_result", f"the API called the outcome {unknown!r}")
    return found["custom_id"], outcome


def _error(error: Mapping[str, Any]) -> Outcome:
    kind, message = str(error.get("type")), str(error.get("message"))
    if "credit balance is too low" in message.lower() or kind == "billing_error":
        return OutOfCredit(message)
    if kind in FINAL_ERRORS:
        return Rejected("rejected", f"{kind}: {message}")
    return Bounced(kind, message)
