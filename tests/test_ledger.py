"""The ledger refuses what must not happen, whoever asks."""

import sqlite3
from contextlib import closing

import pytest
from conftest import NOW, make_rows, make_run
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from rowtide.agent.states import MOVES, RowState
from rowtide.errors import IllegalMove, UserMistake
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import job_versions as ledger_job_versions
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import loads as ledger_loads
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.migrations import MIGRATIONS
from rowtide.ledger.rows import MoveReason
from rowtide.ledger.turns import Reply, ToolRecord


def batch_of(ledger: Ledger, run: Run, rows: list[int], tag: str = "tag") -> int:
    with ledger.page() as tx:
        batch_no = ledger_batches.begin_packing(tx, run, tag, now=NOW)
        ledger_rows.put_in_batch(tx, batch_no, rows)
        ledger_batches.mark_packed(tx, batch_no, rows=len(rows), size=100, reserved_micro=900)
        ledger_batches.record_post_intent(tx, batch_no, newest_before=None, now=NOW)
        ledger_batches.mark_open(tx, batch_no, f"msgbatch_{tag}", adopted=False, now=NOW)
    return batch_no


def reply_to(row_no: int, batch_no: int, turn: int = 1, stop_reason: str = "end_turn") -> Reply:
    return Reply(row_no, turn, batch_no, 0, stop_reason, b'[{"type":"text","text":"{}"}]', 10, 0, 0, 5, 7, 70)


def states(ledger: Ledger, run: Run) -> dict[RowState, int]:
    with ledger.view() as tx:
        return {state: count for state, count in ledger_rows.count_by_state(tx, run).items() if count}


def test_a_page_of_rows_moves_whole_or_not_at_all(ledger: Ledger) -> None:
    run = make_run(ledger)
    rows = make_rows(ledger, run, 3)
    batch_of(ledger, run, rows[:1])
    with pytest.raises(IllegalMove, match="1 of 3 rows"), ledger.page() as tx:
        ledger_rows.put_in_batch(tx, 99, rows)
    assert states(ledger, run) == {RowState.READY: 2, RowState.IN_FLIGHT: 1}


def test_a_reply_filed_twice_is_refused_and_nothing_is_paid_twice(ledger: Ledger) -> None:
    run = make_run(ledger)
    rows = make_rows(ledger, run, 2)
    batch_no = batch_of(ledger, run, rows)
    with ledger.page() as tx:
        ledger_turns.file_replies(tx, [reply_to(row, batch_no) for row in rows])
    with pytest.raises(IllegalMove), ledger.page() as tx:
        ledger_turns.file_replies(tx, [reply_to(rows[0], batch_no)])
    with ledger.view() as tx:
        assert tx.execute(text("SELECT sum(cost_micro) FROM row")).scalar() == 14
        assert tx.execute(text("SELECT count(*) FROM turn")).scalar() == 2


def test_the_same_page_of_the_source_is_admitted_once(ledger: Ledger) -> None:
    run = make_run(ledger)
    make_rows(ledger, run, 3)
    with ledger.page() as tx:
        assert not ledger_rows.admit_rows(tx, run, [], read_before=0, read_after=3, now=NOW)
    assert states(ledger, run) == {RowState.READY: 3}


def test_two_rows_of_a_run_cannot_have_one_key(ledger: Ledger) -> None:
    run = make_run(ledger)
    make_rows(ledger, run, 1)
    insert = "INSERT INTO row (row_no, run_no, row_key, row_id, state) VALUES (7, :run, 'key-1', 'x', 'ready')"
    with pytest.raises(IntegrityError), ledger.page() as tx:
        tx.execute(text(insert), {"run": run.run_no})


def test_the_database_refuses_a_state_nobody_defined(ledger: Ledger) -> None:
    run = make_run(ledger)
    make_rows(ledger, run, 1)
    with pytest.raises(IntegrityError), ledger.page() as tx:
        tx.execute(text("UPDATE row SET state = 'lost'"))


def test_a_batch_becomes_open_only_after_its_intent(ledger: Ledger) -> None:
    run = make_run(ledger)
    with pytest.raises(IllegalMove, match="posting"), ledger.page() as tx:
        batch_no = ledger_batches.begin_packing(tx, run, "tag", now=NOW)
        ledger_batches.mark_open(tx, batch_no, "msgbatch_1", adopted=False, now=NOW)


def test_one_batch_at_the_api_belongs_to_one_batch_here(ledger: Ledger) -> None:
    run = make_run(ledger)
    rows = make_rows(ledger, run, 2)
    batch_of(ledger, run, rows[:1], "same")
    with pytest.raises(IntegrityError):
        batch_of(ledger, run, rows[1:], "same")


def test_recalled_rows_are_ready_again_and_were_not_bounced(ledger: Ledger) -> None:
    run = make_run(ledger)
    batch_no = batch_of(ledger, run, make_rows(ledger, run, 2))
    with ledger.page() as tx:
        assert ledger_rows.recall_rows_of_batch(tx, run, batch_no) == 2
        (first, _) = ledger_rows.rows_page(tx, run, RowState.READY, after=0, limit=10)
    assert first.bounces == 0


def test_a_conversation_is_read_back_as_it_was_held(ledger: Ledger) -> None:
    run = make_run(ledger)
    (row,) = make_rows(ledger, run, 1)
    batch_no = batch_of(ledger, run, [row])
    with ledger.page() as tx:
        ledger_turns.file_replies(tx, [reply_to(row, batch_no, stop_reason="tool_use")])
        ledger_turns.record_tool_calls(tx, [ToolRecord(row, 1, 0, "toolu_1", "a.b", b"{}", "out", 0, 3)])
        ledger_rows.continue_after_tools(tx, {row: 1})
        (at,) = ledger_rows.rows_page(tx, run, RowState.READY, after=0, limit=10)
        talk = ledger_turns.conversations(tx, [at])[row]
    assert [(said.stop_reason, [result.output for result in said.tool_results]) for said in talk] == [
        ("tool_use", ["out"])
    ]


def test_a_row_that_climbs_starts_a_fresh_conversation(ledger: Ledger) -> None:
    run = make_run(ledger)
    (row,) = make_rows(ledger, run, 1)
    batch_no = batch_of(ledger, run, [row])
    with ledger.page() as tx:
        ledger_turns.file_replies(tx, [reply_to(row, batch_no)])
        ledger_rows.escalate_rows(tx, [MoveReason(row, 1, "not_verified", "because")], {row: 1}, now=NOW)
        (at,) = ledger_rows.rows_page(tx, run, RowState.READY, after=0, limit=10)
        assert ledger_turns.conversations(tx, [at]) == {}
    assert (at.tier, at.turn, at.turns_here, at.corrections) == (1, 1, 0, 0)


def test_a_row_loaded_once_is_unchanged_next_time_and_changed_content_is_not(ledger: Ledger) -> None:
    run = make_run(ledger)
    rows = make_rows(ledger, run, 2)
    batch_no = batch_of(ledger, run, rows)
    with ledger.page() as tx:
        ledger_turns.file_replies(tx, [reply_to(row, batch_no) for row in rows])
        ledger_rows.record_answers(tx, run, dict.fromkeys(rows, b"{}"))
        ledger_rows.accept_rows(tx, rows)
        load = ledger_loads.begin_load(tx, run, "sink", rows=10, size=1000, now=NOW)
        assert load
        ledger_loads.finish_load(tx, run, load, "sink", now=NOW)
    again = make_run(ledger, "run-2")
    first, second = make_rows(ledger, again, 2, tier=None)
    with ledger.page() as tx:
        tx.execute(text("UPDATE row SET row_id = 'other' WHERE row_no = :row"), {"row": second})
        assert ledger_job_versions.mark_rows_settled_earlier(tx, again, first, second) == 1
    assert states(ledger, again) == {RowState.UNCHANGED: 1, RowState.READY: 1}


@pytest.mark.parametrize(("then", "state"), [("answer", RowState.ANSWERED), ("verify", RowState.ACCEPTED)])
def test_a_reply_may_be_followed_by_a_second_move_at_once_if_the_table_has_it(
    ledger: Ledger, then: str, state: RowState
) -> None:
    run = make_run(ledger)
    rows = make_rows(ledger, run, 2)
    batch_no = batch_of(ledger, run, rows)
    with pytest.raises(KeyError), ledger.page() as tx:
        ledger_turns.file_replies(tx, [reply_to(row, batch_no) for row in rows], then="load")
    with ledger.page() as tx:
        ledger_turns.file_replies(tx, [reply_to(row, batch_no) for row in rows], then=then)
    with pytest.raises(IllegalMove), ledger.page() as tx:
        ledger_turns.file_replies(tx, [reply_to(row, batch_no) for row in rows], then=then)
    assert states(ledger, run) == {state: 2}


def test_a_load_that_was_begun_names_the_same_rows_again(ledger: Ledger) -> None:
    run = make_run(ledger)
    rows = make_rows(ledger, run, 5)
    batch_no = batch_of(ledger, run, rows)
    with ledger.page() as tx:
        ledger_turns.file_replies(tx, [reply_to(row, batch_no) for row in rows])
        ledger_rows.record_answers(tx, run, dict.fromkeys(rows, b"{}"))
        ledger_rows.accept_rows(tx, rows)
        begun = ledger_loads.begin_load(tx, run, "sink", rows=3, size=1000, now=NOW)
    assert begun
    with ledger.page() as tx:
        assert ledger_loads.unfinished_loads(tx, run, "sink") == [begun]
        assert [row.row_no for row in ledger_loads.rows_of_load_page(tx, run, begun, after=0, limit=9)] == rows[:3]


def test_an_unknown_run_is_named_with_the_nearest_one(ledger: Ledger) -> None:
    make_run(ledger, "companies-1121")
    with pytest.raises(UserMistake, match="did you mean 'companies-1121'"), ledger.view() as tx:
        ledgers.find_run(tx, "companies-1112")


def test_opening_a_ledger_twice_migrates_it_once(tmp_path) -> None:
    url = ledgers.ledger_url(None, tmp_path)
    Ledger(url).close()
    again = Ledger(url)
    with again.view() as tx:
        assert tx.execute(text("SELECT count(*) FROM migration")).scalar() == len(MIGRATIONS)
    again.close()


def test_a_ledger_of_another_version_is_refused_and_left_as_it_is(tmp_path) -> None:
    file = tmp_path / "ledger.db"
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("CREATE TABLE migration (name TEXT PRIMARY KEY)")
        other.execute("INSERT INTO migration VALUES ('m900_of_next_year')")
    with pytest.raises(UserMistake, match=r"another version of Rowtide, which knows m900_of_next_year"):
        Ledger(f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [("migration",)]


def test_every_move_leads_to_one_state() -> None:
    for name in {name for _, name in MOVES}:
        assert len({after for (_, move), after in MOVES.items() if move == name}) == 1
