"""The main job, end to end: match, plan, sign-off, apply, verify, revert, on real servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from recon import workflow
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import revert as reverting
from recon.backfill import sign_off, states
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.errors import (
    BundleChanged,
    IllegalMove,
    Locked,
    NotApproved,
    NotFound,
    SpecError,
    Stale,
    UsageError,
    WrongDatabase,
)
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.support import execute, rows

TABLE = "SELECT * FROM historical_transactions ORDER BY id"
FILES = "plan.json changes.csv dry_run.sql execute.sql verify.sql revert.sql review.html".split()


def state(database: Database, plan: Plan) -> str:
    with database.session() as session:
        return states.current(session, plan.plan)


# -- plan and sign-off -----------------------------------------------------------------------------------


def test_a_bundle_holds_seven_files_and_the_plan_names_them(plan: Plan) -> None:
    names = {path.name for path in plan.bundle.iterdir()}
    assert names == {*FILES}
    assert set(plan.document["files"]) == names - {"plan.json"}
    assert plan.document["passes"]["property_and_customer"] == 7
    assert plan.rows == 10


def test_nothing_is_written_without_a_sign_off(rent: Database, workspace: Workspace, plan: Plan) -> None:
    before = rows(rent, TABLE)
    with pytest.raises(NotApproved, match="0 of 1 approvals"):
        applying.apply(rent, workspace, plan.plan, "ann", execute=True)
    assert rows(rent, TABLE) == before


def test_the_author_cannot_approve(rent: Database, workspace: Workspace, plan: Plan) -> None:
    for name in ("ann", "Ann", " ann "):
        with pytest.raises(NotApproved, match="cannot approve it"):
            sign_off.approve(rent, workspace, plan.plan, name)
    # The executor does not trust the table either: an approval by the author counts for nothing.
    execute(
        rent,
        f"INSERT INTO recon.approvals (plan, approver, digest, method) VALUES ('{plan.plan}', 'ann', '{plan.digest}', 'recorded')",
        f"UPDATE recon.plans SET state = 'approved' WHERE plan = '{plan.plan}'",
    )
    with pytest.raises(NotApproved):
        applying.apply(rent, workspace, plan.plan, "ann", execute=True)


@pytest.mark.one_engine  # files are compared by us
@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_in_any_file_of_the_bundle_refuses_the_apply(
    rent: Database, workspace: Workspace, approved: Plan, name: str
) -> None:
    before = rows(rent, TABLE)
    path = approved.bundle / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(BundleChanged, match=name.replace(".", r"\.")):
        applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    assert rows(rent, TABLE) == before


def test_staged_rows_edited_after_the_sign_off_are_refused(
    rent: Database, workspace: Workspace, approved: Plan
) -> None:
    execute(rent, f'UPDATE recon."staged_{approved.plan}" SET after_1 = 1 WHERE target_key = 1551')
    with pytest.raises(BundleChanged, match="staged rows"):
        applying.apply(rent, workspace, approved.plan, "ann", execute=True)


def test_a_plan_for_another_database_is_refused(rent: Database, workspace: Workspace, approved: Plan) -> None:
    document = approved.bundle / "plan.json"
    moved = document.read_text().replace(approved.document["database"]["database"], "somewhere_else")
    document.write_text(moved)
    from recon.backfill.bundle import digest

    execute(
        rent,
        f"UPDATE recon.plans SET digest = '{digest(moved)}', document = '{moved}' WHERE plan = '{approved.plan}'",
        f"UPDATE recon.approvals SET digest = '{digest(moved)}' WHERE plan = '{approved.plan}'",
    )
    with pytest.raises(WrongDatabase):
        applying.apply(rent, workspace, approved.plan, "ann", execute=True)


def test_an_expired_plan_is_refused_and_logged(rent: Database, workspace: Workspace, approved: Plan) -> None:
    execute(rent, f"UPDATE recon.plans SET expires_at = now() - interval '1 second' WHERE plan = '{approved.plan}'")
    with pytest.raises(NotApproved, match="expired"):
        applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    assert state(rent, approved) == "expired"


def test_a_newer_plan_takes_the_place_of_an_older_one(
    rent: Database, workspace: Workspace, spec: Reconciliation, approved: Plan
) -> None:
    newer = plans.make(rent, workspace, spec, "ann")
    assert newer is not None
    assert state(rent, approved) == "superseded"
    with pytest.raises(IllegalMove):
        applying.apply(rent, workspace, approved.plan, "ann", execute=True)


def test_demo_people_act_in_the_demo_database_only(rent: Database, workspace: Workspace, plan: Plan) -> None:
    with pytest.raises(NotApproved, match="demo database only"):
        sign_off.approve(rent, workspace, plan.plan, "demo-reviewer")


def test_a_rejected_plan_cannot_be_approved_or_applied(rent: Database, workspace: Workspace, plan: Plan) -> None:
    with pytest.raises(UsageError):
        sign_off.reject(rent, workspace, plan.plan, "bob", " ")
    sign_off.reject(rent, workspace, plan.plan, "bob", "1551 is odd")
    with pytest.raises(IllegalMove):
        sign_off.approve(rent, workspace, plan.plan, "bob")
    with rent.session() as session:
        assert states.log(session, plan.plan)[-1]["detail"] == {"reason": "1551 is odd"}


def test_a_plan_of_one_pass_holds_only_its_rows(rent: Database, workspace: Workspace, spec: Reconciliation) -> None:
    runs.match(rent, spec, "ann")
    made = plans.make(rent, workspace, spec, "ann", passes=["payprop_invoice_id"])
    assert made is not None
    assert made.rows == 3
    with pytest.raises(NotFound, match="Did you mean"):
        plans.make(rent, workspace, spec, "ann", passes=["payprop_invoice"])


def test_rules_that_changed_since_the_run_cannot_be_planned(
    rent: Database, workspace: Workspace, spec: Reconciliation
) -> None:
    runs.match(rent, spec, "ann")
    changed = spec.model_copy(update={"passes": spec.passes[:1]})
    with pytest.raises(UsageError, match="rules of rent_payments changed"):
        plans.make(rent, workspace, changed, "ann")
    assert list(workspace.backfills.glob("*")) == []


# -- apply, verify, revert -------------------------------------------------------------------------------


def test_a_dry_run_changes_nothing_and_says_what_would(rent: Database, workspace: Workspace, plan: Plan) -> None:
    """INV-13, INV-14."""
    before, ledger = rows(rent, TABLE), rows(rent, f'SELECT count(*) FROM recon."ledger_{plan.plan}"')
    result = applying.apply(rent, workspace, plan.plan, "ann")
    assert (result.executed, result.changed, result.skipped) == (False, 10, 0)
    assert "Update on" in result.query_plan
    assert rows(rent, TABLE) == before
    assert rows(rent, f'SELECT count(*) FROM recon."ledger_{plan.plan}"') == ledger
    assert state(rent, plan) == "planned"


def test_apply_links_verify_proves_and_applying_twice_changes_nothing_more(
    rent: Database, workspace: Workspace, approved: Plan
) -> None:
    """INV-01, INV-13, INV-15, INV-17: 135 of 135, with the lease's terms kept on the payment."""
    result = applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    assert (result.changed, result.skipped, result.state) == (10, 0, "applied")
    assert rows(rent, "SELECT count(*), count(invoice_id) FROM historical_transactions WHERE category = 'rent'") == [
        (135, 135)
    ]
    wrong_terms = """
        SELECT t.id FROM historical_transactions t JOIN invoices s ON s.id = t.invoice_id WHERE t.category = 'rent'
        AND (t.lease_start_date, t.lease_end_date, t.lease_rent_amount)
            IS DISTINCT FROM (s.start_date, s.end_date, s.rent_amount)
    """
    assert rows(rent, wrong_terms) == []
    after = rows(rent, TABLE)
    again = applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    assert again.changed == 0
    assert rows(rent, TABLE) == after
    verified = workflow.verify(rent, workspace, approved.plan, "ann")
    assert verified.state == "verified"
    assert verified.complete


def test_revert_returns_the_table_to_its_former_state(rent: Database, workspace: Workspace, approved: Plan) -> None:
    before = rows(rent, TABLE)
    applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    shown = reverting.revert(rent, workspace, approved.plan, "ann")
    assert (shown.executed, shown.restored) == (False, 10)
    assert rows(rent, TABLE) != before
    result = reverting.revert(rent, workspace, approved.plan, "ann", execute=True)
    assert (result.restored, result.conflicts, result.state) == (10, 0, "reverted")
    assert rows(rent, TABLE) == before
    with pytest.raises(IllegalMove):
        reverting.revert(rent, workspace, approved.plan, "ann", execute=True)


def test_a_row_that_somebody_edited_since_is_kept_by_revert(
    rent: Database, workspace: Workspace, approved: Plan
) -> None:
    applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    execute(rent, "UPDATE historical_transactions SET invoice_id = 1 WHERE id = 1526")
    result = reverting.revert(rent, workspace, approved.plan, "ann", execute=True)
    assert (result.restored, result.conflicts, result.rows) == (9, 1, ["1526"])
    assert result.state == "reverted_with_conflicts"
    assert rows(rent, "SELECT invoice_id FROM historical_transactions WHERE id = 1526") == [(1,)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "UPDATE historical_transactions SET invoice_id = 1 WHERE id = 1551",
            "1551: the row to change reads differently",
        ),
        (
            "UPDATE historical_transactions SET customer_id = 5 WHERE id = 1551",
            "1551: the row to change reads differently",
        ),
        ("UPDATE historical_transactions SET category = 'other' WHERE id = 1551", "1551: the row to change reads"),
        ("DELETE FROM historical_transactions WHERE id = 1551", "1551: the row to change is no longer there"),
        ("UPDATE invoices SET end_date = '2025-04-30' WHERE id = 20", "1551: the source row reads differently"),
    ],
)
def test_rows_that_changed_since_planning_stop_the_apply_and_are_named(
    rent: Database, workspace: Workspace, approved: Plan, change: str, said: str
) -> None:
    execute(rent, change)
    before = rows(rent, TABLE)
    with pytest.raises(Stale, match="1 of 10 rows changed") as error:
        applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    assert said in error.value.why
    assert rows(rent, TABLE) == before
    assert state(rent, approved) == "stale"


def test_a_row_that_drifts_in_mid_run_fails_the_plan_and_keeps_nothing(
    rent: Database, workspace: Workspace, approved: Plan
) -> None:
    """Up to 10,000 rows are one transaction: the trigger plays the writer who comes between check and batch."""
    execute(
        rent,
        "CREATE FUNCTION drift() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF new.to_state = 'applying' THEN UPDATE public.historical_transactions SET customer_id = 5 WHERE id = 1551;"
        " END IF; RETURN new; END $$",
        "CREATE TRIGGER drift AFTER INSERT ON recon.audit_log FOR EACH ROW EXECUTE FUNCTION drift()",
    )
    with pytest.raises(Stale, match="drifted while it was applied"):
        applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    assert state(rent, approved) == "apply_failed"
    assert rows(rent, "SELECT count(invoice_id) FROM historical_transactions WHERE category = 'rent'") == [(125,)]
    assert rows(rent, f'SELECT count(*) FROM recon."ledger_{approved.plan}"') == [(0,)]


def test_an_altered_table_is_refused(rent: Database, workspace: Workspace, approved: Plan) -> None:
    execute(rent, "ALTER TABLE historical_transactions ADD COLUMN extra integer")
    with pytest.raises(Stale, match="was altered since"):
        applying.apply(rent, workspace, approved.plan, "ann", execute=True)


def test_two_writers_on_one_table_are_refused(rent: Database, workspace: Workspace, approved: Plan) -> None:
    from recon.backfill import executor

    with executor.writing(rent, approved), pytest.raises(Locked, match="at work"):
        applying.apply(rent, workspace, approved.plan, "ann", execute=True)


def test_an_interrupted_apply_is_resumed(rent: Database, workspace: Workspace, approved: Plan) -> None:
    with rent.session() as session:
        states.move(session, approved.plan, "applying", "ann")
    result = applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    assert result.changed == 10
    with rent.session() as session:
        moves = [(row["from_state"], row["to_state"]) for row in states.log(session, approved.plan)]
    assert moves[-3:] == [("applying", "interrupted"), ("interrupted", "applying"), ("applying", "applied")]


def test_a_change_undone_behind_our_back_fails_the_verification(
    rent: Database, workspace: Workspace, approved: Plan
) -> None:
    applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    execute(rent, "UPDATE historical_transactions SET invoice_id = NULL WHERE id = 1551")
    result = workflow.verify(rent, workspace, approved.plan, "ann")
    assert result.state == "verify_failed"
    assert result.verification.rows == [{"key": "1551", "problem": "the row holds another value"}]


def test_an_older_wrong_link_is_reported_and_the_plan_is_verified(
    rent: Database, workspace: Workspace, approved: Plan
) -> None:
    """INV-15: a link that is present but wrong falls short, and is not this plan's fault."""
    wrong = rows(
        rent,
        "SELECT min(t.id) FROM historical_transactions t WHERE category = 'rent' AND invoice_id IS NOT NULL"
        " AND property_id = 6",
    )[0][0]
    execute(rent, f"UPDATE historical_transactions SET invoice_id = 20 WHERE id = {wrong}")
    applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    result = workflow.verify(rent, workspace, approved.plan, "ann")
    assert result.state == "verified"
    assert not result.complete
    failed = {item.name: item.examples for item in result.checks.failed}
    assert str(wrong) in failed["property_agrees"][0]


def test_the_moves_of_a_plan_are_only_those_of_the_table(rent: Database, plan: Plan) -> None:
    with rent.session() as session, pytest.raises(IllegalMove, match="cannot become applied"):
        states.move(session, plan.plan, "applied", "ann")


def test_new_imports_are_linked_as_they_arrive(
    rent: Database, workspace: Workspace, spec: Reconciliation, approved: Plan
) -> None:
    """INV-20: linked rows have left the pool; only the new row is decided."""
    applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    execute(
        rent,
        "INSERT INTO historical_transactions (id, transaction_date, property_id, customer_id, amount, category)"
        " VALUES (9001, '2025-06-01', 6, 26, 700, 'rent')",
    )
    run = runs.match(rent, spec, "ann")
    assert run.outcomes == {"linked": 135, "matched": 1}
    made = plans.make(rent, workspace, spec, "ann")
    assert made is not None
    assert made.rows == 1


def test_a_run_that_matches_nothing_new_leaves_no_plan(
    rent: Database, workspace: Workspace, spec: Reconciliation, approved: Plan, tmp_path: Path
) -> None:
    applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    runs.match(rent, spec, "ann")
    assert plans.make(rent, workspace, spec, "ann") is None
    assert len(list(workspace.backfills.iterdir())) == 1


# -- policy ----------------------------------------------------------------------------------------------


def test_the_policy_may_ask_for_two_approvals(rent: Database, workspace: Workspace, plan: Plan) -> None:
    (workspace.root / "recon.toml").write_text("[sign_off]\napprovals = 2\n")
    strict = Workspace(workspace.root)
    assert sign_off.approve(rent, strict, plan.plan, "bob").state == "planned"
    assert sign_off.approve(rent, strict, plan.plan, "bob").state == "planned"  # the same person again counts once
    with pytest.raises(NotApproved, match="1 of 2"):
        applying.apply(rent, strict, plan.plan, "ann", execute=True)
    assert sign_off.approve(rent, strict, plan.plan, "cleo").state == "approved"
    assert applying.apply(rent, strict, plan.plan, "ann", execute=True).changed == 10


def test_the_policy_may_forbid_approvals_by_name(rent: Database, workspace: Workspace, plan: Plan) -> None:
    (workspace.root / "recon.toml").write_text("[sign_off]\nrecorded_by_name = false\n")
    with pytest.raises(NotApproved, match="recorded by name"):
        sign_off.approve(rent, Workspace(workspace.root), plan.plan, "bob")


def test_the_policy_may_tolerate_drift_and_says_what_was_left_alone(
    rent: Database, workspace: Workspace, spec: Reconciliation
) -> None:
    (workspace.root / "recon.toml").write_text("[plan]\ntolerance_rows = 1\n")
    lenient = Workspace(workspace.root)
    runs.match(rent, spec, "ann")
    made = plans.make(rent, lenient, spec, "ann")
    assert made is not None
    sign_off.approve(rent, lenient, made.plan, "bob")
    execute(rent, "UPDATE historical_transactions SET customer_id = 5 WHERE id = 1551")
    result = applying.apply(rent, lenient, made.plan, "ann", execute=True)
    assert (result.changed, result.skipped) == (9, 1)
    assert result.drifts == [{"key": "1551", "source": "20", "status": "target changed", "columns": {}, "count": 1}]


@pytest.mark.parametrize("text", ["[sign_off]\napproval = 2", "[plan]\nexpires_days = 0", "not toml ["])
def test_a_broken_policy_is_an_error_and_not_ignored(workspace: Workspace, text: str) -> None:
    (workspace.root / "recon.toml").write_text(text)
    with pytest.raises(SpecError, match=r"recon\.toml"):
        _ = Workspace(workspace.root).policy
