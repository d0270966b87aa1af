"""What both versions answered to the rows of a look."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from rowtide.agent.states import RowState
from rowtide.errors import RowtideError, RunStopped
from rowtide.evals.outcome import EXTRA, ArmName
from rowtide.ledger import evals as ledger_evals
from rowtide.ledger import ledger as ledgers
from rowtide.ledger.evals import Eval, EvalRow
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read import evals as read_evals
from rowtide.ledger.read.evals import ArmRow

LOADED = ("accepted", "loaded")
ARMS: tuple[ArmName, ...] = ("incumbent", "candidate")


@dataclass(frozen=True, slots=True)
class LookAnswers:
    """The rows of a look that are not scored yet, with what the ledger has of them."""

    rows: list[EvalRow]
    known: Mapping[int, ArmRow]
    """By their number: rows of earlier runs."""
    answered: Mapping[ArmName, Mapping[str, ArmRow]]
    """By key: rows of the look's own runs."""

    def of(self, row: EvalRow, arm: ArmName) -> ArmRow | None:
        """Return what a version made of a row; None where it was not asked."""
        before = row.candidate_row if arm == "candidate" else row.incumbent_row
        return self.known[before] if before is not None else self.answered[arm].get(row.row_key)

    def answer_of(self, row: EvalRow, arm: ArmName) -> Mapping[str, Any] | None:
        """Return a version's answer to a row, if it would be loaded."""
        found = self.of(row, arm)
        if found is None or found.answer is None or found.state not in LOADED:
            return None
        return orjson.loads(found.answer)


def run_of(found: Eval, look: int, arm: ArmName) -> str:
    """The id of the run that asks a look's rows of an arm."""
    return f"{found.eval_id}-{look}-{arm}"


def looks_of(look: int) -> tuple[int, ...]:
    """Whose rows are asked with a look: its own; and those that none counts with the first."""
    return (EXTRA, 1) if look == 1 else (look,)


def read_look(ledger: Ledger, found: Eval, look: int) -> LookAnswers:
    """Return the rows of a look with both versions' answers.

    Raises RunStopped where rows of it are still to be asked: a budget, or a person, stands before them.
    """
    with ledger.view() as tx:
        rows = [row for row in ledger_evals.rows(tx, found.eval_no, looks_of(look)) if row.found is None]
        earlier = [each for row in rows for each in (row.candidate_row, row.incumbent_row) if each is not None]
        known = read_evals.arm_rows(tx, earlier)
    answered: dict[ArmName, dict[str, ArmRow]] = {}
    for arm in ARMS:
        answered[arm] = {each.row_key: each for each in settled_rows(ledger, found, run_of(found, look, arm))}
    return LookAnswers(rows, known, answered)


def settled_rows(ledger: Ledger, found: Eval, run_id: str) -> list[ArmRow]:
    """Return the rows of one of an eval's runs; none where it was not begun. Raises RunStopped where some wait."""
    with ledger.view() as tx:
        run = ledgers.find_run(tx, run_id) if ledgers.has_run(tx, run_id) else None
        rows = read_evals.rows_of_run(tx, run.run_no) if run else []
    _check_over(found, run and run.stopped, rows)
    return rows


def _check_over(found: Eval, stopped: str | None, rows: Iterable[ArmRow]) -> None:
    """Raise what keeps rows of a run from being settled."""
    waiting = Counter(row.state for row in rows if row.state not in (*LOADED, RowState.QUARANTINED.value))
    if not waiting:
        return
    left = ", ".join(f"{count:,} {state}" for state, count in waiting.items())
    if stopped in ("budget", "day_budget"):
        words = f"eval {found.eval_id} stopped at the {stopped.replace('_', ' ')} with rows left: {left}"
        raise RunStopped(f"{words}; `rowtide resume {found.eval_id} --budget MORE` goes on")
    why = f" ({stopped})" if stopped else ""
    raise RowtideError(
        f"eval {found.eval_id} stopped with rows left{why}: {left}; `rowtide resume {found.eval_id}` goes on"
    )
