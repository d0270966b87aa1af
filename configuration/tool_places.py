"""Places and secrets of tool servers in force, over those of jobs and registries."""

from configuration.operator import current_operator
from rowtide.tools.operator_servers import NOTHING_PROVIDED, OperatorServers


async def tool_places_in_force() -> OperatorServers:
    """Return the operator's places of tool servers, else none. Raises WorldError."""
    return await current_operator().filled_in(OperatorServers) or NOTHING_PROVIDED
