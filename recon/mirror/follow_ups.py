"""Follow-ups planned: which job is to be done for which record, and when; brought in step with the target's records.

A job is one for each follow-up of the spec and each record, known by the record's key. Where a record's times or state
change, its jobs move, are dropped, or begin anew; `carry_out` in follow_ups_done does what is due.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlglot import exp

from recon import expressions
from recon.allowed import shortened
from recon.database import relations, tables
from recon.database.connect import Database, Session
from recon.database.relations import Relation
from recon.errors import SpecError
from recon.expressions import TEXT_TYPES, Expression, collate
from recon.matching import keys
from recon.matching.pool import Filter
from recon.names import DIALECT, column
from recon.spec import Reconciliation
from recon.spec_actions import FollowUp


@dataclass(frozen=True)
class Planned:
    """How many jobs were touched, and why; a job is counted once.

    Args:
        made: new ones.
        moved: to another time; attempts begin anew.
        again: done or dropped before, and asked for once more.
        dropped: asked for no longer.
        gone: their record is gone from the target: dropped, or due at once.
    """

    made: int = 0
    moved: int = 0
    again: int = 0
    dropped: int = 0
    gone: int = 0


def plan(database: Database, spec: Reconciliation, now: datetime, scope: str | None = None) -> Planned:
    """Bring the jobs of a reconciliation in step with the records of its target.

    Args:
        database: where both are.
        spec: the reconciliation.
        now: with its time zone; what `now()` in the spec means, and what is compared with.
        scope: only the jobs of this scope's records; None: all.

    Raises:
        UsageError: a scope is asked for, and the spec has none.
        SchemaMismatch, SpecError: the spec does not fit the table, or an expression gives another type than it must.
        DatabaseFailed: the database refused a statement.
    """
    Filter(scope=scope).check(spec)
    tables.ensure(database)
    with database.session() as session:
        relation = target(session, spec)
        written = _scope_as_written(session, spec, relation, scope)
        wanted = _wanted(session, spec, relation, now, scope)
        session.execute("SELECT pg_advisory_xact_lock($1::int, hashtext($2))", tables.LOCK_SPACE, _lock(spec.name))
        hastened = [item.job for item in spec.follow_ups if item.if_gone == "run"]
        asked = [item.job for item in spec.follow_ups]
        found = session.rows(_RECONCILE.format(wanted.sql(DIALECT)), spec.name, now, written, hastened, asked)
    counts: dict[str, int] = dict(row for row in found if row[0] != "scope")
    return Planned(**counts)


def target(session: Session, spec: Reconciliation) -> Relation:
    """The target's records; from here on names in this session's SQL mean PostgreSQL's own functions."""
    session.users_path()
    relation = relations.records(session, spec, "t")
    if spec.scope is not None:
        expressions.resolve_name(spec.scope, relation.columns, relation.label)
    session.plain_path()
    return relation


def _lock(name: str) -> str:
    return f"follow-ups {name}"


def _resolved(relation: Relation, expression: Expression) -> exp.Expr:
    return expressions.resolve(expression, {"t": relation.columns, "s": {}}, {"t": relation.label, "s": "the source"})


# -- what the spec asks for ------------------------------------------------------------------------------

_NAME, _NOW, _SCOPE = range(1, 4)  # parameters of the statement


def _scope_as_written(session: Session, spec: Reconciliation, relation: Relation, scope: str | None) -> str | None:
    """A scope as the server writes it, for so it is kept."""
    if scope is None or spec.scope is None:
        return None
    value = exp.cast(exp.cast(_parameter(1, "text"), relation.type_of(spec.scope)), "text")
    return session.value(exp.Select(expressions=[value]).sql(DIALECT), scope)


def _parameter(number: int, kind: str) -> exp.Expr:
    return exp.cast(exp.Parameter(this=exp.Literal.number(number)), kind)


def _wanted(session: Session, spec: Reconciliation, relation: Relation, now: datetime, scope: str | None) -> exp.Query:
    """Each job of each record: job, key, scope, and when it is due; NULL where it is not asked for."""
    parts = [_asked(session, spec, relation, item, now, scope) for item in spec.follow_ups]
    if not parts:  # the spec asks for nothing any more: there is none
        return exp.Select(
            expressions=[
                exp.alias_(exp.cast(exp.Null(), kind), name, quoted=True)
                for name, kind in (("job", "text"), ("key", "text[]"), ("scope", "text"), ("due_at", "timestamptz"))
            ]
        ).where(exp.false())
    return parts[0] if len(parts) == 1 else exp.union(*parts, distinct=False)


def _asked(
    session: Session, spec: Reconciliation, relation: Relation, item: FollowUp, now: datetime, scope: str | None
) -> exp.Select:
    def tree(text: str) -> exp.Expr:
        read = _resolved(relation, expressions.parse(text, "t", allow_now=True))
        return expressions.at_moment(read, _parameter(_NOW, "timestamptz"))

    at, when = tree(item.at), tree(item.when) if item.when is not None else exp.true()
    _typed(session, relation, item, at, when, now)
    # A time that is no moment (infinity) is none at all.
    finite = exp.Anonymous(this="isfinite", expressions=[at.copy()])
    due = exp.Case(ifs=[exp.If(this=exp.and_(exp.paren(when), finite), true=at)])
    key = [column("t", name) for name in spec.target.keys]
    scope_column = exp.Null() if spec.scope is None else column("t", spec.scope)
    query = exp.Select(
        expressions=[
            exp.alias_(exp.cast(exp.Literal.string(item.job), "text"), "job", quoted=True),
            exp.alias_(keys.as_text(key), "key", quoted=True),
            exp.alias_(exp.cast(scope_column, "text"), "scope", quoted=True),
            exp.alias_(due, "due_at", quoted=True),
        ]
    ).from_(relation.aliased("t"))
    # `where` says who is matched; a job is for every record, also for one that has no source.
    query = query.where(
        *[exp.Not(this=exp.Is(this=part.copy(), expression=exp.Null())) for part in key],
    )
    if scope is not None and spec.scope is not None:
        mine: exp.Expr = column("t", spec.scope)
        value = exp.cast(_parameter(_SCOPE, "text"), relation.type_of(spec.scope))
        if relation.columns[spec.scope] in TEXT_TYPES:
            mine, value = collate(mine), collate(value)
        query = query.where(exp.EQ(this=mine, expression=value))
    return query


def _typed(session: Session, relation: Relation, item: FollowUp, at: exp.Expr, when: exp.Expr, now: datetime) -> None:
    """Raises SpecError where the spec's expressions are not a moment and a condition."""
    query = exp.Select(
        expressions=[exp.alias_(at.copy(), "at", quoted=True), exp.alias_(when.copy(), "when", quoted=True)]
    )
    bound = query.from_(relation.aliased("t")).limit(0)
    numbered = exp.and_(
        *[
            exp.Is(this=_parameter(number, kind), expression=exp.Null())
            for number, kind in ((_NAME, "text"), (_NOW, "timestamptz"))
        ]
    )
    described = session.execute(bound.where(numbered).sql(DIALECT), None, now).description or []
    kinds = relations.type_names(session, [one.type_code for one in described])
    found = [kinds[one.type_code][0] for one in described]
    for text, kind, right in ((item.at, found[0], "timestamptz"), (item.when, found[1], "bool")):
        if kind != right:
            raise SpecError(
                f"The follow-up {item.job} has {shortened(str(text))!r}, which gives {kind}.",
                why="`at` is a moment: a timestamptz." if right == "timestamptz" else "`when` is a condition.",
                todo="Write t.check_in AT TIME ZONE 'Europe/Zurich' where a column has no time zone."
                if right == "timestamptz"
                else "Write it as a comparison.",
            )


# -- the one statement -----------------------------------------------------------------------------------

# What is filled in is built as a tree: each job of each record of the scope. Due already and due still is no move, so
# that `now()` in `at` is when it was asked for first.
_RECONCILE = """
WITH wanted AS MATERIALIZED ({}), known AS (
    SELECT job, key, scope, due_at, state FROM recon.follow_ups WHERE reconciliation = $1::text
), found AS (
    SELECT coalesce(wanted.job, known.job) AS job, coalesce(wanted.key, known.key) AS key, wanted.scope,
        CASE WHEN wanted.key IS NULL THEN $2::timestamptz ELSE wanted.due_at END AS due_at,
        CASE
            WHEN known.key IS NULL THEN CASE WHEN wanted.due_at IS NOT NULL THEN 'made' END
            WHEN wanted.key IS NULL AND known.scope IS DISTINCT FROM coalesce($3::text, known.scope) THEN NULL
            WHEN wanted.key IS NULL AND known.job <> ALL ($5::text[]) THEN
                CASE WHEN known.state <> 'dropped' THEN 'dropped' END
            WHEN wanted.key IS NULL AND known.job = ANY ($4::text[]) THEN
                CASE WHEN known.state IN ('waiting', 'doing', 'failed') AND known.due_at > $2 THEN 'hastened' END
            WHEN wanted.key IS NULL THEN CASE WHEN known.state <> 'dropped' THEN 'gone' END
            WHEN wanted.due_at IS NULL AND known.state <> 'dropped' THEN 'dropped'
            WHEN wanted.due_at IS NULL THEN
                CASE WHEN coalesce(wanted.scope, known.scope) IS DISTINCT FROM known.scope THEN 'scope' END
            WHEN known.state = 'dropped' THEN 'again'
            WHEN known.state = 'done' AND wanted.due_at > $2 AND wanted.due_at <> known.due_at THEN 'again'
            WHEN known.state <> 'done' AND wanted.due_at <> known.due_at
                AND greatest(wanted.due_at, known.due_at) > $2 THEN 'moved'
            WHEN coalesce(wanted.scope, known.scope) IS DISTINCT FROM known.scope THEN 'scope'
        END AS what
    FROM wanted FULL JOIN known ON known.job = wanted.job AND known.key = wanted.key
), changed AS (
    UPDATE recon.follow_ups AS kept SET
        scope = coalesce(found.scope, kept.scope),
        state = CASE WHEN found.what IN ('gone', 'dropped') THEN 'dropped'
            WHEN found.what = 'scope' THEN kept.state ELSE 'waiting' END,
        due_at = CASE WHEN found.what IN ('gone', 'dropped', 'scope') THEN kept.due_at ELSE found.due_at END,
        attempts = CASE WHEN found.what = 'scope' THEN kept.attempts ELSE 0 END,
        next_at = CASE WHEN found.what = 'scope' THEN kept.next_at END,
        said = CASE WHEN found.what IN ('scope', 'gone', 'dropped') THEN kept.said END,
        done_at = CASE WHEN found.what IN ('scope', 'gone', 'dropped') THEN kept.done_at END,
        changed_at = CASE WHEN found.what = 'scope' THEN kept.changed_at
            -- Never the same twice: a handler tells by it what is asked for anew.
            ELSE greatest($2, kept.changed_at + interval '1 microsecond') END
    FROM found
    WHERE kept.reconciliation = $1 AND kept.job = found.job AND kept.key = found.key
        AND found.what IS NOT NULL AND found.what <> 'made'
    RETURNING CASE found.what WHEN 'hastened' THEN 'gone' ELSE found.what END AS what
), made AS (
    INSERT INTO recon.follow_ups (reconciliation, job, key, scope, due_at, state, made_at, changed_at)
    SELECT $1, job, key, scope, due_at, 'waiting', $2, $2 FROM found WHERE what = 'made'
    ON CONFLICT DO NOTHING RETURNING 'made' AS what
)
SELECT what, count(*)::int FROM (SELECT what FROM changed UNION ALL SELECT what FROM made) AS touched GROUP BY what
"""
