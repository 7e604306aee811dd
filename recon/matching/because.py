"""Why a record has no partner, or is left alone, in one sentence: what its decision's evidence says, for people."""

from __future__ import annotations

import sqlglot
from sqlglot import exp

from recon.matching.bound import Bound, BoundPass
from recon.matching.privacy import VEIL, hidden
from recon.matching.statements import case
from recon.matching.windows import BoundWindow
from recon.names import DIALECT, Side, column

LABEL = "because"  # of the sentence, beside a decision


def called(bound: Bound, side: Side, otherwise: str = "") -> str:
    """What people call a record of this side; else a word of ours."""
    records = bound.spec.target if side == "t" else bound.spec.source
    return records.called or otherwise or ("target record" if side == "t" else "source record")


def because(bound: Bound) -> exp.Expr:
    """The sentence for the decision `d`; NULL where its reason says all there is.

    As people may see it: by how much a window over private columns was missed is veiled.
    """
    mine, other = called(bound, bound.population), called(bound, bound.other)
    linked = f"{called(bound, 't')} already linked to {called(bound, 's')} "
    held = f"{other} already taken by {mine} " if bound.other == "s" else linked
    whole = case(
        None,
        [
            (_is("outcome", "linked"), _said(linked, _shown(bound))),
            (_is("reason", "null_key"), _said(f"the {mine} has no ", _detail("'null'"))),
            (
                _is("reason", "taken"),
                _said(f"{other} already taken by {mine} ", _key("taken_by"), " in pass ", _detail("'taken_in'")),
            ),
            (_is("reason", "already_linked"), _said(held, _key("held_by"))),
            (_is("reason", "tie"), exp.Literal.string("equally good candidates: a person must choose")),
            (_is("reason", "no_candidate"), case(column("d", "pass"), [(_named(x), _lacking(x, other)) for x in bound.passes])),
            (_is("reason", "out_of_tolerance"), _said(f"nearest {other} is ", _missed(bound), " outside the window")),
        ],
    )  # fmt: skip
    return exp.paren(whole)


def _is(name: str, value: str) -> exp.Expr:
    return exp.EQ(this=column("d", name), expression=exp.Literal.string(value))


def _named(rule: BoundPass) -> exp.Expr:
    return exp.Literal.string(rule.name)


def _said(*parts: str | exp.Expr) -> exp.Expr:
    """The parts as one text; NULL where one of them is."""
    trees = [exp.Literal.string(part) if isinstance(part, str) else exp.paren(part) for part in parts]
    whole: exp.Expr = trees[0]
    for tree in trees[1:]:
        whole = exp.DPipe(this=whole, expression=tree)
    return whole


def _shown(bound: Bound) -> exp.Expr:
    """The key of the linked source, or nothing where the link leads nowhere: then there is no sentence."""
    return exp.cast(column("d", bound.key_names("s")[0]), "text")


def _detail(path: str) -> exp.Expr:
    """A detail of the pass that came closest, as text; `path` is our own."""
    return sqlglot.parse_one(f"""("d"."evidence" -> 'details' -> "d"."pass") ->> {path}""", dialect=DIALECT)


def _key(name: str) -> exp.Expr:
    """A key that the evidence holds: its one part, or all of them as a JSON array."""
    text = f"""
    CASE jsonb_array_length("d"."evidence" -> 'details' -> "d"."pass" -> '{name}')
        WHEN 1 THEN "d"."evidence" -> 'details' -> "d"."pass" -> '{name}' ->> 0
        ELSE "d"."evidence" -> 'details' -> "d"."pass" ->> '{name}' END
    """
    return sqlglot.parse_one(text, dialect=DIALECT)


def _lacking(rule: BoundPass, other: str) -> exp.Expr:
    if not rule.target_names:
        return exp.Literal.string(f"there is no {other} near")
    return exp.Literal.string(f"no {other} has its {' and '.join(rule.target_names)}")


def _missed(bound: Bound) -> exp.Expr:
    """By how much the nearest missed the windows of its pass."""
    passes: list[tuple[exp.Expr, exp.Expr]] = []
    for rule in bound.passes:
        parts: list[exp.Expr] = [
            exp.Literal.string(VEIL) if hidden(bound, window.target, window.source) else _by(window)
            for window in rule.windows
        ]
        if parts:
            joined = exp.Anonymous(this="concat_ws", expressions=[exp.Literal.string(" and "), *parts])
            empty = exp.Anonymous(this="nullif", expressions=[joined, exp.Literal.string("")])
            passes.append((_named(rule), empty))
    return case(column("d", "pass"), passes) if passes else exp.cast(exp.Null(), "text")


_TIME = """
    CASE WHEN missed <= INTERVAL '0' THEN NULL
        WHEN missed < INTERVAL '1 minute' THEN trim_scale(round(EXTRACT(epoch FROM missed), 3)) || ' seconds'
        WHEN missed = INTERVAL '1 minute' THEN '1 minute'
        WHEN missed < INTERVAL '2 days' THEN trim_scale(round(EXTRACT(epoch FROM missed) / 60, 1)) || ' minutes'
        ELSE trim_scale(round(EXTRACT(epoch FROM missed) / 86400, 1)) || ' days' END
"""


def _by(window: BoundWindow) -> exp.Expr:
    """How far outside of one window, in words; NULL where it was kept."""
    text = _filled(
        """"d"."evidence" -> 'details' -> "d"."pass" -> 'missed_by' ->> missed""", exp.Literal.string(window.text)
    )
    if window.family != "time":
        nothing = exp.Literal.string("0 days" if window.family == "date" else "0")
        return exp.Anonymous(this="nullif", expressions=[text, nothing])
    return _filled(_TIME, exp.cast(exp.paren(text), "interval"))


def _filled(template: str, value: exp.Expr) -> exp.Expr:
    """SQL of our own in which the name `missed` stands for this value."""

    def filled(node: exp.Expr) -> exp.Expr:
        return value.copy() if isinstance(node, exp.Column) and node.name == "missed" and not node.table else node

    return sqlglot.parse_one(template, dialect=DIALECT).transform(filled)
