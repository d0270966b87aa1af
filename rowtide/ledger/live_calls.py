"""Records live calls, and the order of rows that come after others.

A process's live calls are one *batch* of their lane: open while it makes them, then filed. A row is recorded as in
flight, and its worst-case cost as reserved, before its call is made. When the process dies, rows with a call on the
wire are asked again; that is noted, and what they may have cost stays reserved.
"""

import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from rowtide.agent.agent import RowAt
from rowtide.lanes.lane_table import Lane
from rowtide.lanes.lanes import LaneChoice, LaneHistory
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.batches import IN_BATCHES, LIVE_CALLS
from rowtide.ledger.ledger import Run, is_one_of, list_parameter, to_timestamp
from rowtide.ledger.rows import COLUMNS, MoveReason
from rowtide.tiers.pricing import MICRO

SEEN = 200  # how many of the latest batches or calls to measure durations from
ON_THE_WIRE = "the process died while this call was on the wire: it may be paid for twice"
SETTLED = "('accepted', 'loaded', 'quarantined', 'unchanged')"  # rows that come after such a row may go


def record_lane_choice(tx: Connection, run: Run, choice: LaneChoice) -> None:
    """Record the lane of the run's rows, and why. The first choice is kept."""
    tx.execute(
        text("UPDATE run SET chosen_lane = :lane, lane_why = :why WHERE run_no = :run AND chosen_lane IS NULL"),
        {"lane": choice.lane.name, "why": choice.why, "run": run.run_no},
    )


def lane_history(tx: Connection, job: str, api: str) -> LaneHistory:
    """Return how long batches and live calls took on this API, and the turns and cost of the job's rows; defaults where
    nothing is known.
    """
    usual = LaneHistory()
    batches, calls = _took(tx, api, f"b.{IN_BATCHES}"), _took(tx, api, f"b.{LIVE_CALLS}")
    query = text(
        "SELECT count(*), sum(r.turn), sum(r.cost_micro) FROM "
        "(SELECT r.turn, r.cost_micro FROM row r JOIN run u USING (run_no) WHERE u.job = :job AND u.api = :api "
        "AND r.turn > 0 AND r.state IN ('accepted', 'loaded', 'quarantined') ORDER BY r.row_no DESC LIMIT 1000) r"
    )
    rows, turns, cost_micro = tx.execute(query, {"job": job, "api": api}).one()
    return LaneHistory(
        batch_p90=timedelta(seconds=_p90(batches)) if batches else usual.batch_p90,
        batches=len(batches),
        call_seconds=statistics.median(calls) if calls else usual.call_seconds,
        turns=int(turns) / rows if rows else usual.turns,
        row_usd=int(cost_micro) / rows / MICRO if rows else None,
    )


def begin_live_calls(tx: Connection, run: Run, lane: Lane, tag: str, *, now: datetime) -> int:
    """Insert a batch that stands for this process's live calls. Returns its batch_no."""
    return tx.execute(
        text(
            "INSERT INTO batch (run_no, tag, state, lane, packed_at, opened_at, posted_at) "
            "VALUES (:run, :tag, 'open', :lane, :now, :now, :now) RETURNING batch_no"
        ),
        {"run": run.run_no, "tag": tag, "lane": lane.name, "now": to_timestamp(now)},
    ).scalar_one()


def start_calls(tx: Connection, batch_no: int, costs: Mapping[int, int]) -> None:
    """Record calls before they are made: row_no → worst-case cost in micro-dollars."""
    ledger_rows.put_in_batch(tx, batch_no, list(costs))
    _count(tx, batch_no, rows=len(costs), reserved=sum(costs.values()))


def end_calls(tx: Connection, batch_no: int, reserved_micro: int) -> None:
    """Release the reservation of finished calls, in micro-dollars; their true cost is counted with their replies."""
    _count(tx, batch_no, reserved=-reserved_micro)


def return_rejected_calls(tx: Connection, batch_no: int, costs: Mapping[int, int]) -> None:
    """Return rows to ready whose calls the API did not accept; the calls cost nothing."""
    ledger_rows.recall_rows(tx, list(costs))
    _count(tx, batch_no, rows=-len(costs), reserved=-sum(costs.values()))


def repeat_orphaned_calls(tx: Connection, move_reasons: Sequence[MoveReason], *, now: datetime) -> None:
    """Ask rows again whose calls got no reply but may be paid for; their worst-case cost stays reserved."""
    ledger_rows.repeat_calls(tx, move_reasons, now=now)


def close_live_calls(tx: Connection, batch_no: int, *, call_seconds: float | None, now: datetime) -> None:
    """Mark the process's live calls filed. `call_seconds` is the median duration of a call."""
    tx.execute(
        text("UPDATE batch SET state = 'filed', filed_at = :now, took_seconds = :took WHERE batch_no = :batch"),
        {"now": to_timestamp(now), "took": call_seconds, "batch": batch_no},
    )


def recover_orphaned_calls(tx: Connection, run: Run, *, now: datetime) -> int:
    """Return a dead process's rows on the wire to ready, with a note. Returns how many."""
    query = text(f"SELECT batch_no FROM batch WHERE run_no = :run AND state = 'open' AND {LIVE_CALLS}")
    left = 0
    for batch_no in tx.execute(query, {"run": run.run_no}).scalars().all():
        rows = ledger_rows.rows_waiting_for_batch(tx, run, batch_no)
        repeat_orphaned_calls(
            tx, [MoveReason(row.row_no, row.turn, "on_the_wire", ON_THE_WIRE) for row in rows], now=now
        )
        close_live_calls(tx, batch_no, call_seconds=None, now=now)
        left += len(rows)
    return left


def link_rows(tx: Connection, run: Run, keys: Mapping[int, str]) -> list[int]:
    """Link rows to the rows they come after (row_no → key). Returns those whose key names no other row of the run."""
    query = text(
        f"SELECT row_key, row_no FROM row WHERE run_no = :run AND row_key {is_one_of(tx, 'keys', kind='text')}"
    )
    found = dict(
        tx.execute(query, {"run": run.run_no, "keys": list_parameter(list(set(keys.values())))}).tuples().all()
    )
    linked = {row_no: found[key] for row_no, key in keys.items() if found.get(key, row_no) != row_no}
    if linked:
        values = [{"row": row_no, "after": after} for row_no, after in linked.items()]
        tx.execute(text("UPDATE row SET after_no = :after WHERE row_no = :row"), values)
    return [row_no for row_no in keys if row_no not in linked]


def link_rows_in_order(tx: Connection, run: Run) -> None:
    """Link each ready row to the ready row before it."""
    tx.execute(
        text(
            "UPDATE row SET after_no = (SELECT max(p.row_no) FROM row p WHERE p.run_no = :run AND p.state = 'ready' "
            "AND p.row_no < row.row_no) WHERE run_no = :run AND state = 'ready' AND after_no IS NULL"
        ),
        {"run": run.run_no},
    )


def row_links(tx: Connection, run: Run) -> dict[int, int]:
    """Return row_no → the row_no it comes after."""
    query = text("SELECT row_no, after_no FROM row WHERE run_no = :run AND after_no IS NOT NULL")
    return dict(tx.execute(query, {"run": run.run_no}).tuples().all())


def rows_that_may_go(tx: Connection, run: Run, *, limit: int) -> list[RowAt]:
    """Return ready rows that come after no row, or after a settled one."""
    query = text(
        f"SELECT {COLUMNS} FROM row r LEFT JOIN row p ON p.row_no = r.after_no WHERE r.run_no = :run "
        f"AND r.state = 'ready' AND r.tier IS NOT NULL AND (r.after_no IS NULL OR p.state IN {SETTLED}) "
        "ORDER BY r.row_no LIMIT :limit"
    )
    return [RowAt(*each) for each in tx.execute(query, {"run": run.run_no, "limit": limit})]


def count_blocked_rows(tx: Connection, run: Run) -> int:
    """Count the ready rows that wait, directly or through other rows, for a held row."""
    query = text(
        "WITH RECURSIVE waiting(row_no) AS (SELECT row_no FROM row WHERE run_no = :run AND state = 'held' UNION ALL "
        "SELECT r.row_no FROM waiting w JOIN row r ON r.after_no = w.row_no AND r.state = 'ready') "
        "SELECT count(*) FROM waiting w JOIN row r ON r.row_no = w.row_no WHERE r.state = 'ready'"
    )
    return int(tx.execute(query, {"run": run.run_no}).scalar_one())


def rows_after_quarantined(tx: Connection, run: Run) -> list[MoveReason]:
    """Return the ready rows that come after a quarantined row, each with that as its reason."""
    query = text(
        "SELECT r.row_no, r.turn, p.row_key, p.reason FROM row r JOIN row p ON p.row_no = r.after_no "
        "WHERE r.run_no = :run AND r.state = 'ready' AND p.state = 'quarantined'"
    )
    return [
        MoveReason(row_no, turn, "after_quarantined", f"the row it comes after, {key!r}, is in quarantine: {reason}")
        for row_no, turn, key, reason in tx.execute(query, {"run": run.run_no})
    ]


def earlier_answers(tx: Connection, run: Run, row_no: int, *, at_least: int) -> list[tuple[bytes, bytes]]:
    """Return the verified rows before a row, farthest first: (content, answer), both JSON.

    Returns `at_least` to twice as many: the first is the same for many rows in turn, so that the API's cache has it.
    """
    query = text(
        "WITH RECURSIVE before(row_no, back) AS ("
        "SELECT after_no, 1 FROM row WHERE row_no = :row AND after_no IS NOT NULL UNION ALL "
        "SELECT r.after_no, back + 1 FROM before JOIN row r ON r.row_no = before.row_no "
        "WHERE r.after_no IS NOT NULL AND back < :most) "
        "SELECT r.row_no, c.content, a.content FROM before b JOIN row r ON r.row_no = b.row_no "
        "JOIN row_content c ON c.row_no = r.row_no "
        "LEFT JOIN loaded l ON r.state = 'unchanged' AND l.job = :job AND l.row_key = r.row_key "
        "LEFT JOIN answer a ON a.row_no = coalesce(l.row_no, r.row_no) AND r.state <> 'quarantined' ORDER BY b.back"
    )
    found = tx.execute(query, {"row": row_no, "most": 2 * at_least, "job": run.job}).all()
    first = next((n for n, each in enumerate(found) if n >= at_least and each[0] % at_least == 0), len(found) - 1)
    return [(content, answer) for _, content, answer in reversed(found[: first + 1]) if answer is not None]


def _count(tx: Connection, batch_no: int, *, rows: int = 0, reserved: int = 0) -> None:
    tx.execute(
        text(
            "UPDATE batch SET rows = rows + :rows, reserved_micro = reserved_micro + :reserved WHERE batch_no = :batch"
        ),
        {"rows": rows, "reserved": reserved, "batch": batch_no},
    )


def _took(tx: Connection, api: str, which: str) -> list[float]:
    query = text(
        "SELECT b.took_seconds FROM batch b JOIN run u USING (run_no) WHERE b.took_seconds IS NOT NULL "
        f"AND u.api = :api AND {which} ORDER BY b.batch_no DESC LIMIT {SEEN}"
    )
    return list(tx.execute(query, {"api": api}).scalars())


def _p90(numbers: Sequence[float]) -> float:
    return statistics.quantiles(numbers, n=10, method="inclusive")[-1] if len(numbers) > 1 else numbers[0]
