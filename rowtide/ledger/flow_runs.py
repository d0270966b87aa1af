"""Records which Prefect flow runs worked on a run, newest last, and how often it was restarted.

Recovery uses it to find runs that no process works on, and to wake or restart them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from rowtide.ledger.ledger import Run, find_run, is_one_of, list_parameter, to_timestamp
from rowtide.observing.recovery import WORKER_CRASHED

# States of rows that are not settled: their run is unfinished.
UNDECIDED = "'ready', 'in_flight', 'replied', 'answered', 'accepted'"
IS_UNFINISHED = (
    "CASE WHEN r.eval_id IS NULL THEN r.finished_at IS NULL OR EXISTS (SELECT 1 FROM row WHERE row.run_no = r.run_no "
    f"AND row.state IN ({UNDECIDED})) "
    "ELSE EXISTS (SELECT 1 FROM eval e WHERE e.eval_id = r.eval_id AND e.verdict IS NULL) END"
)


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    run: Run
    flow_run_id: str
    restarts: int
    """Restarts after the flow run crashed by itself, its worker alive."""
    restarts_with_worker: int


def record_flow_run(tx: Connection, run: Run, flow_run_id: str | None, *, now: datetime) -> None:
    """Record that this flow run works on the run. None means a process without Prefect, and records nothing."""
    if flow_run_id is not None:
        _append(tx, run, flow_run_id, None, now)


def record_restart(tx: Connection, run: Run, flow_run_id: str, why: str, *, now: datetime) -> None:
    """Record that the flow run is about to be restarted."""
    _append(tx, run, flow_run_id, why, now)


def unfinished_runs(
    tx: Connection, api: str, look_back: timedelta, restarts_within: timedelta, *, now: datetime
) -> list[UnfinishedRun]:
    """Return unfinished runs that a flow run worked on within `look_back`, with restarts within `restarts_within`.

    Only runs on this API: nothing is known here about runs that another API answers. Of an eval without a verdict, the
    run that its flow run took up last stands for it.
    """
    restarts = "(SELECT count(*) FROM flow_run g WHERE g.run_no = r.run_no AND g.since >= :lately AND g.restarted"
    query = text(
        f"SELECT r.run_id, f.flow_run_id, {restarts} <> :worker), {restarts} = :worker) "
        "FROM run r JOIN flow_run f ON f.run_no = r.run_no "
        "AND f.since = (SELECT max(l.since) FROM flow_run l WHERE l.run_no = r.run_no) WHERE f.since >= :since "
        "AND (:api = '' OR r.api IN ('', :api)) "
        "AND f.since = (SELECT max(l.since) FROM flow_run l WHERE l.flow_run_id = f.flow_run_id) "
        f"AND {IS_UNFINISHED} ORDER BY r.run_no"
    )
    values = {
        "api": api,
        "since": to_timestamp(now - look_back),
        "lately": to_timestamp(now - restarts_within),
        "worker": WORKER_CRASHED,
    }
    found = tx.execute(query, values).tuples().all()
    return [
        UnfinishedRun(find_run(tx, run_id), flow_run_id, alone, with_it)
        for run_id, flow_run_id, alone, with_it in found
    ]


def flow_runs_with_a_run(tx: Connection, flow_run_ids: Sequence[str]) -> set[str]:
    """Return those of the flow runs that have worked on any run."""
    query = text(f"SELECT flow_run_id FROM flow_run WHERE flow_run_id {is_one_of(tx, 'ids', kind='text')}")
    return set(tx.execute(query, {"ids": list_parameter(flow_run_ids)}).scalars())


def current_run_of_flow_run(tx: Connection, flow_run_id: str) -> Run | None:
    """Return the run that this flow run worked on last, unless another flow run took that run over."""
    query = text(
        "SELECT r.run_id FROM run r JOIN flow_run f ON f.run_no = r.run_no WHERE f.flow_run_id = :id "
        "AND f.since = (SELECT max(l.since) FROM flow_run l WHERE l.run_no = r.run_no) ORDER BY f.since DESC"
    )
    run_id = tx.execute(query, {"id": flow_run_id}).scalar()
    return None if run_id is None else find_run(tx, run_id)


def first_run_of_flow_run(tx: Connection, flow_run_id: str) -> str | None:
    """Return the id of the first run that this flow run worked on."""
    query = text(
        "SELECT r.run_id FROM run r JOIN flow_run f ON f.run_no = r.run_no WHERE f.flow_run_id = :id ORDER BY f.since"
    )
    return tx.execute(query, {"id": flow_run_id}).scalar()


def _append(tx: Connection, run: Run, flow_run_id: str, why: str | None, now: datetime) -> None:
    tx.execute(
        text(
            "INSERT INTO flow_run (run_no, since, flow_run_id, restarted) VALUES (:run, :now, :id, :why) "
            "ON CONFLICT (run_no, since) DO NOTHING"
        ),
        {"run": run.run_no, "now": to_timestamp(now), "id": flow_run_id, "why": why},
    )
