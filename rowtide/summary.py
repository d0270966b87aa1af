"""A run's summary, in words: for a terminal, for a page."""

from collections.abc import Mapping
from typing import Any


def as_text(found: Mapping[str, Any], *, results: str, ledger: str) -> str:
    """The last lines a person reads."""
    lines = [*funnel(found), *money(found), *cache(found), *leave(found), *doubts(found)]
    return "\n".join([*lines, f"results  {results}", f"ledger   {ledger}"])


def funnel(found: Mapping[str, Any]) -> list[str]:
    """Where the rows went, and the work it took."""
    ended = ("loaded", "quarantined", "unchanged", "held", "waiting")
    counts = " + ".join(f"{found[name]:,} {name}" for name in ended if found[name] or name in ("loaded", "quarantined"))
    lines = [
        f"rows     {found['rows']:,} = {counts}",
        f"work     {found['batches']:,} batches · {found['turns']:,} turns · {found['tool_calls']:,} tool calls"
        f"{_remembered(found)} · {found['seconds']:,.1f} s",
    ]
    if before := found["set_aside_before"]:
        lines.append(f"set aside  {before:,} of the unchanged wait in an earlier run's quarantine")
    if found["reasons"]:
        lines.append("set aside  " + ", ".join(f"{count:,} {reason}" for reason, count in found["reasons"].items()))
    lines += [
        f"tools    {each['failed']:,} of {each['calls']:,} calls of {tool} failed, such as: {each['example'][:120]}"
        for tool, each in found["tools"].items()
        if each["failed"]
    ]
    if found["bounces"]:
        lines.append("sent again " + ", ".join(f"{count:,} {reason}" for reason, count in found["bounces"].items()))
    return lines


def _remembered(found: Mapping[str, Any]) -> str:
    """What share of the tool calls an earlier one had already answered."""
    if not found["tools_remembered"]:
        return ""
    return f" ({found['tools_remembered'] / found['tool_calls']:.0%} of them remembered)"


def leave(found: Mapping[str, Any]) -> list[str]:
    """The calls that wait for a person, and who says so."""
    if not found["approvals"]:
        return []
    calls = ", ".join(f"{count:,} × {tool}" for tool, count in found["approvals"].items())
    return [f"held     {calls} wait for your leave: rowtide approve {found['run_id']}"]


def doubts(found: Mapping[str, Any]) -> list[str]:
    """The batches that a person must settle, and how."""
    return [
        f"unsettled  batch {each['batch']} of {each['rows']:,} rows: {each['why']}; "
        f"${each['at_stake_usd']:.4f} at stake: rowtide settle {found['run_id']} {each['batch']} --help"
        for each in found["unsettled"]
        if each["needs_a_person"]
    ]


def stop_words(found: Mapping[str, Any]) -> str:
    """Why a run ended with rows still to send, and how to go on."""
    rest = f"{found['waiting']:,} rows wait; what was verified is loaded"
    if found["stopped"] == "budget":
        budget, next_row = found["budget_usd"], found["next_row_usd"]
        more = max(2 * budget, round(budget + 2 * next_row, 2))
        return (
            f"stopped at the budget: ${found['cost_usd']:.4f} of ${budget:.4f} is spent and the next row could cost "
            f"${next_row:.4f}; {rest}; `rowtide resume {found['run_id']} --budget {more:g}` goes on"
        )
    return f"stopped: {found['stopped']}; {rest}; `rowtide resume {found['run_id']}` goes on"


def money(found: Mapping[str, Any]) -> list[str]:
    """What it cost, against the same conversations live on the ladder's top rung."""
    if not found["turns"]:
        stake = found["at_stake_usd"]
        return [f"cost     $0, and up to ${stake:.4f} at stake" if stake else "cost     $0: nothing was paid for"]
    cost, baseline = found["cost_usd"], found["baseline_cost_usd"]
    saving = f", {1 - cost / baseline:.0%} less" if baseline else ""
    by_tier = ", ".join(f"{name} ${each['cost_usd']:.4f}" for name, each in found["tiers"].items())
    return [f"cost     ${cost:.4f} ({by_tier}) against ${baseline:.4f} live on the top tier alone{saving}"]


def cache(found: Mapping[str, Any]) -> list[str]:
    """How much of what was read came from the cache, and what is likely wrong when it is little."""
    if not found["turns"]:
        return []
    rate = f"cache    {found['cache']['hit_rate']:.0%} of what was read came from the cache"
    return [rate, *(f"warning  {each}" for each in found["cache"]["warnings"])]


def as_markdown(found: Mapping[str, Any]) -> str:
    """The run's page in Prefect's UI."""
    head = ("rows", "loaded", "quarantined", "unchanged", "held", "waiting", "batches", "turns", "tool_calls")
    lines = [
        f"# {found['job']} · `{found['run_id']}`",
        "| " + " | ".join(name.replace("_", " ") for name in head) + " |",
        "|" + "---:|" * len(head),
        "| " + " | ".join(f"{found[name]:,}" for name in head) + " |",
        "",
        *money(found),
        "",
        *cache(found),
    ]
    if asks := [*leave(found), *doubts(found)]:
        lines += ["", *asks]
    if found["stopped"]:
        lines += ["", stop_words(found)]
    if found["reasons"]:
        lines += ["", "| set aside because | rows |", "|---|---:|"]
        lines += [f"| {reason} | {count:,} |" for reason, count in found["reasons"].items()]
    return "\n".join(lines)
