"""One finding for each thing that a run needs: what was looked at, the verdict, and what to do."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rowtide.errors import RowtideError

Verdict = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """What was found of one thing. `advice` is a sentence or a command; empty where nothing is to be done."""

    subject: str
    verdict: Verdict
    detail: str
    advice: str = ""


async def examine(subject: str, check: Callable[[], Awaitable[Sequence[Finding]]]) -> list[Finding]:
    """The findings of a check; an error that it raises is a failed finding about `subject`."""
    try:
        return [*await check()]
    except RowtideError as error:
        return [Finding(subject, "failed", str(error))]
