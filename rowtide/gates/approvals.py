"""Approvals of gates: which failures hold a run, what approval would do, and which failures it covers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import NamedTuple

from rowtide.agent.states import RowState
from rowtide.json_bytes import dump_json
from rowtide.text_format import shorten_middle, shorten_text

REJECTED = "rejected"  # the reason of rows that a person rejected with their run
EXAMPLES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class GateFailure:
    """An expectation that a run did not meet: the observed value, how many rows failed, and the keys of some."""

    gate: str
    expectation: str
    message: str
    rows: int = 0
    examples: Sequence[str] = ()

    @property
    def text(self) -> str:
        """The observed value and, for rows, how many failed and which."""
        if not self.rows:
            return shorten_middle(self.message)
        named = ", ".join(shorten_text(each, 60) for each in self.examples[:EXAMPLES_SHOWN])
        return f"{shorten_middle(self.message)}: {self.rows:,} rows" + (f", such as {named}" if named else "")


@dataclass(frozen=True, slots=True)
class GateApproval:
    """A gate's failures, for a person to decide on. `rows` were judged; those in state `waiting` wait for it."""

    approval_no: int
    gate: str
    state: str
    failures: Sequence[GateFailure]
    rows: int
    asked_at: str
    shown_hash: str | None = None

    @property
    def hash(self) -> str:
        """The hash that a decision refers to: these failures, over so many rows."""
        about = [self.gate, [asdict(each) for each in self.failures], self.rows]
        return blake2b(dump_json(about), digest_size=16).hexdigest()

    @property
    def waiting(self) -> RowState:
        """The state of the rows that wait: before they are asked, or before they are loaded."""
        return RowState.READY if self.gate == "rows" else RowState.ACCEPTED


class WaitingRows(NamedTuple):
    """How many rows wait at a run's gates, and how many of them would replace a row that is loaded."""

    rows: int
    replacing: int


def approval_covers(approved: GateApproval, failures: Sequence[GateFailure], rows: int) -> bool:
    """Return whether an earlier approval covers these failures: it has each of them, over no fewer rows."""
    known = {each.expectation for each in approved.failures}
    return rows <= approved.rows and all(each.expectation in known for each in failures)
