"""What apply and revert share: the session that writes, its lock and timeouts, and batches in key order."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg import errors as pg_errors
from sqlglot import exp

from recon.backfill.batches import Batch
from recon.backfill.change import PLACE, Shape
from recon.backfill.plan import Plan
from recon.database import relations, tables
from recon.database.connect import Database, Session
from recon.errors import Locked, SchemaMismatch, Stale
from recon.names import DIALECT, column, identifier, quote

LOCK_TIMEOUT_MILLISECONDS = 3_000  # wait for other people's row locks this long, then give way
STATEMENT_TIMEOUT_MILLISECONDS = 300_000  # no batch takes minutes; one that does is stopped

Progress = Callable[[int, int], None]  # rows done, rows in all


@contextmanager
def writing(database: Database, plan: Plan) -> Generator[Session]:
    """A session that may write: alone on its table, with timeouts and a search path that nobody can bend.

    Raises:
        Locked: another apply or revert is at work on the same table.
    """
    with database.session() as session:
        target = plan.document["target"]
        name = f"{quote(target['schema'])}.{quote(target['table'])}"
        session.execute("SELECT set_config('search_path', 'pg_catalog, pg_temp', false)")
        session.execute("SELECT set_config('lock_timeout', $1, false)", str(LOCK_TIMEOUT_MILLISECONDS))
        session.execute("SELECT set_config('statement_timeout', $1, false)", str(STATEMENT_TIMEOUT_MILLISECONDS))
        taken = session.value(
            "SELECT pg_try_advisory_lock($1::int, hashtext($2))",
            tables.LOCK_SPACE,
            f"{plan.document['database']} {name}",
        )
        if not taken:
            raise Locked(
                f"Another apply or revert is at work on {target['schema']}.{target['table']}.",
                why="Two writers on one table would step on each other.",
                todo="Wait until it ends; `recon plans` shows it.",
            )
        session.commit()
        try:
            yield session
        except pg_errors.LockNotAvailable as error:
            raise Locked(
                "A row to change is locked by another program.",
                why=f"It was not released within {LOCK_TIMEOUT_MILLISECONDS / 1000:g} s.",
                todo="Try again when that program is done; nothing of the open batch was kept.",
            ) from error


def unchanged_schema(session: Session, plan: Plan) -> None:
    """Refuse a table that is no longer built as it was when the plan was made."""
    target = plan.document["target"]
    name = f"{quote(target['schema'])}.{quote(target['table'])}"
    try:
        relation = relations.table(session, name, "t")
    except SchemaMismatch as error:
        raise Stale(f"The table {name} of plan {plan.plan} is gone.", todo="Make a new plan.") from error
    if relations.fingerprint(session, relation) != plan.document["schema_fingerprint"]:
        raise Stale(
            f"The table {target['schema']}.{target['table']} was altered since plan {plan.plan} was made.",
            why="A column, constraint, index, trigger or rule is not what the reviewer saw.",
            todo="Make a new plan with `recon plan`.",
        )


def hold(session: Session, plan: Plan, kind: str, batch: Batch) -> None:
    """Lock the rows of a batch before its statement looks at them.

    A statement that has to wait for a row sees that row anew, but everything else as it was when it began. Waiting
    first and looking afterwards, in the same transaction, it sees all of it as it is.
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
