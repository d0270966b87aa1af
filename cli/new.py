"""`rowtide new NAME --from FILE|URL|QUERY`: a job made out of a table, tried at once on made-up answers."""

import asyncio
import os
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter

from cli.environment_checks import check_home
from cli.home_folders import enter_rehearsal, home_folder, is_in_rehearsal
from cli.open_ledger import open_or_create_ledger
from cli.output import err, has_terminal, out, plain_table, print_error
from cli.results import results_
from cli.terminal_run import checked_plan, claude_or_emulator, run_to_end, use_prefect
from configuration.claude_settings import ClaudeSettings
from rowtide.api.api_identity import BASE_URL, KEY
from rowtide.errors import UserMistake
from rowtide.job.run_id import new_run_id
from rowtide.ledger.ledger import ledger_url
from rowtide.stages.create_job.column_kinds import ColumnProfile
from rowtide.stages.create_job.csv_header import CsvOptions
from rowtide.stages.create_job.field_list import AskedField, parse_fields, spelled_fields, with_evidence
from rowtide.stages.create_job.import_table import ROW_NUMBER, TableOptions, table_name
from rowtide.stages.create_job.make_job import (
    DEFAULT_FIELDS,
    Decided,
    Place,
    TableSeen,
    check_name,
    default_decisions,
    key_columns,
    look_at_table,
    make_job,
    with_flags,
)
from rowtide.stages.create_job.template_values import left_out_reason
from rowtide.stages.create_job.write_job import check_is_free, staging_folder
from rowtide.stages.forecast.build_forecast import ForecastInputs, build_forecast
from rowtide.stages.forecast.forecast_text import forecast_sentence, forecast_warnings
from rowtide.stages.preflight import Plan
from rowtide.text_format import shorten_text

SHOWN_COLUMNS, SHOWN_ROWS, COUNTED_ROWS = 25, 5, 50

Taken = TypeVar("Taken")


def new(
    name: str,
    *,
    from_: Annotated[str, Parameter(name="--from")],
    question: str | None = None,
    fields: str | None = None,
    key: str | None = None,
    yes: bool = False,
    database: str | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    quote: str | None = None,
    escape: str | None = None,
    skip_spaces: bool = False,
    header: Annotated[bool | None, Parameter(negative="--no-header")] = None,
) -> int:
    """Make a job out of a table: look at its columns, ask what to find out, write jobs/NAME, and try it at once.

    It is tried on 20 rows with answers that an emulator makes up: nothing is sent to Claude and nothing is paid. At
    most three things are asked; each has a default, and a flag that answers it. Where there is no terminal, none is.

    Parameters
    ----------
    name
        The job's name: small letters, digits, - and _. Its folder is jobs/NAME, which must not be there yet.
    from_
        A file (CSV, Excel, Parquet, JSON, JSON Lines; also gzipped), the URL of one, or a query with --database.
    question
        What to find out about each row.
    fields
        What to answer: "topic: billing|delivery, urgent: yes/no, amount: number, note?: text". Kinds: text, number,
        whole, yes/no, date, list, or choices; `?` where a row may not say.
    key
        The column that names a row, or several: "order,line"; `row_number` where none does.
    yes
        Ask nothing: take the defaults.
    database
        Where a query is asked: a SQLAlchemy URL; `${NAME}` is taken from the environment.
    sheet
        The sheet of a spreadsheet; by default the largest.
    encoding
        Of a text file, in Python's words: cp1251.
    delimiter
        What splits a CSV's cells, such as ";".
    quote
        What encloses a CSV's cells; empty where quotes mean nothing.
    escape
        What stands before a quote inside a CSV's quoted cell.
    skip_spaces
        Spaces after a CSV's delimiter mean nothing.
    header
        Whether a CSV's first line names its columns; by default that is told from what stands in it.
    """
    started, has_key = time.monotonic(), bool(os.environ.get(KEY))
    check_name(name)
    folder = Path("jobs").resolve() / name
    check_is_free(folder)
    check_home(home_folder())
    if fields:
        parse_fields(fields)  # its mistakes come before the table is read
    flags = {"question": question, "fields": fields, "key": key}
    options = TableOptions(CsvOptions(encoding, delimiter, quote, escape, skip_spaces, header), sheet)
    with staging_folder(home_folder()) as staging:
        place = Place(staging, folder, os.environ)
        seen = look_at_table(from_, database, options, key, place, _say_rows)
        _print_table(from_, seen, question or "")
        decided = _decide(seen, flags, asks=not yes and has_terminal())
        sample, keys = make_job(name, seen, decided, place)
    out.print(f"written  jobs/{name}: job.yaml, prompt.md, answer.py, {sample.name}, labels.csv, AGENTS.md")
    _try_out(name, sample, started)
    _print_commands(name, keys, has_key=has_key)
    return 0


def _print_commands(name: str, keys: list[str], *, has_key: bool) -> None:
    shown = shlex.quote(next((each for each in keys if not each.startswith("-")), "KEY"))
    commands = {
        f"show {shown}": "what one row was asked, and what came of it",
        f"results {name}": "all answers so far; --to FILE.csv writes them",
        f"run {name} --limit 10": f"ten rows; {KEY} is set: Claude answers, for money"
        if has_key
        else f"ten rows; with {KEY} set, Claude answers them",
    }
    width = max(map(len, commands))
    out.lines(["", "next:", *(f"  rowtide {typed:<{width}}  # {what}" for typed, what in commands.items())])


def _say_rows(rows: int) -> None:
    err.print(f"{rows:,} rows read")


def _print_table(given: str, seen: TableSeen, question: str) -> None:
    profile = seen.profile
    out.print(f"{shorten_text(table_name(given), 60)}: {profile.rows:,} rows, {len(profile.columns):,} columns")
    out.lines([f"  {note}" for note in seen.table.notes])
    if profile.bad:
        first = profile.bad[0]
        what = f"{profile.bad_rows:,} rows cannot be read and will be quarantined: line {first.line}: {first.detail}"
        out.print(f"  {with_flags(what)}")
    table = plain_table("  column", "holds", "", numbers=("filled", "different"))
    for each in profile.columns[:SHOWN_COLUMNS]:
        note = "key" if each.name in profile.key else left_out_reason(each, question, profile.rows) or ""
        table.add_row(f"  {each.name}", _holds(each), note, f"{each.filled:,}", f"{each.distinct:,}")
    out.print(table)
    if len(profile.columns) > SHOWN_COLUMNS:
        out.print(f"  and {len(profile.columns) - SHOWN_COLUMNS:,} more columns")
    if personal := [each.name for each in profile.columns if each.is_personal]:
        named = ", ".join(personal[:SHOWN_COLUMNS])
        out.print(f"  look personal: {named}; the prompt leaves out what the question does not name")


def _holds(column: ColumnProfile) -> str:
    if column.is_lookup:
        return f"{column.kind}, one of {column.distinct}: {shorten_text(', '.join(column.common), 40)}"
    return column.kind


def _decide(seen: TableSeen, flags: dict[str, str | None], *, asks: bool) -> Decided:
    """What to find out, in which fields, by which key: as said by a flag, as answered, or by default."""
    usual = default_decisions(seen.profile)
    usual_key = ", ".join(usual.key)

    def key_of(typed: str) -> Sequence[str]:
        return usual.key if typed == usual_key else key_columns(typed, seen.columns)

    what = "What do you want to find out about each row?"
    which = "In which fields (topic: one|two, price: number)?"
    decided = Decided(
        _answer(what, flags["question"], usual.question, str.strip, asks=asks),
        _answer(which, flags["fields"], DEFAULT_FIELDS, _fields, asks=asks),
        _answer("Which column, or columns, name a row?", flags["key"], usual_key, key_of, asks=asks),
    )
    out.print(f"question {shorten_text(decided.question, 150)}")
    out.print(f"fields   {spelled_fields(decided.fields)}")
    out.print(f"key      {', '.join(decided.key)}{_about_key(seen, decided.key)}")
    return decided


def _about_key(seen: TableSeen, key: object) -> str:
    if key == [ROW_NUMBER] and ROW_NUMBER not in seen.columns:
        why = "no column and no pair of columns names each row, so " if seen.needs_numbers else ""
        return f" ({why}rows are numbered: they must keep their order)"
    if key == seen.profile.key and seen.profile.repeats:
        return f" ({seen.profile.repeats:,} rows have no key of their own, and will be quarantined)"
    return ""


def _fields(typed: str) -> list[AskedField]:
    return with_evidence(parse_fields(typed))


def _answer(question: str, flag: str | None, default: str, take: Callable[[str], Taken], *, asks: bool) -> Taken:
    """What a flag says or a person types, as `take` reads it; the default where nothing is typed or nobody is asked."""
    while asks and not flag:
        err.print(f"{question} [{default}] ", end="")
        if not (line := sys.stdin.readline()):
            raise UserMistake("the terminal was closed, and nothing was written (--yes takes the defaults)")
        try:
            return take(line.strip() or default)
        except UserMistake as mistake:
            print_error(str(mistake))
    return take(flag or default)


def _try_out(name: str, sample: Path, started: float) -> None:
    """Run the job on its sample with made-up answers, then say what all rows would cost."""
    if not is_in_rehearsal():
        enter_rehearsal()
    for each in (KEY, BASE_URL):  # whatever key there is: nothing is paid for here
        os.environ.pop(each, None)
    job = str(sample.parent)
    made_up = f"made up: the emulator answers about the rows of {sample.name}. Nothing is sent to Claude or paid for"
    out.lines(["", made_up])
    with claude_or_emulator(), use_prefect(False):
        plan = checked_plan(sample.parent, sample, trust=False)
        open_or_create_ledger(ledger_url(None, home_folder())).close()
        run_id = new_run_id(name, datetime.now(UTC), secrets.token_hex(2))
        run_to_end(run_id, as_json=False, prefect=False, plan=plan, job=job, source=str(sample))
        results_(run_id, format="table", limit=SHOWN_ROWS)
        out.lines([f"first answers after {time.monotonic() - started:.1f} s", ""])
        forecast = asyncio.run(_forecast(checked_plan(sample.parent, None, trust=False)))
    out.lines(["all rows, with a key:", *forecast_sentence(forecast), *forecast_warnings(forecast)])


async def _forecast(plan: Plan) -> ForecastInputs:
    """What a run over all rows would cost, as if none had been asked: the sample's answers were made up."""
    async with ClaudeSettings.from_environment().get_client() as claude:
        return await build_forecast(
            plan, None, claude, os.environ, limit=None, sample=COUNTED_ROWS, counted_by="the emulator",
            now=datetime.now(UTC),
        )  # fmt: skip
