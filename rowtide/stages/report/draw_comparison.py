"""Draws the page of an eval: both versions side by side, with the conversations of the rows that differ.

Run as a program (`python -m rowtide.stages.report.draw_comparison`, its arguments as JSON on stdin), it draws in a
process of its own, as `draw_report` does.
"""

import sys
from datetime import datetime
from pathlib import Path

import orjson

from rowtide.errors import RowtideError
from rowtide.evals.outcome import EvalOutcome
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read.evals import read_outcome
from rowtide.ledger.read.transcripts import row_transcript
from rowtide.report.compare_page import render_compare_page, rows_to_show
from rowtide.report.transcript import TranscriptLine

EXIT_MISTAKE = 2


def draw_comparison(ledger: Ledger, found: EvalOutcome, file: Path, *, now: datetime) -> None:
    """Write the page of an eval as far as it has come."""
    transcripts: dict[tuple[str, str], list[TranscriptLine]] = {}
    with ledger.view() as tx:
        for row in rows_to_show(found):
            numbers = {"candidate": row.candidate.row_no, "incumbent": row.incumbent.row_no}
            for arm, row_no in numbers.items():
                if row_no is not None and (row.key, arm) not in transcripts:
                    transcripts[row.key, arm] = row_transcript(tx, row_no)
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_name(f".{file.name}.half")
    half.write_text(render_compare_page(found, transcripts, now=now), encoding="utf-8")
    half.replace(file)


def main() -> None:
    """Draw the page that stdin orders, as JSON: ledger_url, eval_id, file, now."""
    given = orjson.loads(sys.stdin.buffer.read())
    ledger = Ledger(given["ledger_url"])
    try:
        with ledger.view() as tx:
            found = read_outcome(tx, given["eval_id"])
        draw_comparison(ledger, found, Path(given["file"]), now=datetime.fromisoformat(given["now"]))
    except RowtideError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_MISTAKE)
    finally:
        ledger.close()


if __name__ == "__main__":
    main()
