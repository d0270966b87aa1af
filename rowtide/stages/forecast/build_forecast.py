"""Builds a forecast of a run from its source, its job's history and token counts."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import orjson

from rowtide.agent.requests import cacheable_tokens
from rowtide.api.claude import Claude
from rowtide.forecast.forecast import Forecast, forecast_run
from rowtide.forecast.tier_visits import PlannedWork, VisitHistory
from rowtide.lanes import lanes
from rowtide.lanes.lanes import LaneChoice, LaneHistory, choose_lane
from rowtide.ledger import live_calls as ledger_live_calls
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read import past_runs as ledger_past_runs
from rowtide.stages.forecast.scan_source import SourceScan, count_first_request_tokens, scan_source
from rowtide.stages.preflight import Plan

SEED = 1  # a fixed seed, so that the same plan gives the same forecast


@dataclass(frozen=True)
class ForecastInputs:
    """The inputs of a forecast, and the forecast; None when there is no row to ask."""

    plan: Plan
    rows: SourceScan
    tokens: Sequence[int]
    counted_by: str
    history: VisitHistory | None
    choice: LaneChoice
    forecast: Forecast | None


def plan_with_options(found: Plan, lane: str, budget: float | None, finish_within: float | None) -> Plan:
    """Return the plan with the command's options in place of the job's."""
    spec = found.job.spec
    changes = {
        "lane": spec.lane if lane == "auto" else lane,
        "limits": spec.limits.model_copy(update={"budget_usd": budget or spec.limits.budget_usd}),
        "finish_within_minutes": finish_within or spec.finish_within_minutes,
    }
    return replace(found, job=replace(found.job, spec=spec.model_copy(update=changes)))


async def build_forecast(
    found: Plan,
    ledger: Ledger | None,
    claude: Claude,
    environment: Mapping[str, str],
    *,
    limit: int | None,
    sample: int,
    counted_by: str,
    now: datetime,
) -> ForecastInputs:
    """Read the source and the ledger, have the API count some rows' tokens, and forecast. The ledger is only read."""
    spec = found.job.spec
    history, pasts = _past(found, ledger, claude.api)
    rows = scan_source(found, environment, ledger, limit=limit, size=sample)
    choice = choose_lane(_work_to_do(found, rows, now), pasts, now)
    tokens = await count_first_request_tokens(claude, found, rows.sample) if rows.sample else []
    if not tokens:
        return ForecastInputs(found, rows, tokens, counted_by, history, choice, None)
    prospect = PlannedWork(
        models=found.models,
        tier_count=len(spec.tiers),
        starts=rows.starts,
        sample_tokens=tokens,
        prefix_tokens=_prefix_tokens(found),
        has_tools=bool(spec.tools),
        lane=choice.lane,
        concurrency=spec.live.concurrency,
    )
    run_forecast = forecast_run(prospect, history, pasts, random.Random(SEED))
    return ForecastInputs(found, rows, tokens, counted_by, history, choice, run_forecast)


def _past(found: Plan, ledger: Ledger | None, api: str) -> tuple[VisitHistory | None, LaneHistory]:
    if ledger is None:
        return None, LaneHistory()
    job = found.job
    with ledger.view() as tx:
        history = ledger_past_runs.visit_history(
            tx, job.name, job.version.asking, orjson.dumps(job.tiers).decode(), api
        )
        return history, ledger_live_calls.lane_history(tx, job.name, api)


def _work_to_do(found: Plan, rows: SourceScan, now: datetime) -> lanes.WorkToDo:
    spec = found.job.spec
    soon = spec.finish_within_minutes
    return lanes.WorkToDo(
        rows=sum(rows.starts),
        has_after=spec.after is not None,
        asked=spec.lane,
        concurrency=spec.live.concurrency,
        left_usd=spec.limits.budget_usd,
        batch_share=float(found.models[len(spec.tiers) - 1].batch_share),
        finish_by=now + timedelta(minutes=soon) if soon else None,
    )


def _prefix_tokens(found: Plan) -> int:
    """Return the cacheable prefix's tokens, or 0 if it is too short to be cached."""
    length = cacheable_tokens(found.request)
    return length if length >= max(model.cache_minimum_tokens for model in found.models) else 0
