"""Drawing the page of an eval: both versions side by side, with the conversations of the rows that differ."""

from datetime import datetime
from pathlib import Path

from rowtide.evals.outcome import EvalOutcome
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read.transcripts import row_transcript
from rowtide.report.compare_page import render_compare_page, rows_to_show
from rowtide.report.transcript import TranscriptLine


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
