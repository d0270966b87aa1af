"""Show the text that models are writing now, in the stream lane.

The stage puts words down in a file of the run's spool, if somebody has put the file there to be written to.
"""

import textwrap
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import orjson

from cli.home_folders import home_folder
from rowtide.stages.run_context import WRITTEN

WIDTH = 100  # characters of a line
ROWS = 6  # whose words are shown at once


@contextmanager
def record_live_text(run_id: str) -> Generator[Callable[[], list[str]]]:
    """Have the stage record streamed text until the block ends. Gives a function that returns the newest lines."""
    file = home_folder() / "spool" / run_id / WRITTEN
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    try:
        yield _Words(file).lines
    finally:
        file.unlink(missing_ok=True)


class _Words:
    """The text recorded so far, by row."""

    def __init__(self, file: Path) -> None:
        self._file, self._read = file, 0
        self._words: dict[str, str] = {}

    def lines(self) -> list[str]:
        """Return the newest words of each row that writes or, when only one does, all its words."""
        for row_key, words in self._new():
            self._words[row_key] = self._words.pop(row_key, "") + words  # popped: the newest writer stands last
        if len(self._words) == 1:
            ((row_key, words),) = self._words.items()
            return textwrap.wrap(f"{row_key}: {words}", WIDTH)
        return [
            f"{row_key}: …{' '.join(words.split())[-WIDTH:]}" for row_key, words in list(self._words.items())[-ROWS:]
        ]

    def _new(self) -> list[tuple[str, str]]:
        """The whole lines recorded since the last look."""
        with self._file.open("rb") as lines:
            lines.seek(self._read)
            whole = lines.read().rpartition(b"\n")[0]
        self._read += len(whole) + bool(whole)
        return [(row_key, words) for row_key, words in map(orjson.loads, whole.splitlines())]
