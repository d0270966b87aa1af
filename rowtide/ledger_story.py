"""What people read: a run in numbers, and the story of one row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, text

from rowtide import ledger_prefixes
from rowtide.catalogue import load_catalogue
from rowtide.errors import UserMistake
from rowtide.ledger import Run, find_run, moment
from rowtide.ledger_batches import Batch, batch_of, batches_in, reserved_micro
from rowtide.ledger_rows import counts
from rowtide.pricing import MICRO
from rowtide.requests import cache_warnings, cacheable_tokens
from rowtide.states import RowState

ENOUGH_TURNS = 100  # after so many without a single hit, the cache is not merely cold
WAITING = (RowState.READY, RowState.IN_FLIGHT, RowState.REPLIED, RowState.ANSWERED, RowState.ACCEPTED)

SUMS = ", ".join(
    f"coalesce(sum(t.{column}), 0) {name}"
    for column, name in {
        "cost_micro": "cost",
        "input_tokens": "input",
        "cache_read_tokens": "cached",
        "cache_write_tokens": "cache_written",
    }.items()
)

CALLS = "coalesce(sum(t.is_error), 0) failed, coalesce(sum(t.remembered), 0) remembered"


@dataclass(frozen=True)
class Story:
    """All the ledger knows of one row, oldest first."""

    run: Run
    row: RowMapping
    content: dict[str, Any]
    turns: Sequence[RowMapping]
    tool_calls: Sequence[RowMapping]
    notes: Sequence[RowMapping]
    answer: dict[str, Any] | None
    batch: Batch | None
    """The one it waits for, while it does."""
    load: RowMapping | None
    skills: list[str]


def summary(tx: Connection, run: Run, *, now: datetime) -> dict[str, Any]:
    """The run in numbers: rows by how they ended, work done, money in US dollars, reasons of the quarantined."""
    states = counts(tx, run)
    until = moment(run.finished_at) if run.finished_at else now
    done = _one(tx, run, f"SELECT count(*) turns, {SUMS} FROM turn t WHERE {{mine}}")
    calls = _one(tx, run, f"SELECT count(*) calls, {CALLS} FROM tool_call t WHERE {{mine}}")
    return {
        "run_id": run.run_id,
        "job": run.job,
        "rows": sum(states.values()),
        "loaded": states[RowState.LOADED],
        "quarantined": states[RowState.QUARANTINED],
        "unchanged": states[RowState.UNCHANGED],
        "held": states[RowState.HELD],
        "waiting": sum(states[state] for state in WAITING),
        "stopped": run.stopped,
        "next_row_usd": (run.next_micro or 0) / MICRO,
        "turns": done["turns"],
        "batches": _batches(tx, run),
        "tool_calls": calls["calls"],
        "tool_errors": calls["failed"],
        "tools_remembered": calls["remembered"],
        "tools": tools(tx, run),
        "approvals": approvals(tx, run),
        "cost_usd": done["cost"] / MICRO,
        "baseline_cost_usd": baseline_micro(tx, run) / MICRO,
        "budget_usd": None if run.budget_micro is None else run.budget_micro / MICRO,
        "at_stake_usd": reserved_micro(tx, run) / MICRO,
        "tiers": tiers(tx, run),
        "cache": _cache(tx, run, done),
        "set_aside_before": _set_aside_before(tx, run),
        "reasons": reasons(tx, run),
        "bounces": bounces(tx, run),
        "unsettled": unsettled(tx, run),
        "seconds": round((until - moment(run.started_at)).total_seconds(), 1),
    }


def baseline_micro(tx: Connection, run: Run) -> int:
    """What each row's last conversation would have cost live on the ladder's top rung, in micro-dollars."""
    query = (
        "SELECT coalesce(sum(t.baseline_micro), 0) micro FROM turn t JOIN row r ON r.row_no = t.row_no "
        "WHERE {mine} AND t.turn > r.conversation_from"
    )
    return int(_one(tx, run, query)["micro"])


def tiers(tx: Connection, run: Run) -> dict[str, dict[str, Any]]:
    """What each rung of the ladder did: replies, rows that ended there, US dollars."""
    names: list[str] = orjson.loads(run.tiers)
    said = _all(
        tx, run, "SELECT t.tier, count(*) turns, sum(t.cost_micro) cost FROM turn t WHERE {mine} GROUP BY t.tier"
    )
    query = text("SELECT tier, count(*) FROM row WHERE run_no = :run AND turn > 0 GROUP BY tier")
    ended = dict(tx.execute(query, {"run": run.run_no}).tuples().all())
    return {
        names[each["tier"]]: {
            "turns": each["turns"],
            "rows": ended.get(each["tier"], 0),
            "cost_usd": each["cost"] / MICRO,
        }
        for each in said
    }


def reasons(tx: Connection, run: Run) -> dict[str, int]:
    """The quarantined rows by reason, most first."""
    query = text(
        "SELECT reason, count(*) FROM row WHERE run_no = :run AND state = 'quarantined' "
        "GROUP BY reason ORDER BY count(*) DESC, reason"
    )
    return dict(tx.execute(query, {"run": run.run_no}).tuples().all())


def bounces(tx: Connection, run: Run) -> dict[str, int]:
    """How often rows were sent again, by what the API had done to them."""
    query = "SELECT t.reason, count(*) times FROM note t WHERE {mine} AND t.move = 'bounce' GROUP BY t.reason"
    return {each["reason"]: each["times"] for each in _all(tx, run, query)}


def tools(tx: Connection, run: Run) -> dict[str, dict[str, Any]]:
    """What each tool was asked: calls, those that an earlier one had answered, those that failed, and how, for one."""
    query = (
        f"SELECT t.tool, count(*) calls, {CALLS}, max(CASE WHEN t.is_error = 1 THEN t.output END) example "
        "FROM tool_call t WHERE {mine} GROUP BY t.tool ORDER BY t.tool"
    )
    return {
        each["tool"]: {
            "calls": each["calls"],
            "remembered": each["remembered"],
            "failed": each["failed"],
            **({"example": each["example"][:300]} if each["failed"] else {}),
        }
        for each in _all(tx, run, query)
    }


def approvals(tx: Connection, run: Run) -> dict[str, int]:
    """How many calls of each tool wait for a person."""
    query = "SELECT t.tool, count(*) calls FROM approval t WHERE {mine} AND t.state = 'asked' GROUP BY t.tool"
    return {each["tool"]: each["calls"] for each in _all(tx, run, query)}


def unsettled(tx: Connection, run: Run) -> list[dict[str, Any]]:
    """The batches whose fate a person must settle, or that are being looked for: what, since when, money at stake."""
    return [
        {
            "batch": batch.batch_no,
            "rows": batch.rows,
            "why": batch.detail or "the reply to its POST was lost",
            "since": batch.posted_at,
            "at_stake_usd": batch.reserved_micro / MICRO,
            "api_ids": [batch.api_id] if batch.api_id else batch.candidate_ids,
            "needs_a_person": batch.state == "lost",
        }
        for batch in batches_in(tx, run, ["posting", "lost"])
        if batch.doubtful_at or batch.state == "lost"
    ]


def _cache(tx: Connection, run: Run, done: RowMapping) -> dict[str, Any]:
    """How much of what the models read came from the prompt cache, and why it may be too little."""
    read = done["cached"] + done["cache_written"] + done["input"]
    warnings = _too_short_to_cache(tx, run) if done["turns"] else []
    if done["turns"] > ENOUGH_TURNS and not done["cached"] and not warnings:
        warnings = [f"nothing of what {done['turns']:,} turns read came from the cache: all was paid for in full"]
    return {
        "hit_rate": done["cached"] / read if read else 0.0,
        "read_tokens": done["cached"],
        "written_tokens": done["cache_written"],
        "warnings": warnings,
    }


def _too_short_to_cache(tx: Connection, run: Run) -> list[str]:
    """Judged by the prefixes that were sent, and by the tiers there still are."""
    query = "SELECT DISTINCT t.prefix_no FROM row t WHERE {mine} AND t.turn > 0"
    contents = ledger_prefixes.contents(tx, run)
    sent = [each["prefix_no"] for each in _all(tx, run, query)]
    models = load_catalogue().models
    minimums = {name: models[name].cache_minimum_tokens for name in orjson.loads(run.tiers) if name in models}
    return cache_warnings([cacheable_tokens(contents[each]) for each in sent if each in contents], minimums)


def _set_aside_before(tx: Connection, run: Run) -> int:
    query = text("SELECT count(*) FROM row WHERE run_no = :run AND state = 'unchanged' AND reason IS NOT NULL")
    return int(tx.execute(query, {"run": run.run_no}).scalar_one())


def progress(tx: Connection, run_id: str) -> dict[str, Any]:
    """What to show while a run goes on: rows by state, batches at the API, US dollars so far."""
    run = find_run(tx, run_id)
    money = text("SELECT coalesce(sum(cost_micro), 0) FROM row WHERE run_no = :run")
    waiting = text("SELECT count(*) FROM batch WHERE run_no = :run AND state IN ('posting', 'open')")
    return {
        "states": counts(tx, run),
        "batches": _batches(tx, run),
        "batches_open": tx.execute(waiting, {"run": run.run_no}).scalar_one(),
        "cost_usd": tx.execute(money, {"run": run.run_no}).scalar_one() / MICRO,
    }


def story(tx: Connection, row_key: str, run_id: str | None = None) -> Story:
    """All there is to know of a row, in the newest run that worked on it or in the run named.

    Raises UserMistake with keys that look alike when there is no such row.
    """
    where = "r.row_key = :key" + (" AND u.run_id = :run" if run_id else "")
    query = text(
        f"SELECT r.*, u.run_id FROM row r JOIN run u ON u.run_no = r.run_no WHERE {where} "
        "ORDER BY r.state = 'unchanged', r.row_no DESC LIMIT 1"
    )
    row = tx.execute(query, {"key": row_key, "run": run_id}).mappings().first()
    if row is None:
        raise UserMistake(f"no row {row_key!r} in this ledger", meant=_alike(tx, row_key))

    def of_row(query: str) -> Sequence[RowMapping]:
        return tx.execute(text(query), {"row": row["row_no"], "load": row["load_no"]}).mappings().all()

    content = of_row("SELECT content FROM row_content WHERE row_no = :row")[0]["content"]
    answer = of_row("SELECT content FROM answer WHERE row_no = :row")
    turns = of_row(
        "SELECT t.*, b.api_id, b.posted_at, b.filed_at, b.rows batch_rows FROM turn t "
        "JOIN batch b ON b.batch_no = t.batch_no WHERE t.row_no = :row ORDER BY t.turn"
    )
    loads = of_row("SELECT * FROM load WHERE load_no = :load")
    run = find_run(tx, row["run_id"])
    return Story(
        run=run,
        row=row,
        content=orjson.loads(content),
        turns=turns,
        tool_calls=of_row("SELECT * FROM tool_call WHERE row_no = :row ORDER BY turn, position"),
        notes=of_row("SELECT * FROM note WHERE row_no = :row ORDER BY note_no"),
        answer=orjson.loads(answer[0]["content"]) if answer else None,
        batch=batch_of(tx, row["batch_no"]) if row["state"] in ("in_flight", "held") else None,
        load=loads[0] if loads else None,
        skills=list(ledger_prefixes.skills_by_prefix(tx, run).get(row["prefix_no"], ())),
    )


def _alike(tx: Connection, row_key: str) -> str | None:
    query = text("SELECT row_key FROM row WHERE lower(row_key) LIKE lower(:like) ORDER BY length(row_key) LIMIT 1")
    return tx.execute(query, {"like": f"%{row_key}%"}).scalar()


def _batches(tx: Connection, run: Run) -> int:
    query = text("SELECT count(*) FROM batch WHERE run_no = :run AND state IN ('posting', 'open', 'filed', 'lost')")
    return int(tx.execute(query, {"run": run.run_no}).scalar_one())


def _one(tx: Connection, run: Run, query: str) -> RowMapping:
    return _all(tx, run, query)[0]


def _all(tx: Connection, run: Run, query: str) -> Sequence[RowMapping]:
    """`{mine}` in the query stands for: the row is this run's."""
    mine = text(query.format(mine="t.row_no BETWEEN :first AND :last"))
    return tx.execute(mine, {"first": run.first_row_no, "last": run.last_row_no}).mappings().all()
