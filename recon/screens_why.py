"""What the command line shows of one record, of a backtest, and of other tolerances."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from recon.matching.attempt import Attempt
from recon.matching.coverage import percent
from recon.matching.explain import Explanation
from recon.matching.precision import Backtest, f1_of
from recon.matching.side_by_side import Equality, Measured
from recon.matching.standing import Decided
from recon.matching.verdict import Candidate
from recon.matching.what_if import WhatIf
from recon.screens import console, table

_AGREES = {True: " ✓", False: " ≠", None: ""}
_WHEN = {True: "true", False: "false", None: "unknown: a value is empty"}


# -- one record ------------------------------------------------------------------------------------------


def explained(result: Explanation) -> None:
    """Why one record was decided as it was, pass by pass, with its nearest candidates side by side."""
    record = ", ".join(f"{name} {value}" for name, value in result.record.items() if value is not None)
    console.print(f"[bold]{escape(result.key)}[/]{escape(f': {record}') if record else ''}", soft_wrap=True)
    of_target = result.side == "target"
    if result.link is not None:
        mine, other = result.words
        to = "" if other == "record" else f"{other} "
        what = f"The {mine} is already linked to" if of_target else f"The {mine} is already taken by"
        console.print(escape(f"{what} {to}{result.link}, so no rule touches it."), soft_wrap=True)
    elif result.means:
        console.print(escape(f"{result.means[:1].upper()}{result.means[1:]}."), soft_wrap=True)
    if result.decided is not None:
        console.print(escape(_decided(result.decided)), soft_wrap=True)
    for item in result.overrides:
        partner = item.source_key if of_target else item.target_key
        said = {"link": f"linked to {partner}", "forbid": f"not linked to {partner}"}.get(item.kind, "left out")
        console.print(escape(f"{item.author} wants it {said}: {item.reason}"), soft_wrap=True)
    for item in result.passes:
        console.print(f"\n[bold]{escape(item.name)}[/] · {item.result}: {escape(item.sentence)}", soft_wrap=True)
        if item.candidates:
            _side_by_side(result.key, item.candidates, of_target)


def _decided(decided: Decided) -> str:
    """The latest run's decision in one sentence."""
    partner = f" with {decided.partner}" if decided.partner is not None else ""
    rule = f" by pass {decided.rule}" if decided.rule else ""
    reason = f", reason {decided.reason}" if decided.reason else ""
    reason += f" ({decided.because})" if decided.because and decided.reason else ""
    old = "; the rules were changed since" if decided.other_rules else ""
    return (
        f"Run {decided.run} ({decided.at:%Y-%m-%d %H:%M} UTC) decided: {decided.outcome}{partner}{rule}{reason}{old}."
    )


def _side_by_side(key: str, candidates: Sequence[Candidate], of_target: bool) -> None:
    """The record and its candidates, field by field; what differs is marked."""
    first = candidates[0]
    rows: list[list[object]] = [["", "", *[" ".join((_words(item), item.about)).strip() for item in candidates]]]

    def own(field: Equality | Measured) -> object:
        return field.target if of_target else field.source

    def theirs(field: Equality | Measured) -> object:
        value = field.source if of_target else field.target
        return "–" if value is None else value

    for place, field in enumerate(first.equalities):
        values = [item.equalities[place] for item in candidates]
        row: list[object] = [field.name, own(field), *[f"{theirs(value)}{_AGREES[value.agree]}" for value in values]]
        rows.append(row)
    for place, field in enumerate(first.windows):
        measured = [item.windows[place] for item in candidates]
        label = f"{field.name}, {field.tolerance}"
        row = [label, own(field), *[f"{theirs(value)}{_distance(value)}" for value in measured]]
        rows.append(row)
    if any(item.when is not True for item in candidates):
        rows.append(["condition", "", *[_WHEN[item.when] for item in candidates]])
    for name in first.shown:
        row = [name, "", *[item.shown[name] for item in candidates]]
        rows.append(row)
    if any(item.interpretation for item in candidates):
        rows.append(["in words", "", *[item.interpretation for item in candidates]])
    table(["", key, *[str(item.key) for item in candidates]], rows)


def _words(item: Candidate) -> str:
    return item.standing.replace("_", " ")


def _distance(value: Measured) -> str:
    if value.distance is None:
        return ""
    missed = f" ≠ misses by {value.missed_by}" if value.missed_by else " ✓"
    return f" ({value.distance} apart){missed}"


def attempted(name: str, result: Attempt) -> None:
    """What one pass says of two literal records."""
    said = "[green]a candidate[/]" if result.candidate else f"no candidate: {result.reason}"
    console.print(f"[bold]{escape(name)}[/] · {said}")
    rows: list[list[object]] = [[item.name, item.target, item.source, _EQUAL[item.agree]] for item in result.equalities]
    for item in result.windows:
        far = "a value is empty" if item.distance is None else f"{item.distance} apart"
        missed = f", misses by {item.missed_by}" if item.missed_by else ""
        rows.append([f"{item.name}, {item.tolerance}", item.target, item.source, f"{far}{missed}"])
    rows.append(["condition", "", "", _WHEN[result.when]])
    table(["", "target", "source", ""], rows)


_EQUAL = {True: "equal", False: "different", None: "a value is empty"}


# -- backtest --------------------------------------------------------------------------------------------


def backtested(result: Backtest, wrong_file: str | None) -> None:
    """What the rules found of what is known, pass by pass, and where they disagree with it."""
    known = result.known
    rows: list[list[object]] = []
    for item in result.passes:
        recall = item.recall(known)
        rows.append([
            item.name, f"{item.right:,}", f"{item.wrong:,}" if item.wrong else "",
            f"{item.proposed_right:,}" if item.proposed_right else "",
            f"{item.proposed_wrong:,}" if item.proposed_wrong else "",
            percent(item.precision), percent(recall), percent(f1_of(item.precision, recall)),
        ])  # fmt: skip
    rows.append([
        "whole, without a person", f"{result.found_right:,}", f"{result.found_wrong:,}",
        f"{result.proposed_right:,}", f"{result.proposed_wrong:,}", percent(result.precision),
        percent(result.recall), percent(result.f1),
    ])  # fmt: skip
    by = "links" if result.truth == "links" else result.truth
    title = f"{result.reconciliation}: {result.population:,} records, {known:,} with a known partner by {by}"
    headings = ["pass", "right", "wrong", "proposed right", "proposed wrong", "precision", "recall", "F1"]
    table(headings, rows, title, right="1234567")
    if result.not_found:
        said = ", ".join(f"{number:,} {outcome}" for outcome, number in result.not_found.items())
        console.print(f"Not found: {said}")
    if result.left_out:
        console.print(f"Left out: {result.left_out:,} known pairs with a record that takes no part")
    console.print(f"Known: {percent(result.share_known)} of the records; nothing is measured of the others")
    _wrong(result, wrong_file)


def _wrong(result: Backtest, wrong_file: str | None) -> None:
    number = result.found_wrong + result.proposed_wrong
    if wrong_file:
        console.print(f"{number:,} wrong pairs are in {escape(wrong_file)}", soft_wrap=True)
    elif result.wrong:
        console.print()
        rows = [[item.record, item.linked_to, item.rules_say, item.whose, item.rule] for item in result.wrong]
        table(["record", "linked to", "rules say", "which is linked to", "pass"], rows)
        if number > len(rows):
            console.print(f"{len(rows):,} of {number:,} wrong pairs. All of them: --wrong FILE.csv")


# -- other tolerances ------------------------------------------------------------------------------------


def what_if(result: WhatIf, only: str | None = None) -> None:
    """What each tolerance would give, with the difference to the present; `only`: the one pass that was asked for."""
    if not result.curves:
        whose = f"Pass {only} of {result.reconciliation}" if only else result.reconciliation
        console.print(f"{whose} has no window (`within`) to widen or narrow.")
    for curve in result.curves:
        rows = [
            [
                point.tolerance, f"{point.factor:g} ×", f"{point.matched:,}", f"{point.proposed:,}", f"{point.ambiguous:,}",
                f"+{point.gained:,}" if point.gained else "", f"−{point.lost:,}" if point.lost else "",
                f"{point.moved:,}" if point.moved else "",
                point.refused or ("← present" if point.factor == 1 else ""),
            ]
            for point in curve.points
        ]  # fmt: skip
        headings = ["tolerance", "", "matched", "proposed", "ambiguous", "gained", "lost", "other partner", ""]
        days = " (whole days: dates have no hours)" if curve.whole_days else ""
        table(headings, rows, f"{curve.rule}: {curve.window}, now {curve.tolerance}{days}", right="1234567")
        console.print()
