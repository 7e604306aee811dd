"""Our side of a simulated day at Stays: the tables, recon as it is run at a tick, and what must hold after it.

What is concluded here is read by plain SQL, and from a trigger's notes of who changed which reservation.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import sql

from recon.backfill import absences, replay, seams, standing
from recon.database import tables
from recon.database.connect import Database
from recon.mirror import follow_ups, follow_ups_done, sync
from recon.mirror.parts import Part, Synced
from recon.stand_ins.faults import Fault
from recon.stand_ins.locks import Locks
from recon.stand_ins.server import served
from recon.systems.stays import client
from recon.workspace import Workspace, template
from tests import forked
from tests.chaos.client import eventually
from tests.chaos.scale import SEAMS
from tests.chaos.servers import Server
from tests.chaos.stays_oracle import BY_HAND, Deed, Key, Organization, Row, Weather, may_open, must_open
from tests.chaos.stays_world import TICK, World

NAME = "stays_reservations"
LOOK_SECONDS = 0.01  # between two looks, for which a real source gets two seconds
FIRST_PAUSE_SECONDS = 0.01  # between two tries
PATIENCE = timedelta(minutes=2)  # after which a lock system that failed is asked again
MOST_AT_ONCE = 2_000
PATIENCE_SECONDS = 120.0  # for a process that goes to its seam

# A change of a reservation is noted in the same transaction: what was rolled back left no note.
CHRONICLE = """
    CREATE TABLE history (n bigserial PRIMARY KEY, id uuid, organization uuid, who text, event text, was text, becomes text);
    CREATE FUNCTION chronicle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.history (id, organization, who, event, was, becomes)
        VALUES (coalesce(new.id, old.id), coalesce(new.organization_id, old.organization_id),
            current_setting('application_name'), tg_op, old.status, new.status);
        RETURN NULL;
    END $$;
    CREATE TRIGGER chronicle AFTER INSERT OR UPDATE OR DELETE ON reservations FOR EACH ROW EXECUTE FUNCTION chronicle();
"""
_HELD = """
    SELECT organization_id::text, platform, CASE WHEN platform = 'direct' THEN id::text ELSE external_id END, id::text,
        property_id, check_in, check_out, status, guest, cancelled_at IS NOT NULL, cancellation_reason FROM reservations
"""
ACTIONS = ("reservation.created", "reservation.modified", "reservation.canceled", "reservation.deleted")
MOST_EVENTS = 25  # of an organization at a time: of more the service reads the list of changes
_PENDING = "SELECT scope, record, said FROM recon.webhook_events WHERE state = 'pending'"
_ISSUES = """
    SELECT source_key[1], source_key[2], source_key[3] FROM recon.import_issues
    WHERE reconciliation = 'stays_reservations' AND state = 'open'
"""


@dataclass(frozen=True)
class Order:
    """What a process of its own is to do, which may be killed."""

    url: str
    root: Path
    variables: Mapping[str, str]
    now: datetime
    what: str  # sync or doors
    seam: str | None = None  # of an apply, at which it kills itself


def hurried() -> None:
    """Less patience than with a real source; called in every process that asks the stand-in."""
    absences.LOOK_SECONDS = LOOK_SECONDS
    defaults = client.Stays.__init__.__kwdefaults__
    assert defaults is not None
    assert "first_pause" in defaults  # else it is the test that sets it
    defaults["first_pause"] = FIRST_PAUSE_SECONDS


def carried_out(order: Order) -> None:
    """In a process of its own."""
    hurried()
    database, workspace = Database(order.url), Workspace(order.root).with_variables(order.variables)
    if order.what == "sync":
        with seams.stopping(lambda seam: os.kill(os.getpid(), signal.SIGKILL) if seam == order.seam else None):
            sync.sync(database, workspace, NAME, now=order.now)
    else:
        doors(database, workspace, order.now)


def doors(database: Database, workspace: Workspace, now: datetime) -> None:
    """Follow-ups planned and carried out as of a moment."""
    spec = workspace.spec(NAME)
    follow_ups.plan(database, spec, now)
    while follow_ups_done.carry_out(database, workspace, spec, now, MOST_AT_ONCE).waiting:
        pass


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["__main__", "tests.chaos.client", "tests.chaos.stays_house", "tests.preloaded"])


@dataclass(frozen=True)
class Letter:
    """A request about an event, and how it may be answered."""

    path: str
    headers: dict[str, str]
    body: bytes
    right: tuple[int, ...]

    def sent(self, address: str) -> int | None:
        """The status of the answer; None: there was none."""
        connection = http.client.HTTPConnection(address, timeout=60)
        try:
            connection.request("POST", self.path, self.body, self.headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


@dataclass
class Service:
    """`recon serve` that runs."""

    running: forked.Running
    address: str = ""
    dead: bool = False

    def wait(self) -> None:
        """Until it takes requests."""
        assert eventually(self._found, 60), self.running.said()

    def _found(self) -> bool:
        found = re.search(r"http://([0-9.]+:[0-9]+)", self.running.said())
        self.address = found.group(1) if found else ""
        return found is not None

    def kill(self) -> None:
        """From another thread than the one that waits for its end, which two must not do at once."""
        self.dead = True
        os.kill(self.running.pid, signal.SIGKILL)


@dataclass
class House:
    """Our tables, and the world that they are kept in step with."""

    server: Server
    name: str
    workspace: Workspace
    world: World
    locks: Locks
    counts: Counter[str]
    expected: dict[str, Organization] = field(default_factory=dict[str, Organization])
    ids: dict[tuple[str, Key], str] = field(default_factory=dict[tuple[str, Key], str])  # all that there ever were
    chosen: random.Random = field(default_factory=lambda: random.Random(7))
    seconds: float = 0.0  # that the runs took
    in_step: list[str] = field(default_factory=list[str])  # organizations in which nothing waits to be written
    sent: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])  # events that were taken, by organization
    _late: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    @property
    def database(self) -> Database:
        return Database(self.server.url(self.name))

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self.server.connect(self.name, settings="-c application_name=reader") as connection:
            return connection.execute(query.encode(), values or None).fetchall()

    def do(self, query: str, *values: object) -> None:
        with self.server.connect(self.name, settings="-c application_name=people") as connection:
            connection.execute(query.encode(), values or None)

    # -- people ------------------------------------------------------------------------------------------------

    def local(self) -> dict[str, list[tuple[str, str, str]]]:
        """What is here of each organization: platform, code (of a direct one its id), status."""
        found: dict[str, list[tuple[str, str, str]]] = {name: [] for name in self.world.organizations}
        for organization, platform, code, *rest in sorted(self.ask(_HELD), key=lambda row: row[:3]):
            found[organization].append((platform, code, rest[4]))
        return found

    def guest(self) -> tuple[str, Key] | None:
        """A reservation whose guest has a PIN."""
        active = self.locks.active()
        return next(
            (
                (name, key)
                for name, one in self.expected.items()
                for key in one.rows
                if self.ids.get((name, key)) in active
            ),
            None,
        )

    def deed(self, deed: Deed) -> None:
        """A person does it, here and in what is expected."""
        self.expected[deed.organization].deed(deed)
        platform, code = deed.key
        mine = "organization_id = %s AND platform = %s AND CASE WHEN platform = 'direct' THEN id::text ELSE external_id END = %s"
        place = (deed.organization, platform, code)
        fields = dict(deed.fields)
        if deed.what == "mapped":
            self.do("INSERT INTO properties VALUES (%s, %s, 'P', %s)", fields["property_id"], deed.organization, code)
        elif deed.what == "booked":
            own = UUID(code) if platform == "direct" else UUID(int=self.chosen.getrandbits(128))
            self.do(
                "INSERT INTO reservations (id, organization_id, platform, external_id, property_id, check_in, check_out,"
                " status, guest) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                own, deed.organization, platform, None if platform == "direct" else code,
                *(fields[name] for name in ("property_id", "check_in", "check_out", "status", "guest")),
            )  # fmt: skip
        elif deed.what == "deleted":
            self.do(f"DELETE FROM reservations WHERE {mine}", *place)
        elif deed.what == "renamed":
            self.do(f"UPDATE reservations SET guest = %s WHERE {mine}", fields["guest"], *place)
        else:
            cancelled = fields["status"] == "cancelled"
            self.do(
                f"UPDATE reservations SET status = %s, cancelled_at = %s, cancellation_reason = %s WHERE {mine}",
                fields["status"], self.world.now if cancelled else None, BY_HAND if cancelled else None, *place,
            )  # fmt: skip
        self.counts["deeds of people"] += 1

    # -- a tick --------------------------------------------------------------------------------------------------

    def tick(self, number: int, *, kills: int = 0, calm: bool = False) -> Synced:
        """One tick, and its proof; with kills the run is broken off so often before it gets to its end."""
        now = self.world.begin + number * TICK
        self.world.forecast(number, calm=calm, still=bool(kills))
        for _ in range(kills):
            self.killed("sync", now)
        started = time.monotonic()
        done = sync.sync(self.database, self.workspace, NAME, now=now)
        self.seconds += time.monotonic() - started
        for name, organization in self.expected.items():
            late = self.world.late[name]
            source = self.world.bookings[name] | {code: self.world.gone[name][code][0] for code in late}
            organization.tick(self.world.weather[name], source, late)
        self.counts["ticks"] += 1
        self.prove(done)
        weather = self.world.weather
        self.in_step = [name for name in weather if not weather[name].down and weather[name].listed != "lossy"]
        for minutes in (0, 10, 20):
            self.look_at_doors(now + timedelta(minutes=minutes), kills=bool(kills))
        return done

    def killed(self, what: str, now: datetime) -> None:
        """It runs in a process of its own, and is killed at some moment, or at a seam; or it was faster."""
        killed = self.counts["kills of sync at a seam"]
        seam = SEAMS[(killed + 3) % len(SEAMS)] if what == "sync" and self.chosen.random() < 0.6 else None
        order = Order(self.server.url(self.name), self.workspace.root, dict(self.workspace.variables), now, what, seam)
        process = _FORKS.Process(target=carried_out, args=(order,), daemon=True)
        process.start()
        process.join(PATIENCE_SECONDS if seam else self.chosen.uniform(0.1, 1.2 * self._usual(what)))
        if process.is_alive():
            process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), "it ended by itself"
        if process.exitcode:
            self.counts[f"kills of {what}" + (" at a seam" if seam else "")] += 1

    def _usual(self, what: str) -> float:
        return max(1.0, self.seconds / max(1, self.counts["ticks"])) if what == "sync" else 0.8

    def prove(self, done: Synced) -> None:
        """The whole table is what it must be, and so are the import issues."""
        held: dict[str, dict[Key, Row]] = {name: {} for name in self.world.organizations}
        for organization, platform, code, identity, *row in self.ask(_HELD):
            assert (platform, code) not in held[organization], "doubled"
            held[organization][(platform, code)] = Row(*row)
            self.ids[(organization, (platform, code))] = identity
        issues: dict[str, set[Key]] = {name: set() for name in self.world.organizations}
        for organization, platform, code in self.ask(_ISSUES):
            issues[organization].add((platform, code))
        for name, organization in self.expected.items():
            weather = self.world.weather[name]
            wrong = {
                key: (held[name].get(key), organization.rows.get(key), self.told(name, key))
                for key in held[name].keys() | organization.rows.keys()
                if held[name].get(key) != organization.rows.get(key)
            }
            assert wrong == {}, (
                f"{len(wrong)} differ",
                name,
                self.world.now,
                weather,
                _part(done, name),
                list(wrong.items())[:4],
            )
            anyone = any(not other.down for other in self.world.weather.values())
            differ = (issues[name] ^ organization.issues) - organization.found
            assert not anyone or differ == set(), (name, weather, differ)
            part = _part(done, name)
            assert (part.failed is not None) == bool(weather.down), (part.failed, weather)
            assert part.held_back == organization.held_back, (part, organization.held_back)
            self.counts["orphans cancelled"] += organization.orphans
            self.counts["orphans held back"] += organization.held_back

    def told(self, organization: str, key: Key) -> object:
        """What the landing table has of a reservation, for the message of a failed proof."""
        query = (
            "SELECT check_in, check_out, status, listing_id, problem, absent_at, updated_at FROM bronze.stays_reservations"
            " WHERE organization_id = %s AND platform = %s AND external_id = %s"
        )
        return self.ask(query, organization, *key), self.world.bookings[organization].get(key[1])

    # -- events ------------------------------------------------------------------------------------------------

    def deliver(self, kills: int) -> None:
        """Stays tells of what guests did: some twice, some late, some never, in any order, and strangers try too.

        Only of organizations that the last tick left in step: else it would hang on the order of events what is written in
        between, and by which reason a reservation is said to be cancelled.
        """
        for name in self.world.organizations:
            self.world.weather[name] = Weather()
        there: dict[str, set[str]] = {}
        gone: dict[str, set[str]] = {}
        for name in self.in_step:
            late, self._late[name] = self._late.get(name, set()), set()
            for code in sorted(self.world.touched[name] | late):
                chance = self.chosen.random()
                if chance < 0.15 and code not in late:
                    self.counts["events never sent"] += 1
                elif chance < 0.3 and code not in late:
                    self._late[name].add(code)
                    self.counts["events sent late"] += 1
                else:
                    side = there if code in self.world.bookings[name] else gone
                    if len(side.setdefault(name, set())) < MOST_EVENTS:
                        side[name].add(code)
        for told, broken in ((there, kills), (gone, 0)):
            letters = [
                letter for name, codes in told.items() for code in sorted(codes) for letter in self._letters(name, code)
            ]
            self.chosen.shuffle(letters)
            self._post(letters, broken)
            for name, codes in told.items():
                self.expected[name].told(codes, self.world.bookings[name])
        self.events_settled()

    def _letters(self, organization: str, code: str) -> list[Letter]:
        """The event about a reservation: perhaps twice, perhaps with an altered one beside it."""
        headers, body = self.world.stays.event(code, self.chosen.choice(ACTIONS))
        path = f"/staysnet/webhook/{organization}"
        letters = [Letter(path, headers, body, (200, 202))]
        self.sent.add((organization, json.loads(body)["id"]))
        if self.chosen.random() < 0.25:
            letters.append(letters[0])
            self.counts["events sent twice"] += 1
        if self.chosen.random() < 0.15:
            other = body.replace(code.encode(), b"R00001")
            letters.append(Letter(path, headers, other + b" ", (401,)))
            self.counts["events altered"] += 1
        self.counts["events"] += 1
        return letters

    def _post(self, letters: list[Letter], kills: int) -> None:
        """Send them all, as a sender does that tries again until it is answered."""
        left = list(letters)
        while left:
            with self.serving() as service, ThreadPoolExecutor(6) as senders:
                killer = threading.Timer(self.chosen.uniform(0.05, 3.0), service.kill) if kills > 0 else None
                if killer:
                    killer.start()
                answers = list(senders.map(Letter.sent, left, [service.address] * len(left)))
                if killer:
                    killer.cancel()
                    killer.join()
                    self.counts["kills of the service"] += service.dead
                else:
                    for letter, status in zip(left, answers, strict=True):
                        assert status in letter.right, (letter, status)
                    assert eventually(lambda: not self.ask(_PENDING), 120), self.ask(_PENDING)
                left = [letter for letter, status in zip(left, answers, strict=True) if status is None or killer]
            kills -= 1

    @contextmanager
    def serving(self) -> Generator[Service]:
        """The service, in a process of its own."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RECON_")},
            **dict(self.workspace.variables), "RECON_DATABASE_URL": self.database.url,
        }  # fmt: skip
        (self.workspace.root / "recon.toml").touch()
        with forked.Running(["serve", "--json", "--port", "0"], environment, self.workspace.root) as running:
            service = Service(running)
            service.wait()
            yield service

    def events_settled(self) -> None:
        """Every event that was answered is kept once and was worked off."""
        kept = self.ask("SELECT scope, payload ->> 'id', state, said FROM recon.webhook_events")
        assert {(scope, event) for scope, event, _, _ in kept} == self.sent
        assert len(kept) == len(self.sent)
        assert {state for _, _, state, _ in kept} <= {"success", "skipped"}, [
            row for row in kept if row[2] == "failed"
        ][:3]

    # -- doors ---------------------------------------------------------------------------------------------------

    def look_at_doors(self, now: datetime, *, kills: bool) -> None:
        """The worker does what is due; then no PIN is active that must not be, and none is missing."""
        if self.chosen.random() < 0.3:
            for _ in range(self.chosen.randint(1, 6)):
                self.locks.faults.add(
                    self.chosen.choice(
                        (
                            Fault(status=500),
                            Fault(status=503, after=True),
                            Fault(cut=True),
                            Fault(status=429, headers={"Retry-After": "0"}),
                        )
                    )
                )
                self.counts["faults of the locks"] += 1
            doors(self.database, self.workspace, now)
            self.locks.faults.waiting.clear()
            now += PATIENCE
        if kills:
            self.killed("doors", now)
        doors(self.database, self.workspace, now)
        rows = {self.ids[(name, key)]: row for name, one in self.expected.items() for key, row in one.rows.items()}
        active = self.locks.active()
        missing = [identity for identity, row in rows.items() if must_open(row, now) and identity not in active]
        late = [identity for identity in active if not may_open(rows.get(identity), now)]
        assert missing == [], (now, "PIN missing", [(one, rows[one]) for one in missing[:3]], self._jobs(missing[:1]))
        assert late == [], (now, "PIN active", [(one, rows.get(one)) for one in late[:3]], self._jobs(late[:1]))
        doubled = Counter(one.reservation for one in self.locks.credentials if one.active)
        assert max(doubled.values(), default=1) == 1, "two PINs open one door"
        kept = {one for (one,) in self.ask("SELECT reservation_id::text FROM door_credentials WHERE state = 'active'")}
        assert kept == active.keys(), (now, "we and the lock differ", list(kept ^ active.keys())[:3])
        self.counts["moments at the doors"] += 1
        self.counts["open doors seen"] += len(active)

    def _jobs(self, ids: list[str]) -> object:
        return [
            self.ask("SELECT job, state, due_at, next_at, attempts, said FROM recon.follow_ups WHERE key[1] = %s", one)
            for one in ids
        ]

    # -- the end -------------------------------------------------------------------------------------------------

    def accounts(self) -> None:
        """Every change of a reservation is a person's, or stands in the ledger of a plan of its own organization, once."""
        noted = Counter(
            (identity, str(organization), event)
            for identity, organization, event in self.ask(
                "SELECT id::text, organization, event FROM history WHERE who = 'recon'"
            )
        )
        others = {who for (who,) in self.ask("SELECT DISTINCT who FROM history")} - {"recon", "people"}
        assert others == set()
        written: Counter[tuple[str, str, str]] = Counter()
        plans = self.ask("SELECT plan, state, document::jsonb -> 'run_limited' ->> 'scope' FROM recon.plans")
        for plan, state, scope in plans:
            table = sql.Identifier("recon", f"ledger_{plan}")
            with self.server.connect(self.name, settings="-c application_name=reader") as connection:
                rows = connection.execute(
                    sql.SQL("SELECT target_key::text, action = 'insert' FROM {}").format(table)
                ).fetchall()
            if rows:
                assert state in ("applied", "verified"), (plan, state)
            for identity, inserted in rows:
                written[(identity, scope, "INSERT" if inserted else "UPDATE")] += 1
        assert noted == written, (list((noted - written).items())[:3], list((written - noted).items())[:3])
        assert replay.replay(self.database).findings == ()
        unfinished = self.ask("SELECT id, status FROM recon.sync_runs WHERE status IN ('pending', 'running')")
        assert unfinished == []
        self.counts["rows written by plans"] += sum(written.values())


def _part(done: Synced, scope: str) -> Part:
    return next(part for part in done.parts if part.scope == scope)


@contextmanager
def opened(server: Server, workspace: Workspace, world: World, counts: Counter[str]) -> Generator[House]:
    """A house with its tables, and world and locks served."""
    hurried()
    name, locks = f"stays_{random.SystemRandom().randrange(10**9)}", Locks()
    server.create(name)
    with served(world.sky) as there, served(locks.app) as doors_at:  # pyright: ignore[reportArgumentType]
        world.sky.patience = 0.3
        variables = {
            **world.stays.settings(there), "RECON_STAYS_TIMEOUT": "0.3", "RECON_LOCKS_URL": doors_at,
            "RECON_LOCKS_TOKEN": locks.token, "RECON_USER": "ann",
        }  # fmt: skip
        house = House(server, name, workspace.with_variables(variables), world, locks, counts)
        with server.connect(name) as connection:
            connection.execute(template("sql").joinpath("schema/stays.sql").read_bytes())
            connection.execute(CHRONICLE.encode())
            for organization in world.organizations:
                house.expected[organization] = Organization(mapped=dict(world.mapped[organization]))
                for listing, number in world.mapped[organization].items():
                    connection.execute(
                        "INSERT INTO properties VALUES (%s, %s, 'P', %s)", (number, organization, listing)
                    )
        tables.ensure(house.database)
        bob = house.workspace.with_variables({**variables, "RECON_USER": "bob"})
        standing.give(house.database, bob, NAME, "bob", rows=50_000, days=30, actions=list(standing.ACTIONS))
        yield house
    server.drop(name)
