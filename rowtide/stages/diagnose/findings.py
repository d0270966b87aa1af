"""The findings of a diagnosis: for each thing that a run needs, a verdict and what to do."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rowtide.errors import RowtideError

Verdict = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """The finding on one thing. `advice` is a sentence or a command; empty if nothing is to be done."""

    subject: str
    verdict: Verdict
    detail: str
    advice: str = ""


async def examine(subject: str, check: Callable[[], Awaitable[Sequence[Finding]]], advice: str = "") -> list[Finding]:
    """Return the findings of a check; a RowtideError that it raises becomes a failed finding about `subject`, with
    `advice`.
    """
    try:
        return [*await check()]
    except RowtideError as error:
        return [Finding(subject, "failed", str(error), advice)]
