"""Emits an event for each thing that keeps a run from going on: a gate, calls that await approval, a budget."""

import hashlib

from orchestration.emit_once import emit_once
from rowtide import clock
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import gate_approvals as ledger_gate_approvals
from rowtide.ledger import tool_calls as ledger_tool_calls
from rowtide.ledger.ledger import Run, find_run
from rowtide.report.report_text import STOPS
from rowtide.report.stop_text import enough_budget
from rowtide.report.summary_text import decision_commands
from rowtide.stages.run_context import RunContext
from rowtide.tiers.pricing import MICRO

BUDGETS = ("budget", "day_budget")


def emit_stop(context: RunContext) -> None:
    """Emit `rowtide.run.held` for each gate that holds the run and for calls that await approval;
    `rowtide.run.needs-a-person` for each orphaned batch; `rowtide.budget.reached`.
    """
    ledger = context.ledger
    with ledger.view() as tx:
        run = find_run(tx, context.run.run_id)
        gates, calls = ledger_gate_approvals.pending_gate_approvals(tx, run), ledger_tool_calls.pending_calls(tx, run)
        orphaned = ledger_batches.batches_in_states(tx, run, ["orphaned"])
    contact = {"owner": run.owner, "runbook": run.runbook}
    for gate in gates:
        payload = {"why": "gate", "gate": gate.gate, "failures": [each.text for each in gate.failures]}
        payload |= {**contact, "command": decision_commands(run.run_id)}
        emit_once(ledger, "run.held", "run", run.run_id, f"hold {gate.approval_no}", payload, run.job)
    if calls:
        places = ";".join(str(each.approval.place) for each in calls)
        which = hashlib.blake2b(places.encode(), digest_size=8).hexdigest()
        payload = {"why": "approval", "calls": len(calls), "tools": sorted({each.tool for each in calls})}
        payload |= {**contact, "command": f"rowtide approve {run.run_id}"}
        emit_once(ledger, "run.held", "run", run.run_id, f"calls {which}", payload, run.job)
    for batch in orphaned:
        payload = {"why": f"batch {batch.batch_no} of {batch.rows:,} rows: {batch.detail}", **contact}
        payload |= {"command": f"rowtide reconcile {run.run_id} {batch.batch_no} --help"}
        emit_once(ledger, "run.needs-a-person", "run", run.run_id, f"lost {batch.batch_no}", payload, run.job)
    if run.stopped in BUDGETS:
        micro = run.budget_micro
        payload = {"which": run.stopped, "budget_usd": None if micro is None else micro / MICRO}
        payload |= {"why": STOPS[run.stopped], **contact, "command": _with_more(run)}
        again = micro if run.stopped == "budget" else clock.now().date()
        emit_once(ledger, "budget.reached", "run", run.run_id, f"{run.stopped} {again}", payload, run.job)


def _with_more(run: Run) -> str:
    if run.stopped == "day_budget" or run.budget_micro is None:
        return f"after midnight, UTC: rowtide resume {run.run_id}"
    more = enough_budget(run.budget_micro / MICRO, (run.next_micro or 0) / MICRO)
    return f"rowtide resume {run.run_id} --budget {more:g}"
