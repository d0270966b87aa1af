"""Claims this worker's part of a run: shares of its rows, one after another, and the poll of the API."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from rowtide.agent.states import RowState
from rowtide.ledger import claims as ledger_claims
from rowtide.ledger.claims import Share
from rowtide.stages.run_context import RunContext

POLL = 0


def claim_shares(context: RunContext, state: RowState) -> Iterator[Share]:
    """Claim and yield each free share that has rows in `state`.

    A share is released when the next is asked for, or when the stage or its process ends.
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
    """Claim the polling of the API for the block. Yields False while another worker has it."""
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
    """Return whether batches are under way, or other workers hold claims."""
    if context.batches("open", "posting"):
        return True
    with context.ledger.view() as tx:
        return ledger_claims.are_other_workers_busy(tx, context.run, context.worker.name)


def has_unclaimed_rows(context: RunContext) -> bool:
    """Return whether rows are replied or answered in shares that nobody has claimed."""
    with context.ledger.view() as tx:
        return any(
            ledger_claims.has_unclaimed_rows(tx, context.run, state) for state in (RowState.REPLIED, RowState.ANSWERED)
        )


def has_other_workers(context: RunContext) -> bool:
    """Return whether the run has other workers now."""
    with context.ledger.view() as tx:
        return ledger_claims.has_other_workers(tx, context.run, context.worker.name)
