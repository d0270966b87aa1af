"""What is promised of jobs, looked at: an artifact that shows it, and an event for each new breach."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from orchestration.emit_once import emit_once
from rowtide import clock
from rowtide.escaping import Markdown, bold, markdown_page, markdown_table
from rowtide.ledger.ledger import Ledger
from rowtide.observing.slo import HEADINGS, as_cells, as_json
from rowtide.stages.orchestrator import orchestrator
from rowtide.stages.slo_watch import Watched, folders_of, watch


@durable
async def watch_objectives(folders: Sequence[str] | None = None) -> int:
    """Measure the objectives of the jobs in these folders, or of all jobs. Returns how many are breached.

    A job whose `job.yaml` cannot be read is left out: its own runs say so.
    """
    now = clock.now()
    with (await LedgerSettings.in_force()).get_ledger() as ledger:
        where = folders_of(ledger, Path("jobs")) if folders is None else [Path(each) for each in folders]
        watched = watch(ledger, where, now=now)
        for each in watched:
            _tell(ledger, each)
    if watched:
        await orchestrator().show_text(_in_words(watched, now), key="slo", about="What is promised of jobs")
    return sum(len(each.breached) for each in watched)


def _tell(ledger: Ledger, seen: Watched) -> None:
    for standing, said in zip(seen.found, as_json(seen.slo, seen.found, seen.since), strict=True):
        if standing.is_breached:
            since = said["breached_since"]
            said |= {"owner": seen.owner, "runbook": seen.runbook, "command": f"rowtide slo {seen.job}"}
            emit_once(ledger, "slo.breached", "job", seen.job, f"{standing.objective} {since}", said, seen.job)


def _in_words(watched: Sequence[Watched], now: datetime) -> Markdown:
    blocks: list[Markdown] = []
    for each in watched:
        blocks.append(bold(f"{each.job}, over {each.slo.window_days:g} days"))
        blocks.append(markdown_table(HEADINGS, as_cells(each.found, each.since, now)))
    return markdown_page(*blocks)
