"""Begins a run, or continues one that an earlier process began."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from rowtide.api.api_identity import check_same_api
from rowtide.errors import RowtideError
from rowtide.intake.sources import INBOX
from rowtide.job.job_file import read_spec
from rowtide.job.on_call import runbook_location
from rowtide.job.run_id import check_run_id, job_of_evals
from rowtide.ledger import flow_runs as ledger_flow_runs
from rowtide.ledger import inbox as ledger_inbox
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import permitted_versions
from rowtide.ledger import prefixes as ledger_prefixes
from rowtide.ledger.ledger import Ledger, Run
from rowtide.observing.event_log import logger
from rowtide.stages.preflight import Plan
from rowtide.stages.required_eval import check_passing_verdict
from rowtide.text_format import format_usd
from rowtide.tiers.pricing import MICRO

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of a run; None means as the job says."""

    run_id: str
    flow_run_id: str | None = None
    """The flow run of Prefect that works on it, if any."""
    source: str | None = None
    row_limit: int | None = None
    lane: str = "auto"
    budget_usd: float | None = None
    finish_within_minutes: float | None = None
    at_least: int = 0
    """For rows from the inbox: begin only with at least so many."""
    eval_id: str | None = None
    """The eval whose arm it is."""


class InboxEmpty(RowtideError):
    """The inbox holds fewer rows than the run needs. Nothing was begun."""


def continue_existing_run(
    ledger: Ledger, run_id: str, api: str, budget_usd: float | None, flow_run_id: str | None, *, now: datetime
) -> Run | None:
    """Return the run if it exists, and let it go on, with a larger budget if one is given.

    Its owner and runbook are the job's present ones. Raises UserMistake when the run belongs to another API.
    """
    with ledger.page() as tx:
        if not ledgers.has_run(tx, run_id):
            return None
        run = ledgers.find_run(tx, run_id)
        check_same_api(run_id, run.api, api)
        spec = read_spec(Path(run.job_folder))
        ledgers.continue_run(
            tx, run_id, _micro(budget_usd), spec.owner, runbook_location(spec.runbook, Path(run.job_folder))
        )
        run = ledgers.find_run(tx, run_id)
        ledger_flow_runs.record_flow_run(tx, run, flow_run_id, now=now)
    if (asked := _micro(budget_usd)) is not None and run.budget_micro != asked:
        words = "run %s keeps its budget of %s and is not given %s: `rowtide resume %s --budget` would lower it"
        log.warning(words, run_id, format_usd((run.budget_micro or 0) / MICRO), format_usd(asked / MICRO), run_id)
    return run


def run_begun_by_flow_run(ledger: Ledger, flow_run_id: str | None) -> str | None:
    """Return the id of the run that this flow run of Prefect began earlier, or None."""
    if flow_run_id is None:
        return None
    with ledger.view() as tx:
        return ledger_flow_runs.first_run_of_flow_run(tx, flow_run_id)


def begin_new_run(ledger: Ledger, plan: Plan, asked: RunOptions, *, now: datetime) -> Run:
    """Record a planned run, or find it. A deadline counts from now.

    A run over the inbox claims its rows in the same transaction. Raises InboxEmpty when there are too few, and
    NoPassingVerdict when the job requires an eval of this version; then nothing is begun.
    """
    word = None if asked.eval_id else check_passing_verdict(ledger, plan)
    spec = plan.job.spec
    within = asked.finish_within_minutes or spec.finish_within_minutes
    values = {
        **plan.record,
        "api": plan.api.name,
        "made_up": int(plan.api.is_made_up),
        "run_id": check_run_id(asked.run_id),
        "job": job_of_evals(plan.job.name) if asked.eval_id else plan.job.name,
        "eval_id": asked.eval_id,
        "source_path": asked.source if asked.source in (None, INBOX) else str(Path(asked.source).resolve()),
        "row_limit": asked.row_limit,
        "lane": asked.lane,
        "budget_micro": _micro(spec.limits.budget_usd if asked.budget_usd is None else asked.budget_usd),
        "finish_by": None if within is None else ledgers.to_timestamp(now + timedelta(minutes=within)),
    }
    with ledger.page() as tx:
        if plan.source.inbox is not None:
            ledger_inbox.lock_inbox_of_job(tx, plan.job.folder.name)
        run = ledgers.begin_run(tx, values, now=now)
        ledger_flow_runs.record_flow_run(tx, run, asked.flow_run_id, now=now)
        permitted_versions.use_override(tx, run, word)
        ledger_prefixes.create_first_prefix(tx, run, plan.skills)
        # Only the creator of the record claims rows: a run's rows must not grow while another process reads them.
        if plan.source.inbox is not None and run.started_at == ledgers.to_timestamp(now):
            rows = ledger_inbox.claim_inbox_rows(tx, plan.job.folder.name, run.run_id, limit=run.row_limit)
            if rows < asked.at_least:
                raise InboxEmpty(f"{rows} rows wait for {plan.job.name}, not {asked.at_least}")
        return run


def _micro(usd: float | None) -> int | None:
    return None if usd is None else round(usd * MICRO)
