"""What an operator has filled in, for those who work: nothing, unless a server of Prefect's keeps it.

The stages ask `current_operator()` and do not know of Prefect. How its blocks are read: `blocks/operator_blocks.py`.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


class Operator:
    """Nobody: the environment alone says how things are."""

    async def filled_in(self, kind: type[T]) -> T | None:
        """What was filled in of a kind: ClaudeSettings, LedgerSettings, Overrides, Provided or Secrets.

        Raises WorldError when it is not to be had, and UserMistake when it is wrong.
        """
        return None


NOBODY = Operator()

_operator: ContextVar[Operator] = ContextVar("operator", default=NOBODY)


def current_operator() -> Operator:
    """Who has filled in what the environment leaves open."""
    return _operator.get()


@contextmanager
def with_operator(who: Operator) -> Generator[None]:
    """Have what `who` filled in in force for the length of the block."""
    before = _operator.set(who)
    try:
        yield
    finally:
        _operator.reset(before)
