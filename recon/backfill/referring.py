"""Rows of other people that a revert would delete or empty with an inserted row: those that refer to it by a foreign key."""

from __future__ import annotations

from dataclasses import dataclass

from recon.backfill import executor, scripts
from recon.backfill.batches import Batch
from recon.backfill.change import INSERT, Shape
from recon.backfill.plan import Plan
from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import Locked
from recon.names import DIALECT, quote

SHOWN_ROWS = 5  # inserted rows named in an error

# Foreign keys to the table or its parts that take other rows along (c) or empty them (n, d) where a row is deleted; of
# one that is inherited by the parts only the first.
_FOLLOWING = """
    SELECT namespace.nspname::text, class.relname::text, class.oid = to_regclass($1),
        ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS key (number, place)
            JOIN pg_attribute ON attrelid = conrelid AND attnum = number ORDER BY place),
        ARRAY(SELECT attname::text FROM unnest(confkey) WITH ORDINALITY AS key (number, place)
            JOIN pg_attribute ON attrelid = confrelid AND attnum = number ORDER BY place)
    FROM pg_constraint JOIN pg_class AS class ON class.oid = conrelid
    JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
    WHERE contype = 'f' AND confdeltype IN ('c', 'n', 'd') AND conparentid = 0
      AND (confrelid = to_regclass($1) OR confrelid IN (SELECT relid FROM pg_partition_tree(to_regclass($1))))
    ORDER BY 1, 2, conname
"""


@dataclass(frozen=True)
class _Following:
    """A foreign key that would change other rows with a deleted one."""

    schema: str
    table: str
    own: bool  # of the written table itself
    columns: list[str]
    named: list[str]  # the columns of the written table


def nobody(database: Database, session: Session, plan: Plan, batch: Batch) -> None:
    """Refuse to delete inserted rows of a batch that others refer to, where their rows would go or lose a value with them.

    A foreign key that forbids the deletion is left to the server.

    Raises:
        Locked: names the table, and the first rows that are referred to.
    """
    if not Shape.of_document(plan.document).inserts:
        return
    following = [_Following(*row) for row in session.rows(_FOLLOWING, executor.target_name(plan))]
    if not following:
        return
    # From here on nobody can begin to refer to these rows; what others committed before is seen from beside.
    executor.hold(session, plan, "ledger", batch)
    with database.session(read_only=True) as beside:
        for key in following:
            if rows := _referred(beside, plan, key, batch):
                listed = ", ".join(executor.shown(row) for row in rows[:SHOWN_ROWS])
                raise Locked(
                    f"Rows of {key.schema}.{key.table} refer to rows that plan {plan.plan} inserted.",
                    why=f"They would be deleted or emptied with them ({listed}{' …' if len(rows) > SHOWN_ROWS else ''}).",
                    todo="Decide about these rows first; then revert again.",
                )


def _referred(session: Session, plan: Plan, key: _Following, batch: Batch) -> list[tuple[object, ...]]:
    """The first untouched inserted rows of a batch that rows of another origin refer to by this key."""
    names = dict(zip((shape := Shape.of_document(plan.document)).keys, shape.key_names, strict=True))
    ledger, digest = tables.own("ledger", plan.plan).sql(DIALECT), scripts.row_digest().sql(DIALECT)
    same = " AND ".join(f"target.{quote(own)} = ledger.{quote(name)}" for own, name in names.items())
    refers = " AND ".join(
        f"referring.{quote(own)} = target.{quote(named)}" for own, named in zip(key.columns, key.named, strict=True)
    )
    inserted_too = ""
    if key.own:  # rows of the plan may refer to each other
        theirs = " AND ".join(f"referring.{quote(own)} = other.{quote(name)}" for own, name in names.items())
        inserted_too = f" AND NOT EXISTS (SELECT FROM {ledger} AS other WHERE other.action = $3::text AND {theirs})"
    listed = ", ".join(f"ledger.{quote(name)}" for name in names.values())
    return session.rows(
        f"SELECT DISTINCT {listed} FROM {ledger} AS ledger JOIN {executor.target_name(plan)} AS target ON {same}"  # noqa: S608 (quoted)
        f" JOIN {quote(key.schema)}.{quote(key.table)} AS referring ON {refers}{inserted_too}"
        f" WHERE ledger.place BETWEEN $1::bigint AND $2::bigint AND ledger.action = $3::text"
        f" AND ledger.reverted_at IS NULL AND {digest} = ledger.row_digest ORDER BY {listed} LIMIT {SHOWN_ROWS + 1}",
        batch.first,
        batch.last,
        INSERT,
    )
