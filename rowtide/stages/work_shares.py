"""What one of a run's workers takes in hand: shares of its rows, one after another, and the poll of the API."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from rowtide.agent.states import RowState
from rowtide.ledger import claims as ledger_claims
from rowtide.ledger.claims import Share
from rowtide.stages.run_context import RunContext

POLL = 0


def claim_shares(context: RunContext, state: RowState) -> Iterator[Share]:
    """Claim each share that has rows in `state` and that nobody has in hand.

    It is given back when the next is asked for; or else when the stage ends, or its process.
    """
    with context.ledger.page() as tx:
        ledger_claims.offer_shares(tx, context.run)
        share = ledger_claims.claim_share(tx, context.run, state, context.worker.name)
    while share is not None:
        yield share
        with context.ledger.page() as tx:
            ledger_claims.release_claim(tx, context.run, "share", share.number, context.worker.name)
            share = ledger_claims.claim_share(tx, context.run, state, context.worker.name, after=share.number)


@contextmanager
def claim_polling(context: RunContext) -> Generator[bool]:
    """Be the one worker that asks the API how batches stand. Gives False while another is."""
    with context.ledger.page() as tx:
        ledger_claims.offer_claims(tx, context.run, "poll", [POLL])
        is_ours = ledger_claims.claim_next(tx, context.run, "poll", context.worker.name) is not None
    try:
        yield is_ours
    finally:
        if is_ours:
            with context.ledger.page() as tx:
                ledger_claims.release_claim(tx, context.run, "poll", POLL, context.worker.name)


def may_more_come(context: RunContext) -> bool:
    """Whether batches are under way, or other workers have something in hand."""
    if context.batches("open", "posting"):
        return True
    with context.ledger.view() as tx:
        return ledger_claims.are_other_workers_busy(tx, context.run, context.worker.name)


def has_unclaimed_rows(context: RunContext) -> bool:
    """Whether there are rows to act on that nobody has in hand."""
    with context.ledger.view() as tx:
        return any(
            ledger_claims.has_unclaimed_rows(tx, context.run, state) for state in (RowState.REPLIED, RowState.ANSWERED)
        )


def has_other_workers(context: RunContext) -> bool:
    """Whether the run has other workers at this moment."""
    with context.ledger.view() as tx:
        return ledger_claims.has_other_workers(tx, context.run, context.worker.name)
