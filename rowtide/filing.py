"""Filing a batch's results: every line moves one row, whatever order they come in and however often.

The results lie whole on disk before the first is filed. A row moves only if it still waits for this very batch, so
filing again after a kill files what was not filed yet.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

from rowtide import ledger_batches, ledger_rows, ledger_turns
from rowtide.agent import RowAt
from rowtide.catalogue import Model
from rowtide.errors import StoppedByWorld
from rowtide.ledger_batches import Batch
from rowtide.ledger_rows import Remark
from rowtide.ledger_turns import Reply
from rowtide.pricing import cost_micro, usage_from
from rowtide.requests import row_no_of
from rowtide.results import Bounced, Outcome, OutOfCredit, Rejected, Replied, parse_line
from rowtide.work import SPOOL_PAGE, Work


@dataclass(slots=True)
class Sorted:
    """One page of outcomes, by what becomes of the row."""

    replies: list[Reply] = field(default_factory=list)
    bounces: list[Remark] = field(default_factory=list)
    rejects: list[Remark] = field(default_factory=list)
    credit: str | None = None


def is_ours(batch: Batch, spool: Path) -> bool:
    """Whether these results carry the batch's tag. Only an adopted batch is in any doubt."""
    first = next(_pages(spool, 1), None)
    return not batch.adopted or first is None or row_no_of(parse_line(first[0])[0], batch.tag) is not None


def file_results(work: Work, batch: Batch, spool: Path, *, now: datetime) -> Counter[str]:
    """File every line of `spool`. Returns how many rows replied, bounced and were rejected.

    Raises StoppedByWorld, with the rows concerned made ready again, when the API stopped for want of credit.
    """
    done: Counter[str] = Counter()
    credit: str | None = None
    for lines in _pages(spool, SPOOL_PAGE):
        outcomes = dict(_ours(batch, lines))
        with work.ledger.page() as tx:
            waiting = ledger_rows.in_batch(tx, batch.batch_no, list(outcomes))
            page = _sort(work, batch, [(row, outcomes[row.row_no]) for row in waiting.values()])
            ledger_turns.reply(tx, page.replies)
            ledger_rows.bounce(tx, page.bounces, now=now)
            ledger_rows.quarantine(tx, page.rejects, now=now)
        credit = credit or page.credit
        done.update(replied=len(page.replies), bounced=len(page.bounces), rejected=len(page.rejects))
    if credit:
        with work.ledger.page() as tx:
            ledger_rows.recall(tx, batch.batch_no)
            ledger_batches.filed(tx, batch.batch_no, now=now)
        raise StoppedByWorld(f"the API stopped for want of credit; resume when there is some ({credit})")
    done.update(bounced=_bounce_missing(work, batch, now=now))
    return done


def _bounce_missing(work: Work, batch: Batch, *, now: datetime) -> int:
    """Close the batch. Rows the results never mentioned were not billed and can be sent again."""
    missing = Bounced("missing_result", "the batch ended without a word about this row")
    with work.ledger.page() as tx:
        left = ledger_rows.waiting_for(tx, batch.batch_no)
        page = _sort(work, batch, [(row, missing) for row in left])
        ledger_rows.bounce(tx, page.bounces, now=now)
        ledger_rows.quarantine(tx, page.rejects, now=now)
        ledger_batches.filed(tx, batch.batch_no, now=now)
    return len(left)


def _sort(work: Work, batch: Batch, outcomes: list[tuple[RowAt, Outcome]]) -> Sorted:
    page = Sorted()
    for row, outcome in outcomes:
        match outcome:
            case Replied():
                page.replies.append(_reply(work.models, batch, row, outcome))
            case Bounced(reason, detail) if row.bounces < work.job.spec.limits.bounces:
                page.bounces.append(Remark(row.row_no, row.turn, reason, detail))
            case Bounced(reason, detail):
                tried = f"sent {row.bounces + 1} times; the last time: {reason}: {detail}"
                page.rejects.append(Remark(row.row_no, row.turn, "bounced_out", tried))
            case Rejected(reason, detail):
                page.rejects.append(Remark(row.row_no, row.turn, reason, detail))
            case OutOfCredit(detail):
                page.credit = detail
    return page


def _reply(models: list[Model], batch: Batch, row: RowAt, outcome: Replied) -> Reply:
    usage = usage_from(outcome.usage)
    return Reply(
        row_no=row.row_no,
        turn=row.turn + 1,
        batch_no=batch.batch_no,
        tier=row.tier,
        stop_reason=outcome.stop_reason,
        content=outcome.content,
        input_tokens=usage.input_tokens,
        cache_write_tokens=usage.cache_write_5m + usage.cache_write_1h,
        cache_read_tokens=usage.cache_read,
        output_tokens=usage.output_tokens,
        cost_micro=cost_micro(models[row.tier], usage, lane="batch"),
        baseline_micro=cost_micro(models[-1], usage, lane="live"),
    )


def _ours(batch: Batch, lines: list[bytes]) -> Iterator[tuple[int, Outcome]]:
    for line in lines:
        name, outcome = parse_line(line)
        if (row_no := row_no_of(name, batch.tag)) is not None:
            yield row_no, outcome


def _pages(spool: Path, size: int) -> Iterator[list[bytes]]:
    with spool.open("rb") as lines:
        while page := list(islice(lines, size)):
            yield page
