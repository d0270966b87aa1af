"""Filing a batch's results: every line moves one row, whatever order they come in and however often.

The results lie on disk before the first is filed. A row moves only if it still waits for this very batch, so filing
again after a kill, or from a second reading, files what was not filed yet.
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
from rowtide.stages.wait.classify_results import classify_results
from rowtide.stages.wait.reconcile import hold_orphaned_batch
from rowtide.stages.wait.unavailable_models import fall_back

PAGE_BYTES = 64_000_000  # of result lines, filed at once
FETCHES = 3  # readings of a batch's results before what they leave out is taken to be missing


def file_results(context: RunContext, batch: Batch, spool: Path, *, now: datetime) -> Counter[str]:
    """File every line of `spool`. Returns how many rows replied, bounced, were rejected, held and recalled.

    Rows that the lines leave out keep the batch open, to be read again; after `FETCHES` readings they are held.
    An error that every row would meet stops the run, with the rows concerned ready again. Raises WorldError where not
    one line is of this batch: these are no results of it, and they are read again later.
    """
    done, is_ours = Counter[str](), False
    models = context.standing(at=batch.packed_at)
    for lines in _pages(spool, batch, SPOOL_PAGE):
        outcomes = _outcomes(batch, lines)
        is_ours = is_ours or bool(outcomes)
        with context.ledger.view() as tx:
            waiting = ledger_rows.rows_in_batch(tx, batch.batch_no, list(outcomes))
        answered = [(row, outcomes[row.row_no]) for row in waiting.values()]
        page = classify_results(context, batch, models, answered, fall_back(context, models, answered, now=now))
        page.answers = answers_ready_for_gate(
            context, [(waiting[r.row_no], r.stop_reason, r.content) for r in page.replies]
        )
        with context.ledger.page() as tx:
            file_outcomes(tx, context.run, context.job.spec, batch, page, now=now)
        done += page.counted
    if not is_ours:
        with context.ledger.page() as tx:
            ledger_batches.discount_fetch(tx, batch.batch_no)
        spool.unlink(missing_ok=True)
        raise WorldError(f"what came as the results of batch {batch.api_id} holds no line of it")
    return done + _close(context, batch, is_whole=done.total() == batch.rows, now=now)


def _close(context: RunContext, batch: Batch, *, is_whole: bool, now: datetime) -> Counter[str]:
    """Declare the batch filed; or have its results read again while they leave rows out; or leave it to a person.

    To look for rows that are left means to read all that are in flight: not where just now each of them was moved.
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
    """What became of each row that the lines name; where a row has two lines, a reply counts before anything else."""
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
            continue  # a line cut short: its row is missing, and the results are read again
        if (row_no := row_no_of_custom_id(name, batch.tag)) is not None:
            yield row_no, outcome


def _pages(spool: Path, batch: Batch, size: int) -> Iterator[list[bytes]]:
    """The lines, by the rows they are of. In the API's order, which is none, every page of a large batch would touch
    every part of the ledger's tables. A line of more than LINE_BYTES is passed over: its row is missing."""
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
