"""What recon keeps of runs of notebooks, in the table notebook_runs: which ran, how they ended, what a report showed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from recon.database import tables
from recon.database.connect import Database, Session

_SPACE = tables.LOCK_SPACE
_kept = tables.notebook_runs


def begin(
    database: Database, identity: str, notebook: str, reconciliation: str, actor: str, parameters: Mapping[str, Any]
) -> None:
    """Write down that a notebook is about to run; rows of runs whose process is gone are closed as failed.

    Args:
        database: where recon's own tables are.
        identity: the name of its files in reports/, without ending.
        notebook: the notebook's file name.
        reconciliation: which one it is about.
        actor: who runs it.
        parameters: what it gets; nothing secret is ever among them.
    """
    with database.session() as session:
        _bury(session, reconciliation)
        session.connection.execute(
            _kept.insert().values(
                id=identity, notebook=notebook, reconciliation=reconciliation, state="running", actor=actor,
                parameters=dict(parameters),
            )
        )  # fmt: skip


def holding(session: Session, identity: str) -> None:
    """Hold the lock that tells other processes that this run goes on, for as long as the session lasts."""
    session.execute("SELECT pg_advisory_lock($1::int, hashtext($2))", _SPACE, f"notebook {identity}")


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


def _bury(session: Session, reconciliation: str) -> None:
    running = sa.select(_kept.c.id).where(_kept.c.reconciliation == reconciliation, _kept.c.state == "running")
    for identity in list(session.connection.execute(running).scalars()):
        lock = "SELECT pg_try_advisory_xact_lock($1::int, hashtext($2))"
        if session.value(lock, _SPACE, f"notebook {identity}"):
            session.connection.execute(
                _kept.update()
                .where(_kept.c.id == identity)
                .values(state="failed", error="its process is gone", completed_at=sa.func.clock_timestamp())
            )
