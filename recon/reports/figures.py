"""Figures from plain records: they draw what was counted elsewhere, and never query.

Every bar has its name and its number beside it, so nothing depends on telling colours apart.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recon.reports.ageing import AgeClass
from recon.reports.data import Coverage, Step
from recon.reports.tables import count, percent, records, words
from recon.reports.trend import OPEN, Past

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

FONT = '"Segoe UI", Roboto, "Helvetica Neue", Arial, "Liberation Sans", "DejaVu Sans Condensed", sans-serif'
INK, MUTED, GRID = "#1c2733", "#5b6875", "#e3e8ed"
BAR = 0.62  # of the height that a bar and its gap have
BAR_PIXELS, EDGE_PIXELS = 34, 64  # height of one bar with its gap; of title and axis together
CURVE_PIXELS = 360
FEW = 8  # records up to which an axis has a tick for each
MANY = 100_000  # records from which an axis says 5M in place of 5,000,000, which has no room on a phone
LETTER_PIXELS = 8  # the widest that a digit or letter of a bar's text is, on average
LABEL_LETTERS = 26  # of one line of a bar's name
TEXT_EDGE_PIXELS = 10  # between a bar and its text, and between the text and the edge

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

# Beside its colour each kind has a pattern, so that bars are told apart in grey and without sight of colours.
_PATTERNS = {
    "proposed": "/", "ambiguous": "x", "unmatched": "\\", "orphan": "\\", "missing": "\\", "invalid": "+", "excluded": ".",
}  # fmt: skip
_PATTERN_STYLE: dict[str, Any] = {
    "fillmode": "overlay",
    "fgcolor": "#ffffff",
    "fgopacity": 0.55,
    "size": 7,
    "solidity": 0.22,
}

# Curves differ in their dashes too, so that nothing depends on telling colours apart.
_CURVES = ("#1f5f9e", "#b9770e", "#7b2d6b", "#3c4854", "#b8433a")
_DASHES = ("solid", "dash", "dot", "dashdot")
_SIGNS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")
LINE_PIXELS = 300
LEAST_ROOM = 0.05  # of a share, below the lowest point of a trend


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
            marker={
                "color": fills,
                "line": {"color": fills, "width": [min(step.records, 1) for step in steps]},
                "pattern": {"shape": [_PATTERNS.get(step.kind, "") for step in steps], **_PATTERN_STYLE},
            },
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
    _style(figure, len(steps), labels, max(ends, default=0), [f"+{count(step.records)}" for step in steps])
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
    texts = [f"{count(item.linked)} of {records(item.population)}" for _, item in bars if item]
    for place, (_, item) in enumerate(bars):
        if item:
            figure.add_annotation(
                x=1, y=place, xanchor="left", xshift=8, showarrow=False, align="left",
                text=f"<b>{percent(item.share)}</b><br>{count(item.linked)} of {records(item.population)}",
                font={"size": 12},
            )  # fmt: skip
    _style(figure, len(bars), [label for label, _ in bars], 1, texts)
    figure.update_layout(barmode="stack")
    figure.update_xaxes(tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    if expected is not None:
        figure.add_shape(
            type="line", x0=expected, x1=expected, yref="paper", y0=0, y1=1, line={"color": INK, "width": 1.5}
        )
        figure.add_annotation(
            x=expected, y=1, yref="paper", yanchor="bottom", showarrow=False, text=f"expected {percent(expected)}",
            font={"size": 12, "color": MUTED},
        )  # fmt: skip
    return figure


def reasons(found: Mapping[str, int]) -> go.Figure:
    """Why records stay without a link: one bar for each reason, with its number and its share of them all."""
    import plotly.graph_objects as go

    whole = sum(found.values())
    labels = [_label(words(reason)) for reason in found]
    figure = go.Figure(
        go.Bar(
            orientation="h", y=list(range(len(found))), x=list(found.values()), width=BAR, customdata=labels,
            marker={
                "color": _FILLS["unmatched"],
                "pattern": {"shape": _PATTERNS["unmatched"], **_PATTERN_STYLE},
            },
            hovertemplate="%{customdata}: %{x:,} records<extra></extra>",
        )
    )  # fmt: skip
    for place, number in enumerate(found.values()):
        figure.add_annotation(
            x=number, y=place, xanchor="left", xshift=6, showarrow=False,
            text=f"<b>{records(number)}</b><br>{percent(number / whole)}", align="left", font={"size": 12},
        )  # fmt: skip
    texts = [records(number) for number in found.values()]
    _style(figure, len(found), labels, max(found.values(), default=0), texts)
    return figure


def ageing(classes: Sequence[AgeClass]) -> go.Figure:
    """Open breaks by age, the oldest first: those that somebody has, and (hatched) those that nobody has."""
    import plotly.graph_objects as go

    places = list(range(len(classes)))
    figure = go.Figure()
    for values, says, color, pattern in (
        ([item.assigned for item in classes], "assigned", _FILLS["matched"], ""),
        ([item.nobody for item in classes], "nobody has them", _FILLS["proposed"], _PATTERNS["proposed"]),
    ):
        figure.add_bar(
            orientation="h", y=places, x=values, width=BAR, name=says,
            marker={"color": color, "pattern": {"shape": pattern, **_PATTERN_STYLE}},
            hovertemplate=f"{says}: %{{x:,}} breaks<extra></extra>",
        )  # fmt: skip
    texts: list[str] = []
    for place, item in zip(places, classes, strict=True):
        beside = f"{count(item.nobody)} of them nobody's" if item.nobody and item.assigned else ""
        beside = "nobody has them" if item.nobody and not item.assigned else beside
        texts += [count(item.breaks), beside]
        figure.add_annotation(
            x=item.breaks, y=place, xanchor="left", xshift=6, showarrow=False,
            text=f"<b>{count(item.breaks)}</b>{'<br>' if beside else ''}{beside}", align="left",
            font={"color": INK if item.breaks else MUTED, "size": 12},
        )  # fmt: skip
    longest = max((item.breaks for item in classes), default=0)
    _style(figure, len(classes), [item.age for item in classes], longest, texts)
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title={"text": "open breaks", "font": {"size": 12, "color": MUTED}})
    return figure


def trend(past: Sequence[Past], expected: float | None = None) -> go.Figure:
    """Coverage of each full run, and beside it the precision of the rules that it decided by, where it is known."""
    figure = _lines()
    lines = [
        ("coverage", [item.coverage for item in past]),
        ("precision of its rules", [item.precision for item in past]),
    ]
    shares: list[float] = [] if expected is None else [expected]
    for place, (name, values) in enumerate(lines):
        known = [value for value in values if value is not None]
        if not known:
            continue
        shares += known
        _line(figure, place, name, past, values, f"{name} %{{y:.1%}}")
    for item, side in ((past[0], "right"), (past[-1], "left")) if past else ():
        if item.coverage is not None:
            figure.add_annotation(
                x=_time(item), y=item.coverage, text=f"<b>{percent(item.coverage)}</b>", showarrow=False, yshift=-14,
                xanchor="left" if side == "right" else "right",
            )  # fmt: skip
    if expected is not None:
        figure.add_hline(
            y=expected, line={"color": INK, "width": 1, "dash": "dot"},
            annotation_text=f"expected {percent(expected)}", annotation_position="bottom left",
            annotation_font={"size": 12, "color": MUTED},
        )  # fmt: skip
    low = min(shares, default=0)
    figure.update_yaxes(tickformat=".0%", range=[max(0, low - max(LEAST_ROOM, (1 - low) / 4)), 1 + LEAST_ROOM / 2])
    return figure


def open_records(past: Sequence[Past]) -> go.Figure:
    """How many records each full run left open, by outcome: one curve for each outcome that occurs."""
    figure = _lines()
    present = [name for name in OPEN if any(item.outcomes.get(name) for item in past)]
    for place, name in enumerate(present):
        values = [item.outcomes.get(name, 0) for item in past]
        _line(figure, place, f"{name} ({count(values[-1])})", past, values, f"{name} %{{y:,}} records", _FILLS[name])
    figure.update_yaxes(
        tickformat=",d", rangemode="tozero", title={"text": "records", "font": {"size": 12, "color": MUTED}}
    )
    return figure


def _lines() -> go.Figure:
    """An empty figure for curves over the times of runs."""
    import plotly.graph_objects as go

    axis: dict[str, Any] = {"gridcolor": GRID, "zeroline": False, "automargin": True, "fixedrange": True, "ticks": ""}
    font = {"size": 12, "color": MUTED}
    figure = go.Figure()
    figure.update_layout(
        template="none", font={"family": FONT, "size": 14, "color": INK}, height=LINE_PIXELS,
        margin={"l": 8, "r": 16, "t": 20, "b": 8}, showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"bgcolor": "#ffffff", "font": {"family": FONT, "color": INK}},
        xaxis={**axis, "type": "date", "tickfont": font, "title": {"text": "run, UTC", "font": font}},
        yaxis={**axis, "tickfont": font},
    )  # fmt: skip
    return figure


def _line(
    figure: go.Figure,
    place: int,
    name: str,
    past: Sequence[Past],
    values: Sequence[float | None],
    says: str,
    color: str = "",
) -> None:
    """One curve; curves differ in colour, dash and sign."""
    color = color or _CURVES[place % len(_CURVES)]
    figure.add_scatter(
        x=[_time(item) for item in past], y=list(values), mode="lines+markers", name=name,
        line={"color": color, "width": 2, "dash": _DASHES[place % len(_DASHES)]},
        marker={"size": 7, "symbol": _SIGNS[place % len(_SIGNS)], "color": color},
        customdata=[item.run for item in past], hovertemplate=f"%{{x}}: {says}<extra></extra>",
    )  # fmt: skip


def _time(item: Past) -> str:
    """The time of a run as plotly reads it; it knows no zones."""
    return f"{item.at:%Y-%m-%d %H:%M:%S}"


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


def _lines_of(label: str) -> str:
    """A long label in lines, which leave room for the bars on a phone."""
    return "<br>".join(textwrap.wrap(label, LABEL_LETTERS, break_long_words=False, break_on_hyphens=False)) or label


def _style(figure: go.Figure, bars: int, labels: Sequence[str], longest: float, texts: Sequence[str]) -> None:
    """The look of bars; to their right is room for the longest of the texts that stand beside them.

    That room is in pixels, for a share of the width is too little on paper and on a phone: a number would lose digits.
    """
    room = TEXT_EDGE_PIXELS * 2 + LETTER_PIXELS * max((len(text) for text in texts), default=0)
    axis: dict[str, Any] = {"zeroline": False, "automargin": True, "fixedrange": True}
    figure.update_layout(
        template="none",
        font={"family": FONT, "size": 14, "color": INK},
        height=EDGE_PIXELS + bars * BAR_PIXELS,
        margin={"l": 8, "r": room, "t": 20, "b": 8},
        showlegend=False,
        bargap=0,
        hoverlabel={"bgcolor": "#ffffff", "font": {"family": FONT, "color": INK}},
        xaxis={
            **axis, "range": [0, max(longest, 1)], "gridcolor": GRID, "tickformat": ",d" if longest < MANY else "~s", "dtick": _whole(longest),
            "tickfont": {"size": 12, "color": MUTED}, "ticks": "",
        },
        yaxis={
            **axis, "range": [bars - 0.5, -0.5], "tickvals": list(range(bars)), "ticktext": [_lines_of(label) for label in labels],
            "ticklabelstandoff": 10, "showgrid": False,
        },
    )  # fmt: skip


def _whole(longest: float) -> int | None:
    """Steps of an axis of counts: ones where it is short, for half a record rounds to a number that stands there twice."""
    return 1 if longest <= FEW else None
