"""Draw the charts of a report. The only module that imports Altair and vl-convert; their types stop here.

Each chart is drawn twice, for a desk and for a phone, as SVG without scripts. Its colours are CSS variables of the
page it stands in, so that it is light or dark with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt
from altair.utils.schemapi import debug_mode
from markupsafe import Markup

from rowtide.escaping import visible_text
from rowtide.extras import extra

with extra("report"):
    import vl_convert

WIDE, HALF, NARROW = 1000, 500, 320  # pixels, on paper; the page scales them
BAR = 24  # pixels a bar and the room around it take
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
LETTER = 7.4  # pixels a letter of 12 may take: the reader's font is not the one that is measured here

Rows = Sequence[Mapping[str, Any]]
Colours = Mapping[str, str]
"""What is drawn → the CSS variable that colours it. The page writes the legend."""
Layers = alt.LayerChart | alt.Chart


@dataclass(frozen=True)
class Chart:
    """A chart: its caption, its drawing, and the numbers behind it."""

    title: str
    chart: Markup
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: Mapping[str, str] = field(default_factory=dict)
    """What is drawn → the CSS variable that colours it."""
    note: str = ""


def horizontal_bars(rows: Rows, *, colours: Colours, title: str) -> Markup:
    """Draw horizontal bars, one for each `name`, stacked by `part`, of length `amount`, with a `label`
    behind the bar.
    """
    if not rows:
        return Markup()
    names = list(dict.fromkeys(row["name"] for row in rows))
    most = max(sum(row["amount"] for row in rows if row["name"] == name) for name in names) or 1

    def draw(width: int) -> Layers:
        room = 0.55 if width == NARROW else 0.7
        data = alt.Data(values=[{**row, "order": n} for n, row in enumerate(rows)])
        y = alt.Y("name:N", sort=names, title=None, axis=_names(names, width))
        scale = alt.Scale(domain=[0, most / room], nice=False)
        x = alt.X("amount:Q", stack="zero", scale=scale, axis=None)
        bar = alt.Chart(data).mark_bar(height=BAR - 9)
        bar = bar.encode(y=y, x=x, color=_colour(colours), order="order:O")
        ends = [
            {
                "name": name,
                "amount": sum(row["amount"] for row in rows if row["name"] == name),
                "label": next((row["label"] for row in rows if row["name"] == name and row.get("label")), ""),
            }
            for name in names
        ]
        labels = alt.Chart(alt.Data(values=ends)).mark_text(align="left", dx=6, fontSize=12, color="var(--ink)")
        labels = labels.encode(y=y, x=alt.X("amount:Q", scale=scale, axis=None), text="label:N")
        return alt.LayerChart(layer=[bar, labels]).properties(height=BAR * len(names))

    return _svg(draw, HALF, title=title)


def stacked_areas(rows: Rows, *, colours: Colours, clock: str, title: str) -> Markup:
    """Draw stacked areas: how many `rows` were at place `part` at the moment `at`."""
    order = {name: n for n, name in enumerate(colours)}

    def draw(width: int) -> Layers:
        data = alt.Data(values=[{**row, "order": order[row["part"]]} for row in rows])
        return (
            alt.Chart(data)
            .mark_area(interpolate="step-after", line=False)
            .encode(
                x=alt.X("at:T", scale=alt.Scale(type="utc", nice=False), title=None, axis=_times(clock, width)),
                y=alt.Y("rows:Q", stack="zero", title=None, axis=alt.Axis(tickCount=4, format="~s")),
                color=_colour(colours),
                order="order:O",
            )
            .properties(height=220)
        )

    return _svg(draw, WIDE, title=title)


def timeline_chart(rows: Rows, *, colours: Colours, clock: str, title: str) -> Markup:
    """Return a timeline, one line for each batch: its phases (`part`) from `start` to `end`, with a `label` behind."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    if not names:
        return Markup()

    def draw(width: int) -> Layers:
        data = alt.Data(values=list(rows))
        y = alt.Y("name:N", sort=names, title=None, axis=_names(names, width))
        x = alt.X("start:T", scale=alt.Scale(type="utc", nice=False), title=None, axis=_times(clock, width))
        bar = alt.Chart(data).mark_bar(height=11)
        return bar.encode(y=y, x=x, x2="end:T", color=_colour(colours)).properties(height=18 * len(names) + 10)

    return _svg(draw, WIDE, title=title)


def vertical_bars(rows: Rows, *, colours: Colours, title: str) -> Markup:
    """Draw vertical bars, one for each `name`, stacked by `part`, of height `amount`."""
    if not rows:
        return Markup()
    names = list(dict.fromkeys(row["name"] for row in rows))
    order = {name: n for n, name in enumerate(colours)}

    def draw(_: int) -> Layers:
        data = alt.Data(values=[{**row, "order": order[row["part"]]} for row in rows])
        bar = alt.Chart(data).mark_bar(width={"band": 0.7})
        return bar.encode(
            x=alt.X("name:N", sort=names, title=None, axis=alt.Axis(labelAngle=0, domain=False, ticks=False)),
            y=alt.Y("amount:Q", stack="zero", title=None, axis=alt.Axis(tickCount=4, format="~s")),
            color=_colour(colours),
            order="order:O",
        ).properties(height=200)

    return _svg(draw, HALF, title=title)


def interval_chart(rows: Rows, *, title: str) -> Markup:
    """Draw shares with their intervals, a line for each `name`: `share` between `low` and `high`, from 0 to 1."""
    if not rows:
        return Markup()
    floor = max(0.0, min(row["low"] for row in rows) - 0.05)

    def draw(width: int) -> Layers:
        data = alt.Data(values=list(rows))
        y = alt.Y("name:N", sort=None, title=None, axis=_names([row["name"] for row in rows], width))
        scale = alt.Scale(domain=[floor, 1.0], nice=False)
        x = alt.X("low:Q", scale=scale, title=None, axis=alt.Axis(format=".0%", tickCount=4))
        span = alt.Chart(data).mark_bar(height=5, color="var(--here)").encode(y=y, x=x, x2="high:Q")
        share = alt.X("share:Q", scale=scale, title=None)
        point = alt.Chart(data).mark_point(filled=True, size=90, opacity=1, color="var(--loaded)").encode(y=y, x=share)
        return alt.LayerChart(layer=[span, point]).properties(height=BAR * len(rows) + 8)

    return _svg(draw, HALF, title=title)


def difference_chart(rows: Rows, *, title: str) -> Markup:
    """Draw differences in points with their intervals, a line for each `name`: `points` between `low` and `high`; right
    of 0 is better. A `margin` marks how far left a difference may go.
    """
    if not rows:
        return Markup()
    reach = max(1.0, *(abs(row[end]) for row in rows for end in ("low", "high", "margin") if row.get(end) is not None))

    def draw(width: int) -> Layers:
        data = alt.Data(values=list(rows))
        y = alt.Y("name:N", sort=None, title=None, axis=_names([row["name"] for row in rows], width))
        scale = alt.Scale(domain=[-1.05 * reach, 1.05 * reach], nice=False)
        ticks = alt.Axis(format="+.0f", tickCount=3 if width == NARROW else 6)
        span = alt.Chart(data).mark_bar(height=5, color="var(--here)")
        span = span.encode(y=y, x=alt.X("low:Q", scale=scale, title=None, axis=ticks), x2="high:Q")
        points = alt.X("points:Q", scale=scale, title=None)
        dot = alt.Chart(data).mark_point(filled=True, size=90, opacity=1, color="var(--loaded)").encode(y=y, x=points)
        zero = alt.Chart(alt.Data(values=[{"points": 0}])).mark_rule(color="var(--muted)").encode(x=points)
        limits = alt.Data(values=[{**row, "points": row["margin"]} for row in rows if row.get("margin") is not None])
        limit = alt.Chart(limits).mark_tick(color="var(--aside)", thickness=3, size=BAR - 6).encode(y=y, x=points)
        return alt.LayerChart(layer=[span, zero, limit, dot]).properties(height=BAR * len(rows) + 8)

    return _svg(draw, HALF, title=title)


def _svg(draw: Callable[[int], Layers], size: int, *, title: str) -> Markup:
    """Both sizes of a chart, each shown where it fits. A screen reader reads the title; the numbers stand in a table
    below.
    """
    drawn = Markup()
    for width, kind in ((size, "wide"), (NARROW, "narrow")):
        with debug_mode(False):  # checking every part against Vega-Lite's schema takes longer than drawing it
            spec = _themed(draw(width), width).to_dict(validate=False)
        svg = vl_convert.vegalite_to_svg(spec)
        head = Markup('<svg class="chart {}" role="img" aria-label="{}"').format(kind, title)
        drawn += head + Markup(visible_text(svg).removeprefix("<svg").replace('class="marks"', "", 1))
    return drawn


def _themed(chart: Layers, width: int) -> Layers:
    muted, rule = "var(--muted)", "var(--rule)"
    return (
        chart.properties(
            width=width, background="transparent", autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
        )
        .configure(font=FONT, aria=False, padding=alt.Padding(left=2, right=16, top=4, bottom=2))
        .configure_view(stroke=None)
        .configure_axis(labelColor=muted, labelFontSize=12, gridColor=rule, domainColor=rule, tickColor=rule)
    )


def _names(names: Sequence[str], width: int) -> alt.Axis:
    """An axis of names, with room for them in any font."""
    room = min(max(len(name) for name in names) * LETTER, width * (0.48 if width == NARROW else 0.4))
    return alt.Axis(
        domain=False,
        ticks=False,
        minExtent=room + 8,
        maxExtent=room + 8,
        labelLimit=room * 0.85,
        labelPadding=8,
        labelColor="var(--ink)",
    )


def _times(clock: str, width: int) -> alt.Axis:
    return alt.Axis(format=clock, tickCount=3 if width == NARROW else 7, grid=False, labelOverlap=True)


def _colour(colours: Colours) -> alt.Color:
    return alt.Color("part:N", scale=alt.Scale(domain=list(colours), range=list(colours.values())), legend=None)
