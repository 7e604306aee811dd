"""People who work on the same tables meanwhile, each with a journal of what the database told them was kept."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import psycopg

from tests.chaos.books import FIRST_LEASE, Books
from tests.chaos.servers import BROKEN

IN_THE_WAY = (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable)


@dataclass
class Person:
    """One who writes rows that nobody else writes, and knows what must stand in them."""

    books: Books
    rows: range  # this person's own
    chance: random.Random
    held: dict[int, Any] = field(default_factory=dict[int, Any])  # what was committed, last
    unsure: dict[int, Any] = field(default_factory=dict[int, Any])  # what may have been: the answer was lost
    writes: int = 0

    def step(self, connection: psycopg.Connection[Any]) -> None:
        raise NotImplementedError

    def keep(self, connection: psycopg.Connection[Any], key: int, value: Any) -> None:
        """Commit, and write it into the journal once it is known."""
        self.unsure[key] = value
        connection.commit()
        self.held[key] = value
        del self.unsure[key]
        self.writes += 1

    def row(self) -> int:
        return self.chance.choice(self.rows)

    @property
    def mark(self) -> int:
        """A number that no other write has."""
        return -(self.rows.start * 1_000_000 + self.writes + len(self.unsure) * 100_000 + 1)

    def right(self, found: dict[int, Any]) -> bool:
        """Whether every row holds what was kept, or what may have been."""
        known = self.held.keys() | self.unsure.keys()
        return all(
            (key in self.held and found.get(key) == self.held[key])
            or (key in self.unsure and found.get(key) == self.unsure[key])
            or key not in self.held
            for key in known
        )


class Annotator(Person):
    """Writes a column that no rule reads, of a few rows at a time."""

    def step(self, connection: psycopg.Connection[Any]) -> None:
        key, note = self.row(), f"note {self.mark}"
        connection.execute("UPDATE pay SET note = %s WHERE id = %s", (note, key))
        self.keep(connection, key, note)


class Linker(Person):
    """Links payments by hand to something else, whatever stood there."""

    def step(self, connection: psycopg.Connection[Any]) -> None:
        key, link = self.row(), self.mark
        connection.execute("UPDATE pay SET lease_id = %s WHERE id = %s", (link, key))
        self.keep(connection, key, link)


class Recreator(Person):
    """Deletes payments and enters them anew, with another code and no link."""

    def step(self, connection: psycopg.Connection[Any]) -> None:
        key, code = self.row(), f"re-entered {self.mark}"
        connection.execute("DELETE FROM pay WHERE id = %s", (key,))
        connection.execute("INSERT INTO pay (id, code, note) VALUES (%s, %s, 'n')", (key, code))
        self.keep(connection, key, code)


class Renamer(Person):
    """Changes the codes of leases; the rows are numbers of leases."""

    def step(self, connection: psycopg.Connection[Any]) -> None:
        key, code = self.row(), f"renamed {self.mark}"
        connection.execute("UPDATE lease SET code = %s WHERE id = %s", (code, FIRST_LEASE + key))
        self.keep(connection, key, code)


class Reader(Person):
    """Holds rows of everybody's for a while, one after the other and from the end, so that some stand in each other's way."""

    def step(self, connection: psycopg.Connection[Any]) -> None:
        first = self.row()
        for key in (first, first - self.chance.randint(1, 300)):
            connection.execute("SELECT FROM pay WHERE id = %s FOR UPDATE", (key,))
            time.sleep(self.chance.uniform(0.01, 0.15))
        connection.commit()
        self.writes += 1
        time.sleep(0.02)


class People:
    """All of them at work, as a context manager."""

    def __init__(self, books: Books, scale_of_each: int, chance: random.Random) -> None:
        # Each has rows of its own, spread over the whole table; whoever re-enters a row would take away a note on it.
        kinds: list[tuple[type[Person], range]] = []
        for n in range(scale_of_each):
            step = 40 * scale_of_each
            kinds += [
                (Annotator, range(1 + 2 * n, books.rows, 2 * scale_of_each)),
                (Linker, range(2 + 8 * n, books.rows, step)),
                (Recreator, range(4 + 8 * n, books.rows, step)),
                (Renamer, range(6 + 8 * n, books.leases, step)),
                (Reader, range(1, books.rows)),
            ]
        self.all = [kind(books, rows, random.Random(chance.random())) for kind, rows in kinds]
        self._books, self._stop = books, threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(person,)) for person in self.all]
        self.surprises: list[BaseException] = []

    def __enter__(self) -> People:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self.surprises == []

    @property
    def writes(self) -> int:
        return sum(person.writes for person in self.all)

    def _work(self, person: Person) -> None:
        try:
            while not self._stop.is_set():
                try:
                    with self._books.server.connect(self._books.name) as connection:
                        self._steps(person, connection)
                except BROKEN:  # the server is down; it comes back
                    time.sleep(0.05)
        except BaseException as error:
            self.surprises.append(error)

    def _steps(self, person: Person, connection: psycopg.Connection[Any]) -> None:
        connection.execute("SET lock_timeout = '2s'")
        connection.commit()
        while not self._stop.is_set():
            try:
                person.step(connection)
            except IN_THE_WAY:
                connection.rollback()
            time.sleep(person.chance.uniform(0.0, 0.01))

    # -- afterwards ----------------------------------------------------------------------------------------

    def kept(self) -> None:
        """Prove that what each was told was kept stands there, and nothing else in its place."""
        tables: dict[type[Person], str] = {
            Annotator: "SELECT id, note FROM pay",
            Linker: "SELECT id, lease_id FROM pay",
            Recreator: "SELECT id, code FROM pay",
            Renamer: f"SELECT id - {FIRST_LEASE}, code FROM lease",
        }
        for person in self.all:
            if type(person) in tables:
                found = dict(self._books.ask(tables[type(person)]))
                assert person.right(found), f"somebody's writes are gone ({type(person).__name__})"

    def touched(self) -> Callable[[int], bool]:
        """Whether somebody linked, re-entered or renamed what this row is about, and so had it left alone."""
        rows: set[int] = set()
        leases: set[int] = set()
        for person in self.all:
            own = person.held.keys() | person.unsure.keys()
            if isinstance(person, Linker | Recreator):
                rows |= own
            if isinstance(person, Renamer):
                leases |= own
        return lambda key: key in rows or key % self._books.leases in leases
