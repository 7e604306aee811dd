"""What a run of a mirror asks of the database: which days its live records span, what is not valid, what was fetched."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy.dialects.postgresql import insert
from sqlglot import exp

from recon import expressions
from recon.backfill.absences import Key
from recon.database import relations, tables
from recon.database.connect import Database
from recon.matching import keys as texts
from recon.matching.bind import bind
from recon.matching.run import Run
from recon.mirror.parts import Part
from recon.names import DIALECT, column
from recon.spec import Reconciliation

CALENDAR = date(1900, 1, 1), date(9000, 1, 1)  # the days that a source is asked about; others are mistyped


def scope_is(spec: Reconciliation, relation: relations.Relation) -> exp.Expr:
    """That a record is of the scope that is $1."""
    assert spec.scope is not None
    wanted = exp.cast(exp.Parameter(this=exp.Literal.number(1)), relation.type_of(spec.scope))
    return exp.EQ(this=column(relation.side, spec.scope), expression=wanted)


def suspected(database: Database, spec: Reconciliation, run: Run) -> int:
    """How many records of a run are there here only, and would be asked for at the source."""
    orphan = spec.backfill.orphan
    if orphan is None or not run.outcomes.get("orphan"):
        return 0
    with database.session(read_only=True) as session:
        bound = bind(session, spec)
        decided = tables.own("decisions", run.run)
        names = zip(bound.target_keys, bound.key_names("t"), strict=True)
        same = [exp.EQ(this=key.copy(), expression=column("d", name)) for key, name in names]
        query = exp.select("count(*)").from_(bound.target.aliased("t"))
        query = query.join(exp.alias_(decided, "d", table=True), on=exp.and_(*same))
        query = query.where(exp.EQ(this=column("d", "outcome"), expression=exp.Literal.string("orphan")))
        if orphan.when is not None:
            query = query.where(bound.resolve(expressions.parse(orphan.when, "t")))
        return session.value(query.sql(DIALECT))


def live_days(database: Database, spec: Reconciliation, scope: str) -> tuple[date, date] | None:
    """From which to which day (UTC) the records reach that may be orphans; None: there are none.

    What is on no day of our calendar, infinity for one, is left out: no list can be asked for it.
    """
    orphan = spec.backfill.orphan
    if orphan is None or spec.target.date is None:
        return None
    with database.session(read_only=True) as session:
        bound = bind(session, spec)
        day = exp.cast(column("t", spec.target.date), "date")
        query = exp.Select(expressions=[exp.Min(this=day), exp.Max(this=day.copy())]).from_(bound.target.aliased("t"))
        query = query.where(*bound.where("t"), scope_is(spec, bound.target))
        if orphan.when is not None:
            query = query.where(bound.resolve(expressions.parse(orphan.when, "t")))
        low, high = (exp.cast(exp.Literal.string(day.isoformat()), "date") for day in CALENDAR)
        query = query.where(exp.Between(this=day.copy(), low=low, high=high))
        first, last = session.rows(query.sql(DIALECT), scope)[0]
    return None if first is None else (first, last)


def invalid(database: Database, spec: Reconciliation, run: Run, part: Part, came: set[Key] | None) -> None:
    """Count the records that came in this run and do not keep the rules of `valid`, with the rules that they break."""
    if not spec.valid or not came:
        return
    with database.session(read_only=True) as session:
        found = session.rows(
            _ISSUES, spec.name, len(spec.source.keys), spec.source.keys.index(spec.scope or "") + 1, part.scope
        )
    for key, issues in found:
        if tuple(key) in came:
            part.wrong("; ".join(issues), texts.shown(key) or "")


_ISSUES = """
    SELECT source_key, array_agg(issue ORDER BY issue) FROM recon.import_issues
    WHERE reconciliation = $1 AND state = 'open' AND cardinality(source_key) = $2::int AND source_key[$3::int] = $4
    GROUP BY source_key ORDER BY source_key
"""


def mark(database: Database, name: str, scope: str) -> datetime | None:
    tables.ensure(database)
    with database.session(read_only=True) as session:
        return session.value(
            "SELECT changed_until FROM recon.sync_marks WHERE reconciliation = $1 AND scope = $2", name, scope
        )


def set_mark(database: Database, name: str, scope: str, which: str, at: datetime | None) -> None:
    marks = tables.sync_marks
    values = {"reconciliation": name, "scope": scope, which: at}
    statement = insert(marks).values(**values)
    with database.session() as session:
        session.connection.execute(
            statement.on_conflict_do_update(index_elements=["reconciliation", "scope"], set_={which: at})
        )
