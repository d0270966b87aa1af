"""Judge a run as a whole: its columns in a scratch SQLite file, and Great Expectations' SQL over them.

Nothing is sampled, and what is in memory does not grow with the rows.
"""

import sqlite3
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from rowtide.errors import UserMistake
from rowtide.gates.gate_files import (
    PARAMETER,
    Expectation,
    Suite,
    gx_suite,
    import_great_expectations,
    in_memory_context,
    why_not_judged,
)
from rowtide.gates.run_metrics import NO_EARLIER_RUN, undotted_expression

KEY = "rowtide_row_key"  # no column of anybody's
EXAMPLES = 20
WIDEST = 2**63  # what an integer of SQLite's is below
KEPT = {str, float, bool, type(None)}  # what SQLite takes as it is


@dataclass(frozen=True)
class ExpectationOutcome:
    """The outcome of one expectation over the whole run."""

    expectation: Expectation
    passed: bool | None
    """None: it could not be asked, and `message` tells why."""
    judged: int = 0
    failed: int = 0
    observed: Any = None
    examples: list[str] = field(default_factory=list)
    message: str = ""


class ScratchTable:
    """A table of some columns of the run's rows, and one of its metrics. The file is deleted when it is closed."""

    def __init__(self, file: Path, columns: Sequence[str]) -> None:
        self.file, self.columns = file, list(columns)
        if file.exists():  # of a process that died
            file.unlink()
        self._db = sqlite3.connect(file)
        self._db.execute("PRAGMA journal_mode = OFF")  # a dead one is made anew
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute(f"CREATE TABLE run ({', '.join(_quoted(name) for name in [KEY, *columns])})")
        self._insert = f"INSERT INTO run VALUES ({', '.join('?' * (1 + len(columns)))})"

    def add(self, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Add rows: (key, values)."""
        columns = [_cells([values.get(name) for _, values in rows]) for name in self.columns]
        self._db.executemany(self._insert, zip([key for key, _ in rows], *columns, strict=True))

    def finish(self, metrics: Mapping[str, float | None]) -> None:
        """Add the metrics and end the input: no more rows will come."""
        if metrics:
            self._db.execute(f"CREATE TABLE metrics ({KEY}, {', '.join(map(_quoted, metrics))})")
            places = ", ".join("?" * (1 + len(metrics)))
            self._db.execute(f"INSERT INTO metrics VALUES ({places})", ("", *metrics.values()))
        self._db.commit()
        self._db.close()

    def close(self) -> None:
        self.file.unlink(missing_ok=True)


@contextmanager
def scratch_table(file: Path, expectations: Sequence[Expectation]) -> Generator[ScratchTable]:
    """A scratch table of the columns that these expectations name."""
    named = dict.fromkeys(column for each in expectations for column in each.columns if each.way == "whole")
    table = ScratchTable(file, list(named))
    try:
        yield table
    finally:
        table.close()


def judge_whole_run(
    suite: Suite, expectations: Sequence[Expectation], table: ScratchTable, parameters: Mapping[str, Any]
) -> list[ExpectationOutcome]:
    """Judge expectations over a scratch table that holds all rows. `parameters` are the values of `$PARAMETER`."""
    gx = import_great_expectations()
    outcomes: list[ExpectationOutcome] = []
    filled = [(each, _filled(gx, each, parameters, suite.file)) for each in expectations]
    outcomes += [ExpectationOutcome(each, None, message=NO_EARLIER_RUN) for each, asked in filled if asked is None]
    source = in_memory_context(gx).data_sources.add_sqlite("scratch", connection_string=f"sqlite:///{table.file}")
    try:
        for name in ("whole", "metrics"):
            asked = [each for _, each in filled if each is not None and each.way == name]
            if asked:
                asset = source.add_table_asset(name, table_name="run" if name == "whole" else "metrics")
                batch = asset.add_batch_definition_whole_table(name).get_batch()
                wanted = {
                    "result_format": "SUMMARY",
                    "partial_unexpected_count": EXAMPLES,
                    "unexpected_index_column_names": [KEY],
                }
                found = batch.validate(gx_suite(gx, asked, suite.file), result_format=wanted)
                by_place = {each.place: each for each in asked}
                outcomes += [_outcome(by_place, each, suite.file) for each in found.results]
    finally:
        source.get_execution_engine().close()
    return sorted(outcomes, key=lambda each: each.expectation.place)


def _filled(gx: Any, each: Expectation, parameters: Mapping[str, Any], file: Path) -> Expectation | None:
    """The expectation with its parameters filled in; None when one belongs to an earlier run that does not exist."""
    kwargs = dict(each.kwargs)
    read = gx.core.suite_parameters.parse_suite_parameter
    for key, value in kwargs.items():
        if isinstance(value, dict) and PARAMETER in value:
            try:
                kwargs[key] = read(undotted_expression(str(value[PARAMETER])), dict(parameters))
            except gx.exceptions.SuiteParameterError:
                return None
    return replace(each, kwargs=kwargs)


def _outcome(by_place: Mapping[int, Expectation], found: Any, file: Path) -> ExpectationOutcome:
    each = by_place[found.expectation_config.meta["n"]]
    if problem := why_not_judged(found):
        raise UserMistake(f"{each.words} cannot be judged: {problem}", file=file)
    message = orjson.loads(orjson.dumps(found.to_json_dict()["result"], option=orjson.OPT_SERIALIZE_NUMPY, default=str))
    observed = message.get("observed_value")
    judged = int(message.get("element_count") or 0) - int(message.get("missing_count") or 0)
    failed = int(message.get("unexpected_count") or 0)
    examples = [str(row[KEY]) for row in message.get("partial_unexpected_index_list") or []]
    if observed is None and message.get("partial_unexpected_list"):
        observed = message["partial_unexpected_list"]
    if each.way == "metrics":
        return ExpectationOutcome(each, bool(found.success), 1, int(not found.success), observed)
    return ExpectationOutcome(each, bool(found.success), judged, failed, observed, examples)


def _cells(column: list[Any]) -> list[Any]:
    return column if KEPT.issuperset(map(type, column)) else list(map(_cell, column))


def _cell(value: Any) -> Any:
    """A value as SQLite can hold it: a list or an object as text, a very long integer as a float."""
    if isinstance(value, list | dict):
        return orjson.dumps(value).decode()
    return float(value) if isinstance(value, int) and not -WIDEST <= value < WIDEST else value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
