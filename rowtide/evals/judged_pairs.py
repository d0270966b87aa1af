"""Pairs of a known value and an answered one, as a judge is shown them: without names, in an order that is drawn."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Judgements:
    """What a judge said of pairs: stands for its comparer once it was asked."""

    same: Mapping[str, bool]
    """`pair_hash` → whether both mean the same. A pair that the judge gave no verdict on is missing."""


def pair_hash(known: Any, answered: Any) -> str:
    """Return the key of a pair: the same two values have the same key in every eval."""
    return hashlib.blake2b(
        json.dumps([known, answered], sort_keys=True, default=str).encode(), digest_size=16
    ).hexdigest()


def pair_row(known: Any, answered: Any) -> dict[str, str]:
    """Return the pair as a row of the judge's job. Half of all pairs show the known value first, so that a judge that
    favours a place favours nobody.
    """
    key = pair_hash(known, answered)
    first, second = (known, answered) if int(key[0], 16) % 2 else (answered, known)
    return {"pair": key, "first": _text(first), "second": _text(second)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
