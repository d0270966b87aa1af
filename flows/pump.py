"""The pump: the order of stages that takes a job's rows from source to sink, with or without Prefect."""

from functools import partial
from typing import Any

from flows.answer_rows import answer_rows
from flows.when_permitted import when_permitted
from rowtide import gc_tuning
from rowtide.stages.preflight import Plan
from rowtide.tools.kept_pool import keep_tool_servers
from tasks.extract import extract
from tasks.load import load
from tasks.report import report


@keep_tool_servers()
async def pump(
    job: str,
    source: str | None = None,
    run_id: str | None = None,
    limit: int | None = None,
    lane: str = "auto",
    budget: float | None = None,
    finish_within_minutes: float | None = None,
    tiers: list[str] | None = None,
    plan: Plan | None = None,
) -> dict[str, Any]:
    """Take a job's rows from its source to its sink; the arguments are those of `run_job`. Returns the run's summary.
    `plan` is the checked job, if this process has planned it already.

    Every stage finds its own work in the ledger, so a restart goes on from the last committed row.
    """
    gc_tuning.freeze_once()
    asked = (job, source, run_id, limit, lane, budget, finish_within_minutes, tiers, plan)
    run = await when_permitted(partial(extract, *asked))  # rows in, once, if an eval or a person lets the version run
    await answer_rows(run)  # asked, followed up, judged: accepted, or quarantined
    await load(run)  # accepted rows → the sink, exactly once
    return await report(run)
