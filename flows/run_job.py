"""The pump: a job's rows, from source to sink."""

import gc
from typing import Any, Literal

from prefect import flow

from rowtide import garbage
from tasks.cancel_batches import cancel_batches
from tasks.converse import converse
from tasks.extract import extract
from tasks.follow_up import follow_up
from tasks.leave import leave
from tasks.load import load
from tasks.park import park
from tasks.report import report
from tasks.route import route
from tasks.submit import submit
from tasks.tell_ahead import tell_ahead
from tasks.validate import validate
from tasks.wait import wait


@flow(name="run_job", persist_result=False, on_cancellation=[cancel_batches])
async def run_job(
    job: str,
    source: str | None = None,
    run_id: str | None = None,
    limit: int | None = None,
    lane: Literal["auto", "batch", "live", "stream", "sequential"] = "auto",
    budget: float | None = None,
    finish_within_minutes: float | None = None,
    tiers: list[str] | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Take a job's rows from its source to its sink.

    Every stage finds its own work in the ledger, so whoever starts it again goes on from the last committed row.

    Args:
        job: A name under jobs/, or a folder that holds a job.yaml.
        source: A file to read instead of the job's own source.
        run_id: A run to go on with; by default a new one.
        limit: Take only the first so many rows.
        lane: How turns reach the model: in batches at half price, or live; `auto` decides.
        budget: What the run may cost at worst, in US dollars; by default the job's own limit. A run that is gone on
            with can be given more.
        finish_within_minutes: How soon it should be done; with `auto`, rows that batches would make late go live.
        tiers: A ladder for this run instead of the job's own, cheapest first: names from the model catalogue.
        dry_run: Only say what the run would likely cost and take, as an artifact; nothing is asked and nothing written.
    """
    if dry_run:
        return await tell_ahead(job, source, limit, lane, budget, finish_within_minutes, tiers)
    if not gc.get_freeze_count():
        garbage.settle()
    run = await extract(job, source, run_id, limit, lane, budget, finish_within_minutes, tiers)  # rows in, once
    await route(run)  # a first tier for each, and a lane for all
    while await submit(run) or await leave(run):  # ready rows → batches; or a person's leave for those that wait
        await converse(run)  # rows of a live lane, call by call
        await park(run, moved=await wait(run))  # until some batch has ended, and is filed; or parked
        await follow_up(run)  # tools, checks, corrections: ready again, or answered, or held
        await validate(run)  # the answers gate: accepted, or set aside
    await load(run)  # accepted rows → the sink, exactly once
    return await report(run)
