"""What recon keeps of runs of notebooks, in the table notebook_runs: which ran, how they ended, what a report showed."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import DatabaseUnreachable

_SPACE = tables.LOCK_SPACE
_kept = tables.notebook_runs
GONE = "its process is gone: killed, or cut off from the server"


@contextmanager
def held(database: Database, identity: str) -> Generator[bool]:
    """Hold the lock that tells other processes that this run goes on; gives False where another run holds it.

    The connection waits outside any transaction, so that the server need not keep old rows for it.
    """
    over = False
    try:
        with database.session() as session:
            session.execute("SELECT set_config('idle_session_timeout', '0', false)")
            got = session.value("SELECT pg_try_advisory_lock($1::int, hashtext($2))", _SPACE, f"notebook {identity}")
            session.commit()
            yield got
            over = True
    except DatabaseUnreachable:
        if not over:  # a lock that was lost on the way is no failure of what ran
            raise


def begin(
    database: Database, identity: str, notebook: str, reconciliation: str, actor: str, parameters: Mapping[str, Any]
) -> bool:
    """Write down that a notebook is about to run.

    Args:
        database: where recon's own tables are.
        identity: the name of its files in reports/, without ending; its lock is held.
        notebook: the notebook's file name.
        reconciliation: which one it is about.
        actor: who runs it.
        parameters: what it gets; nothing secret is ever among them.

    Returns:
        False where another workspace took the same name in the same second.
    """
    with database.session() as session:
        made = session.connection.execute(
            insert(_kept)
            .values(
                id=identity, notebook=notebook, reconciliation=reconciliation, state="running", actor=actor,
                parameters=dict(parameters),
            )
            .on_conflict_do_nothing()
            .returning(_kept.c.id)
        )  # fmt: skip
        return made.first() is not None


def note(database: Database, identity: str, **values: Any) -> None:
    """Keep what a notebook tells of itself: run, plan, figures, inputs."""
    with database.session() as session:
        session.connection.execute(_kept.update().where(_kept.c.id == identity).values(**values))


def end(database: Database, identity: str, state: str, **values: Any) -> None:
    """Write down how a run ended: success, partial or failed; with file, digest, error."""
    with database.session() as session:
        session.connection.execute(
            _kept.update()
            .where(_kept.c.id == identity, _kept.c.state == "running")
            .values(state=state, completed_at=sa.func.clock_timestamp(), **values)
        )


def read(database: Database, identity: str) -> dict[str, Any]:
    """What is kept of one run."""
    with database.session(read_only=True) as session:
        return dict(session.connection.execute(sa.select(_kept).where(_kept.c.id == identity)).mappings().one())


def history(database: Database, reconciliation: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
    """The latest runs of notebooks, newest first."""
    tables.ensure(database)
    columns = (column for column in _kept.c if column.name not in ("figures", "inputs", "signature"))
    query = sa.select(*columns).order_by(_kept.c.started_at.desc()).limit(limit)
    if reconciliation:
        query = query.where(_kept.c.reconciliation == reconciliation)
    with database.session(read_only=True) as session:
        return [dict(row) for row in session.connection.execute(query).mappings()]


def bury(database: Database, reconciliation: str) -> list[str]:
    """Close the rows of runs whose process is gone as failed; returns which."""
    running = sa.select(_kept.c.id).where(_kept.c.reconciliation == reconciliation, _kept.c.state == "running")
    with database.session() as session:
        return [
            identity for identity in list(session.connection.execute(running).scalars()) if _gone(session, identity)
        ]


def _gone(session: Session, identity: str) -> bool:
    lock = "SELECT pg_try_advisory_xact_lock($1::int, hashtext($2))"
    if not session.value(lock, _SPACE, f"notebook {identity}"):
        return False
    closed = session.connection.execute(
        _kept.update()
        .where(_kept.c.id == identity, _kept.c.state == "running")
        .values(state="failed", error=GONE, completed_at=sa.func.clock_timestamp())
        .returning(_kept.c.id)
    )
    return closed.first() is not None
