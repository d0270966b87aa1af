"""Reads a run in figures: its rows by outcome, its work, its money, and what its warnings are made of."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, text

from rowtide.agent.states import RowState
from rowtide.gates.approvals import GateApproval
from rowtide.ledger import gate_approvals as ledger_gate_approvals
from rowtide.ledger import gate_results as ledger_gate_results
from rowtide.ledger import job_versions as ledger_job_versions
from rowtide.ledger import permitted_versions
from rowtide.ledger import prefixes as ledger_prefixes
from rowtide.ledger import tiers as ledger_tiers
from rowtide.ledger.batches import IN_BATCHES, batches_in_states, reserved_micro
from rowtide.ledger.ledger import ROWS_PER_RUN, Run, from_timestamp
from rowtide.ledger.read import costs as ledger_costs
from rowtide.ledger.read.costs import TurnGroup
from rowtide.ledger.rows import MADE_UP, count_by_state
from rowtide.report.run_summary import RunFigures
from rowtide.tiers.catalogue import Catalogue
from rowtide.tiers.escalation import resolve_model
from rowtide.tiers.pricing import MICRO

WAITING = (RowState.READY, RowState.IN_FLIGHT, RowState.REPLIED, RowState.ANSWERED, RowState.ACCEPTED)

CALLS = "coalesce(sum(t.is_error), 0) failed, coalesce(sum(t.remembered), 0) remembered"


def read_run_figures(tx: Connection, run: Run, *, now: datetime, catalogue: Catalogue) -> RunFigures:
    """Return the run in figures; money is in US dollars, at the catalogue's prices."""
    groups = ledger_costs.group_turns(tx, run, catalogue)
    asked = ledger_gate_approvals.pending_gate_approvals(tx, run)
    tiers, models = orjson.loads(run.tiers), catalogue.models
    return RunFigures(
        _numbers(tx, run, groups, asked, catalogue, now),
        tiers,
        ledger_tiers.tier_visits(tx, run),
        _sent_prefixes(tx, run),
        asked,
        ledger_gate_approvals.rows_awaiting_gates(tx, run, asked),
        {name: models[name].cache_minimum_tokens for name in tiers if name in models},
    )


def _numbers(
    tx: Connection,
    run: Run,
    groups: Sequence[TurnGroup],
    asked: Sequence[GateApproval],
    catalogue: Catalogue,
    now: datetime,
) -> dict[str, Any]:
    states, until = count_by_state(tx, run), from_timestamp(run.finished_at) if run.finished_at else now
    return {
        **_named(run),
        "rows": sum(states.values()),
        "loaded": states[RowState.LOADED],
        "quarantined": states[RowState.QUARANTINED],
        "unchanged": states[RowState.UNCHANGED],
        **_waits(states, asked),
        "lane": run.chosen_lane or run.lane,
        "lane_why": run.lane_why,
        "repeated": _repeated(tx, run),
        "stopped": run.stopped,
        "stop_detail": run.stop_detail,
        "next_row_usd": (run.next_micro or 0) / MICRO,
        "batches": _batches(tx, run),
        **_tools(tx, run),
        "approvals": calls_awaiting_approval(tx, run),
        "gates": gate_summary(tx, run),
        **ledger_costs.money_summary(tx, run, groups, catalogue),
        "budget_usd": None if run.budget_micro is None else run.budget_micro / MICRO,
        "at_stake_usd": reserved_micro(tx, run) / MICRO,
        "outages": unavailable_models(tx, run, catalogue),
        "cache": _cache(groups),
        "quarantined_before": sum((before := _quarantined_before(tx, run)).values()),
        "quarantined_in": before,
        **_versions(tx, run),
        "reasons": quarantine_reasons(tx, run),
        "bounces": resends_by_api_cause(tx, run),
        "invented": made_up_by_emulator(tx, run) if run.made_up else {},
        "unsettled": unconfirmed_batches(tx, run),
        "seconds": round((until - from_timestamp(run.started_at)).total_seconds(), 1),
    }


def _versions(tx: Connection, run: Run) -> dict[str, Any]:
    """Return the run's versions, and on whose word it went ahead with one that no eval passed."""
    overrides = permitted_versions.overrides_of_run(tx, run)
    return {"versions": ledger_job_versions.version_history(tx, run), "overrides": overrides}


def _named(run: Run) -> dict[str, Any]:
    contact = {"owner": run.owner, "runbook": run.runbook}
    return {"run_id": run.run_id, "job": run.job, **contact, "api": run.api, "made_up": bool(run.made_up)}


def _waits(states: Mapping[RowState, int], asked: Sequence[GateApproval]) -> dict[str, Any]:
    """Return how many rows await approval, of calls or at a gate, and how many others are not settled."""
    held_states = {each.waiting for each in asked}
    return {
        "held": states[RowState.HELD] + sum(states[state] for state in held_states),
        "waiting": sum(states[state] for state in WAITING if state not in held_states),
        "gate_approvals": {each.gate: [failure.text for failure in each.failures] for each in asked},
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


def made_up_by_emulator(tx: Connection, run: Run) -> dict[str, int]:
    """Return what the emulator says it made up, with the number of rows, most first."""
    query = (
        f"SELECT t.detail, count(DISTINCT t.row_no) AS rows FROM note t WHERE {{mine}} AND t.move = '{MADE_UP}' "
        "GROUP BY t.detail ORDER BY count(DISTINCT t.row_no) DESC, t.detail"
    )
    return {each["detail"]: each["rows"] for each in _all(tx, run, query)}


def _tools(tx: Connection, run: Run) -> dict[str, Any]:
    """Return the calls of all tools and of each: how many, how many remembered, how many failed, with one error."""
    query = (
        f"SELECT t.tool, count(*) calls, {CALLS}, max(CASE WHEN t.is_error = 1 THEN t.output END) example "
        "FROM tool_call t WHERE {mine} GROUP BY t.tool ORDER BY t.tool"
    )
    found = _all(tx, run, query)
    return {
        "tool_calls": sum(each["calls"] for each in found),
        "tool_errors": sum(int(each["failed"]) for each in found),
        "tools_remembered": sum(int(each["remembered"]) for each in found),
        "tools": {
            each["tool"]: {
                "calls": each["calls"],
                "remembered": each["remembered"],
                "failed": each["failed"],
                **({"example": each["example"][:300]} if each["failed"] else {}),
            }
            for each in found
        },
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


def _cache(groups: Sequence[TurnGroup]) -> dict[str, Any]:
    """Return how much of the prompts came from the prompt cache."""
    read, cached = sum(each.prompt_tokens for each in groups), sum(each.cache_read_tokens for each in groups)
    return {
        "hit_rate": cached / read if read else 0.0,
        "read_tokens": cached,
        "written_tokens": sum(each.cache_write_tokens for each in groups),
    }


def _sent_prefixes(tx: Connection, run: Run) -> list[bytes]:
    query = "SELECT DISTINCT t.prefix_no FROM row t WHERE {mine} AND t.turn > 0"
    sent = {each["prefix_no"] for each in _all(tx, run, query)}
    return [content for prefix_no, content in ledger_prefixes.prefix_contents(tx, run).items() if prefix_no in sent]


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
