"""The nearest records of the other side for one record, pass by pass: those with the pass's key, else almost with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from recon import expressions
from recon.database.connect import Session
from recon.matching import side_by_side
from recon.matching.bound import Bound, BoundPass
from recon.matching.pairs import interpretation, labels
from recon.matching.privacy import veiled
from recon.matching.reasons import NEARBY
from recon.names import DIALECT, Side, column, identifier

SHOWN = 5  # side by side on one screen; the counts say how many there are
LOOKED_AT = 1_000  # records with a pass's key that are looked at one by one; beyond, only the nearest count
MANY = 10_000  # records with a pass's key from which on only those inside its windows are sorted


@dataclass(frozen=True)
class Found:
    """What one pass finds among the other side's records, under their `where`."""

    rule: BoundPass
    met: int  # have the key
    holds: int  # and `when` is true
    candidates: int  # and lie within every window
    rows: tuple[dict[str, Any], ...]  # the nearest first
    by_key: bool  # whether these rows have the pass's key


def find(session: Session, alone: Bound, values: Sequence[object], asked: Sequence[Sequence[Any]]) -> list[Found]:
    """The nearest records for the record that stands alone on the population's side.

    Args:
        session: may be read-only.
        alone: the spec with that record in the place of its side.
        values: its parameters.
        asked: for each pass the record's own values of `on`.
    """
    complete = [rule for rule, own in zip(alone.passes, asked, strict=True) if None not in own]
    counts = _counts(session, alone, values, complete)
    found: list[Found] = []
    for rule in alone.passes:
        met, holds, candidates = counts.get(rule.name, (0, 0, 0))
        rows: list[dict[str, Any]] = []
        if met:
            rows = _with_key(session, alone, values, rule, met, candidates)
        elif len(rule.targets) > 1:
            rows = _almost(session, alone, values, rule)
        found.append(Found(rule, met, holds, candidates, tuple(rows), bool(met)))
    return found


def _counts(
    session: Session, alone: Bound, values: Sequence[object], rules: Sequence[BoundPass]
) -> dict[str, tuple[int, int, int]]:
    """For each pass how many have its key, satisfy `when`, and are candidates: one scan for all passes."""
    if not rules:
        return {}
    counted: list[exp.Expr] = []
    keys: list[exp.Expr] = []
    for rule in rules:
        parts = rule.equalities()
        keys.append(exp.and_(*parts) if parts else exp.true())
        for conditions in (parts, [*parts, *rule.conditions()], rule.candidate()):
            test = exp.and_(*conditions) if conditions else exp.true()
            counted.append(exp.Filter(this=exp.Count(this=exp.Star()), expression=exp.Where(this=test)))
    query = _from(alone, exp.Select(expressions=counted)).where(exp.or_(*keys), *alone.where(alone.other))
    numbers = session.rows(query.sql(DIALECT), *values)[0]
    return {rule.name: numbers[3 * place : 3 * place + 3] for place, rule in enumerate(rules)}


def _from(alone: Bound, select: exp.Select) -> exp.Select:
    """The record beside every record of the other side."""
    mine, other = alone.population, alone.other
    select = select.from_(alone.relation[mine].aliased(mine))
    return select.join(alone.relation[other].aliased(other), join_type="cross")


def _with_key(
    session: Session, alone: Bound, values: Sequence[object], rule: BoundPass, met: int, candidates: int
) -> list[dict[str, Any]]:
    """Records that have the key: candidates in the order of `prefer`, then those that came near."""
    key = rule.equalities()
    if met <= MANY or not rule.windows:
        return _rows(session, alone, values, rule, key)
    if candidates:
        return _rows(session, alone, values, rule, rule.candidate())
    near = [replace(w, before=w.before.times(NEARBY), after=w.after.times(NEARBY)).inside() for w in rule.windows]
    return _rows(session, alone, values, rule, [*key, *near]) or _rows(session, alone, values, rule, key)


def _almost(session: Session, alone: Bound, values: Sequence[object], rule: BoundPass) -> list[dict[str, Any]]:
    """Records that agree on some equality of the key: on most of them first."""
    agreeing: exp.Expr | None = None
    for part in rule.equalities():
        one = exp.Case(ifs=[exp.If(this=part, true=exp.Literal.number(1))], default=exp.Literal.number(0))
        agreeing = one if agreeing is None else exp.Add(this=agreeing, expression=one)
    assert agreeing is not None
    some = exp.paren(exp.or_(*rule.equalities()))
    order = [exp.Ordered(this=agreeing, desc=True, nulls_first=False)]
    if rule.windows:
        order.append(exp.Ordered(this=rule.windows[0].missed_by(), nulls_first=False))
    return _rows(session, alone, values, rule, [some], order, SHOWN)


def _rows(
    session: Session,
    alone: Bound,
    values: Sequence[object],
    rule: BoundPass,
    conditions: Sequence[exp.Expr],
    order: Sequence[exp.Ordered] = (),
    most: int = LOOKED_AT,
) -> list[dict[str, Any]]:
    """The nearest records under these conditions; `place` is the same for those that `prefer` holds equal."""
    other = alone.other
    keys = alone.keys(other)
    terms = [term.ordered() for term in rule.prefer]
    candidate = _holds(rule.candidate())
    nearest = order or [
        *[
            exp.Ordered(this=_holds(conditions), desc=True, nulls_first=False)
            for conditions in (rule.candidate(), rule.conditions())
            if conditions
        ],
        *[exp.Ordered(this=window.missed_by(), nulls_first=False) for window in rule.windows[:1]],
    ]
    select = exp.Select(
        expressions=[
            *[exp.alias_(key.copy(), f"key_{number}", quoted=True) for number, key in enumerate(keys)],
            *[
                exp.alias_(exp.cast(key.copy(), "text"), f"key_{number}_text", quoted=True)
                for number, key in enumerate(keys)
            ],
            exp.alias_(candidate, "candidate", quoted=True),
            *side_by_side.columns(alone, rule),
            *[exp.alias_(term.tree.copy(), f"prefer_{number}", quoted=True) for number, term in enumerate(rule.prefer)],
            *[
                exp.alias_(veiled(alone, alone.resolve(expressions.parse(text, "t"))), f"show_{number}", quoted=True)
                for number, text in enumerate(_shown(alone, other))
            ],
            exp.alias_(interpretation(alone), "interpretation", quoted=True),
        ]
    )
    select = _from(alone, select).where(*[part.copy() for part in conditions], *alone.where(other))
    by_key = [exp.Ordered(this=key, nulls_first=False) for key in keys]
    select = select.order_by(*nearest, *terms, *by_key).limit(most)
    places = [
        exp.Ordered(this=column("near", f"prefer_{number}"), desc=term.descending, nulls_first=term.nulls_first)
        for number, term in enumerate(rule.prefer)
    ]
    # Among a thousand rows the server itself says which are equal on every term.
    place = exp.Window(
        this=exp.Anonymous(this="rank", expressions=[]),
        partition_by=[column("near", "candidate")],
        order=exp.Order(expressions=places) if places else None,
    )
    query = exp.Select(
        expressions=[exp.Column(this=exp.Star(), table=identifier("near")), exp.alias_(place, "place", quoted=True)]
    ).from_(exp.Subquery(this=select, alias=exp.TableAlias(this=identifier("near"))))
    rows = session.records(query.sql(DIALECT), *values)
    names = [label for _, label in _labels(alone, other)]
    found: list[dict[str, Any]] = []
    for row in rows:
        row["other_key"] = tuple(row[f"key_{number}_text"] for number in range(len(keys)))
        row["key"] = tuple(row[f"key_{number}"] for number in range(len(keys)))
        row["shown"] = {name: row[f"show_{number}"] for number, name in enumerate(names)}
        found.append(row)
    return found


def _holds(conditions: Sequence[exp.Expr]) -> exp.Expr:
    if not conditions:
        return exp.true()
    return exp.Is(this=exp.paren(exp.and_(*[part.copy() for part in conditions])), expression=exp.true())


def _labels(alone: Bound, side: Side) -> list[tuple[str, str]]:
    """What `show` names that looks at this side, with the names people read."""
    texts = alone.spec.show
    return [
        (text, label)
        for text, label in zip(texts, labels(texts), strict=True)
        if side in expressions.parse(text, "t").sides()
    ]


def _shown(alone: Bound, side: Side) -> list[str]:
    return [text for text, _ in _labels(alone, side)]
