"""The table that loaded records are kept in: made for them, marked as recon's, and refilled in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import errors as pg_errors
from sqlglot import exp
from sqlglot.errors import ParseError

from recon.database import relations, tables
from recon.database.connect import Session
from recon.database.relations import Relation
from recon.errors import AlreadyExists, Locked, SchemaMismatch, SpecError, did_you_mean
from recon.names import DIALECT, quote, split_relation
from recon.sources.kept import Kept, Links, taken

MARK = "Loaded by recon"  # stands in a table's comment: what recon made it may fill anew, and no other
WRITTEN = "Written by recon"  # stands in the comment of a column that a backfill writes: a load keeps what is in it
PATIENCE = "10s"  # how long a load waits for whoever writes the same table
_SHAPE = "pg_temp.recon_shape"
# Names that are SQL's own, and not in the list of types, beside those that are.
_SQL_NAMES = (
    "integer", "bigint", "smallint", "boolean", "real", "double precision", "character varying", "decimal",
    "timestamp with time zone", "timestamp without time zone",
)  # fmt: skip
_TYPES = "SELECT typname::text FROM pg_type WHERE typtype IN ('b', 'd', 'e') AND typname NOT LIKE '\\_%'"
_HOLDER = """
    SELECT class.oid::bigint, relkind::text, obj_description(class.oid, 'pg_class') FROM pg_class AS class
    WHERE class.oid = to_regclass($1)
"""
_MARKED = """
    SELECT attname::text FROM pg_attribute
    WHERE attrelid = to_regclass($1)::oid AND attnum > 0 AND NOT attisdropped
      AND col_description(attrelid, attnum) LIKE '%' || $2::text || '%' ORDER BY attnum
"""
_PRIMARY = """
    SELECT conname::text, ARRAY(
        SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS part (number, place)
        JOIN pg_attribute ON attrelid = conrelid AND attnum = part.number ORDER BY part.place
    ) FROM pg_constraint WHERE conrelid = $1::bigint::oid AND contype = 'p'
"""


@dataclass(frozen=True)
class Loaded:
    """What a load brought: the table as the spec names it, and its rows."""

    table: str
    rows: int
    seconds: float
    links: Links | None = None  # what became of them; None: no backfill writes this table


def shape(session: Session, columns: Mapping[str, str]) -> Relation:
    """The columns with their types as the server understands them, as a temporary table without rows.

    Args:
        session: a transaction, in which names mean what they mean to the user.
        columns: column names, and types as a person writes them, such as numeric(14,2).

    Raises:
        SpecError: there is no such type.
    """
    written = [f"{quote(name)} {_type(session, name, text)}" for name, text in columns.items()]
    try:
        with session.driver.transaction():
            session.execute(f"CREATE TEMPORARY TABLE recon_shape ({', '.join(written)}) ON COMMIT DROP")
    except psycopg.Error as error:
        if isinstance(error, pg_errors.InsufficientPrivilege):
            raise
        raise SpecError(
            "The types of `columns` make no table.", why=f"The server says: {error.diag.message_primary}."
        ) from error
    return relations.table(session, _SHAPE, "s")


def widened(session: Session, wanted: Relation, columns: Mapping[str, str]) -> Relation:
    """The same with further columns, after those that it has. Raises SpecError: there is no such type."""
    for name, text in columns.items():
        if name not in wanted.columns:
            session.execute(f"ALTER TABLE {_SHAPE} ADD COLUMN {quote(name)} {_type(session, name, text)}")
    return relations.table(session, _SHAPE, "s")


def _type(session: Session, name: str, text: str) -> str:
    """A type as SQL, once the server knows it; what a person wrote goes there bound, and never as SQL."""
    wanted = _known(session, text)
    if wanted is not None:
        try:
            printed = exp.DataType.build(text, dialect=DIALECT).sql(DIALECT)
        except ParseError:
            printed = ""
        if printed and _known(session, printed) == wanted:
            return printed
        if "(" not in text:
            return wanted
    names = {*_SQL_NAMES, *(row[0] for row in session.rows(_TYPES))}
    raise SpecError(
        f'The type "{text}" of column "{name}" is none that this database knows.',
        why=did_you_mean(text.lower(), names),
        todo="Name a PostgreSQL type, such as integer, numeric(14,2), date or text.",
    )


def _known(session: Session, text: str) -> str | None:
    """A type's own name; None where there is none."""
    try:
        with session.driver.transaction():  # an older server calls what it cannot read an error
            return session.value("SELECT format_type(to_regtype($1)::oid, NULL)", text)
    except psycopg.errors.DatabaseError:
        return None


def marked(session: Session, name: str) -> dict[str, str]:
    """The columns of a loaded table that a backfill writes, by an earlier load, with their types; none: no such table."""
    quoted = ".".join(quote(part) for part in split_relation(name) if part is not None)
    found = [row[0] for row in session.rows(_MARKED, quoted, WRITTEN)]
    kinds = relations.table(session, name, "s").sql_types if found else {}
    return {column: kinds[column] for column in found}


@dataclass(frozen=True)
class Landing:
    """A table to fill: its name in the spec, what it must be like, and where the records come from.

    Args:
        written: those of its columns that a backfill writes; what is in them is kept.
    """

    name: str
    shape: Relation
    keys: Sequence[str]
    origin: str
    written: Sequence[str] = ()

    @property
    def quoted(self) -> str:
        return ".".join(quote(part) for part in split_relation(self.name) if part is not None)

    def refuse_foreign(self, session: Session) -> None:
        """Raises AlreadyExists where the table holds records that recon did not load: they would be lost."""
        found = session.rows(_HOLDER, self.quoted)
        if not found or MARK in (found[0][2] or ""):
            return
        is_table = found[0][1] in ("r", "p")
        if is_table and session.value(f"SELECT 1 FROM {self.quoted} LIMIT 1") is None:  # noqa: S608
            return
        raise AlreadyExists(
            f'There is {"a table" if is_table else "something that is no table"} "{self.name}" already.',
            why="recon did not load what is in it, and a load replaces all records of a table.",
            todo="Name another table with `into`, or empty this one if nothing in it is needed.",
        )

    def emptied(self, session: Session) -> tuple[Relation, Kept]:
        """The table without its former records, with the right columns; readers see the former ones until the end.

        What a backfill wrote is put aside by key.

        It stays the same table, so rights, indexes and views stay too. Where `columns` changed, its columns are
        altered, for which readers wait.

        Raises:
            Locked: somebody has been writing to it for too long.
            SchemaMismatch: something in the database hangs on a column that would go or change; or what a backfill wrote
                could not be kept.
        """
        kept = Kept(self.shape, self.keys, ())
        session.execute("SELECT set_config('lock_timeout', $1, true)", PATIENCE)
        try:
            session.execute(
                "SELECT pg_advisory_xact_lock($1::int, hashtext($2))", tables.LOCK_SPACE, f"load {self.name}"
            )
            found = session.rows(_HOLDER, self.quoted)
            if found:
                session.execute(f"LOCK TABLE {self.quoted} IN SHARE ROW EXCLUSIVE MODE")
                self.refuse_foreign(session)
                now = relations.table(session, self.name, "s")
                kept = taken(session, self.quoted, now, self.shape, self.keys, self.written)
                # Not TRUNCATE, which readers would have to wait for.
                session.execute(f"DELETE FROM {self.quoted}")  # noqa: S608
                self._altered(session)
                comment = found[0][2] or ""
            else:
                self._create(session)
                comment = ""
            self._keyed(session)
        except pg_errors.LockNotAvailable as error:
            raise Locked(
                f"{self.name} cannot be filled now.",
                why=f"Somebody has been writing to it for more than {PATIENCE}.",
                todo="Try again later.",
            ) from error
        if MARK not in comment:
            said = exp.Literal.string(f"{comment} {MARK} from {self.origin}".strip())
            session.execute(f"COMMENT ON TABLE {self.quoted} IS {said.sql(DIALECT)}")
        self._mark(session)
        return relations.table(session, self.name, "s"), kept

    def _mark(self, session: Session) -> None:
        """Say of the written columns what they are, so that a load for another spec keeps them too."""
        said = exp.Literal.string(f"{WRITTEN}: a load keeps what is in it").sql(DIALECT)
        for name in set(self.written) - {row[0] for row in session.rows(_MARKED, self.quoted, WRITTEN)}:
            session.execute(f"COMMENT ON COLUMN {self.quoted}.{quote(name)} IS {said}")

    def _create(self, session: Session) -> None:
        schema, _ = split_relation(self.name)
        # Not IF NOT EXISTS, which asks for the right even where the schema is there.
        if schema is not None and session.value("SELECT to_regnamespace($1)::text", quote(schema)) is None:
            session.execute(f"CREATE SCHEMA {quote(schema)}")
        session.execute(f"CREATE TABLE {self.quoted} (LIKE {_SHAPE})")

    def _altered(self, session: Session) -> None:
        """Give the table, which is empty, the columns that are asked for now."""
        now = relations.table(session, self.name, "s").sql_types
        asked = self.shape.sql_types
        changes = [f"ADD COLUMN {quote(name)} {kind}" for name, kind in self._types().items() if name not in now]
        changes += [f"DROP COLUMN {quote(name)}" for name in now if name not in asked]
        changes += [
            f"ALTER COLUMN {quote(name)} TYPE {kind} USING NULL"
            for name, kind in self._types().items()
            if name in now and now[name] != asked[name]
        ]
        if not changes:
            return
        try:
            with session.driver.transaction():
                session.execute(f"ALTER TABLE {self.quoted} {', '.join(changes)}")
        except (pg_errors.DependentObjectsStillExist, pg_errors.FeatureNotSupported) as error:
            raise SchemaMismatch(
                f"{self.name} has other columns than `columns` names, and cannot be altered.",
                why=f"The server says: {error.diag.message_primary}. {error.diag.message_detail or ''}".strip(),
                todo="Drop what hangs on the column, name another table with `into`, or leave `columns` as it was.",
            ) from error

    def _types(self) -> dict[str, str]:
        return {name: self.shape.type_of(name).sql(DIALECT) for name in self.shape.columns}

    def _keyed(self, session: Session) -> None:
        """Let the key be the primary key: matching then knows that no two records share it."""
        oid = session.rows(_HOLDER, self.quoted)[0][0]
        found = session.rows(_PRIMARY, oid)
        if found and found[0][1] == list(self.keys):
            return
        if found:
            session.execute(f"ALTER TABLE {self.quoted} DROP CONSTRAINT {quote(found[0][0])}")
        session.execute(f"ALTER TABLE {self.quoted} ADD PRIMARY KEY ({', '.join(map(quote, self.keys))})")
