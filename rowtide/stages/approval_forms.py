"""Text of the approval forms that Prefect shows: what is to be decided, and what follows from each decision."""

from collections.abc import Sequence

from rowtide.escaping import Markdown, escape_markdown, markdown_bold, markdown_labelled, markdown_page
from rowtide.gates.approvals import GateApproval
from rowtide.gates.call_pages import CallPage, call_text
from rowtide.ledger.tool_calls import PendingCall

CHANGED = "The figures have changed since they were shown. What was decided on them then was not carried out."


def gate_approval_text(run_id: str, gate_approvals: Sequence[GateApproval], follows: str) -> Markdown:
    """Return the gate failures that hold a run, and what approval and rejection would do."""
    failures = [
        markdown_labelled(gate=gate_approval.gate, judged=f"{gate_approval.rows:,} rows", failed=each.text)
        for gate_approval in gate_approvals
        for each in gate_approval.failures
    ]
    return markdown_page(
        markdown_bold(f"Run {run_id} is held by a gate."),
        escape_markdown(
            CHANGED
            if any(gate_approval.shown_hash not in (None, gate_approval.hash) for gate_approval in gate_approvals)
            else ""
        ),
        escape_markdown(
            f"{follows.capitalize()}. You decide on the figures below; if they change, you are asked again."
        ),
        *failures,
    )


def call_approval_text(run_id: str, page: CallPage[PendingCall]) -> Markdown:
    """Return one page of calls in full, and whether they changed since they were shown."""
    calls = [
        markdown_labelled(row=each.row_key, call=call_text(each), because=each.why, hash=each.hash[:12])
        for each in page.calls
    ]
    new = sum(not each.was_shown for each in page.calls)
    return markdown_page(
        markdown_bold(f"{page.waiting:,} calls of run {run_id} await approval. Page {page.number} of {page.pages}."),
        escape_markdown(_changed(new) if 0 < new < len(page.calls) else ""),
        escape_markdown(
            f"You decide on the {len(page.calls):,} calls of this page as they stand here, and on no others. "
            "If one has changed when the run goes on, none is made and they are shown again."
        ),
        *calls,
    )


def _changed(new: int) -> str:
    calls = "1 of these calls is" if new == 1 else f"{new:,} of these calls are"
    return f"{calls} new or changed since this page was shown. What was decided on it then was not carried out."
