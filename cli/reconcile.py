"""`rowtide reconcile RUN [BATCH]`: say what became of an unconfirmed or orphaned batch."""

from datetime import UTC, datetime

from cli.numbers import Count
from cli.open_ledger import open_existing_ledger
from cli.output import out, plain_table
from cli.shared_arguments import RunId
from rowtide.errors import UserMistake
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.batches import Batch
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.read.run_figures import unconfirmed_batches


def reconcile(
    run: RunId,
    batch: Count | None = None,
    *,
    found_as: str | None = None,
    send_again: bool = False,
    give_up: bool = False,
) -> int:
    """Say what became of a batch that Rowtide will not guess about; without BATCH, list those there are.

    A batch is unsettled when it may have been paid for and its results cannot be had: somebody deleted it, its results
    are older than 29 days, or what may have been it vanished. Its rows are held meanwhile; the others go on. A batch
    that is still being looked for can be reconciled too.

    Parameters
    ----------
    batch
        The batch's number, as this command lists it.
    found_as
        It is this batch at the API (msgbatch_…): read its results.
    send_again
        Send its rows again. They may be paid for twice: the money at stake stays counted against the budget.
    give_up
        Put its rows into quarantine.
    """
    with open_existing_ledger(run) as ledger:
        with ledger.view() as tx:
            found = ledgers.find_run(tx, run)
        if batch is None:
            _list(ledger, found)
            return 0
        if [found_as is not None, send_again, give_up].count(True) != 1:
            raise UserMistake("say one of --found-as, --send-again and --give-up", key=f"batch {batch}")
        _reconcile(ledger, found, _unconfirmed(ledger, found, batch), found_as, send_again=send_again)
    out.print(f"reconciled; `rowtide resume {run}` goes on")
    return 0


def _list(ledger: Ledger, run: Run) -> None:
    with ledger.view() as tx:
        unconfirmed = unconfirmed_batches(tx, run)
    if not unconfirmed:
        out.print(f"nothing to reconcile in {run.run_id}")
        return
    table = plain_table("batch", "rows", "at stake", "posted", "why", "at the API")
    for each in unconfirmed:
        why = each["why"] if each["needs_a_person"] else f"being looked for: {each['why']}"
        money, ids = f"${each['at_stake_usd']:.4f}", ", ".join(each["api_ids"]) or "not seen"
        table.add_row(str(each["batch"]), f"{each['rows']:,}", money, str(each["since"])[:19], why, ids)
    out.print(table)


def _unconfirmed(ledger: Ledger, run: Run, batch_no: int) -> Batch:
    with ledger.view() as tx:
        found = ledger_batches.batches_in_states(tx, run, ["orphaned", "posting"])
    unconfirmed = {each.batch_no: each for each in found if each.state == "orphaned" or each.unconfirmed_at}
    if batch_no not in unconfirmed:
        known = ", ".join(map(str, unconfirmed)) or "none"
        raise UserMistake(f"batch {batch_no} is not unconfirmed or orphaned; those that are: {known}", key=run.run_id)
    return unconfirmed[batch_no]


def _reconcile(ledger: Ledger, run: Run, batch: Batch, found_as: str | None, *, send_again: bool) -> None:
    now = datetime.now(UTC)
    with ledger.page() as tx:
        if batch.state == "posting":  # still being looked for: a person need not wait for that
            ledger_batches.mark_orphaned(tx, batch, f"reconciled by a person while {batch.detail}")
            ledger_rows.hold_rows_of_batch(tx, run, batch.batch_no, "batch_unproven")
        if found_as is not None:
            ledger_batches.confirm_batch(tx, batch, found_as, now=now)
            ledger_rows.return_rows_to_batch(tx, run, batch.batch_no)
        elif send_again:
            ledger_batches.abandon_batch(tx, batch, f"sent again by a person; it was {batch.detail}")
            ledger_rows.recall_rows_of_batch(tx, run, batch.batch_no)
        else:
            ledger_batches.abandon_batch(tx, batch, f"given up by a person; it was {batch.detail}")
            ledger_rows.quarantine_rows_of_batch(tx, run, batch.batch_no, "a person gave its batch up", now=now)
