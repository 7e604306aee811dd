"""Follow-ups as they stand: counted for people and health, tried again when a person says so, and cleaned up."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlglot import exp

from recon.database import tables
from recon.database.connect import Database
from recon.database.relations import Relation
from recon.errors import ReconError
from recon.matching import keys
from recon.mirror.follow_ups import target
from recon.names import DIALECT, column
from recon.spec import Reconciliation

OVERDUE = timedelta(hours=1)  # what has been due for longer is late

_log = logging.getLogger(__name__)

_STATISTICS = """
    SELECT job,
        count(*) FILTER (WHERE state = 'waiting' AND due_at > $2::timestamptz)::int AS waiting,
        count(*) FILTER (WHERE state IN ('waiting', 'doing') AND due_at <= $2)::int AS due,
        count(*) FILTER (WHERE state IN ('waiting', 'doing', 'failed')
            AND greatest(due_at, changed_at) <= $2 - $4::interval)::int AS overdue,
        count(*) FILTER (WHERE state = 'done')::int AS done,
        count(*) FILTER (WHERE state = 'failed')::int AS failed,
        count(*) FILTER (WHERE state = 'dropped')::int AS dropped,
        min(greatest(due_at, next_at)) FILTER (WHERE state IN ('waiting', 'doing')) AS next
    FROM recon.follow_ups WHERE reconciliation = $1 AND ($3::text IS NULL OR scope = $3) GROUP BY job ORDER BY job
"""


def statistics(
    database: Database, spec: Reconciliation, now: datetime, scope: str | None = None
) -> dict[str, dict[str, Any]]:
    """How the jobs stand, by job, also those that the spec asks for and no record has.

    Args:
        database: where they are kept.
        spec: the reconciliation.
        now: with its time zone: what is due by then.
        scope: of this scope only, as the server writes it; None: all.

    Returns:
        Of each job: waiting (for its time), due, overdue (due or failed, and for more than an hour it
        could have been done: since its time, or since it was asked for where that came later), done, failed,
        dropped, and next: when something is to be done next, a datetime in UTC or None.
    """
    tables.ensure(database)
    none: dict[str, Any] = dict.fromkeys(("waiting", "due", "overdue", "done", "failed", "dropped"), 0)
    found: dict[str, dict[str, Any]] = {item.job: {**none, "next": None} for item in spec.follow_ups}
    with database.session(read_only=True) as session:
        for row in session.records(_STATISTICS, spec.name, now, scope, OVERDUE):
            found[row.pop("job")] = row
    return found


def failed(database: Database, name: str, limit: int | None = None) -> list[dict[str, Any]]:
    """What failed for good or is tried again, the longest due first: job, key, scope, due_at, state, attempts, next_at, said."""
    tables.ensure(database)
    kept = tables.follow_ups.c
    asked = [kept.job, kept.key, kept.scope, kept.due_at, kept.state, kept.attempts, kept.next_at, kept.said]
    query = sa.select(*asked).where(
        kept.reconciliation == name,
        sa.or_(kept.state == "failed", sa.and_(kept.state == "waiting", kept.attempts > 0)),
    )
    with database.session(read_only=True) as session:
        rows = session.connection.execute(query.order_by(kept.due_at, kept.job, kept.key).limit(limit)).mappings().all()
    return [dict(row) for row in rows]


def again(database: Database, name: str) -> int:
    """Have what failed for good tried again, as if for the first time; says how many jobs that is."""
    tables.ensure(database)
    with database.session() as session:
        return session.execute(
            "UPDATE recon.follow_ups SET state = 'waiting', attempts = 0, next_at = NULL"
            " WHERE reconciliation = $1 AND state = 'failed'",
            name,
        ).rowcount


def remove_orphaned(database: Database, spec: Reconciliation, scope: str | None = None) -> tuple[int, str | None]:
    """Remove the jobs of records that are gone, where nothing of them is left to be done: dropped, or done.

    What waits or failed stays, for somebody must see it. A failure fails nobody: the next time removes them.

    Args:
        database: where they are.
        spec: the reconciliation.
        scope: of this scope only, as the server writes it; None: all.

    Returns:
        How many were removed, and why it could not be done: None where it could.
    """
    try:
        tables.ensure(database)
        with database.session() as session:
            return session.execute(_orphaned(spec, target(session, spec)), spec.name, scope).rowcount, None
    except ReconError as error:
        _log.warning("orphaned follow-ups of %s are not removed: %s", spec.name, error)
        return 0, str(error)


def _orphaned(spec: Reconciliation, relation: Relation) -> str:
    one = exp.Select(expressions=[exp.Literal.number(1)]).from_(relation.aliased("t"))
    alive = one.where(keys.same(column("kept", "key"), [column("t", name) for name in spec.target.keys]))
    return _REMOVE + exp.Not(this=exp.Exists(this=alive)).sql(DIALECT)


_REMOVE = """
    DELETE FROM recon.follow_ups AS kept WHERE reconciliation = $1 AND state IN ('done', 'dropped')
      AND ($2::text IS NULL OR scope = $2) AND
"""
