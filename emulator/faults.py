"""What goes wrong. Nothing, until a test says so.

There is one seam for calls (`on_call`, asked before and after each) and one for rows (`on_row`, asked when a batch is
accepted, so that what it decides lasts like the batch itself).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from emulator.problems import Problem

RETRYABLE = {500: "Internal server error", 504: "Request timed out", 529: "Overloaded"}


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call: what it asks for (`POST /v1/messages/batches`), who asks, how many like it came before, and
    whether its effect has taken place."""

    name: str
    workspace: str
    ordinal: int
    moment: Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Drop:
    """Cut the connection without a word."""


def untroubled_call(call: Call) -> Problem | Drop | None:
    return None


def untroubled_row(custom_id: str, params: dict[str, Any]) -> dict[str, Any] | None:
    return None


@dataclass
class Faults:
    on_call: Callable[[Call], Problem | Drop | None] = untroubled_call
    on_row: Callable[[str, dict[str, Any]], dict[str, Any] | None] = untroubled_row
    """Gives a row's `result` (see `errored`, `expired`), or None to let it be answered."""
    list_lag_seconds: float = 0.0
    """A batch is not listed before it is so old."""


def once(name: str, workspace: str, moment: Literal["before", "after"], fault: Problem | Drop) -> Callable[[Call], Any]:
    """For `on_call`: the fault befalls one call, the next that is like this."""
    waiting = [fault]

    def on_call(call: Call) -> Problem | Drop | None:
        is_meant = (call.name, call.workspace, call.moment) == (name, workspace, moment)
        return waiting.pop() if waiting and is_meant else None

    return on_call


def errored(status: int = 500) -> dict[str, Any]:
    """The result of a row that failed on the way to the model, and may be tried again."""
    error = Problem(status, RETRYABLE.get(status, "Rate limited" if status == 429 else "Refused")).row_error()
    return {"type": "errored", "error": error}


def expired() -> dict[str, Any]:
    return {"type": "expired"}
