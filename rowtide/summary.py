"""A run's summary, in words: for a terminal, for a page."""

from collections.abc import Mapping
from typing import Any


def as_text(found: Mapping[str, Any], *, results: str, ledger: str) -> str:
    """The last lines a person reads."""
    return "\n".join([*funnel(found), *money(found), f"results  {results}", f"ledger   {ledger}"])


def funnel(found: Mapping[str, Any]) -> list[str]:
    """Where the rows went, and the work it took."""
    ended = ("loaded", "quarantined", "unchanged", "held")
    counts = " + ".join(f"{found[name]:,} {name}" for name in ended if found[name] or name in ("loaded", "quarantined"))
    lines = [
        f"rows     {found['rows']:,} = {counts}",
        f"work     {found['batches']:,} batches · {found['turns']:,} turns · {found['tool_calls']:,} tool calls"
        f" · {found['seconds']:,.1f} s",
    ]
    if before := found["set_aside_before"]:
        lines.append(f"set aside  {before:,} of the unchanged wait in an earlier run's quarantine")
    if found["reasons"]:
        lines.append("set aside  " + ", ".join(f"{count:,} {reason}" for reason, count in found["reasons"].items()))
    return lines


def money(found: Mapping[str, Any]) -> list[str]:
    """What it cost, against the same conversations live on the ladder's top rung."""
    if not found["turns"]:
        return ["cost     $0: nothing was sent"]
    cost, baseline = found["cost_usd"], found["baseline_cost_usd"]
    saving = f", {1 - cost / baseline:.0%} less" if baseline else ""
    by_tier = ", ".join(f"{name} ${each['cost_usd']:.4f}" for name, each in found["tiers"].items())
    return [f"cost     ${cost:.4f} ({by_tier}) against ${baseline:.4f} live on the top tier alone{saving}"]


def as_markdown(found: Mapping[str, Any]) -> str:
    """The run's page in Prefect's UI."""
    head = ("rows", "loaded", "quarantined", "unchanged", "held", "batches", "turns", "tool_calls")
    lines = [
        f"# {found['job']} · `{found['run_id']}`",
        "| " + " | ".join(name.replace("_", " ") for name in head) + " |",
        "|" + "---:|" * len(head),
        "| " + " | ".join(f"{found[name]:,}" for name in head) + " |",
        "",
        *money(found),
    ]
    if found["reasons"]:
        lines += ["", "| set aside because | rows |", "|---|---:|"]
        lines += [f"| {reason} | {count:,} |" for reason, count in found["reasons"].items()]
    return "\n".join(lines)
