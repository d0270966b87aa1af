"""Run a job from a terminal: choose the API and Prefect's part, show progress, print the summary."""

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

from cli import output, standard_streams
from cli.exits import Exit, exit_status_of
from cli.home_folders import home_folder, is_in_rehearsal
from cli.late_prefect import flow_on_server
from cli.open_ledger import has_ledger, open_existing_ledger
from cli.output import err, has_terminal, out, print_error, print_json, says_yes, short_path
from cli.prefect_server import PrefectFailed, find_server_url
from cli.progress import watch_progress
from cli.streamed_replies import record_live_text
from configuration.ledger_settings import LedgerSettings
from configuration.model_overrides import model_overrides_from_environment
from configuration.operator import NOBODY, with_operator
from flows.pump import pump as plain_pump
from rowtide.agent.states import RunStop
from rowtide.api.api_identity import BASE_URL, KEY, REHEARSAL
from rowtide.errors import RowtideError, RunStopped, StoppedByWorld, WorldError
from rowtide.job.job_file import read_spec
from rowtide.job.job_spec import SinkSpec
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import loads as ledger_loads
from rowtide.ledger.engine import LedgerBroken
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.read.run_figures import read_run_figures
from rowtide.report.run_summary import run_summary
from rowtide.report.stop_text import stop_text
from rowtide.report.summary_text import summary_as_text, too_few_loaded, with_min_loaded
from rowtide.stages.preflight import Plan
from rowtide.stages.rehearsal_answers import rehearsal_answers
from rowtide.tiers.catalogue import load_catalogue
from rowtide.tools.kept_pool import RunCoroutine
from rowtide.tools.trust import LOCK_FILE, NotTrusted, TrustRequest, allow_servers, trust_request_text

EMULATOR_STOPS_SECONDS = 10.0
REHEARSED_SECONDS = "0..0.5"  # that a batch takes: long enough that some are open side by side

AskedPrefect = Annotated[
    bool | None,
    Parameter(
        negative="--no-prefect",
        help="Run it as Prefect's flow, on a server that is started if none is found; or never. By default it is run "
        "so where PREFECT_API_URL or the active profile names a server, or one runs on this machine.",
    ),
]
Trust = Annotated[
    bool,
    Parameter(
        help="Allow the tool servers that a registry lists for this job, as they are now, and write them down in "
        "tools.lock.yaml beside job.yaml. Without it you are asked, at a terminal; elsewhere the command exits 2.",
    ),
]
AsJson = Annotated[bool, Parameter(help="Print one JSON object last on stdout.")]
Verbose = Annotated[
    bool,
    Parameter(
        negative="", help="Close with the details too: work, lane, tiers, cache, each gate, what else it could cost."
    ),
]

Go = Callable[..., Awaitable[dict[str, Any]]]
"""The pump, or Prefect's flow around it."""


def run_to_end(
    run_id: str,
    *,
    as_json: bool,
    prefect: bool | None,
    is_verbose: bool = False,
    min_loaded: float | None = None,
    plan: Plan | None = None,
    on_loop: RunCoroutine = asyncio.run,
    **parameters: Any,
) -> int:
    """Run the stages to their end and print the outcome. Returns the exit status.

    `prefect`: through Prefect's flow, whose server is started if there is none; None: if there is one. `plan` is what
    the job was found to be, and its warnings were given already.
    """
    with (
        claude_or_emulator(answers=_answers_file(parameters["job"], plan)),
        _way(prefect, plan) as go,
        record_live_text(run_id) as lines,
        watch_progress(run_id, lines),
    ):
        output.at_work_on = run_id
        found = on_loop(take(go, run_id, parameters))
    found = with_min_loaded(found, found.get("min_loaded") if min_loaded is None else min_loaded)
    if found["stopped"]:
        print_error(stop_text(found))
    if as_json:
        print_json(found)
    else:
        closing = summary_as_text(
            found,
            results=results_location(run_id),
            report=f"{short_path(report_location(run_id))} · any row: rowtide show KEY",
            ledger=short_path(home_folder() / "ledger.db"),
            already_printed=plan.warnings if plan else (),
            is_verbose=is_verbose,
        )
        out.lines(closing.split("\n"))
    standard_streams.flush_streams()
    if (status := exit_status_of(found)) is Exit.TOO_FEW:
        print_error(f"{too_few_loaded(found)} (exit {status.value})")
    return status


@contextmanager
def use_prefect(prefect: bool | None) -> Generator[None]:
    """Use the named Prefect server, or none, until the block ends. Raises UserMistake."""
    if prefect is not False:
        find_server_url()
        yield
        return
    with with_operator(NOBODY):
        yield


@contextmanager
def _way(prefect: bool | None, plan: Plan | None) -> Generator[Go]:
    """How the stages are called; prints a line where that is not through the named server."""
    url = None if prefect is False else find_server_url()
    if url is None and not prefect:
        err.print("no Prefect server: the stages run in this process (--prefect starts one, PREFECT_API_URL names one)")
        with with_operator(NOBODY):
            yield partial(plain_pump, plan=plan)
        return
    err.print(f"Prefect: {url}" if url else "Prefect: starting a server for this run, about ten seconds")
    with flow_on_server(url) as flow:
        yield flow


async def take(go: Go, run_id: str, parameters: dict[str, Any]) -> dict[str, Any]:
    try:
        return await go(run_id=run_id, **parameters)
    except PrefectFailed as failed:
        if (found := _finished(run_id)) is None:
            words = f"{failed}; what was committed is kept: rowtide resume {run_id} --no-prefect"
            raise RowtideError(words) from failed
        print_error(
            f"{failed}; so Prefect was not told that the run is over: its page may say otherwise. The run is done"
        )
        return found
    except (RunStopped, StoppedByWorld) as stopped:
        with open_existing_ledger() as ledger:
            with ledger.page() as tx:
                run = ledgers.find_run(tx, run_id)
                if not run.stopped:  # the API refuses even to say how batches stand
                    ledgers.stop_run(tx, run, RunStop.REFUSED, detail=str(stopped))
            return _summary(ledger, run)
    except (WorldError, LedgerBroken) as gone:  # the ledger, the sink, a source
        raise RowtideError(f"{gone}; what was committed is kept: rowtide resume {run_id}") from gone


def _finished(run_id: str) -> dict[str, Any] | None:
    """The summary of a finished run, as its report had it."""
    if not has_ledger():
        return None
    with open_existing_ledger() as ledger:
        with ledger.view() as tx:
            if not ledgers.has_run(tx, run_id) or not (run := ledgers.find_run(tx, run_id)).finished_at:
                return None
        found = _summary(ledger, run)
    return with_min_loaded(found, read_spec(Path(run.job_folder)).limits.min_loaded)


def _summary(ledger: Ledger, run: Run) -> dict[str, Any]:
    catalogue = load_catalogue(model_overrides_from_environment())
    with ledger.view() as tx:
        return run_summary(read_run_figures(tx, run, now=datetime.now(UTC), catalogue=catalogue))


def checked_plan(folder: Path, source: Path | None, *, trust: bool, on_loop: RunCoroutine = asyncio.run) -> Plan:
    """Return the checked plan of a job, before any server is started. Raises UserMistake.

    `trust`: servers that a registry lists are allowed as they are; else who is at the terminal is asked.
    """

    def plan() -> Plan:
        return on_loop(LedgerSettings.from_environment().get_plan(folder, str(source) if source else None))

    try:
        return plan()
    except NotTrusted as found:
        if not trust and not _agrees(found):
            raise
        file = allow_servers(folder, found.asked)
        err.print(f"allowed, and written down in {short_path(file)}:", *map(_in_short, found.asked), sep="\n  ")
    return plan()


def _agrees(found: NotTrusted) -> bool:
    """Whether a person at the terminal agrees; false where there is no terminal."""
    if has_terminal():
        err.lines([trust_request_text(each) for each in found.asked])
    return says_yes(f"Allow this, and write it down in {LOCK_FILE}?")


def _in_short(asked: TrustRequest) -> str:
    return f"{asked.server}: {asked.found.name} {asked.found.version or ''}: {asked.found.starts}"


def _answers_file(job: str, plan: Plan | None) -> Path | None:
    """The file that tells the emulator what the job knows in advance: written for a new run, found for an old one."""
    if os.environ.get(KEY):
        return None
    file = home_folder() / "emulator_answers" / f"{Path(job).name}.jsonl"
    if plan is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(rehearsal_answers(plan, os.environ))
    return file if file.is_file() else None


@contextmanager
def claude_or_emulator(answers: Path | None = None) -> Generator[None]:
    """The API that the environment names or, without a key, an emulator that lives as long as this process.

    `answers` is a file of answers for that emulator.
    """
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
        str(home_folder() / "emulator"),
        "--batch-seconds",
        REHEARSED_SECONDS,
        "--until-stdin-closes",
        *(["--answers", str(answers)] if answers else []),
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


def announce_rehearsal(instead_of: SinkSpec | None = None, sink: SinkSpec | None = None) -> None:
    """Print as a rehearsal's first line that it is one, where it is, and where its rows go."""
    if not is_in_rehearsal():
        return
    line = f"rehearsal: no {KEY}, so the emulator makes up the answers: nothing is sent or paid, and nothing of it"
    line = f"{line} counts for a run with a key. All of it is in {short_path(home_folder())}"
    if sink and instead_of and instead_of.is_table:
        where = short_path(home_folder() / str(sink.path))
        line = f"{line}; rows go to {where}, and not to the table {instead_of.table}"
    err.print(line)


def report_location(run_id: str) -> Path:
    """Return where the run's page is or, where none was drawn, its summary."""
    page = home_folder() / "reports" / f"{run_id}.html"
    return page if page.is_file() else page.with_suffix(".json")


def results_location(run_id: str) -> str:
    """Return where the run's rows were written, in words."""
    with open_existing_ledger() as ledger, ledger.view() as tx:
        sink = ledger_loads.last_sink_of_job(tx, ledgers.find_run(tx, run_id))
    if sink is None:
        return "nothing was loaded"
    return f"{sink if '://' in sink else short_path(Path(sink))} · rowtide results {run_id}"
