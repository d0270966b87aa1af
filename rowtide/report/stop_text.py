"""Text about why a run ended with rows still to send, and how to go on with it."""

from collections.abc import Mapping
from typing import Any

from rowtide.agent.states import RunStop
from rowtide.errors import RunStopped, StoppedByWorld


def enough_budget(budget: float, next_row: float) -> float:
    """Return a budget in US dollars with which a run that stopped at `budget` can go on for a while."""
    return max(2 * budget, round(budget + 2 * next_row, 2))


def stop_text(found: Mapping[str, Any]) -> str:
    """Return why a run ended with rows still to send, and how to go on."""
    rest = f"{found['waiting']:,} rows wait; what was verified is loaded"
    if found["stopped"] == "budget":
        budget, next_row = found["budget_usd"], found["next_row_usd"]
        more = enough_budget(budget, next_row)
        return (
            f"stopped at the budget: ${found['cost_usd']:.4f} of ${budget:.4f} is spent and the next row could cost "
            f"${next_row:.4f}; {rest}; `rowtide resume {found['run_id']} --budget {more:g}` goes on"
        )
    if found["stopped"] == "day_budget":
        return (
            f"stopped at the job's budget for today (limits.day_usd): the next row could cost "
            f"${found['next_row_usd']:.4f}; {rest}; `rowtide resume {found['run_id']}` goes on after midnight, UTC"
        )
    why, resume = found["stopped"], f"`rowtide resume {found['run_id']}`"
    if why == RunStop.REFUSED:
        return (
            f"stopped: the API refuses the account or what all requests share: {found['stop_detail']}; no row is the "
            f"worse for it; {rest}; when the cause is gone, {resume} asks them again"
        )
    if why == RunStop.SAME_ERROR:
        return (
            f"stopped: row after row met the same error and none was answered: {found['stop_detail']}; they wait as if "
            f"never sent; {rest}; {resume} asks them again (limits.same_errors: 0 sets each aside instead)"
        )
    if why == RunStop.JOB_CODE:
        first = f"mend the job, then `rowtide amend {found['run_id']}` and {resume}"
        return f"stopped: {found['stop_detail']}; {rest}; {first}"
    return f"stopped: {found['stop_detail'] or why}; {rest}; {resume} goes on"


def stop_error(found: Mapping[str, Any]) -> RunStopped | StoppedByWorld:
    """Return the exception to raise at the end of a run with rows still to send, so that Prefect shows it as failed."""
    by_world = found["stopped"] in (RunStop.REFUSED, RunStop.SAME_ERROR)
    return (StoppedByWorld if by_world else RunStopped)(stop_text(found))
