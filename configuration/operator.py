"""The interface to an operator's settings: none, unless Prefect's blocks provide them.

The stages ask `current_operator()` and do not know Prefect. `blocks/operator_blocks.py` reads its blocks.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


class Operator:
    """No operator: only the environment configures."""

    async def filled_in(self, kind: type[T]) -> T | None:
        """Return what was filled in of a kind: ClaudeSettings, LedgerSettings, Overrides, OperatorServers or
        WebhookSecretSet.

        Raises WorldError when it cannot be read, and UserMistake when it is wrong.
        """
        return None


NOBODY = Operator()

_operator: ContextVar[Operator] = ContextVar("operator", default=NOBODY)


def current_operator() -> Operator:
    """Return the operator whose settings fill what the environment leaves open."""
    return _operator.get()


@contextmanager
def with_operator(who: Operator) -> Generator[None]:
    """Put the settings of `who` in force for the length of the block."""
    before = _operator.set(who)
    try:
        yield
    finally:
        _operator.reset(before)
