"""The pump: the order of stages that takes a job's rows from source to sink, with or without Prefect."""

from typing import Any

from rowtide import gc_tuning
from rowtide.stages.preflight import Plan
from rowtide.tools.kept_pool import keep_tool_servers
from tasks.ask_approval import ask_approval
from tasks.converse import converse
from tasks.extract import extract
from tasks.follow_up import follow_up
from tasks.load import load
from tasks.park import park
from tasks.report import report
from tasks.route import route
from tasks.submit import submit
from tasks.validate import validate
from tasks.wait import wait


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
    run = await extract(job, source, run_id, limit, lane, budget, finish_within_minutes, tiers, plan)  # rows in, once
    await route(run)  # a first tier for each, and a lane for all
    while await submit(run) or await ask_approval(run):  # ready rows → batches; or a person approves
        await converse(run)  # rows of a live lane, call by call
        await park(run, moved=await wait(run))  # until a batch has ended and is filed; or parked
        await follow_up(run)  # tools, checks, corrections: ready again, or answered, or held
        await validate(run)  # the answers gate: accepted, or quarantined
    await load(run)  # accepted rows → the sink, exactly once
    return await report(run)
