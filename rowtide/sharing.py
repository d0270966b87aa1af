"""What one of a run's workers takes in hand: shares of its rows, one after another, and the poll of the API."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from rowtide.ledger import ledger_claims
from rowtide.ledger.ledger_claims import Share
from rowtide.ledger.states import RowState
from rowtide.work import Work

POLL = 0


def shares(work: Work, state: RowState) -> Iterator[Share]:
    """Claim each share that has rows in `state` and that nobody has in hand.

    It is given back when the next is asked for; or else when the stage ends, or its process.
    """
    with work.ledger.page() as tx:
        ledger_claims.offer_shares(tx, work.run)
        share = ledger_claims.take_share(tx, work.run, state, work.worker.name)
    while share is not None:
        yield share
        with work.ledger.page() as tx:
            ledger_claims.give_back(tx, work.run, "share", share.number, work.worker.name)
            share = ledger_claims.take_share(tx, work.run, state, work.worker.name, after=share.number)


@contextmanager
def polling(work: Work) -> Generator[bool]:
    """Be the one worker that asks the API how batches stand. Gives False while another is."""
    with work.ledger.page() as tx:
        ledger_claims.offer(tx, work.run, "poll", [POLL])
        is_ours = ledger_claims.take(tx, work.run, "poll", work.worker.name) is not None
    try:
        yield is_ours
    finally:
        if is_ours:
            with work.ledger.page() as tx:
                ledger_claims.give_back(tx, work.run, "poll", POLL, work.worker.name)


def may_more_come(work: Work) -> bool:
    """Whether batches are under way, or other workers have something in hand."""
    if work.batches("open", "posting"):
        return True
    with work.ledger.view() as tx:
        return ledger_claims.are_others_busy(tx, work.run, work.worker.name)


def is_something_left(work: Work) -> bool:
    """Whether there are rows to act on that nobody has in hand."""
    with work.ledger.view() as tx:
        return any(ledger_claims.has_free_rows(tx, work.run, state) for state in (RowState.REPLIED, RowState.ANSWERED))


def is_among_others(work: Work) -> bool:
    """Whether the run has other workers at this moment."""
    with work.ledger.view() as tx:
        return ledger_claims.has_others(tx, work.run, work.worker.name)
