"""When a record may be taken for an orphan: looked up by itself, more than once, and never too many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from recon.backfill import absences, sign_off
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill.absences import Key, Looked, Records
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.errors import DatabaseFailed, OverCap
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.support import execute, recon, rows, simple_spec

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code


@pytest.fixture(autouse=True)
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between looks, without waiting."""
    found: list[float] = []
    monkeypatch.setattr(absences, "sleep", found.append)
    return found


def spec_of(confirm: int = 1, cap: dict[str, Any] | None = None, **fields: Any) -> Reconciliation:
    orphan: dict[str, Any] = {"when": "t.status <> 'gone'", "set": {"status": "'gone'"}, "confirm": confirm}
    usual: dict[str, Any] = {
        "scope": "org",
        "target": {"table": "pay", "key": "id"},
        "source": {"table": "lease", "key": ["org", "code"]},
        "link": None,
        "cardinality": "one_to_one",
        "passes": [{"name": "same", "on": ["org", "code"]}],
        "compare": {"amount": "amount"},
        "backfill": {"orphan": orphan | ({"cap": cap} if cap else {})},
    }
    return simple_spec(**(usual | fields))


@pytest.fixture
def two(database: Database) -> Database:
    """Organisations a with 400 records and b with 12; each has a source record for all of them."""
    execute(
        database,
        "CREATE TABLE lease (org text, code int, amount int, PRIMARY KEY (org, code))",
        "CREATE TABLE pay (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, org text, code int, amount int, status text)",
        "INSERT INTO lease SELECT 'a', n, n FROM generate_series(1, 400) AS n",
        "INSERT INTO lease SELECT 'b', n, n FROM generate_series(1, 12) AS n",
        "INSERT INTO pay (org, code, amount, status) SELECT org, code, amount, 'open' FROM lease",
    )
    return database


def make(database: Database, workspace: Workspace, spec: Reconciliation, **options: Any) -> Plan | None:
    runs.match(database, spec, "ann")
    return plans.make(database, workspace, spec, "ann", **options)


def gone(database: Database, org: str, count: int) -> None:
    execute(database, f"DELETE FROM lease WHERE org = '{org}' AND code <= {count}")


# -- caps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("org", "count", "allowed"), [("a", 20, 20), ("b", 10, 10)])
def test_the_cap_is_a_share_or_a_number_whichever_is_more(
    two: Database, workspace: Workspace, org: str, count: int, allowed: int
) -> None:
    """RES-06: 5 % or 10 records, whichever is larger, counted in each scope."""
    gone(two, org, count)
    plan = make(two, workspace, spec_of())
    assert plan is not None
    assert plan.document["actions"] == {"set": count}
    assert [(item["scope"], item["orphans"], item["allowed"]) for item in plan.document["orphans"]["scopes"]] == [
        (org, count, allowed)
    ]
    assert "over_cap" not in plan.document
    gone(two, org, count + 1)
    with pytest.raises(OverCap, match=rf"org {org}: {count + 1} of \d+ records, {allowed} allowed") as caught:
        make(two, workspace, spec_of())
    assert caught.value.exit_code == 4
    assert "--over-cap" in caught.value.todo


def test_a_person_may_go_over_the_cap_and_the_plan_says_so(two: Database, workspace: Workspace) -> None:
    gone(two, "b", 11)
    plan = make(two, workspace, spec_of(), over_cap=True)
    assert plan is not None
    assert (plan.rows, plan.document["over_cap"]) == (11, True)


def test_not_even_a_person_takes_all_records_of_a_scope(two: Database, workspace: Workspace) -> None:
    """RES-06: never all of two or more."""
    gone(two, "b", 12)
    execute(two, "INSERT INTO lease VALUES ('b', 99, 0)")  # the source was read: it has something of b
    with pytest.raises(OverCap, match="All records would be taken for orphans: org b: 12 of 12"):
        make(two, workspace, spec_of(), over_cap=True)


def test_a_scope_of_which_the_source_has_nothing_stops_the_plan(two: Database, workspace: Workspace) -> None:
    execute(two, "DELETE FROM lease WHERE org = 'b'", "DELETE FROM pay WHERE org = 'b' AND code > 1")
    with pytest.raises(OverCap, match="no record at all of org b"):
        make(two, workspace, spec_of(), over_cap=True)
    execute(two, "INSERT INTO lease VALUES ('b', 99, 0)")
    plan = make(two, workspace, spec_of())
    assert plan is not None
    assert plan.rows == 1  # one record may be all of them


def test_records_that_are_not_asked_about_do_not_count(two: Database, workspace: Workspace) -> None:
    execute(two, "UPDATE pay SET status = 'gone' WHERE org = 'b' AND code > 2")
    gone(two, "b", 6)
    with pytest.raises(OverCap, match="org b: 2 of 2 records"):
        make(two, workspace, spec_of())


def test_without_a_scope_all_records_are_one(two: Database, workspace: Workspace) -> None:
    gone(two, "b", 12)
    plan = make(two, workspace, spec_of(scope=None))
    assert plan is not None
    assert plan.document["orphans"]["scopes"] == [{"scope": None, "records": 412, "orphans": 12, "allowed": 20}]


# -- looks -----------------------------------------------------------------------------------------------


def test_a_record_that_any_look_finds_is_left_alone(
    two: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RES-06: an absence is confirmed by a second look."""
    gone(two, "a", 3)
    seconds: list[float] = []

    def back(wait: float) -> None:
        seconds.append(wait)
        if len(seconds) == 1:
            execute(two, "INSERT INTO lease VALUES ('a', 2, 2)")
        else:
            execute(two, "DELETE FROM lease WHERE code = 2")  # seen once is not absent

    monkeypatch.setattr(absences, "sleep", back)
    plan = make(two, workspace, spec_of(confirm=3))
    assert plan is not None
    assert seconds == [absences.LOOK_SECONDS] * 2
    assert plan.document["actions"] == {"set": 2}
    assert plan.document["left_out"] == {"set: present in the source": 1}
    assert plan.document["orphans"]["looks"] == 3
    sign_off.approve(two, workspace, plan.plan, "bob")
    applying.apply(two, workspace, plan.plan, "ann", execute=True)
    assert rows(two, "SELECT code FROM pay WHERE status = 'gone' ORDER BY 1") == [(1,), (3,)]


@pytest.mark.parametrize(("confirm", "waits"), [(1, 0), (2, 1)])
def test_one_look_needs_no_wait(
    two: Database, workspace: Workspace, waited: list[float], confirm: int, waits: int
) -> None:
    gone(two, "a", 1)
    make(two, workspace, spec_of(confirm=confirm))
    assert len(waited) == waits


def test_a_duplicate_in_the_target_is_no_orphan_while_the_source_has_the_record(
    two: Database, workspace: Workspace
) -> None:
    """Only one of the two is matched; the other is alone, and still not absent."""
    execute(two, "INSERT INTO pay (org, code, amount, status) VALUES ('a', 1, 1, 'open')")
    spec = spec_of(passes=[{"name": "same", "on": ["org", "code"], "prefer": ["key"]}])
    assert runs.match(two, spec, "ann").outcomes["orphan"] == 1
    assert plans.make(two, workspace, spec, "ann") is None


def test_a_record_without_an_identity_cannot_be_looked_up_and_is_left_alone(
    two: Database, workspace: Workspace
) -> None:
    execute(two, "INSERT INTO pay (org, code, amount, status) VALUES ('a', NULL, 1, 'open')")
    gone(two, "a", 1)
    plan = make(two, workspace, spec_of())
    assert plan is not None
    assert (plan.rows, plan.document["left_out"]) == (1, {"set: no identity": 1})


def test_an_error_is_never_an_absence(two: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The expression of a pass fails on a record that comes between two looks."""
    gone(two, "a", 2)
    execute(two, "ALTER TABLE lease ADD COLUMN part int DEFAULT 1")
    monkeypatch.setattr(absences, "sleep", lambda wait: execute(two, "INSERT INTO lease VALUES ('a', 1000, 1, 0)"))
    on = {"org": "org", "code": "s.code / s.part"}
    with pytest.raises(DatabaseFailed, match="division by zero"):
        make(two, workspace, spec_of(confirm=2, passes=[{"name": "same", "on": on}]))
    assert list(workspace.backfills.iterdir()) == []


def test_a_lookup_that_fails_stops_the_plan(
    two: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone(two, "a", 1)

    def unanswered(self: Records, keys: Sequence[Key]) -> Looked:
        raise DatabaseFailed("The source answered 429.")

    monkeypatch.setattr(Records, "look", unanswered)
    with pytest.raises(DatabaseFailed, match="429"):
        make(two, workspace, spec_of())


def test_the_source_is_asked_with_its_own_where(two: Database, workspace: Workspace) -> None:
    spec = spec_of(source={"table": "lease", "key": ["org", "code"], "where": "amount <> 5"})
    plan = make(two, workspace, spec)
    assert plan is not None
    assert plan.rows == 2  # 5 of a and 5 of b: as if the source did not have them


@pytest.mark.parametrize("key", ["uuid", "text", "numeric(6,2)", "timestamptz"])
def test_keys_of_every_type_are_looked_up(database: Database, workspace: Workspace, key: str) -> None:
    made = {
        "uuid": "md5(n::text)::uuid", "text": "'k''\"\\' || n", "numeric(6,2)": "n + 0.5",
        "timestamptz": "timestamptz '2026-01-01' + n * interval '1 us'",
    }[key]  # fmt: skip
    execute(
        database,
        f"CREATE TABLE pay (id {key}, part int, org text, code int, amount int, status text, PRIMARY KEY (id, part))",
        "CREATE TABLE lease (org text, code int, amount int, PRIMARY KEY (org, code))",
        f"INSERT INTO pay SELECT {made}, 1, 'a', n, n, 'open' FROM generate_series(1, 20) AS n",
        "INSERT INTO lease SELECT 'a', n, n FROM generate_series(4, 20) AS n",
        "INSERT INTO pay SELECT id, 2, 'a', 20, 20, 'open' FROM pay WHERE code = 7",
    )
    spec = spec_of(
        target={"table": "pay", "key": ["id", "part"]},
        passes=[{"name": "same", "on": ["org", "code"], "prefer": ["t.part"]}],
    )
    assert runs.match(database, spec, "ann").outcomes["orphan"] == 4
    plan = plans.make(database, workspace, spec, "ann")
    assert plan is not None
    assert (plan.rows, plan.document["left_out"]) == (3, {"set: present in the source": 1})


# -- the command -----------------------------------------------------------------------------------------


@pytest.mark.one_engine
def test_the_command_refuses_with_4_and_shows_actions_and_caps(two: Database, workspace: Workspace) -> None:
    text = spec_of(name="gone").model_dump_json(exclude_none=True)
    (workspace.root / "reconciliations" / "gone.yaml").write_text(text, encoding="utf-8")
    gone(two, "b", 11)
    folder = ["--workspace", str(workspace.root)]
    assert recon("match", "gone", *folder, url=two.url).code in (0, 3)
    ended = recon("plan", "gone", *folder, url=two.url)
    assert (ended.code, "11 of 12 records, 10 allowed" in ended.err + ended.out) == (4, True)
    ended = recon("plan", "gone", "--over-cap", *folder, url=two.url)
    assert ended.code == 0, ended.err
    assert "set" in ended.out
    assert "Orphans of b: 11 of 12 records; the cap is 10" in ended.out
