"""Emits an event for each thing that keeps a run from going on: a gate, calls that await approval, a budget."""

import hashlib

from orchestration.emit_once import emit_once
from rowtide import clock
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import evals as ledger_evals
from rowtide.ledger import gate_approvals as ledger_gate_approvals
from rowtide.ledger import tool_calls as ledger_tool_calls
from rowtide.ledger.ledger import Ledger, Run, find_run
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
        name, micro = _budget_of(ledger, run)
        payload = {"which": run.stopped, "budget_usd": None if micro is None else micro / MICRO}
        payload |= {"why": STOPS[run.stopped], **contact, "command": _with_more(run, name, micro)}
        again = micro if run.stopped == "budget" else clock.now().date()
        kind = "eval" if run.eval_id else "run"
        emit_once(ledger, "budget.reached", kind, name, f"{run.stopped} {again}", payload, run.job)


def _budget_of(ledger: Ledger, run: Run) -> tuple[str, int | None]:
    """Return the id that the budget belongs to, and the budget: of an eval's run, the eval's."""
    if run.eval_id is None:
        return run.run_id, run.budget_micro
    with ledger.view() as tx:
        return run.eval_id, ledger_evals.get(tx, run.eval_id).budget_micro


def _with_more(run: Run, name: str, budget_micro: int | None) -> str:
    if run.stopped == "day_budget" or budget_micro is None:
        return f"after midnight, UTC: rowtide resume {name}"
    more = enough_budget(budget_micro / MICRO, (run.next_micro or 0) / MICRO)
    return f"rowtide resume {name} --budget {more:g}"
