"""Reports an eval: a page of both versions, the verdict where the orchestrator shows it, an event where it is worse."""

import os
from pathlib import Path

from configuration.ledger_settings import LedgerSettings
from orchestration.draw_page import draw_page
from orchestration.durable import durable
from orchestration.emit_once import emit_once
from rowtide import clock
from rowtide.evals.outcome import EvalOutcome
from rowtide.job.job_file import read_spec
from rowtide.job.on_call import runbook_location
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read.evals import read_outcome
from rowtide.observing.run_labels import eval_labels, run_title
from rowtide.report.compare_text import verdict_pill, verdict_sentence
from rowtide.report.verdict_text import verdict_as_markdown
from rowtide.stages.orchestrator import current_orchestrator


@durable
async def report_eval(eval_id: str) -> None:
    """Draw the page of an eval and publish its verdict; emit `rowtide.eval.worse` where the candidate is worse."""
    database = await LedgerSettings.in_force()
    with database.get_ledger() as ledger:
        with ledger.view() as tx:
            found = read_outcome(tx, eval_id)
        if found.part == "planted":
            return  # it was known to be worse, so that is no news, and its rows of `confirm` are not for people to see
        if found.verdict == "worse":
            _emit_worse(ledger, found)
    page = None
    if os.environ.get("ROWTIDE_PAGE") != "0":
        file = database.home / "reports" / f"{eval_id}.html"
        page = await draw_page("draw_comparison", database, file, clock.now(), eval_id=eval_id)
    word, _ = verdict_pill(found)
    await current_orchestrator().name(run_title(found.job, eval_id, word), eval_labels(found.job, eval_id))
    text = verdict_as_markdown(found, page)
    await current_orchestrator().show_text(text, key="eval-verdict", about=f"Two versions of {found.job}, compared")


def _emit_worse(ledger: Ledger, found: EvalOutcome) -> None:
    folder = Path(found.candidate.folder)
    spec = read_spec(folder)
    payload = {
        "why": verdict_sentence(found),
        "eval_id": found.eval_id,
        "candidate": found.candidate.label,
        "incumbent": found.incumbent.label,
        "fixed": len(found.fixed),
        "broken": len(found.broken),
        "owner": spec.owner,
        "runbook": runbook_location(spec.runbook, folder),
        "command": f"rowtide resume {found.eval_id}",
    }
    emit_once(ledger, "eval.worse", "eval", found.eval_id, "worse", payload, found.job)
