"""Draws the page of an eval: both versions side by side, with the conversations of the rows that differ.

Run as a program (`python -m rowtide.stages.report.draw_comparison`, its arguments as JSON on stdin), it draws in a
process of its own, as `draw_report` does.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

from rowtide.evals.outcome import EvalOutcome
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read.evals import read_outcome
from rowtide.ledger.read.transcripts import row_transcript
from rowtide.report.compare_page import render_compare_page, rows_to_show
from rowtide.report.transcript import TranscriptLine
from rowtide.stages.report.page_program import draw_by_order, write_page


def draw_comparison(ledger: Ledger, found: EvalOutcome, file: Path, *, now: datetime) -> None:
    """Write the page of an eval as far as it has come."""
    transcripts: dict[tuple[str, str], list[TranscriptLine]] = {}
    with ledger.view() as tx:
        for row in rows_to_show(found):
            numbers = {"candidate": row.candidate.row_no, "incumbent": row.incumbent.row_no}
            for arm, row_no in numbers.items():
                if row_no is not None and (row.key, arm) not in transcripts:
                    transcripts[row.key, arm] = row_transcript(tx, row_no)
    write_page(file, render_compare_page(found, transcripts, now=now))


def _draw(ledger: Ledger, given: dict[str, Any], file: Path, now: datetime) -> None:
    with ledger.view() as tx:
        found = read_outcome(tx, given["eval_id"])
    draw_comparison(ledger, found, file, now=now)


def main() -> None:
    """Draw the page that stdin orders, with `eval_id`."""
    draw_by_order(_draw)


if __name__ == "__main__":
    main()
