"""Loads accepted answers into a sink again: a new, a repaired or a second one. Nothing is asked.

Part names are fixed and a key stands in the newest part only, so repeating a reload, also after a kill, ends the same.
Answers that a later run has loaded stay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from rowtide.errors import UserMistake
from rowtide.job.job_folder import Job
from rowtide.job.job_spec import SinkSpec
from rowtide.ledger import answers as ledger_answers
from rowtide.ledger import gate_approvals as ledger_gate_approvals
from rowtide.ledger import reloads as ledger_reloads
from rowtide.ledger.answers import AcceptedAnswer
from rowtide.ledger.ledger import Ledger, Run, to_timestamp
from rowtide.sinks.columns import LINEAGE, Column, SinkPage, page_of_answers, unloadable_rows
from rowtide.sinks.sink import Sink
from rowtide.sinks.sinks import open_sink
from rowtide.tiers.pricing import MICRO


@dataclass
class Reloaded:
    """The result of a reload."""

    sink: str
    rows: int = 0
    newer: int = 0
    """Rows whose key a later run has loaded there; they are left out."""
    refused: dict[str, str] = field(default_factory=dict[str, str])
    """Rows that the sink cannot hold: key → reason."""


def reload_answers(
    ledger: Ledger,
    runs: Sequence[Run],
    job: Job,
    spec: SinkSpec,
    home: Path,
    environment: Mapping[str, str],
    folder: Path,
    *,
    now: datetime,
) -> Reloaded:
    """Write the newest answer of each row of these runs (newest run first). Raises UserMistake, WorldError.

    A relative database file is in `folder`.
    """
    sink, columns = open_sink(spec, home, job.answer, environment, folder)
    sink.check()
    done = Reloaded(sink.location)
    for place, run in enumerate(runs):
        _check(ledger, run, job, sink.location)
        later = [each.run_no for each in runs[:place]]
        for number, rows in enumerate(ledger_answers.answer_pages(ledger, run, later, size=spec.part_rows), 1):
            part = f"{quote(run.run_id, safe='')}-reload-{number:06d}"
            if spec.is_table:  # a table records its parts, and may have lost their rows
                part = f"{part}-{to_timestamp(now)}"
            _write(ledger, run, sink, columns, part, rows, done, lineage=spec.lineage, now=now)
    return done


def _check(ledger: Ledger, run: Run, job: Job, sink: str) -> None:
    """Raise UserMistake if the run's answers may not be loaded, or another run has an unfinished load there."""
    with ledger.view() as tx:
        is_held, has_begun = (
            ledger_gate_approvals.pending_gate_approvals(tx, run),
            ledger_reloads.has_begun_to_load(tx, run),
        )
        others = ledger_reloads.unfinished_loads_of_other_runs(tx, run, sink)
    if is_held:
        raise UserMistake(f"a gate holds run {run.run_id}: `rowtide approve {run.run_id} --gates` first")
    if not has_begun and (job.spec.gates.load or job.spec.gates.answers):
        raise UserMistake(f"run {run.run_id} was not judged by its gates yet: `rowtide resume {run.run_id}` first")
    if others:
        raise UserMistake(f"run {others[0]} has begun to load there: `rowtide resume {others[0]}` first", file=sink)


def _write(
    ledger: Ledger,
    run: Run,
    sink: Sink,
    columns: list[Column],
    part: str,
    rows: list[AcceptedAnswer],
    done: Reloaded,
    *,
    lineage: bool,
    now: datetime,
) -> None:
    """Write one part, and record it in the ledger."""
    with sink.writing(part) as out:
        with ledger.view() as tx:
            older, newer = ledger_reloads.other_parts_with_keys(tx, run, sink.location, part, rows)
        bad = {rows[n].row_key: why for n, why in unloadable_rows([row.content for row in rows]).items()}
        good = [row for row in rows if row.row_key not in newer and row.row_key not in bad]
        refused = out.write(_as_page(run, columns, good, to_timestamp(now), lineage=lineage)) if good else {}
        bad |= {good[n].row_key: why for n, why in refused.items()}
        kept = [row for row in good if row.row_key not in bad]
        left_out = newer | bad.keys()
        out.finish({its_part: keys - left_out for its_part, keys in older.items()})
        with ledger.page() as tx:
            ledger_reloads.record_reloaded_part(tx, run, sink.location, part, kept)
    done.rows += len(kept)
    done.newer += len(newer)
    done.refused |= bad


def _as_page(run: Run, columns: list[Column], rows: list[AcceptedAnswer], now: str, *, lineage: bool) -> SinkPage:
    keys, contents = [row.row_key for row in rows], [row.content for row in rows]
    if not lineage:
        return page_of_answers(columns, keys, contents)
    tiers = ledger_answers.tier_names(run)
    origins = [(run.run_id, tiers[row.tier], row.turn, row.cost_micro / MICRO, now) for row in rows]
    return page_of_answers(
        columns, keys, contents, **dict(zip(LINEAGE, map(list, zip(*origins, strict=True)), strict=True))
    )
