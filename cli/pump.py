"""A run from a terminal: a server for Claude, Prefect where there is a server of its own, and progress."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from cli import say, streams
from cli.existing_ledger import existing_ledger, has_ledger
from cli.exits import Exit, status_of
from cli.home_folders import home, is_rehearsal
from cli.late_prefect import flow_at
from cli.live_text import written
from cli.prefect_server import PrefectFailed, server_url
from cli.progress import watching
from cli.say import complain, err, out, say_json, tilde
from configuration.ledger_settings import LedgerSettings
from configuration.operator import NOBODY, operated_by
from flows.pump import pump as plain_pump
from rowtide.agent.states import RunStop
from rowtide.api.which_api import BASE_URL, KEY, REHEARSAL
from rowtide.errors import RowtideError, Stopped, StoppedByWorld, WorldError
from rowtide.job.job import SinkSpec
from rowtide.job.job_file import read_spec
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import loads as ledger_loads
from rowtide.ledger.engine import LedgerBroken
from rowtide.ledger.read.history import summary
from rowtide.report.summary import as_text, stop_words, too_few, with_enough
from rowtide.stages.preflight import Plan
from rowtide.tools.trust import LOCK_FILE, Asked, NotTrusted, allow, words_of

EMULATOR_STOPS_SECONDS = 10.0

AskedPrefect = Annotated[
    bool | None,
    Parameter(
        help="Run it as Prefect's flow, on a server that is started if none is found; or never. By default it is run "
        "so where PREFECT_API_URL or the active profile names a server, or one runs on this machine."
    ),
]
Trust = Annotated[
    bool,
    Parameter(
        negative="",
        help="Allow the tool servers that a registry lists for this job, as they are now, and write them down in "
        "tools.lock.yaml beside job.yaml. Without it you are asked, at a terminal; elsewhere the command exits 2.",
    ),
]
AsJson = Annotated[bool, Parameter(negative="", help="Print one JSON object last on stdout.")]

Go = Callable[..., Awaitable[dict[str, Any]]]
"""The pump, or Prefect's flow around it."""


def pump(
    run_id: str,
    *,
    as_json: bool,
    prefect: bool | None,
    min_loaded: float | None = None,
    plan: Plan | None = None,
    **parameters: Any,
) -> int:
    """Run the stages to their end and print what came of it. Returns the exit status.

    `prefect`: through Prefect's flow, whose server is started if there is none; None: if there is one. `plan` is what
    the job was found to be, and its warnings were given already.
    """
    with claude_server(), _way(prefect, plan) as go, written(run_id) as lines, watching(run_id, lines):
        say.at_work_on = run_id
        found = asyncio.run(take(go, run_id, parameters))
    found = with_enough(found, found.get("min_loaded") if min_loaded is None else min_loaded)
    if found["stopped"]:
        complain(stop_words(found))
    if as_json:
        say_json(found)
    else:
        where = {"results": results_of(run_id), "ledger": tilde(home() / "ledger.db")}
        out.lines(as_text(found, **where, said=plan.warnings if plan else ()).split("\n"))
        out.print(f"report   {tilde(report_of(run_id))} · any row: rowtide show KEY", markup=False)
    streams.finish()
    if (status := status_of(found)) is Exit.TOO_FEW:
        complain(f"{too_few(found)} (exit {status.value})")
    return status


@contextmanager
def prefect_in_use(prefect: bool | None) -> Generator[None]:
    """Look at the server that is named, or have none for the length of the block. Raises UserMistake."""
    if prefect is not False:
        server_url()
        yield
        return
    with operated_by(NOBODY):
        yield


@contextmanager
def _way(prefect: bool | None, plan: Plan | None) -> Generator[Go]:
    """How the stages are called; says so where that is not by the server that is named."""
    url = None if prefect is False else server_url()
    if url is None and not prefect:
        err.print("no Prefect server: the stages run in this process (--prefect starts one, PREFECT_API_URL names one)")
        with operated_by(NOBODY):
            yield partial(plain_pump, plan=plan)
        return
    err.print(f"Prefect: {url}" if url else "Prefect: starting a server for this run, about ten seconds", markup=False)
    with flow_at(url) as flow:
        yield flow


async def take(go: Go, run_id: str, parameters: dict[str, Any]) -> dict[str, Any]:
    try:
        return await go(run_id=run_id, **parameters)
    except PrefectFailed as failed:
        if (found := _finished(run_id)) is None:
            words = f"{failed}; what was committed is kept: rowtide resume {run_id} --no-prefect"
            raise RowtideError(words) from failed
        complain(f"{failed}; so Prefect was not told that the run is over: its page may say otherwise. The run is done")
        return found
    except (Stopped, StoppedByWorld) as stopped:
        with existing_ledger() as ledger:
            with ledger.page() as tx:
                run = ledgers.find_run(tx, run_id)
                if not run.stopped:  # the API refuses even to say how batches stand
                    ledgers.stop(tx, run, RunStop.REFUSED, detail=str(stopped))
            with ledger.view() as tx:
                return summary(tx, ledgers.find_run(tx, run_id), now=datetime.now(UTC))
    except (WorldError, LedgerBroken) as gone:  # the ledger, the sink, a source
        raise RowtideError(f"{gone}; what was committed is kept: rowtide resume {run_id}") from gone


def _finished(run_id: str) -> dict[str, Any] | None:
    """The summary of a run that has come to its end, as its report had it."""
    if not has_ledger():
        return None
    with existing_ledger() as ledger, ledger.view() as tx:
        if not ledgers.has_run(tx, run_id) or not (run := ledgers.find_run(tx, run_id)).finished_at:
            return None
        found = summary(tx, run, now=datetime.now(UTC))
    return with_enough(found, read_spec(Path(run.job_folder)).limits.min_loaded)


def planned(folder: Path, source: Path | None, *, trust: bool) -> Plan:
    """The mistakes come before any server is started. Raises UserMistake.

    `trust`: servers that a registry lists are allowed as they are; else who is at the terminal is asked.
    """

    def plan() -> Plan:
        return asyncio.run(LedgerSettings.from_environment().get_plan(folder, str(source) if source else None))

    try:
        return plan()
    except NotTrusted as found:
        if not trust and not _says_yes(found):
            raise
        file = allow(folder, found.asked)
        err.print(
            f"allowed, and written down in {tilde(file)}:", *map(_in_short, found.asked), sep="\n  ", markup=False
        )
    return plan()


def _says_yes(found: NotTrusted) -> bool:
    """What a person at a terminal says to it; nobody is there where there is none."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    for each in found.asked:
        err.print(words_of(each), markup=False)
    err.print(f"Allow this, and write it down in {LOCK_FILE}? [y/N] ", end="", markup=False)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _in_short(asked: Asked) -> str:
    return f"{asked.server}: {asked.found.name} {asked.found.version or ''}: {asked.found.starts}"


@contextmanager
def claude_server() -> Generator[None]:
    """The API the environment names; without a key, the emulator, for as long as we live."""
    if os.environ.get(KEY):
        yield
        return
    command = [
        sys.executable,
        "-m",
        "emulator",
        "--port",
        "0",
        "--data",
        str(home() / "emulator"),
        "--until-stdin-closes",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        url = process.stdout.readline().rpartition(" ")[2].strip()
        os.environ |= {KEY: "emulator", BASE_URL: url, REHEARSAL: "1"}
        try:
            yield
        finally:
            process.stdin.close()
            try:
                process.wait(EMULATOR_STOPS_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def say_rehearsal(instead_of: SinkSpec | None = None, sink: SinkSpec | None = None) -> None:
    """Say of a rehearsal, in its first line, that it is one, where it is, and where its rows go instead."""
    if not is_rehearsal():
        return
    said = f"rehearsal: no {KEY}, so the emulator makes up the answers: nothing is sent or paid, and nothing of it"
    said = f"{said} counts for a run with a key. All of it is in {tilde(home())}"
    if sink and instead_of and instead_of.kind == "sql":
        said = f"{said}; rows go to {tilde(home() / str(sink.path))}, and not to the table {instead_of.table}"
    err.print(said, markup=False)


def report_of(run_id: str) -> Path:
    """The run's page; where none was drawn, its numbers."""
    page = home() / "reports" / f"{run_id}.html"
    return page if page.is_file() else page.with_suffix(".json")


def results_of(run_id: str) -> str:
    """Where the run's rows were written, as a person would say it."""
    with existing_ledger() as ledger, ledger.view() as tx:
        sink = ledger_loads.sink_of(tx, ledgers.find_run(tx, run_id))
    if sink is None:
        return "nothing was loaded"
    return sink if "://" in sink else tilde(Path(sink))
