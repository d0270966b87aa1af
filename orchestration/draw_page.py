"""Draws a page in a process of its own: if that crashes, hangs or fails, all else is done all the same."""

import asyncio
import sys
from datetime import datetime
from pathlib import Path

import orjson

from configuration.ledger_settings import LedgerSettings
from rowtide.errors import UserMistake
from rowtide.ledger.ledger import ledger_url
from rowtide.observing.event_log import logger

DRAWING_SECONDS = 900.0  # a million rows take about fifteen, ten million ten times as long

log = logger(__name__)


async def draw_page(program: str, database: LedgerSettings, file: Path, now: datetime, **about: str) -> Path | None:
    """Draw a page with a program of `rowtide.stages.report`; `about` says of what. None, and a warning, where it could
    not be drawn."""
    command = [sys.executable, "-m", f"rowtide.stages.report.{program}"]
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=nothing, stderr=pipe)
    orders = {"ledger_url": ledger_url(database.url, database.home), **about, "file": str(file), "now": now}
    try:
        async with asyncio.timeout(DRAWING_SECONDS):
            _, error_output = await process.communicate(orjson.dumps(orders))
    except TimeoutError:
        process.kill()
        await process.wait()
        error_output = f"nothing in {DRAWING_SECONDS:.0f} s".encode()
    if process.returncode == 0:
        return file
    last = error_output.decode(errors="replace").strip().rpartition("\n")[2].rpartition(f"{UserMistake.__name__}: ")[2]
    log.warning("the page of %s could not be drawn: %s; all else is done", file.stem, last)
    return None
