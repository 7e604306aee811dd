"""The HousecallPro jobs for tests: a database with the sample, and a workspace whose spec writes the table alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import sqlalchemy as sa
from psycopg import sql

from recon import workflow
from recon.database.connect import Database
from recon.workspace import Workspace
from tests.support import ROOT

HCP = "hcp_jobs"
SPEC = ROOT / "recon" / "systems" / HCP / f"{HCP}.yaml"
# Airtable's settings, so that a plan can be made; nothing listens there, and nothing is asked.
AIRTABLE = {
    "RECON_AIRTABLE_TOKEN": "token-of-a-test",
    "RECON_AIRTABLE_BASE": "appTEST0000000001",
    "RECON_AIRTABLE_URL": "http://127.0.0.1:9",
}


@contextmanager
def sampled(url: str, *, embedded: bool = False) -> Iterator[Database]:
    """A database with the sample, for as long as the `with` lasts. `embedded`: as the one that comes with recon."""
    server = sa.make_url(url)
    plain = server.set(drivername="postgresql").render_as_string(hide_password=False)
    name = f"test_hcp_{os.urandom(4).hex()}"
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    database = Database(server.set(database=name).render_as_string(hide_password=False), embedded=embedded)
    workflow.load_sample(database, HCP)
    yield database
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def own_spec(folder: Path, **replaced: str) -> Workspace:
    """A workspace with this spec of its own, without the outside system; texts of it may be replaced."""
    text = SPEC.read_text(encoding="utf-8")
    first = text.index("  outside:")
    text = text[:first] + text[text.index("source:") :]
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "reconciliations").mkdir(parents=True)
    (folder / "reconciliations" / f"{HCP}.yaml").write_text(text, encoding="utf-8")
    return Workspace(folder)
