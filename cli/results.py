"""`rowtide results JOB|RUN`: read accepted answers."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

from cyclopts import Parameter

from cli.completion import jobs_and_run_ids
from cli.numbers import Count
from cli.open_ledger import open_existing_ledger
from cli.output import err, out, plain_table, short_path
from rowtide.api.api_identity import describe_api
from rowtide.errors import UserMistake
from rowtide.escaping import one_line
from rowtide.ledger import answers as ledger_answers
from rowtide.ledger.ledger import Run
from rowtide.stages.report.results_table import ResultsTable, check_results_format, open_results_table

WIDTH = 40  # characters of a cell
NOT_IN_TABLES = ("_run", "_api", "_version", "_loaded_at")  # they are long, and alike in most rows

Format = Literal["table", "csv", "json", "jsonl", "parquet"]


def results_(
    name: Annotated[str, Parameter(name="job-or-run", completer=jobs_and_run_ids)],
    *,
    to: Path | None = None,
    where: str | None = None,
    format: Format | None = None,
    limit: Count = 50,
) -> int:
    """Read the accepted answers of a run, or the newest of each row of a job, wherever they were loaded.

    Besides the answer's fields there are row_key and where each comes from: _run, _api, _version, _tier, _turns,
    _cost_usd, _loaded_at (empty while it is not loaded). A table leaves out the long ones; a file has them all.

    Parameters
    ----------
    name
        A job's name, or a run's id as `rowtide runs` lists it.
    to
        The file to write: .csv, .json, .jsonl or .parquet.
    where
        An SQL condition as DuckDB takes it, such as "_tier = 'opus' and sector is null".
    format
        What to print on stdout; by default a table on a terminal, else CSV.
    limit
        The most rows in a table.
    """
    if to is not None:
        check_results_format(to)
    with open_existing_ledger(run=name, job=name) as ledger:
        with ledger.view() as tx:
            runs = ledger_answers.runs_by_name(tx, name)
            purged = ledger_answers.count_purged_answers(tx, runs)
        with open_results_table(ledger, runs) as found:
            found.keep(where or "true")
            _print_counts(found, runs, purged)
            _show(found, to, format or ("table" if sys.stdout.isatty() else "csv"), limit)
    return 0


def _show(found: ResultsTable, to: Path | None, format: Format, limit: int) -> None:
    if to is not None:
        found.write(to.resolve())
        err.print(f"{found.count():,} rows written to {short_path(to.resolve())}")
    elif format == "table":
        _draw(found, limit)
    else:
        _print(found, format)


def _print_counts(found: ResultsTable, runs: list[Run], purged: int) -> None:
    if runs[0].made_up:
        err.print(f"made up by {describe_api(runs[0].api, is_made_up=True)}")
    if purged:
        err.print(f"{purged:,} more answers were purged")


def _draw(found: ResultsTable, limit: int) -> None:
    shown = [place for place, name in enumerate(found.columns) if name not in NOT_IN_TABLES]
    table = plain_table(*(found.columns[place] for place in shown))
    for row in found.head(limit):
        table.add_row(*(_cell(row[place]) for place in shown))
    out.print(table)
    if (rows := found.count()) > limit:
        err.print(f"{limit:,} of {rows:,} rows; all of them: --to FILE.csv, or --limit {rows}")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return "" if value is None else _cut(one_line(value))


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def _print(found: ResultsTable, format: str) -> None:
    """All rows on stdout: as they are for a program, and on a terminal with what that would obey written out."""
    if format == "parquet" and sys.stdout.isatty():
        raise UserMistake("is no text: name a file, --to FILE.parquet", key="--format parquet")
    with TemporaryDirectory(prefix="rowtide-results-") as folder:
        file = Path(folder) / f"results.{format}"
        found.write(file)
        if sys.stdout.isatty():
            out.lines(file.read_text(encoding="utf-8").splitlines())
            return
        with file.open("rb") as content:
            while chunk := content.read(1 << 20):
                sys.stdout.buffer.write(chunk)
    sys.stdout.flush()
