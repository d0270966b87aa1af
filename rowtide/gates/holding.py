"""Before a cent is spent, and before a row is written: does a gate hold the run for a person?"""

from collections.abc import Sequence

from rowtide.gates.holds import Failure
from rowtide.gates.judging import judge_load, judge_rows
from rowtide.ledger import ledger_holds, ledger_rows
from rowtide.ledger.states import RowState
from rowtide.work import Clock, Work, load_gate


def look_at_rows(work: Work, *, clock: Clock) -> None:
    """The rows gate: rows that fail are set aside, and what fails over all of them holds the run."""
    failures = judge_rows(work, clock=clock)
    _note(work, ["rows"], failures, (RowState.READY,), clock)


def may_send(work: Work) -> bool:
    """Whether the run may ask anything: not while the rows gate holds it."""
    with work.ledger.view() as tx:
        return all(hold.gate != "rows" for hold in ledger_holds.asked(tx, work.run))


def may_load(work: Work, *, clock: Clock) -> bool:
    """Judge the run before its load. False while a person must decide, or decides about rows that it lacks yet."""
    if not _judges_whole_runs(work):
        return True
    with work.ledger.view() as tx:
        counts = ledger_rows.counts(tx, work.run)
    if counts[RowState.HELD] or not may_send(work):
        return False  # the gates judge whole runs: a part of one says little
    if not counts[RowState.ACCEPTED] and (counts[RowState.LOADED] or not counts[RowState.QUARANTINED]):
        return True  # nothing to load; but that every row was set aside, somebody should hear
    failures = judge_load(work, clock=clock)
    return not _note(work, ["answers", "load"], failures, (RowState.ACCEPTED, RowState.LOADED), clock)


def _judges_whole_runs(work: Work) -> bool:
    """Whether there is anything to judge but row by row, which is done."""
    answers = load_gate(work.job, "answers")
    return work.job.spec.gates.load is not None or bool(answers and answers.of("shares", "whole"))


def _note(
    work: Work, gates: Sequence[str], failures: Sequence[Failure], states: Sequence[RowState], clock: Clock
) -> bool:
    """Put what failed before a person. Returns whether anything must wait."""
    with work.ledger.page() as tx:
        counts = ledger_rows.counts(tx, work.run)
        rows = sum(counts[state] for state in states)
        asked = [
            ledger_holds.judged(
                tx, work.run, gate, [each for each in failures if each.gate == gate], rows=rows, now=clock()
            )
            for gate in gates
        ]
    return any(asked)
