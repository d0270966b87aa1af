"""Finds the rows in JSON that is not JSON Lines: an array of objects, or an object that holds one."""

from pathlib import Path
from typing import Any

import duckdb
import orjson

from rowtide.errors import UserMistake
from rowtide.intake.dialects import encoding_of

OBJECT_BYTES = 64_000_000
SETTINGS = {"autoinstall_known_extensions": False, "memory_limit": "512MB", "threads": 1}
FETCHED_ROWS = 1000
WHOLE_BYTES = 64_000_000  # of a file that is read at once


def array_to_lines(file: Path, lines: Path) -> None:
    """Write each object of the array in `file` as a line of `lines`, as it was written. Raises UserMistake.

    DuckDB reads the array piece by piece.
    """
    asked = f"SELECT json FROM read_json_objects(?, format = 'array', maximum_object_size = {OBJECT_BYTES})"
    try:
        with duckdb.connect(config={**SETTINGS}) as connection, lines.open("w", encoding="utf-8", newline="\n") as out:
            found = connection.execute(asked, [str(file)])
            while rows := found.fetchmany(FETCHED_ROWS):
                if other := next((text for (text,) in rows if not str(text).lstrip().startswith("{")), None):
                    raise UserMistake(f"the array holds {str(other)[:40]!r}; a row is an object", file=file)
                # A line break stands only between an object's parts: inside a text JSON has it escaped.
                out.writelines(str(text).replace("\r", " ").replace("\n", " ") + "\n" for (text,) in rows)
    except duckdb.Error as error:
        words = str(error).strip().partition("\n")[0]
        raise UserMistake(f"is no JSON array of objects: {words}", file=file) from None
    if lines.stat().st_size == 0:
        raise UserMistake("the array is empty", file=file)


def rows_in_object(file: Path) -> tuple[str, list[dict[str, Any]]] | None:
    """The name and the rows of the longest list in a file that is one JSON object; None where it is JSON Lines.

    Raises UserMistake for an object over several lines that holds no rows.
    """
    with file.open("rb") as content:
        is_line = _is_object(content.readline(WHOLE_BYTES))
        if is_line and content.read(1 << 20).strip():
            return None
    try:
        whole: Any = orjson.loads(file.read_bytes().removeprefix(b"\xef\xbb\xbf")) if _is_small(file) else None
    except orjson.JSONDecodeError:
        whole = None
    lists = {name: value for name, value in whole.items() if _are_rows(value)} if isinstance(whole, dict) else {}
    if lists:
        name = max(lists, key=lambda name: len(lists[name]))
        return name, lists[name]
    if is_line or not _is_utf8_start(file):
        return None
    what = "is JSON, but neither an array of objects nor an object on each line; take the array of rows out of it"
    raise UserMistake(f"{what}, such as with `jq .data`", file=file)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line.removeprefix(b"\xef\xbb\xbf")), dict)
    except orjson.JSONDecodeError:
        return False


def _are_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _is_small(file: Path) -> bool:
    return file.stat().st_size <= WHOLE_BYTES


def _is_utf8_start(file: Path) -> bool:
    with file.open("rb") as content:
        return encoding_of(content.read(4096)).startswith("utf-8")
