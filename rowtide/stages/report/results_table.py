"""Accepted answers as a table to query and export: by DuckDB, from the ledger, without the job's code.

A field whose values are all of one plain type is a column of that type; any other is JSON.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import orjson

from rowtide.errors import UserMistake, nearest_name
from rowtide.ledger import answers as ledger_answers
from rowtide.ledger.answers import AcceptedAnswer
from rowtide.ledger.ledger import Ledger, Run
from rowtide.tiers.pricing import MICRO

PAGE_ROWS = 5000
ROOM = 1 << 20  # least maximum bytes of a row; DuckDB takes several times that at once
KEY = "row_key"
ORIGIN = {
    "_run": "VARCHAR",
    "_api": "VARCHAR",
    "_version": "VARCHAR",
    "_tier": "VARCHAR",
    "_turns": "BIGINT",
    "_cost_usd": "DOUBLE",
    "_loaded_at": "VARCHAR",
}
PLAIN = {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE", str: "VARCHAR"}
SETTINGS = {"autoinstall_known_extensions": False, "memory_limit": "512MB", "threads": 2}
WRITERS = {
    ".csv": "FORMAT csv, HEADER",
    ".jsonl": "FORMAT json",
    ".json": "FORMAT json, ARRAY true",
    ".parquet": "FORMAT parquet",
}


class ResultsTable:
    """The answers, ready for queries."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> None:
        self._connection, self.columns = connection, columns

    def keep(self, where: str) -> None:
        """Keep only rows for which an SQL expression is true. Raises UserMistake."""
        try:
            self._connection.execute(f"CREATE VIEW kept AS SELECT * FROM answers WHERE ({where}\n)")
            self._connection.execute("SELECT count(*) FROM kept").fetchone()
        except duckdb.Error as error:
            words = str(error).strip().partition("\n")[0]
            raise UserMistake(f"{words}; columns: {', '.join(self.columns)}", key=f"--where {where!r}") from None

    def count(self) -> int:
        """Return how many rows are kept."""
        found = self._connection.execute("SELECT count(*) FROM kept").fetchone()
        return int(found[0]) if found else 0

    def head(self, rows: int) -> list[tuple[Any, ...]]:
        """Return the first kept rows, in the order of their source."""
        return self._connection.execute(f"SELECT * FROM kept LIMIT {rows}").fetchall()

    def write(self, file: Path) -> None:
        """Write all kept rows to a file in the format of its suffix: the whole file, or none. Raises UserMistake."""
        part = file.with_name(f".{file.name}.part")
        name = str(part).replace("'", "''")
        try:
            self._connection.execute(f"COPY (SELECT * FROM kept) TO '{name}' ({WRITERS[file.suffix.lower()]})")
            part.replace(file)
        except (duckdb.Error, OSError) as error:
            part.unlink(missing_ok=True)
            raise UserMistake(f"cannot be written: {str(error).partition(chr(10))[0]}", file=file) from None


def check_results_format(file: Path) -> None:
    """Raise UserMistake unless the file's suffix names a format."""
    if file.suffix.lower() not in WRITERS:
        meant = nearest_name(file.suffix, WRITERS)
        raise UserMistake(f"results are written as {', '.join(WRITERS)}", file=file, meant=meant)


@contextmanager
def open_results_table(ledger: Ledger, runs: Sequence[Run]) -> Generator[ResultsTable]:
    """Yield a table of the newest answer of each row of these runs (newest run first). It lies on disk meanwhile."""
    with TemporaryDirectory(prefix="rowtide-results-") as folder:
        rows = Path(folder) / "rows.jsonl"
        kinds, longest = _spool(ledger, runs, rows)
        settings: dict[str, Any] = {**SETTINGS, "temp_directory": folder}
        with duckdb.connect(str(Path(folder) / "results.db"), config=settings) as connection:
            named = ", ".join(f"{_quoted(name)}: '{kind}'" for name, kind in kinds.items())
            connection.execute(
                f"CREATE TABLE answers AS SELECT * FROM read_json(?, columns = {{{named}}}, "
                f"format = 'newline_delimited', maximum_object_size = {max(ROOM, longest + 1)})",
                [str(rows)],
            )
            yield ResultsTable(connection, list(kinds))


def _spool(ledger: Ledger, runs: Sequence[Run], file: Path) -> tuple[dict[str, str], int]:
    """Write the answers to a file, a JSON object a line. Returns column → DuckDB type, and the longest line."""
    seen: dict[str, set[type]] = {}
    longest = 0
    with file.open("wb") as out:
        for place, run in enumerate(runs):
            later = [each.run_no for each in runs[:place]]
            for row in chain.from_iterable(ledger_answers.answer_pages(ledger, run, later, size=PAGE_ROWS)):
                answer = orjson.loads(row.content)
                for name, value in answer.items():
                    seen.setdefault(name, set()).add(_kind(value))
                line = orjson.dumps({KEY: row.row_key, **answer, **_origin(run, row)}, option=orjson.OPT_APPEND_NEWLINE)
                longest = max(longest, out.write(line))
    columns = {KEY: "VARCHAR", **{name: _type(kinds) for name, kinds in seen.items()}, **ORIGIN}
    return columns, longest


def _origin(run: Run, row: AcceptedAnswer) -> Mapping[str, object]:
    provenance = (run.run_id, run.api, row.asking, ledger_answers.tier_names(run)[row.tier], row.turn)
    return dict(zip(ORIGIN, (*provenance, row.cost_micro / MICRO, row.loaded_at), strict=True))


def _kind(value: object) -> type:
    """Return the type of a JSON value; `object` if no plain column holds it."""
    if value is None:
        return type(None)
    if isinstance(value, int) and not isinstance(value, bool) and not -(1 << 63) <= value < 1 << 63:
        return object
    return type(value) if type(value) in PLAIN else object


def _type(kinds: set[type]) -> str:
    plain = kinds - {type(None)}
    return PLAIN.get(next(iter(plain)), "JSON") if len(plain) == 1 else "JSON" if plain else "VARCHAR"


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
