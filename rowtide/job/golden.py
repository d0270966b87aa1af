"""Read a job's golden rows, those whose right answer is known, for the router and the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from rowtide.errors import UserMistake

GOLDEN_FILE = "golden.jsonl"
MOST_ROWS = 20_000  # more say nothing more


def read_golden(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Key → the fields that must agree; none when there is no such file in a job's folder. Raises UserMistake."""
    file = folder / GOLDEN_FILE
    known: dict[str, Mapping[str, Any]] = {}
    if not file.is_file():
        return known
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip() and len(known) < MOST_ROWS:
                try:
                    case = orjson.loads(line)
                    known[str(case["key"])] = dict(case["answer"])
                except (ValueError, KeyError, TypeError):
                    words = 'a golden row is {"key": …, "answer": {…}} on one line'
                    raise UserMistake(words, file=file, line=number) from None
    return known
