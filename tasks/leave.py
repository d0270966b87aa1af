"""A person's leave: for the calls that wait for it, and to go on past a gate that holds the run."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel

from blocks.leave import Leave, Verdict
from blocks.ledger_database import LedgerDatabase
from rowtide.escaping import Markdown, bold, markdown, markdown_page, markdown_table
from rowtide.gates.holds import Hold
from rowtide.ledger import ledger_calls, ledger_holds
from rowtide.ledger.ledger_calls import Pending
from rowtide.orchestrator import orchestrator
from rowtide.work import Work
from tasks.load import load
from tasks.name_run import name_run
from tasks.tell_of_stop import tell_of_stop

SHOWN = 50
NAMELESS = "the Prefect UI"

Form = TypeVar("Form", bound=BaseModel)


async def leave(run_id: str) -> bool:
    """Ask for leave by a form on the flow run's page: the run loads what it may and suspends until it is given.

    Returns whether rows go on. Without a deployment there is no such form: `rowtide approve` is asked instead. Not
    durable: only a flow can suspend itself.
    """
    if not orchestrator().can_suspend:
        return False
    await load(run_id)
    database = await LedgerDatabase.in_force()
    async with database.get_work(run_id) as work:
        with work.ledger.view() as tx:
            holds, calls = ledger_holds.asked(tx, work.run), ledger_calls.pending(tx, work.run)
            follows = ledger_holds.what_follows(tx, work.run, holds)
        tell_of_stop(work)
    if holds or calls:
        await name_run(work.run, "waits for a person, at a gate" if holds else "waits for a person to allow calls")
    if holds:
        verdict = await _ask(Verdict, _about_holds(run_id, holds, follows), [hold.hold_no for hold in holds])
        async with database.get_work(run_id) as work:
            _decide_holds(work, holds, verdict)
    elif calls:
        # The same key for the same calls: a flow run that starts again finds its form answered.
        given = await _ask(Leave, _about_calls(run_id, calls), [f"{each.approval.place}{each.why}" for each in calls])
        async with database.get_work(run_id) as work:
            _decide_calls(work, calls, given)
    return bool(holds or calls)


async def _ask(kind: type[Form], words: Markdown, about: Sequence[object]) -> Form:
    key = hashlib.blake2b(";".join(map(str, about)).encode(), digest_size=8).hexdigest()
    name = kind.__name__.lower()
    return await orchestrator().ask(kind, words, key=f"{name}-{key}")


def _decide_holds(work: Work, holds: Sequence[Hold], given: Verdict) -> None:
    decide = ledger_holds.approve if given.decision == "approve" else ledger_holds.reject
    with work.ledger.page() as tx:
        decide(tx, work.run, holds, who=given.who or NAMELESS, why=given.why or None, now=datetime.now(UTC))


def _decide_calls(work: Work, waiting: Sequence[Pending], given: Leave) -> None:
    decision = "allowed" if given.decision == "allow" else "denied"
    with work.ledger.page() as tx:
        places, now = [each.approval.place for each in waiting], datetime.now(UTC)
        ledger_calls.decide(tx, work.run, places, decision, who=given.who or NAMELESS, why=given.why or None, now=now)


def _about_holds(run_id: str, holds: Sequence[Hold], follows: str) -> Markdown:
    failures = [(hold.gate, each.in_words) for hold in holds for each in hold.failures]
    said = markdown(f"{follows.capitalize()}.")
    return markdown_page(
        bold(f"Run {run_id} is held by a gate."), said, markdown_table(["gate", "what failed"], failures)
    )


def _about_calls(run_id: str, waiting: Sequence[Pending]) -> Markdown:
    calls = [(each.row_key, f"{each.tool}({each.arguments.decode()})", each.why or "") for each in waiting[:SHOWN]]
    more = f"and {len(waiting) - SHOWN:,} more: rowtide approve {run_id} lists all" if len(waiting) > SHOWN else ""
    return markdown_page(
        bold(f"{len(waiting):,} calls of run {run_id} wait for leave."),
        markdown_table(["row", "call", ""], calls),
        markdown(more),
    )
