"""`rowtide approve RUN`."""

import getpass
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from cli.say import existing_ledger, out
from rowtide.errors import UserMistake, nearest
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import ledger_calls
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.ledger_calls import Pending
from rowtide.words import shown

Flag = Annotated[bool, Parameter(negative="")]
SHOWN = 200


def approve(
    run: str,
    *keys: str,
    tool: str | None = None,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    deny: Flag = False,
    why: str | None = None,
    json: Flag = False,
) -> int:
    """Allow or deny the tool calls that wait for a person; without KEY, --tool or --all, list them.

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
    deny
        Deny them instead of allowing them.
    why
        Your reason; the model reads that of a denial.
    json
        Print the calls that wait as a JSON list on stdout.
    """
    with existing_ledger() as ledger:
        with ledger.view() as tx:
            found = ledgers.find_run(tx, run)
            waiting = ledger_calls.pending(tx, found)
        if not (keys or tool or every):
            _list(waiting, as_json=json)
        else:
            _decide(ledger, found, _chosen(waiting, keys, tool), "denied" if deny else "allowed", why)
    return 0


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


def _list(waiting: list[Pending], *, as_json: bool) -> None:
    calls: list[dict[str, Any]] = [
        {
            "row_key": each.row_key,
            "tool": each.tool,
            "arguments": orjson.loads(each.arguments),
            "why": each.why,
        }
        for each in waiting
    ]
    if as_json:
        sys.stdout.write(orjson.dumps(calls).decode() + "\n")
        return
    if not calls:
        out.print("no call waits for a person")
        return
    table = Table("row", "call", "", box=None, pad_edge=False)
    for each in calls[:SHOWN]:
        arguments = ", ".join(f"{name}={value!r}" for name, value in each["arguments"].items())
        table.add_row(Text(shown(each["row_key"])), Text(f"{each['tool']}({arguments})"), Text(each["why"] or ""))
    out.print(table)
    if len(calls) > SHOWN:
        out.print(f"and {len(calls) - SHOWN:,} more: --json prints all")
