"""Reservations with their follow-ups, small: the tables, a spec of them, and handlers that note what they were called with."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from recon.database import tables
from recon.database.connect import Database
from recon.mirror import follow_ups_done
from recon.outside.jobs import Job
from recon.spec import Reconciliation
from recon.systems.stays import pins
from recon.workspace import Workspace
from tests.copies import Copies
from tests.support import execute, simple_spec

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ORGS = ("00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b")

TABLES = (
    "CREATE TABLE reservations (id uuid PRIMARY KEY, organization_id uuid NOT NULL, platform text NOT NULL"
    " DEFAULT 'airbnb', external_id text, check_in timestamptz, check_out timestamptz, status text NOT NULL,"
    " cancelled_at timestamptz)",
    "CREATE TABLE listed (LIKE reservations)",
    "CREATE TABLE IF NOT EXISTS door_credentials (reservation_id uuid PRIMARY KEY, organization_id uuid NOT NULL,"
    " credential_id text NOT NULL, state text NOT NULL CHECK (state IN ('active', 'revoked')), active_from timestamptz,"
    " revoked_at timestamptz, made_at timestamptz NOT NULL DEFAULT now())",
)
LIVE = "t.status in ('pending', 'confirmed', 'checked_in')"
FOLLOW_UPS = [
    {
        "job": "generate_pin",
        "at": "t.check_in - interval '2 hours'",
        "when": f"{LIVE} and t.check_out + interval '24 hours' > now()",
    },
    {
        "job": "revoke_pin",
        "at": "case when t.status = 'cancelled' then now() else t.check_out + interval '24 hours' end",
        "if_gone": "run",
    },
]


def spec(**fields: Any) -> Reconciliation:
    """The reservations, with the two jobs of their PINs."""
    usual: dict[str, Any] = {
        "name": "stays",
        "scope": "organization_id",
        "target": {"table": "reservations", "key": "id"},
        "source": {"table": "listed", "key": "id"},
        "link": None,
        "cardinality": "one_to_one",
        "passes": [{"name": "identity", "on": ["platform", "external_id"]}],
        "follow_ups": FOLLOW_UPS,
    }
    return simple_spec(**(usual | fields))


@contextmanager
def house(url: str) -> Generator[Database]:
    """A database with these tables, for all tests of a module; `emptied` before each."""
    copies = Copies(url)
    database = copies.fresh()
    execute(database, *TABLES)
    tables.ensure(database)
    yield database
    copies.drop()


def emptied(database: Database) -> Database:
    execute(database, "TRUNCATE reservations, door_credentials, recon.follow_ups")
    return database


def identity(number: int) -> str:
    return f"00000000-0000-0000-0001-{number:012d}"


def reserve(
    database: Database, number: int, check_in: datetime, nights: int = 3, status: str = "confirmed", org: int = 0
) -> str:
    """A reservation of this number, or this one as it is now."""
    with database.session() as session:
        session.execute(
            "INSERT INTO reservations (id, organization_id, external_id, check_in, check_out, status)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET organization_id = excluded.organization_id,"
            " check_in = excluded.check_in, check_out = excluded.check_out, status = excluded.status",
            identity(number), ORGS[org], f"X{number}", check_in, check_in + timedelta(days=nights), status,
        )  # fmt: skip
    return identity(number)


# -- handlers --------------------------------------------------------------------------------------------

CALLS: list[Job] = []  # what `noted` was called with, by this process
FAULTS: dict[str, Exception] = {}  # what it raises, by record


def noted(job: Job) -> str:
    """A handler that only notes the call."""
    CALLS.append(job)
    if fault := FAULTS.get(job.key[-1]):
        raise fault
    return f"noted {job.name}"


@contextmanager
def installed(folder: Path, *names: str, points_to: str = "tests.stays:noted") -> Generator[None]:
    """While this is open, recon finds handlers of these names, as an installer would leave them in a folder."""
    packed = folder / "handlers-1.0.dist-info"
    packed.mkdir(parents=True)
    (packed / "METADATA").write_text("Metadata-Version: 2.1\nName: handlers\nVersion: 1.0\n")
    lines = "".join(f"{name} = {points_to}\n" for name in names)
    (packed / "entry_points.txt").write_text(f"[recon.follow_ups]\n{lines}")
    CALLS.clear()
    FAULTS.clear()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def carry_out(url: str, folder: str, now: datetime, *, dies: bool) -> None:
    """What is due, in a process of its own; `dies`: killed once the handler has done its work, before that is written down."""

    def dying(job: Job) -> str:
        pins.generate(job)
        os.kill(os.getpid(), signal.SIGKILL)
        return "never said"

    if dies:
        follow_ups_done.open_handler = lambda _name: dying
    follow_ups_done.carry_out(Database(url), Workspace(Path(folder)), spec(), now)
