"""Many workers on one run: each piece of work is in one hand, and a dead hand lets go."""

import subprocess
import sys
from datetime import timedelta

import pytest
from conftest import NOW, make_rows, make_run

from rowtide.agent.states import RowState
from rowtide.errors import IllegalMove, LeaseLost
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import claims as ledger_claims
from rowtide.ledger import leases as ledger_leases
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.claims import SHARE_ROWS
from rowtide.ledger.ledger import Ledger, Run, find_run

ELSEWHERE = "elsewhere:1:1.0:"


def workers(ledger: Ledger, run: Run, *names: str) -> None:
    with ledger.page() as tx:
        for name in names:
            ledger_claims.join_run(tx, run.run_id, name, now=NOW)


def test_a_share_is_in_one_hand_and_only_one_with_rows_is_claimed(ledger: Ledger) -> None:
    run = make_run(ledger)
    rows = make_rows(ledger, run, 2 * SHARE_ROWS + 1)
    last = rows[SHARE_ROWS:]
    with ledger.page() as tx:
        ledger_rows.quarantine_rows(
            tx, [ledger_rows.MoveReason(row, 0, "refused") for row in rows[:SHARE_ROWS]], now=NOW
        )
        ledger_claims.offer_shares(tx, run)
        ledger_claims.offer_shares(tx, run)
        first = ledger_claims.claim_share(tx, run, RowState.READY, "me")
        second = ledger_claims.claim_share(tx, run, RowState.READY, "you")
        assert first
        assert second
        assert (first.number, first.first, second.last >= last[-1] > second.first - 1) == (1, last[0], True)
        assert ledger_claims.claim_share(tx, run, RowState.READY, "she") is None
        assert not ledger_claims.has_unclaimed_rows(tx, run, RowState.READY)
        ledger_claims.release_claim(tx, run, "share", first.number, "you")  # it is not yours
        assert ledger_claims.claim_share(tx, run, RowState.READY, "she") is None
        ledger_claims.release_claim(tx, run, "share", first.number, "me")
        assert ledger_claims.claim_share(tx, run, RowState.READY, "she") == first


def test_two_who_claim_at_the_same_moment_get_two_batches_and_neither_waits(postgres_ledger: str) -> None:
    ledger = Ledger(postgres_ledger)
    run = make_run(ledger)
    with ledger.page() as tx:
        ledger_claims.offer_claims(tx, run, "batch", [7, 8])
    with ledger.page() as mine, ledger.page() as yours:
        taken = [ledger_claims.claim_next(tx, run, "batch", "worker") for tx in (mine, yours, mine)]
    assert taken == [7, 8, None]
    ledger.close()


def test_what_a_dead_worker_had_in_hand_is_free_and_it_can_commit_nothing(ledger: Ledger) -> None:
    run = make_run(ledger)
    machine, *_ = ledger_leases.new_lease_holder("x").rsplit(":", 3)
    dead, late, here = f"{machine}:1:1.0:dead", f"{ELSEWHERE}late", f"{ELSEWHERE}here"
    workers(ledger, run, dead, late, here)
    soon = NOW + timedelta(seconds=50)
    with ledger.page() as tx:
        ledger_claims.renew_worker(tx, here, now=soon)
        ledger_claims.offer_claims(tx, run, "batch", [1, 2, 3])
        assert [ledger_claims.claim_next(tx, run, "batch", each) for each in (dead, late, here)] == [1, 2, 3]
        assert ledger_leases.lease_state(tx, run.run_id, now=soon) == "held"
    with ledger.view() as tx:
        found = ledger_claims.dead_workers(tx, run.run_id, now=NOW + timedelta(seconds=70))
    assert [holder for holder, _ in found] == sorted([dead, late])
    with ledger.page() as tx:
        ledger_claims.renew_worker(tx, late, now=soon)  # it was only slow
        assert [ledger_claims.reap_worker(tx, *each) for each in sorted(found)] == [
            each == dead for each, _ in sorted(found)
        ]
        assert ledger_claims.claim_next(tx, run, "batch", here) == 1
        assert ledger_claims.claim_next(tx, run, "batch", here) is None
        ledger_claims.check_still_worker(tx, run.run_id, late)
        with pytest.raises(LeaseLost, match="others took over"):
            ledger_claims.check_still_worker(tx, run.run_id, dead)


def test_whoever_leaves_lets_go_of_all_and_is_no_more_waited_for(ledger: Ledger) -> None:
    run = make_run(ledger)
    workers(ledger, run, "me:1:1.0:a", "you:1:1.0:b")
    with ledger.page() as tx:
        ledger_claims.offer_claims(tx, run, "batch", [1])
        assert ledger_claims.claim_next(tx, run, "batch", "you:1:1.0:b") == 1
        assert ledger_claims.are_other_workers_busy(tx, run, "me:1:1.0:a")
        assert not ledger_claims.are_other_workers_busy(tx, run, "you:1:1.0:b")
        ledger_claims.leave_run(tx, "you:1:1.0:b")
        assert not ledger_claims.has_other_workers(tx, run, "me:1:1.0:a")
        assert ledger_claims.claim_next(tx, run, "batch", "me:1:1.0:a") == 1
        ledger_claims.finish_claim(tx, run, "batch", 1, "me:1:1.0:a")
        assert ledger_claims.offered_claims(tx, run, "batch") == set()


def test_a_page_of_rows_is_copied_as_it_would_be_inserted_and_filed_once(ledger: Ledger) -> None:
    """PostgreSQL takes long pages by COPY, in another code path than short ones."""
    run = make_run(ledger)
    rows = make_rows(ledger, run, 500)
    awkward = {rows[0]: b'{"a": "tab\\t and \\\\N and line\\n"}', rows[1]: b"\x00\xff\\"}
    with ledger.page() as tx:
        batch = ledger_batches.begin_packing(tx, run, "tag", now=NOW)
        ledger_rows.put_in_batch(tx, batch, rows)
    with ledger.page() as tx:
        replies = [
            ledger_turns.Reply(row, 1, batch, 0, "end_turn", awkward.get(row, b"[]"), 1, 0, 0, 1, 7, 70) for row in rows
        ]
        ledger_turns.file_replies(tx, replies)
        assert find_run(tx, "run-1").read_rows == 500
        page = ledger_turns.replied_page(tx, run, after=0, last=run.last_row_no, limit=600)
    assert [content for _, _, content in page[:2]] == list(awkward.values())
    assert (len(page), {row.model for row in replies}) == (500, {None})
    with pytest.raises(IllegalMove), ledger.page() as tx:
        ledger_turns.file_replies(tx, replies)


@pytest.mark.slow
def test_four_workers_of_which_two_are_killed_come_to_the_end_of_one() -> None:
    """On PostgreSQL, real processes: the rows in the sink, the states and the bill are the same."""
    command = [sys.executable, "-m", "benchmarks.workers", "3000", "1", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "each time the same" in done.stdout
    assert "4 workers, 2 killed" in done.stdout
