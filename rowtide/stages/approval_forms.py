"""What a form of Prefect's shows of what waits for a person: all that a decision on it is about, and what follows."""

from collections.abc import Sequence

from rowtide.escaping import Markdown, bold, labelled, markdown, markdown_page
from rowtide.gates.approvals import Hold
from rowtide.gates.call_pages import CallPage, call_in_words
from rowtide.ledger.tool_calls import Pending

CHANGED = "The figures have changed since they were shown. What was decided about them then was not carried out."


def about_holds(run_id: str, holds: Sequence[Hold], follows: str) -> Markdown:
    """The failures that hold a run, with their figures, and what approval and rejection would do."""
    failures = [
        labelled(gate=hold.gate, judged=f"{hold.rows:,} rows", failed=each.in_words)
        for hold in holds
        for each in hold.failures
    ]
    return markdown_page(
        bold(f"Run {run_id} is held by a gate."),
        markdown(CHANGED if any(hold.shown_hash not in (None, hold.hash) for hold in holds) else ""),
        markdown(f"{follows.capitalize()}. You decide about the figures below; if they change, you are asked again."),
        *failures,
    )


def about_calls(run_id: str, page: CallPage[Pending]) -> Markdown:
    """A page of calls, whole, each with what it is decided by; and whether they are others than those shown before."""
    calls = [
        labelled(row=each.row_key, call=call_in_words(each), because=each.why, hash=each.hash[:12])
        for each in page.calls
    ]
    new = sum(not each.was_shown for each in page.calls)
    return markdown_page(
        bold(f"{page.waiting:,} calls of run {run_id} wait for leave. Page {page.number} of {page.pages}."),
        markdown(_changed(new) if 0 < new < len(page.calls) else ""),
        markdown(
            f"You decide about the {len(page.calls):,} calls of this page as they stand here, and about no others. "
            "Where one has changed when the run goes on, nothing is done and they are shown again."
        ),
        *calls,
    )


def _changed(new: int) -> str:
    calls = "1 of these calls is" if new == 1 else f"{new:,} of these calls are"
    return f"{calls} new or changed since this page was shown. What was decided about it then was not carried out."
