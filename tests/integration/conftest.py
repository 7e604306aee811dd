"""The rent payments, from sample tables to an approved plan, for every test of the path."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from recon.backfill import plan as plans
from recon.backfill import sign_off
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.copies import Copies
from tests.support import load_rent_sample, rent_spec


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
