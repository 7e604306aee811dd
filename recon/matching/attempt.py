"""Rules tried on literal records, without any table: for notebooks, tests, and questions at a desk.

>>> from datetime import UTC, datetime
>>> from recon.spec import Pass
>>> rule = Pass.model_validate({
...     "name": "place_and_time", "on": {"place": "address"},
...     "within": {"target": "cleaned_at", "source": "starts_at", "tolerance": "1 hour"},
... })
>>> target = {"place": "A7", "cleaned_at": datetime(2025, 3, 30, 11, 0, tzinfo=UTC)}
>>> source = {"address": "A7", "starts_at": datetime(2025, 3, 30, 12, 15, tzinfo=UTC)}
>>> tried = attempt(session, rule, target, source)  # an open session; nothing is written
>>> tried.candidate, tried.reason, tried.windows[0].missed_by
(False, 'out_of_tolerance', '15 minutes')
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from sqlglot import exp

from recon.database.connect import Session
from recon.database.relations import Relation
from recon.errors import NotFound, UsageError, did_you_mean
from recon.expressions import Expression
from recon.expressions import parse as parse_expression
from recon.matching import side_by_side, statements
from recon.matching.bind import bind, bind_to
from recon.matching.bound import Bound, BoundPass, key_names
from recon.matching.literal import in_place_of, literal
from recon.matching.pool import SIDES
from recon.matching.side_by_side import Equality, Measured, Pair
from recon.names import DIALECT, Side
from recon.spec import Reconciliation
from recon.spec_parts import Pass

_WORDS: dict[str, Side] = {"target": "t", "source": "s"}
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1  # of bigint; larger whole numbers are numeric


@dataclass(frozen=True)
class Attempt:
    """What one pass says of two records."""

    candidate: bool
    reason: str | None  # why not: null_key, no_candidate, out_of_tolerance or when_false
    equalities: tuple[Equality, ...]
    windows: tuple[Measured, ...]
    when: bool | None  # None: the condition is NULL, so it does not hold

    def as_dict(self) -> dict[str, Any]:
        """The document of `recon try --json`."""
        return asdict(self)


def attempt(session: Session, rule: Pass, target: Mapping[str, Any], source: Mapping[str, Any]) -> Attempt:
    """Try one pass on two literal records. No table is read and nothing is written.

    Values are bound with the type that Python gives them: int as bigint, Decimal as numeric, float as double precision,
    str as text, bool, date, aware datetime as timestamptz and naive as timestamp, timedelta as interval, UUID as uuid.
    None, and a column that the pass names and the record lacks, is NULL of the type on the other side, else of text.

    Args:
        session: any open session, read-only too.
        rule: the pass.
        target: the target's record, column to value.
        source: the source's record.

    Raises:
        UsageError: a value has none of these types.
        SchemaMismatch: the types of both sides differ, or an expression cannot be used on them.
    """
    given: dict[Side, Mapping[str, Any]] = {"t": target, "s": source}
    kinds = _kinds(rule, given)
    relations: dict[Side, Relation] = {side: _relation(side, kinds[side]) for side in SIDES}
    # The tables that the sides name are never read.
    sides = {word: {"table": word, "key": next(iter(kinds[side]), "id")} for word, side in _WORDS.items()}
    spec = Reconciliation.model_validate({"name": "attempt", **sides, "passes": [rule]})
    typed = {side: literal(relation, (), None) for side, relation in relations.items()}
    bound = bind_to(session, spec, typed["t"], typed["s"])
    for side, relation in relations.items():
        first = 1 if side == "t" else len(kinds["t"]) + 1
        bound = in_place_of(bound, side, literal(relation, list(kinds[side]), first))
    return _tried(session, bound, bound.passes[0], [given[side].get(name) for side in SIDES for name in kinds[side]])


def attempt_typed(
    session: Session, spec: Reconciliation, name: str, target: Mapping[str, Any], source: Mapping[str, Any]
) -> Attempt:
    """The same with one pass of a spec and the types of its own columns; values come as JSON has them.

    Raises:
        NotFound: the spec has no such pass.
        UsageError: a column is not one of its side's, or a value cannot be read as its type.
        SchemaMismatch: the spec does not fit the database.
    """
    names = [item.name for item in spec.passes]
    if name not in names:
        raise NotFound(
            f"{spec.name} has no pass {name}.", why=did_you_mean(name, names), todo=f"Its passes: {', '.join(names)}."
        )
    bound = bind(session, spec, shows_private=True)  # no value of any record: who asks wrote them down
    given: dict[Side, Mapping[str, Any]] = {"t": target, "s": source}
    values: list[str | None] = []
    for side in SIDES:
        relation = bound.relation[side]
        unknown = sorted(set(given[side]) - set(relation.columns))
        if unknown:
            raise UsageError(
                f"{relation.label} has no column {unknown[0]}.", why=did_you_mean(unknown[0], relation.columns)
            )
        first = len(values) + 1
        names = [*given[side], *(column for column in relation.columns if column not in given[side])]
        values += [_as_text(given[side].get(column)) for column in names]
        bound = in_place_of(bound, side, literal(relation, names, first))
    rule = next(item for item in bound.passes if item.name == name)
    try:
        return _tried(session, bound, rule, values)
    except psycopg.DataError as error:
        raise UsageError(
            f"A value cannot be read: {error.diag.message_primary}.", todo="Check the values against the columns."
        ) from error


def _as_text(value: object) -> str | None:
    return json.dumps(value) if isinstance(value, bool) else None if value is None else str(value)


def _tried(session: Session, bound: Bound, rule: BoundPass, values: Sequence[object]) -> Attempt:
    query = exp.Select(expressions=side_by_side.columns(bound, rule)).from_(bound.target.aliased("t"))
    query = query.join(bound.source.aliased("s"), join_type="cross")
    pair = side_by_side.read(rule, session.records(query.sql(DIALECT), *values)[0])
    reason = _reason(pair)
    return Attempt(reason is None, reason, pair.equalities, pair.windows, pair.when)


def _reason(pair: Pair) -> str | None:
    """Why the source is no candidate for the target, as the reasons of a run are called; None: it is one."""
    if pair.candidate:
        return None
    if any(item.target is None for item in pair.equalities):
        return "null_key"
    if not all(item.agree for item in pair.equalities):
        return "no_candidate"
    return "out_of_tolerance" if pair.when else "when_false"


# -- types from values -----------------------------------------------------------------------------------


def _kind(value: object, name: str) -> str | None:
    """The PostgreSQL type of a Python value; None of None."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return "timestamptz" if value.tzinfo is not None else "timestamp"
    if isinstance(value, int) and not isinstance(value, bool):
        return "int8" if _SMALLEST <= value <= _LARGEST else "numeric"
    for kind, name_of_kind in _KINDS:
        if isinstance(value, kind):
            return name_of_kind
    raise UsageError(
        f"{name} is a {type(value).__name__}.",
        why="A record's values are numbers, text, true or false, dates, times, intervals or UUIDs.",
        todo="Convert it.",
    )


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "bool"), (Decimal, "numeric"), (float, "float8"), (str, "text"), (date, "date"), (timedelta, "interval"),
    (UUID, "uuid"),
)  # fmt: skip


def _kinds(rule: Pass, given: Mapping[Side, Mapping[str, Any]]) -> dict[Side, dict[str, str]]:
    """The type of every column that is given or named."""
    known: dict[Side, dict[str, str | None]] = {
        side: {name: _kind(value, name) for name, value in record.items()} for side, record in given.items()
    }
    pairs = list(rule.pairs)
    pairs += [(parse_expression(w.target, "t"), parse_expression(w.source, "s")) for w in rule.windows]
    named = [part for pair in pairs for part in pair]
    if rule.when:
        named.append(parse_expression(rule.when, "t"))
    named += [term.expression for term in rule.preferences if term.expression is not None]
    for part in named:
        for node in exp.Paren(this=part.tree.copy()).find_all(exp.Column):
            side: Side = "t" if node.table == "t" else "s"
            columns = known[side]
            name = node.name if node.this.args.get("quoted") or node.name in columns else node.name.lower()
            columns.setdefault(name)
    for left, right in pairs:  # NULL is of the type on the other side
        names = _column_of(left, known["t"]), _column_of(right, known["s"])
        if names[0] is not None and names[1] is not None:
            kinds = known["t"][names[0]], known["s"][names[1]]
            known["t"][names[0]], known["s"][names[1]] = kinds[0] or kinds[1], kinds[1] or kinds[0]
    return {side: {name: kind or "text" for name, kind in columns.items()} for side, columns in known.items()}


def _column_of(expression: Expression, known: Mapping[str, object]) -> str | None:
    """The column that an expression is, and nothing else."""
    tree = expression.tree
    if not isinstance(tree, exp.Column):
        return None
    return tree.name if tree.name in known else tree.name.lower()


_SQL_TYPES = {
    "int8": "bigint", "float8": "double precision", "bool": "boolean", "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
}  # fmt: skip


def _relation(side: Side, kinds: Mapping[str, str]) -> Relation:
    label = "the target's record" if side == "t" else "the source's record"
    sql_types = {name: _SQL_TYPES.get(kind, kind) for name, kind in kinds.items()}
    return Relation(side, label, exp.Select(), kinds, sql_types)


# -- all passes on one record ----------------------------------------------------------------------------


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
        UsageError: a column is not one of the target's, or the spec is one_to_one.
    """
    if spec.cardinality == "one_to_one":
        raise UsageError(
            f"{spec.name} is one_to_one.", why="There a record's partner depends on all other records.",
            todo="Try one pass on two records with recon.matching.attempt.",
        )  # fmt: skip
    bound: Bound = bind(session, spec)
    table = bound.target
    unknown = sorted(set(values) - set(table.columns))
    if unknown:
        raise UsageError(f"{table.label} has no column {unknown[0]}.")
    names = [*values, *(name for name in table.columns if name not in values)]
    record = literal(table, names)
    nothing = [None] * (len(names) - len(values))
    statement = statements.decisions(in_place_of(bound, "t", record))
    row = session.records(statement.sql(DIALECT), *values.values(), *nothing)[0]
    source = [row[name] for name in key_names("source_key", len(bound.source_keys))]
    return Decision(row["outcome"], source[0] if len(source) == 1 else tuple(source), row["pass"], row["confidence"])
