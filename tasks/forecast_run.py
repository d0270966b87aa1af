"""Forecasts what a run would cost, without running it."""

import os
from pathlib import Path
from typing import Any

import orjson

from configuration.claude_settings import ClaudeSettings
from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from rowtide import clock
from rowtide.job.job_folder import find_job
from rowtide.stages.forecast.build_forecast import build_forecast, plan_with_options
from rowtide.stages.forecast.forecast_text import forecast_as_json, forecast_as_markdown, forecast_warnings
from rowtide.stages.orchestrator import current_orchestrator

SAMPLE = 50  # rows whose tokens the API counts


@durable
async def forecast_run(
    job: str,
    source: str | None,
    limit: int | None,
    lane: str,
    budget: float | None,
    finish_within_minutes: float | None,
    tiers: list[str] | None,
) -> dict[str, Any]:
    """Publish a forecast as an artifact, like `rowtide plan`. No model is asked, and no row is written.

    Returns what `rowtide plan --json` prints.
    """
    database = await LedgerSettings.in_force()
    found = await database.get_plan(find_job(job, jobs=Path("jobs")), source, tiers)
    found = plan_with_options(found, lane, budget, finish_within_minutes)
    with database.get_ledger() as ledger:
        async with (await ClaudeSettings.in_force()).get_client() as claude:
            asked: dict[str, Any] = {"limit": limit, "sample": SAMPLE, "counted_by": "the API"}
            seen = await build_forecast(found, ledger, claude, os.environ, **asked, now=clock.now())
    await current_orchestrator().show_text(
        forecast_as_markdown(seen), key="run-plan", about=f"What {found.job.name} would cost"
    )
    return dict(orjson.loads(orjson.dumps(forecast_as_json(seen, forecast_warnings(seen)))))
