"""The features of a row: numbers, known before anything is asked, that may say how hard it is.

The same row gives the same numbers. What they are compared with (which words are common, what is long for this job) is
its vocabulary, counted when the router is fitted and kept with it.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from types import ModuleType

import orjson
from pydantic import BaseModel, ConfigDict

from rowtide.extras import extra

Values = Mapping[str, object]
Features = dict[str, float]

NOTHING = {"", "?", "-", "n/a", "na", "none", "null", "unknown"}
ORDINARY = set(" \t\r\n.,;:'\"()[]{}/&%-+@_$€£’“”–…")
WORD = re.compile(r"\w+")
READ_CHARS = 2000  # of a row's text; more tells no more
LANGUAGE_LETTERS = 24  # fewer do not tell
UNKNOWN_FEATURE = "untold"
MOST_WORDS = 1000  # a person may want to read the file they are kept in
MOST_COLUMNS = 30
MOST_LANGUAGES = 5
LONG_SHARE = 0.9  # of rows are shorter than a long one


class Vocabulary(BaseModel):
    """What is usual in a job's rows: common words, usual lengths."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    columns: list[str]
    """The columns that are looked at."""
    lookup: str | None
    """The column whose value a tool looks up."""
    words: dict[str, int]
    """In how many rows' lookup a word stands; those that stand in two at least."""
    languages: list[str]
    """The commonest, most first."""
    long_chars: float
    """A row with more is long."""


def build_vocabulary(rows: Iterable[Values], columns: Sequence[str], lookup: str | None) -> Vocabulary:
    """Count what is usual in `rows`. With no `columns`: all that the rows have, or the first ones by name."""
    words: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    seen: dict[str, None] = {}
    lengths: list[int] = []
    for values in rows:
        seen |= dict.fromkeys(values)
        looked_at = [name for name in values if not columns or name in columns]
        text = _joined(values, looked_at)
        lengths.append(len(text))
        languages[_language(text)] += 1
        if lookup is not None:
            words.update(set(_words(_text(values.get(lookup)))))
    lengths.sort()
    return Vocabulary(
        rows=len(lengths),
        columns=list(columns) or sorted(seen)[:MOST_COLUMNS],
        lookup=lookup,
        words={word: count for word, count in words.most_common(MOST_WORDS) if count > 1},
        languages=[name for name, _ in languages.most_common(MOST_LANGUAGES)],
        long_chars=lengths[int(LONG_SHARE * (len(lengths) - 1))] if lengths else 0,
    )


def row_features(values: Values, usual: Vocabulary) -> Features:
    """Return the numbers that the router estimates from: lengths, digits, language, lookup-like values of a row.
    `usual` is what most rows have."""
    texts = {name: _text(values.get(name)) for name in usual.columns}
    missing = {name: float(text.strip().lower() in NOTHING) for name, text in texts.items()}
    text = _joined(values, usual.columns)
    language = _language(text)
    found = {
        "length": math.log1p(sum(map(len, texts.values()))),
        "long": float(len(text) > usual.long_chars),
        "missing": sum(missing.values()) / max(1, len(missing)),
        "something_missing": float(any(missing.values())),
        **_kinds_of_letters(text),
        **{f"language:{name}": float(name == language) for name in usual.languages},
        **{f"missing:{name}": value for name, value in missing.items()},
        **{f"length:{name}": math.log1p(len(each)) for name, each in texts.items()},
    }
    return found if usual.lookup is None else found | _lookup(_text(values.get(usual.lookup)), usual)


def _kinds_of_letters(text: str) -> Features:
    letters = [letter for letter in text if letter.isalpha()]
    return {
        "digits": sum(letter.isdigit() for letter in text) / max(1, len(text)),
        "odd": sum(not letter.isalnum() and letter not in ORDINARY for letter in text) / max(1, len(text)),
        "not_ascii": sum(not letter.isascii() for letter in letters) / max(1, len(letters)),
        "not_latin": sum(not _is_latin(letter) for letter in letters) / max(1, len(letters)),
    }


def _lookup(text: str, usual: Vocabulary) -> Features:
    """Features of the looked-up value: one that is short, or made of common words, could mean several things."""
    words = _words(text)
    shares = [math.log((1 + usual.words.get(word, 0)) / (1 + usual.rows)) for word in words]
    return {
        "lookup_words": float(len(words)),
        "lookup_length": math.log1p(len(text)),
        "lookup_short": float(len(text.strip()) <= 4),
        "lookup_common": sum(shares) / len(shares) if shares else 0.0,
        "lookup_rarest": min(shares, default=0.0),
    }


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return orjson.dumps(value).decode()


def _joined(values: Values, columns: Iterable[str]) -> str:
    return " ".join(_text(values.get(name)) for name in columns)[:READ_CHARS]


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN")


def _language(text: str) -> str:
    """The two-letter code of a text's language, or UNTOLD where the text is too short to tell."""
    if sum(letter.isalpha() for letter in text) < LANGUAGE_LETTERS:
        return UNKNOWN_FEATURE
    return str(_identifier().classify(text)[0])


@cache
def _identifier() -> ModuleType:
    with extra("router"):
        import py3langid  # noqa: PLC0415 # an extra: only a job that has a router needs it
    return py3langid
