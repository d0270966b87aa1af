"""The figures of a comparison: by how much two versions differ, in all, by field and by group; what each cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from rowtide.evals.outcome import ArmAnswer, EvalOutcome, GroupResult, by_field, by_group, pairs_of
from rowtide.evals.paired_test import PairedCounts, tango_interval
from rowtide.report import charts
from rowtide.report.charts import Chart
from rowtide.text_format import format_usd, shorten_text
from rowtide.tiers.pricing import MICRO

LONGEST = 60  # characters of a name in a chart: it is drawn by a library that a long one breaks
HEADS = ("", "rows", "candidate", "incumbent", "fixed", "broken", "difference", "95 % interval")
NOTE = "In points of all rows, with 95 % intervals (Tango). Right of 0 the candidate is better."


def difference_in_all(found: EvalOutcome) -> Chart | None:
    """Chart right and harm of all counted rows, with their margins."""
    if not found.counted:
        return None
    pairs = pairs_of(found.counted)
    named = {"right": (pairs.right, found.margins.right), "no harm": (pairs.harm, found.margins.harm)}
    rows = [{**_interval(name, counts), "margin": -100 * margin} for name, (counts, margin) in named.items()]
    table = [
        (name, f"{counts.rows:,}", f"{counts.fixed:,}", f"{counts.broken:,}", *_shown(row), f"−{100 * margin:g}")
        for row, (name, (counts, margin)) in zip(rows, named.items(), strict=True)
    ]
    heads = ("", "rows", "only candidate", "only incumbent", "difference", "95 % interval", "margin")
    note = f"{NOTE} A red mark is the margin. What is decided, and at which level, stands under Looks."
    return Chart("Right, and harm spared", charts.difference_chart(rows, title="Difference"), heads, table, note=note)


def differences_by_field(found: EvalOutcome) -> Chart | None:
    """Chart each golden field: how often both versions agree with it."""
    return _differences("By field", by_field(found.counted))


def differences_by_group(found: EvalOutcome) -> Chart | None:
    """Chart each group of rows; nothing when there is only one."""
    groups = {name or "(none)": result for name, result in by_group(found.counted).items()}
    return _differences("By group", groups) if len(groups) > 1 else None


def arm_table(found: EvalOutcome) -> list[tuple[str, ...]]:
    """Return the cost and turns of both versions, line by line: (what, candidate, incumbent)."""
    both = [[row.candidate for row in found.counted], [row.incumbent for row in found.counted]]
    arms = (found.candidate, found.incumbent)
    lines: list[tuple[str, Sequence[str]]] = [
        ("ladder", [" → ".join(arm.tiers) for arm in arms]),
        *((name, [f"{sum(each.score == score for each in answers):,}" for answers in both]) for name, score in SCORES),
        ("cost a row", [_usd(sum(each.cost_micro for each in answers), len(answers)) for answers in both]),
        ("cost a row accepted", [_per_accepted(answers) for answers in both]),
        ("turns a row", [_mean([each.turns for each in answers]) for answers in both]),
        ("tool calls a row", [_mean([each.tool_calls for each in answers]) for answers in both]),
        ("answers from before", [f"{sum(each.is_from_before for each in answers):,}" for answers in both]),
        ("tool calls replayed", [f"{arm.replayed_calls:,}" for arm in arms]),
        ("tool calls that went out", [f"{arm.live_calls:,}" for arm in arms]),
    ]
    return [(name, *cells) for name, cells in lines]


def _differences(title: str, results: Mapping[str, GroupResult]) -> Chart | None:
    if not results:
        return None
    rows = [_interval(name, each.counts) for name, each in results.items()]
    table = [
        (
            name,
            f"{each.rows:,}",
            f"{each.candidate_right:,}",
            f"{each.incumbent_right:,}",
            f"{each.fixed:,}",
            f"{each.broken:,}",
            *_shown(row),
        )
        for row, (name, each) in zip(rows, results.items(), strict=True)
    ]
    return Chart(title, charts.difference_chart(rows, title=title), HEADS, table, note=NOTE)


def _interval(name: str, counts: PairedCounts) -> dict[str, Any]:
    low, high = tango_interval(counts)
    ends = {"points": counts.difference, "low": low, "high": high}
    return {"name": shorten_text(name, LONGEST), **{end: 100 * share for end, share in ends.items()}}


def _shown(row: Mapping[str, Any]) -> tuple[str, str]:
    return f"{row['points']:+.1f}", f"{row['low']:+.1f} to {row['high']:+.1f}"


def _usd(micro: int, rows: int) -> str:
    return format_usd(micro / rows / MICRO) if rows else "–"


def _per_accepted(answers: Sequence[ArmAnswer]) -> str:
    return _usd(sum(each.cost_micro for each in answers), sum(each.answer is not None for each in answers))


def _mean(counts: Sequence[int]) -> str:
    return f"{sum(counts) / len(counts):.2f}" if counts else "–"


SCORES = (("right", "right"), ("loaded and wrong", "harm"), ("quarantined", "none"), ("not scored", "unscored"))
DRAWN = (difference_in_all, differences_by_field, differences_by_group)
