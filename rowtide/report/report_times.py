"""The figures of a report over time: where the rows were, and what each batch did."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rowtide.lanes.lane_table import LANES
from rowtide.report import charts
from rowtide.report.charts import Chart

RunMetrics = Mapping[str, Any]

PLACES = {
    "loaded": ("loaded", "var(--loaded)"),
    "verified": ("verified, not yet loaded", "var(--verified)"),
    "unchanged": ("unchanged", "var(--unchanged)"),
    "quarantined": ("quarantined", "var(--aside)"),
    "at_api": ("in a batch at the API", "var(--api)"),
    "here": ("ready, being judged, or in live calls", "var(--here)"),
}
PHASES = {
    "waiting to be sent": "var(--unchanged)",
    "at the API": "var(--api)",
    "live calls": "var(--tier-1)",
    "unconfirmed": "var(--warm)",
    "orphaned": "var(--aside)",
    "never taken": "var(--here)",
}


def row_states_over_time(seen: RunMetrics) -> Chart | None:
    """Return where the rows were, from the run's start to its end."""
    points = [*seen["over_time"], _a_little_later(seen["over_time"])]
    used = {name: shown for name, shown in PLACES.items() if any(point[name] for point in points)}
    if not used:
        return None
    records = [{"at": p["at"], "part": shown[0], "rows": p[name]} for p in points for name, shown in used.items()]
    title = "Where the rows were, over time (UTC)"
    chart = charts.stacked_areas(
        records, colours=dict(used.values()), clock=_clock(points[0]["at"], points[-1]["at"]), title=title
    )
    every = points[:: max(len(points) // 12, 1)]
    table = [(p["at"][:19].replace("T", " "), *(f"{p[name]:,}" for name in used)) for p in every]
    note = (
        "As far as it was written down: rows are at the API from their batch's POST until it is filed; a verified row "
        "is dated by the filing of its last reply, or by the end of the live calls it was among."
    )
    return Chart(
        "Where the rows were", chart, ("UTC", *(shown[0] for shown in used.values())), table, dict(used.values()), note
    )


def _a_little_later(points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The last point repeated a little later, so that the final state is wide enough to see."""
    first, last = (datetime.fromisoformat(points[n]["at"]) for n in (0, -1))
    return {**points[-1], "at": (last + (last - first) / 30).isoformat()}


def batch_timeline(seen: RunMetrics, *, now: datetime) -> Chart | None:
    """Return the phases of each batch over time."""
    batches, until = seen["batches"], seen["finished_at"] or now.isoformat()
    if not batches:
        return None
    records = [phase for batch in batches for phase in _phases(batch, until)]
    colours = {name: colour for name, colour in PHASES.items() if any(each["part"] == name for each in records)}
    chart = charts.timeline_chart(
        records, colours=colours, clock=_clock(seen["started_at"], until), title="Batches over time (UTC)"
    )
    table = [
        (
            str(each["batch_no"]),
            each["lane"],
            each["state"] + (f": {each['detail']}" if each["detail"] else ""),
            f"{each['rows']:,}",
            *(_time(each[name]) for name in ("packed_at", "posted_at", "ended_at", "filed_at")),
        )
        for each in batches
    ]
    all_of_them = seen["batches_in_all"]
    note = f"The last {len(batches)} of {all_of_them:,}." if all_of_them > len(batches) else ""
    heads = ("batch", "lane", "now", "rows", "packed", "posted", "ended", "filed")
    return Chart("Batches", chart, heads, table, colours, note)


def _phases(batch: RunMetrics, until: str) -> list[dict[str, Any]]:
    kind = "" if LANES[batch["lane"]].in_batches else f" {batch['lane']}"
    name = f"{batch['batch_no']}{kind} · {batch['rows']:,} rows"
    posted, end = batch["posted_at"], batch["filed_at"] or until
    spans = [("waiting to be sent", batch["packed_at"], posted or end)]
    if posted:
        now = "unconfirmed" if batch["unconfirmed_at"] and batch["state"] == "posting" else batch["state"]
        part = {"orphaned": "orphaned", "void": "never taken", "unconfirmed": "unconfirmed"}.get(now, "at the API")
        spans.append(("live calls" if kind else part, posted, end))
    return [{"name": name, "part": part, "start": start, "end": stop} for part, start, stop in spans if start < stop]


def _time(stamp: str | None) -> str:
    return stamp[11:19] if stamp else ""


def _clock(start: str, end: str) -> str:
    """The format of times along an axis, by the length of the span."""
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    return "%H:%M:%S" if seconds < 600 else "%H:%M" if seconds < 86400 else "%d %b %H:%M"
