"""Emits events that a person must hear of, each once: a run held, a budget reached, an objective breached."""

from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from rowtide import clock
from rowtide.ledger import slo as ledger_slo
from rowtide.ledger.ledger import Ledger
from rowtide.observing.event_log import log_event
from rowtide.stages.orchestrator import current_orchestrator


def emit_once(
    ledger: Ledger, event: str, kind: str, subject: str, occurrence: str, payload: Mapping[str, Any], job: str
) -> None:
    """Emit `rowtide.EVENT` about a run or a job (`kind`), unless it was emitted before.

    The payload gets the job and, for a run, its id; it names the owner, the runbook and the `command` that deals with
    it. If the process dies between event and record, the event is emitted again under the same id.
    """
    with ledger.view() as tx:
        if ledger_slo.was_emitted(tx, subject, occurrence):
            return
    event_id = uuid5(NAMESPACE_URL, f"rowtide:{event}:{subject}:{occurrence}")
    fields = {"job": job, **({"run_id": subject} if kind == "run" else {}), **payload}
    current_orchestrator().emit(event, kind, subject, fields, job=job, event_id=event_id)
    figures = {key: value for key, value in fields.items() if key != "failures"}  # gate failures may quote rows' text
    log_event(event.replace(".", "_"), f"{event.replace('.', ' ')}: {payload['command']}", figures, is_warning=True)
    with ledger.page() as tx:
        ledger_slo.record_emitted(tx, subject, occurrence, now=clock.now())
