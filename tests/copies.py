"""Databases that many tests begin with: made once for each worker and server, kept aside, and copied for every test."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from copy import deepcopy
from typing import TypeVar

import psycopg
import sqlalchemy as sa
from psycopg import sql

from recon.database.connect import Database

T = TypeVar("T")


class Copies:
    """One server's database for tests: always of one name, so that what is kept of it fits it, and new for each test."""

    def __init__(self, url: str) -> None:
        made = sa.make_url(url)
        self._server = made.set(drivername="postgresql").render_as_string(hide_password=False)
        self.name = f"test_{os.urandom(4).hex()}"
        self.url = made.set(database=self.name).render_as_string(hide_password=False)
        self._kept: dict[tuple[Hashable, ...], tuple[str, object]] = {}  # steps gone so far: the copy, what they gave
        self._steps: tuple[Hashable, ...] = ()
        self._as_left: str | None = None

    def fresh(self) -> Database:
        """The database, empty."""
        self._create(self.name, "template1")
        self._steps, self._as_left = (), self._last_write()
        return Database(self.url)

    def drop(self) -> None:
        self._ask("DROP DATABASE {} WITH (FORCE)", self.name)

    def after(self, step: Hashable, take: Callable[[], T]) -> T:
        """What `take` gives, with the database as it leaves it; `step` names all that its doing hangs on.

        It is taken once. After that a copy of the database takes its place, unless somebody wrote since the last step:
        then it is taken again, on what is there.
        """
        if self._as_left != self._last_write():
            return take()
        steps = (*self._steps, step)
        if steps in self._kept:
            copy, given = self._kept[steps]
            self.drop()
            self._create(self.name, copy)
        else:
            given = take()
            copy = f"{self.name}_{len(self._kept)}"
            self._create(copy, self.name)
            self._kept[steps] = copy, given
        self._steps, self._as_left = steps, self._last_write()
        return deepcopy(given)  # pyright: ignore

    def _last_write(self) -> str:
        """What the next transaction that writes, in any database of this server, will change."""
        with psycopg.connect(self._server, autocommit=True) as connection:
            found = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchone()
        assert found is not None
        return str(found[0])

    def _create(self, name: str, template: str) -> None:
        self._ask("CREATE DATABASE {} TEMPLATE {}", name, template)

    def _ask(self, command: str, *names: str) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(sql.SQL(command).format(*map(sql.Identifier, names)))  # pyright: ignore
