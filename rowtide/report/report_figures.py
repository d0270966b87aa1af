"""The figures of a report: where rows, money and tokens went, and the accuracy on golden rows."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from rowtide.report import charts
from rowtide.report.charts import Chart
from rowtide.text_format import format_usd, shorten_text
from rowtide.tiers.pricing import MICRO

RunMetrics = Mapping[str, Any]

TOKENS = {
    "cache_read_tokens": ("read from cache", "var(--loaded)"),
    "cache_write_tokens": ("written to cache", "var(--warm)"),
    "input_tokens": ("read in full", "var(--api)"),
    "output_tokens": ("written", "var(--tier-3)"),
}
BASELINES = {
    "one_model_live": "top tier, live",
    "one_model_batch": "top tier, batches",
    "ladder_live": "ladder, live, no cache",
}
CALLS = {"made": "var(--api)", "remembered": "var(--loaded)", "failed": "var(--aside)"}
ENDINGS = {
    "loaded": ("loaded rows", "var(--loaded)"),
    "quarantined": ("rows quarantined", "var(--aside)"),
    "held": ("rows held", "var(--warm)"),
    "": ("rows on the way", "var(--api)"),
}
STEPS = {"read": "way", "asked": "way", "verified": "way", "loaded": "loaded", "waiting": "way"}


def row_funnel(found: RunMetrics, seen: RunMetrics) -> Chart | None:
    """Return how many rows reached each stage."""
    if not (rows := found["rows"]):
        return None
    steps = {
        "read": rows,
        "asked": seen["asked"],
        "verified": found["loaded"] + seen["over_time"][-1]["verified"],
        "loaded": found["loaded"],
        "quarantined": found["quarantined"],
        "unchanged": found["unchanged"],
        "held": found["held"],
        "waiting": found["waiting"],
    }
    kept = {name: count for name, count in steps.items() if count or name in ("read", "asked", "verified", "loaded")}
    colours = {"way": "var(--api)", "loaded": "var(--loaded)", "unchanged": "var(--unchanged)", "rest": "var(--aside)"}
    rows_of_table = [
        {
            "name": name,
            "amount": count,
            "part": STEPS.get(name, name if name in colours else "rest"),
            "label": f"{count:,} · {count / rows:.1%}",
        }
        for name, count in kept.items()
    ]
    chart = charts.horizontal_bars(rows_of_table, colours=colours, title="Rows by how far they came")
    table = [(name, f"{count:,}", f"{count / rows:.1%}") for name, count in kept.items()]
    return Chart("How far the rows came", chart, ("", "rows", "of all"), table)


def cost_by_tier(found: RunMetrics) -> Chart | None:
    """Chart the cost by tier, against the cost of the same work done otherwise."""
    if not found["turns"]:
        return None
    paid, tiers = found["cost_usd"], found["tiers"]
    colours = {name: f"var(--tier-{min(n, 4)})" for n, name in enumerate(tiers, 1)} | {"otherwise": "var(--unchanged)"}
    rows_of_table = [
        {"name": "this run", "part": name, "amount": each["cost_usd"], "label": format_usd(paid)}
        for name, each in tiers.items()
    ]
    for key, name in BASELINES.items():
        if amount := found["baselines_usd"][key]:
            times = f" · {amount / paid:,.1f}×" if paid else ""
            rows_of_table.append(
                {"name": name, "part": "otherwise", "amount": amount, "label": format_usd(amount) + times}
            )
    table = [
        (
            name,
            *(f"{each[count]:,}" for count in ("turns", "in", "accepted", "escalated", "quarantined")),
            "" if each["yield"] is None else f"{each['yield']:.0%}",
            format_usd(each["cost_usd"]),
            "" if each["accepted_row_usd"] is None else format_usd(each["accepted_row_usd"]),
        )
        for name, each in tiers.items()
    ]
    note = "The others are worked out from the tokens that were really used: read as often from the cache, or never."
    chart = charts.horizontal_bars(
        rows_of_table, colours=colours, title="US dollars by tier, and what it would have cost otherwise"
    )
    heads = ("", "replies", "rows", "accepted", "escalated", "quarantined", "yield", "US$", "US$ a row accepted")
    return Chart("Cost by tier, against the baselines", chart, heads, table, colours, note)


def money_by_outcome(found: RunMetrics, seen: RunMetrics) -> Chart | None:
    """Return how much was spent on rows, by their outcome."""
    amounts: defaultdict[str, float] = defaultdict(float)
    for state, micro in seen["spent"].items():
        amounts[state if state in ENDINGS else ""] += micro / MICRO
    amounts = defaultdict(float, {state: amounts[state] for state in ENDINGS if amounts[state]})
    if not (total := sum(amounts.values())):
        return None
    rows_of_table = [
        {
            "name": ENDINGS[state][0],
            "part": ENDINGS[state][0],
            "amount": amount,
            "label": f"{format_usd(amount)} · {amount / total:.0%}",
        }
        for state, amount in amounts.items()
    ]
    colours = {name: colour for state, (name, colour) in ENDINGS.items() if state in amounts}
    rows = {state: found.get(state, found["waiting"]) for state in amounts}
    table = [
        (
            ENDINGS[state][0],
            format_usd(amount),
            f"{rows[state]:,}",
            format_usd(amount / rows[state]) if rows[state] else "",
        )
        for state, amount in amounts.items()
    ]
    chart = charts.horizontal_bars(rows_of_table, colours=colours, title="US dollars by how the rows ended")
    return Chart("What the money went into", chart, ("", "US$", "rows", "US$ a row"), table)


def tokens_by_turn(seen: RunMetrics) -> Chart | None:
    """Chart the tokens read and written, turn by turn, and those read from the cache."""
    by_turn: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for each in seen["turns"]:
        by_turn[each["turn"]].update({name: each[name] for name in (*TOKENS, "replies", "cost_micro")})
    rows_of_table = [
        {"name": str(turn), "part": shown, "amount": sums[name]}
        for turn, sums in by_turn.items()
        for name, (shown, _) in TOKENS.items()
    ]
    if not rows_of_table:
        return None
    chart = charts.vertical_bars(rows_of_table, colours=dict(TOKENS.values()), title="Tokens by turn")
    table = [
        (
            str(turn),
            f"{sums['replies']:,}",
            *(f"{sums[name]:,}" for name in TOKENS),
            f"{_share(sums['cache_read_tokens'], sums['cache_write_tokens'] + sums['input_tokens']):.0%}",
            format_usd(sums["cost_micro"] / MICRO),
        )
        for turn, sums in by_turn.items()
    ]
    heads = ("turn", "replies", *(shown for shown, _ in TOKENS.values()), "cache hits", "US$")
    note = "Turn 1 is each row's first reply. A hit is a token that was read from the cache, of all that were read."
    return Chart("Tokens, turn by turn", chart, heads, table, dict(TOKENS.values()), note)


def tool_call_chart(seen: RunMetrics) -> Chart | None:
    """Chart the calls of each tool: how many, how many failed, how long they took."""
    if not seen["tools"]:
        return None
    rows_of_table: list[dict[str, Any]] = []
    for tool, each in seen["tools"].items():
        parts = {"made": each["calls"] - each["remembered"] - each["failed"], "remembered": each["remembered"]}
        label = f"{each['calls']:,}" + (f" · {each['failed']:,} failed" if each["failed"] else "")
        for part, amount in (parts | {"failed": each["failed"]}).items():
            rows_of_table.append(
                {"name": shorten_text(tool, 60), "part": part, "amount": max(amount, 0), "label": label}
            )
    table = [
        (
            tool,
            *(f"{each[name]:,}" for name in ("calls", "remembered", "failed")),
            f"{each['failed'] / each['calls']:.1%}",
            *("" if each[name] is None else f"{each[name]:,}" for name in ("p50_ms", "p95_ms", "slowest_ms")),
        )
        for tool, each in seen["tools"].items()
    ]
    chart = charts.horizontal_bars(rows_of_table, colours=CALLS, title="Tool calls")
    heads = ("tool", "calls", "remembered", "failed", "of all", "p50 ms", "p95 ms", "slowest ms")
    note = "A remembered call was answered by an identical earlier one."
    return Chart("Tool calls", chart, heads, table, CALLS, note)


def golden_accuracy(seen: RunMetrics) -> Chart | None:
    """Return the share of golden rows answered right."""
    if not (known := seen["golden"]) or not known["fields"]:
        return None
    rows_of_table: list[dict[str, Any]] = [
        {
            "name": name,
            "share": each["right"] / each["rows"],
            **dict(zip(("low", "high"), wilson_interval(**each), strict=True)),
        }
        for name, each in known["fields"].items()
    ]
    table = [
        (
            each["name"],
            f"{known['fields'][each['name']]['right']:,} of {known['fields'][each['name']]['rows']:,}",
            f"{each['share']:.1%}",
            f"{each['low']:.1%} to {each['high']:.1%}",
        )
        for each in rows_of_table
    ]
    note = (
        f"{known['rows']:,} rows of this run stand in golden.jsonl; {known['verified']:,} of them were verified and "
        f"are judged here, {known['quarantined']:,} were quarantined."
    )
    chart = charts.interval_chart(
        rows_of_table, title="Share of golden rows that came out right, with its 95 % interval"
    )
    return Chart("Accuracy on golden rows", chart, ("field", "right", "share", "95 % interval"), table, note=note)


def wilson_interval(right: int, rows: int) -> tuple[float, float]:
    """Return Wilson's score interval for a share, (low, high), with 95 % confidence."""
    z = 1.96
    share, middle = right / rows, (right + z * z / 2) / (rows + z * z)
    half = z * (share * (1 - share) / rows + z * z / (4 * rows * rows)) ** 0.5 / (1 + z * z / rows)
    return max(0.0, middle - half), min(1.0, middle + half)


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part + rest else 0.0
