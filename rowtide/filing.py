"""Filing a batch's results: every line moves one row, whatever order they come in and however often.

The results lie on disk before the first is filed. A row moves only if it still waits for this very batch, so filing
again after a kill, or from a second reading, files what was not filed yet.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

from rowtide import ledger_batches, ledger_rows, ledger_turns
from rowtide.agent import RowAt
from rowtide.errors import StoppedByWorld
from rowtide.ledger_batches import Batch
from rowtide.ledger_rows import Remark
from rowtide.ledger_turns import Reply
from rowtide.policies import RESULTS, Do, Policy
from rowtide.pricing import cost_micro, usage_from
from rowtide.requests import row_no_of
from rowtide.results import Outcome, Replied, parse_line
from rowtide.settling import lose
from rowtide.work import SPOOL_PAGE, Work

FETCHES = 3  # readings of a batch's results before what they leave out is taken to be missing


@dataclass(slots=True)
class Sorted:
    """One page of outcomes, by what becomes of the row."""

    replies: list[Reply] = field(default_factory=list)
    bounces: list[Remark] = field(default_factory=list)
    rejects: list[Remark] = field(default_factory=list)
    recalled: list[int] = field(default_factory=list)
    stop: str | None = None


def file_results(work: Work, batch: Batch, spool: Path, *, now: datetime) -> Counter[str]:
    """File every line of `spool`. Returns how many rows replied, bounced, were rejected, held and recalled.

    Rows that the lines leave out keep the batch open, to be read again; after `FETCHES` readings they are held.
    Raises StoppedByWorld, with the rows concerned ready again, for an error that every row would meet.
    """
    done: Counter[str] = Counter()
    stop: str | None = None
    for lines in _pages(spool, SPOOL_PAGE):
        outcomes = dict(_ours(batch, lines))
        with work.ledger.view() as tx:
            waiting = ledger_rows.in_batch(tx, batch.batch_no, list(outcomes))
        page = _sort(work, batch, [(row, outcomes[row.row_no]) for row in waiting.values()])
        _move(work, page, now)
        stop = stop or page.stop
        done += _counted(page)
    done += _close(work, batch, now=now)
    if stop:
        raise StoppedByWorld(f"the API refuses rows for a reason that all of them would meet: {stop}")
    return done


def _close(work: Work, batch: Batch, *, now: datetime) -> Counter[str]:
    """Declare the batch filed; or have its results read again while they leave rows out; or leave it to a person."""
    with work.ledger.view() as tx:
        left = ledger_rows.waiting_for(tx, work.run, batch.batch_no)
    if left and batch.fetches + 1 < FETCHES:
        with work.ledger.page() as tx:
            ledger_batches.fetch_again(tx, batch.batch_no)
        return Counter()
    if left:
        lose(work, batch, "missing")
        return Counter(held=len(left))
    with work.ledger.page() as tx:
        ledger_batches.filed(tx, batch.batch_no, now=now)
    return Counter()


def _sort(work: Work, batch: Batch, outcomes: list[tuple[RowAt, Outcome]]) -> Sorted:
    page = Sorted()
    for row, outcome in outcomes:
        if isinstance(outcome, Replied):
            page.replies.append(_reply(work, batch, row, outcome))
            continue
        policy = _policy(batch, outcome.policy)
        remark = Remark(row.row_no, row.turn, policy.reason, outcome.detail)
        match policy.do:
            case Do.SEND_AGAIN if row.bounces < work.job.spec.limits.bounces:
                page.bounces.append(remark)
            case Do.SEND_AGAIN:
                tried = f"sent {row.bounces + 1} times; the last time: {policy.reason}: {outcome.detail}"
                page.rejects.append(Remark(row.row_no, row.turn, "bounced_out", tried))
            case Do.RECALL:
                page.recalled.append(row.row_no)
            case Do.STOP_RUN:
                page.recalled.append(row.row_no)
                page.stop = f"{outcome.detail} ({policy.why})"
            case _:
                page.rejects.append(remark)
    return page


def _policy(batch: Batch, policy: Policy) -> Policy:
    """A row of a batch that we canceled ourselves has not bounced."""
    return RESULTS["canceled_by_us"] if policy is RESULTS["canceled"] and batch.cancel_asked_at else policy


def _move(work: Work, page: Sorted, now: datetime) -> None:
    with work.ledger.page() as tx:
        ledger_turns.reply(tx, page.replies)
        ledger_rows.bounce(tx, page.bounces, now=now)
        ledger_rows.quarantine(tx, page.rejects, now=now)
        ledger_rows.recall(tx, page.recalled)


def _counted(page: Sorted) -> Counter[str]:
    return Counter(
        replied=len(page.replies),
        bounced=len(page.bounces),
        rejected=len(page.rejects),
        recalled=len(page.recalled),
    )


def _reply(work: Work, batch: Batch, row: RowAt, outcome: Replied) -> Reply:
    usage = usage_from(outcome.usage)
    tier = work.asked(row)
    return Reply(
        row_no=row.row_no,
        turn=row.turn + 1,
        batch_no=batch.batch_no,
        tier=tier,
        stop_reason=outcome.stop_reason,
        content=outcome.content,
        input_tokens=usage.input_tokens,
        cache_write_tokens=usage.cache_write_5m + usage.cache_write_1h,
        cache_read_tokens=usage.cache_read,
        output_tokens=usage.output_tokens,
        cost_micro=cost_micro(work.models[tier], usage, lane="batch"),
        # One model alone would not have taken a second look.
        baseline_micro=0 if row.checking else cost_micro(work.top, usage, lane="live"),
        kind="check" if row.checking else "answer",
    )


def _ours(batch: Batch, lines: list[bytes]) -> Iterator[tuple[int, Outcome]]:
    for line in lines:
        try:
            name, outcome = parse_line(line)
        except ValueError:
            continue  # a line cut short: its row is missing, and the results are read again
        if (row_no := row_no_of(name, batch.tag)) is not None:
            yield row_no, outcome


def _pages(spool: Path, size: int) -> Iterator[list[bytes]]:
    with spool.open("rb") as lines:
        while page := list(islice(lines, size)):
            yield page
