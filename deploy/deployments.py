"""`python -m deploy.deployments`: tell Prefect of the work pool, our blocks, the deployments, and whom to call.

All in one process, which is up before the server is: to import Prefect takes seconds each time.
"""

import asyncio
import importlib
import os
import sys
import time

from prefect.cli import app
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import get_current_settings

from deploy.on_call import WHERE, tell_whom
from deploy.prefect_server import POOL, is_ready

LOOK_SECONDS = 0.2
TO_LOAD = (
    "blocks",
    "flows.run_job",
    "flows.evaluate_job",
    "flows.flush_inbox",
    "flows.resume_runs",
)  # what the commands will look at
COMMANDS = (["block", "register", "-m", "blocks"], ["--no-prompt", "deploy", "--all"])


def main() -> int:
    """Wait for the server, then tell it. Returns the exit status."""
    for name in TO_LOAD:
        importlib.import_module(name)
    while not is_ready(str(get_current_settings().api.url)):
        time.sleep(LOOK_SECONDS)
    asyncio.run(_make_pool())
    for words in COMMANDS:
        if status := _prefect(words):
            return status
    asyncio.run(tell_whom(os.environ.get(WHERE)))
    return 0


async def _make_pool() -> None:
    async with get_client() as client:
        try:
            await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        except ObjectAlreadyExists:
            return  # from an earlier start


def _prefect(words: list[str]) -> int:
    """One command of Prefect's, in this process."""
    sys.argv = ["prefect", *words]  # it reads nothing else
    try:
        app()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
