"""The flow that recovers runs no process works on."""

from prefect import flow

from orchestration.under_prefect import under_prefect
from tasks.apply_recovery import apply_recovery
from tasks.plan_recovery import plan_recovery
from tasks.reconcile_batches import reconcile_batches
from tasks.request_drift_checks import request_drift_checks
from tasks.watch_objectives import watch_objectives


@flow(name="resume_runs", flow_run_name="watch: looking", persist_result=False)
async def resume_runs() -> dict[str, int]:
    """Wake parked runs whose batches have ended, restart those whose process died, and finish cancellations.

    For a schedule of a few minutes. It never touches what a live process works on, and restarts a run at most five
    times a day, or 25 times after crashes of the whole worker.
    """
    with under_prefect():
        steps = await plan_recovery()  # what each unfinished run needs
        if await reconcile_batches(steps):  # batches whose POST was never answered
            steps = await plan_recovery()
        done = await apply_recovery(steps)  # each step, if nothing has changed since
        await request_drift_checks()  # where a job asks whether a model answers as it did
        await watch_objectives()  # objectives of all jobs, also of those whose rows only wait
        return done
