"""What tests of the path begin with: the rent payments, from sample tables to an approved plan; payments in two places."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from recon.backfill import plan as plans
from recon.backfill import sign_off
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.stand_ins.server import served
from recon.workspace import Workspace
from tests.books_outside import ROWS, Books
from tests.copies import Copies
from tests.shop import Shop, installed
from tests.support import execute, load_rent_sample, rent_spec


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles of plans whose databases are kept."""
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture
def rent(copies: Copies, database: Database) -> Database:
    copies.after("rent", lambda: load_rent_sample(database))
    return database


@pytest.fixture
def spec() -> Reconciliation:
    return rent_spec()


@pytest.fixture
def plan(rent: Database, workspace: Workspace, spec: Reconciliation, copies: Copies, bundles: Path) -> Plan:
    """A plan of the ten rows, made by ann."""

    def make() -> Plan:
        runs.match(rent, spec, "ann")
        made = plans.make(rent, workspace, spec, "ann")
        assert made is not None
        shutil.copytree(made.bundle, bundles / made.plan)
        return made

    # All that stands in a plan and comes from elsewhere than the database.
    said = (spec.digest, workspace.policy.model_dump_json(), workspace.settings.environment)
    plan = copies.after(("plan", *said), make)
    bundle = workspace.backfills / plan.plan
    if not bundle.exists():
        shutil.copytree(bundles / plan.plan, bundle)
    return replace(plan, bundle=bundle)


@pytest.fixture
def approved(rent: Database, workspace: Workspace, plan: Plan) -> Plan:
    """The plan, approved by bob."""
    return sign_off.approve(rent, workspace, plan.plan, "bob")


@pytest.fixture(scope="module")
def outside_place(embedded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Shop]]:
    """One database and one shop for all of these tests, each of which fills them anew."""
    url = sa.make_url(embedded_url)
    name = f"outside_{os.urandom(4).hex()}"
    with psycopg.connect(embedded_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        shop = Shop({})
        with installed(tmp_path_factory.mktemp("packages")), served(shop.app) as shop.url:
            yield Database(url.set(database=name).render_as_string(hide_password=False)), shop
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def books(outside_place: tuple[Database, Shop], workspace: Workspace) -> Books:
    """The payments, new, in the database and in the shop."""
    database, shop = outside_place
    execute(
        database,
        "DROP TABLE IF EXISTS pay, lease",
        f"CREATE TABLE lease AS SELECT n AS id, 'c' || n AS code FROM generate_series(1, {ROWS}) AS n",
        "ALTER TABLE lease ADD PRIMARY KEY (id)",
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int, shop_id text)",
        f"INSERT INTO pay SELECT n, 'c' || n, NULL, 'rec' || n FROM generate_series(1, {ROWS}) AS n",
    )
    shop.reset({f"rec{n}": {"Lease": None, "Name": f"n{n}"} for n in range(1, ROWS + 1)})
    shop.settings(workspace)
    return Books(database, workspace, shop)
