"""The watch over runs that no process works on."""

from prefect import flow

from tasks.review import review
from tasks.see_to import see_to
from tasks.settle_doubts import settle_doubts
from tasks.under_prefect import under_prefect
from tasks.watch_objectives import watch_objectives


@flow(name="resume_runs", flow_run_name="watch: looking", persist_result=False)
async def resume_runs() -> dict[str, int]:
    """Wake parked runs whose batches have ended; start again those whose process died; cancel what was canceled.

    For a schedule of a few minutes. It leaves alone whatever a live process works on, and starts a run again at most
    five times a day, or 25 times after deaths of the whole worker.
    """
    with under_prefect():
        steps = await review()  # what each run that is not over needs
        if await settle_doubts(steps):  # batches whose POST was never answered
            steps = await review()
        await watch_objectives()  # what is promised of jobs, also of those whose rows only wait
        return await see_to(steps)  # done, where all is still as it was seen
