"""Decides whether the pump does another round: not when something stops its rows, or nothing changes any more."""

from collections.abc import Mapping

from rowtide.agent.states import RowState, RunStop
from rowtide.ledger import idle_rounds as ledger_idle_rounds
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import live_calls as ledger_live_calls
from rowtide.ledger import rows as ledger_rows
from rowtide.stages.run_context import RunContext
from rowtide.stages.work_shares import may_more_come

UNDECIDED = (RowState.READY, RowState.IN_FLIGHT, RowState.REPLIED, RowState.ANSWERED)
ROUNDS = 3  # rounds without change before the run is stopped


def count_undecided_rows(context: RunContext, why: str | None = None, next_micro: int | None = None) -> int:
    """Count the rows that the pump must go on for, without ready rows that no budget allows or that wait for a held
    row.

    `why` is what keeps ready rows from being sent. It stops the run if nothing else is under way, as do ROUNDS rounds
    in which no row and no batch changed.
    """
    with context.ledger.view() as tx:
        counts = ledger_rows.count_by_state(tx, context.run)
        blocked = ledger_live_calls.count_blocked_rows(tx, context.run) if counts[RowState.HELD] else 0
        stopped = ledgers.find_run(tx, context.run.run_id).stopped
    moving = sum(counts[state] for state in UNDECIDED if state is not RowState.READY)
    if (why := stopped or why) and not moving:
        if not stopped:
            with context.ledger.page() as tx:
                ledgers.stop_run(tx, context.run, why, next_micro=next_micro)
        return 0
    going = moving + counts[RowState.READY] - blocked
    may_be_stuck = going and context.worker.is_alone and not may_more_come(context)
    return 0 if may_be_stuck and _is_stuck(context, counts) else going


def stop_sending(context: RunContext, why: RunStop, words: str) -> None:
    """Stop the run, with a reason: nothing more is sent until it is resumed."""
    with context.ledger.page() as tx:
        ledgers.stop_run(tx, context.run, why, detail=words)


def _is_stuck(context: RunContext, counts: Mapping[RowState, int]) -> bool:
    """Return whether this is the ROUNDS-th round without change; if so, stop the run."""
    with context.ledger.page() as tx:
        rounds = ledger_idle_rounds.begin_round(tx, context.run)
    if rounds < ROUNDS:
        return False
    left = ", ".join(f"{counts[state]:,} {state.value}" for state in UNDECIDED if counts[state])
    stop_sending(context, RunStop.STUCK, f"{rounds} rounds changed nothing; rows left: {left}")
    return True
