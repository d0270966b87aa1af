"""Text of what a person approves: the gates or calls that wait, and what follows from each decision."""

from collections.abc import Sequence

from rowtide.escaping import Markdown, escape_markdown, markdown_bold, markdown_labelled, markdown_page
from rowtide.gates.approvals import GateApproval, WaitingRows
from rowtide.gates.call_approvals import CallPage, call_text

CHANGED = "The figures have changed since they were shown. What was decided on them then was not carried out."


def gate_approval_text(run_id: str, gate_approvals: Sequence[GateApproval], at_gates: WaitingRows) -> Markdown:
    """Return the gate failures that hold a run, and what approval and rejection would do."""
    follows = approval_consequences(gate_approvals, at_gates)
    failures = [
        markdown_labelled(gate=gate_approval.gate, judged=f"{gate_approval.rows:,} rows", failed=each.text)
        for gate_approval in gate_approvals
        for each in gate_approval.failures
    ]
    return markdown_page(
        markdown_bold(f"Run {run_id} is held by a gate."),
        escape_markdown(CHANGED if any(each.shown_hash not in (None, each.hash) for each in gate_approvals) else ""),
        escape_markdown(
            f"{follows.capitalize()}. You decide on the figures below; if they change, you are asked again."
        ),
        *failures,
    )


def approval_consequences(gate_approvals: Sequence[GateApproval], at_gates: WaitingRows) -> str:
    """Return a sentence on what approval and what rejection of these gates would do."""
    waiting, replaces = at_gates
    if any(each.gate == "rows" for each in gate_approvals):
        return f"approved, {waiting:,} rows are asked; rejected, they are quarantined and nothing is paid"
    if not waiting:
        return "nothing waits to be loaded: every row was quarantined"
    return (
        f"approved, {waiting:,} rows are written ({waiting - replaces:,} new, {replaces:,} in the place of earlier "
        "ones); rejected, they are quarantined and the sink stays as it is"
    )


def call_approval_text(run_id: str, page: CallPage) -> Markdown:
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
