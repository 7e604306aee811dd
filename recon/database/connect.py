"""One function that opens a connection: sessions in UTC, generated SQL run verbatim, errors in plain words."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, LiteralString, cast

import psycopg
import sqlalchemy as sa
import sqlalchemy.exc as sa_exc
from psycopg import errors as pg_errors

from recon.errors import DatabaseFailed, DatabaseUnreachable, ReconError, UsageError

CONNECT_TIMEOUT_SECONDS = 10  # long enough for a sleeping server, short enough for a person who waits
OLDEST_SERVER = 15  # design: PostgreSQL 15 or later

# What every session pins, so that the same data gives the same text and the same answer everywhere.
SESSION_SETTINGS = {
    "timezone": "UTC",
    "datestyle": "ISO,YMD",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "application_name": "recon",
}


@dataclass(frozen=True)
class Session:
    """One transaction. SQL is sent as it stands; values are bound as $1, $2, …"""

    connection: sa.Connection

    @property
    def driver(self) -> psycopg.Connection[Any]:
        """The psycopg connection below, for COPY."""
        return cast("psycopg.Connection[Any]", self.connection.connection.driver_connection)

    def execute(self, sql: str, *values: object) -> psycopg.RawCursor[tuple[Any, ...]]:
        """Run one statement verbatim; psycopg's RawCursor knows no placeholder but PostgreSQL's own."""
        cursor: psycopg.RawCursor[tuple[Any, ...]] = psycopg.RawCursor(self.driver)
        cursor.execute(cast(LiteralString, sql), values or None)
        return cursor

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.execute(sql, *values).fetchall()

    def value(self, sql: str, *values: object) -> Any:
        row = self.execute(sql, *values).fetchone()
        return row[0] if row else None

    def records(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """Rows as dicts by column name."""
        cursor = self.execute(sql, *values)
        names = [column.name for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def commit(self) -> None:
        self.driver.commit()


@dataclass(frozen=True)
class Database:
    """A PostgreSQL database: where it is, and what kind of place it is."""

    url: str = field(repr=False)  # may hold a password
    embedded: bool = False
    demo: bool = False

    @property
    def environment(self) -> str:
        """development for the embedded database, production for any other, unless RECON_ENVIRONMENT says otherwise."""
        return "development" if self.embedded else "production"

    @cached_property
    def engine(self) -> sa.Engine:
        options = " ".join(f"-c {name}={value}" for name, value in SESSION_SETTINGS.items())
        try:
            url = sa.make_url(_with_driver(self.url))
            if url.get_backend_name() != "postgresql":
                raise UsageError(
                    f"recon works on PostgreSQL, not on {url.get_backend_name()}.",
                    todo="Give a postgresql:// URL.",
                )
            return sa.create_engine(
                url,
                poolclass=sa.NullPool,
                connect_args={"options": options, "connect_timeout": CONNECT_TIMEOUT_SECONDS},
            )
        except (sa_exc.ArgumentError, sa_exc.NoSuchModuleError, ValueError) as error:
            raise UsageError(
                "The database URL cannot be read.", todo="Write it like postgresql://user@host:5432/name."
            ) from error

    @contextmanager
    def session(self, *, read_only: bool = False) -> Generator[Session]:
        """One transaction: committed at the end, rolled back on any error.

        Raises:
            DatabaseUnreachable: no connection; says whether host, port, password or database is the cause.
            DatabaseFailed: the database refused a statement.
        """
        try:
            connection = self.engine.connect()
        except sa_exc.DBAPIError as error:
            raise _unreachable(error.orig, self.engine.url) from None
        except psycopg.Error as error:
            raise _unreachable(error, self.engine.url) from None
        with connection:
            session = Session(connection)
            try:
                if session.driver.info.server_version < OLDEST_SERVER * 10_000:
                    raise DatabaseUnreachable(
                        f"The server is PostgreSQL {session.driver.info.server_version // 10_000}.",
                        why=f"recon needs {OLDEST_SERVER} or later.",
                    )
                if read_only:
                    session.execute("SET TRANSACTION READ ONLY")
                yield session
                session.driver.commit()
            except (psycopg.Error, sa_exc.DBAPIError) as error:
                _rolled_back(session)
                raise explained(error) from error
            except BaseException:
                _rolled_back(session)
                raise


def _rolled_back(session: Session) -> None:
    if not session.driver.closed:
        session.driver.rollback()


def _with_driver(url: str) -> str:
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+psycopg://", url.strip())


def explained(error: Exception) -> ReconError:
    """A database error in three parts; the statement's values stay out of it."""
    origin: BaseException | None = error.orig if isinstance(error, sa_exc.DBAPIError) else error
    if isinstance(origin, psycopg.OperationalError) and origin.sqlstate is None:
        return DatabaseUnreachable(
            "The connection to the database broke off.",
            todo="Nothing of the open transaction was kept; run it again.",
        )
    if not isinstance(origin, psycopg.Error):
        return DatabaseFailed(why=str(error).splitlines()[0])
    said = origin.diag.message_primary or str(origin).splitlines()[0]
    hint = origin.diag.message_hint or ""
    if isinstance(origin, pg_errors.InsufficientPrivilege):
        hint = "Ask for the right, or connect as a user who has it."
    return DatabaseFailed(f"The database refused a statement: {said}.", why=f"(SQLSTATE {origin.sqlstate})", todo=hint)


def _unreachable(error: object, url: sa.URL) -> DatabaseUnreachable:
    text = str(error).lower()
    place = f"{url.host or 'the local socket'}, port {url.port or 5432}"
    causes = (
        (("resolve", "name or service", "nodename", "translate host"), f"The host name {url.host} is not known.", "Check the host in RECON_DATABASE_URL."),
        (("password", "authentication", "no pg_hba"), f"The server does not accept user {url.username or '(none)'} with this password.", "Check user and password in RECON_DATABASE_URL."),
        (("does not exist",), f'The database "{url.database}" or the user "{url.username}" does not exist there.', "Check the names, or create the database."),
        (("refused",), f"Nothing listens at {place}.", "Start the server, or check host and port."),
        (("timeout", "timed out"), f"{place} does not answer within {CONNECT_TIMEOUT_SECONDS} s.", "Check the network, host and port."),
        (("no such file",), f"There is no socket at {place}.", "Start the server, or check the path."),
        (("too many", "remaining connection"), "The server has no free connection.", "Try again later."),
    )  # fmt: skip
    for signs, why, todo in causes:
        if any(sign in text for sign in signs):
            return DatabaseUnreachable(why=why, todo=todo)
    return DatabaseUnreachable(why="The server gave no reason that we know.", todo="Check RECON_DATABASE_URL.")
