"""Tool calls that await approval: their records, readable pages of them, and the hash that names each in a decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from rowtide.json_bytes import dump_json

Place = tuple[int, int, int]  # (row_no, turn, position): a call's place in its row's conversation

PAGE_CALLS = 50
PAGE_CHARACTERS = 60_000  # of arguments: they are shown whole, so that nothing is allowed unseen


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """A call that needs approval, as the ledger keeps it."""

    row_no: int
    turn: int
    position: int
    tool: str
    arguments: bytes
    state: str
    why: str | None
    decided_at: str | None = None
    shown_hash: str | None = None

    @property
    def place(self) -> Place:
        return self.row_no, self.turn, self.position


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that awaits approval, as a person sees it."""

    row_key: str
    tool: str
    arguments: bytes
    why: str | None
    approval: ApprovalRecord

    @property
    def hash(self) -> str:
        """The hash of what a person decides on: this call, its arguments and its row."""
        return call_hash(self.tool, self.arguments, self.row_key)

    @property
    def was_shown(self) -> bool:
        """Whether the call was shown to a person in its present form."""
        return self.approval.shown_hash == self.hash


@dataclass(frozen=True)
class CallPage:
    """Calls that are shown together: page `number` of `pages`, out of `waiting` calls in all."""

    number: int
    pages: int
    waiting: int
    calls: Sequence[PendingCall]


def call_hash(tool: str, arguments: bytes, row_key: str) -> str:
    """Return the hash that names a call in a decision: of server and tool, arguments and row key."""
    return blake2b(dump_json([tool, arguments.decode(), row_key]), digest_size=16).hexdigest()


def approval_pages(calls: Sequence[PendingCall]) -> list[CallPage]:
    """Split waiting calls into pages. A call longer than a page gets a page of its own."""
    cut: list[list[PendingCall]] = []
    room = 0
    for each in calls:
        room -= len(each.arguments) + len(each.row_key)
        if not cut or room < 0 or len(cut[-1]) == PAGE_CALLS:
            cut.append([])
            room = PAGE_CHARACTERS - len(each.arguments) - len(each.row_key)
        cut[-1].append(each)
    return [CallPage(n, len(cut), len(calls), page) for n, page in enumerate(cut, 1)]


def call_text(call: PendingCall) -> str:
    """Return a call in full: `desk.open_ticket({"message": "late"})`."""
    return f"{call.tool}({call.arguments.decode()})"
