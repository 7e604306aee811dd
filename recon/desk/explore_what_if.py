"""Other tolerances on the desk: a slider for each window, and what they would give beside the present."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from recon.database.connect import Database
from recon.desk.explore import View
from recon.desk.explore_view import bar, framed, plain
from recon.matching import what_if_at as asking
from recon.matching.what_if import FACTORS, Curve, WhatIf, what_if
from recon.matching.what_if_at import Slider, WhatIfAt
from recon.reports.tables import change, count, escape, records

STEPS = [float(factor) for factor in FACTORS]  # where a slider stops: times the present tolerance
_PRESENT = Decimal(1)


def sliders(view: View) -> dict[str, Slider]:
    """The windows of the rules, by a name for each."""
    return {f"{place}.{number}": item for item in asking.sliders(view.bound) for place, number in [item.place]}


def label(item: Slider) -> str:
    """What stands beside a slider, for a label, which reads markdown."""
    return f"{plain(item.rule)}: {plain(item.window.text)}"


def factors(view: View, values: Mapping[str, float]) -> dict[tuple[int, int], Decimal]:
    """How many times as wide as at present, for the windows whose sliders were moved."""
    found = {item.place: Decimal(str(values[name])) for name, item in sliders(view).items()}
    return {place: factor for place, factor in found.items() if factor != _PRESENT}


def tried(database: Database, view: View, values: Mapping[str, float], *, exactly: bool = False) -> WhatIfAt:
    """What these sliders would give; nothing is kept. Raises what matching raises."""
    return asking.what_if_at(database, view.bound.spec, factors(view, values), exactly=exactly)


def curve(database: Database, view: View) -> WhatIf:
    """Every window at every stop of its slider, one at a time, decided exactly."""
    return what_if(database, view.bound.spec)


def tolerances_html(view: View, values: Mapping[str, float]) -> str:
    """The tolerances that were chosen, in words, beside the present ones."""
    lines = ""
    for name, item in sliders(view).items():
        factor = Decimal(str(values[name]))
        now, then = item.at(_PRESENT), item.at(factor)
        said = (
            f"{escape(now)} <span class='quiet'>(as now)</span>"
            if factor == _PRESENT
            else f"{escape(now)} → <strong>{escape(then)}</strong> <span class='quiet'>({factor.normalize():f} ×)</span>"
        )
        days = " <span class='quiet'>Dates have no hours: whole days.</span>" if item.window.family == "date" else ""
        lines += f"<tr><th scope='row'>{escape(item.rule)}: {escape(item.window.text)}</th><td>{said}{days}</td></tr>"
    head = "<th scope='col'>window</th><th scope='col'>tolerance</th>"
    return framed(f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>")


def result_html(view: View, found: WhatIfAt) -> str:
    """The numbers at the present and at the chosen tolerances, and a few records that would change."""
    if found.refused:
        return framed(f"<p><strong>These tolerances cannot be tried.</strong> {escape(found.refused)}</p>")
    about = "about " if found.estimated else ""
    lines = ""
    for word, now, then in (
        ("✓ matched", found.present.matched, found.then.matched),
        ("? proposed", found.present.proposed, found.then.proposed),
        ("≈ ambiguous", found.present.ambiguous, found.then.ambiguous),
    ):
        lines += (
            f"<tr><th scope='row'>{word}</th><td class='number'>{count(now)}</td>"
            f"<td class='number'>{count(then)}</td><td class='number'>{change(then - now)}</td></tr>"
        )
    head = "<th scope='col'></th>" + "".join(
        f"<th scope='col' class='number'>{word}</th>" for word in ("at present", "then", "change")
    )
    told = [
        f"<strong>{about}{count(number)}</strong> {word}"
        for number, word in (
            (found.gained, "gained: neither matched nor proposed at present"),
            (found.lost, "lost: neither matched nor proposed then"),
            (found.moved, "moved to another partner"),
        )
    ]
    listed = "".join(
        f"<p>{word}, for example: {escape(', '.join(str(key) for key in keys))}</p>"
        for word, keys in (("Gained", found.gained_keys), ("Lost", found.lost_keys))
        if keys
    )
    of = (
        f"Estimated from {count(found.looked_at)} of {records(found.population)}; “Count exactly” looks at all of them."
        if found.estimated
        else f"All {records(found.population)} were decided."
    )
    return framed(
        f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
        f"<p>{' · '.join(told)}</p>{listed}<p class='quiet'>{of} Nothing was kept.</p>"
    )


def curve_html(found: WhatIf) -> str:
    """Every window at every stop, one at a time: how many records match, as bars on any page."""
    return framed("".join(_curve(item) for item in found.curves))


def _curve(item: Curve) -> str:
    most = max((point.matched for point in item.points), default=0)
    lines = ""
    for point in item.points:
        present = point.factor == 1
        said = " <span class='quiet'>(as now)</span>" if present else ""
        numbers = (
            f"<td class='number'>{count(point.matched)}</td><td class='number'>{change(point.gained - point.lost)}</td>"
        )
        drawn = bar(point.matched, most, "good" if present else "none")
        if point.refused:
            numbers, drawn = f"<td colspan='3'>{escape(point.refused)}</td>", ""
        lines += (
            f"<tr><th scope='row'>{escape(point.tolerance)}{said}</th>"
            f"<td class='number'>{point.factor:g} ×</td>{numbers}{drawn}</tr>"
        )
    head = (
        "<th scope='col'>tolerance</th><th scope='col' class='number'>times</th>"
        "<th scope='col' class='number'>matched</th><th scope='col' class='number'>change</th><th class='wide'></th>"
    )
    name = f"{escape(item.rule)}: {escape(item.window)}"
    return (
        f"<p><strong>{name}</strong>, the other windows as now</p>"
        f"<table class='bars'><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    )
