"""What happened, in counts and money."""

from datetime import UTC, datetime
from typing import Any

import orjson
from prefect.artifacts import acreate_markdown_artifact

from blocks.ledger_database import LedgerDatabase
from rowtide import ledger as ledgers
from rowtide import ledger_loads
from rowtide.errors import Stopped
from rowtide.ledger_story import summary
from rowtide.summary import as_markdown, stop_words
from tasks.durable import durable


@durable
async def report(run_id: str) -> dict[str, Any]:
    """Close the run's accounts: a summary on disk, the same as a Prefect artifact. Returns the summary.

    Raises Stopped for a run that ended at a wall: it can be resumed, and Prefect shows it as failed.
    """
    database = LedgerDatabase.from_environment()
    async with database.get_work(run_id) as work:
        now = datetime.now(UTC)
        with work.ledger.page() as tx:
            ledger_loads.remember_set_aside(tx, work.run)
            if not work.run.stopped:
                ledgers.finish_run(tx, work.run, now=now)
        with work.ledger.view() as tx:
            found = summary(tx, ledgers.find_run(tx, run_id), now=now)
        folder = work.home / "reports"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{run_id}.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    await acreate_markdown_artifact(as_markdown(found), key="run-report", description=f"Rowtide run {run_id}")
    if found["stopped"]:
        raise Stopped(stop_words(found))
    return found
