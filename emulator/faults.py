"""Fault injection: nothing fails until a plan demands it.

A plan (`load`) says it in rules. What becomes of rows and batches is decided when a batch is accepted, and lasts like
the batch. A test can watch calls by `on_call`.
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


def untroubled_call(call: Call) -> None:
    """Do nothing."""


@dataclass
class Faults:
    on_call: Callable[[Call], None] = untroubled_call
    """Is told of each call, before and after its effect."""
    aim: Aim = field(default_factory=Aim)
    """The plan that is loaded."""
    clock: Clock = field(default_factory=Clock)
    """A plan's windows go by it."""

    def load(self, plan: Path | str | bytes | Sequence[Any]) -> None:
        """Go by this plan from now on, counting from nothing; a plan with a mistake changes nothing."""
        self.aim = Aim(read_plan(plan), self.clock)

    def clear(self) -> None:
        self.aim = Aim()


def unanswered(planned: RowResult, model: object) -> dict[str, Any] | None:
    """Return the `result` of a row that is neither answered nor billed; None for a row that is answered."""
    if planned.errored == "credit":
        return _errored(400, NO_CREDIT)
    if planned.errored:
        usual = f"model: {model}" if planned.errored == "not_found_error" else None
        return _errored(
            {kind: status for status, kind in reversed(TYPES.items())}[planned.errored], planned.message or usual
        )
    for kind in ("expired", "canceled", "missing"):
        if getattr(planned, kind):
            return {"type": kind}
    return None


def _errored(status: int, message: str | None) -> dict[str, Any]:
    return {"type": "errored", "error": Problem(status, message or WORDS[status]).row_error()}
