"""Whether the pump goes round once more: rows that can still move, what stops them, and rounds that change nothing."""

from collections.abc import Mapping

from rowtide.ledger import ledger as ledgers
from rowtide.ledger import ledger_lanes, ledger_rounds, ledger_rows
from rowtide.ledger.states import RowState, RunStop
from rowtide.sharing import may_more_come
from rowtide.work import Work

UNDECIDED = (RowState.READY, RowState.IN_FLIGHT, RowState.REPLIED, RowState.ANSWERED)
ROUNDS = 3  # that change nothing, before the run is stopped: nothing but time passes in them


def undecided(work: Work, why: str | None = None, next_micro: int | None = None) -> int:
    """How many rows the pump must go on for: not those that no budget bears, nor those that come after a held one.

    `why` is what keeps ready rows from being sent. With nothing else under way it stops the run, and so do rounds in
    which no row and no batch changed.
    """
    with work.ledger.view() as tx:
        counts = ledger_rows.counts(tx, work.run)
        blocked = ledger_lanes.blocked(tx, work.run) if counts[RowState.HELD] else 0
        stopped = ledgers.find_run(tx, work.run.run_id).stopped
    moving = sum(counts[state] for state in UNDECIDED if state is not RowState.READY)
    if (why := stopped or why) and not moving:
        if not stopped:
            with work.ledger.page() as tx:
                ledgers.stop(tx, work.run, why, next_micro=next_micro)
        return 0
    going = moving + counts[RowState.READY] - blocked
    may_be_stuck = going and work.worker.is_alone and not may_more_come(work)
    return 0 if may_be_stuck and _is_stuck(work, counts) else going


def stop(work: Work, why: RunStop, words: str) -> None:
    """Send nothing more for this run, and say why; it can be resumed."""
    with work.ledger.page() as tx:
        ledgers.stop(tx, work.run, why, detail=words)


def _is_stuck(work: Work, counts: Mapping[RowState, int]) -> bool:
    """Whether this is one round too many that begins as the one before it did. It stops the run, and says so."""
    with work.ledger.page() as tx:
        rounds = ledger_rounds.begin(tx, work.run)
    if rounds < ROUNDS:
        return False
    left = ", ".join(f"{counts[state]:,} {state.value}" for state in UNDECIDED if counts[state])
    stop(work, RunStop.STUCK, f"{rounds} rounds changed nothing; rows left: {left}")
    return True
