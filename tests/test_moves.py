"""A row moves as the table says and in no other way, whatever is asked of the ledger in whatever order."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from conftest import NOW, make_rows, make_run
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import Connection, text

from rowtide.agent.states import MOVES, RowState
from rowtide.errors import IllegalMove
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import loads as ledger_loads
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.ledger.loads import Load
from rowtide.ledger.rows import MoveReason
from rowtide.ledger.turns import Reply

ROWS = 6


class ALedger(RuleBasedStateMachine):
    """A ledger of a few rows, and beside it what the table says of each."""

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.TemporaryDirectory()
        self.ledger = Ledger(ledger_url(None, Path(self.home.name)))
        self.run_ = make_run(self.ledger)
        self.rows = make_rows(self.ledger, self.run_, ROWS)
        self.states = dict.fromkeys(self.rows, RowState.READY)
        self.turns = dict.fromkeys(self.rows, 0)
        self.cost = 0
        with self.ledger.page() as tx:
            self.batch = ledger_batches.begin_packing(tx, self.run_, "tag", now=NOW)

    def teardown(self) -> None:
        self.ledger.close()
        self.home.cleanup()

    @rule(
        name=st.sampled_from(sorted({name for _, name in MOVES})), chosen=st.sets(st.integers(0, ROWS - 1), min_size=1)
    )
    def ask(self, name: str, chosen: set[int]) -> None:
        if name not in ASK:
            return
        rows = [self.rows[n] for n in sorted(chosen)]
        targets = [MOVES.get((self.states[row], name)) for row in rows]
        try:
            with self.ledger.page() as tx:
                ASK[name](self, tx, rows)
        except IllegalMove:
            assert None in targets, f"{name} was refused for {[self.states[row] for row in rows]}"
            return
        assert None not in targets, f"{name} was allowed for {[self.states[row] for row in rows]}"
        for row, target in zip(rows, targets, strict=True):
            assert target is not None
            self.states[row] = target
            if name == "reply":
                self.turns[row], self.cost = self.turns[row] + 1, self.cost + 7

    @invariant()
    def every_row_is_where_the_table_put_it(self) -> None:
        with self.ledger.view() as tx:
            found = dict(tx.execute(text("SELECT row_no, state FROM row")).tuples().all())
            paid = tx.execute(text("SELECT sum(cost_micro) FROM row")).scalar_one()
            said = tx.execute(text("SELECT count(*), coalesce(sum(cost_micro), 0) FROM turn")).one()
        assert found == {row: state.value for row, state in self.states.items()}
        assert (paid, *said) == (self.cost, sum(self.turns.values()), self.cost)

    def move_reasons(self, rows: list[int]) -> list[MoveReason]:
        return [MoveReason(row, self.turns[row], "because", "so") for row in rows]

    def replies(self, rows: list[int]) -> list[Reply]:
        return [Reply(row, self.turns[row] + 1, self.batch, 0, "end_turn", b"[]", 1, 0, 0, 1, 7, 70) for row in rows]


Ask = Callable[[ALedger, Connection, list[int]], object]

# `release` and `retry` are a person's, and `find` a whole batch's: they come with the commands that make them.
ASK: dict[str, Ask] = {
    "submit": lambda m, tx, rows: ledger_rows.put_in_batch(tx, m.batch, rows),
    "reply": lambda m, tx, rows: ledger_turns.file_replies(tx, m.replies(rows)),
    "bounce": lambda m, tx, rows: ledger_rows.bounce_rows(tx, m.move_reasons(rows), now=NOW),
    "recall": lambda m, tx, rows: ledger_rows.recall_rows(tx, rows),
    "hold": lambda m, tx, rows: ledger_rows.hold_rows(tx, m.move_reasons(rows), now=NOW),
    "continue": lambda m, tx, rows: ledger_rows.continue_after_tools(tx, dict.fromkeys(rows, 1)),
    "correct": lambda m, tx, rows: ledger_rows.correct_rows(tx, m.move_reasons(rows), now=NOW),
    "extend_max_tokens": lambda m, tx, rows: ledger_rows.extend_max_tokens(tx, m.move_reasons(rows), now=NOW),
    "escalate": lambda m, tx, rows: ledger_rows.escalate_rows(
        tx, m.move_reasons(rows), dict.fromkeys(rows, 1), now=NOW
    ),
    "answer": lambda m, tx, rows: ledger_rows.record_answers(tx, m.run_, dict.fromkeys(rows, b"{}")),
    "verify": lambda m, tx, rows: ledger_rows.record_answers(tx, m.run_, dict.fromkeys(rows, b"{}"), is_gated=False),
    "accept": lambda m, tx, rows: ledger_rows.accept_rows(tx, rows),
    "quarantine": lambda m, tx, rows: ledger_rows.quarantine_rows(tx, m.move_reasons(rows), now=NOW),
    "load": lambda m, tx, rows: load(m, tx, rows),
}


def load(m: ALedger, tx: Connection, rows: list[int]) -> None:
    """All of them as one part."""
    for row in rows:
        tx.execute(text("UPDATE row SET load_no = 1 WHERE row_no = :row"), {"row": row})
    ledger_loads.finish_load(tx, m.run_, Load(1, "part", rows[0], rows[-1], len(rows), ""), "sink", now=NOW)


TestMoves = ALedger.TestCase
TestMoves.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
