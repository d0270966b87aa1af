"""`rowtide quarantine`: list, export, fix, retry and discard the rows that wait for a person."""

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from cli.open_ledger import open_existing_ledger
from cli.output import PlainTable, err, out, plain_table, print_json
from cli.shared_arguments import Every, NewestRunId, RunId, sign
from rowtide.errors import UserMistake
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import quarantine as ledger_quarantine
from rowtide.ledger import quarantine_selection as ledger_quarantine_selection
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.quarantine import DISCARDED
from rowtide.ledger.rows import count_by_state
from rowtide.quarantine.cause_groups import CauseGroup, group_causes, named_rows
from rowtide.quarantine.quarantine_cells import LONGEST
from rowtide.quarantine.quarantine_sheet import KINDS
from rowtide.quarantine.sheet_edits import advice_for_reason
from rowtide.stages import quarantine_actions
from rowtide.text_format import shorten_text

CAUSES = 12  # groups that are listed, the largest


def list_(run: NewestRunId = None, *, json: bool = False) -> int:
    """List the reasons, how many rows have each, one of them, and what can be done; then the causes, with their rows.

    Parameters
    ----------
    json
        Print one JSON object on stdout.
    """
    with open_existing_ledger(run, newest=True) as ledger, ledger.view() as tx:
        found = ledgers.find_run(tx, run)
        groups = ledger_quarantine.reason_groups(tx, found)
        causes = group_causes(ledger_quarantine.quarantine_causes(tx, found))
        rows = sum(count_by_state(tx, found).values())
    total = sum(each.rows for each in groups)
    if json:
        reasons = [
            {
                "reason": each.reason,
                "rows": each.rows,
                "example": {"row_key": each.row_key, "detail": each.detail},
                "advice": advice_for_reason(each.reason, can_escalate=each.can_escalate),
            }
            for each in groups
        ]
        listing = {"run_id": found.run_id, "rows": rows, "quarantined": total, "reasons": reasons}
        print_json({**listing, "causes": [asdict(each) for each in causes[:CAUSES]]})
        return 0
    which = "" if run else " (the newest)"
    out.print(f"run {found.run_id}{which}: {total:,} of {rows:,} rows are in quarantine")
    table = plain_table("reason", "rows", "such as", "what can be done")
    for each in groups:
        example = shorten_text(f"{each.row_key}: {each.detail}", 90)
        table.add_row(
            each.reason, f"{each.rows:,}", example, advice_for_reason(each.reason, can_escalate=each.can_escalate)
        )
    if groups:
        out.print(table)
    if len(causes) > len(groups) or any(each.rows > 1 for each in causes):
        out.print(_cause_table(causes))
    return 0


def _cause_table(causes: Sequence[CauseGroup]) -> PlainTable:
    """The rows whose causes say the same of different values, largest group first."""
    table = plain_table("reason", "such as", "rows with a cause like it", numbers=["rows"])
    for each in causes[:CAUSES]:
        table.add_row(
            each.reason, shorten_text(each.example, 160), named_rows(each.row_keys, each.rows), f"{each.rows:,}"
        )
    if rest := causes[CAUSES:]:
        table.add_row("", f"{len(rest):,} other causes", "", f"{sum(each.rows for each in rest):,}")
    return table


def export(run: RunId, *, reason: str | None = None, to: Path | None = None) -> int:
    """Write the quarantine as a sheet, to be mended and read back by `rowtide quarantine fix`.

    Parameters
    ----------
    reason
        Only rows with this reason. Without it, all that nobody has given up; `discarded` are those.
    to
        The file to write: .csv for a spreadsheet, .jsonl for a program; by default CSV on stdout. A line is a row:
        row_key, reason and detail; every column of the source as in.NAME, to be corrected; every field of the last
        answer as answer.NAME, to be answered by you; `do`, to be filled in: retry (send it again), accept (the answer
        is right as it stands here), discard (give it up) or nothing; run and as_of, to be left alone. Text that a
        spreadsheet would take for a formula, a number or a date has an apostrophe in front, to be left there.
    """
    kind = to.suffix.lower().removeprefix(".") if to else "csv"
    if kind not in KINDS:
        raise UserMistake("a sheet ends in .csv or .jsonl", file=to)
    if to and to.exists():
        raise UserMistake("is there already, and may be half mended: name another", file=to)
    with open_existing_ledger(run) as ledger:
        found, job = quarantine_actions.open_quarantined_run(ledger, run)
        waiting = {each.reason: each.rows for each in _groups(ledger, found)}
        ledger_quarantine.check_quarantine_reason(reason, waiting)
        with _opened(to) as file:
            counted = quarantine_actions.write_sheet(ledger, found, job, reason, kind, file)
    given_up = f", {waiting[DISCARDED]:,} of them given up" if DISCARDED in waiting and reason != DISCARDED else ""
    left = sum(waiting.values()) - counted.rows
    err.print(f"{counted.rows:,} rows written; {left:,} of the quarantine are not in it{given_up}")
    if kind == "csv" and counted.long:
        note = f"{counted.long:,} cells are longer than the {LONGEST:,} characters a spreadsheet keeps: export .jsonl"
        err.print(f"warning: {note}")
    return 0


def fix(run: RunId, sheet: Path) -> int:
    """Take back a sheet that `rowtide quarantine export` wrote: all of it, or, if anything is odd in it, nothing.

    Parameters
    ----------
    sheet
        The file, .csv or .jsonl. A changed in.NAME mends the row, which keeps its key, and waits for `rowtide
        quarantine retry` unless `do` says retry. A changed answer.NAME, or `do` accept, is your answer: it must pass
        the answer model, the job's checks and the gate, but no grounding and no self-check; it goes on under your
        name. Lines and columns that are not there leave rows as they are. The same sheet twice changes nothing.
    """
    if not sheet.is_file():
        raise UserMistake("no such file", file=sheet)
    content = sheet.read_bytes()
    with open_existing_ledger(run) as ledger:
        found, job = quarantine_actions.open_quarantined_run(ledger, run)
        taken = quarantine_actions.import_sheet(ledger, found, job, str(sheet), content, sign())
        if isinstance(taken, quarantine_actions.AlreadyImported):
            out.print(f"{taken.who} gave in this very sheet at {taken.taken_at[:19]}: nothing changes")
            return 0
        what = f"{taken.edited:,} mended, {taken.answered:,} answered, {taken.retried:,} sent again"
        rest = f"{taken.discarded:,} given up, {taken.rows - taken.touched:,} as they were"
        out.print(f"{taken.rows:,} rows in {sheet.name}: {what}, {rest}")
        _print_next_step(ledger, found, goes_on=bool(taken.retried or taken.answered))
    return 0


def retry(run: RunId, *keys: str, reason: str | None = None, tier: str | None = None, every: Every = False) -> int:
    """Send rows again, as part of the same run: a fresh conversation with all its tries; what was spent stays spent.

    Parameters
    ----------
    keys
        The rows that are meant.
    reason
        Rows with this reason.
    tier
        The tier to start at; by default where each began, or, if it was mended, where a new row would.
    every
        All rows that nobody has given up.
    """
    with open_existing_ledger(run) as ledger:
        found, job = quarantine_actions.open_quarantined_run(ledger, run)
        sent, kept = quarantine_actions.resend_rows(ledger, found, job, keys, reason, tier, sign(), every=every)
        words = f"; {kept:,} were refused on admission and must be edited first" if kept else ""
        out.print(f"{sent:,} rows are sent again{words}")
        _print_next_step(ledger, found, goes_on=bool(sent))
    return 0


def discard(run: RunId, *keys: str, why: str, reason: str | None = None, every: Every = False) -> int:
    """Give rows up. They stay in quarantine, counted as `discarded`, with your name and your reason.

    Parameters
    ----------
    keys
        The rows that are meant.
    why
        Your reason.
    reason
        Rows with this reason.
    every
        All rows that nobody has given up.
    """
    with open_existing_ledger(run) as ledger:
        with ledger.page() as tx:
            found = ledgers.find_run(tx, run)
            chosen = ledger_quarantine_selection.select_quarantined(tx, found, keys, reason, every=every)
            given_up = sum(ledger_quarantine.discard_rows(tx, page, why, sign()) for page in chosen)
        out.print(f"{given_up:,} rows are given up")
        _print_next_step(ledger, found, goes_on=False)
    return 0


@contextmanager
def _opened(to: Path | None) -> Generator[TextIO]:
    """The file to write a sheet to, or stdout: as UTF-8, with line ends as they are."""
    target = sys.stdout.fileno() if to is None else to
    with open(target, "w", encoding="utf-8", newline="", closefd=to is not None) as file:
        yield file


def _groups(ledger: Ledger, run: Run) -> list[ledger_quarantine.ReasonGroup]:
    with ledger.view() as tx:
        return ledger_quarantine.reason_groups(tx, run)


def _print_next_step(ledger: Ledger, run: Run, *, goes_on: bool) -> None:
    """Print what is left in quarantine, and how to go on."""
    left = ", ".join(f"{each.rows:,} {each.reason}" for each in _groups(ledger, run)) or "nothing"
    out.print(f"in quarantine: {left}")
    if goes_on:
        out.print(f"go on with: rowtide resume {run.run_id}")
