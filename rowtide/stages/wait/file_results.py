"""Files a batch's results: each line moves one row, in any order and any number of times.

The results are on disk before the first is filed. A row moves only if it still waits for this very batch, so filing
again, after a kill or a second fetch, files only the rest.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from rowtide.agent.reply_parsing import LINE_BYTES, Outcome, Replied, parse_result_line
from rowtide.agent.requests import row_no_of_custom_id
from rowtide.errors import WorldError
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.batches import Batch
from rowtide.ledger.outcomes import file_outcomes
from rowtide.stages.follow_up.apply_moves import answers_ready_for_gate
from rowtide.stages.run_context import SPOOL_PAGE, RunContext
from rowtide.stages.wait.decide_outcomes import decide_outcomes
from rowtide.stages.wait.reconcile import hold_orphaned_batch
from rowtide.stages.wait.unavailable_models import note_model_availability

PAGE_BYTES = 64_000_000  # of result lines filed at once
FETCHES = 3  # fetches of a batch's results before rows they lack count as missing


def file_results(context: RunContext, batch: Batch, spool: Path, *, now: datetime) -> Counter[str]:
    """File every line of `spool`. Returns counts of rows: replied, bounced, rejected, recalled, escalated, held.

    While rows are missing the batch stays open, to be fetched again; after `FETCHES` fetches they are held. An error
    that every row would meet stops the run and returns its rows to ready. Raises WorldError when no line is of this
    batch: the file is no result of it, and is fetched again later.
    """
    done, is_ours = Counter[str](), False
    models = context.standing(at=batch.packed_at)
    for lines in _pages(spool, batch, SPOOL_PAGE):
        outcomes = _outcomes(batch, lines)
        is_ours = is_ours or bool(outcomes)
        with context.ledger.view() as tx:
            waiting = ledger_rows.rows_in_batch(tx, batch.batch_no, list(outcomes))
        answered = [(row, outcomes[row.row_no]) for row in waiting.values()]
        page = decide_outcomes(
            context, batch, models, answered, note_model_availability(context, models, answered, now=now)
        )
        page.answers = answers_ready_for_gate(
            context, [(waiting[r.row_no], r.stop_reason, r.content) for r in page.replies]
        )
        with context.ledger.page() as tx:
            file_outcomes(tx, context.run, context.escalation, batch, page, now=now)
        done += page.counted
    if not is_ours and spool.stat().st_size:
        with context.ledger.page() as tx:
            ledger_batches.undo_fetch(tx, batch.batch_no)
        spool.unlink(missing_ok=True)
        raise WorldError(f"the results file of batch {batch.api_id} holds no line of it")
    return done + _close(context, batch, is_whole=done.total() == batch.rows, now=now)


def _close(context: RunContext, batch: Batch, *, is_whole: bool, now: datetime) -> Counter[str]:
    """Mark the batch filed; or have it fetched again while rows are missing; or hold it for a person.

    With `is_whole` it does not look for missing rows, which would read all rows in flight.
    """
    with context.ledger.view() as tx:
        left = [] if is_whole else ledger_rows.rows_waiting_for_batch(tx, context.run, batch.batch_no)
    if left and batch.fetches + 1 < FETCHES:
        with context.ledger.page() as tx:
            ledger_batches.fetch_results_again(tx, batch.batch_no)
        return Counter()
    if left:
        hold_orphaned_batch(context, batch, "missing")
        return Counter(held=len(left))
    with context.ledger.page() as tx:
        ledger_batches.mark_filed(tx, batch.batch_no, now=now)
    return Counter()


def _outcomes(batch: Batch, lines: list[bytes]) -> dict[int, Outcome]:
    """Return the outcome of each row that the lines name; of two lines for a row, a reply counts first."""
    found: dict[int, Outcome] = {}
    for row_no, outcome in _ours(batch, lines):
        if not isinstance(found.get(row_no), Replied):
            found[row_no] = outcome
    return found


def _ours(batch: Batch, lines: list[bytes]) -> Iterator[tuple[int, Outcome]]:
    for line in lines:
        try:
            name, outcome = parse_result_line(line)
        except ValueError:
            continue  # a truncated line: its row is missing, and the results are fetched again
        if (row_no := row_no_of_custom_id(name, batch.tag)) is not None:
            yield row_no, outcome


def _pages(spool: Path, batch: Batch, size: int) -> Iterator[list[bytes]]:
    """Yield the lines in order of their rows: in the API's order, which is none, each page of a large batch would touch
    all of the ledger's tables. A line longer than LINE_BYTES is skipped: its row is missing.
    """
    of_row = re.compile(rb"%b-(\d{1,18})" % batch.tag.encode())
    with spool.open("rb") as lines:
        places: list[tuple[int, int, int]] = []  # row, where its line begins, how long it is
        at, is_rest = 0, False
        while line := lines.readline(LINE_BYTES):
            is_whole = line.endswith(b"\n") or len(line) < LINE_BYTES
            if is_whole and not is_rest:
                row = of_row.search(line)
                places.append((int(row[1]) if row else 0, at, len(line)))
            at, is_rest = at + len(line), not is_whole
        places.sort()
        page, weight = list[bytes](), 0
        for _, at, length in places:
            page.append(os.pread(lines.fileno(), length, at))
            weight += length
            if len(page) == size or weight > PAGE_BYTES:
                yield page
                page, weight = [], 0
        if page:
            yield page
