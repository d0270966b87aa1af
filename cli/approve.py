"""`rowtide approve RUN` and `rowtide reject RUN`: what a person allows, and what not."""

import getpass
from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter

from cli.homes import existing_ledger
from cli.say import grid, out, say_json
from rowtide.compact import read_json
from rowtide.errors import UserMistake, nearest
from rowtide.gates.holds import REJECTED, Hold
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import ledger_calls, ledger_holds
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.ledger_calls import Pending

Every = Annotated[bool, Parameter(name="--all", negative="")]
Flag = Annotated[bool, Parameter(negative="")]
SHOWN = 200


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
        All calls that wait.
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
            _decide(ledger, found, _chosen(waiting, keys, tool), "denied" if deny else "allowed", why)
        else:
            _list(ledger, found, waiting, holds, as_json=json)
    return 0


def reject(run: str, *, why: str | None = None) -> int:
    """Reject a run that a gate holds: the rows that wait are set aside, nothing is lost, and the sink stays as it is.

    Parameters
    ----------
    run
        The run's id, as `rowtide runs` lists it.
    why
        Your reason, kept in the ledger beside each row.
    """
    with existing_ledger(run) as ledger:
        found, _, holds = _waiting(ledger, run)
        with ledger.page() as tx:
            rows = ledger_holds.reject(tx, found, _held(holds), who=getpass.getuser(), why=why, now=datetime.now(UTC))
    out.print(
        f"rejected: {rows:,} rows set aside; rowtide resume {run} closes its accounts, "
        f"rowtide quarantine retry {run} --reason {REJECTED} sends them again",
        markup=False,
    )
    return 0


def _waiting(ledger: Ledger, run_id: str) -> tuple[Run, list[Pending], list[Hold]]:
    with ledger.view() as tx:
        found = ledgers.find_run(tx, run_id)
        return found, ledger_calls.pending(tx, found), ledger_holds.asked(tx, found)


def _approve(ledger: Ledger, run: Run, holds: list[Hold], why: str | None) -> None:
    with ledger.page() as tx:
        ledger_holds.approve(tx, run, holds, who=getpass.getuser(), why=why, now=datetime.now(UTC))
    out.print(f"approved; the run goes on: rowtide resume {run.run_id}", markup=False)


def _held(holds: list[Hold]) -> list[Hold]:
    if not holds:
        raise UserMistake("no gate holds this run")
    return holds


def _decide(ledger: Ledger, run: Run, chosen: list[Pending], decision: str, why: str | None) -> None:
    places, who, now = [each.approval.place for each in chosen], getpass.getuser(), datetime.now(UTC)
    with ledger.page() as tx:
        rows = ledger_calls.decide(tx, run, places, decision, who=who, why=why, now=now)
    out.print(f"{decision} {len(chosen)} calls; {rows} rows go on: rowtide resume {run.run_id}", markup=False)


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
    calls: list[dict[str, Any]] = [
        {
            "row_key": each.row_key,
            "tool": each.tool,
            "arguments": read_json(each.arguments),
            "why": each.why,
        }
        for each in waiting
    ]
    if as_json:
        say_json(calls)
        return
    if not calls and not holds:
        out.print("nothing waits for a person")
    if holds:
        _list_holds(ledger, run, holds)
    if calls:
        _list_calls(calls)


def _list_holds(ledger: Ledger, run: Run, holds: list[Hold]) -> None:
    for hold in holds:
        for each in hold.failures:
            out.print(f"the {hold.gate} gate holds the run: {each.in_words}", markup=False)
    with ledger.view() as tx:
        out.print(ledger_holds.what_follows(tx, run, holds), markup=False)
    out.print(f"rowtide approve {run.run_id} --gates, or rowtide reject {run.run_id}", markup=False)


def _list_calls(calls: list[dict[str, Any]]) -> None:
    table = grid("row", "call", "")
    for each in calls[:SHOWN]:
        arguments = ", ".join(f"{name}={value!r}" for name, value in each["arguments"].items())
        table.add_row(each["row_key"], f"{each['tool']}({arguments})", each["why"] or "")
    out.print(table)
    if len(calls) > SHOWN:
        out.print(f"and {len(calls) - SHOWN:,} more: --json prints all")
