"""Measures jobs' objectives: an artifact shows them, and each new breach emits an event."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from orchestration.emit_once import emit_once
from rowtide import clock
from rowtide.escaping import Markdown, markdown_bold, markdown_page, markdown_table
from rowtide.ledger.ledger import Ledger
from rowtide.observing.slo import HEADINGS, objectives_as_json, objectives_as_table
from rowtide.stages.job_objectives import WatchedJob, folders_of_jobs, watch_jobs
from rowtide.stages.orchestrator import current_orchestrator


@durable
async def watch_objectives(folders: Sequence[str] | None = None) -> int:
    """Measure the objectives of the jobs in these folders, or of all jobs. Returns how many objectives are breached.

    Jobs without objectives are left out; of all jobs, also those whose `job.yaml` cannot be read, which is logged.
    """
    now = clock.now()
    with (await LedgerSettings.in_force()).get_ledger() as ledger:
        where = folders_of_jobs(ledger, Path("jobs")) if folders is None else [Path(each) for each in folders]
        watched = watch_jobs(ledger, where, now=now, skip_unreadable=folders is None)
        for each in watched:
            _emit_breaches(ledger, each)
    if watched:
        await current_orchestrator().show_text(_in_words(watched, now), key="slo", about="The objectives of jobs")
    return sum(len(each.breached) for each in watched)


def _emit_breaches(ledger: Ledger, seen: WatchedJob) -> None:
    for standing, payload in zip(seen.found, objectives_as_json(seen.slo, seen.found, seen.since), strict=True):
        if standing.is_breached:
            since = payload["breached_since"]
            payload |= {"owner": seen.owner, "runbook": seen.runbook, "command": f"rowtide slo {seen.job}"}
            emit_once(ledger, "slo.breached", "job", seen.job, f"{standing.objective} {since}", payload, seen.job)


def _in_words(watched: Sequence[WatchedJob], now: datetime) -> Markdown:
    blocks: list[Markdown] = []
    for each in watched:
        blocks.append(markdown_bold(f"{each.job}, over {each.slo.window_days:g} days"))
        blocks.append(markdown_table(HEADINGS, objectives_as_table(each.found, each.since, now)))
    return markdown_page(*blocks)
