"""Checks whether a gate holds the run for approval: before anything is asked, and before anything is loaded."""

from collections.abc import Sequence

from rowtide.agent.states import RowState
from rowtide.gates.approvals import GateFailure
from rowtide.ledger import gate_approvals as ledger_gate_approvals
from rowtide.ledger import rows as ledger_rows
from rowtide.stages.run_context import Clock, RunContext, load_gate
from rowtide.stages.validate.run_gates import judge_load, judge_rows


def check_rows_gate(context: RunContext, *, clock: Clock) -> None:
    """Judge by the rows gate: failing rows are quarantined, and failures over all rows hold the run."""
    failures = judge_rows(context, clock=clock)
    _note(context, ["rows"], failures, (RowState.READY,), clock)


def may_send(context: RunContext) -> bool:
    """Return whether the run may ask anything: not while the rows gate holds it."""
    with context.ledger.view() as tx:
        return all(each.gate != "rows" for each in ledger_gate_approvals.pending_gate_approvals(tx, context.run))


def may_load(context: RunContext, *, clock: Clock) -> bool:
    """Judge the run before its load. Returns False while a gate awaits approval, or rows are held."""
    if not _judges_whole_runs(context):
        return True
    with context.ledger.view() as tx:
        counts = ledger_rows.count_by_state(tx, context.run)
    if counts[RowState.HELD] or not may_send(context):
        return False  # the gates judge whole runs, and this one is not whole
    if not counts[RowState.ACCEPTED] and (counts[RowState.LOADED] or not counts[RowState.QUARANTINED]):
        return True  # nothing to load; but if every row was quarantined, a person should hear of it
    failures = judge_load(context, clock=clock)
    return not _note(context, ["answers", "load"], failures, (RowState.ACCEPTED, RowState.LOADED), clock)


def _judges_whole_runs(context: RunContext) -> bool:
    """Return whether a gate judges more than single rows, which is done already."""
    answers = load_gate(context.job, "answers")
    return context.job.spec.gates.load is not None or bool(answers and answers.of("shares", "whole"))


def _note(
    context: RunContext, gates: Sequence[str], failures: Sequence[GateFailure], states: Sequence[RowState], clock: Clock
) -> bool:
    """Record the failures for approval. Returns whether the run must wait."""
    with context.ledger.page() as tx:
        counts = ledger_rows.count_by_state(tx, context.run)
        rows = sum(counts[state] for state in states)
        asked = [
            ledger_gate_approvals.record_gate_judgement(
                tx, context.run, gate, [each for each in failures if each.gate == gate], rows=rows, now=clock()
            )
            for gate in gates
        ]
    return any(asked)
