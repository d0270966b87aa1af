"""The verdict of one expectation on a run, as the ledger keeps it."""

from dataclasses import dataclass, field
from typing import Any

EXAMPLES = 20  # keys of failing rows that are kept for each expectation


@dataclass(frozen=True, slots=True)
class ExpectationVerdict:
    """The verdict of one expectation of a gate on a run."""

    gate: str
    place: int
    type: str
    kwargs: dict[str, Any]
    severity: str
    passed: bool | None
    """None: it could not be asked, and `message` tells why."""
    judged: int = 0
    failed: int = 0
    observed: Any = None
    examples: list[str] = field(default_factory=list)
    message: str = ""
    judged_at: str = ""
