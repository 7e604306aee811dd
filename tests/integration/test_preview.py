"""The reviewer's desk without a browser: pages, filters, sums, a draft that is what a plan freezes, guarded actions."""

from __future__ import annotations

import io
import subprocess
import threading
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import openpyxl
import pytest

from recon.backfill import sign_off
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.desk import preview, preview_actions, preview_outcomes, preview_rows, preview_view
from recon.desk.preview_actions import Moment, Outcome
from recon.desk.preview_rows import Filter
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.signing import Keys, needs_ssh_keygen, policy
from tests.support import RENT, execute, rows

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

EVERYTHING = """
    SELECT (SELECT count(*) FROM recon.audit_log), (SELECT count(*) FROM recon.plans),
        (SELECT count(*) FROM pg_class WHERE relnamespace = 'recon'::regnamespace)
"""


def acting(workspace: Workspace, name: str) -> Workspace:
    """The workspace as this person opens it."""
    (workspace.root / ".env").write_text(f"RECON_USER={name}\n", encoding="utf-8")
    return Workspace(workspace.root)


def said(found: Outcome) -> str:
    assert found.problem is not None
    return str(found.problem)


# -- what is shown ---------------------------------------------------------------------------------------


def test_a_draft_is_what_a_plan_then_freezes_and_leaves_no_trace(
    rent: Database, workspace: Workspace, spec: Reconciliation
) -> None:
    runs.match(rent, spec, "ann")
    before = rows(rent, EVERYTHING)
    draft = preview.open_draft(rent, workspace, RENT)
    assert rows(rent, EVERYTHING) == before
    assert draft.plan is None
    made = preview_actions.make(rent, acting(workspace, "ann"), RENT)
    assert isinstance(made.result, Plan)
    plan = preview.open_plan(rent, workspace, made.plan)
    assert draft.groups == plan.groups
    assert preview.rows(rent, draft, Filter()).rows == preview.rows(rent, plan, Filter()).rows
    assert len(plan.groups) == 2
    assert list(preview.choices(rent, workspace, RENT).values()) == [made.plan, preview.DRAFT]


def test_rows_filter_by_pass_and_amounts_are_exact(rent: Database, workspace: Workspace, plan: Plan) -> None:
    seen = preview.open_plan(rent, workspace, plan.plan)
    by_pass = {item.rule: item for item in seen.groups}
    sums = [item.label for item in seen.sums]
    assert sums == ["amount", "lease_rent_amount before", "lease_rent_amount after"]
    staged = f"recon.staged_{plan.plan}"
    expected = dict(
        rows(rent, f'SELECT pass, sum(t.amount) FROM "{staged.replace(".", chr(34) + "." + chr(34))}" AS p'
                   " JOIN historical_transactions AS t ON t.id = p.target_key GROUP BY 1")
    )  # fmt: skip
    assert {rule: item.sums[0] for rule, item in by_pass.items()} == expected
    assert all(isinstance(item.sums[0], Decimal) for item in seen.groups)
    found = preview.rows(rent, seen, Filter(("payprop_invoice_id",)))
    assert (found.total, [row.key for row in found.rows][0]) == (3, "1483")
    assert {row.rule for row in found.rows} == {"payprop_invoice_id"}
    image = found.rows[0].images[0]
    assert (image.column, image.before, image.after, image.changes) == ("invoice_id", None, 9, True)
    assert preview.rows(rent, seen, Filter(actions=("insert",))).rows == ()


def test_pages_are_read_in_the_database(database: Database, workspace: Workspace) -> None:
    made = _many(database, workspace, 60)
    seen = preview.open_plan(database, workspace, made)
    pages = [preview.rows(database, seen, Filter(), number) for number in (1, 2, 3, 9)]
    assert [(page.number, page.pages, len(page.rows), page.first) for page in pages[:3]] == [
        (1, 3, 25, 1), (2, 3, 25, 26), (3, 3, 10, 51),
    ]  # fmt: skip
    assert pages[3].number == 3  # beyond the end is the end
    assert [row.place for page in pages[:3] for row in page.rows] == list(range(1, 61))
    assert preview_view.page_words(seen, pages[1]).startswith("Rows 26 to 50 of 60")
    draft = preview.open_draft(database, workspace, "simple")
    assert preview.rows(database, draft, Filter(), 2).rows == pages[1].rows


def _many(database: Database, workspace: Workspace, number: int, spec: str = SIMPLE) -> str: ...
