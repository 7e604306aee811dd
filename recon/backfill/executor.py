"""What apply and revert share: the session that writes, its lock and timeouts, and batches in key order."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import errors as pg_errors
from sqlglot import exp

from recon.backfill.change import Shape
from recon.backfill.plan import Plan
from recon.database import relations, tables
from recon.database.connect import Database, Session
from recon.errors import Locked, SchemaMismatch, Stale
from recon.names import DIALECT, column, identifier, quote

ONE_TRANSACTION_ROWS = 10_000  # up to here a plan is all or nothing (design, section 6)
BATCH_ROWS = 2_000  # 1,000 to 5,000 rows a batch were measured to cost least beside one bare UPDATE
LOCK_TIMEOUT_MILLISECONDS = 3_000  # wait for other people's row locks this long, then give way
STATEMENT_TIMEOUT_MILLISECONDS = 300_000  # no batch takes minutes; one that does is stopped

Progress = Callable[[int, int], None]  # rows done, rows in all


@dataclass(frozen=True)
class Batch:
    """A range of keys, both ends included."""

    number: int
    low: tuple[Any, ...]
    high: tuple[Any, ...]
    rows: int


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


def batches(session: Session, plan: Plan, kind: str, size: int = BATCH_ROWS) -> list[Batch]:
    """The ranges of keys of a plan's own table, each of `size` rows; the same table gives the same ranges."""
    names = Shape.of_document(plan.document).key_names
    keys = ", ".join(quote(name) for name in names)
    table = tables.own(kind, plan.plan).sql(DIALECT)
    rows = session.rows(
        f"""
        WITH numbered AS (
            SELECT {keys}, row_number() OVER (ORDER BY {keys}) - 1 AS place, count(*) OVER () AS whole FROM {table}
        )
        SELECT place, whole, {keys} FROM numbered
        WHERE place % $1 = 0 OR place % $1 = $1 - 1 OR place = whole - 1 ORDER BY place
        """,  # noqa: S608 (quoted names of our own table)
        size,
    )
    found: list[Batch] = []
    for place, whole, *key in rows:
        number = place // size
        if place % size == 0:
            found.append(Batch(number, tuple(key), tuple(key), min(size, whole - place)))
        else:
            found[-1] = Batch(number, found[-1].low, tuple(key), found[-1].rows)
    return found


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
    statement = f"{rows.where(*_within(shape, 'recorded')).sql(DIALECT)} FOR UPDATE OF {quote('target')}"
    session.execute(statement, *batch.low, *batch.high)


def _within(shape: Shape, table: str) -> list[exp.Expr]:
    """The bounds of a batch on the keys of recon's own table, whose types the parameters take."""
    count = len(shape.keys)

    def row(parts: list[exp.Expr]) -> exp.Expr:
        return parts[0] if count == 1 else exp.Tuple(expressions=parts)

    def parameters(first: int) -> list[exp.Expr]:
        return [exp.Parameter(this=exp.Literal.number(first + place)) for place in range(count)]

    def keys() -> list[exp.Expr]:
        return [column(table, name) for name in shape.key_names]

    return [
        exp.GTE(this=row(keys()), expression=row(parameters(1))),
        exp.LTE(this=row(keys()), expression=row(parameters(1 + count))),
    ]


def whole_range(ranges: Sequence[Batch]) -> list[Batch]:
    """All ranges as one."""
    if not ranges:
        return []
    return [Batch(0, ranges[0].low, ranges[-1].high, sum(batch.rows for batch in ranges))]


def shown(key: Sequence[Any]) -> str:
    """A key for people."""
    return str(key[0]) if len(key) == 1 else json.dumps([str(part) for part in key])
