"""Before a cent is spent, and before a row is written: does a gate hold the run for a person?"""

from collections.abc import Sequence

from rowtide.agent.states import RowState
from rowtide.gates.approvals import GateFailure
from rowtide.ledger import gate_approvals as ledger_gate_approvals
from rowtide.ledger import rows as ledger_rows
from rowtide.stages.run_context import Clock, RunContext, load_gate
from rowtide.stages.validate.run_gates import judge_load, judge_rows


def check_rows_gate(context: RunContext, *, clock: Clock) -> None:
    """The rows gate: rows that fail are quarantined, and what fails over all of them holds the run."""
    failures = judge_rows(context, clock=clock)
    _note(context, ["rows"], failures, (RowState.READY,), clock)


def may_send(context: RunContext) -> bool:
    """Whether the run may ask anything: not while the rows gate holds it."""
    with context.ledger.view() as tx:
        return all(
            gate_approval.gate != "rows"
            for gate_approval in ledger_gate_approvals.pending_gate_approvals(tx, context.run)
        )


def may_load(context: RunContext, *, clock: Clock) -> bool:
    """Judge the run before its load. False while a person must decide, or decides about rows that it lacks yet."""
    if not _judges_whole_runs(context):
        return True
    with context.ledger.view() as tx:
        counts = ledger_rows.count_by_state(tx, context.run)
    if counts[RowState.HELD] or not may_send(context):
        return False  # the gates judge whole runs: a part of one says little
    if not counts[RowState.ACCEPTED] and (counts[RowState.LOADED] or not counts[RowState.QUARANTINED]):
        return True  # nothing to load; but that every row was quarantined, somebody should hear
    failures = judge_load(context, clock=clock)
    return not _note(context, ["answers", "load"], failures, (RowState.ACCEPTED, RowState.LOADED), clock)


def _judges_whole_runs(context: RunContext) -> bool:
    """Whether there is anything to judge but row by row, which is done."""
    answers = load_gate(context.job, "answers")
    return context.job.spec.gates.load is not None or bool(answers and answers.of("shares", "whole"))


def _note(
    context: RunContext, gates: Sequence[str], failures: Sequence[GateFailure], states: Sequence[RowState], clock: Clock
) -> bool:
    """Put what failed before a person. Returns whether anything must wait."""
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
