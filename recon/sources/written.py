"""The columns of a loaded target that a backfill writes: which they are, and of what type where the file lacks them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
from psycopg import errors as pg_errors
from sqlglot import exp

from recon import expressions
from recon.database import relations
from recon.database.connect import Session
from recon.database.relations import Relation
from recon.errors import NotLoaded, SchemaMismatch
from recon.expressions import Expression
from recon.names import DIALECT, quote
from recon.spec import Reconciliation


def names(specs: Sequence[Reconciliation]) -> list[str]:
    """What the links and actions of specs write into their target, beside what they compare, each once."""
    return list(dict.fromkeys(name for spec in specs for name, _ in _values(spec)))


def kind(session: Session, specs: Sequence[Reconciliation], name: str, target: Relation) -> str:
    """The type of a written column: that of the first value which a spec writes there.

    Args:
        session: a transaction, in which names mean what they mean to the user.
        specs: whose target it is.
        name: one of `names`.
        target: the columns that are known so far.

    Raises:
        NotLoaded: the source is not there yet, and its type is nowhere else.
        SchemaMismatch: the value cannot be had of the source and the target.
    """
    spec, value = next((spec, value) for spec in specs for column, value in _values(spec) if column == name)
    link = spec.link is not None and name == spec.link.column
    try:
        source = relations.records(session, spec, "s")
    except NotLoaded as error:
        key = spec.source.keys[0]
        if link and spec.source.columns.get(key):
            return spec.source.columns[key]
        error.why = f'{error.why} The column "{name}" of {spec.target.origin} takes its type from there.'
        raise
    tree = expressions.resolve(
        value,
        {"t": target.columns, "s": source.columns},
        {"t": spec.target.origin, "s": source.label},
    )
    found = _described(session, tree, target, source, name)
    if isinstance(tree, exp.Column):  # its length and precision too; those of a domain are its own
        declared = (target if tree.table == "t" else source).sql_types[tree.name]
        return declared if declared.startswith(found) else found
    return found


def _values(spec: Reconciliation) -> Iterator[tuple[str, Expression]]:
    """Each written column with the expression of its value."""
    if spec.link:
        yield spec.link.column, expressions.parse(quote(spec.source.keys[0]), "s")
        for name, text in spec.link.also.items():
            yield name, expressions.parse(text, "s")
    missing, changed, orphan = spec.backfill.missing, spec.backfill.changed, spec.backfill.orphan
    for item in changed.also if changed else ():
        for name, text in item.set.items():
            yield name, expressions.parse(text, "s", allow_now=True)
    for name, text in orphan.set.items() if orphan else ():
        yield name, expressions.parse(text, "t", allow_now=True)
    for name, text in missing.insert.items() if missing else ():
        if name not in spec.target.keys:
            yield name, expressions.parse(text, "s", allow_now=True)


def _described(session: Session, tree: exp.Expr, target: Relation, source: Relation, name: str) -> str:
    """The type of a value, as the server describes it; nothing is executed."""
    query = exp.Select(expressions=[exp.alias_(tree.copy(), "value", quoted=True)])
    query = query.from_(target.aliased("t")).join(source.aliased("s"), join_type="cross")
    try:
        with session.driver.transaction():
            return relations.described(session, query).sql_types["value"]
    except psycopg.Error as error:
        if isinstance(error, pg_errors.InsufficientPrivilege):
            raise
        raise SchemaMismatch(
            f'The column "{name}" cannot be made: PostgreSQL cannot use {tree.sql(DIALECT)}.',
            why=f"It says: {error.diag.message_primary}.",
            todo=f'Correct the expression, or give "{name}" a type under `columns` of the target.',
        ) from error
