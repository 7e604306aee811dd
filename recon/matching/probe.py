"""Values of both sides beside an error of `on`: a column that is absent, or of another type, is seen at once (CRM-16)."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from recon import expressions
from recon.allowed import shortened
from recon.database import relations
from recon.database.connect import Session
from recon.database.relations import Relation
from recon.errors import VEIL, ReconError, SchemaMismatch
from recon.expressions import Expression
from recon.matching.profile_statements import PROBES
from recon.names import DIALECT, Side, column
from recon.spec import Reconciliation

_NAMES: Mapping[Side, str] = {"t": "target", "s": "source"}


def with_values(
    session: Session, spec: Reconciliation, error: SchemaMismatch, *, shows_private: bool = False
) -> SchemaMismatch:
    """The error, with ten values of each side where it is about an `on` equality of some pass; else the error itself.

    Args:
        session: the transaction in which binding failed.
        spec: the reconciliation.
        error: why it does not fit the database.
        shows_private: whether values of private columns may be seen.
    """
    try:
        found = _values(session, spec, error, shows_private)
    except ReconError:  # a side has no records to look at: that is the error already
        return error
    return type(error)(error.what, why=f"{error.why} {found}".strip(), todo=error.todo) if found else error


def _values(session: Session, spec: Reconciliation, error: SchemaMismatch, shows_private: bool) -> str:
    session.users_path()
    sides: dict[Side, Relation] = {
        "t": relations.records(session, spec, "t"),
        "s": relations.records(session, spec, "s"),
    }
    session.plain_path()
    for rule in spec.passes:
        for left, right in rule.pairs:
            trees: dict[Side, exp.Expr | None] = {"t": _resolved(left, sides), "s": _resolved(right, sides)}
            absent = any(tree is None for tree in trees.values())
            if not absent and not error.what.startswith(f"Pass {rule.name}, on {left.text}:"):
                continue
            told = (
                _told(session, spec, sides["t"], trees["t"], left, shows_private),
                _told(session, spec, sides["s"], trees["s"], right, shows_private),
            )
            return f"{'; '.join(told)}."
    return ""


def _resolved(expression: Expression, sides: Mapping[Side, Relation]) -> exp.Expr | None:
    """An expression with its columns resolved; None where one is absent."""
    try:
        return expressions.resolve(
            expression,
            {side: relation.columns for side, relation in sides.items()},
            {side: relation.label for side, relation in sides.items()},
        )
    except SchemaMismatch:
        return None


def _told(
    session: Session,
    spec: Reconciliation,
    relation: Relation,
    tree: exp.Expr | None,
    expression: Expression,
    shows_private: bool,
) -> str:
    """Values of one side; of the key, where the column that is meant is absent."""
    record_set = spec.target if relation.side == "t" else spec.source
    name = expression.text if tree is not None else record_set.keys[0]
    value = tree if tree is not None else column(relation.side, record_set.keys[0])
    text = exp.cast(exp.paren(value.copy()), "text")
    query = (
        exp.Select(expressions=[text])
        .distinct()
        .from_(relation.aliased(relation.side))
        .where(exp.Not(this=exp.Is(this=exp.paren(value.copy()), expression=exp.Null())))
        .order_by(exp.Literal.number(1))
        .limit(PROBES)
    )
    hidden = {node.name for node in exp.Paren(this=value.copy()).find_all(exp.Column)} & {*record_set.private}
    if hidden and not shows_private:
        values = VEIL
    else:
        values = ", ".join(f'"{shortened(row[0])}"' for row in session.rows(query.sql(DIALECT))) or "none"
    what = f"values of the {_NAMES[relation.side]}'s {'key ' if tree is None else ''}{name}"
    return f"{what}: {values}"
