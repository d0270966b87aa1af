"""Import Prefect only when it is first needed: it takes seconds, and most commands never need it."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from cli.prefect_server import configured_server_url
from configuration.operator import Operator
from rowtide.stages.diagnose.findings import Finding

T = TypeVar("T")


class PrefectServerBlocks(Operator):
    """The blocks of the server that the environment or the active profile names; none without a server."""

    async def filled_in(self, kind: type[T]) -> T | None:
        if configured_server_url() is None:
            return None
        from blocks.operator_blocks import OperatorBlocks  # noqa: PLC0415 # see above

        return await OperatorBlocks().filled_in(kind)


def flow_on_server(url: str | None) -> AbstractContextManager[Callable[..., Awaitable[dict[str, Any]]]]:
    """Return a context that gives Prefect's flow of a run, to be called: it runs on the server at `url`; with None, on
    a server that is started for it and ends with the block.
    """
    from cli import prefect_flow  # noqa: PLC0415 # see above

    return prefect_flow.flow_on_server(url)


async def examine_prefect_server(url: str) -> list[Finding]:
    """Return what is found of the deployments, workers and runs of the server at `url`."""
    from cli import prefect_checks  # noqa: PLC0415 # see above

    return await prefect_checks.examine_prefect_server(url)
