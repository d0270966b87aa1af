"""Find golden rows quoted in prompts or skills: a version that was told the answers proves nothing.

Looked for are keys, as whole words, and runs of words of a row's own text. A key that is short, or a plain number of
few digits, stands everywhere by chance, and is not looked for; nor is a run of words that several rows share, such as
the words of a form.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rowtide.evals.golden_rows import GoldenRow

RUN_WORDS = 8  # in a row; fewer are alike by chance
SHARED_BY = 3  # from so many rows on, a run of words is the trade's and not a row's
KEY_CHARS = 3
NUMBER_DIGITS = 5
WORD = re.compile(r"\w+")

Run = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leak:
    """A golden row that is quoted in a file that the model is sent."""

    file: Path
    line: int
    key: str
    """The row's."""
    kind: Literal["key", "text"]
    quoted: str
    """The key, or the run of words without case and punctuation."""

    @property
    def words(self) -> str:
        what = "the key" if self.kind == "key" else f"the text ({self.quoted})"
        return f"quotes {what} of golden row {self.key!r}; take it out, or take the row out of golden.jsonl"


def find_leaks(
    rows: Sequence[GoldenRow], sent: Mapping[Path, str], texts: Iterable[tuple[str, str]] = ()
) -> list[Leak]:
    """Return the places where golden rows stand in the files that are sent (path → text): file and line, each row at
    most once a line.
    """
    keys = {row.key for row in rows if _is_telling(row.key)}
    leaks = [leak for file, text in sent.items() for leak in _keys_in(file, text, keys)]
    known = {row.key for row in rows}
    answers = ((row.key, each) for row in rows for each in row.answer.values() if isinstance(each, str))
    leaks += _runs_in(sent, (pair for pairs in (answers, texts) for pair in pairs if pair[0] in known))
    first = {(leak.file, leak.line, leak.key): leak for leak in reversed(leaks)}
    order = {file: place for place, file in enumerate(sent)}
    return sorted(first.values(), key=lambda leak: (order[leak.file], leak.line, leak.key))


def _is_telling(key: str) -> bool:
    return len(key) >= (NUMBER_DIGITS if key.isdecimal() else KEY_CHARS)


def _keys_in(file: Path, text: str, keys: set[str]) -> Iterator[Leak]:
    """Every key that stands in a text as a whole word. Longer keys come first: III.L is not also III."""
    for number, line in enumerate(text.splitlines(), 1):
        present = [key for key in keys if key in line]
        if present:
            spelled = "|".join(re.escape(key) for key in sorted(present, key=len, reverse=True))
            for quoted in re.findall(rf"(?<!\w)(?:{spelled})(?!\w)", line):
                yield Leak(file, number, quoted, "key", quoted)


def _runs_in(sent: Mapping[Path, str], texts: Iterable[tuple[str, str]]) -> list[Leak]:
    places: defaultdict[Run, list[tuple[Path, int]]] = defaultdict(list)
    for file, text in sent.items():
        for run, number in _runs(text):
            places[run].append((file, number))
    quoting: dict[tuple[str, Run], None] = {
        (key, run): None for key, text in texts for run, _ in _runs(text) if run in places
    }
    rows = Counter(run for _, run in quoting)
    return [
        Leak(file, number, key, "text", " ".join(run))
        for key, run in quoting
        if rows[run] < SHARED_BY
        for file, number in places[run]
    ]


def _runs(text: str) -> Iterator[tuple[Run, int]]:
    """Every run of words, without case, with the line on which it begins."""
    words, lines = list[str](), list[int]()
    for number, line in enumerate(text.splitlines(), 1):
        found = WORD.findall(line.casefold())
        words += found
        lines += [number] * len(found)
    for start in range(len(words) - RUN_WORDS + 1):
        yield tuple(words[start : start + RUN_WORDS]), lines[start]
