"""Sample tables: created by a schema script and filled by COPY, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from psycopg import sql

from recon.database.connect import Database
from recon.errors import AlreadyExists


class SampleTable(Protocol):
    """One table of a sample: what a generator gives."""

    @property
    def name(self) -> str: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def rows(self) -> list[tuple[object, ...]]: ...


@dataclass(frozen=True)
class Sample:
    """The sample of a system: a script under sql/schema and a generator of its rows."""

    schema: str
    tables: Callable[[], list[Any]]


def load(database: Database, script: str, tables: list[Any]) -> dict[str, int]:
    """Create and fill the sample tables in one transaction; returns rows by table.

    Raises:
        AlreadyExists: a table of one of these names is there; nothing is touched.
    """
    with database.session() as session:
        for table in tables:
            if session.value("SELECT to_regclass(quote_ident($1))::text", table.name) is not None:
                raise AlreadyExists(
                    f'There is a table "{table.name}" already.',
                    why="Sample data never replaces a table.",
                    todo="Use another database, or rename the table.",
                )
        session.driver.execute(script.encode())  # several statements: sent as one simple query
        for table in tables:
            copy = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, table.columns))
            )
            with session.driver.cursor() as cursor, cursor.copy(copy) as writer:
                for row in table.rows:
                    writer.write_row(row)
            session.driver.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table.name)))
    return {table.name: len(table.rows) for table in tables}
