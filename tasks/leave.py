"""A person's leave for the calls that wait for it."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from prefect.context import FlowRunContext
from prefect.flow_runs import asuspend_flow_run

from blocks.leave import Leave
from blocks.ledger_database import LedgerDatabase
from rowtide.ledger import ledger_calls
from rowtide.ledger.ledger_calls import Pending
from tasks.load import load

SHOWN = 50


async def leave(run_id: str) -> bool:
    """Ask for leave by a form on the flow run's page: the run loads what is verified and suspends until it is given.

    Returns whether rows go on. Without a deployment there is no such form: `rowtide approve` is asked instead. No
    Prefect task: only a flow can suspend itself.
    """
    context = FlowRunContext.get()
    waiting = await _pending(run_id)
    if not waiting or context is None or context.flow_run is None or context.flow_run.deployment_id is None:
        return False
    await load(run_id)
    form = Leave.with_initial_data(description=_in_words(run_id, waiting))
    given = await asuspend_flow_run(wait_for_input=form, key=_key(waiting))
    assert given is not None
    await _decide(run_id, waiting, given)
    return True


async def _pending(run_id: str) -> list[Pending]:
    async with LedgerDatabase.from_environment().get_work(run_id) as work:
        with work.ledger.view() as tx:
            return ledger_calls.pending(tx, work.run)


async def _decide(run_id: str, waiting: Sequence[Pending], given: Leave) -> None:
    decision = "allowed" if given.decision == "allow" else "denied"
    async with LedgerDatabase.from_environment().get_work(run_id) as work:
        with work.ledger.page() as tx:
            places = [each.approval.place for each in waiting]
            who, now = given.who or "the Prefect UI", datetime.now(UTC)
            ledger_calls.decide(tx, work.run, places, decision, who=who, why=given.why or None, now=now)


def _in_words(run_id: str, waiting: Sequence[Pending]) -> str:
    lines = [f"**{len(waiting):,} calls of run `{run_id}` wait for leave.**", "", "| row | call | |", "|---|---|---|"]
    for each in waiting[:SHOWN]:
        call = f"{each.tool}({each.arguments.decode()})".replace("|", "\\|").replace("`", "'")
        lines.append(f"| {each.row_key} | `{call}` | {each.why or ''} |")
    if len(waiting) > SHOWN:
        lines += ["", f"and {len(waiting) - SHOWN:,} more: `rowtide approve {run_id}` lists all"]
    return "\n".join(lines)


def _key(waiting: Sequence[Pending]) -> str:
    """The same for the same calls, so that the flow run finds its form answered when it starts again; else another."""
    places = ";".join(f"{each.approval.place}{each.why}" for each in waiting)
    return f"leave-{hashlib.blake2b(places.encode(), digest_size=8).hexdigest()}"
