"""Breaks across runs: what is not reconciled, since when, and who sees to it.

A break is known by its side and its record's key as text, so it outlives the runs that see it. It is never deleted:
it is resolved by the run that no longer finds it, and reopens with its history when a later run does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlglot import exp

from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import NotFound, UsageError
from recon.matching import keys
from recon.matching.bound import Bound, key_names
from recon.matching.coverage import RECONCILED
from recon.matching.issues import issues
from recon.names import DIALECT, column, identifier
from recon.workspace import person

__all__ = ["AGES", "age_class", "ages", "assign", "count", "history", "issues", "known_state", "listed", "update"]

AGES: tuple[str, ...] = ("new", "under 1 day", "1 to 7 days", "8 to 30 days", "over 30 days")
STATES = ("open", "assigned", "resolved", "all")
AGE_DAYS = (1, 8, 31)  # the ages after the first begin at 0 and at these many whole days
NO_BREAK = (*RECONCILED, "excluded")


def update(session: Session, bound: Bound, decisions_table: exp.Table, run_id: str, limited: bool) -> dict[str, int]:
    """Bring the breaks of a reconciliation up to date with the decisions of a run, in the run's own transaction.

    Args:
        session: the transaction.
        bound: the spec and its relations.
        decisions_table: the decisions of the run, with their reasons.
        run_id: the run.
        limited: the run did not look at everything, so it only resolves what it decided.

    Returns:
        Open breaks by age, as `ages` does.
    """
    name = bound.spec.name
    session.execute("SELECT pg_advisory_xact_lock($1::int, hashtext($2))", tables.LOCK_SPACE, f"breaks {name}")
    session.execute(_CREATE.format("recon_seen", _seen(bound, decisions_table).sql(DIALECT)))
    session.execute("ANALYZE pg_temp.recon_seen")
    session.execute(_SEEN_AGAIN, name, run_id)
    new = session.execute(_REOPENED, name, run_id).rowcount + session.execute(_OPENED, name, run_id).rowcount
    if session.execute(_CLOSING, name, run_id).rowcount:
        session.execute("ANALYZE pg_temp.recon_closing")
        session.execute(_CREATE.format("recon_settled", _decided(bound, decisions_table).sql(DIALECT)))
        session.execute(_RESOLVED, name, run_id, limited)
    for table in ("recon_seen", "recon_closing", "recon_settled"):
        session.execute(f"DROP TABLE IF EXISTS pg_temp.{table}")
    return ages(session, name, new)


def ages(session: Session, name: str, new: int = 0) -> dict[str, int]:
    """Open and assigned breaks by age, in the order of AGES: whole days of 24 hours since the present episode began.

    Args:
        session: an open session.
        name: the reconciliation.
        new: how many the present run opened; they are counted there only.
    """
    counts = session.rows(_AGES, name)[0]
    found = dict(zip(AGES, (new, *counts), strict=True))
    found["under 1 day"] -= new
    return found


def age_class(opened_at: exp.Expr, is_new: exp.Expr) -> exp.Case:
    """One of AGES by when a break's present episode began, as `ages` counts them; NULL where there is no break.

    Args:
        opened_at: when it began.
        is_new: whether the present run opened it.
    """
    ends = [exp.If(this=is_new, true=exp.Literal.string(AGES[0]))]
    for name, days in zip(AGES[1:], AGE_DAYS, strict=False):
        limit = exp.Interval(this=exp.Literal.string(str(days)), unit=exp.Var(this="DAY"))
        since = exp.Sub(this=exp.CurrentTimestamp(), expression=limit)
        ends.append(exp.If(this=exp.GT(this=opened_at.copy(), expression=since), true=exp.Literal.string(name)))
    known = exp.Not(this=exp.Is(this=opened_at.copy(), expression=exp.Null()))
    ends.append(exp.If(this=known, true=exp.Literal.string(AGES[-1])))
    return exp.Case(ifs=ends)


def known_state(state: str | None) -> None:
    """Raises UsageError where breaks are asked for by a state that there is not."""
    if state is not None and state not in STATES:
        raise UsageError(f"There is no state {state}.", todo=f"Use {', '.join(STATES)}.")


def listed(
    database: Database, spec_name: str, state: str | None = None, limit: int | None = None, only: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Breaks of a reconciliation, the oldest first.

    Args:
        database: where they are kept.
        spec_name: the reconciliation.
        state: open, assigned, resolved or all; None: open and assigned.
        limit: no more than this many.
        only: keys as text; composite ones as JSON arrays. None: all.

    Raises:
        UsageError: there is no such state.

    Returns:
        Dicts of side, key (text), state, assignee, outcome, reason, first_seen, opened_at, last_seen, resolved_at, run,
        and days: how many whole days the present episode has lasted, or did last.
    """
    tables.ensure(database)
    found = tables.breaks.c
    lasted = sa.func.coalesce(found.resolved_at, sa.func.now()) - found.opened_at
    days = sa.func.floor(sa.extract("epoch", lasted) / 86_400).cast(sa.BigInteger).label("days")
    query = sa.select(*[part for part in found if part is not found.reconciliation], days)
    query = query.where(*_asked(spec_name, state, only)).order_by(found.opened_at, found.side, found.key)
    with database.session(read_only=True) as session:
        rows = session.connection.execute(query.limit(limit)).mappings().all()
    return [{**row, "key": keys.shown(row["key"])} for row in rows]


def count(session: Session, spec_name: str, state: str | None = None, only: Sequence[str] = ()) -> int:
    """How many breaks `listed` gives without a limit."""
    query = sa.select(sa.func.count()).select_from(tables.breaks).where(*_asked(spec_name, state, only))
    return session.connection.execute(query).scalar_one()


def _asked(spec_name: str, state: str | None, only: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    known_state(state)
    found = tables.breaks.c
    asked = [found.reconciliation == spec_name]
    if state != "all":
        asked.append(found.state != "resolved" if state is None else found.state == state)
    if only:
        asked.append(sa.or_(*[found.key == key for text in only for key in _readings(text)]))
    return asked


def history(database: Database, name: str, key: str) -> list[dict[str, Any]]:
    """What happened to the breaks with a key, on either side, in order: at, event, side, key, who, run, detail.

    Raises:
        NotFound: there never was one.
    """
    tables.ensure(database)
    log = tables.break_log.c
    query = (
        sa.select(log.at, log.event, log.side, log.key, log.who, log.run, log.detail)
        .where(log.reconciliation == name, sa.or_(*[log.key == reading for reading in _readings(key)]))
        .order_by(log.entry)
    )
    with database.session(read_only=True) as session:
        rows = session.connection.execute(query).mappings().all()
    if not rows:
        raise NotFound(f"{name} never had a break with the key {key}.", todo="Write it as `recon breaks` shows it.")
    return [{**row, "key": keys.shown(row["key"])} for row in rows]


def assign(database: Database, name: str, who: str, actor: str, keys: Sequence[str] | None = None) -> int:
    """Give open breaks to somebody, or to nobody again.

    Args:
        database: where they are kept.
        name: the reconciliation.
        who: who sees to them; empty: nobody.
        actor: who says so.
        keys: of which records, as `listed` shows them, on either side; all or none is done. None: all breaks.

    Returns:
        How many breaks changed hands.

    Raises:
        UsageError: this is no name.
        NotFound: one of the keys has no open break.
    """
    who = person(who.strip(), "Give the name of whoever sees to them.") if who.strip() else ""
    tables.ensure(database)
    with database.session() as session:
        session.execute("SELECT pg_advisory_xact_lock($1::int, hashtext($2))", tables.LOCK_SPACE, f"breaks {name}")
        if keys is None:
            return session.execute(_ASSIGNED, name, who, actor, None, None).rowcount
        changed = 0
        for text in keys:
            first, *others = _readings(text)
            other = others[0] if others else first
            if not session.value(_IS_OPEN, name, first, other):
                raise NotFound(
                    f"{name} has no open break with the key {text}.",
                    why="Nothing was assigned.",
                    todo=f"See them with `recon breaks {name}`.",
                )
            changed += session.execute(_ASSIGNED, name, who, actor, first, other).rowcount
        return changed


def _readings(text: str) -> list[list[str]]:
    """The keys that a text may stand for: itself, and the parts of a JSON array."""
    whole = keys.in_array(text)
    found = [[text], whole] if whole else [[text]]
    if any("\x00" in part for key in found for part in key):
        raise UsageError(f"{text!r} holds a NUL character.", why="PostgreSQL keeps no such text.")
    return found


# -- a run's decisions as breaks -------------------------------------------------------------------------

# What is filled in is built as a tree. Times are those of the transaction, so that one run has one time.
_CREATE = "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS {}"
_SEEN_AGAIN = """
    UPDATE recon.breaks AS break SET last_seen = now(), outcome = seen.outcome, reason = seen.reason, run = $2
    FROM pg_temp.recon_seen AS seen
    WHERE break.reconciliation = $1 AND break.side = seen.side AND break.key = seen.key AND break.state <> 'resolved'
"""
_REOPENED = """
    WITH reopened AS (
        UPDATE recon.breaks AS break SET last_seen = now(), outcome = seen.outcome, reason = seen.reason, run = $2,
            state = 'open', opened_at = now(), resolved_at = NULL, assignee = NULL
        FROM pg_temp.recon_seen AS seen
        WHERE break.reconciliation = $1 AND break.side = seen.side AND break.key = seen.key AND break.state = 'resolved'
        RETURNING break.side, break.key, break.outcome, break.reason
    )
    INSERT INTO recon.break_log (reconciliation, side, key, at, event, run, detail)
    SELECT $1, side, key, now(), 'reopened', $2, concat_ws(', ', outcome, reason) FROM reopened
"""
_OPENED = """
    WITH opened AS (
        INSERT INTO recon.breaks
            (reconciliation, side, key, first_seen, opened_at, last_seen, outcome, reason, state, run)
        SELECT $1, side, key, now(), now(), now(), outcome, reason, 'open', $2 FROM pg_temp.recon_seen AS seen
        WHERE NOT EXISTS (
            SELECT FROM recon.breaks AS known
            WHERE known.reconciliation = $1 AND known.side = seen.side AND known.key = seen.key
        )
        RETURNING side, key, outcome, reason
    )
    INSERT INTO recon.break_log (reconciliation, side, key, at, event, run, detail)
    SELECT $1, side, key, now(), 'opened', $2, concat_ws(', ', outcome, reason) FROM opened
"""
_CLOSING = """
    CREATE TEMPORARY TABLE recon_closing ON COMMIT DROP AS
    SELECT side, key FROM recon.breaks WHERE reconciliation = $1 AND state <> 'resolved' AND run <> $2
"""
_RESOLVED = """
    WITH resolved AS (
        UPDATE recon.breaks AS break SET state = 'resolved', resolved_at = now()
        FROM pg_temp.recon_closing AS closing LEFT JOIN pg_temp.recon_settled AS decided USING (side, key)
        WHERE break.reconciliation = $1 AND break.side = closing.side AND break.key = closing.key
          AND (decided.outcome IS NOT NULL OR NOT $3)
        RETURNING break.side, break.key, decided.outcome, decided.pass
    )
    INSERT INTO recon.break_log (reconciliation, side, key, at, event, run, detail)
    SELECT $1, side, key, now(), 'resolved', $2,
        CASE WHEN outcome IS NULL THEN 'no longer there' ELSE concat_ws(', pass ', outcome, pass) END
    FROM resolved
"""
_AGES = """
    SELECT count(*) FILTER (WHERE opened_at > now() - interval '1 day'),
        count(*) FILTER (WHERE opened_at <= now() - interval '1 day' AND opened_at > now() - interval '8 days'),
        count(*) FILTER (WHERE opened_at <= now() - interval '8 days' AND opened_at > now() - interval '31 days'),
        count(*) FILTER (WHERE opened_at <= now() - interval '31 days')
    FROM recon.breaks WHERE reconciliation = $1 AND state <> 'resolved'
"""
_IS_OPEN = """
    SELECT EXISTS (
        SELECT FROM recon.breaks
        WHERE reconciliation = $1 AND state <> 'resolved' AND key IN ($2::text[], $3::text[])
    )
"""
_ASSIGNED = """
    WITH assigned AS (
        UPDATE recon.breaks SET assignee = nullif($2, ''), state = CASE $2 WHEN '' THEN 'open' ELSE 'assigned' END
        WHERE reconciliation = $1 AND state <> 'resolved' AND assignee IS DISTINCT FROM nullif($2, '')
          AND ($4::text[] IS NULL OR key IN ($4, $5::text[]))
        RETURNING side, key
    )
    INSERT INTO recon.break_log (reconciliation, side, key, at, event, who, detail)
    SELECT $1, side, key, now(), 'assigned', $3, coalesce(nullif($2, ''), 'nobody') FROM assigned
"""


def _seen(bound: Bound, decisions: exp.Table) -> exp.Select:
    """The breaks among the decisions. A row without a key of the population is about a record of the other side."""
    own, other = _sides(bound)
    foreign = exp.Is(this=own[1][0].copy(), expression=exp.Null())
    side = _choice(foreign, exp.Literal.string(other[0]), exp.Literal.string(own[0]))
    key = _choice(foreign, keys.as_text(other[1]), keys.as_text(own[1]))
    return (
        exp.Select(
            expressions=[_named(side, "side"), _named(key, "key"), column("d", "outcome"), column("d", "reason")]
        )
        .from_(_aliased(decisions, "d"))
        .where(exp.Not(this=_in(NO_BREAK)))
    )


def _decided(bound: Bound, decisions: exp.Table) -> exp.Query:
    """What the run decided about breaks that it did not see: of the population, and of partners that it found."""
    found: list[exp.Select] = []
    for word, columns in _sides(bound):
        same = exp.and_(
            exp.EQ(this=column("closing", "side"), expression=exp.Literal.string(word)),
            keys.same(column("closing", "key"), columns),
        )
        parts = [column("closing", "side"), column("closing", "key"), column("d", "outcome"), column("d", "pass")]
        found.append(
            exp.Select(expressions=parts)
            .from_(_aliased(decisions, "d"))
            .join(_aliased(exp.Table(this=identifier("recon_closing")), "closing"), on=same)
            .where(_in(NO_BREAK))
        )
    whole = exp.Subquery(this=exp.union(*found, distinct=False), alias=exp.TableAlias(this=identifier("found")))
    names = [column("found", name) for name in ("side", "key", "outcome", "pass")]
    # Several targets may hold one source: the first in alphabetical order is as good as any.
    return exp.Select(expressions=names).from_(whole).distinct(*[n.copy() for n in names[:2]]).order_by(*names)


def _sides(bound: Bound) -> list[tuple[str, list[exp.Expr]]]:
    """The key columns of the decisions, by side; the population's first."""
    sides: list[tuple[str, list[exp.Expr]]] = [
        (word, [column("d", name) for name in key_names(f"{word}_key", len(record_set.keys))])
        for word, record_set in (("target", bound.spec.target), ("source", bound.spec.source))
    ]
    return sides if bound.spec.population == "target" else sides[::-1]


def _choice(test: exp.Expr, yes: exp.Expr, no: exp.Expr) -> exp.Case:
    return exp.Case(ifs=[exp.If(this=test.copy(), true=yes)], default=no)


def _in(outcomes: Sequence[str]) -> exp.In:
    return exp.In(this=column("d", "outcome"), expressions=[exp.Literal.string(outcome) for outcome in outcomes])


def _named(tree: exp.Expr, name: str) -> exp.Alias:
    return exp.Alias(this=tree, alias=identifier(name))


def _aliased(table: exp.Table, alias: str) -> exp.Table:
    table = table.copy()
    table.set("alias", exp.TableAlias(this=identifier(alias)))
    return table
