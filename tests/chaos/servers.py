"""Servers that a test may break: their processes are its own, and they come up again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from recon.database import embedded
from tests.postgres import SETTINGS, DebianServer

UP_SECONDS = 60.0  # crash recovery of a few megabytes takes well under one
PAUSE_SECONDS = 0.05
# People's commits are theirs once they are told so, whatever the server's own setting is.
PERSON = "-c application_name=person -c synchronous_commit=on"
BROKEN = (psycopg.OperationalError, psycopg.InterfaceError)


class Server:
    """A running server, as a context manager."""

    def url(self, database: str) -> str:
        raise NotImplementedError

    def start(self) -> None:
        raise NotImplementedError

    def crash(self) -> None:
        """The immediate stop: no session is asked, nothing is written out."""
        raise NotImplementedError

    def connect(self, database: str, **options: Any) -> psycopg.Connection[Any]:
        """A connection that is not recon's."""
        url = self.url(database).replace("+psycopg", "")
        return psycopg.connect(url, options=options.pop("settings", PERSON), connect_timeout=5, **options)

    def wait(self, database: str = "postgres") -> None:
        """Until it answers: after the loss of one backend it recovers by itself."""
        deadline = time.monotonic() + UP_SECONDS
        while True:
            try:
                self.connect(database).close()
                return
            except BROKEN:
                if time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE_SECONDS)

    def create(self, database: str, template: str = "template1") -> None:
        self._ask("CREATE DATABASE {} TEMPLATE {}", database, template)

    def drop(self, database: str) -> None:
        self._ask("DROP DATABASE {} WITH (FORCE)", database)

    def _ask(self, command: str, *names: str) -> None:
        self.wait()
        with self.connect("postgres", autocommit=True) as connection:
            connection.execute(sql.SQL(command).format(*map(sql.Identifier, names)))  # pyright: ignore


class Embedded(Server):
    """The one that comes with pip, with all its durability."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Embedded:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        embedded.discard(self.folder)

    def url(self, database: str) -> str:
        return sa.make_url(self._url).set(database=database).render_as_string(hide_password=False)

    def start(self) -> None:
        self._url = embedded.start(self.folder, "chaos")

    def crash(self) -> None:
        with self.connect("postgres") as connection:
            found = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
        assert found is not None
        postmaster = int(found[0].split()[0])
        os.kill(postmaster, signal.SIGQUIT)
        deadline = time.monotonic() + UP_SECONDS
        while embedded.is_running(self.folder) and time.monotonic() < deadline:
            time.sleep(PAUSE_SECONDS)


class Debian(Server):
    """The distribution's, as a server of a company is set up: everything waits for the disk."""

    def __init__(self) -> None:
        durable = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
        self._server = DebianServer(settings=SETTINGS | durable)

    def __enter__(self) -> Debian:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def url(self, database: str) -> str:
        return self._server.url_of(database)

    def start(self) -> None:
        self._server.start()

    def crash(self) -> None:
        self._server.crash()
