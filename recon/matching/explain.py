"""Why? One record, pass by pass: what it asked for, which candidates there are, what stands in the way.

Also the other way round: what the rules would decide for a record that is not in any table (INV-08).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import errors as pg_errors
from sqlglot import exp

from recon import expressions
from recon.database.connect import Session
from recon.database.relations import Relation
from recon.errors import NotFound, UsageError
from recon.matching import statements
from recon.matching.bind import bind
from recon.matching.bound import Bound, BoundPass, key_names
from recon.matching.pairs import labels
from recon.names import DIALECT, column
from recon.spec import Reconciliation

SHOWN_CANDIDATES = 5  # side by side on one screen; the count says how many there are


@dataclass(frozen=True)
class Candidate:
    """A source record that has the pass's key: whether the pass's conditions hold, and what people see of it."""

    source_key: Any
    holds: bool
    shown: Mapping[str, Any]


@dataclass(frozen=True)
class PassExplained:
    """One pass for one record: a word for the result, a sentence, and the candidates in the order of `prefer`."""

    name: str
    result: str  # best, tie, when_false, no_candidate or null_key
    sentence: str
    asked: Mapping[str, Any]
    candidates: tuple[Candidate, ...] = field(default=())
    found: int = 0


@dataclass(frozen=True)
class Explanation:
    """One target record: what people see of it, the link it holds, and every pass."""

    key: str
    record: Mapping[str, Any]
    link: Any
    passes: tuple[PassExplained, ...]


def explain(session: Session, bound: Bound, key: str) -> Explanation:
    """Explain one target record by its key (a composite key as a JSON array).

    Raises:
        NotFound: no record under the target's `where` has this key.
        UsageError: the key cannot be read as one of the target's keys.
    """
    parts = _key_parts(bound, key)
    _readable(session, bound, key, parts)
    shown = [text for text in bound.spec.show if expressions.parse(text, "t").sides() <= {"t"}]
    record = (
        exp.Select(
            expressions=[
                *([exp.alias_(bound.link, "link", quoted=True)] if bound.link is not None else []),
                *_shown(bound, shown),
            ]
        )
        .from_(bound.target.aliased("t"))
        .where(*_is_record(bound), *([bound.target_where.copy()] if bound.target_where is not None else []))
    )
    found = session.records(record.sql(DIALECT), *parts)
    if not found:
        raise NotFound(f"{bound.target.label} has no record {key} that takes part.", todo="Check the key.")
    row = found[0]
    link = row.pop("link", None)
    return Explanation(key, row, link, tuple(_pass(session, bound, rule, parts) for rule in bound.passes))


def _key_parts(bound: Bound, key: str) -> list[str]:
    names = bound.spec.target.keys
    if len(names) == 1:
        return [key]
    try:
        parts = json.loads(key)
    except ValueError:
        parts = None
    if not isinstance(parts, list) or len(parts) != len(names):
        raise UsageError(
            f"Cannot read {key} as a key.", todo=f"Give a JSON array of {len(names)} values: {', '.join(names)}."
        )
    return [str(part) for part in parts]


def _key_values(bound: Bound) -> list[exp.Expr]:
    """The parameters, which come as text, cast to the types of the target's key."""
    return [
        exp.cast(exp.cast(exp.Parameter(this=exp.Literal.number(number)), "text"), bound.target.type_of(name))
        for number, name in enumerate(bound.spec.target.keys, start=1)
    ]


def _readable(session: Session, bound: Bound, key: str, parts: Sequence[str]) -> None:
    """Refuse a key that its type cannot hold. Asked on its own, so that no other error is taken for this one."""
    query = exp.Select(expressions=_key_values(bound)).sql(DIALECT)
    try:
        with session.driver.transaction():  # a savepoint: the session stays usable after an error
            session.rows(query, *parts)
    except (psycopg.DataError, pg_errors.CheckViolation, pg_errors.NotNullViolation, UnicodeEncodeError) as error:
        kinds = [f"{name} is {bound.target.sql_types[name]}" for name in bound.spec.target.keys]
        raise UsageError(
            f"{key!r} is not a key of {bound.target.label}.", why=f"There {' and '.join(kinds)}.", todo="Check the key."
        ) from error


def _is_record(bound: Bound) -> list[exp.Expr]:
    """The target's key equals the parameters."""
    return [
        exp.EQ(this=column("t", name), expression=value)
        for name, value in zip(bound.spec.target.keys, _key_values(bound), strict=True)
    ]


def _shown(bound: Bound, texts: Sequence[str]) -> list[exp.Expr]:
    return [
        exp.alias_(bound.resolve(expressions.parse(text, "t")), label, quoted=True)
        for text, label in zip(texts, labels(texts), strict=True)
    ]


def _pass(session: Session, bound: Bound, rule: BoundPass, key: Sequence[str]) -> PassExplained:
    asked_query = exp.Select(
        expressions=[exp.alias_(part.copy(), f"asked_{n}", quoted=True) for n, part in enumerate(rule.targets)]
    )
    asked_row = session.rows(asked_query.from_(bound.target.aliased("t")).where(*_is_record(bound)).sql(DIALECT), *key)
    asked = dict(zip(rule.target_names, asked_row[0], strict=True))
    nulls = [name for name, value in asked.items() if value is None]
    if nulls:
        return PassExplained(rule.name, "null_key", f"The record has no {' and no '.join(nulls)}.", asked)

    rows = _candidates(session, bound, rule, key)
    said = ", ".join(f"{name} {value}" for name, value in asked.items())
    if not rows:
        return PassExplained(rule.name, "no_candidate", f"No source record has {said}.", asked)
    candidates = tuple(
        Candidate(row["source_key"], bool(row["holds"]), {k: v for k, v in row.items() if k not in _OWN})
        for row in rows
    )
    found = int(rows[0]["found"])
    first = rows[0]
    if not first["holds"]:
        why = f"{found} with {said}, but the condition does not hold: {rule.rule.when}."
        return PassExplained(rule.name, "when_false", why, asked, candidates, found)
    if first["equals"] > 1:
        why = f"{first['equals']} candidates with {said} are equally good."
        return PassExplained(rule.name, "tie", why, asked, candidates, found)
    others = f", the best of {found}" if found > 1 else ""
    verb = "would propose" if rule.rule.accept == "review" else "links to"
    why = f"{said}: {verb} {first['source_key']}{others}."
    return PassExplained(rule.name, "best", why, asked, candidates, found)


_OWN = ("source_key", "holds", "found", "equals")


def _candidates(session: Session, bound: Bound, rule: BoundPass, key: Sequence[str]) -> list[dict[str, Any]]:
    """Source records with the pass's key, best first; `holds` says whether `when` holds for them too."""
    conditions = [*rule.when_target, *rule.when_source, *rule.when_both]
    holds: exp.Expr = (
        exp.Is(this=exp.paren(exp.and_(*[part.copy() for part in conditions])), expression=exp.true())
        if conditions
        else exp.true()
    )
    equal = [
        exp.EQ(this=left.copy(), expression=right.copy())
        for left, right in zip(rule.targets, rule.sources, strict=True)
    ]
    shown = [text for text in bound.spec.show if expressions.parse(text, "t").sides() <= {"s"}]
    order = exp.Order(expressions=[term.ordered() for term in rule.prefer]) if rule.prefer else None
    query = exp.Select(
        expressions=[
            exp.alias_(bound.source_keys[0], "source_key", quoted=True),
            exp.alias_(holds, "holds", quoted=True),
            exp.alias_(exp.Window(this=exp.Count(this=exp.Star())), "found", quoted=True),
            exp.alias_(
                exp.Window(
                    this=exp.Count(this=exp.Star()), partition_by=[holds.copy()] if conditions else [], order=order
                ),
                "equals",
                quoted=True,
            ),
            *_shown(bound, shown),
        ]
    )
    query = query.from_(bound.target.aliased("t")).join(bound.source.aliased("s"), on=exp.and_(*equal))
    where = [bound.source_where.copy()] if bound.source_where is not None else []
    query = query.where(*_is_record(bound), *where)
    query = query.order_by(
        *([exp.Ordered(this=holds.copy(), desc=True)] if conditions else []),
        *[term.ordered() for term in rule.prefer],
        *[exp.Ordered(this=part, nulls_first=False) for part in bound.source_keys],
    )
    return session.records(query.limit(SHOWN_CANDIDATES).sql(DIALECT), *key)


# -- a record that is in no table ------------------------------------------------------------------------


@dataclass(frozen=True)
class Decision:
    """What the rules decide for one record."""

    outcome: str
    source_key: Any
    rule: str | None
    confidence: Decimal | None


def decide_record(session: Session, spec: Reconciliation, values: Mapping[str, Any]) -> Decision:
    """What the passes of a spec decide for one literal target record; columns not given are NULL.

    The record is taken to satisfy the target's `where` and to hold no link. The statement is the very one
    that a run uses, with the record in the target's place.

    Raises:
        UsageError: a column is not one of the target's.
    """
    if spec.cardinality == "one_to_one":
        raise UsageError(
            f"{spec.name} is one_to_one.", why="There a record's partner depends on all other records.",
            todo="Try one pass on two records with recon.matching.attempt.",
        )  # fmt: skip
    bound = bind(session, spec)
    table = bound.target
    unknown = sorted(set(values) - set(table.columns))
    if unknown:
        raise UsageError(f"{table.label} has no column {unknown[0]}.")
    parameters = {name: number for number, name in enumerate(values, start=1)}

    def literal(name: str) -> exp.Expr:
        value = exp.Parameter(this=exp.Literal.number(parameters[name])) if name in parameters else exp.Null()
        return exp.alias_(exp.cast(value, table.type_of(name)), name, quoted=True)

    record: Relation = replace(table, tree=exp.Select(expressions=[literal(name) for name in table.columns]), oid=None)
    statement = statements.decisions(replace(bound, target=record, target_where=None))
    row = session.records(statement.sql(DIALECT), *values.values())[0]
    source = [row[name] for name in key_names("source_key", len(bound.source_keys))]
    return Decision(row["outcome"], source[0] if len(source) == 1 else tuple(source), row["pass"], row["confidence"])
