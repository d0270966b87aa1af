"""The summary of a run as text, for a terminal and for Markdown."""

from collections.abc import Collection, Mapping
from typing import Any

from rowtide.agent.requests import IN_FULL
from rowtide.escaping import (
    NOTHING,
    Markdown,
    escape_markdown,
    markdown_heading,
    markdown_page,
    markdown_table,
    one_line,
)
from rowtide.lanes.lane_table import LANES
from rowtide.report.answers_text import answer_lines
from rowtide.report.override_text import override_lines
from rowtide.report.quarantine_text import quarantine_lines, quarantined_before_lines
from rowtide.report.stop_text import stop_text
from rowtide.text_format import format_usd, shorten_middle, shorten_text

POOR_YIELD, MUCH, ENOUGH_ROWS = 0.1, 0.2, 10  # of a tier: what is said of it in the closing lines


def summary_as_text(
    found: Mapping[str, Any],
    *,
    results: str,
    report: str,
    ledger: str,
    already_printed: Collection[str] = (),
    is_verbose: bool = False,
) -> str:
    """Return the closing lines of a run, in the order a person asks: what came out, what needs him, what it cost, where
    it is.

    `is_verbose` adds the work, the lane, the tiers, the cache, each gate and the ledger. Warnings in `already_printed`
    are left out.
    """
    came_out = [*row_lines(found), *answer_lines(found), *(() if is_verbose else gates_in_short(found))]
    needs_you = [
        *quarantine_lines(found),
        *tool_lines(found),
        *ladder_problem_lines(found),
        *poor_tiers(found),
        *cache_warnings(found, already_printed),
        *approval_lines(found),
        *unconfirmed_batch_lines(found),
        *on_call_lines(found["owner"], found["runbook"]),
    ]
    money = [*money_lines(found, is_verbose=is_verbose), *live_lines(found)]
    where = [f"results  {results}", f"report   {report}", *([f"ledger   {ledger}"] if is_verbose else ())]
    details = detail_lines(found) if is_verbose else []
    return "\n".join(map(one_line, [*came_out, *needs_you, *money, *details, *where]))


def detail_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the work, the lane, the tiers, the cache and each gate."""
    return [
        f"work     {found['batches']:,} batches · {found['turns']:,} turns · {found['tool_calls']:,} tool calls"
        f"{_remembered(found)} · {found['seconds']:,.1f} s",
        *([f"lane     {found['lane']}: {found['lane_why']}"] if found["lane_why"] else ()),
        *tier_lines(found),
        *cache_lines(found),
        *(f"gate     {gate}: {words}" for gate, words in gate_lines(found).items()),
    ]


def on_call_lines(owner: str | None, runbook: str | None) -> list[str]:
    """Return lines that name whom to call and where the runbook is, if the job names them."""
    known = [owner or "", f"runbook: {runbook}" if runbook else ""]
    return [f"owner    {' · '.join(each for each in known if each)}"] if any(known) else []


def with_min_loaded(found: Mapping[str, Any], min_loaded: float | None) -> dict[str, Any]:
    """Return the summary, with whether too few rows have a verified answer in the sink, from this run or an earlier
    one.

    `min_loaded` is a share of the rows that came in below 1, else a number of rows. Without it one row is enough.
    """
    good = found["loaded"] + found["unchanged"] - found["quarantined_before"]
    needed = 1 if min_loaded is None else min_loaded if min_loaded >= 1 else min_loaded * found["rows"]
    is_over = not (found["stopped"] or found["held"] or found["gate_approvals"])
    too_few = is_over and good < needed and (found["rows"] > 0 or min_loaded is not None)
    return {**found, "min_loaded": min_loaded, "too_few_loaded": too_few}


def too_few_loaded(found: Mapping[str, Any]) -> str:
    """Return how few rows were loaded, and where the others are, in a sentence."""
    least, of = found["min_loaded"], f"{found['loaded']:,} of {found['rows']:,} rows were loaded"
    asked = "" if least is None else f", and at least {f'{least:.0%}' if least < 1 else f'{least:,.0f}'} had to be"
    where = found["run_id"] if found["quarantined"] else next(iter(found["quarantined_in"]), "") or found["run_id"]
    return f"{of}{asked}; `rowtide quarantine list {where}` says why"


def row_lines(found: Mapping[str, Any]) -> list[str]:
    """Return how the rows ended, by version where the job was amended."""
    ended = ("loaded", "quarantined", "unchanged", "held", "waiting")
    counts = " + ".join(f"{found[name]:,} {name}" for name in ended if found[name] or name in ("loaded", "quarantined"))
    lines = [
        f"rows     {found['rows']:,} = {counts}, in {found['seconds']:,.1f} s",
        *version_lines(found),
        *override_lines(found),
    ]
    if found.get("too_few_loaded"):
        lines.append(f"too few  {too_few_loaded(found)}")
    return lines


def tool_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the tools of which calls failed."""
    return [
        f"tools    {each['failed']:,} of {each['calls']:,} calls of {tool} failed, such as: {each['example'][:120]}"
        for tool, each in found["tools"].items()
        if each["failed"]
    ]


def version_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the work done under each version of a job that was amended."""
    return [
        f"version  {each['version']}: {each['rows']:,} rows, {each['turns']:,} turns, ${each['cost_usd']:.4f}"
        + (f"; {shorten_text(', '.join(each['changed']))} changed" if each["changed"] else "")
        for each in found["versions"]
    ]


def live_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the extra cost of live calls, and what may be paid twice."""
    lines: list[str] = []
    if more := found["hurry_usd"]:
        turns = sum(each["turns"] for name, each in found["lanes"].items() if not LANES[name].in_batches)
        lines.append(f"live     {turns:,} turns, for ${more:.4f} more than in batches")
    if found["repeated"]:
        stake = f"up to ${found['at_stake_usd']:.4f} may be paid twice"
        lines.append(f"repeated {found['repeated']:,} live calls were on the wire when a process died: {stake}")
    return lines


def _remembered(found: Mapping[str, Any]) -> str:
    """The share of tool calls answered from an earlier one."""
    if not found["tools_remembered"]:
        return ""
    return f" ({found['tools_remembered'] / found['tool_calls']:.0%} of them remembered)"


def gates_in_short(found: Mapping[str, Any]) -> list[str]:
    """One line for all gates that were met, and one for each that was not."""
    lines = gate_lines(found)
    bad = [gate for gate, each in found["gates"].items() if each["failed"] or each["warned"]]
    good = [gate for gate in lines if gate not in bad]
    met = sum(found["gates"][gate]["met"] for gate in good)
    short = [f"gates    {', '.join(good)}: {met:,} of {met:,} expectations met"] if good else []
    return short + [f"gate     {gate}: {lines[gate]}" for gate in bad]


def gate_lines(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the verdict of each gate, in a line: gate → line."""
    texts: dict[str, str] = {}
    for gate, each in found["gates"].items():
        failed, warned = ([shorten_middle(message) for message in each[name]] for name in ("failed", "warned"))
        words = [f"{each['met']} of {each['met'] + len(failed) + len(warned)} expectations met"]
        words += [f"{each['not_asked']} not asked"] if each["not_asked"] else []
        texts[gate] = "; ".join([*words, *failed, *(f"warning: {message}" for message in warned)])
    return texts


def approval_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the gates and the calls that await approval, and the commands that decide."""
    asked = found["gate_approvals"]
    lines = [f"held     at the {gate} gate: {each}" for gate, failures in asked.items() for each in failures]
    if asked:
        lines.append(f"held     {found['approval_text']}: {decision_commands(found['run_id'])}")
    if found["approvals"]:
        calls = ", ".join(f"{count:,} × {tool}" for tool, count in found["approvals"].items())
        lines.append(f"held     {calls} await your approval: rowtide approve {found['run_id']}")
    return lines


def decision_commands(run_id: str) -> str:
    """Return the commands by which a person decides about a run that a gate holds."""
    return f"rowtide approve {run_id} --gates, or rowtide reject {run_id}"


def unconfirmed_batch_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the batches that a person must reconcile, and the command for it."""
    return [
        f"unsettled  batch {each['batch']} of {each['rows']:,} rows: {each['why']}; "
        f"${each['at_stake_usd']:.4f} at stake: rowtide reconcile {found['run_id']} {each['batch']} --help"
        for each in found["unsettled"]
        if each["needs_a_person"]
    ]


def money_lines(found: Mapping[str, Any], *, is_verbose: bool = True) -> list[str]:
    """Return the cost, against that of alternatives; rowtide/ledger/read/costs.py states what these assume."""
    if not found["turns"]:
        stake = found["at_stake_usd"]
        return [f"cost     $0, and up to ${stake:.4f} at stake" if stake else "cost     $0: nothing was paid for"]
    cost, otherwise = found["cost_usd"], found["baselines_usd"]
    baseline = otherwise["one_model_live"]
    saving = f", {1 - cost / baseline:.0%} less" if baseline and cost < baseline else ""
    lines = [f"cost     ${cost:.4f} against ${baseline:.4f} live on the top tier alone{saving}"]
    others = {"one_model_batch": "in batches on it alone", "ladder_live": "live on this ladder, nothing cached"}
    texts = [f"${otherwise[name]:.4f} {words}" for name, words in others.items() if otherwise[name] is not None]
    return [*lines, f"         ({', '.join(texts)})"] if texts and is_verbose else lines


def tier_lines(found: Mapping[str, Any]) -> list[str]:
    """Return how each tier of the ladder fared, and the cost of an accepted row there."""
    longest = max((len(name) for name in found["tiers"]), default=0)
    return [f"tier     {name:<{longest}}  {_fared(each)}" for name, each in found["tiers"].items()]


def _fared(tier: Mapping[str, Any]) -> str:
    if not tier["in"]:
        return f"{tier['turns']:,} turns · ${tier['cost_usd']:.4f}"
    counts = {"accepted": tier["accepted"], "escalated": tier["escalated"], "quarantined": tier["quarantined"]}
    words = [f"{tier['in']:,} rows", *(f"{count:,} {name}" for name, count in counts.items() if count)]
    if tier["yield"] is not None:
        words.append(f"yield {tier['yield']:.0%}")
    each = f", ${tier['accepted_row_usd']:.6f} a row accepted" if tier["accepted"] else ""
    return " · ".join([*words, f"${tier['cost_usd']:.4f}{each}"])


def ladder_problem_lines(found: Mapping[str, Any]) -> list[str]:
    """Return lines about problems with tiers and models."""
    lines = [f"warning  {each}" for each in found["skips"]]
    for each in found["outages"]:
        instead = f": {each['instead']} stands in for it" if each["instead"] else ""
        lines.append(f"warning  {each['model']} is out since {each['since'][:19]} ({each['why']}){instead}")
    return lines


def poor_tiers(found: Mapping[str, Any]) -> list[str]:
    """Return the tiers that took much of the money and got hardly any row accepted."""
    total = found["cost_usd"]
    return [
        f"warning  {format_usd(each['cost_usd'])} of {format_usd(total)} went to {name}, which settled "
        f"{each['yield']:.0%} of the {each['in']:,} rows that came to it: start rows higher (`start`, "
        "`rowtide fit-router`), or leave it out of `tiers`"
        for name, each in found["tiers"].items()
        if each["yield"] is not None
        and each["yield"] <= POOR_YIELD
        and each["in"] >= ENOUGH_ROWS
        and each["cost_usd"] > MUCH * total
    ]


def cache_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the share of tokens read from the cache."""
    return [f"cache    {found['cache']['hit_rate']:.0%} of what was read came from the cache"] if found["turns"] else []


def cache_warnings(found: Mapping[str, Any], already_printed: Collection[str] = ()) -> list[str]:
    """Return the likely fault where too little came from the cache."""
    was_printed = any(each.endswith(IN_FULL) for each in already_printed)
    warnings = [each for each in found["cache"]["warnings"] if not (was_printed and each.endswith(IN_FULL))]
    return [f"warning  {each}" for each in warnings] if found["turns"] else []


def summary_as_markdown(found: Mapping[str, Any]) -> Markdown:
    """Return the summary as Markdown, for the run's page in Prefect's UI."""
    head = ("rows", "loaded", "quarantined", "unchanged", "held", "waiting", "batches", "turns", "tool_calls")
    judged, reasons = gate_lines(found), found["reasons"]
    counts = [f"{found[name]:,}" for name in head]
    return markdown_page(
        markdown_heading(f"{found['job']} · {found['run_id']}"),
        markdown_table([name.replace("_", " ") for name in head], [counts], numbers=len(head)),
        *map(escape_markdown, money_lines(found)),
        _tier_table(found),
        *map(
            escape_markdown,
            [
                *override_lines(found),
                *answer_lines(found),
                *cache_lines(found),
                *cache_warnings(found),
                *ladder_problem_lines(found),
                *poor_tiers(found),
                *quarantined_before_lines(found),
            ],
        ),
        markdown_table(["gate", "said"], judged.items()) if judged else NOTHING,
        *map(escape_markdown, [*approval_lines(found), *unconfirmed_batch_lines(found)]),
        escape_markdown(stop_text(found) if found["stopped"] else ""),
        markdown_table(["quarantined because", "rows"], reasons.items(), numbers=1) if reasons else NOTHING,
    )


def _tier_table(found: Mapping[str, Any]) -> Markdown:
    heads = ["tier", "rows", "accepted", "escalated", "quarantined", "yield", "cost", "a row accepted"]
    rows: list[list[str]] = []
    for name, each in found["tiers"].items():
        counts = [f"{each[column]:,}" for column in ("in", "accepted", "escalated", "quarantined")]
        share = "" if each["yield"] is None else f"{each['yield']:.0%}"
        price = f"${each['accepted_row_usd']:.6f}" if each["accepted"] else ""
        rows.append([name, *counts, share, f"${each['cost_usd']:.4f}", price])
    return markdown_table(heads, rows, numbers=len(heads) - 1)
