"""`rowtide approve RUN` and `rowtide reject RUN`: what a person allows, and what not."""

import getpass
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter

from cli.existing_ledger import existing_ledger
from cli.say import err, out, say_json
from rowtide.errors import Outdated, UserMistake, nearest
from rowtide.gates.approvals import REJECTED, Hold
from rowtide.gates.call_pages import CallPage, call_in_words, pages_of
from rowtide.json_bytes import read_json
from rowtide.ledger import gate_approvals as ledger_gate_approvals
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import tool_calls as ledger_tool_calls
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.tool_calls import Pending
from rowtide.report.summary import decisions

Every = Annotated[bool, Parameter(name="--all", negative="")]
Flag = Annotated[bool, Parameter(negative="")]


def approve(
    run: str,
    *keys: str,
    tool: str | None = None,
    every: Every = False,
    gates: Flag = False,
    deny: Flag = False,
    why: str | None = None,
    json: Flag = False,
) -> int:
    """Let a run past the gates that hold it, or allow or deny the tool calls that wait; with neither, list what waits.

    Parameters
    ----------
    run
        The run's id, as `rowtide runs` lists it.
    keys
        The rows whose calls are meant.
    tool
        Only calls of this tool (server.tool).
    every
        All calls that wait and were shown: by this command without these options, by a form, or now.
    gates
        The gates that hold the run: it goes on as it is.
    deny
        Deny the calls instead of allowing them.
    why
        Your reason, kept in the ledger; the model reads that of a denial.
    json
        Print the calls that wait as a JSON list on stdout.
    """
    with existing_ledger(run) as ledger:
        found, waiting, holds = _waiting(ledger, run)
        if gates:
            _approve(ledger, found, _held(holds), why)
        elif keys or tool or every:
            _decide(ledger, found, waiting, _chosen(waiting, keys, tool), "denied" if deny else "allowed", why)
        else:
            _list(ledger, found, waiting, holds, as_json=json)
    return 0


def reject(run: str, *, why: str | None = None) -> int:
    """Reject a run that a gate holds: the rows that wait are quarantined, nothing is lost, and the sink stays as it is.

    Parameters
    ----------
    run
        The run's id, as `rowtide runs` lists it.
    why
        Your reason, kept in the ledger beside each row.
    """
    with existing_ledger(run) as ledger:
        found, _, holds = _waiting(ledger, run)
        _as_shown(ledger, found, _held(holds))
        with ledger.page() as tx:
            rows = ledger_gate_approvals.reject(tx, found, holds, who=getpass.getuser(), why=why, now=datetime.now(UTC))
    out.print(
        f"rejected: {rows:,} rows quarantined; rowtide resume {run} closes its accounts, "
        f"rowtide quarantine retry {run} --reason {REJECTED} sends them again",
        markup=False,
    )
    return 0


def _waiting(ledger: Ledger, run_id: str) -> tuple[Run, list[Pending], list[Hold]]:
    with ledger.view() as tx:
        found = ledgers.find_run(tx, run_id)
        return found, ledger_tool_calls.pending(tx, found), ledger_gate_approvals.asked(tx, found)


def _approve(ledger: Ledger, run: Run, holds: list[Hold], why: str | None) -> None:
    _as_shown(ledger, run, holds)
    with ledger.page() as tx:
        ledger_gate_approvals.approve(tx, run, holds, who=getpass.getuser(), why=why, now=datetime.now(UTC))
    out.print(f"approved; the run goes on: rowtide resume {run.run_id}")


def _held(holds: list[Hold]) -> list[Hold]:
    if not holds:
        raise UserMistake("no gate holds this run")
    return holds


def _as_shown(ledger: Ledger, run: Run, holds: list[Hold]) -> None:
    """Show what is decided about where nobody was shown it. Raises Outdated where something else was shown."""
    if any(hold.shown_hash not in (None, hold.hash) for hold in holds):
        raise Outdated(f"{ledger_gate_approvals.OUTDATED}: rowtide approve {run.run_id}")
    if any(hold.shown_hash is None for hold in holds):
        _list_holds(ledger, run, holds)


def _decide(
    ledger: Ledger, run: Run, waiting: list[Pending], chosen: list[Pending], after: str, why: str | None
) -> None:
    """Decide about the chosen calls that a person was shown; where none ever was, show them now."""
    is_first_look = all(each.approval.shown_hash is None for each in waiting)
    shown = _agreed(ledger, chosen, after) if is_first_look else [each for each in chosen if each.was_shown]
    new = 0 if is_first_look else len(chosen) - len(shown)
    left = f"{new:,} calls came or changed after the others were shown; see them: rowtide approve {run.run_id}"
    if new and not shown:
        raise Outdated(left)
    with ledger.page() as tx:
        about: dict[str, Any] = {"who": getpass.getuser(), "why": why, "now": datetime.now(UTC)}
        rows = ledger_tool_calls.decide(tx, run, shown, after, **about)
    out.print(f"{after} {len(shown):,} calls; {rows:,} rows go on: rowtide resume {run.run_id}")
    if new:
        err.print(left)


def _agreed(ledger: Ledger, calls: list[Pending], after: str) -> list[Pending]:
    """Show calls page by page; on a terminal each page is asked about. Returns those that were agreed to."""
    agreed: list[Pending] = []
    for page in pages_of(calls):
        _show_page(ledger, page)
        if not sys.stdin.isatty() or input(f"These {len(page.calls):,} calls are {after}? [y/N] ").lower() == "y":
            agreed += page.calls
    return agreed


def _chosen(waiting: list[Pending], keys: tuple[str, ...], tool: str | None) -> list[Pending]:
    known = {each.row_key for each in waiting}
    for key in keys:
        if key not in known:
            raise UserMistake(f"no call of row {key!r} waits for a person", meant=nearest(key, known))
    chosen = [each for each in waiting if (not keys or each.row_key in keys) and tool in (None, each.tool)]
    if not chosen:
        tools = sorted({each.tool for each in waiting})
        raise UserMistake(f"no such call waits; tools that do: {', '.join(tools) or 'none'}")
    return chosen


def _list(ledger: Ledger, run: Run, waiting: list[Pending], holds: list[Hold], *, as_json: bool) -> None:
    if not waiting and not holds and not as_json:
        out.print("nothing waits for a person")
    if holds and not as_json:
        _list_holds(ledger, run, holds)
    for page in pages_of(waiting) if not as_json else []:
        _show_page(ledger, page)
    if as_json:
        say_json([_as_json(each) for each in waiting])
        with ledger.page() as tx:
            ledger_tool_calls.show(tx, waiting)


def _list_holds(ledger: Ledger, run: Run, holds: list[Hold]) -> None:
    for hold in holds:
        out.lines([f"the {hold.gate} gate holds the run: {each.in_words}" for each in hold.failures])
    with ledger.page() as tx:
        out.print(ledger_gate_approvals.what_follows(tx, run, holds))
        ledger_gate_approvals.show(tx, holds)
    out.print(decisions(run.run_id))


def _show_page(ledger: Ledger, page: CallPage[Pending]) -> None:
    """Every call of a page, whole; the ledger keeps that it was shown."""
    out.print(f"page {page.number} of {page.pages}: {len(page.calls):,} of {page.waiting:,} calls that wait")
    for each in page.calls:
        out.print(f"  {each.hash[:12]}  {each.row_key}: {call_in_words(each)}")
        if each.why:
            out.print(f"                {each.why}")
    with ledger.page() as tx:
        ledger_tool_calls.show(tx, page.calls)


def _as_json(each: Pending) -> dict[str, Any]:
    call = {"row_key": each.row_key, "tool": each.tool, "arguments": read_json(each.arguments)}
    return {**call, "why": each.why, "hash": each.hash}
