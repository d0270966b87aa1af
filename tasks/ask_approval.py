"""A person's leave: for the calls that wait for it, and to go on past a gate that holds the run."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel

from configuration.ledger_settings import LedgerSettings
from orchestration.emit_stop import emit_stop
from orchestration.name_run import name_run
from rowtide.errors import Outdated
from rowtide.escaping import Markdown
from rowtide.gates.approval_forms import CallApproval, Verdict
from rowtide.gates.approvals import Hold
from rowtide.gates.call_pages import CallPage, pages_of
from rowtide.ledger import gate_approvals as ledger_gate_approvals
from rowtide.ledger import tool_calls as ledger_tool_calls
from rowtide.ledger.tool_calls import Pending
from rowtide.stages.approval_forms import about_calls, about_holds
from rowtide.stages.orchestrator import orchestrator
from rowtide.stages.run_context import RunContext
from tasks.load import load

NAMELESS = "the Prefect UI"

Form = TypeVar("Form", bound=BaseModel)


async def ask_approval(run_id: str) -> bool:
    """Ask for leave by a form on the flow run's page: the run loads what it may and suspends until it is given.

    Each form decides about what it shows, as it shows it. Returns whether rows go on. Without a deployment there is no
    such form: `rowtide approve` is asked instead. Not durable: only a flow can suspend itself.
    """
    if not orchestrator().can_suspend:
        return False
    await load(run_id)
    database = await LedgerSettings.in_force()
    async with database.get_run_alone(run_id) as context:
        emit_stop(context)
    return await _ask_about_holds(database, run_id) or await _ask_about_calls(database, run_id)


async def _ask_about_holds(database: LedgerSettings, run_id: str) -> bool:
    async with database.get_run_alone(run_id) as context:
        with context.ledger.page() as tx:
            holds = ledger_gate_approvals.asked(tx, context.run)
            words = about_holds(run_id, holds, ledger_gate_approvals.what_follows(tx, context.run, holds))
            ledger_gate_approvals.show(tx, holds)
        if holds:
            await name_run(context.run, "waits for a person, at a gate")
    if holds:
        given = await _ask(Verdict, words, [f"{hold.hold_no}{hold.hash}" for hold in holds])
        async with database.get_run_alone(run_id) as context:
            _decide_holds(context, holds, given)
    return bool(holds)


async def _ask_about_calls(database: LedgerSettings, run_id: str) -> bool:
    """Ask about each page and decide when all are answered: rows that went on before would keep later pages waiting.

    Where a page's calls have changed since it was shown, nothing of it is decided, and the next look asks again.
    """
    async with database.get_run_alone(run_id) as context:
        with context.ledger.view() as tx:
            pages = pages_of(ledger_tool_calls.pending(tx, context.run))
        if pages:
            await name_run(context.run, "waits for a person to allow calls")
    given = [await _ask_about_page(database, run_id, page) for page in pages]
    async with database.get_run_alone(run_id) as context:
        for page, said in zip(pages, given, strict=True):
            _decide_calls(context, page.calls, said)
    return bool(pages)


async def _ask_about_page(database: LedgerSettings, run_id: str, page: CallPage[Pending]) -> CallApproval:
    with database.get_ledger() as ledger, ledger.page() as tx:
        ledger_tool_calls.show(tx, page.calls)
    # The same key for the same calls: a flow run that starts again finds its form answered. Asked again, it is another.
    about = [f"{each.approval.place}{each.hash}{each.why}{each.approval.decided_at}" for each in page.calls]
    return await _ask(CallApproval, about_calls(run_id, page), about)


async def _ask(kind: type[Form], words: Markdown, about: Sequence[object]) -> Form:
    key = hashlib.blake2b(";".join(map(str, about)).encode(), digest_size=16).hexdigest()
    return await orchestrator().ask(kind, words, key=f"{kind.__name__.lower()}-{key}")


def _decide_holds(context: RunContext, holds: Sequence[Hold], given: Verdict) -> None:
    decide = ledger_gate_approvals.approve if given.decision == "approve" else ledger_gate_approvals.reject
    with suppress(Outdated), context.ledger.page() as tx:
        decide(tx, context.run, holds, who=given.who or NAMELESS, why=given.why or None, now=datetime.now(UTC))


def _decide_calls(context: RunContext, calls: Sequence[Pending], given: CallApproval) -> None:
    decision, who = "allowed" if given.decision == "allow" else "denied", given.who or NAMELESS
    with suppress(Outdated), context.ledger.page() as tx:
        ledger_tool_calls.decide(
            tx, context.run, calls, decision, who=who, why=given.why or None, now=datetime.now(UTC)
        )
