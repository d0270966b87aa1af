"""Where tool servers are, and what they are let in with, over what jobs and registries say."""

from configuration.operator import current_operator
from rowtide.tools.operator_servers import NOTHING_PROVIDED, OperatorServers


async def tool_places_in_force() -> OperatorServers:
    """What was filled in of all tool servers; else nothing. Raises WorldError."""
    return await current_operator().filled_in(OperatorServers) or NOTHING_PROVIDED
