"""Tool calls that await approval, split into readable pages, with a hash that names each call in a decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, Protocol, TypeVar

from rowtide.json_bytes import dump_json

PAGE_CALLS = 50
PAGE_CHARACTERS = 60_000  # of arguments: they are shown whole, so that nothing is allowed unseen


class ShownCall(Protocol):
    """A call as a person sees it: its row, tool, arguments and any further note."""

    @property
    def row_key(self) -> str: ...
    @property
    def tool(self) -> str: ...
    @property
    def arguments(self) -> bytes: ...
    @property
    def why(self) -> str | None: ...


CallT = TypeVar("CallT", bound=ShownCall)


@dataclass(frozen=True)
class CallPage(Generic[CallT]):
    """Calls that are shown together: page `number` of `pages`, out of `waiting` calls in all."""

    number: int
    pages: int
    waiting: int
    calls: Sequence[CallT]


def call_hash(tool: str, arguments: bytes, row_key: str) -> str:
    """The hash that names a call in a decision: of server and tool, arguments and row key."""
    return blake2b(dump_json([tool, arguments.decode(), row_key]), digest_size=16).hexdigest()


def approval_pages(calls: Sequence[CallT]) -> list[CallPage[CallT]]:
    """Waiting calls split into pages. A call longer than a page has a page of its own."""
    cut: list[list[CallT]] = []
    room = 0
    for each in calls:
        room -= len(each.arguments) + len(each.row_key)
        if not cut or room < 0 or len(cut[-1]) == PAGE_CALLS:
            cut.append([])
            room = PAGE_CHARACTERS - len(each.arguments) - len(each.row_key)
        cut[-1].append(each)
    return [CallPage(n, len(cut), len(calls), page) for n, page in enumerate(cut, 1)]


def call_text(call: ShownCall) -> str:
    """A call in full: `desk.open_ticket({"message": "late"})`."""
    return f"{call.tool}({call.arguments.decode()})"
