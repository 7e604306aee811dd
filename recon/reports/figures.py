"""Figures from plain records: they draw what was counted elsewhere, and never query.

Every bar has its name and its number beside it, so nothing depends on telling colours apart.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recon.reports.data import Coverage, Step
from recon.reports.tables import count, percent, records, words

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

FONT = '"Segoe UI", Roboto, "Helvetica Neue", Arial, "Liberation Sans", sans-serif'
INK, MUTED, GRID = "#1c2733", "#5b6875", "#e3e8ed"
BAR = 0.62  # of the height that a bar and its gap have
BAR_PIXELS, EDGE_PIXELS = 34, 64  # height of one bar with its gap; of title and axis together
CURVE_PIXELS = 360
ROOM_FOR_TEXT = 1.16  # of the axis beyond the longest bar, where its number stands

# Blue is reconciled (darker: new), amber waits for a person, red is missing, grey is outside or the whole.
_FILLS = {
    "linked": "#a9bfd6",
    "matched": "#1f5f9e",
    "proposed": "#e0a030",
    "ambiguous": "#b9770e",
    "unmatched": "#b8433a",
    "orphan": "#b8433a",
    "missing": "#b8433a",
    "invalid": "#7b2d6b",
    "excluded": "#c4cbd2",
    "population": "#3c4854",
}

# Curves differ in their dashes too, so that nothing depends on telling colours apart.
_CURVES = ("#1f5f9e", "#b9770e", "#7b2d6b", "#3c4854", "#b8433a")
_DASHES = ("solid", "dash", "dot", "dashdot")


def waterfall(steps: Sequence[Step]) -> go.Figure:
    """How a run's decisions add up to the population: one bar for each step, each starting where the last one ended."""
    import plotly.graph_objects as go

    starts: list[int] = []
    position = 0
    for step in steps:
        starts.append(0 if step.kind == "population" else position)
        position += step.records
    ends = [start + step.records for start, step in zip(starts, steps, strict=True)]
    labels = [_label(words(step.label)) for step in steps]
    fills = [_FILLS[step.kind] for step in steps]
    axis = list(range(len(steps)))  # places and not labels: two steps of the same name stay two bars
    figure = go.Figure(
        go.Bar(
            orientation="h",
            y=axis,
            x=[step.records for step in steps],
            base=starts,
            width=BAR,
            # The outline keeps one record of a million visible, and is not there where there is nothing to see.
            marker={"color": fills, "line": {"color": fills, "width": [min(step.records, 1) for step in steps]}},
            customdata=labels,
            hovertemplate="%{customdata}: %{x:,} records<extra></extra>",
        )
    )
    for place, step, end in zip(axis, steps, ends, strict=True):
        sign = "+" if step.records and step.kind not in ("linked", "population") else ""
        figure.add_annotation(
            x=end, y=place, text=f"<b>{sign}{count(step.records)}</b>", xanchor="left", xshift=6, showarrow=False,
            font={"color": INK if step.records else MUTED},
        )  # fmt: skip
    for place, end in zip(axis[:-1], ends, strict=False):  # a hair line from the end of each bar to the next one
        figure.add_shape(
            type="line", x0=end, x1=end, y0=place + BAR / 2, y1=place + 1 - BAR / 2,
            line={"color": MUTED, "width": 1, "dash": "dot"},
        )  # fmt: skip
    _style(figure, len(steps), labels, max(ends, default=0))
    figure.update_xaxes(title={"text": "records", "font": {"size": 12, "color": MUTED}})
    return figure


def coverage(before: Coverage | None, now: Coverage, expected: float | None = None) -> go.Figure:
    """Coverage before and now, as shares of the population, with the share that is expected."""
    import plotly.graph_objects as go

    bars = [("before", before)] if before else []
    bars.append(("now", now))
    shares = [(item.share or 0) if item else 0 for _, item in bars]
    figure = go.Figure()
    for values, color, pattern, says in (
        (shares, [_FILLS["linked"], _FILLS["matched"]][-len(bars) :], "", "linked"),
        ([1 - share for share in shares], "#ffffff", "\\", "not linked"),
    ):
        figure.add_bar(
            orientation="h", y=list(range(len(bars))), x=values, width=BAR, name=says,
            marker={
                "color": color, "line": {"color": GRID, "width": 1},
                "pattern": {"shape": pattern, "fgcolor": _FILLS["unmatched"], "size": 6, "solidity": 0.2},
            },
            hovertemplate=f"{says}: %{{x:.1%}}<extra></extra>",
        )  # fmt: skip
    for place, (_, item) in enumerate(bars):
        if item:
            figure.add_annotation(
                x=1, y=place, xanchor="left", xshift=8, showarrow=False, align="left",
                text=f"<b>{percent(item.share)}</b>  {count(item.linked)} of {records(item.population)}",
            )  # fmt: skip
    _style(figure, len(bars), [label for label, _ in bars], 1)
    figure.update_layout(barmode="stack")
    figure.update_xaxes(tickformat=".0%", range=[0, 1.42], tickvals=[0, 0.25, 0.5, 0.75, 1])
    if expected is not None:
        figure.add_shape(
            type="line", x0=expected, x1=expected, yref="paper", y0=0, y1=1, line={"color": INK, "width": 1.5}
        )
        figure.add_annotation(
            x=expected, y=1, yref="paper", yanchor="bottom", showarrow=False, text=f"expected {percent(expected)}",
            font={"size": 12, "color": MUTED},
        )  # fmt: skip
    return figure


def tolerances(points: pd.DataFrame) -> go.Figure:
    """How many records match at other tolerances: one curve for each window of each pass.

    Args:
        points: `WhatIf.records()`: pass, window, factor, tolerance, matched, gained, lost and refused of each point.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    curves: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for point in points.to_dict("records"):
        if not isinstance(point["refused"], str):  # pandas writes a missing text as NaN or None
            curves.setdefault((point["pass"], point["window"]), []).append(point)
    alone = len({name for name, _ in curves}) == len(curves)
    for place, ((name, window), curve) in enumerate(curves.items()):
        label = _label(words(name)) + ("" if alone else f" ({_label(window)})")
        figure.add_scatter(
            x=[point["factor"] for point in curve], y=[point["matched"] for point in curve],
            mode="lines+markers", name=label,
            line={"color": _CURVES[place % len(_CURVES)], "dash": _DASHES[place % len(_DASHES)]},
            customdata=[[_label(point["tolerance"]), point["gained"], point["lost"]] for point in curve],
            hovertemplate=f"{label}, %{{customdata[0]}}: %{{y:,}} matched<br>"
            "%{customdata[1]:,} gained, %{customdata[2]:,} lost<extra></extra>",
        )  # fmt: skip
    figure.update_layout(
        template="none", font={"family": FONT, "size": 14, "color": INK}, height=CURVE_PIXELS,
        margin={"l": 8, "r": 8, "t": 20, "b": 8}, legend={"orientation": "h", "y": -0.25}, showlegend=True,
        hoverlabel={"bgcolor": "#ffffff", "font": {"family": FONT, "color": INK}},
        xaxis={"title": "times the present tolerance", "gridcolor": GRID, "automargin": True, "zeroline": False},
        yaxis={"title": "records matched", "gridcolor": GRID, "automargin": True, "tickformat": ",d"},
    )  # fmt: skip
    figure.add_vline(x=1, line={"color": MUTED, "width": 1, "dash": "dot"}, annotation_text="present")
    return figure


def _label(text: str) -> str:
    """Text that plotly shows as it stands: it would read a `<` as markup."""
    return html.escape(text, quote=False)


def _style(figure: go.Figure, bars: int, labels: Sequence[str], longest: float) -> None:
    axis: dict[str, Any] = {"zeroline": False, "automargin": True, "fixedrange": True}
    figure.update_layout(
        template="none",
        font={"family": FONT, "size": 14, "color": INK},
        height=EDGE_PIXELS + bars * BAR_PIXELS,
        margin={"l": 8, "r": 8, "t": 20, "b": 8},
        showlegend=False,
        bargap=0,
        hoverlabel={"bgcolor": "#ffffff", "font": {"family": FONT, "color": INK}},
        xaxis={
            **axis, "range": [0, max(longest, 1) * ROOM_FOR_TEXT], "gridcolor": GRID, "tickformat": ",d",
            "tickfont": {"size": 12, "color": MUTED}, "ticks": "",
        },
        yaxis={
            **axis, "range": [bars - 0.5, -0.5], "tickvals": list(range(bars)), "ticktext": list(labels),
            "ticklabelstandoff": 10, "showgrid": False,
        },
    )  # fmt: skip
