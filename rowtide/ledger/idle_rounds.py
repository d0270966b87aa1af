"""Detects rounds of the pump that change nothing, from a mark of the run's rows and batches."""

from sqlalchemy import Connection, text

from rowtide.ledger.ledger import Run

ROWS = (
    "SELECT state, count(*), sum(turn), sum(bounces), sum(tool_calls), sum(corrections), sum(max_tokens_doublings), "
    "sum(tier), sum(cost_micro) FROM row WHERE run_no = :run GROUP BY state ORDER BY state"
)
BATCHES = (
    "SELECT state, count(*), sum(rows), sum(reserved_micro), sum(fetches), max(batch_no) FROM batch "
    "WHERE run_no = :run GROUP BY state ORDER BY state"
)


def begin_round(tx: Connection, run: Run) -> int:
    """Begin a round of the pump. Returns how many consecutive rounds, this one included, began with the same rows and
    batches.
    """
    found = [each for query in (ROWS, BATCHES) for each in tx.execute(text(query), {"run": run.run_no})]
    mark = ";".join(" ".join(map(str, each)) for each in found)
    before = tx.execute(text("SELECT round_mark FROM run WHERE run_no = :run"), {"run": run.run_no}).scalar()
    rounds, _, last = (before or "0 ").partition(" ")
    count = int(rounds) + 1 if last == mark else 1
    changed = "UPDATE run SET round_mark = :mark WHERE run_no = :run"
    tx.execute(text(changed), {"mark": f"{count} {mark}", "run": run.run_no})
    return count
