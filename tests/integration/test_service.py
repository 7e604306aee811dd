"""The service's endpoints as callers see them: runs, decisions, breaks and plans, page by page, each to whom it is meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from recon.database.connect import Database
from recon.workspace import Workspace
from tests import two_houses
from tests.copies import Copies
from tests.service import Client, application, asked
from tests.signing import Keys, needs_ssh_keygen
from tests.support import execute, rows
from tests.two_houses import NORTH, SOUTH, Houses

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code


@pytest.fixture
def houses(copies: Copies, database: Database, workspace: Workspace) -> Houses:
    return two_houses.again(copies, database, workspace)


@pytest.fixture
def client(database: Database, workspace: Workspace, houses: Houses) -> Iterator[Client]:
    with asked(application(workspace, database)) as found:
        yield found


def every(client: Client, path: str, of: str, **parameters: Any) -> list[dict[str, Any]]:
    """All rows of a list, asked for page by page."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = client.get(path, **parameters, **cursor)
        assert answer.status == 200, answer
        found += answer.json[of]
        assert len(found) <= 20, "the pages have no end"
        if answer.json["next"] is None:
            return found
        cursor = {"cursor": answer.json["next"]}


def test_lists_come_page_by_page_and_each_row_once(client: Client, database: Database, houses: Houses) -> None:
    """Whatever the size of a page, all pages together are the list, in its order."""
    known = client.get("/reconciliations").json["reconciliations"]
    assert {"stays", "open_stays", "rent_payments"} <= {item["name"] for item in known}
    assert {item["name"]: item["scope"] for item in known}["stays"] == "org"
    lists = {
        "runs": [houses.south_run, houses.north_run, houses.whole_run],
        "decisions": ["1", "2", "3", "4", "5", "6", "11", "12", "13", f'["{NORTH}", 6]', f'["{SOUTH}", 4]'],
        "breaks": None,
        "plans": [houses.south_plan, houses.north_plan, houses.old_plan],
    }
    for name, expected in lists.items():
        more = {"run": houses.whole_run} if name == "decisions" else {}
        path = f"/reconciliations/stays/{name}"
        whole = every(client, path, name, limit=500, **more)
        for limit in (1, 2, 3):
            assert every(client, path, name, limit=limit, **more) == whole, (name, limit)
        if expected is not None:
            ids = [
                row.get("run" if name == "runs" else "plan") or row.get("target_key") or row.get("source_key")
                for row in whole
            ]
            assert ids == expected
    broken = every(client, "/reconciliations/stays/breaks", "breaks", limit=2)
    assert len(broken) == len({(row["side"], row["key"]) for row in broken}) == 3
    assert broken == sorted(broken, key=lambda row: (row["opened_at"], row["side"]))
    only = every(client, "/reconciliations/stays/breaks", "breaks", outcome="missing", side="source")
    assert sorted(row["key"] for row in only) == [f'["{NORTH}", "6"]', f'["{SOUTH}", "4"]']
    changed = every(
        client,
        "/reconciliations/stays/decisions",
        "decisions",
        outcome=["changed", "missing"],
        run=houses.whole_run,
        limit=2,
    )
    assert [row["outcome"] for row in changed] == ["changed"] * 3 + ["missing"] * 2
    assert changed[0]["differences"] == "amount 99 → 1, guest ••• → •••"
    # What begins meanwhile shifts nothing: the pages of a list of decisions are of one run.
    first = client.get("/reconciliations/stays/decisions", limit=2).json
    two_houses.runs.match(database, Workspace.spec(_place(client).workspace, "stays"), "ann")
    second = client.get("/reconciliations/stays/decisions", limit=2, cursor=first["next"]).json
    assert first["run"] == second["run"] == houses.south_run


def _place(client: Client) -> Any:
    return client.http.app.state.place


def test_private_columns_are_veiled_whoever_asks(database: Database, workspace: Workspace, houses: Houses) -> None:
    """Also to a person who would see them on his own screen, and also where the service's own settings show them."""
    (workspace.root / "recon.toml").write_text('[private]\nseen_by = ["bob"]\n', encoding="utf-8")
    with asked(application(workspace, database, RECON_SHOW_PRIVATE="1", RECON_USER="bob")) as client:
        answers = [
            client.get(path, **more)
            for path, more in (
                ("/reconciliations/stays/decisions", {"run": houses.whole_run}),
                ("/reconciliations/stays/breaks", {}),
                (f"/plans/{houses.north_plan}", {}),
            )
        ]
    assert {answer.status for answer in answers} == {200}
    assert "Ida" not in "".join(answer.text for answer in answers)
    assert answers[0].json["decisions"][0]["shown"] == {"amount": 99, "guest": "•••"}


def test_a_caller_of_one_organisation_sees_what_is_of_it_alone(client: Client, houses: Houses) -> None:
    """RES-15: decisions, breaks and plans of other organisations are as if they were not there."""
    north = client.as_("nora", ["reviewer"], [NORTH.upper()])
    path = "/reconciliations/stays"
    assert [row["run"] for row in every(north, f"{path}/runs", "runs", limit=1)] == [houses.north_run]
    whole = every(north, f"{path}/decisions", "decisions", run=houses.whole_run, limit=2)
    assert [row["target_key"] or row["source_key"] for row in whole] == [*"123456", f'["{NORTH}", 6]']
    latest = north.get(f"{path}/decisions").json
    assert latest["run"] == houses.north_run
    assert len(latest["decisions"]) == 7
    assert north.get(f"{path}/decisions", run=houses.south_run).status == 404
    seen = every(north, f"{path}/breaks", "breaks", limit=1)
    assert {row["key"] for row in seen} == {"6", f'["{NORTH}", "6"]'}
    assert [row["plan"] for row in every(north, f"{path}/plans", "plans")] == [houses.north_plan]
    assert north.get(f"/plans/{houses.north_plan}").status == 200
    nowhere = north.get("/plans/stays_20260101_000000_0000")
    for plan in (houses.south_plan, houses.old_plan):
        for answer in (
            north.get(f"/plans/{plan}"),
            north.post(f"/plans/{plan}/approve"),
            north.post(f"/plans/{plan}/reject", {"reason": "not mine"}),
        ):
            assert answer.status == 404
            assert answer.json["what"] == f"There is no plan {plan}."
            assert {answer.json[name] for name in ("why", "next")} == {nowhere.json[name] for name in ("why", "next")}
    nobody = client.as_("nils", ["viewer"], [])
    assert [nobody.get(f"{path}/{name}").json[name] for name in ("runs", "breaks", "plans")] == [[], [], []]
    # Where no column says whose a record is, whoever may look sees all of it.
    assert len(every(nobody, "/reconciliations/open_stays/decisions", "decisions")) == 11


def test_a_reviewer_says_yes_or_no_and_the_author_cannot(client: Client, database: Database, houses: Houses) -> None:
    """Under the name of the token, by the same rules as at the command line; nobody's tables are written."""
    before = rows(database, "SELECT * FROM stay ORDER BY id")
    plan = f"/plans/{houses.north_plan}"
    ann, nora = client.as_("ann", ["reviewer"]), client.as_("nora", ["reviewer"], [NORTH])
    told = nora.get(plan).json
    assert (told["state"], told["rows"], told["actions"], told["scope"]) == ("planned", 2, {"update": 2}, NORTH)
    assert (told["problems"], told["approvals"]["needed"]) == ([], 1)
    assert told["scripts"]["execute.sql"]
    own = ann.post(f"{plan}/approve")
    assert (own.status, "cannot approve" in own.json["what"]) == (409, True)
    assert client.as_("vic", ["viewer"]).post(f"{plan}/approve").status == 403
    assert client.as_("otto", ["operator"]).post(f"{plan}/reject", {"reason": "no"}).status == 403
    assert nora.post(f"{plan}/approve", {"digest": "0" * 64}).status == 409
    approved = nora.post(f"{plan}/approve", {"digest": told["digest"]})
    assert (approved.status, approved.json["state"]) == (200, "approved")
    assert rows(database, "SELECT approver, method FROM recon.approvals") == [("nora", "recorded")]
    again = nora.post(f"{plan}/approve")
    assert (again.status, again.json["error"]) == (409, "IllegalMove")
    south = f"/plans/{houses.south_plan}/reject"
    assert client.post(south, {"reason": " "}).status == 400
    rejected = client.as_("bob", ["reviewer"]).post(south, {"reason": "the amounts are wrong"})
    assert (rejected.status, rejected.json["state"]) == (200, "rejected")
    moves = rows(
        database,
        "SELECT actor, to_state FROM recon.audit_log WHERE event = 'move' AND to_state IN ('approved', 'rejected')",
    )
    assert sorted(moves) == [("bob", "rejected"), ("nora", "approved")]
    assert rows(database, "SELECT * FROM stay ORDER BY id") == before


@needs_ssh_keygen
def test_an_approval_can_carry_a_signature(
    client: Client, database: Database, houses: Houses, workspace: Workspace
) -> None:
    """Signed elsewhere over the manifest that the service shows; another's key does not hold."""
    import subprocess

    keys = Keys(workspace.root.parent / "keys", workspace)
    for name in ("nora", "eve"):
        keys.make(name)
    keys.allow("nora")
    plan, nora = f"/plans/{houses.north_plan}", client.as_("nora", ["reviewer"], [NORTH])
    manifest = nora.get(plan).json["manifest"]
    signed: dict[str, str] = {}
    for name in ("nora", "eve"):
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "recon-sign-off", "-f", str(keys.folder / name)]
        signed[name] = subprocess.run(
            command, input=manifest.encode(), capture_output=True, check=True, timeout=60
        ).stdout.decode()
    for wrong in (signed["eve"], "no signature", "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----"):
        answer = nora.post(f"{plan}/approve", {"signature": wrong})
        assert 400 <= answer.status < 500, answer
        assert str(workspace.root) not in answer.text
        assert "/tmp" not in answer.text
    assert nora.post(f"{plan}/approve", {"signature": signed["nora"]}).json["state"] == "approved"
    assert rows(database, "SELECT approver, method FROM recon.approvals") == [("nora", "signed")]


def test_what_is_gone_or_broken_is_told_and_is_no_fault_of_the_service(
    client: Client, database: Database, houses: Houses, workspace: Workspace
) -> None:
    """A table that is missing, a spec that cannot be read, a run whose decisions were dropped."""
    (workspace.root / "reconciliations" / "odd.yaml").write_text("name: odd\n", encoding="utf-8")
    known = {item["name"]: item["problem"] for item in client.get("/reconciliations").json["reconciliations"]}
    assert (known["odd"], known["stays"]) == ("The spec cannot be used as it is written.", None)
    odd = client.get("/reconciliations/odd/runs")
    assert (odd.status, odd.json["error"]) == (409, "SpecError")
    assert str(workspace.root) not in odd.text
    nothing = client.get("/reconciliations/nothing/runs")
    assert (nothing.status, nothing.json["error"]) == (404, "NotFound")
    execute(
        database,
        f"DROP TABLE recon.decisions_{houses.south_run}",
        f"UPDATE recon.runs SET kept = false WHERE run = '{houses.south_run}'",
    )
    assert client.get("/reconciliations/stays/decisions", run=houses.south_run).status == 404
    execute(database, "ALTER TABLE booking RENAME TO bookings")
    gone = client.get("/reconciliations/stays/decisions", run=houses.north_run)
    assert (gone.status, gone.json["error"]) == (409, "SchemaMismatch")
    assert client.get(f"/plans/{houses.north_plan}").status == 200
    assert client.get("/readyz").json == {"state": "ready", "schema_version": 6}
    execute(database, "UPDATE recon.meta SET schema_version = 5")
    old = client.get("/readyz")
    assert (old.status, old.headers["retry-after"]) == (503, "5")
    assert client.get("/healthz").json == {"state": "alive"}
