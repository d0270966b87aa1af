"""Asks a person's approval of calls, and of gates that hold the run."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel

from configuration.ledger_settings import LedgerSettings
from orchestration.emit_stop import emit_stop
from orchestration.name_run import name_run
from rowtide.errors import DecisionOutdated
from rowtide.escaping import Markdown
from rowtide.gates.approval_forms import CallApproval, Verdict
from rowtide.gates.approvals import GateApproval
from rowtide.gates.call_approvals import CallPage, PendingCall, approval_pages
from rowtide.ledger import gate_approvals as ledger_gate_approvals
from rowtide.ledger import tool_calls as ledger_tool_calls
from rowtide.report.approval_text import call_approval_text, gate_approval_text
from rowtide.stages.orchestrator import current_orchestrator
from rowtide.stages.run_context import RunContext
from tasks.load import load

NAMELESS = "the Prefect UI"

Form = TypeVar("Form", bound=BaseModel)


async def ask_approval(run_id: str) -> bool:
    """Ask for approval by a form on the flow run's page: load what may be loaded, then suspend until it is answered.

    Each form decides on what it shows, as shown. Returns whether rows go on. Without a deployment there are no forms,
    and it returns False: `rowtide approve` is used instead. Not durable: only a flow can suspend itself.
    """
    if not current_orchestrator().can_suspend:
        return False
    await load(run_id)
    database = await LedgerSettings.in_force()
    async with database.get_run_alone(run_id) as context:
        emit_stop(context)
    return await _ask_about_gates(database, run_id) or await _ask_about_calls(database, run_id)


async def _ask_about_gates(database: LedgerSettings, run_id: str) -> bool:
    async with database.get_run_alone(run_id) as context:
        with context.ledger.page() as tx:
            gate_approvals = ledger_gate_approvals.pending_gate_approvals(tx, context.run)
            words = gate_approval_text(
                run_id, gate_approvals, ledger_gate_approvals.rows_awaiting_gates(tx, context.run, gate_approvals)
            )
            ledger_gate_approvals.mark_gates_shown(tx, gate_approvals)
        if gate_approvals:
            await name_run(context.run, "waits for a person, at a gate")
    if gate_approvals:
        given = await _ask(Verdict, words, [f"{each.approval_no}{each.hash}" for each in gate_approvals])
        async with database.get_run_alone(run_id) as context:
            _decide_gates(context, gate_approvals, given)
    return bool(gate_approvals)


async def _ask_about_calls(database: LedgerSettings, run_id: str) -> bool:
    """Ask about each page, and decide when all are answered: earlier decisions would let rows go on and delay later
    pages.

    If a page's calls have changed since it was shown, nothing on it is decided, and the next round asks again.
    """
    async with database.get_run_alone(run_id) as context:
        with context.ledger.view() as tx:
            pages = approval_pages(ledger_tool_calls.pending_calls(tx, context.run))
        if pages:
            await name_run(context.run, "waits for a person to allow calls")
    given = [await _ask_about_page(database, run_id, page) for page in pages]
    async with database.get_run_alone(run_id) as context:
        for page, given_form in zip(pages, given, strict=True):
            _decide_calls(context, page.calls, given_form)
    return bool(pages)


async def _ask_about_page(database: LedgerSettings, run_id: str, page: CallPage) -> CallApproval:
    with database.get_ledger() as ledger, ledger.page() as tx:
        ledger_tool_calls.mark_calls_shown(tx, page.calls)
    # The same key for the same calls, so that a restarted flow run finds its form answered; a new request has a new
    # key.
    about = [f"{each.approval.place}{each.hash}{each.why}{each.approval.decided_at}" for each in page.calls]
    return await _ask(CallApproval, call_approval_text(run_id, page), about)


async def _ask(kind: type[Form], words: Markdown, about: Sequence[object]) -> Form:
    key = hashlib.blake2b(";".join(map(str, about)).encode(), digest_size=16).hexdigest()
    return await current_orchestrator().ask(kind, words, key=f"{kind.__name__.lower()}-{key}")


def _decide_gates(context: RunContext, gate_approvals: Sequence[GateApproval], given: Verdict) -> None:
    decide = ledger_gate_approvals.approve_gates if given.decision == "approve" else ledger_gate_approvals.reject_gates
    with suppress(DecisionOutdated), context.ledger.page() as tx:
        decide(tx, context.run, gate_approvals, who=given.who or NAMELESS, why=given.why or None, now=datetime.now(UTC))


def _decide_calls(context: RunContext, calls: Sequence[PendingCall], given: CallApproval) -> None:
    decision, who = "allowed" if given.decision == "allow" else "denied", given.who or NAMELESS
    with suppress(DecisionOutdated), context.ledger.page() as tx:
        ledger_tool_calls.decide_calls(
            tx, context.run, calls, decision, who=who, why=given.why or None, now=datetime.now(UTC)
        )
