"""Recovers runs that no process works on, by planned steps."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from httpx import HTTPError
from prefect.client.orchestration import PrefectClient
from prefect.events import emit_event
from prefect.exceptions import PrefectException
from prefect.states import AwaitingRetry, Cancelled, Crashed

from blocks.prefect_client import prefect_client
from configuration.ledger_settings import LedgerSettings
from orchestration.cancel import cancel
from orchestration.durable import durable
from rowtide.errors import RowtideError
from rowtide.escaping import Markdown, markdown_table
from rowtide.ledger import flow_runs as ledger_flow_runs
from rowtide.ledger import leases as ledger_leases
from rowtide.ledger.ledger import Ledger, find_run
from rowtide.observing.event_log import logger
from rowtide.observing.recovery import Cancel, Reconcile, Restart, Step, UnfinishedRunStatus, Wake, Warn
from rowtide.stages.orchestrator import current_orchestrator

log = logger(__name__)


@durable
async def apply_recovery(steps: Sequence[Step]) -> dict[str, int]:
    """Wake, restart, cancel and warn; each only if nothing has changed since the plan. Returns how many of each."""
    done: list[tuple[Step, str]] = []
    with (await LedgerSettings.in_force()).get_ledger() as ledger:
        async with prefect_client() as client:
            for step in steps:
                if isinstance(step, Reconcile):
                    continue  # done by `reconcile_batches`
                try:
                    what = await _do(client, ledger, step)
                except (RowtideError, HTTPError, PrefectException) as error:
                    what = f"failed: {error}"
                log.warning("%s: %s (%s)", step.at.name, what, step.why)
                done.append((step, what))
    counts = Counter(what.partition(":")[0] for _, what in done)
    await current_orchestrator().name(
        "watch: " + (", ".join(f"{count} {what}" for what, count in counts.items()) or "all well")
    )
    if done:
        await current_orchestrator().show_text(_in_words(done), key="resume-runs", about="Recovery of idle runs")
    return dict(counts)


async def _do(client: PrefectClient, ledger: Ledger, step: Wake | Restart | Cancel | Warn) -> str:
    at = step.at
    if isinstance(step, Warn):
        _warn(ledger, step)
        return "warned"
    if not await _is_still_so(client, ledger, at):
        return "left: it has changed since"
    match step:
        case Wake():
            await client.resume_flow_run(at.flow_run_id)  # pyright: ignore[reportArgumentType] # text does as well
            return "woken"
        case Restart():
            if at.run_id:  # else only Prefect counts its restarts
                with ledger.page() as tx:
                    run, now = find_run(tx, at.run_id), datetime.now(UTC)
                    ledger_flow_runs.record_restart(tx, run, at.flow_run_id, step.why, now=now)
            if at.flow_state != "CRASHED":
                await client.set_flow_run_state(at.flow_run_id, Crashed(message=step.why), force=True)
            await client.set_flow_run_state(at.flow_run_id, AwaitingRetry(message=step.why), force=True)
            return "restarted"
        case Cancel():
            batches = await cancel(at.run_id)
            if at.flow_state != "CANCELLED":
                await client.set_flow_run_state(at.flow_run_id, Cancelled(message=step.why), force=True)
            return f"canceled: {batches} batches"


def _warn(ledger: Ledger, step: Warn) -> None:
    at = step.at
    resource = {"prefect.resource.id": f"rowtide.run.{at.run_id or at.flow_run_id}", "prefect.resource.name": at.name}
    event_payload = {"job": "", "run_id": at.run_id, "owner": None, "runbook": None, "why": step.why, "command": ""}
    if at.run_id:
        with ledger.view() as tx:
            run = find_run(tx, at.run_id)
        resource |= {"prefect.resource.name": at.run_id, "job": run.job}
        event_payload |= {
            "job": run.job,
            "owner": run.owner,
            "runbook": run.runbook,
            "command": f"rowtide resume {run.run_id}",
        }
    emit_event("rowtide.run.needs-a-person", resource=resource, payload=event_payload)


async def _is_still_so(client: PrefectClient, ledger: Ledger, at: UnfinishedRunStatus) -> bool:
    flow_run = await client.read_flow_run(at.flow_run_id)  # pyright: ignore[reportArgumentType] # text does as well
    with ledger.view() as tx:
        lease = ledger_leases.lease_state(tx, at.run_id, now=datetime.now(UTC))
    return flow_run.state is not None and str(flow_run.state.id) == at.flow_state_id and lease != "held"


def _in_words(done: Sequence[tuple[Step, str]]) -> Markdown:
    cells = [(step.at.run_id or step.at.name, what, step.why) for step, what in done]
    return markdown_table(["run", "what", "because"], cells)
