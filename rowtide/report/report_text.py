"""The text of a report: the status of a run, its headline and cost, and what waits for a person."""

from collections.abc import Mapping
from typing import Any

from rowtide.report.override_text import override_lines
from rowtide.report.stop_text import stop_text
from rowtide.report.summary_text import decision_commands, poor_tiers, quarantined_before_lines
from rowtide.text_format import format_usd, shorten_text

TOOLS_NAMED = 5
MUCH = 0.2  # of the money, in rows that came to nothing

RunMetrics = Mapping[str, Any]


def run_status(found: RunMetrics, seen: RunMetrics) -> str:
    """Return one word for the run: done, held, stopped, going on, or idle when no process works on it and it is not
    done.
    """
    if found["stopped"]:
        return "stopped"
    if not seen["finished_at"]:
        return "going on" if seen["is_at_work"] else "idle"
    return "held" if found["held"] or found["gate_approvals"] else "done"


STOPS = {
    "budget": "stopped at its budget",
    "day_budget": "stopped at the job's budget for today",
    "refused": "the API refuses the account",
    "same_error": "all rows meet the same error",
    "job_code": "the job's own code fails",
    "stuck": "stopped, since nothing moves",
    "canceled": "canceled",
}


def run_list_name(found: RunMetrics) -> str:
    """Return the name of a run in a list: why it stopped, if it did, and how its rows ended."""
    return f"{STOPS[found['stopped']]}: {headline(found)}" if found["stopped"] else headline(found)


def headline(found: RunMetrics) -> str:
    """Return how the rows ended, in a sentence."""
    rows, loaded = found["rows"], found["loaded"]
    if not rows:
        return "There are no rows."
    if found["unchanged"] == rows:
        if before := found["quarantined_before"]:
            rest = f", and the other {rows - before:,} are as it settled them" if before < rows else ""
            return f"Nothing was asked: {before:,} of {rows:,} rows are in quarantine since an earlier run{rest}."
        return f"Nothing to do: all {rows:,} rows are as an earlier run settled them."
    parts = [f"{loaded:,} of {rows:,} rows are loaded"]
    parts += [
        f"{found[name]:,} {words}"
        for name, words in {
            "quarantined": "quarantined",
            "held": "held for a person",
            "waiting": "not settled yet",
            "unchanged": "unchanged",
        }.items()
        if found[name]
    ]
    return ", ".join(parts) + "."


def cost_line(found: RunMetrics) -> str:
    """Return the cost, and its share of the cost of the same work done otherwise."""
    cost, baseline = found["cost_usd"], found["baseline_cost_usd"]
    if not found["turns"]:
        return "Nothing was paid for."
    less = ""
    if baseline:
        share = f", {1 - cost / baseline:.0%} less than" if cost < baseline else ", against"
        less = f"{share} live on the top tier alone ({format_usd(baseline)})"
    budget = f" of a budget of {format_usd(found['budget_usd'])}" if found["budget_usd"] is not None else ""
    return f"It cost {format_usd(cost)}{budget}{less}."


def requests_for_a_person(found: RunMetrics, seen: RunMetrics) -> list[dict[str, str]]:
    """Return what waits for a person, most pressing first: `what`, `why`, and the `command` that deals with it."""
    run_id = found["run_id"]
    asked = [
        {
            "what": f"Batch {each['batch']} of {each['rows']:,} rows: nobody can say what became of it",
            "why": f"{each['why']}; {format_usd(each['at_stake_usd'])} at stake",
            "command": f"rowtide reconcile {run_id} {each['batch']} --help",
        }
        for each in found["unsettled"]
        if each["needs_a_person"]
    ]
    asked += [
        {
            "what": f"The {gate} gate holds the run: {'; '.join(failures)}",
            "why": found["approval_text"],
            "command": decision_commands(run_id),
        }
        for gate, failures in found["gate_approvals"].items()
    ]
    if found["approvals"]:
        calls = ", ".join(f"{count:,} × {tool}" for tool, count in found["approvals"].items())
        why = f"{found['held']:,} rows are held until somebody allows or denies them"
        asked.append({"what": f"Calls await approval: {calls}", "why": why, "command": f"rowtide approve {run_id}"})
    elif found["held"] and not asked:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in seen["held"].items())
        asked.append({"what": f"{found['held']:,} rows are held", "why": reasons, "command": ""})
    if found["stopped"]:
        words, _, command = stop_text(found).partition("`")
        command = command.partition("`")[0]
        asked.append({"what": "The run stopped", "why": words.rstrip("; "), "command": command})
    elif run_status(found, seen) == "idle":
        why = "no process is at work on it; one that waits its turn, or a schedule, may yet go on"
        asked.append({"what": "The run is not done", "why": why, "command": f"rowtide resume {run_id}"})
    return asked


def report_warnings(found: RunMetrics, seen: RunMetrics) -> list[str]:
    """Return warnings that somebody should know, but that need no action now."""
    lines = [
        *(each.removeprefix("override ") for each in override_lines(found)),
        *found["skips"],
        *found["cache"]["warnings"],
    ]
    for each in found["outages"]:
        instead = f": {each['instead']} stands in for it" if each["instead"] else ""
        lines.append(f"{each['model']} is out since {each['since'][:19]} ({each['why']}){instead}")
    quarantined, total = seen["spent"].get("quarantined", 0), sum(seen["spent"].values())
    if total and quarantined / total > MUCH:
        lines.append(f"{quarantined / total:.0%} of the money went into rows that were quarantined")
    failing = [(tool, each) for tool, each in found["tools"].items() if each["failed"] > 0.1 * each["calls"]]
    lines += [
        f"{each['failed']:,} of {each['calls']:,} calls of {shorten_text(tool, 60)} failed, such as: {each['example']}"
        for tool, each in failing[:TOOLS_NAMED]
    ]
    lines += [f"rows were sent again {count:,} times: {reason}" for reason, count in found["bounces"].items()]
    looked_for = [each for each in found["unsettled"] if not each["needs_a_person"]]
    lines += [f"batch {each['batch']} is looked for at the API: {each['why']}" for each in looked_for]
    return [*lines, *(each.removeprefix("warning  ") for each in poor_tiers(found)), *quarantined_before_lines(found)]
