"""Lint where it holds: no bundle is planned, approved or applied past it; and what it tells of the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from recon.backfill import apply as applying
from recon.backfill import bundle, lint_table, scripts, sign_off
from recon.backfill import plan as plans
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.errors import LintRefused
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.support import execute, rows, simple_spec

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

TABLE = "SELECT * FROM historical_transactions ORDER BY id"
GUARD = 'AND "target"."invoice_id" IS NOT DISTINCT FROM "staged"."before_1"'


def bent(database: Database, plan: Plan, old: str, new: str) -> None:
    """Edit execute.sql and all that proves it: plan.json, the plan's row, and the approvals."""
    path = plan.bundle / "execute.sql"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    document = {**plan.document, "files": {**plan.document["files"], "execute.sql": bundle.digest(path.read_bytes())}}
    manifest = bundle.canonical(document)
    (plan.bundle / "plan.json").write_text(manifest)
    with database.session() as session:
        session.execute(
            "UPDATE recon.plans SET digest = $1, document = $2 WHERE plan = $3",
            bundle.digest(manifest), manifest, plan.plan,
        )  # fmt: skip
        session.execute("UPDATE recon.approvals SET digest = $1 WHERE plan = $2", bundle.digest(manifest), plan.plan)


def test_a_bundle_that_breaks_a_rule_cannot_be_approved(rent: Database, workspace: Workspace, plan: Plan) -> None:
    bent(rent, plan, GUARD, "")
    with pytest.raises(LintRefused, match='writes "invoice_id" without comparing'):
        sign_off.approve(rent, workspace, plan.plan, "bob")
    assert rows(rent, "SELECT count(*) FROM recon.approvals") == [(0,)]


def test_nor_applied_whoever_approved_it(rent: Database, workspace: Workspace, approved: Plan) -> None:
    before = rows(rent, TABLE)
    bent(rent, approved, GUARD, "")
    with pytest.raises(LintRefused):
        applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    assert rows(rent, TABLE) == before


@pytest.mark.one_engine
def test_a_plan_whose_scripts_break_a_rule_is_not_made(
    rent: Database, workspace: Workspace, spec: Reconciliation, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = scripts.all_scripts

    def without_guard(change: object, plan: str) -> dict[str, str]:
        texts = written(change, plan)  # pyright: ignore[reportArgumentType]
        return {**texts, "execute.sql": texts["execute.sql"].replace(GUARD, "")}

    runs.match(rent, spec, "ann")
    monkeypatch.setattr(scripts, "all_scripts", without_guard)
    with pytest.raises(LintRefused):
        plans.make(rent, workspace, spec, "ann")
    assert list(workspace.backfills.glob("*")) == []
    assert rows(rent, "SELECT count(*) FROM recon.plans") == [(0,)]


# -- what it tells of the table --------------------------------------------------------------------------


def warned(database: Database, plan: Plan) -> dict[str, str]:
    with database.session(read_only=True) as session:
        found = lint_table.of_table(session, plan.document)
    assert {item.severity for item in found} <= {"warn"}
    assert all(item.todo for item in found)
    return {item.rule: item.what for item in found}


def small(database: Database, workspace: Workspace, *statements: str, **fields: object) -> Plan:
    """A plan of one row of four, in tables of the fewest columns."""
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
        "INSERT INTO lease VALUES (7, 'x')",
        "INSERT INTO pay VALUES (1, 'x'), (2, 'y'), (3, 'y'), (4, 'y')",
        "ANALYZE pay",
        *statements,
    )
    spec = simple_spec(**fields)
    runs.match(database, spec, "ann")
    made = plans.make(database, workspace, spec, "ann")
    assert made is not None
    return made


def test_a_plain_table_and_signed_approvals_are_worth_no_word(database: Database, workspace: Workspace) -> None:
    (workspace.root / "recon.toml").write_text("[sign_off]\nrecorded_by_name = false\n")
    strict = Workspace(workspace.root)
    assert warned(database, small(database, strict)) == {}


FUNCTION = "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"


@pytest.mark.parametrize(
    ("statements", "rule", "said"),
    [
        ([FUNCTION, 'CREATE TRIGGER "wat""ch" BEFORE UPDATE ON pay FOR EACH ROW EXECUTE FUNCTION nothing()'], "triggers",
         'wat"ch'),
        (["ALTER TABLE pay ENABLE ROW LEVEL SECURITY"], "row security", "fewer rows"),
        (["ALTER TABLE pay ADD twice int GENERATED ALWAYS AS (lease_id * 2) STORED"], "generated columns", "twice"),
        (["CREATE RULE quiet AS ON DELETE TO pay DO INSTEAD NOTHING"], "rules", "quiet"),
        (["ALTER TABLE pay ADD UNIQUE (lease_id)",
          "CREATE TABLE other (lease_id int REFERENCES pay (lease_id) ON UPDATE CASCADE)"], "cascades", "other"),
        (["DELETE FROM pay WHERE id > 1", "ANALYZE pay"], "large share", "100%"),
    ],
)  # fmt: skip
def test_what_a_change_would_set_off_is_told(
    database: Database, workspace: Workspace, statements: list[str], rule: str, said: str
) -> None:
    made = small(database, workspace, *statements)
    found = warned(database, made)
    assert said in found[rule]
    assert set(found) == {rule, "by name"}
    assert said.replace('"', "&#34;") in (made.bundle / "review.html").read_text()


def test_a_foreign_key_that_changes_nothing_else_is_not_told(database: Database, workspace: Workspace) -> None:
    keys = "CREATE TABLE other (pay_id int REFERENCES pay ON DELETE CASCADE ON UPDATE CASCADE)"
    assert "cascades" not in warned(
        database, small(database, workspace, keys)
    )  # the key is not written, nothing deleted


def test_a_table_without_statistics_is_told(database: Database, workspace: Workspace) -> None:
    execute(database, "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int)")
    execute(database, "ALTER TABLE pay SET (autovacuum_enabled = false)", "INSERT INTO pay VALUES (1, 'x')")
    execute(database, "CREATE TABLE lease AS SELECT 7 AS id, 'x' AS code", "ALTER TABLE lease ADD PRIMARY KEY (id)")
    runs.match(database, simple_spec(), "ann")
    made = plans.make(database, workspace, simple_spec(), "ann")
    assert made is not None
    assert "statistics" in warned(database, made)


def test_one_to_one_without_an_index_on_the_link_is_told(database: Database, workspace: Workspace) -> None:
    made = small(database, workspace, cardinality="one_to_one")
    assert '"lease_id"' in warned(database, made)["link index"]
    execute(database, "CREATE INDEX ON pay (lease_id)")
    assert "link index" not in warned(database, made)


def test_a_partitioned_table_is_told(database: Database, workspace: Workspace) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int) PARTITION BY RANGE (id)",
        "CREATE TABLE pay_1 PARTITION OF pay FOR VALUES FROM (0) TO (10)",
        "INSERT INTO pay VALUES (1, 'x')",
        "CREATE TABLE lease AS SELECT 7 AS id, 'x' AS code",
        "ALTER TABLE lease ADD PRIMARY KEY (id)",
    )
    runs.match(database, simple_spec(), "ann")
    made = plans.make(database, workspace, simple_spec(), "ann")
    assert made is not None
    assert "partitioned" in warned(database, made)


def test_tolerance_is_told(database: Database, workspace: Workspace) -> None:
    (workspace.root / "recon.toml").write_text("[plan]\ntolerance_rows = 3\n")
    made = small(database, Workspace(Path(workspace.root)))
    assert "up to 3 rows" in warned(database, made)["tolerance"]


def test_of_a_table_that_is_gone_nothing_is_told(rent: Database, plan: Plan) -> None:
    execute(rent, "DROP TABLE historical_transactions CASCADE")
    assert warned(rent, plan) == {}


def test_every_warning_has_a_test() -> None:
    names = {rule.name for rule in lint_table.WARNINGS}
    tried = {"triggers", "row security", "generated columns", "rules", "cascades", "large share", "statistics"}
    assert names == tried | {"link index", "partitioned", "tolerance", "by name"}
