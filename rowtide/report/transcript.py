"""The lines of a row's conversation, as a page shows it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TranscriptLine:
    """One thing that was said or done."""

    speaker: str
    """`sonnet`, `register.find_company`, `Rowtide`."""
    text: str
    is_fault: bool = False


Transcripts = Mapping[tuple[str, str], list[TranscriptLine]]
"""By the row's key, and `candidate` or `incumbent`."""
