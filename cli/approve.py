"""`rowtide approve RUN` and `rowtide reject RUN`: decide about tool calls and gates that await approval."""

import getpass
import sys
from datetime import UTC, datetime
from typing import Any

from cli.open_ledger import open_existing_ledger
from cli.output import err, out, print_json
from cli.shared_arguments import Every, RunId
from rowtide.errors import DecisionOutdated, UserMistake, nearest_name
from rowtide.gates.approvals import REJECTED, GateApproval
from rowtide.gates.call_approvals import CallPage, PendingCall, approval_pages, call_text
from rowtide.json_bytes import parse_json
from rowtide.ledger import gate_approvals as ledger_gate_approvals
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import tool_calls as ledger_tool_calls
from rowtide.ledger.ledger import Ledger, Run
from rowtide.report.approval_text import approval_consequences
from rowtide.report.summary_text import decision_commands


def approve(
    run: RunId,
    *keys: str,
    tool: str | None = None,
    every: Every = False,
    gates: bool = False,
    deny: bool = False,
    why: str | None = None,
    json: bool = False,
) -> int:
    """Let a run past the gates that hold it, or allow or deny the tool calls that wait; with neither, list what waits.

    Parameters
    ----------
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
    with open_existing_ledger(run) as ledger:
        found, waiting, gate_approvals = _waiting(ledger, run)
        if gates:
            _approve(ledger, found, _held_or_mistake(gate_approvals), why)
        elif keys or tool or every:
            _decide(ledger, found, waiting, _chosen(waiting, keys, tool), "denied" if deny else "allowed", why)
        else:
            _list(ledger, found, waiting, gate_approvals, as_json=json)
    return 0


def reject(run: RunId, *, why: str | None = None) -> int:
    """Reject a run that a gate holds: the rows that wait are quarantined, nothing is lost, and the sink stays as it is.

    Parameters
    ----------
    why
        Your reason, kept in the ledger beside each row.
    """
    with open_existing_ledger(run) as ledger:
        found, _, gate_approvals = _waiting(ledger, run)
        _as_shown(ledger, found, _held_or_mistake(gate_approvals))
        with ledger.page() as tx:
            rows = ledger_gate_approvals.reject_gates(
                tx, found, gate_approvals, who=getpass.getuser(), why=why, now=datetime.now(UTC)
            )
    out.print(
        f"rejected: {rows:,} rows quarantined; rowtide resume {run} closes its accounts, "
        f"rowtide quarantine retry {run} --reason {REJECTED} sends them again",
        markup=False,
    )
    return 0


def _waiting(ledger: Ledger, run_id: str) -> tuple[Run, list[PendingCall], list[GateApproval]]:
    with ledger.view() as tx:
        found = ledgers.find_run(tx, run_id)
        return (
            found,
            ledger_tool_calls.pending_calls(tx, found),
            ledger_gate_approvals.pending_gate_approvals(tx, found),
        )


def _approve(ledger: Ledger, run: Run, gate_approvals: list[GateApproval], why: str | None) -> None:
    _as_shown(ledger, run, gate_approvals)
    with ledger.page() as tx:
        ledger_gate_approvals.approve_gates(
            tx, run, gate_approvals, who=getpass.getuser(), why=why, now=datetime.now(UTC)
        )
    out.print(f"approved; the run goes on: rowtide resume {run.run_id}")


def _held_or_mistake(gate_approvals: list[GateApproval]) -> list[GateApproval]:
    if not gate_approvals:
        raise UserMistake("no gate holds this run")
    return gate_approvals


def _as_shown(ledger: Ledger, run: Run, gate_approvals: list[GateApproval]) -> None:
    """Show what is decided about where nobody was shown it. Raises DecisionOutdated where something else was shown."""
    if any(each.shown_hash not in (None, each.hash) for each in gate_approvals):
        raise DecisionOutdated(f"{ledger_gate_approvals.OUTDATED}: rowtide approve {run.run_id}")
    if any(each.shown_hash is None for each in gate_approvals):
        _list_gates(ledger, run, gate_approvals)


def _decide(
    ledger: Ledger, run: Run, waiting: list[PendingCall], chosen: list[PendingCall], after: str, why: str | None
) -> None:
    """Decide about the chosen calls that a person was shown; where none ever was, show them now."""
    is_first_look = all(each.approval.shown_hash is None for each in waiting)
    shown = _agreed(ledger, chosen, after) if is_first_look else [each for each in chosen if each.was_shown]
    new = 0 if is_first_look else len(chosen) - len(shown)
    left = f"{new:,} calls came or changed after the others were shown; see them: rowtide approve {run.run_id}"
    if new and not shown:
        raise DecisionOutdated(left)
    with ledger.page() as tx:
        about: dict[str, Any] = {"who": getpass.getuser(), "why": why, "now": datetime.now(UTC)}
        rows = ledger_tool_calls.decide_calls(tx, run, shown, after, **about)
    out.print(f"{after} {len(shown):,} calls; {rows:,} rows go on: rowtide resume {run.run_id}")
    if new:
        err.print(left)


def _agreed(ledger: Ledger, calls: list[PendingCall], after: str) -> list[PendingCall]:
    """Show calls page by page; on a terminal each page is asked about. Returns those that were agreed to."""
    agreed: list[PendingCall] = []
    for page in approval_pages(calls):
        _show_page(ledger, page)
        if not sys.stdin.isatty() or input(f"These {len(page.calls):,} calls are {after}? [y/N] ").lower() == "y":
            agreed += page.calls
    return agreed


def _chosen(waiting: list[PendingCall], keys: tuple[str, ...], tool: str | None) -> list[PendingCall]:
    known = {each.row_key for each in waiting}
    for key in keys:
        if key not in known:
            raise UserMistake(f"no call of row {key!r} waits for a person", meant=nearest_name(key, known))
    chosen = [each for each in waiting if (not keys or each.row_key in keys) and tool in (None, each.tool)]
    if not chosen:
        tools = sorted({each.tool for each in waiting})
        raise UserMistake(f"no such call waits; tools that do: {', '.join(tools) or 'none'}")
    return chosen


def _list(
    ledger: Ledger, run: Run, waiting: list[PendingCall], gate_approvals: list[GateApproval], *, as_json: bool
) -> None:
    if not waiting and not gate_approvals and not as_json:
        out.print("nothing waits for a person")
    if gate_approvals and not as_json:
        _list_gates(ledger, run, gate_approvals)
    for page in approval_pages(waiting) if not as_json else []:
        _show_page(ledger, page)
    if as_json:
        print_json([_as_json(each) for each in waiting])
        with ledger.page() as tx:
            ledger_tool_calls.mark_calls_shown(tx, waiting)


def _list_gates(ledger: Ledger, run: Run, gate_approvals: list[GateApproval]) -> None:
    for gate_approval in gate_approvals:
        out.lines([f"the {gate_approval.gate} gate holds the run: {each.text}" for each in gate_approval.failures])
    with ledger.page() as tx:
        at_gates = ledger_gate_approvals.rows_awaiting_gates(tx, run, gate_approvals)
        ledger_gate_approvals.mark_gates_shown(tx, gate_approvals)
    out.print(approval_consequences(gate_approvals, at_gates))
    out.print(decision_commands(run.run_id))


def _show_page(ledger: Ledger, page: CallPage) -> None:
    """Every call of a page, whole; the ledger keeps that it was shown."""
    out.print(f"page {page.number} of {page.pages}: {len(page.calls):,} of {page.waiting:,} calls that wait")
    for each in page.calls:
        out.print(f"  {each.hash[:12]}  {each.row_key}: {call_text(each)}")
        if each.why:
            out.print(f"                {each.why}")
    with ledger.page() as tx:
        ledger_tool_calls.mark_calls_shown(tx, page.calls)


def _as_json(each: PendingCall) -> dict[str, Any]:
    call = {"row_key": each.row_key, "tool": each.tool, "arguments": parse_json(each.arguments)}
    return {**call, "why": each.why, "hash": each.hash}
