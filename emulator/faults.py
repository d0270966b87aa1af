"""Fault injection: nothing fails until a test or a plan demands it.

A plan (`load`) says it in rules. Beside it there is one seam for calls (`on_call`, asked before and after each) and one
for rows (`on_row`). What becomes of rows and batches is decided when a batch is accepted, and lasts like the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from emulator.aim import Aim
from emulator.clock import Clock
from emulator.plan import RowResult, read_plan
from emulator.problems import TYPES, WORDS, Problem

NO_CREDIT = (
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase "
    "credits."
)


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
    """Cut the connection without an answer."""


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
    aim: Aim = field(default_factory=Aim)
    """The plan that is loaded."""
    clock: Clock = field(default_factory=Clock)
    """A plan's windows go by it."""

    def load(self, plan: Path | str | bytes | Sequence[Any]) -> None:
        """Go by this plan from now on, counting from nothing; a plan with a mistake changes nothing."""
        self.aim = Aim(read_plan(plan), self.clock)

    def clear(self) -> None:
        self.aim = Aim()


def once(name: str, workspace: str, moment: Literal["before", "after"], fault: Problem | Drop) -> Callable[[Call], Any]:
    """Return an `on_call` that applies the fault to one call: the next like this."""
    waiting = [fault]

    def on_call(call: Call) -> Problem | Drop | None:
        is_meant = (call.name, call.workspace, call.moment) == (name, workspace, moment)
        return waiting.pop() if waiting and is_meant else None

    return on_call


def errored(status: int = 500, message: str | None = None) -> dict[str, Any]:
    """Return the result of a row that failed before it reached the model."""
    return {"type": "errored", "error": Problem(status, message or WORDS[status]).row_error()}


def expired() -> dict[str, Any]:
    return {"type": "expired"}


def unanswered(planned: RowResult, model: object) -> dict[str, Any] | None:
    """Return the `result` of a row that is neither answered nor billed; None for a row that is answered."""
    if planned.errored == "credit":
        return errored(400, NO_CREDIT)
    if planned.errored:
        usual = f"model: {model}" if planned.errored == "not_found_error" else None
        return errored(
            {kind: status for status, kind in reversed(TYPES.items())}[planned.errored], planned.message or usual
        )
    for kind in ("expired", "canceled", "missing"):
        if getattr(planned, kind):
            return {"type": kind}
    return None
