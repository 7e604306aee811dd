"""Why one record was decided as it was: pass by pass, and beside its nearest candidates, field by field.

The record may be of either side: where a spec compares, one of the other side without a partner is explained from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlglot import exp

from recon import expressions
from recon.database.connect import Database, Session
from recon.database.watched import Statement, watched
from recon.desk.explore import View
from recon.desk.explore_records import key_of, side_of
from recon.expressions import Expression
from recon.matching import breaks, explain, keys, pairs, side_by_side
from recon.matching.bound import Bound, BoundPass
from recon.matching.comparison import outcomes_alone
from recon.matching.explain import Explanation
from recon.matching.pairs import shown_key
from recon.matching.privacy import VEIL, hidden, veiled
from recon.matching.standing import Override
from recon.matching.verdict import Candidate, PassExplained
from recon.matching.windows import BoundWindow
from recon.names import DIALECT, Side, column
from recon.reports.tables import percent
from recon.spec_parts import OVERRIDE

SHOWN_CANDIDATES = 6  # side by side on one screen

Kind = Literal["same", "differs", "empty"]


@dataclass(frozen=True)
class Mark:
    """Whether a candidate's field is as a pass wants it, in words."""

    kind: Kind
    words: str


@dataclass(frozen=True)
class Step:
    """One pass for one record. `here` says that this pass decided it, or came closest where none did."""

    explained: PassExplained
    confidence: str
    reached: bool
    here: bool


@dataclass(frozen=True)
class Line:
    """One line of the comparison: the record's value, and each candidate's with a mark where a pass compares the two."""

    label: str
    record: Any
    values: tuple[Any, ...]
    marks: tuple[Mark | None, ...]
    varies: bool = False  # the candidates differ from one another here


@dataclass(frozen=True)
class Why:
    """A record's decision, pass by pass, and its candidates side by side."""

    key: str
    side: Side
    row: dict[str, Any]
    steps: tuple[Step, ...]
    candidates: tuple[Any, ...]
    roles: tuple[str, ...]
    lines: tuple[Line, ...]
    changed: str  # how the data differ from what the run saw; mostly nothing
    standing: tuple[Override, ...]  # what people decided about this record
    open_break: dict[str, Any] | None  # as `recon breaks` lists it; None where the record is none
    statements: tuple[Statement, ...] = field(default=(), repr=False)

    @property
    def word(self) -> str:
        """Which side the record is of: target or source."""
        return keys.WORDS[self.side]


def why(database: Database, view: View, row: dict[str, Any]) -> Why:
    """Explain one row of a page of records by the data as they are now.

    Raises:
        NotFound: the record no longer takes part.
    """
    side = side_of(view, row)
    bound = view.bound if side == view.bound.population else turned(view.bound)
    key = key_of(view, row, side)
    assert key is not None
    with database.session(read_only=True) as session:
        asking = watched(session)
        found = explain.explain(asking, bound, key)
        steps = _steps(bound, row, found)
        roles = _roles(asking, bound, row, found, [step for step in steps if step.reached])
        chosen = list(roles)[:SHOWN_CANDIDATES]
        lines = _lines(asking, bound, row, found, chosen)
        said = tuple(_seen(bound, item) for item in asking.said)
    listed = breaks.listed(database, bound.spec.name, only=[key])

    def same(text: str) -> bool:  # breaks keep every part of a composite key as text
        return text == key or (len(bound.keys(side)) > 1 and keys.in_array(text) == keys.in_array(key))

    return Why(
        key, side, row, steps, tuple(chosen), tuple(roles[item] for item in chosen), lines,
        _changed(bound, row, found) if side == view.bound.population else "", found.overrides,
        next((item for item in listed if item["side"] == keys.WORDS[side] and same(item["key"])), None), said,
    )  # fmt: skip


def _seen(bound: Bound, item: Statement) -> Statement:
    """A statement as people may see it: the record's own columns are bound to it, in their order. Else keys are."""
    names = explain.read_columns(bound)
    if len(item.values) != len(names):
        return item
    secret = [hidden(bound, column(bound.population, name)) for name in names]
    values = (VEIL if hides and value is not None else value for hides, value in zip(secret, item.values, strict=True))
    return Statement(item.sql, tuple(values))


def turned(bound: Bound) -> Bound:
    """The same rules read from the other side."""
    other = "source" if bound.population == "t" else "target"
    return replace(bound, spec=bound.spec.model_copy(update={"population": other}))


def _steps(bound: Bound, row: dict[str, Any], found: Explanation) -> tuple[Step, ...]:
    decided = None if row["outcome"] == "linked" else row["pass"]
    names = [item.name for item in found.passes]
    alone = row["outcome"] in (*outcomes_alone(bound), "orphan", "missing")
    last = names.index(decided) if decided in names and not alone else len(names) - 1
    return tuple(
        Step(item, percent(float(rule.confidence)), place <= last, item.name == decided)
        for place, (item, rule) in enumerate(zip(found.passes, bound.passes, strict=True))
    )


# -- what changed since the run --------------------------------------------------------------------------


def _changed(bound: Bound, row: dict[str, Any], found: Explanation) -> str:
    """How what the rules say now differs from the run's decision."""
    partner = _partner(bound, row)
    if found.link is not None:
        held = row["outcome"] in ("linked", "same", "changed", "invalid") and partner == found.link
        return "" if held else f"Since this run the record was linked: it holds {found.link} now."
    if bound.spec.cardinality == "one_to_one" or row["pass"] == OVERRIDE or found.overrides:
        return ""  # who takes whom depends on all other records, or on a person: only the next run tells
    outcome, source = _said(bound, found)
    was = row["outcome"]
    if bound.compared and was in ("same", "changed", *outcomes_alone(bound)):
        was = "matched" if partner is not None else "unmatched"
    if was not in ("excluded", "invalid") and (outcome, source) != (was, partner):
        said = f"{outcome} with {source}" if source is not None else outcome
        return f"The data changed since this run: the rules say {said} now. Match again to decide anew."
    return ""


def _partner(bound: Bound, row: dict[str, Any]) -> Any:
    return shown_key([row[name] for name in bound.key_names(bound.other)])


def _said(bound: Bound, found: Explanation) -> tuple[str, Any]:
    """What the rules say of a record that holds no link: the first pass that decides (design, section 4)."""
    for item, rule in zip(found.passes, bound.passes, strict=True):
        if item.result == "best":
            return ("proposed" if rule.rule.accept == "review" else "matched"), item.candidates[0].key
        if item.result == "tie" and rule.rule.on_tie == "review":
            return "ambiguous", None
    return "unmatched", None


# -- the candidates --------------------------------------------------------------------------------------


def _roles(
    session: Session, bound: Bound, row: dict[str, Any], found: Explanation, steps: Sequence[Step]
) -> dict[Any, str]:
    """Each candidate of these passes, and what it is in the first pass that found it; the partner comes first."""
    roles: dict[Any, str] = {}
    partner = _partner(bound, row)
    if partner is not None:
        held = row["outcome"] == "linked" or (found.link is not None and partner == found.link)
        if held or row["pass"] == OVERRIDE:
            roles[partner] = "linked" if held else "chosen by a person"
    for step in steps:
        rule = next(item for item in bound.passes if item.name == step.explained.name)
        tied = _tied(session, bound, row, rule, step.explained)
        for place, candidate in enumerate(step.explained.candidates):
            role = _role(rule, candidate, place, tied, step.explained)
            decisive = step.here and step.explained.result in ("best", "tie")
            if candidate.key not in roles or (decisive and roles[candidate.key] != "linked"):
                roles[candidate.key] = role
    # What the deciding pass chose or could not choose between stands first.
    first = ("linked", "chosen by a person", "chosen", "proposed", "tied")
    return dict(sorted(roles.items(), key=lambda item: item[1] not in first))


def _role(rule: BoundPass, candidate: Candidate, place: int, tied: set[Any], explained: PassExplained) -> str:
    if not candidate.holds:
        return "condition fails" if candidate.standing == "when_false" else candidate.standing.replace("_", " ")
    if explained.result == "tie":
        return "tied" if candidate.key in tied else "less preferred"
    if place:
        return "less preferred"
    return "proposed" if rule.rule.accept == "review" else "chosen"


def _tied(session: Session, bound: Bound, row: dict[str, Any], rule: BoundPass, explained: PassExplained) -> set[Any]:
    """The candidates that are as good as the first one on every term of `prefer`."""
    holding = [item.key for item in explained.candidates if item.holds]
    if explained.result != "tie" or not rule.prefer:
        return set(holding)
    terms = [term.tree.copy() for term in rule.prefer]
    found = _of_pairs(session, bound, row, holding, terms)
    return {key for key in holding if found.get(key) == found.get(holding[0])}


def _of_pairs(
    session: Session, bound: Bound, row: dict[str, Any], others: Sequence[Any], wanted: Sequence[exp.Expr]
) -> dict[Any, tuple[Any, ...]]:
    """The values of expressions over the record and each of these records of the other side, by their keys."""
    if not others:
        return {}
    mine, other = bound.population, bound.other
    values: list[object] = []

    def is_(side: Side, parts: Sequence[object]) -> exp.Expr:
        names = explain.key_columns(bound, side)
        tests: list[exp.Expr] = []
        for name, key, part in zip(names, bound.keys(side), parts, strict=True):
            values.append(str(part))
            text = exp.cast(exp.Parameter(this=exp.Literal.number(len(values))), "text")
            tests.append(exp.EQ(this=key, expression=exp.Cast(this=text, to=bound.relation[side].type_of(name))))
        return exp.and_(*tests)

    record = is_(mine, [row[name] for name in bound.key_names(mine)])
    composite = len(bound.keys(other)) > 1
    parts = [(keys.in_array(str(key)) or []) if composite else [key] for key in others]
    listed = exp.paren(exp.or_(*[is_(other, part) for part in parts]))
    query = (
        exp.Select(expressions=[*bound.keys(other), *wanted])
        .from_(bound.relation[mine].aliased(mine))
        .join(bound.relation[other].aliased(other), on=listed)
        .where(record)
    )
    number = len(bound.keys(other))
    found = session.rows(query.sql(DIALECT, pretty=True), *values)
    return {shown_key(item[:number]): tuple(item[number:]) for item in found}


# -- side by side ----------------------------------------------------------------------------------------


def _lines(
    session: Session, bound: Bound, row: dict[str, Any], found: Explanation, chosen: Sequence[Any]
) -> tuple[Line, ...]:
    """What passes compare and measure, what pairs must agree in, then what `show` names of record and candidates."""
    mine, other = bound.population, bound.other
    equalities: dict[tuple[str, str], tuple[exp.Expr, exp.Expr]] = {}
    for rule in bound.passes:
        for left, right, target, source in zip(
            rule.target_names, rule.source_names, rule.targets, rule.sources, strict=True
        ):
            equalities.setdefault((left, right), (target, source))
    windows = {
        (window.text, side_by_side.tolerance(window)): window for rule in bound.passes for window in rule.windows
    }
    agreeing = {
        (item.name, _source_name(bound, item.name)): item
        for item in bound.compared
        if (item.name, _source_name(bound, item.name)) not in equalities
    }
    labels = dict(zip(bound.spec.show, pairs.labels(bound.spec.show), strict=True))
    said = {f"t.{left}" for left, _ in agreeing} | {f"s.{right}" for _, right in agreeing}
    labels = {text: label for text, label in labels.items() if text not in said}
    of_other = [text for text in labels if other in _parsed(text).sides()]
    wanted: list[exp.Expr] = []
    for target, source in equalities.values():
        equal = exp.EQ(this=target.copy(), expression=source.copy())
        wanted += [veiled(bound, (source if other == "s" else target).copy(), target, source), equal]
    for window in windows.values():
        ends = (window.target, window.source) if mine == "t" else (window.source, window.target)
        wanted += [veiled(bound, end.copy(), *ends) for end in ends]
        wanted += [veiled(bound, tree) for tree in (window.distance(), window.missed_by())] + [window.inside()]
    for item in agreeing.values():
        ends = (item.target, item.source) if mine == "t" else (item.source, item.target)
        wanted += [veiled(bound, end.copy(), *ends) for end in ends]
        wanted.append(item.agrees())
    wanted += [veiled(bound, bound.resolve(_parsed(text))) for text in of_other]
    wanted.append(pairs.interpretation(bound))  # which comes with its veils
    rows = _of_pairs(session, bound, row, chosen, wanted)
    columns = list(zip(*[rows[key] for key in chosen if key in rows], strict=True)) or [()] * len(wanted)
    take = iter(columns)
    asked = {name: value for item in found.passes for name, value in item.asked.items()}
    lines: list[Line] = []
    for left, right in equalities:
        own = asked.get(left if mine == "t" else right)
        values, equal_to = next(take), next(take)
        lines.append(Line(side_by_side.label(left, right), own, values, tuple(_equality(e, own) for e in equal_to)))
    for (text, tolerance), window in windows.items():
        own, values, distances, misses, inside = (next(take) for _ in range(5))
        marks = tuple(
            _measure(is_in, *(_said_distance(window, item) for item in both))
            for is_in, *both in zip(inside, distances, misses, strict=True)
        )
        lines.append(Line(f"{text}, within {tolerance}", own[0] if own else None, values, marks))
    for left, right in agreeing:
        own, values, agree = next(take), next(take), next(take)
        marks = tuple(Mark("same", "same") if item else Mark("differs", "differs") for item in agree)
        lines.append(Line(side_by_side.label(left, right), own[0] if own else None, values, marks))
    nothing = ("",) * len(columns[0])
    unmarked = (None,) * len(columns[0])
    compared = {left if mine == "t" else right for left, right in equalities}
    for text, label in labels.items():
        if text not in of_other and text.removeprefix(f"{mine}.") not in compared:
            lines.append(Line(label, found.record.get(label), nothing, unmarked))
    for label in [*(labels[text] for text in of_other), "in words"]:
        values = next(take)
        varies = any(value != values[0] for value in values)
        if values and (label != "in words" or any(value is not None for value in values)):
            lines.append(Line(label, "", values, unmarked, varies))
    return tuple(lines)


def _source_name(bound: Bound, name: str) -> str:
    """What a compared column is compared with, as the spec writes it; a plain column by its name."""
    written = bound.spec.compare[name]
    return (written if isinstance(written, str) else written.source).removeprefix("s.")


def _parsed(text: str) -> Expression:
    return expressions.parse(text, "t")


def _equality(equal: bool | None, record: object) -> Mark:
    if equal is None:
        return Mark("empty", "record has none" if record is None or not str(record).strip() else "has none")
    return Mark("same", "same") if equal else Mark("differs", "differs")


def _said_distance(window: BoundWindow, distance: object) -> str | None:
    return distance if isinstance(distance, str) else side_by_side.in_words(window, distance)


def _measure(inside: bool | None, distance: str | None, missed: str | None) -> Mark:
    if inside is None:
        return Mark("empty", "not measured")
    if inside:
        return Mark("same", f"{distance} apart" if distance else "inside")
    return Mark("differs", f"misses by {missed}" if missed else "outside")
