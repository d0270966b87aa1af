"""Answers that a file tells in advance: to one row, to rows in which some words stand, or to every row.

- {row: "name: Ann\\ntext: late again", answer: {urgency: high}}    # the first user message is this text
- {words: refund, answer: {urgency: low}}                           # these words stand in it
- {answer: {language: en}}                                          # whatever the row
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import yaml
from pydantic import TypeAdapter, ValidationError, model_validator

from emulator.acts import Strict
from emulator.reading import without_postscript
from emulator.words import plain

Answered = Mapping[str, Any]


class AnswersError(ValueError):
    """A file of answers that cannot be read; says which entry and what is wrong with it."""


class Entry(Strict):
    """One answer, whole or in part, and the rows it is given to."""

    answer: dict[str, Any]
    row: str | None = None
    words: str | None = None

    @model_validator(mode="after")
    def _names_rows_once(self) -> "Entry":
        if self.row is not None and self.words is not None:
            raise ValueError("`row` or `words`, not both")
        return self


@dataclass(frozen=True, slots=True)
class KnownAnswers:
    """What a file tells. What is told of one row goes before what words tell, and that before what holds for all."""

    by_row: Mapping[str, Answered] = field(default_factory=dict[str, Answered])
    by_words: tuple[tuple[str, Answered], ...] = ()
    to_all: Answered = field(default_factory=dict[str, Any])

    def to(self, row_text: str) -> Answered:
        """The fields whose values are known, for this row."""
        if not (self.by_row or self.by_words or self.to_all):
            return self.to_all
        text = plain(row_text) if self.by_words else ""
        of_words = next((answer for words, answer in self.by_words if words in text), {})
        return {**self.to_all, **of_words, **self.by_row.get(_as_key(row_text), {})}


NONE_KNOWN = KnownAnswers()


def read_answers(file: Path) -> KnownAnswers:
    """What a file tells: a YAML list, or for `.jsonl` an object a line. Raises AnswersError, OSError."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        given = [*map(orjson.loads, text.splitlines())] if file.suffix == ".jsonl" else yaml.safe_load(text)
        entries = TypeAdapter(list[Entry]).validate_python(given or [])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise AnswersError(f"{file}: {place or 'the file'}: {first['msg'].removeprefix('Value error, ')}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise AnswersError(f"{file}: {error}") from None
    return KnownAnswers(
        {_as_key(without_postscript(each.row)): each.answer for each in entries if each.row is not None},
        tuple((plain(each.words), each.answer) for each in entries if each.words is not None),
        {name: value for each in entries if each.row is each.words is None for name, value in each.answer.items()},
    )


def _as_key(row_text: str) -> str:
    return " ".join(row_text.split())
