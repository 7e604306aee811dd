"""Database roles: each does its own work with recon, and the server refuses everything else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from recon import workflow
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import replay, revert, roles, sign_off
from recon.backfill.plan import Plan
from recon.database import tables
from recon.database.connect import Database
from recon.errors import DatabaseFailed, NotApproved, SchemaMismatch, UsageError
from recon.matching import overrides
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.support import execute, recon, rows, simple_spec

TABLE = "SELECT * FROM historical_transactions ORDER BY id"


def run_script(database: Database, text: str) -> None:
    """Run a script as its owner does: all of it, in one go."""
    url = sa.make_url(database.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(text.encode())


@dataclass(frozen=True)
class People:
    """The same database for each of four people, and the names of their roles."""

    prefix: str
    planner: Database
    other_planner: Database
    reviewer: Database
    applier: Database
    owner: Database

    def role(self, kind: str) -> str:
        return f"{self.prefix}_{kind}"


@pytest.fixture
def people(rent: Database, spec: Reconciliation) -> Iterator[People]:
    """Five logins, each a member of one role; what the script made is taken away again."""
    prefix = f"r{os.urandom(4).hex()}"
    run_script(rent, roles.script(rent, spec, prefix))
    logins = {"planner": "plan", "other_planner": "plan", "reviewer": "review", "applier": "apply", "owner": "owner"}
    opened: dict[str, Database] = {}
    for name, kind in logins.items():
        login = f"{prefix}_{name}_login"
        execute(rent, f"CREATE ROLE {login} LOGIN PASSWORD 'secret'", f"GRANT {prefix}_{kind} TO {login}")
        url = sa.make_url(rent.url).set(username=login, password="secret")
        opened[name] = Database(url.render_as_string(hide_password=False))
    yield People(prefix, **opened)
    names = [
        *(f"{prefix}_{name}_login" for name in logins),
        *(f"{prefix}_{kind}" for kind in ("plan", "review", "apply", "owner")),
    ]
    execute(rent, f"DROP OWNED BY {', '.join(names)} CASCADE", f"DROP ROLE {', '.join(names)}")


@pytest.fixture
def planned(people: People, workspace: Workspace, spec: Reconciliation) -> Plan:
    runs.match(people.planner, spec, "ann")
    made = plans.make(people.planner, workspace, spec, "ann")
    assert made is not None
    return made


@pytest.fixture
def ready(people: People, workspace: Workspace, planned: Plan) -> Plan:
    """The plan, approved by the reviewer."""
    return sign_off.approve(people.reviewer, workspace, planned.plan, "bob")


@pytest.fixture
def done(people: People, workspace: Workspace, ready: Plan) -> Plan:
    """The plan, applied by the applier."""
    applying.apply(people.applier, workspace, ready.plan, "carol", execute=True)
    return ready


# -- each does its own work ------------------------------------------------------------------------------


def test_each_role_does_its_part_of_the_whole_way(
    rent: Database, people: People, workspace: Workspace, spec: Reconciliation, ready: Plan
) -> None:
    before = rows(rent, TABLE)
    dry = applying.apply(people.applier, workspace, ready.plan, "carol")
    assert (dry.executed, dry.changed) == (False, 10)
    result = applying.apply(people.applier, workspace, ready.plan, "carol", execute=True)
    assert (result.changed, result.state) == (10, "applied")
    verified = workflow.verify(people.applier, workspace, ready.plan, "carol")
    assert (verified.state, verified.complete) == ("verified", True)
    for who in (people.planner, people.reviewer, people.applier, people.owner):
        assert replay.replay(who).whole
    undone = revert.revert(people.applier, workspace, ready.plan, "carol", execute=True)
    assert (undone.restored, undone.conflicts, undone.state) == (10, 0, "reverted")
    assert rows(rent, TABLE) == before
    assert replay.replay(rent).whole


def test_planners_share_their_runs_and_plans(
    people: People, workspace: Workspace, spec: Reconciliation, ready: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old decisions are forgotten by whoever runs next, and a newer plan takes the place of a colleague's."""
    monkeypatch.setattr(runs, "KEPT_RUNS", 1)
    for who in (people.planner, people.other_planner, people.planner):
        runs.match(who, spec, "ann")
    newer = plans.make(people.other_planner, workspace, spec, "dora")
    assert newer is not None
    assert plans.load(people.planner, workspace, ready.plan).state == "superseded"


def test_planners_decide_and_reviewers_reject(
    people: People, workspace: Workspace, spec: Reconciliation, planned: Plan
) -> None:
    overrides.decide(people.planner, spec, actor="ann", kind="exclude", target="1551", reason="test")
    assert sign_off.reject(people.reviewer, workspace, planned.plan, "bob", "no").state == "rejected"


def test_an_owner_may_plan_too(people: People, workspace: Workspace, spec: Reconciliation) -> None:
    runs.match(people.owner, spec, "olga")
    made = plans.make(people.owner, workspace, spec, "olga")
    assert made is not None
    assert applying.apply(people.applier, workspace, made.plan, "carol").changed == 10


def test_a_planner_cannot_approve_and_a_reviewer_cannot_apply(
    people: People, workspace: Workspace, planned: Plan
) -> None:
    with pytest.raises(DatabaseFailed, match="permission denied"):
        sign_off.approve(people.planner, workspace, planned.plan, "bob")
    sign_off.approve(people.reviewer, workspace, planned.plan, "bob")
    for who in (people.reviewer, people.planner):
        with pytest.raises(DatabaseFailed, match="permission denied"):
            applying.apply(who, workspace, planned.plan, "ann", execute=True)


# -- and nothing else ------------------------------------------------------------------------------------


NOT_FOR_APPLY = [
    "UPDATE historical_transactions SET amount = 0",
    "UPDATE historical_transactions SET invoice_id = 1, category = 'x'",
    "DELETE FROM historical_transactions",
    "INSERT INTO historical_transactions (id) VALUES (-1)",
    "INSERT INTO historical_transactions DEFAULT VALUES",
    "TRUNCATE historical_transactions",
    "ALTER TABLE historical_transactions ADD COLUMN x int",
    "ALTER TABLE historical_transactions DISABLE TRIGGER ALL",
    "CREATE TRIGGER t BEFORE UPDATE ON historical_transactions FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "DROP TABLE historical_transactions",
    "UPDATE invoices SET rent_amount = 0",
    "DELETE FROM invoices",
    "LOCK TABLE invoices IN ACCESS EXCLUSIVE MODE",
    'UPDATE recon."staged_{plan}" SET after_1 = 1',
    'INSERT INTO recon."staged_{plan}" SELECT * FROM recon."staged_{plan}"',
    'DELETE FROM recon."staged_{plan}"',
    'TRUNCATE recon."staged_{plan}"',
    'UPDATE recon."ledger_{plan}" SET before_1 = 1',
    'UPDATE recon."ledger_{plan}" SET after_1 = 1',
    'DELETE FROM recon."ledger_{plan}"',
    'DROP TABLE recon."ledger_{plan}"',
    'UPDATE recon."decisions_{run}" SET outcome = \'matched\'',
    "UPDATE recon.audit_log SET actor = 'bob'",
    "DELETE FROM recon.audit_log",
    "TRUNCATE recon.audit_log",
    "DELETE FROM recon.audit_head",
    "INSERT INTO recon.audit_head (one, entry, hash) VALUES (true, 0, '')",
    "INSERT INTO recon.approvals (plan, approver, digest, method) SELECT plan, 'eve', digest, 'recorded' FROM recon.plans",
    "UPDATE recon.approvals SET approver = 'eve'",
    "DELETE FROM recon.approvals",
    "INSERT INTO recon.standing_sign_offs (id, reconciliation, document, digest, given_by, method)"
    " VALUES ('s', 'r', '{}', 'x', 'eve', 'recorded')",
    "UPDATE recon.standing_sign_offs SET withdrawn_at = NULL",
    "UPDATE recon.plans SET digest = 'x'",
    "UPDATE recon.plans SET document = '{}'",
    "UPDATE recon.plans SET author = 'eve'",
    "UPDATE recon.plans SET expires_at = 'infinity'",
    "INSERT INTO recon.plans SELECT * FROM recon.plans",
    "DELETE FROM recon.plans",
    "UPDATE recon.batches SET changed = 0",
    "DELETE FROM recon.batches",
    "INSERT INTO recon.overrides (reconciliation, kind, target_key, reason, author) VALUES ('r', 'exclude', '{1}', 'x', 'eve')",
    "UPDATE recon.overrides SET undone_at = now()",
    "UPDATE recon.check_results SET success = true",
    "UPDATE recon.runs SET spec_digest = 'x'",
    "UPDATE recon.meta SET schema_version = 0",
    "CREATE TABLE recon.mine (a int)",
    "CREATE TABLE public.mine (a int)",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION recon.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SELECT recon.hand_over('x')",
    "ALTER TABLE recon.plans ADD COLUMN x int",
    "DROP TABLE recon.approvals",
    "DROP SCHEMA recon CASCADE",
    "SET ROLE {prefix}_owner",
    "SET ROLE {prefix}_plan",
    "SET ROLE {prefix}_review",
    "GRANT {prefix}_owner TO {prefix}_apply",
    "SET session_replication_role = replica",
    "COPY (SELECT 1) TO PROGRAM 'cat'",
    "COPY (SELECT 1) TO '/tmp/recon_test'",
    "SELECT pg_read_file('/etc/hostname')",
]  # fmt: skip
NOT_FOR_PLAN = [
    "UPDATE historical_transactions SET invoice_id = 1",
    "SELECT id FROM historical_transactions FOR UPDATE",
    "DELETE FROM historical_transactions",
    "INSERT INTO historical_transactions (id) VALUES (-1)",
    "TRUNCATE historical_transactions",
    "UPDATE invoices SET rent_amount = 0",
    'UPDATE recon."staged_{plan}" SET after_1 = 1',
    'ALTER TABLE recon."staged_{plan}" ADD COLUMN x int',
    'DROP TABLE recon."staged_{plan}"',
    'INSERT INTO recon."ledger_{plan}" SELECT * FROM recon."ledger_{plan}"',
    'UPDATE recon."ledger_{plan}" SET before_1 = 1',
    'UPDATE recon."ledger_{plan}" SET reverted_at = now()',
    'ALTER TABLE recon."ledger_{plan}" DISABLE TRIGGER ALL',
    "INSERT INTO recon.approvals (plan, approver, digest, method) SELECT plan, 'eve', digest, 'recorded' FROM recon.plans",
    "UPDATE recon.plans SET digest = 'x'",
    "DELETE FROM recon.plans",
    "INSERT INTO recon.batches (plan, first, last, changed, milliseconds) SELECT plan, 1, 10, 10, 1 FROM recon.plans",
    "UPDATE recon.audit_log SET actor = 'bob'",
    "DELETE FROM recon.audit_log",
    "DELETE FROM recon.overrides",
    "UPDATE recon.overrides SET reason = 'x'",
    "UPDATE recon.meta SET schema_version = 0",
    "CREATE TABLE public.mine (a int)",
    "CREATE OR REPLACE FUNCTION recon.hand_over(plan text) RETURNS void LANGUAGE sql AS ''",
    "SET ROLE {prefix}_owner",
    "SET ROLE {prefix}_apply",
]  # fmt: skip
NOT_FOR_REVIEW = [
    "UPDATE historical_transactions SET invoice_id = 1",
    "SELECT id FROM historical_transactions FOR UPDATE",
    'UPDATE recon."staged_{plan}" SET after_1 = 1',
    'INSERT INTO recon."ledger_{plan}" SELECT * FROM recon."ledger_{plan}"',
    "UPDATE recon.approvals SET approver = 'eve'",
    "UPDATE recon.plans SET digest = 'x'",
    "INSERT INTO recon.plans SELECT * FROM recon.plans",
    "UPDATE recon.audit_log SET actor = 'bob'",
    "UPDATE recon.standing_sign_offs SET document = '{}'",
    "CREATE TABLE recon.mine (a int)",
    "SELECT recon.hand_over('x')",
    "SET ROLE {prefix}_apply",
]


def test_the_server_refuses_everything_else(rent: Database, people: People, done: Plan) -> None:
    """One database for all statements: each is tried in a transaction of its own."""
    before = rows(rent, TABLE), rows(rent, "SELECT * FROM recon.audit_log ORDER BY entry")
    allowed: list[str] = []
    for kind, who, statements in (
        ("apply", people.applier, NOT_FOR_APPLY),
        ("plan", people.planner, NOT_FOR_PLAN),
        ("review", people.reviewer, NOT_FOR_REVIEW),
    ):
        for statement in statements:
            for name, value in (("plan", done.plan), ("run", done.run), ("prefix", people.prefix)):
                statement = statement.replace(f"{{{name}}}", value)
            try:
                with who.session() as session:
                    session.execute(statement)
                    session.rollback()
                allowed.append(f"{kind}: {statement}")
            except DatabaseFailed as error:
                if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                    allowed.append(f"{kind}: {statement} ({error})")
    assert allowed == []
    assert (rows(rent, TABLE), rows(rent, "SELECT * FROM recon.audit_log ORDER BY entry")) == before


@pytest.mark.parametrize(
    "trap",
    [
        'CREATE TRIGGER t BEFORE INSERT ON recon."ledger_{plan}" FOR EACH ROW EXECUTE FUNCTION recon.trap()',
        'CREATE RULE r AS ON INSERT TO recon."ledger_{plan}" DO ALSO SELECT 1',
        'ALTER TABLE recon."ledger_{plan}" ALTER COLUMN written_at SET DEFAULT recon.clock_timestamp()',
        'ALTER TABLE recon."ledger_{plan}" ALTER COLUMN target_key SET DEFAULT 1',
        'ALTER TABLE recon."ledger_{plan}" ADD CHECK (recon.clock_timestamp() IS NOT NULL)',
        'ALTER TABLE recon."ledger_{plan}" ADD CHECK (place OPERATOR(recon.>) 0)',
        'CREATE INDEX ON recon."ledger_{plan}" ((recon.fixed()))',
        'ALTER TABLE recon."staged_{plan}" ENABLE ROW LEVEL SECURITY',
        'CREATE TABLE recon.child () INHERITS (recon."staged_{plan}")',
        'ALTER TABLE recon."ledger_{plan}" ADD COLUMN trap recon.trapped',
        'ALTER TABLE recon."staged_{plan}" ADD COLUMN trap recon.trapped[]',
        'INSERT INTO recon."ledger_{plan}" (place, target_key) VALUES (1, 1551)',
    ],
)  # fmt: skip
def test_a_planner_cannot_set_a_trap_for_the_applier(
    people: People, workspace: Workspace, spec: Reconciliation, trap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs when a plan's tables are read or written would run with the applier's rights."""
    from recon.database import roles as handing

    runs.match(people.planner, spec, "eve")
    real = handing.hand_over

    def trapped(session: object, plan: str) -> None:
        for statement in (
            "CREATE FUNCTION recon.trap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "CREATE FUNCTION recon.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.now()'",
            "CREATE FUNCTION recon.greater(bigint, int) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
            "CREATE OPERATOR recon.> (LEFTARG = bigint, RIGHTARG = int, FUNCTION = recon.greater)",
            "CREATE FUNCTION recon.fixed() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'",
            "CREATE DOMAIN recon.trapped AS int CHECK (recon.fixed() = 1)",
            trap.replace("{plan}", plan),
        ):
            session.execute(statement)  # pyright: ignore[reportAttributeAccessIssue]
        real(session, plan)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(handing, "hand_over", trapped)
    with pytest.raises(DatabaseFailed, match=r"not as recon makes it|is not empty"):
        plans.make(people.planner, workspace, spec, "eve")


def test_a_plan_that_was_not_handed_over_cannot_be_applied(
    people: People, workspace: Workspace, spec: Reconciliation, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recon.database import roles as handing

    runs.match(people.planner, spec, "eve")
    monkeypatch.setattr(handing, "hand_over", lambda session, plan: None)  # pyright: ignore
    made = plans.make(people.planner, workspace, spec, "eve")
    assert made is not None
    with pytest.raises(DatabaseFailed, match="permission denied"):
        applying.apply(people.applier, workspace, made.plan, "carol", execute=True)


def test_a_state_set_by_hand_is_no_approval(people: People, workspace: Workspace, planned: Plan) -> None:
    execute(people.applier, f"UPDATE recon.plans SET state = 'approved' WHERE plan = '{planned.plan}'")
    with pytest.raises(NotApproved):
        applying.apply(people.applier, workspace, planned.plan, "carol", execute=True)
    assert [item.kind for item in replay.replay(people.owner).findings] == ["state"]


# -- the script ------------------------------------------------------------------------------------------


def test_the_script_may_run_again_and_plans_from_before_are_handed_over(
    rent: Database, people: People, workspace: Workspace, spec: Reconciliation, approved: Plan
) -> None:
    """A plan that was made by the database's owner, or before there were roles, is applied like any other."""
    text = roles.script(rent, spec, people.prefix)
    run_script(rent, text)
    run_script(rent, text)
    assert applying.apply(people.applier, workspace, approved.plan, "carol", execute=True).changed == 10
    run_script(rent, text)
    assert revert.revert(people.applier, workspace, approved.plan, "carol", execute=True).restored == 10


def test_an_owner_who_is_no_superuser_can_run_the_script(database: Database) -> None:
    name, owner = sa.make_url(database.url).database, f"o{os.urandom(4).hex()}"
    execute(
        database,
        f"CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD 'secret'",
        f"ALTER DATABASE {name} OWNER TO {owner}",
    )
    theirs = Database(
        sa.make_url(database.url).set(username=owner, password="secret").render_as_string(hide_password=False)
    )
    try:
        execute(theirs, "CREATE SCHEMA books", *(f"CREATE TABLE books.{one}" for one in (
            "pay (id int PRIMARY KEY, code text, lease_id int)", "lease (id int PRIMARY KEY, code text)")))  # fmt: skip
        spec = simple_spec(target={"table": "books.pay", "key": "id"}, source={"table": "books.lease", "key": "id"})
        for _ in range(2):
            run_script(theirs, roles.script(theirs, spec, owner))
        assert rows(database, "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'recon'") == [
            (f"{owner}_owner",)
        ]
        tables.ensure(theirs)
    finally:
        names = ", ".join([f"{owner}_{kind}" for kind in ("plan", "review", "apply", "owner")])
        execute(database, "DROP SCHEMA IF EXISTS recon, books CASCADE", f"ALTER DATABASE {name} OWNER TO CURRENT_USER")
        execute(database, f"DROP OWNED BY {names} CASCADE", f"DROP ROLE {names}")
        execute(database, f"DROP OWNED BY {owner} CASCADE", f"DROP ROLE {owner}")


def test_only_what_the_actions_write_is_granted(database: Database) -> None:
    """Names that are hostile stay names; rights to insert and delete come only with an insert."""
    odd = 'co"de; DROP TABLE x; --'
    quoted = '"co""de; DROP TABLE x; --"'
    execute(
        database,
        f'CREATE TABLE "p""ay" (id serial PRIMARY KEY, {quoted} text, status text, gone boolean, other text)',
        f"CREATE TABLE lease (id int PRIMARY KEY, {quoted} text, status text)",
    )
    spec = simple_spec(
        target={"table": 'p"ay', "key": "id"}, link=None, cardinality="one_to_one",
        passes=[{"name": "by_code", "on": [odd]}], compare={"status": "status"},
        backfill={"missing": {"insert": {"other": "'new'"}}, "changed": {"update": "all"}, "orphan": {"set": {"gone": "true"}}},
    )  # fmt: skip
    assert roles.written(spec) == roles.Written(("status", "gone"), (odd, "status", "other"))
    text = roles.script(database, spec)
    assert 'GRANT UPDATE ("status", "gone") ON "public"."p""ay" TO "recon_apply";' in text
    assert f'GRANT INSERT ({quoted}, "status", "other") ON "public"."p""ay" TO "recon_apply";' in text
    assert 'GRANT DELETE ON "public"."p""ay" TO "recon_apply";' in text
    assert "GRANT USAGE ON SEQUENCE" in text
    only_link = simple_spec(
        target={"table": 'p"ay', "key": "id"}, link={"column": "other"}, passes=[{"name": "c", "on": [odd]}]
    )
    text = roles.script(database, only_link)
    assert 'GRANT UPDATE ("other") ON "public"."p""ay"' in text
    assert not [line for line in text.splitlines() if line.startswith("GRANT INSERT (") and '"public"' in line]
    assert "GRANT DELETE ON" not in text


def test_every_table_of_a_query_is_read(database: Database) -> None:
    execute(database, "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int)", "CREATE SCHEMA far")
    execute(database, "CREATE TABLE far.lease (id int PRIMARY KEY, code text)", "CREATE TABLE codes (code text)")
    query = "WITH known AS (SELECT code FROM codes) SELECT l.* FROM far.lease AS l JOIN known USING (code)"
    text = roles.script(database, simple_spec(source={"query": query, "key": "id"}))
    for name in ('"public"."pay"', '"public"."codes"', '"far"."lease"'):
        assert f"GRANT SELECT ON {name} TO" in text
    assert 'GRANT USAGE ON SCHEMA "far"' in text
    assert "known" not in text


def test_a_prefix_that_is_no_plain_name_is_refused(rent: Database, spec: Reconciliation) -> None:
    for prefix in ("", "Recon", "x; DROP ROLE y", "$hand_over$", "pg_recon", "a" * 41):
        with pytest.raises(UsageError, match="No role is named"):
            roles.script(rent, spec, prefix)
    with pytest.raises(SchemaMismatch):
        roles.script(rent, spec.model_copy(update={"link": spec.link.model_copy(update={"column": "nothing"})}))  # type: ignore


def test_every_table_of_recon_s_own_that_has_rights_exists() -> None:
    known = {table.name for table in tables.metadata.sorted_tables}
    assert {name for rights in roles.OWN_TABLES.values() for name in rights} <= known


def test_the_command_prints_the_script_and_changes_nothing(rent: Database, tmp_path: Path) -> None:
    ended = recon("database", "roles", "rent_payments", "--prefix", "books", "--workspace", str(tmp_path), url=rent.url)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("BEGIN;")
    assert ended.out.rstrip().endswith("COMMIT;")
    assert rows(rent, "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'books%'") == [(0,)]
    document = recon("database", "roles", "rent_payments", "--json", "--workspace", str(tmp_path), url=rent.url).json
    assert '"recon_apply"' in document["sql"]
    assert recon("database", "roles", "--workspace", str(tmp_path), url=rent.url).code == 2
