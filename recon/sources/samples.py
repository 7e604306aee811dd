"""Sample data: tables created by a schema script and filled by COPY, all or nothing; and files, never over another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from recon.database.connect import Database
from recon.errors import AlreadyExists
from recon.names import quote, split_relation


@dataclass(frozen=True)
class Table:
    """One table of a sample: its rows hold their values in the order of `columns`."""

    name: str  # with its schema where that is not the default
    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]


@dataclass(frozen=True)
class File:
    """One file of a sample, which people would have exported from the system that it stands for."""

    path: str  # in a workspace
    content: bytes


def no_files() -> list[File]:
    """The files of a sample that has tables only."""
    return []


@dataclass(frozen=True)
class Sample:
    """The sample of a system: a script under sql/schema, and generators of its rows and of its files."""

    schema: str
    tables: Callable[[], list[Table]]
    files: Callable[[], list[File]] = no_files
    members: tuple[str, ...] = ()  # the reconciliations that it is for


def load(database: Database, script: str, tables: Sequence[Table], loaded: Sequence[str] = ()) -> dict[str, int]:
    """Create and fill the sample tables in one transaction; returns rows by table.

    Args:
        database: where they go.
        script: what creates them.
        tables: the tables and their rows; a name may hold a schema.
        loaded: further tables that must not be there yet, because the sample's files will be loaded into them.

    Raises:
        AlreadyExists: a table of one of these names is there; nothing is touched.
    """
    with database.session() as session:
        for name in (*(table.name for table in tables), *loaded):
            schema, plain = split_relation(name)
            known = ".".join(quote(part) for part in (schema, plain) if part)
            if session.value("SELECT to_regclass($1)::text", known) is not None:
                raise AlreadyExists(
                    f'There is a table "{name}" already.',
                    why="Sample data never replaces a table.",
                    todo="Use another database, or rename the table.",
                )
        session.driver.execute(script.encode())  # several statements: sent as one simple query
        for table in tables:
            place = sql.Identifier(*(part for part in split_relation(table.name) if part))
            copy = sql.SQL("COPY {} ({}) FROM STDIN").format(
                place, sql.SQL(", ").join(map(sql.Identifier, table.columns))
            )
            with session.driver.cursor() as cursor, cursor.copy(copy) as writer:
                for row in table.rows:
                    writer.write_row(row)
            session.driver.execute(sql.SQL("ANALYZE {}").format(place))
    return {table.name: len(table.rows) for table in tables}


def write(folder: Path, files: Sequence[File]) -> list[Path]:
    """Write the files of a sample into a workspace; those that are there with the same content stay.

    Raises:
        AlreadyExists: a file of one of these names holds something else; nothing is written.
        NoPlace: the folder cannot be written.
    """
    paths = [folder / file.path for file in files]
    for path, file in zip(paths, files, strict=True):
        if path.exists() and (not path.is_file() or path.read_bytes() != file.content):
            raise AlreadyExists(
                f"{path} is there already, and is not the sample's.",
                why="Sample data never replaces a file.",
                todo="Use another workspace, or move the file away.",
            )
    for path, file in zip(paths, files, strict=True):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
    return paths
