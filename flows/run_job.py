"""The pump as a Prefect flow: a form, retries, parking, and a page for each run."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.pump import pump
from orchestration.cancel_batches import cancel_batches
from orchestration.initial_flow_run_name import initial_flow_run_name
from orchestration.under_prefect import under_prefect
from rowtide.job.run_id import RunId
from rowtide.job.strict_spec import MOST
from rowtide.lanes.lane_table import AskedLane
from tasks.forecast_run import forecast_run

Count = Annotated[int, Field(ge=1, le=MOST)]
Amount = Annotated[float, Field(gt=0, le=MOST, allow_inf_nan=False)]


@flow(name="run_job", flow_run_name=initial_flow_run_name, persist_result=False, on_cancellation=[cancel_batches])
async def run_job(
    job: str,
    source: str | None = None,
    run_id: RunId | None = None,
    limit: Count | None = None,
    lane: AskedLane = "auto",
    budget: Amount | None = None,
    finish_within_minutes: Amount | None = None,
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
    with under_prefect():
        if dry_run:
            return await forecast_run(job, source, limit, lane, budget, finish_within_minutes, tiers)
        return await pump(job, source, run_id, limit, lane, budget, finish_within_minutes, tiers)
