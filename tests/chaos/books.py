"""Payments without their leases, a signed plan for them, and a chronicle in the database of who changed which link.

What is concluded here about an apply is read by plain SQL, from the tables themselves and from a trigger's notes.
Nothing of recon's own code is asked.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg import sql

from recon.backfill import plan as plans
from recon.backfill import sign_off
from recon.database.connect import Database
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.chaos.client import Ended, Order, run
from tests.chaos.servers import Server
from tests.support import simple_spec

FIRST_LEASE = 1_000_000
PAYMENTS_OF_A_LEASE = 4
PATIENCE_SECONDS = 15.0  # a server notices within a few seconds that a client is gone

# A change of a link is noted in the same transaction: what was rolled back left no note.
CHRONICLE = """
    CREATE FUNCTION chronicle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.history (key, who, event, was, becomes, code)
        VALUES (coalesce(new.id, old.id), current_setting('application_name'), tg_op, old.lease_id, new.lease_id, old.code);
        RETURN NULL;
    END $$
"""
SCHEMA = (
    "CREATE TABLE lease (id int PRIMARY KEY, code text, note text)",
    "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int, other_id int, note text)",
    "CREATE INDEX pay_note ON pay (note)",
    "CREATE TABLE history (n bigserial PRIMARY KEY, key int, who text, event text, was int, becomes int, code text)",
    "CREATE TABLE spy (key int)",
    CHRONICLE,
)
WATCHED = (
    "CREATE TRIGGER chronicle AFTER UPDATE OF lease_id ON pay FOR EACH ROW"
    " WHEN (old.lease_id IS DISTINCT FROM new.lease_id) EXECUTE FUNCTION chronicle()",
    "CREATE TRIGGER chronicle_ends AFTER INSERT OR DELETE ON pay FOR EACH ROW EXECUTE FUNCTION chronicle()",
)


@dataclass
class Books:
    """A database with a plan in it."""

    server: Server
    workspace: Workspace
    rows: int
    name: str = field(default_factory=lambda: f"chaos_{secrets.token_hex(4)}")
    plan: str = ""

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    @property
    def database(self) -> Database:
        return Database(self.url)

    @property
    def bundle(self) -> Path:
        return self.workspace.backfills / self.plan

    def lease_of(self, key: int) -> int:
        return FIRST_LEASE + key % self.leases

    @property
    def leases(self) -> int:
        return max(1, self.rows // PAYMENTS_OF_A_LEASE)

    def fill(self) -> None:
        self.server.create(self.name)
        self.do(*SCHEMA)
        self.do(
            f"INSERT INTO lease SELECT {FIRST_LEASE} + n, 'c' || n, 'n' FROM generate_series(0, {self.leases - 1}) AS n",
            f"INSERT INTO pay (id, code, note) SELECT n, 'c' || n % {self.leases}, 'n' FROM generate_series(1, {self.rows}) AS n",
        )
        self.do(*WATCHED)

    def sign(self, spec: Reconciliation | None = None) -> str:
        """A new plan, made by ann and approved by bob."""
        spec = spec or simple_spec()
        runs.match(self.database, spec, "ann")
        made = plans.make(self.database, self.workspace, spec, "ann")
        assert made is not None
        sign_off.approve(self.database, self.workspace, made.plan, "bob")
        return made.plan

    # -- what people and readers do, without recon ---------------------------------------------------------

    def do(self, *statements: str) -> None:
        """As a person, all in one transaction."""
        with self.server.connect(self.name) as connection:
            connection.execute("SET lock_timeout = '5s'")
            for statement in statements:
                connection.execute(statement.encode())

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self.server.connect(self.name, settings="-c application_name=reader") as connection:
            return connection.execute(query.encode(), values or None).fetchall()

    def own(self, kind: str, query: str) -> list[tuple[Any, ...]]:
        """A query over one of the plan's own tables."""
        table = sql.Identifier("recon", f"{kind}_{self.plan}")
        with self.server.connect(self.name, settings="-c application_name=reader") as connection:
            return connection.execute(sql.SQL(query).format(table)).fetchall()  # pyright: ignore

    def edit(self, kind: str, statement: str) -> None:
        table = sql.Identifier("recon", f"{kind}_{self.plan}")
        with self.server.connect(self.name) as connection:
            connection.execute(sql.SQL(statement).format(table))  # pyright: ignore

    def backends(self) -> list[int]:
        """Of recon, in this database; the one that holds the lock on the table first."""
        return [
            pid
            for (pid,) in self.ask(
                "SELECT pid FROM pg_stat_activity AS one WHERE datname = current_database() AND application_name = 'recon'"
                " ORDER BY NOT EXISTS (SELECT FROM pg_locks WHERE pid = one.pid AND locktype = 'advisory'"
                " AND mode = 'ExclusiveLock'), pid"
            )
        ]

    @property
    def state(self) -> str:
        return str(self.ask("SELECT state FROM recon.plans WHERE plan = %s", self.plan)[0][0])

    # -- recon, in processes of its own --------------------------------------------------------------------

    def order(self, **fields: Any) -> Order:
        return Order(**({"url": self.url, "root": self.workspace.root, "plan": self.plan} | fields))

    def finish(self, **fields: Any) -> Ended:
        """Run it again until nobody is in its way any more: a dead client's session lives on for a moment."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            ended = run(self.order(**fields))
            if ended.error != "Locked" or time.monotonic() > deadline:
                return ended
            time.sleep(0.2)

    # -- the proof -----------------------------------------------------------------------------------------

    def applied(self, skipped: Callable[[int], bool] = lambda _: False) -> set[int]:
        """Prove that the plan is applied, and each of its rows once; returns the keys that were left alone.

        Args:
            skipped: whether somebody gave a reason to leave this row alone.
        """
        written = self._written()
        batches = self.ask("SELECT first, last, changed FROM recon.batches WHERE plan = %s ORDER BY first", self.plan)
        places = [place for first, last, _ in batches for place in range(first, last + 1)]
        assert places == list(range(1, self.rows + 1)), "batches overlap or leave a gap"
        assert sum(changed for _, _, changed in batches) == len(written), "batches and ledger differ"
        left = set(range(1, self.rows + 1)) - written
        assert all(map(skipped, left)), f"lost: {sorted(key for key in left if not skipped(key))[:5]}"
        assert self.state in ("applied", "verified")
        return left

    def reverted(self, kept: Callable[[int], bool] = lambda _: False) -> None:
        """Prove that every row that was written has its former value again, but for those that a person changed."""
        written = self._written()
        restored = {key for (key,) in self.own("ledger", "SELECT target_key FROM {} WHERE reverted_at IS NOT NULL")}
        noted = Counter(
            key for key, _, becomes, _ in self._of_recon() if becomes is None
        )  # recon takes a value away only here
        assert noted == Counter(restored), "what was restored is not what the ledger says"
        assert all(map(kept, written - restored)), "not restored"
        assert self.state == ("reverted_with_conflicts" if written - restored else "reverted")

    def _of_recon(self) -> list[tuple[Any, ...]]:
        return self.ask("SELECT key, was, becomes, code FROM history WHERE who = 'recon' ORDER BY n")

    def _written(self) -> set[int]:
        ledger = self.own("ledger", "SELECT target_key, before_1, after_1 FROM {}")
        noted = [(key, was, becomes) for key, was, becomes, _ in self._of_recon() if becomes is not None]
        assert Counter(noted) == Counter(ledger), "the ledger is not what was written"
        assert max(Counter(key for key, _, _ in ledger).values(), default=1) == 1, "doubled"
        for key, was, becomes, code in self._of_recon():
            if becomes is not None:
                assert was is None, f"row {key} was overwritten"
                assert (becomes, code) == (self.lease_of(key), f"c{key % self.leases}"), f"row {key} was not as planned"
        wrong = self.ask(
            "SELECT pay.id FROM pay JOIN (SELECT DISTINCT ON (key) key, becomes FROM history ORDER BY key, n DESC) AS last"
            " ON last.key = pay.id WHERE pay.lease_id IS DISTINCT FROM last.becomes"
        )
        assert wrong == [], "a change that nobody noted"
        return {key for key, _, _ in ledger}
