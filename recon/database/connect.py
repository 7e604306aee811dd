"""One function that opens a connection: sessions in UTC, generated SQL run verbatim, errors in plain words."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, LiteralString, cast

import psycopg
import sqlalchemy as sa
import sqlalchemy.event as sa_event
import sqlalchemy.exc as sa_exc
from psycopg import errors as pg_errors
from psycopg import pq
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader

from recon.errors import DatabaseFailed, DatabaseUnreachable, ReconError, UsageError, did_you_mean, without_values
from recon.names import quote

CONNECT_TIMEOUT_SECONDS = 10  # long enough for a sleeping server, short enough for a person who waits
PAUSES_SECONDS = (0.2, 0.5, 1.5)  # between attempts at a server that is starting up or has no free connection
POOL_SIZE = 5  # connections that a service keeps; more are opened when needed, and closed again
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
    # A statement ends soon after the process that asked for it, however that ended.
    "client_connection_check_interval": "5s",
}


# Types with values that Python has no name for: infinity, BC, years past 9999, 24:00.
_TIME_TYPES = ("date", "time", "timetz", "timestamp", "timestamptz", "interval")

_SOON = ("starting up", "in recovery mode", "too many", "remaining connection")  # what passes by itself

_NOBODY_THERE = ("no such file", "refused")  # no socket, or one where nobody listens

# The server ended the connection itself: shut down, killed, or out of patience. Class 08 is the network's.
_BROKEN_OFF = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03"})


@dataclass(frozen=True)
class Session:
    """One transaction. SQL is sent as it stands; values are bound as $1, $2, …"""

    connection: sa.Connection

    @property
    def driver(self) -> psycopg.Connection[Any]:
        """The psycopg connection below, for COPY."""
        return cast("psycopg.Connection[Any]", self.connection.connection.driver_connection)

    def execute(self, sql: str, *values: object) -> psycopg.RawCursor[tuple[Any, ...]]:
        """Run one statement verbatim; psycopg's RawCursor knows no placeholder but PostgreSQL's own.

        Raises:
            psycopg.errors.SyntaxError: the text holds more than one statement.
        """
        driver = self.driver
        cursor: psycopg.RawCursor[tuple[Any, ...]] = psycopg.RawCursor(driver)
        # In the extended protocol the server itself takes one statement only, so a text that was bent into two
        # runs neither. Values bring it with them; without values psycopg speaks it in a pipeline.
        with driver.pipeline() if not values else nullcontext():
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

    def users_path(self) -> None:
        """For this transaction, bare names of tables mean what they mean to the user who connects."""
        self.execute("SET LOCAL search_path TO DEFAULT")

    def plain_path(self) -> None:
        """For this transaction, functions and operators are PostgreSQL's own, whatever else has their names."""
        self.execute("SELECT set_config('search_path', 'pg_catalog, pg_temp', true)")

    def commit(self) -> None:
        self.driver.commit()

    def rollback(self) -> None:
        """Undo what is not committed. On a connection that broke off there is nothing to undo, and no error."""
        if self.connection.invalidated:
            return
        driver = self.driver
        try:
            driver.rollback()
        except psycopg.Error:
            if not driver.closed:
                raise


_NO_POOL: dict[str, Any] = {"poolclass": sa.NullPool}
# A connection that broke off while nobody used it is found out before it is given away.
_POOL: dict[str, Any] = {"pool_size": POOL_SIZE, "pool_pre_ping": True, "pool_reset_on_return": None}


def _as_new(driver: Any, _record: Any, state: Any) -> None:
    """Before a kept connection is used again, nothing of its last session is left: locks, temporary tables, settings."""
    if state.terminate_only:
        return
    driver.rollback()
    driver.isolation_level = None
    driver.autocommit = True
    driver.execute("DISCARD ALL")
    driver.autocommit = False


@dataclass(frozen=True)
class Database:
    """A PostgreSQL database: where it is, and what kind of place it is."""

    url: str = field(repr=False)  # may hold a password
    embedded: bool = False
    demo: bool = False
    pooled: bool = False  # connections are kept for the next session: for a service, which is asked again and again

    @property
    def environment(self) -> str:
        """development for the embedded database, production for any other, unless RECON_ENVIRONMENT says otherwise."""
        return "development" if self.embedded else "production"

    @cached_property
    def engine(self) -> sa.Engine:
        try:
            url = sa.make_url(_with_driver(self.url))
            if url.get_backend_name() != "postgresql":
                raise UsageError(
                    f"recon works on PostgreSQL, not on {url.get_backend_name()}.",
                    todo="Give a postgresql:// URL.",
                )
            engine = sa.create_engine(url, connect_args=_connect_args(url), **(_POOL if self.pooled else _NO_POOL))
        except (sa_exc.ArgumentError, sa_exc.NoSuchModuleError, ValueError):
            # Without its cause: that may quote a part of the URL, and so of the password.
            raise UsageError(
                "The database URL cannot be read.", todo="Write it like postgresql://user@host:5432/name."
            ) from None
        sa_event.listen(engine, "connect", _load_every_time)
        if self.pooled:
            sa_event.listen(engine, "reset", _as_new)
        return engine

    def arguments(self, **settings: str) -> dict[str, Any]:
        """What psycopg.connect takes for a session here, a password among it; with these settings beside the usual."""
        url = self.engine.url
        found: dict[str, Any] = {**self.engine.dialect.create_connect_args(url)[1], **_connect_args(url)}
        found["options"] = " ".join([found["options"], *(f"-c {name}={value}" for name, value in settings.items())])
        return found

    @contextmanager
    def session(self, *, read_only: bool = False) -> Generator[Session]:
        """One transaction: committed at the end, rolled back on any error.

        Raises:
            DatabaseUnreachable: no connection; says whether host, port, password or database is the cause.
            DatabaseFailed: the database refused a statement.
        """
        engine = self.engine
        try:
            connection = _connected(engine)
        except (sa_exc.DBAPIError, psycopg.Error) as error:
            said = error.orig if isinstance(error, sa_exc.DBAPIError) else error
            if self.embedded and any(sign in str(said).lower() for sign in _NOBODY_THERE):
                raise _stopped() from None
            raise _unreachable(said, engine.url, self.url) from None
        session = Session(connection)
        driver = session.driver  # held, for SQLAlchemy lets go of a connection that broke off
        try:
            if driver.info.server_version < OLDEST_SERVER * 10_000:
                raise DatabaseUnreachable(
                    f"The server is PostgreSQL {driver.info.server_version // 10_000}.",
                    why=f"recon needs {OLDEST_SERVER} or later.",
                    todo="Give the URL of a newer server, or have this one upgraded.",
                )
            if read_only:
                session.execute("SET TRANSACTION READ ONLY")
            yield session
            driver.commit()
        except (psycopg.Error, sa_exc.DBAPIError, sa_exc.PendingRollbackError) as error:
            session.rollback()
            said = _broken_off() if driver.closed else explained(error, driver.info)
            # A traceback, which notebooks keep, prints causes; and these quote values of records.
            raise said from (None if _quotes_values(error) else error)
        except BaseException:
            session.rollback()
            raise
        finally:
            if driver.closed and not connection.invalidated:
                connection.invalidate()  # else SQLAlchemy would roll back on it, and fail
            connection.close()


def _connected(engine: sa.Engine) -> sa.Connection:
    """A connection; asked for again where the server says that it will have one soon."""
    for pause in PAUSES_SECONDS:
        try:
            return engine.connect()
        except (sa_exc.DBAPIError, psycopg.Error) as error:
            if not any(sign in str(error).lower() for sign in _SOON):
                raise
            time.sleep(pause)
    return engine.connect()


def _connect_args(url: sa.URL) -> dict[str, Any]:
    """What every connection is opened with; options of the URL come first, so that the pinned settings win."""
    given = url.query.get("options", ())
    options = [given] if isinstance(given, str) else list(given)
    options += [f"-c {name}={value}" for name, value in SESSION_SETTINGS.items()]
    # A statement prepared for later would fail once its table is altered; each is sent anew.
    arguments: dict[str, Any] = {"options": " ".join(options), "prepare_threshold": None}
    if "connect_timeout" not in url.query:
        arguments["connect_timeout"] = CONNECT_TIMEOUT_SECONDS
    return arguments


class _TimeLoader(Loader):
    """A date or time as Python has it, or else as the server writes it: infinity, BC, a year past 9999, 24:00."""

    usual: type[Loader]

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self._usual = self.usual(oid, context)

    def load(self, data: Buffer) -> Any:
        try:
            return self._usual.load(data)
        except (psycopg.DataError, OverflowError):
            return bytes(data).decode()


def _load_every_time(driver: Any, _record: object) -> None:
    """Let a new connection load every date and time that PostgreSQL knows."""
    adapters = cast("psycopg.Connection[Any]", driver).adapters
    for name in _TIME_TYPES:
        usual = adapters.get_loader(adapters.types[name].oid, pq.Format.TEXT)
        assert usual is not None
        adapters.register_loader(name, type("TimeLoader", (_TimeLoader,), {"usual": usual}))


def _with_driver(url: str) -> str:
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+psycopg://", url.strip())


def _stopped() -> DatabaseUnreachable:
    return DatabaseUnreachable(
        "The embedded database does not run.",
        why="It stops when the last workbench that uses it is closed, or with `recon database stop`.",
        todo="Open the workbench again with recon.open, or give the command again: either starts it.",
    )


def _broken_off() -> DatabaseUnreachable:
    return DatabaseUnreachable(
        "The connection to the database broke off.",
        why="The server was stopped or ended the session, or the network between failed.",
        todo="What was committed is kept, the open transaction is not; run it again.",
    )


_DATA = ("22",)  # classes of SQLSTATE: what was wrong with a value, which stands in the message
_ROWS = ("23",)  # a constraint was broken: the message has its name, and the detail the row


def _quotes_values(error: Exception, classes: tuple[str, ...] = _DATA + _ROWS) -> bool:
    """Whether the text of a database error holds values of records."""
    origin: BaseException | None = error.orig if isinstance(error, sa_exc.DBAPIError) else error
    return isinstance(origin, psycopg.Error) and (origin.sqlstate or "").startswith(classes)


def temporary_right(info: psycopg.ConnectionInfo) -> str:
    """What to ask for where the role of a connection may make no temporary table or view."""
    # Their names as text of SQL: somebody else is to run it.
    grant = f"GRANT TEMPORARY ON DATABASE {quote(info.dbname)} TO {quote(info.user)};"
    return f"Ask the owner of the database to run: {grant}"


def explained(error: Exception, info: psycopg.ConnectionInfo) -> ReconError:
    """A database error in three parts; the statement's values stay out of it.

    Args:
        error: what the driver raised.
        info: of the connection, which is open: who asked, and where.
    """
    origin: BaseException | None = error.orig if isinstance(error, sa_exc.DBAPIError) else error
    if not isinstance(origin, psycopg.Error):
        return DatabaseFailed(why=str(error).splitlines()[0])
    state = origin.sqlstate
    lost = isinstance(origin, psycopg.OperationalError) and (state is None or state.startswith("08"))
    if lost or state in _BROKEN_OFF:
        return _broken_off()
    said = origin.diag.message_primary or str(origin).splitlines()[0]
    if _quotes_values(origin, _DATA):
        said = without_values(said)
    why, hint = f"(SQLSTATE {state})", origin.diag.message_hint or ""
    if isinstance(origin, pg_errors.InsufficientPrivilege):
        why = f'The role "{info.user}" asked for it and lacks the right {why}.'
        hint = f'Its owner has to GRANT the right to "{info.user}"; or connect as a user who has it.'
        if "temporary" in said:
            hint = temporary_right(info)
    return DatabaseFailed(f"The database refused a statement: {said}.", why=why, todo=hint)


def _unreachable(error: object, url: sa.URL, written: str) -> DatabaseUnreachable:
    """Why there is no connection. Of the server's words only known signs are used: they may quote a password.

    Args:
        error: what the driver said.
        url: the URL as it was read.
        written: the URL as it was given.
    """
    text = str(error).lower()
    if written.count("@") > 1:  # a part of the password may have been read as the host, so nothing is named
        host = place = user = database = "that the URL names"
        at = " An @ in user or password is written %40."
    else:
        host, user = _named(url.host, url, "host"), _named(url.username, url, "user")
        database = _named(url.database, url, "dbname")
        place, at = f"{host or 'the local socket'}, port {_named(url.port, url, 'port') or 5432}", ""
    causes = (
        (("invalid connection option", "invalid uri query parameter"), "The database URL has a connection option that PostgreSQL does not know.", _right_option(url)),
        (("resolve", "name or service", "nodename", "translate host", "no address associated"), f"The host name {host} is not known.", f"Check the host in the database URL.{at}"),
        (("certificate", "ssl "), "The server and this machine do not agree on an encrypted connection.", "Check sslmode and the certificates in the database URL."),
        (("password", "authentication", "no pg_hba"), f"The server does not accept user {user or '(none)'} with this password.", f"Check user and password in the database URL.{at}"),
        (("permission denied for database",), f'The user "{user}" may not connect to the database "{database}".', "Ask for the right CONNECT, or connect as a user who has it."),
        (("does not exist",), f'The database "{database}" or the user "{user}" does not exist there.', f"Check the names in the database URL, or create the database.{at}"),
        (("refused",), f"Nothing listens at {place}.", "Start the server, or check host and port."),
        (("no route", "unreachable"), f"{place} does not answer: there is no way to it in the network.", "Check the network, host and port."),
        (("timeout", "timed out"), f"{place} does not answer within {url.query.get('connect_timeout', CONNECT_TIMEOUT_SECONDS)} s.", "Check the network, host and port."),
        (("no such file",), f"There is no socket at {place}.", "Start the server, or check the path."),
        (("too many", "remaining connection"), "The server has no free connection.", "Try again later."),
        (("starting up", "shutting down", "recovery"), "The server is starting up or shutting down.", "Try again later."),
        (("invalid port", "invalid integer", "invalid value", "invalid sslmode", "parameter"), "The server or its driver does not accept a connection option of the database URL.", "Check the part of the URL after the question mark."),
    )  # fmt: skip
    for signs, why, todo in causes:
        if any(sign in text for sign in signs):
            return DatabaseUnreachable(why=why, todo=todo)
    return DatabaseUnreachable(why="The server gave no reason that we know.", todo=f"Check the database URL.{at}")


def _named(part: object, url: sa.URL, option: str) -> str:
    """A part of the URL, which may stand among its options too."""
    given = part or url.query.get(option) or ""
    return given if isinstance(given, str) else ",".join(given) if isinstance(given, tuple) else str(given)


def _right_option(url: sa.URL) -> str:
    """A hint that names options of PostgreSQL only, for what was written may be a part of a password."""
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    hints = (did_you_mean(name, known) for name in url.query if name not in known)
    return next(filter(None, hints), "Check the part of the URL after the question mark.")
