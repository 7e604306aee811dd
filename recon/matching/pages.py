"""Runs, decisions and breaks page by page, for who asks from elsewhere: keyset, and of some scopes only where asked.

A page begins behind the last record of the one before it, which is named by its key and not by a number of rows: what
comes or goes in between shifts nothing. Where a spec divides its records by `scope`, a record is of the scope that its
row has now; one that is gone on both sides is of none, and is seen only by who sees all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy as sa
import sqlalchemy.exc as sa_exc
from sqlglot import exp

from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import NotFound, UsageError
from recon.matching import keys, pairs
from recon.matching.because import LABEL, because
from recon.matching.bound import Bound
from recon.matching.coverage import coverage
from recon.matching.pairs import shown_key
from recon.names import DIALECT, Side, column, identifier

SIDES: tuple[Side, ...] = ("t", "s")
_BEHIND = "recon page key"  # of the decision, as text; no column of a spec can be called so and be shown bare


@dataclass(frozen=True)
class Page:
    """Some rows, and behind what the next page begins; None: this was the last."""

    rows: list[dict[str, Any]]
    behind: list[Any] | None


def _cut(rows: list[dict[str, Any]], limit: int) -> tuple[list[dict[str, Any]], bool]:
    """The rows of the page, and whether there are more; one more than `limit` was asked for."""
    return rows[:limit], len(rows) > limit


def _no_place() -> UsageError:
    return UsageError("The cursor names no place in this list.", todo="Ask for the first page, without a cursor.")


# -- runs ------------------------------------------------------------------------------------------------


def runs(
    database: Database, name: str, limit: int, scopes: Sequence[str] | None = None, behind: Sequence[Any] | None = None
) -> Page:
    """Runs of a reconciliation, newest first.

    Args:
        database: where they are kept.
        name: the reconciliation.
        limit: rows of a page.
        scopes: runs of one of these alone; None: all runs. A run of all scopes counts what is of others too.
        behind: what the page before gave.

    Raises:
        UsageError: `behind` is of no such list.
    """
    tables.ensure(database)
    kept = tables.runs
    query = sa.select(kept).where(kept.c.reconciliation == name)
    if scopes is not None:
        query = query.where(kept.c.limited["scope"].astext.in_(scopes))
    if behind is not None:
        at, run = _two_texts(behind)
        query = query.where(sa.tuple_(kept.c.started_at, kept.c.run) < sa.tuple_(sa.cast(at, _TIME), sa.literal(run)))
    query = query.order_by(kept.c.started_at.desc(), kept.c.run.desc()).limit(limit + 1)
    with database.session(read_only=True) as session:
        found = [dict(row) for row in _asked(session, query)]
    rows, more = _cut(found, limit)
    shown = [{**row, "coverage": None if row["limited"] else coverage(row["outcomes"] or {})} for row in rows]
    return Page(shown, [rows[-1]["started_at"].isoformat(), rows[-1]["run"]] if more else None)


_TIME = sa.DateTime(timezone=True)


def _two_texts(behind: Sequence[Any]) -> tuple[str, str]:
    if len(behind) != 2 or not all(isinstance(part, str) for part in behind):
        raise _no_place()
    return behind[0], behind[1]


def _asked(session: Session, query: sa.Select[Any]) -> Sequence[sa.RowMapping]:
    try:
        return session.connection.execute(query).mappings().all()
    except sa_exc.DataError as error:
        raise _no_place() from error


def latest(session: Session, name: str, scopes: Sequence[str] | None, run: str | None = None) -> str:
    """The run whose decisions are read: the one that is named, else the latest that is whole or of one of these scopes.

    Raises:
        NotFound: there is none, or its decisions were dropped.
    """
    kept = tables.runs
    query = sa.select(kept.c.run, kept.c.kept).where(kept.c.reconciliation == name, kept.c.state == "success")
    scope = kept.c.limited["scope"].astext
    if scopes is not None:
        query = query.where(sa.or_(scope.is_(None), scope.in_(scopes)))
    if run is not None:
        query = query.where(kept.c.run == run)
    found = session.connection.execute(query.order_by(kept.c.started_at.desc(), kept.c.run.desc()).limit(1)).first()
    if found is None:
        said = f" {run}" if run else ""
        raise NotFound(
            f"{name} has no finished run{said}.",
            why="Decisions are shown of runs that ended well.",
            todo=f"Run `recon match {name}` first.",
        )
    if not found.kept:
        raise NotFound(
            f"The decisions of run {found.run} are no longer there.", why="Later runs took their place.",
            todo="Ask for the latest run.",
        )  # fmt: skip
    return found.run


# -- decisions -------------------------------------------------------------------------------------------


class _Values:
    """What is bound to a statement, in order."""

    def __init__(self) -> None:
        self.bound: list[object] = []

    def add(self, value: object) -> exp.Parameter:
        self.bound.append(value)
        return exp.Parameter(this=exp.Literal.number(len(self.bound)))


def decisions(
    session: Session,
    bound: Bound,
    run: str,
    limit: int,
    *,
    outcomes: Sequence[str] = (),
    scopes: Sequence[str] | None = None,
    behind: Sequence[Any] | None = None,
) -> Page:
    """Decisions of a run in key order, with what people see of them; the other side's records come last.

    Args:
        session: reads only.
        bound: the spec; it says what is veiled.
        run: its id.
        limit: rows of a page.
        outcomes: only these; none: all.
        scopes: only of these; None: of all.
        behind: what the page before gave.

    Returns:
        Dicts of target_key and source_key (text, composite ones as JSON arrays), outcome, pass, confidence, reason,
        because, interpretation, differences and `shown`: what the spec's `show` names.

    Raises:
        UsageError: `behind` is of no such list.
    """
    values = _Values()
    own = tables.own("decisions", run)
    table = exp.Table(this=own.this, db=own.args["db"], alias=exp.TableAlias(this=identifier("d")))
    inner = exp.Select(expressions=[exp.Column(this=exp.Star(), table=identifier("d"))]).from_(table)
    if outcomes:
        array = exp.paren(exp.cast(values.add(list(outcomes)), "text[]"))
        inner = inner.where(exp.EQ(this=column("d", "outcome"), expression=exp.Any(this=array)))
    if scopes is not None:
        inner = _of_scopes(bound, inner, values, scopes)
    if behind is not None:
        inner = inner.where(_after(bound, behind, values))
    order = [column("d", name) for side in _sides(bound) for name in bound.key_names(side)]
    cut = exp.Subquery(this=inner.order_by(*order).limit(limit + 1), alias=exp.TableAlias(this=identifier("d")))
    mark = keys.as_text(order)
    query = pairs.pairs(bound, run).from_(cut).order_by(*[part.copy() for part in order])
    query = query.select(exp.alias_(because(bound), LABEL, quoted=True), exp.alias_(mark, _BEHIND, quoted=True))
    try:
        with session.driver.transaction():
            found = session.records(query.sql(DIALECT), *values.bound)
    except psycopg.DataError as error:
        if behind is None:
            raise
        raise _no_place() from error
    rows, more = _cut(found, limit)
    return Page([_shown(bound, row) for row in rows], rows[-1][_BEHIND] if more else None)


def _sides(bound: Bound) -> tuple[Side, Side]:
    return bound.population, bound.other


def _of_scopes(bound: Bound, query: exp.Select, values: _Values, scopes: Sequence[str]) -> exp.Select:
    """Only where each record that is there is of one of these, and one is there."""
    there: list[exp.Expr] = []
    mine = values.add(list(scopes))
    for side in SIDES:
        on = [
            exp.EQ(this=key, expression=column("d", name))
            for key, name in zip(bound.keys(side), bound.key_names(side), strict=True)
        ]
        query = query.join(bound.relation[side].aliased(side), on=exp.and_(*on), join_type="left")
        gone = exp.Is(this=bound.keys(side)[0], expression=exp.Null())
        there.append(exp.Not(this=gone.copy()))
        query = query.where(exp.or_(gone, _mine(bound, side, mine)))
    return query.where(exp.or_(*there))


def _mine(bound: Bound, side: Side, mine: exp.Parameter) -> exp.Expr:
    assert bound.spec.scope is not None
    array = exp.paren(exp.cast(mine.copy(), "text[]"))
    return exp.EQ(this=exp.cast(column(side, bound.spec.scope), "text"), expression=exp.Any(this=array))


def _after(bound: Bound, behind: Sequence[Any], values: _Values) -> exp.Expr:
    """What comes after a decision: a greater key of the population, or, behind all of these, of the other side."""
    first, second = ([column("d", name) for name in bound.key_names(side)] for side in _sides(bound))
    if len(behind) != len(first) + len(second) or not all(part is None or isinstance(part, str) for part in behind):
        raise _no_place()
    none = exp.Is(this=first[0].copy(), expression=exp.Null())
    if behind[0] is not None:
        return exp.paren(exp.or_(none, _greater(first, behind[: len(first)], values)))
    return exp.and_(none, _greater(second, behind[len(first) :], values))


def _greater(columns: Sequence[exp.Column], key: Sequence[str | None], values: _Values) -> exp.Expr:
    """Part by part. A bare parameter takes the type of its column."""
    if any(part is None for part in key):
        raise _no_place()
    found: exp.Expr = exp.false()
    for name, part in reversed(list(zip(columns, key, strict=True))):
        value = values.add(part)
        same = exp.and_(exp.EQ(this=name.copy(), expression=value.copy()), exp.paren(found))
        found = exp.or_(exp.GT(this=name.copy(), expression=value), same)
    return exp.paren(found)


def _shown(bound: Bound, row: dict[str, Any]) -> dict[str, Any]:
    """A row in the same form for every spec."""
    own = ("outcome", "pass", "confidence", "reason", LABEL, "interpretation")
    found: dict[str, Any] = {
        "target_key": _text([row[name] for name in bound.key_names("t")]),
        "source_key": _text([row[name] for name in bound.key_names("s")]),
        **{name: row[name] for name in own},
        "differences": row.get("differences"),
        "shown": {name: row[name] for name in pairs.labels(bound.spec.show)},
    }
    return found


def _text(key: Sequence[Any]) -> str | None:
    found = shown_key(key)
    return None if found is None else str(found)


# -- breaks ----------------------------------------------------------------------------------------------


def breaks(
    session: Session,
    name: str,
    limit: int,
    *,
    state: str | None = None,
    outcome: str | None = None,
    side: str | None = None,
    assignee: str | None = None,
    within: tuple[Bound, Sequence[str]] | None = None,
    behind: Sequence[Any] | None = None,
) -> Page:
    """Breaks of a reconciliation, the oldest first, as `breaks.listed` gives them.

    Args:
        session: reads only.
        name: the reconciliation.
        limit: rows of a page.
        state: open, assigned, resolved or all; None: open and assigned.
        outcome: only of this one.
        side: target or source; None: both.
        assignee: only those that this person sees to.
        within: the spec and the scopes of which breaks are shown; None: all.
        behind: what the page before gave.

    Raises:
        UsageError: `behind` is of no such list.
    """
    place: list[Any] = [None, None, None]
    if behind is not None:
        if len(behind) != 3 or not isinstance(behind[2], list) or not all(isinstance(x, str) for x in behind[2]):
            raise _no_place()
        place = [str(behind[0]), str(behind[1]), behind[2]]
    query = _BREAKS.format(_break_in_scope(within[0]) if within else "true")
    mine = list(within[1]) if within else []
    try:
        with session.driver.transaction():
            found = session.records(query, name, state, outcome, side, assignee, mine, *place, limit + 1)
    except psycopg.DataError as error:
        if behind is None:
            raise
        raise _no_place() from error
    rows, more = _cut(found, limit)
    last = rows[-1] if more else None
    shown = [{**row, "key": keys.shown(row["key"])} for row in rows]
    return Page(shown, [last["opened_at"].isoformat(), last["side"], last["key"]] if last else None)


# What is filled in is built as a tree.
_BREAKS = """
    SELECT b.side, b.key, b.state, b.assignee, b.outcome, b.reason, b.first_seen, b.opened_at, b.last_seen,
        b.resolved_at, b.run, floor(extract(epoch FROM coalesce(b.resolved_at, now()) - b.opened_at) / 86400)::bigint AS days
    FROM recon.breaks AS b
    WHERE b.reconciliation = $1
        AND CASE WHEN $2::text IS NULL THEN b.state <> 'resolved' WHEN $2 = 'all' THEN true ELSE b.state = $2 END
        AND ($3::text IS NULL OR b.outcome = $3) AND ($4::text IS NULL OR b.side = $4)
        AND ($5::text IS NULL OR b.assignee = $5) AND $6::text[] IS NOT NULL AND {}
        AND ($7::timestamptz IS NULL OR (b.opened_at, b.side, b.key) > ($7, $8::text, $9::text[]))
    ORDER BY b.opened_at, b.side, b.key
    LIMIT $10
"""
_SCOPES = 6  # the place of the scopes among the values


def _break_in_scope(bound: Bound) -> str:
    """Whether a break is of one of the scopes: its record's row says so."""
    tests: list[exp.Expr] = []
    for side in SIDES:
        mine = exp.Parameter(this=exp.Literal.number(_SCOPES))
        record = (
            exp.Select(expressions=[exp.Literal.number(1)])
            .from_(bound.relation[side].aliased(side))
            .where(keys.same(column("b", "key"), bound.keys(side)), _mine(bound, side, mine))
        )
        named = exp.EQ(this=column("b", "side"), expression=exp.Literal.string(keys.WORDS[side]))
        tests.append(exp.and_(named, exp.Exists(this=record)))
    return exp.paren(exp.or_(*tests)).sql(DIALECT)
