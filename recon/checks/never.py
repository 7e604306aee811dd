"""Queries that find what must never be: one for each name of `expect.never`, over the target or over a query of its own."""

from __future__ import annotations

from sqlglot import exp

from recon import expressions
from recon.checks.pairs import RECORD
from recon.database import relations
from recon.database.connect import Session
from recon.matching.bound import Bound
from recon.names import DIALECT, column, identifier
from recon.spec_expect import Never
from recon.spec_parts import RecordSet


def relation_name(name: str) -> str:
    """What a suite calls the records that a rule finds; the prefix keeps it apart from tables."""
    return f"never_{name}"


def finding(session: Session, bound: Bound) -> dict[str, exp.Select]:
    """By the name of each rule, the query of the records that it finds: their keys as text, in the column `record`.

    Raises:
        SchemaMismatch: a table or column is missing.
        SpecError: a query calls a function that is volatile.
    """
    if not bound.spec.expect.never:
        return {}
    session.users_path()
    found = {name: _finding(session, bound, rule) for name, rule in bound.spec.expect.never.items()}
    session.plain_path()
    return found


def _finding(session: Session, bound: Bound, rule: Never) -> exp.Select:
    relation, keys = bound.target, bound.spec.target.keys
    if rule.query is not None:
        asked = RecordSet.model_validate({"query": rule.query, "key": rule.key})
        # Only the target is looked at; the spec lends its name to errors.
        relation = relations.records(session, bound.spec.model_copy(update={"target": asked}), "t")
        keys = asked.keys
    when = expressions.resolve(
        expressions.parse(rule.when, "t", allow_now=True),
        {"t": relation.columns, "s": {}},
        {"t": relation.label, "s": "the source"},
    )
    parts: list[exp.Expr] = [exp.cast(column("t", name), "text") for name in keys]
    record = parts[0] if len(parts) == 1 else _as_json(parts)
    query = exp.Select(expressions=[exp.alias_(record, RECORD, quoted=True)])
    return query.from_(relation.aliased("t")).where(when)


def _as_json(parts: list[exp.Expr]) -> exp.Expr:
    return exp.cast(exp.Anonymous(this="jsonb_build_array", expressions=parts), "text")


def examples(session: Session, query: exp.Select, limit: int) -> tuple[str, ...]:
    """The keys of the first records that a rule finds."""
    inner = exp.Subquery(this=query.copy(), alias=exp.TableAlias(this=identifier("found")))
    record = column("found", RECORD)
    first = exp.Select(expressions=[record]).from_(inner).order_by(expressions.collate(record.copy())).limit(limit)
    return tuple(str(row[0]) for row in session.rows(first.sql(DIALECT)))
