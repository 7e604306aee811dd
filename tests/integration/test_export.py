"""A plan's changes for an outside system, as other tools take them: straight from the bundle, and only for whom may see them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from recon import cli
from recon.backfill import bundle, export, sign_off
from recon.backfill import plan as plans
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.errors import BundleChanged
from recon.matching import run as runs
from recon.stand_ins import hubspot as stand_in
from recon.stand_ins.server import served
from recon.workspace import Workspace
from tests.support import execute, simple_spec

pytestmark = pytest.mark.one_engine

RECORDS = 250  # three requests
FIELDS: dict[str, Any] = {
    "name": "companies",
    "target": {"table": "company", "key": "id"},
    "source": {"table": "legacy", "key": "id"},
    "link": None,
    "cardinality": "one_to_one",
    "passes": [{"name": "by_id", "on": {"id": "id"}}],
    "compare": {"name": "name", "domain": "domain"},
    "backfill": {"changed": {"update": "all"}},
}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    database: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """Runs `recon export` as somebody; gives its exit code and what it prints on either stream."""

    def command(*arguments: str, user: str = "ann", asks: bool = False) -> tuple[int, str, str]:
        monkeypatch.setenv("RECON_DATABASE_URL", database.url)
        monkeypatch.setenv("RECON_USER", user)
        monkeypatch.setenv("RECON_SHOW_PRIVATE", "1" if asks else "")
        monkeypatch.setattr(sys, "argv", ["recon", "export", *arguments, "--workspace", str(workspace.root)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capfd.readouterr()
        return int(str(ended.value.code)), printed.out, printed.err

    return command


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan names the place that it is for; nothing is asked there."""
    for name in ("RECON_HUBSPOT_TOKEN", "RECON_AIRTABLE_TOKEN"):
        monkeypatch.setenv(name, "never-used")
    monkeypatch.setenv("RECON_AIRTABLE_BASE", "appNeverUsed12345")


def planned(
    database: Database, workspace: Workspace, count: int, outside: dict[str, Any] | None = None, **fields: Any
) -> Plan:
    """A plan of so many companies, each with another name; company 2 loses its domain too."""
    execute(
        database,
        "DROP TABLE IF EXISTS company, legacy",
    )
    execute(
        database,
        "CREATE TABLE company (id int PRIMARY KEY, name text, domain text)",
        "CREATE TABLE legacy (id int PRIMARY KEY, name text, domain text)",
        f"INSERT INTO company SELECT n, 'old ' || n, 'd' || n FROM generate_series(1, {count + 5}) AS n",
        f"INSERT INTO legacy SELECT n, CASE WHEN n > {count} THEN 'old ' ELSE E'née\\u2028 ' END || n,"
        f" CASE WHEN n <> 2 THEN 'd' || n END FROM generate_series(1, {count + 5}) AS n",
    )
    outside = {"system": "hubspot", "object": "companies"} if outside is None else outside
    target = FIELDS["target"] | fields.pop("target", {}) | ({"outside": outside} if outside else {})
    spec = simple_spec(**FIELDS | fields | {"target": target})
    runs.match(database, spec, "ann")
    made = plans.make(database, workspace, spec, "ann")
    assert made is not None
    return made


@pytest.fixture
def plan(database: Database, workspace: Workspace) -> Plan:
    return planned(database, workspace, RECORDS)


def test_each_record_is_a_line_with_its_id_and_only_what_differs(plan: Plan, run: Run) -> None:
    """CRM-11: per record the HubSpot id and only the properties that differ, as JSON lines."""
    code, out, err = run(plan.plan)
    lines = [json.loads(line) for line in out.splitlines()]  # which ends a line at U+2028, too
    assert (code, len(lines)) == (0, RECORDS)
    assert lines[0] == {"id": "1", "properties": {"name": "née\u2028 1"}}
    assert lines[1] == {"id": "2", "properties": {"name": "née\u2028 2", "domain": ""}}  # an empty text empties it
    assert err == f"250 records. Plan {plan.plan} is planned and may not be sent as it is.\n"


def test_requests_hold_a_hundred_records_at_most_and_hubspot_takes_them(
    plan: Plan, database: Database, workspace: Workspace, run: Run, tmp_path: Path
) -> None:
    """CRM-11: as batch-update requests of at most 100, as the API takes them."""
    import httpx2

    sign_off.approve(database, workspace, plan.plan, "bob")
    file = tmp_path / "requests.jsonl"
    code, out, err = run(plan.plan, "--format", "requests", "--output", str(file))
    assert (code, err) == (0, "")
    assert out == f"Wrote 250 records in 3 requests to {file}. Plan {plan.plan} is approved.\n"
    requests = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [len(request["inputs"]) for request in requests] == [100, 100, 50]
    records: stand_in.Records = {str(n): {"name": f"old {n}", "domain": f"d{n}"} for n in range(1, RECORDS + 1)}
    hub = stand_in.HubSpot({"companies": records})
    with served(hub.app) as url:
        for request in requests:
            answer = httpx2.post(
                f"{url}/crm/v3/objects/companies/batch/update",
                json=request,
                headers={"Authorization": f"Bearer {hub.token}"},
            )
            assert answer.status_code == 200
    assert set(hub.updates.values()) == {1}
    assert records["2"] == {"name": "née\u2028 2", "domain": None}
    assert records["250"] == {"name": "née\u2028 250", "domain": "d250"}


def test_json_is_one_document(plan: Plan, run: Run, tmp_path: Path) -> None:
    code, out, err = run(plan.plan, "--format", "requests", "--json")
    document = json.loads(out)
    assert (code, err, len(document.pop("documents"))) == (0, "", 3)
    assert document == {
        "plan": plan.plan, "state": "planned", "format": "requests", "system": "hubspot", "object": "companies",
        "records": RECORDS,
    }  # fmt: skip
    file = tmp_path / "lines.jsonl"
    _, out, _ = run(plan.plan, "--output", str(file), "--json")
    assert json.loads(out)["file"] == str(file)
    assert len(file.read_text(encoding="utf-8").splitlines()) == RECORDS


def test_what_was_changed_after_it_was_planned_is_not_exported(
    plan: Plan, database: Database, workspace: Workspace, run: Run, tmp_path: Path
) -> None:
    lines = plan.bundle / bundle.OUTSIDE
    right = lines.read_bytes()
    found = export.of(database, workspace, plan.plan)
    lines.write_bytes(right.replace(b"250", b"249"))
    code, out, err = run(plan.plan)
    assert (code, out) == (4, "")
    assert "outside.jsonl is not the file that was planned" in err
    with pytest.raises(BundleChanged):  # it changed between the look at it and its use
        list(found.edits())
    lines.write_bytes(right)
    execute(database, f"UPDATE recon.\"staged_{plan.plan}\" SET after_1 = 'mine' WHERE place = 1")
    file = tmp_path / "kept.jsonl"
    file.write_text("what stood there before", encoding="utf-8")
    code, _, err = run(plan.plan, "--output", str(file))
    assert (code, file.read_text(encoding="utf-8")) == (4, "what stood there before")
    assert "staged rows" in err


def test_private_columns_leave_only_with_somebody_who_may_see_them(
    database: Database, workspace: Workspace, run: Run
) -> None:
    """CRM-11: an export never shows a column that is marked private to whom it is veiled from."""
    (workspace.root / "recon.toml").write_text('[private]\nseen_by = ["ann"]\n', encoding="utf-8")
    target = {"private": ["domain"]}
    made = planned(database, workspace, 3, target=target)
    for user, asks in (("carol", True), ("ann", False)):
        code, out, err = run(made.plan, user=user, asks=asks)
        assert (code, out) == (4, "")
        assert "would show private columns: domain" in err
    code, out, _ = run(made.plan, asks=True)
    assert (code, len(out.splitlines())) == (0, 3)
    names = {"system": "hubspot", "object": "companies", "fields": {"name": "name"}}
    only_names = planned(database, workspace, 3, names, target=target)
    assert run(only_names.plan, user="carol")[0] == 0


def test_a_plan_for_a_table_alone_and_other_systems_get_a_clear_error(
    database: Database, workspace: Workspace, run: Run, tmp_path: Path
) -> None:
    plain = planned(database, workspace, 3, {})

    def refused(*arguments: str) -> tuple[int, str]:
        code, out, err = run(*arguments)
        assert out == ""
        return code, err

    code, err = refused(plain.plan)
    assert (code, "writes to no outside system" in err, "changes.csv" in err) == (2, True, True)
    assert refused("nope")[0] == 2
    assert "no format xml" in refused(plain.plan, "--format", "xml")[1]
    other = planned(database, workspace, 3, {"system": "airtable", "object": "Companies"})
    assert "Use --format jsonl" in refused(other.plan, "--format", "requests")[1]
    assert refused(other.plan, "--output", str(tmp_path))[0] == 2
    lines: list[Mapping[str, Any]] = [json.loads(line) for line in run(other.plan)[1].splitlines()]
    assert lines[1]["properties"] == {"name": "née\u2028 2", "domain": None}
