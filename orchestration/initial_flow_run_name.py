"""Names a flow run until its run is known."""

from pathlib import Path

from prefect.runtime import flow_run


def initial_flow_run_name() -> str:
    """Return a name from the parameters; a restarted flow run keeps its name. Prefect's own would be `bright-hyena`."""
    if any(tag.startswith("run:") for tag in flow_run.tags):
        return str(flow_run.name)
    run_id, job = (flow_run.parameters.get(name) for name in ("run_id", "job"))
    return f"{run_id or Path(job or 'the job that has waited longest').name}: starting"
