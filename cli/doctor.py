"""`rowtide doctor [JOB]`: check this machine, and a job, before a run."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cli.environment_checks import PROXIES, check_home
from cli.exits import Exit
from cli.home_folders import home_folder, is_in_rehearsal, rehearse_without_key
from cli.late_prefect import examine_prefect_server
from cli.open_ledger import has_ledger, open_home_ledger
from cli.output import err, out, print_json, says_yes, short_path
from cli.prefect_server import find_server_url
from cli.shared_arguments import SomeJob
from cli.terminal_run import claude_or_emulator
from configuration.claude_settings import ClaudeSettings
from configuration.model_overrides import model_overrides_in_force
from rowtide.api.api_identity import describe_api
from rowtide.errors import UserMistake
from rowtide.job.job_folder import Job, find_job, load_job
from rowtide.masking import mask_secrets
from rowtide.stages.diagnose.api_checks import examine_api, examine_models
from rowtide.stages.diagnose.findings import Finding, examine
from rowtide.stages.diagnose.job_checks import examine_sink, examine_source, examine_tool_server
from rowtide.stages.diagnose.ledger_checks import examine_home, examine_ledger
from rowtide.stages.diagnose.live_probe import probe_api, probe_as_json, probe_cost_usd, probe_findings
from rowtide.stages.run_context import models_of
from rowtide.tiers.catalogue import load_catalogue

MARKS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}
PATIENCE = timedelta(minutes=15)  # most batches end within minutes; a probe that takes longer helps nobody
WIDTH = max(map(len, MARKS))


def doctor(job: SomeJob = None, *, live_probe: bool = False, yes: bool = False, json: bool = False) -> int:
    """Look at everything that a run needs, and say what to do about what is wrong. It costs nothing.

    The API and the key, the clock, the home and its ledger, Prefect; with a job its folder, source, models, tool
    servers, gates and sink. Exits 0 when nothing has failed, else 2.

    Parameters
    ----------
    job
        A name under jobs/, or a folder that holds a job.yaml.
    live_probe
        Instead, make the smallest call of each kind that Rowtide makes, a batch among them, and compare the answers'
        shapes with what it relies on. It costs a cent at most, says how much and asks first.
    yes
        Do not ask before the live probe.
    json
        Print one JSON list on stdout, of objects: subject, verdict (ok, warning, failed, skipped), detail, advice.
    """
    rehearse_without_key()
    folder = find_job(job, jobs=Path("jobs")) if job else None
    with claude_or_emulator():
        if live_probe:
            return asyncio.run(_probe(is_agreed=yes, is_shown=not json))
        found = asyncio.run(_examine(folder, is_shown=not json))
    if json:
        print_json([asdict(each) for each in found])
        return _status(found)
    failed, warned = (sum(each.verdict == verdict for each in found) for verdict in ("failed", "warning"))
    out.print(f"{len(found)} things looked at: {failed} failed, {warned} warnings")
    if folder and not failed:
        out.print(f"next: rowtide plan {job}")
    return _status(found)


def _status(found: Sequence[Finding]) -> Exit:
    return Exit.MISTAKE if any(each.verdict == "failed" for each in found) else Exit.DONE


async def _probe(*, is_agreed: bool, is_shown: bool) -> Exit:
    """Compare the API's answers with what Rowtide relies on, and write the shapes that came to a file."""
    catalogue = load_catalogue(await model_overrides_in_force())
    model = min(catalogue.models.values(), key=probe_cost_usd)
    settings = await ClaudeSettings.in_force()
    name = describe_api(settings.api, is_made_up=is_in_rehearsal())
    err.print(
        f"the live probe asks {name} four times, once in a batch, as {model.id}: at most ${probe_cost_usd(model):.4f}"
    )
    if not (is_agreed or says_yes("Send it?")):
        raise UserMistake("nothing was sent: --yes goes on without asking")
    async with settings.get_client() as claude:
        probed = await probe_api(claude, model, patience=PATIENCE, on_step=lambda name: err.print(f"… {name}"))
    file = home_folder() / "reports" / f"api-shapes-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(probe_as_json(probed))
    found = probe_findings(probed)
    if is_shown:
        for each in found:
            _print(each)
        out.print(f"shapes   {short_path(file)}: what came, without its texts; send it to us where something differs")
    else:
        print_json([asdict(each) for each in found])
    return _status(found)


async def _examine(folder: Path | None, *, is_shown: bool) -> list[Finding]:
    found: list[Finding] = []
    async for findings in _all_findings(folder):
        found += findings
        if is_shown:
            for each in findings:
                _print(each)
    return found


def _print(each: Finding) -> None:
    out.print(f"{each.verdict:{WIDTH}}  {each.subject}: {each.detail}", style=MARKS[each.verdict])
    if each.advice:
        out.print(f"{'':{WIDTH}}  → {each.advice}")


async def _all_findings(folder: Path | None) -> AsyncIterator[list[Finding]]:
    """One list after another, as soon as it is known: what all runs need first, then what the job needs."""
    yield await examine("API", _api, _api_advice(os.environ))
    yield await examine("home", _home)
    yield await examine("ledger", _ledger)
    yield await examine("Prefect", _prefect)
    if folder is None:
        return
    try:
        job = load_job(folder)
    except UserMistake as mistake:
        yield [Finding("job", "failed", str(mistake))]
        return
    yield [Finding("job", "ok", f"{folder}: job.yaml, prompt, answer model and checks are legal")]
    yield await examine("source", partial(examine_source, job, os.environ))
    yield await examine("models", partial(_models, job))
    for name, spec in job.spec.tools.items():
        yield await examine(f"tools.{name}", partial(examine_tool_server, job, name, spec, os.environ))
    yield await examine("sink", partial(examine_sink, job, home_folder(), os.environ))


async def _api() -> list[Finding]:
    settings = await ClaudeSettings.in_force()
    async with settings.get_client() as claude:
        name = describe_api(settings.api, is_made_up=is_in_rehearsal())
        return await examine_api(claude, name, lambda: datetime.now(UTC))


def _api_advice(environment: Mapping[str, str]) -> str:
    """Return what to look at where the API cannot be reached, or refuses the key."""
    proxies = [
        f"{name}={mask_secrets(value)}" for name, value in environment.items() if name.upper() in PROXIES and value
    ]
    if proxies:
        return f"{', '.join(proxies)} stands between: unset it, or put the API's host into NO_PROXY, if it should not"
    return "look at ANTHROPIC_API_KEY (platform.claude.com, API keys), ANTHROPIC_BASE_URL and this machine's network"


async def _models(job: Job) -> list[Finding]:
    settings = await ClaudeSettings.in_force()
    catalogue = load_catalogue(await model_overrides_in_force())
    async with settings.get_client() as claude:
        return await examine_models(claude, models_of(job, catalogue))


async def _home() -> list[Finding]:
    check_home(home_folder())
    return examine_home(home_folder())


async def _ledger() -> list[Finding]:
    if not has_ledger():
        return [Finding("ledger", "ok", "none yet: the first run makes it")]
    with open_home_ledger() as ledger:
        return examine_ledger(ledger)


async def _prefect() -> list[Finding]:
    if (url := find_server_url()) is None:
        return [
            Finding("Prefect", "ok", "no server is named and none runs here: runs start in the command's own process")
        ]
    return [
        Finding("Prefect", "ok", f"the server at {url} answers, and its version fits"),
        *await examine_prefect_server(url),
    ]
