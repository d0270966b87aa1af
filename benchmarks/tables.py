"""The figures in words: a line for each case as it is done, and tables at the end."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cases import PEERS, Case, size, smaller
from benchmarks.findings import OURS, Figures, Finding, per_row, slope

HEADINGS = (
    f"{'':<26}{'CPU s':>8}{'ms a row':>10}{'wall s':>8}{'peak MB':>9}{'bytes a row':>13}{'batches':>9}{'task runs':>11}"
)
STAGES = ("extract", "route", "submit", "converse", "wait", "follow_up", "validate", "load", "report", "between")


def line(case: Case, figures: Figures) -> str:
    """One case's figures. A row's cost is the slope against the next smaller size, where there is one."""
    found = figures[case.name]
    if why := found.get("failed"):
        return f"{case.name:<26}  {why}"
    ledger = found.get("ledger_bytes")
    return (
        f"{case.name:<26}{found['cpu_seconds']:>8.1f}{_of(_per_row(case, figures), '.3f'):>10}"
        f"{_of(found.get('wall_seconds'), '.1f'):>8}{_of(found.get('peak_mb'), '.0f'):>9}"
        f"{_of(ledger / case.rows if ledger else None, ',.0f'):>13}{_of(found.get('batches'), ','):>9}"
        f"{_of(found.get('task_runs'), ','):>11}{_more(found)}"
    ).rstrip()


def stages(cases: Sequence[Case], figures: Figures) -> list[str]:
    """Of each family the largest two sizes that were measured: microseconds of CPU that one more row costs a stage."""
    found = [case for case in cases if "stages" in figures.get(case.name, {})]
    largest = {case.family: case for case in sorted(found, key=lambda each: each.rows)}
    lines: list[str] = []
    for case in largest.values():
        less = smaller(case)
        if less is None or "stages" not in figures.get(less.name, {}):
            continue
        small, large = figures[less.name], figures[case.name]
        each = {
            name: slope(small, large, lambda one, name=name: one["stages"].get(name, 0.0)) * 1_000 for name in STAGES
        }
        lines.append(f"{case.name:<26}" + "".join(f"{round(micro):>10}" for micro in each.values()))
    if not lines:
        return []
    head = f"{'CPU µs a row, by stage':<26}" + "".join(f"{name:>10}" for name in STAGES)
    return ["", head, *lines]


def findings(found: Sequence[Finding]) -> list[str]:
    """Each with its target, and whether it is met."""
    said = [f"{each.what:<46}{each.value:>12,.3f} {each.unit:<8}{_target(each)}".rstrip() for each in found]
    return ["", *said] if said else []


def peers(figures: Figures) -> list[str]:
    """What a row costs other packages, against ours in the same run."""
    lines: list[str] = []
    for work, sizes in OURS.items():
        ours = per_row(figures, work, *sizes)
        for peer, works in PEERS.items():
            if work not in works:
                continue
            names = [f"{peer}-{work}-{size(rows)}" for rows in works[work]]
            measured = [figures[name] for name in names if name in figures]
            if not measured:
                continue
            lines.append(f"{peer + ', ' + work:<26}{_against(measured, ours)}")
    head = f"{'':<26}{'ms a row':>10}{'÷ ours':>9}{'peak MB':>9}{'batches':>9}"
    return ["", head, *lines] if lines else []


def _against(measured: Sequence[Mapping[str, Any]], ours: float | None) -> str:
    if why := next((each["failed"] for each in measured if "failed" in each), None):
        return f"  {why}"
    if len(measured) < 2:
        return "  its other size was not measured"
    theirs, large = slope(*measured), measured[1]
    ratio = f"{theirs / ours:.1f}×" if ours else "–"
    return f"{theirs:>10.3f}{ratio:>9}{large['peak_mb']:>9.0f}{large['batches']:>9,}"


def _per_row(case: Case, figures: Figures) -> float | None:
    less = smaller(case)
    if less is None or "cpu_seconds" not in figures.get(less.name, {}):
        return None
    return slope(figures[less.name], figures[case.name])


def _more(found: Mapping[str, Any]) -> str:
    words = [f"{found['quarantined']:,} quarantined"] if found.get("quarantined") else []
    if whole := found.get("whole"):
        words.append(
            f"killed at {found['killed_at']:.0%}, in {found['killed_in']}; the whole: {whole['cpu_seconds']:.1f} s"
        )
    return "  " + "; ".join(words) if words else ""


def _target(each: Finding) -> str:
    if each.most is None:
        return each.note
    met = "met" if each.value <= each.most else "MISSED"
    return f"at most {each.most:g}: {met}" + (f"  {each.note}" if each.note else "")


def _of(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
