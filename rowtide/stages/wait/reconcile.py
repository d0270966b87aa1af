"""Reconciles unconfirmed batches, whose POST was never answered, so that none is paid for twice.

The API's own dates say which batches are younger than the POST, so no two clocks are compared.
"""

from datetime import timedelta

from rowtide.agent.outcome_policies import BATCHES
from rowtide.agent.reply_parsing import parse_result_line
from rowtide.agent.requests import row_no_of_custom_id
from rowtide.api.api_outcomes import BatchStatus
from rowtide.api.claude import Claude
from rowtide.api.unconfirmed_batches import Found, NeverTaken, Unprovable, Verdict, Wait, judge_unconfirmed_batch
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.batches import Batch
from rowtide.ledger.ledger import from_timestamp
from rowtide.observing.event_log import log_event
from rowtide.stages.run_context import Clock, RunContext
from rowtide.stages.work_shares import claim_polling

PROOF_LINES = 20  # of a result; one with our tag is proof


def mark_unanswered_posts(context: RunContext, *, clock: Clock) -> None:
    """Mark posting batches unconfirmed: the process that posted them is dead."""
    for batch in context.batches("posting"):
        if batch.unconfirmed_at is None:
            with context.ledger.page() as tx:
                ledger_batches.mark_unconfirmed(
                    tx, batch.batch_no, "the process died before the reply came", now=clock()
                )


async def reconcile_unconfirmed(
    context: RunContext, claude: Claude, *, confirm_within: timedelta, clock: Clock
) -> list[Verdict]:
    """Look for every unconfirmed batch and act on what is found. Returns the verdicts.

    One worker at a time does so: while another asks the API, the verdicts are `Wait`. A batch that is just being posted
    is not yet unconfirmed.
    """
    if not (unconfirmed := _unconfirmed(context)):
        return []
    with claim_polling(context) as is_ours:
        if not is_ours:
            return [Wait(is_seen=False)] * len(unconfirmed)
        return [
            await _reconcile_batch(context, claude, batch, confirm_within, clock) for batch in _unconfirmed(context)
        ]


def _unconfirmed(context: RunContext) -> list[Batch]:
    return [batch for batch in context.batches("posting") if batch.unconfirmed_at is not None]


async def _reconcile_batch(
    context: RunContext, claude: Claude, batch: Batch, confirm_within: timedelta, clock: Clock
) -> Verdict:
    since = from_timestamp(batch.newest_before) if batch.newest_before else None
    alike = _alike(context, batch, await claude.list_since(since))
    whose = {each.api_id: await _whose(claude, each, batch) for each in alike}
    foreign = [*batch.foreign_ids, *(api_id for api_id, ours in whose.items() if ours is False)]
    # An archived batch can no longer be proved ours: it counts as vanished.
    candidates = [each.api_id for each in alike if whose[each.api_id] is not False and not each.is_archived]
    seen = [*batch.candidate_ids, *(api_id for api_id, ours in whose.items() if ours is not False)]
    assert batch.unconfirmed_at
    now = clock()
    found = judge_unconfirmed_batch(
        proven=next((api_id for api_id, ours in whose.items() if ours), None),
        candidates=candidates,
        vanished=[api_id for api_id in seen if api_id not in foreign and api_id not in candidates],
        unconfirmed_for=now - from_timestamp(batch.unconfirmed_at),
        confirm_within=confirm_within,
    )
    if (set(seen), foreign) != (set(batch.candidate_ids), batch.foreign_ids):
        with context.ledger.page() as tx:
            ledger_batches.record_candidates(tx, batch.batch_no, candidates=dict.fromkeys(seen), foreign=foreign)
    match found:
        case Found(api_id):
            with context.ledger.page() as tx:
                ledger_batches.mark_open(tx, batch.batch_no, api_id, adopted=True, now=now)
        case NeverTaken():
            with context.ledger.page() as tx:
                ledger_batches.mark_void(tx, batch, BATCHES["never_taken"].reason)
                ledger_rows.recall_rows_of_batch(tx, context.run, batch.batch_no)
        case Unprovable():
            hold_orphaned_batch(context, batch, "unprovable")
        case Wait():
            pass
    return found


def hold_orphaned_batch(context: RunContext, batch: Batch, kind: str) -> None:
    """Hold the rows of an orphaned batch for a person; `kind` is a policy of BATCHES."""
    with context.ledger.page() as tx:
        ledger_batches.mark_orphaned(tx, batch, BATCHES[kind].reason)
        ledger_rows.hold_rows_of_batch(tx, context.run, batch.batch_no, BATCHES[kind].reason)
    known = {"run_id": context.run.run_id, "job": context.run.job, "batch_id": batch.api_id, "tag": batch.tag}
    words = f"a batch of {batch.rows:,} rows is orphaned ({kind}): rowtide reconcile {context.run.run_id}"
    log_event("batch_orphaned", words, {**known, "rows": batch.rows, "reason": kind}, is_warning=True)


def _alike(context: RunContext, batch: Batch, listed: list[BatchStatus]) -> list[BatchStatus]:
    """Return listed batches that may be this one: as many rows, not known to the ledger, not disproved."""
    alike = [each for each in listed if each.total == batch.rows and each.api_id not in batch.foreign_ids]
    with context.ledger.view() as tx:
        taken = ledger_batches.known_api_ids(tx, [each.api_id for each in alike])
    return [each for each in alike if each.api_id not in taken]


async def _whose(claude: Claude, candidate: BatchStatus, batch: Batch) -> bool | None:
    """Return whether the candidate's results carry our tag; None if it has no readable results."""
    lines = await claude.first_lines(candidate.api_id, PROOF_LINES) if candidate.has_ended else None
    names: list[str] = []
    for line in lines or ():
        try:
            names.append(parse_result_line(line)[0])
        except ValueError:
            continue  # a truncated line says nothing
    if any(row_no_of_custom_id(name, batch.tag) is not None for name in names):
        return True
    return False if names else None
