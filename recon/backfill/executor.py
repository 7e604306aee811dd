"""What apply and revert share: the session that writes, alone on its table, with timeouts and a plain search path."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from recon.backfill.batches import Batch
from recon.backfill.change import PLACE, Shape
from recon.backfill.limits import LIMITS
from recon.backfill.plan import Plan
from recon.backfill.veils import PRIVATE
from recon.database import relations, tables
from recon.database.connect import Database, Session
from recon.errors import DatabaseFailed, Locked, OutsideFailed, OutsideLeft, SchemaMismatch, Stale
from recon.names import DIALECT, column, identifier, quote

Progress = Callable[[int, int], None]  # rows done, rows in all
Notice = Callable[[str | None], None]  # why it waits; None: it goes on


def silent(_reason: str | None) -> None:
    """A notice that nobody reads."""


@dataclass(frozen=True)
class Alone:
    """The lock of an apply or a revert on its table, which the session that took it holds until it ends."""

    pid: int  # of that session's backend
    key: int  # the second half of the advisory lock
    crew: int  # the same of the lock that its further workers share

    def join(self, session: Session) -> None:
        """Let nobody start anew while this further worker is there, even if the session with the lock is gone."""
        session.execute("SELECT pg_advisory_lock_shared($1::int, $2::int)", tables.LOCK_SPACE, self.crew)
        session.commit()

    def held(self, session: Session) -> bool:
        """Whether it is still held, as any session can see."""
        return session.value(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = $1::int"
            " AND classid = $2::bigint::oid AND objid = ($3::bigint & 4294967295)::oid AND objsubid = 2)",
            self.pid,
            tables.LOCK_SPACE,
            self.key,
        )


@contextmanager
def writing(database: Database, plan: Plan) -> Generator[tuple[Session, Alone]]:
    """A session that may write, and the proof that it is the only apply or revert on its table.

    Raises:
        Locked: another apply or revert is at work on the same table.
        DatabaseFailed: the database refused a statement; without its words where they may hold private values.
    """
    with _discreet(plan), database.session() as session:
        limited(session)
        target = plan.document["target"]
        name = f"{quote(target['schema'])}.{quote(target['table'])}"
        whole = f"{plan.document['database']} {name}"
        key, crew = session.rows("SELECT hashtext($1), hashtext($2)", whole, f"{whole} workers")[0]
        free = session.value("SELECT pg_try_advisory_lock($1::int, $2::int)", tables.LOCK_SPACE, key)
        # A worker outlives the session that held the lock for as long as its batch takes: for nobody else's start.
        if not free or not session.value("SELECT pg_try_advisory_xact_lock($1::int, $2::int)", tables.LOCK_SPACE, crew):
            raise Locked(
                f"Another apply or revert is at work on {target['schema']}.{target['table']}.",
                why="Two writers on one table would step on each other.",
                todo="Wait until it ends; `recon plans` shows it. A killed one is gone after a few seconds.",
            )
        session.commit()
        yield session, Alone(session.driver.info.backend_pid, key, crew)


@contextmanager
def _discreet(plan: Plan) -> Generator[None]:
    """Leave out what a trigger of the table says where columns are private: it may name any value of the row."""
    try:
        yield
    except DatabaseFailed as error:
        if not may_tell(plan, error):
            raise DatabaseFailed(
                "The database refused a statement.",
                why=f"{error.why} Its words may hold private values, so they are left out.",
                todo="The server's log has them.",
            ) from None
        raise
    except OutsideFailed as error:
        if not may_tell(plan, error):
            why = "Its words may hold private values, so they are left out."
            raise type(error)(error.what, why=why, todo=error.todo) from None
        raise


def may_tell(plan: Plan, error: Exception) -> bool:
    """Whether the words of an error may be shown and kept: they are our own, or the plan has no private column."""
    theirs = isinstance(error, DatabaseFailed | OutsideFailed) and not isinstance(error, OutsideLeft)
    return not theirs or PRIVATE not in plan.document


def limited(session: Session) -> None:
    """Set the timeouts and the search path of a session that writes, for as long as it lives."""
    for name, value in LIMITS.items():
        session.execute("SELECT set_config($1, $2, false)", name, value)
    session.commit()


# -- the table as it was planned -------------------------------------------------------------------------


def target_name(plan: Plan) -> str:
    """The written table as SQL."""
    target = plan.document["target"]
    return f"{quote(target['schema'])}.{quote(target['table'])}"


def unchanged_schema(session: Session, plan: Plan) -> None:
    """Refuse a table that is no longer built as it was when the plan was made. Raises Stale."""
    name = target_name(plan)
    try:
        relation = relations.table(session, name, "t")
    except SchemaMismatch as error:
        raise Stale(f"The table {name} of plan {plan.plan} is gone.", todo="Make a new plan.") from error
    if relations.fingerprint(session, relation) != plan.document["schema_fingerprint"]:
        target = plan.document["target"]
        raise Stale(
            f"The table {target['schema']}.{target['table']} was altered since plan {plan.plan} was made.",
            why="A column, constraint, index, trigger or rule is not what the reviewer saw.",
            todo="Make a new plan with `recon plan`.",
        )


def hold(session: Session, plan: Plan, kind: str, batch: Batch) -> None:
    """Lock the rows of a batch before its statement looks at them.

    Where others write the same rows all the time, waiting first and looking afterwards gets there.
    """
    document = plan.document["target"]
    shape = Shape.of_document(plan.document)
    table = exp.Table(
        this=identifier(document["table"]),
        db=identifier(document["schema"]),
        alias=exp.TableAlias(this=identifier("target")),
    )
    own = tables.own(kind, plan.plan)
    recorded = exp.Table(this=own.this, db=own.args["db"], alias=exp.TableAlias(this=identifier("recorded")))
    same = [
        exp.EQ(this=column("target", key), expression=column("recorded", name))
        for key, name in zip(shape.keys, shape.key_names, strict=True)
    ]
    rows = exp.Select(expressions=[exp.Literal.number(1)]).from_(table).join(recorded, on=exp.and_(*same))
    places = exp.Between(
        this=column("recorded", PLACE),
        low=exp.cast(exp.Parameter(this=exp.Literal.number(1)), "bigint"),
        high=exp.cast(exp.Parameter(this=exp.Literal.number(2)), "bigint"),
    )
    session.execute(f"{rows.where(places).sql(DIALECT)} FOR UPDATE OF {quote('target')}", batch.first, batch.last)


def shown(key: Sequence[Any]) -> str:
    """A key for people."""
    return str(key[0]) if len(key) == 1 else json.dumps([str(part) for part in key])
