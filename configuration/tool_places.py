"""Where tool servers are, and what they are let in with, over what jobs and registries say."""

from configuration.operator import operator
from rowtide.tools.provided import NOTHING_PROVIDED, Provided


async def places_in_force() -> Provided:
    """What was filled in of all tool servers; else nothing. Raises WorldError."""
    return await operator().filled_in(Provided) or NOTHING_PROVIDED
