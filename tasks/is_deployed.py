"""Whether this flow run can be started again by a worker."""

from prefect.context import FlowRunContext


def is_deployed() -> bool:
    """Whether this flow run belongs to a deployment: only such a one may suspend itself, because it can be woken."""
    context = FlowRunContext.get()
    return context is not None and context.flow_run is not None and context.flow_run.deployment_id is not None
