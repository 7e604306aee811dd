"""The rent payments, from sample tables to an approved plan, for every test of the path."""

from __future__ import annotations

import pytest

from recon.backfill import plan as plans
from recon.backfill import sign_off
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.support import load_rent_sample, rent_spec


@pytest.fixture
def rent(database: Database) -> Database:
    load_rent_sample(database)
    return database


@pytest.fixture
def spec() -> Reconciliation:
    return rent_spec()


@pytest.fixture
def plan(rent: Database, workspace: Workspace, spec: Reconciliation) -> Plan:
    """A plan of the ten rows, made by ann."""
    runs.match(rent, spec, "ann")
    made = plans.make(rent, workspace, spec, "ann")
    assert made is not None
    return made


@pytest.fixture
def approved(rent: Database, workspace: Workspace, plan: Plan) -> Plan:
    """The plan, approved by bob."""
    return sign_off.approve(rent, workspace, plan.plan, "bob")
