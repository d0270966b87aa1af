"""Writes the objects of a JSON array as JSON Lines, each as it was written. DuckDB reads the array, piece by piece."""

from pathlib import Path

import duckdb

from rowtide.errors import UserMistake

OBJECT_BYTES = 64_000_000
SETTINGS = {"autoinstall_known_extensions": False, "memory_limit": "512MB", "threads": 1}
FETCHED_ROWS = 1000


def array_to_lines(file: Path, lines: Path) -> None:
    """Write each object of the array in `file` as a line of `lines`. Raises UserMistake."""
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
