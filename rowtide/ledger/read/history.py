"""Reads a run's summary in numbers, and the history of one row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, text

from rowtide.agent.requests import cache_warnings, cacheable_tokens
from rowtide.agent.states import RowState
from rowtide.errors import UserMistake
from rowtide.ledger import gate_approvals as ledger_gate_approvals
from rowtide.ledger import gate_results as ledger_gate_results
from rowtide.ledger import prefixes as ledger_prefixes
from rowtide.ledger import tiers as ledger_tiers
from rowtide.ledger import versions as ledger_versions
from rowtide.ledger.batches import IN_BATCHES, Batch, batch_of, batches_in_states, reserved_micro
from rowtide.ledger.ledger import ROWS_PER_RUN, Run, find_run, from_timestamp
from rowtide.ledger.read import costs as ledger_costs
from rowtide.ledger.read.costs import TurnGroup
from rowtide.ledger.rows import count_by_state
from rowtide.tiers.catalogue import Catalogue, load_catalogue
from rowtide.tiers.escalation import resolve_model, skipped_tier_warnings
from rowtide.tiers.pricing import MICRO

ENOUGH_TURNS = 100  # after so many turns without one hit, the cache is not merely cold
WAITING = (RowState.READY, RowState.IN_FLIGHT, RowState.REPLIED, RowState.ANSWERED, RowState.ACCEPTED)

CALLS = "coalesce(sum(t.is_error), 0) failed, coalesce(sum(t.remembered), 0) remembered"


@dataclass(frozen=True)
class RowHistory:
    """All that the ledger knows of one row, oldest first."""

    run: Run
    row: RowMapping
    content: dict[str, Any]
    turns: Sequence[RowMapping]
    tool_calls: Sequence[RowMapping]
    notes: Sequence[RowMapping]
    answer: dict[str, Any] | None
    batch: Batch | None
    """The batch it waits for, if it waits."""
    load: RowMapping | None
    skills: list[str]
    estimate: RowMapping | None
    """Its estimated chances per tier, and why, if they decided its first tier."""


def run_summary(tx: Connection, run: Run, *, now: datetime, catalogue: Catalogue | None = None) -> dict[str, Any]:
    """Return the run in numbers: rows by outcome, work done, money in US dollars, reasons of quarantined rows."""
    catalogue = catalogue or load_catalogue()
    states, until = count_by_state(tx, run), from_timestamp(run.finished_at) if run.finished_at else now
    groups = ledger_costs.group_turns(tx, run, catalogue)
    calls = _one(tx, run, f"SELECT count(*) calls, {CALLS} FROM tool_call t WHERE {{mine}}")
    return {
        **_named(run),
        "rows": sum(states.values()),
        "loaded": states[RowState.LOADED],
        "quarantined": states[RowState.QUARANTINED],
        "unchanged": states[RowState.UNCHANGED],
        **_waits(tx, run, states),
        "lane": run.chosen_lane or run.lane,
        "lane_why": run.lane_why,
        "repeated": _repeated(tx, run),
        "stopped": run.stopped,
        "stop_detail": run.stop_detail,
        "next_row_usd": (run.next_micro or 0) / MICRO,
        "batches": _batches(tx, run),
        "tool_calls": calls["calls"],
        "tool_errors": calls["failed"],
        "tools_remembered": calls["remembered"],
        "tools": tool_summary(tx, run),
        "approvals": calls_awaiting_approval(tx, run),
        "gates": gate_summary(tx, run),
        **ledger_costs.money_summary(tx, run, groups, catalogue),
        "budget_usd": None if run.budget_micro is None else run.budget_micro / MICRO,
        "at_stake_usd": reserved_micro(tx, run) / MICRO,
        "skips": skipped_tier_warnings(orjson.loads(run.tiers), ledger_tiers.tier_visits(tx, run)),
        "outages": unavailable_models(tx, run, catalogue),
        "cache": _cache(tx, run, groups, catalogue),
        "quarantined_before": sum((before := _quarantined_before(tx, run)).values()),
        "quarantined_in": before,
        "versions": ledger_versions.version_history(tx, run),
        "reasons": quarantine_reasons(tx, run),
        "bounces": resends_by_api_cause(tx, run),
        "unsettled": unconfirmed_batches(tx, run),
        "seconds": round((until - from_timestamp(run.started_at)).total_seconds(), 1),
    }


def _named(run: Run) -> dict[str, Any]:
    contact = {"owner": run.owner, "runbook": run.runbook}
    return {"run_id": run.run_id, "job": run.job, **contact, "api": run.api, "made_up": bool(run.made_up)}


def _waits(tx: Connection, run: Run, states: Mapping[RowState, int]) -> dict[str, Any]:
    """Return how many rows await approval, of calls or at a gate, and how many others are not settled."""
    asked = ledger_gate_approvals.pending_gate_approvals(tx, run)
    held_states = {each.waiting for each in asked}
    return {
        "held": states[RowState.HELD] + sum(states[state] for state in held_states),
        "waiting": sum(states[state] for state in WAITING if state not in held_states),
        "gate_approvals": {each.gate: [failure.text for failure in each.failures] for each in asked},
        "approval_text": ledger_gate_approvals.decision_consequences(tx, run, asked) if asked else None,
    }


def unavailable_models(tx: Connection, run: Run, catalogue: Catalogue) -> list[dict[str, Any]]:
    """Return the unavailable models: since when, why, and the fallback that answers instead, or None."""
    found = ledger_tiers.unavailable_models(tx, run)
    out, by_id = {each.model_id for each in found}, {model.id: model for model in catalogue.models.values()}
    entries: list[dict[str, Any]] = []
    for each in found:
        own = by_id.get(each.model_id)
        instead = resolve_model(catalogue, own, out) if own else None
        entries.append(
            {
                "model": own.alias if own else each.model_id,
                "since": each.since,
                "why": each.why,
                "instead": instead.alias if instead and instead is not own else None,
            }
        )
    return entries


def quarantine_reasons(tx: Connection, run: Run) -> dict[str, int]:
    """Return the quarantined rows by reason, most frequent first."""
    query = text(
        "SELECT reason, count(*) FROM row WHERE run_no = :run AND state = 'quarantined' "
        "GROUP BY reason ORDER BY count(*) DESC, reason"
    )
    return dict(tx.execute(query, {"run": run.run_no}).tuples().all())


def resends_by_api_cause(tx: Connection, run: Run) -> dict[str, int]:
    """Return how often rows bounced, by what the API did to them."""
    query = "SELECT t.reason, count(*) times FROM note t WHERE {mine} AND t.move = 'bounce' GROUP BY t.reason"
    return {each["reason"]: each["times"] for each in _all(tx, run, query)}


def tool_summary(tx: Connection, run: Run) -> dict[str, dict[str, Any]]:
    """Return each tool's calls: how many, how many remembered, how many failed, with one error as example."""
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


def calls_awaiting_approval(tx: Connection, run: Run) -> dict[str, int]:
    """Return how many calls of each tool await approval."""
    query = "SELECT t.tool, count(*) calls FROM call_approval t WHERE {mine} AND t.state = 'asked' GROUP BY t.tool"
    return {each["tool"]: each["calls"] for each in _all(tx, run, query)}


def gate_summary(tx: Connection, run: Run) -> dict[str, dict[str, Any]]:
    """Return what the run's gates found: how many expectations were met, and the messages of those that were not."""
    entries: dict[str, dict[str, Any]] = {}
    for each in ledger_gate_results.gate_verdicts(tx, run):
        gate = entries.setdefault(each.gate, {"met": 0, "not_asked": 0, "failed": [], "warned": []})
        if each.passed is None or each.passed:
            gate["not_asked" if each.passed is None else "met"] += 1
        else:
            gate["failed" if each.severity == "critical" else "warned"].append(each.message)
    return entries


def unconfirmed_batches(tx: Connection, run: Run) -> list[dict[str, Any]]:
    """Return the batches that are being looked for or that a person must reconcile: since when, money at stake."""
    return [
        {
            "batch": batch.batch_no,
            "rows": batch.rows,
            "why": batch.detail or "the reply to its POST was lost",
            "since": batch.posted_at,
            "at_stake_usd": batch.reserved_micro / MICRO,
            "api_ids": [batch.api_id] if batch.api_id else batch.candidate_ids,
            "needs_a_person": batch.state == "orphaned",
        }
        for batch in batches_in_states(tx, run, ["posting", "orphaned"])
        if batch.unconfirmed_at or batch.state == "orphaned"
    ]


def _cache(tx: Connection, run: Run, groups: Sequence[TurnGroup], catalogue: Catalogue) -> dict[str, Any]:
    """Return how much of the prompts came from the prompt cache, with warnings when it is too little."""
    turns, read = sum(each.turns for each in groups), sum(each.prompt_tokens for each in groups)
    cached = sum(each.cache_read_tokens for each in groups)
    warnings = _too_short_to_cache(tx, run, catalogue) if turns else []
    if turns > ENOUGH_TURNS and not cached and not warnings:
        warnings = [f"nothing of what {turns:,} turns read came from the cache: all was paid for in full"]
    return {
        "hit_rate": cached / read if read else 0.0,
        "read_tokens": cached,
        "written_tokens": sum(each.cache_write_tokens for each in groups),
        "warnings": warnings,
    }


def _too_short_to_cache(tx: Connection, run: Run, catalogue: Catalogue) -> list[str]:
    """Return warnings for prefixes that were sent, judged by the catalogue's models of the run's tiers."""
    query = "SELECT DISTINCT t.prefix_no FROM row t WHERE {mine} AND t.turn > 0"
    contents = ledger_prefixes.prefix_contents(tx, run)
    sent = [each["prefix_no"] for each in _all(tx, run, query)]
    models = catalogue.models
    minimums = {name: models[name].cache_minimum_tokens for name in orjson.loads(run.tiers) if name in models}
    return cache_warnings([cacheable_tokens(contents[each]) for each in sent if each in contents], minimums)


def _quarantined_before(tx: Connection, run: Run) -> dict[str, int]:
    """Count unchanged rows by the earlier run whose quarantine they are in, most first; '' where it is unknown."""
    query = text(
        "SELECT coalesce(u.run_id, ''), count(*) FROM row r "
        "LEFT JOIN unverified s ON s.job = :job AND s.row_key = r.row_key "
        f"LEFT JOIN run u ON u.run_no = s.row_no / {ROWS_PER_RUN} "
        "WHERE r.run_no = :run AND r.state = 'unchanged' AND r.reason IS NOT NULL "
        "GROUP BY 1 ORDER BY count(*) DESC, 1"
    )
    return dict(tx.execute(query, {"run": run.run_no, "job": run.job}).tuples().all())


def row_history(tx: Connection, row_key: str, run_id: str | None = None) -> RowHistory:
    """Return the history of a row in the run named, or in the newest run, no eval's, that worked on it.

    Raises UserMistake with a similar key when there is no such row.
    """
    where = "r.row_key = :key AND " + ("u.run_id = :run" if run_id else "u.eval_id IS NULL")
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
        "SELECT t.*, b.lane, b.api_id, b.posted_at, b.filed_at, b.rows batch_rows FROM turn t "
        "JOIN batch b ON b.batch_no = t.batch_no WHERE t.row_no = :row ORDER BY t.turn"
    )
    loads = of_row("SELECT * FROM load WHERE load_no = :load")
    estimates = of_row("SELECT * FROM estimate WHERE row_no = :row")
    run = find_run(tx, row["run_id"])
    return RowHistory(
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
        estimate=estimates[0] if estimates else None,
    )


def _alike(tx: Connection, row_key: str) -> str | None:
    query = text("SELECT row_key FROM row WHERE lower(row_key) LIKE lower(:like) ORDER BY length(row_key) LIMIT 1")
    return tx.execute(query, {"like": f"%{row_key}%"}).scalar()


def _repeated(tx: Connection, run: Run) -> int:
    """Count the live calls that were on the wire when a process died, and were made again."""
    query = "SELECT count(*) times FROM note t WHERE {mine} AND t.move = 'recall'"
    return int(_one(tx, run, query)["times"])


def _batches(tx: Connection, run: Run) -> int:
    sent = f"{IN_BATCHES} AND state IN ('posting', 'open', 'filed', 'orphaned')"
    query = text(f"SELECT count(*) FROM batch WHERE run_no = :run AND {sent}")
    return int(tx.execute(query, {"run": run.run_no}).scalar_one())


def _one(tx: Connection, run: Run, query: str) -> RowMapping:
    return _all(tx, run, query)[0]


def _all(tx: Connection, run: Run, query: str) -> Sequence[RowMapping]:
    """Run a query in which `{mine}` stands for: the row is this run's."""
    mine = text(query.format(mine="t.row_no BETWEEN :first AND :last"))
    return tx.execute(mine, {"first": run.first_row_no, "last": run.last_row_no}).mappings().all()
