"""Putting ready rows into batches, so that none is ever paid for twice.

A create POST takes no label and no idempotency key. So the batch, its rows and a random tag that stands in every
custom_id are committed before the POST. When the reply does not come the API may have the batch or not: it is
*doubtful*, and its rows are not sent again until listing has shown it, or shown it absent for long enough. An
adopted batch must still prove itself: its results carry our tag, or it is someone else's (`rowtide/filing.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import jinja2
import orjson

from rowtide import ledger_batches, ledger_rows, ledger_turns
from rowtide.agent import RowAt
from rowtide.claude import BatchStatus, Claude, Created, Refused, Unknown
from rowtide.errors import UserMistake, WorldError
from rowtide.ledger import moment
from rowtide.ledger_batches import Batch
from rowtide.packing import how_many_fit
from rowtide.requests import custom_id, head, messages, request
from rowtide.states import RowState
from rowtide.work import SPOOL_PAGE, Work

Clock = Callable[[], datetime]

CLOCK_SLACK = timedelta(minutes=2)  # how far the API's clock may be from ours


@dataclass(frozen=True, slots=True)
class Rendered:
    """A page of ready rows as requests, and the rows that cannot be rendered."""

    rows: list[RowAt]
    requests: list[bytes]
    unfit: list[ledger_rows.Remark]


def recall_unposted(work: Work) -> None:
    """Void the batches a previous life packed but never posted; their rows are ready again."""
    with work.ledger.page() as tx:
        for batch in ledger_batches.batches_in(tx, work.run, ["packing"]):
            ledger_batches.void(tx, batch, "never posted")
            ledger_rows.recall(tx, batch.batch_no)


async def settle_doubtful(work: Work, claude: Claude, *, settle: timedelta, clock: Clock) -> int:
    """Look for the batches whose POST was never answered. Returns how many are still doubtful.

    After `settle` without a sign of it the API is taken not to have the batch: list shows new ones within seconds.
    """
    for batch in _batches(work, "posting"):
        assert batch.posted_at
        since = moment(batch.posted_at) - CLOCK_SLACK
        found = _candidate(work, batch, await claude.list_since(since), since)
        now = clock()
        with work.ledger.page() as tx:
            if found is not None:
                ledger_batches.opened(tx, batch.batch_no, found.api_id, adopted=True, now=now)
            elif now - moment(batch.posted_at) > settle:
                ledger_batches.void(tx, batch, "the reply was lost and the API does not list it")
                ledger_rows.recall(tx, batch.batch_no)
    return len(_batches(work, "posting"))


def pack(work: Work, tag: str, *, clock: Clock) -> Batch | None:
    """Pack the next batch from ready rows and commit to posting it. None when no row could be packed."""
    limits = work.job.spec.limits
    with work.ledger.page() as tx:
        batch_no = ledger_batches.begin(tx, work.run, tag, now=clock())
    rows = size = after = 0
    with body_of(work, tag).open("wb") as body:
        body.write(b'{"requests":[')
        while page := _ready_page(work, after, limits.batch_rows - rows):
            after = page[-1].row_no
            rendered = _render(work, tag, page)
            sizes = [len(each) for each in rendered.requests]
            fits = how_many_fit(sizes, rows=rows, size=size, max_rows=limits.batch_rows, max_bytes=limits.batch_bytes)
            if fits == 0 and rows == 0 and sizes:
                detail = f"its request is {sizes[0]:,} bytes; limits.batch_bytes is {limits.batch_bytes:,}"
                alone = rendered.rows[0]
                rendered.unfit.append(ledger_rows.Remark(alone.row_no, alone.turn, "too_large", detail))
            with work.ledger.page() as tx:
                ledger_rows.submit(tx, batch_no, [row.row_no for row in rendered.rows[:fits]])
                ledger_rows.quarantine(tx, rendered.unfit, now=clock())
            if fits:
                body.write((b"," if rows else b"") + b",".join(rendered.requests[:fits]))
            rows, size = rows + fits, body.tell() + 2
            if fits < len(sizes):
                break
        body.write(b"]}")
    with work.ledger.page() as tx:
        if rows:
            ledger_batches.intend(tx, batch_no, rows=rows, size=size, now=clock())
    if not rows:
        recall_unposted(work)
        return None
    return next(batch for batch in _batches(work, "posting") if batch.batch_no == batch_no)


async def post(work: Work, claude: Claude, batch: Batch, *, clock: Clock) -> bool:
    """Post a packed batch. False when it is doubtful whether the API has it.

    Raises WorldError when the API certainly refused it for now, UserMistake when it always will.
    """
    outcome = await claude.create_batch(body_of(work, batch.tag))
    match outcome:
        case Created(status):
            with work.ledger.page() as tx:
                ledger_batches.opened(tx, batch.batch_no, status.api_id, adopted=False, now=clock())
            body_of(work, batch.tag).unlink(missing_ok=True)
            return True
        case Unknown():
            return False
        case Refused():
            with work.ledger.page() as tx:
                ledger_batches.void(tx, batch, f"refused: {outcome.message}")
                ledger_rows.recall(tx, batch.batch_no)
            body_of(work, batch.tag).unlink(missing_ok=True)
            kind = UserMistake if outcome.is_for_good else WorldError
            raise kind(f"the API refused a batch of {batch.rows:,} rows ({outcome.status_code}): {outcome.message}")


def body_of(work: Work, tag: str) -> Path:
    return work.spool(f"{tag}.requests.json")


def _ready_page(work: Work, after: int, room: int) -> list[RowAt]:
    if room <= 0:
        return []
    with work.ledger.view() as tx:
        return ledger_rows.page_of(tx, work.run, RowState.READY, after=after, limit=min(SPOOL_PAGE, room))


def _render(work: Work, tag: str, page: list[RowAt]) -> Rendered:
    with work.ledger.view() as tx:
        contents = ledger_turns.contents(tx, [row.row_no for row in page])
        talks = ledger_turns.conversations(tx, page)
    heads = [head(model.id, min(work.job.spec.limits.max_tokens, model.max_output_tokens)) for model in work.models]
    rendered = Rendered([], [], [])
    for row in page:
        try:
            first = work.job.message_for(orjson.loads(contents[row.row_no]))
        except jinja2.UndefinedError as error:
            rendered.unfit.append(ledger_rows.Remark(row.row_no, row.turn, "unfilled_hole", f"prompt: {error.message}"))
            continue
        said = messages(first, talks.get(row.row_no))
        name = custom_id(tag, row.row_no)
        rendered.rows.append(row)
        rendered.requests.append(request(name, head=heads[row.tier], shared=work.run.request, messages=said))
    return rendered


def _candidate(work: Work, batch: Batch, listed: list[BatchStatus], since: datetime) -> BatchStatus | None:
    """A listed batch that may be this one: as many rows, not older, nobody's yet."""
    alike = [each for each in listed if each.total == batch.rows and each.created_at >= since]
    with work.ledger.view() as tx:
        taken = ledger_batches.claimed(tx, [each.api_id for each in alike])
    free = [each for each in alike if each.api_id not in taken and each.api_id not in batch.foreign_ids]
    return min(free, key=lambda each: each.created_at, default=None)


def _batches(work: Work, state: str) -> list[Batch]:
    with work.ledger.view() as tx:
        return ledger_batches.batches_in(tx, work.run, [state])
