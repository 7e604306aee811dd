"""What the benchmarks of a mirror share: a stand-in of Stays with many reservations, and a workspace that mirrors them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import ROOT, Setting
from recon.backfill import standing
from recon.stand_ins.server import served
from recon.stand_ins.stays import Stays
from recon.workspace import Workspace

ORGANIZATION = "0b000000-0000-4000-8000-000000000001"
SPEC = "stays_reservations"
ENVIRONMENT = "benchmarks"
LISTINGS = 50


@dataclass(frozen=True)
class Place:
    """Where a mirror is measured: nothing has been mirrored yet."""

    stays: Stays
    workspace: Workspace


@contextmanager
def place(setting: Setting, reservations: int) -> Generator[Place]:
    """Serve so many reservations of one organization, for as long as the `with` lasts; the tables are made anew."""
    schema = (ROOT / "sql" / "schema" / "stays.sql").read_bytes()
    with setting.database.session() as session:
        session.execute("DROP TABLE IF EXISTS door_credentials, reservations, properties CASCADE")
        session.execute("DROP TABLE IF EXISTS bronze.stays_reservations CASCADE")
        session.driver.execute(schema)
        session.execute(
            "INSERT INTO properties SELECT n, $1::uuid, 'Flat ' || n, 'listing-' || n FROM generate_series(1, $2::int) AS n",
            ORGANIZATION, LISTINGS,
        )  # fmt: skip
    stays = Stays([ORGANIZATION])
    for number in range(reservations):
        day, listing = 1 + number % 27, f"listing-{1 + number % LISTINGS}"
        stays.add(ORGANIZATION, f"R{number}", check_in=f"2026-03-{day:02}", check_out="2026-04-02", listing=listing)
    with TemporaryDirectory() as folder, served(stays.app) as url:
        root = Path(folder)
        (root / "recon.toml").touch()
        given = {"RECON_USER": "bench", "RECON_ENVIRONMENT": ENVIRONMENT, **stays.settings(url)}
        (root / ".env").write_text("".join(f"{name}={value}\n" for name, value in given.items()))
        workspace = Workspace(root)
        standing.give(
            setting.database, workspace, SPEC, "reviewer", rows=max(reservations, 1), days=1,
            actions=["insert", "update", "set"],
        )  # fmt: skip
        yield Place(stays, workspace)
