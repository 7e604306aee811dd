"""Roles of the shipped systems: what fills schema staging, takes events and keeps a mirror in step, each with its own rights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from recon import workflow
from recon.backfill import replay
from recon.database.connect import Database
from recon.errors import DatabaseFailed
from recon.mirror import follow_ups_done
from recon.service import worker
from recon.stand_ins.locks import Locks
from recon.stand_ins.server import served
from recon.workspace import Workspace
from tests import mirrored
from tests.integration import test_webhooks as webhook
from tests.integration.test_roles import run_script
from tests.support import execute, recon, rows

pytestmark = pytest.mark.one_engine


def login(database: Database, role: str) -> Database:
    """The same database for somebody whose only role this is."""
    execute(database, f"CREATE ROLE {role}_login LOGIN PASSWORD 'secret'", f"GRANT {role} TO {role}_login")
    url = sa.make_url(database.url).set(username=f"{role}_login", password="secret")
    return Database(url.render_as_string(hide_password=False))


@pytest.fixture
def prefix(database: Database) -> Iterator[str]:
    """A prefix of roles; all whose names begin with it are taken away again."""
    found = f"r{os.urandom(4).hex()}"
    yield found
    names = ", ".join(name for (name,) in rows(database, f"SELECT rolname FROM pg_roles WHERE rolname LIKE '{found}%'"))
    execute(database, f"DROP OWNED BY {names} CASCADE", f"DROP ROLE {names}")


def scripted(database: Database, workspace: Workspace, name: str, prefix: str) -> str:
    """Run what the command prints."""
    ended = recon("database", "roles", name, "--prefix", prefix, "--workspace", str(workspace.root), url=database.url)
    assert ended.code == 0, ended.err
    run_script(database, ended.out)
    return ended.out


def test_a_planner_fills_schema_staging_and_rewrites_no_log_of_it(
    database: Database, workspace: Workspace, prefix: str
) -> None:
    """CRM-05, CRM-06: who matches needs no right to create a schema, and has none."""
    workflow.load_sample(database, "crm", workspace)
    for name in ("crm_contacts", "crm_deals"):
        assert f'GRANT SELECT, INSERT ON staging.reconciliation_log TO "{prefix}_plan";' in scripted(
            database, workspace, name, prefix
        )
    planner, reviewer = login(database, f"{prefix}_plan"), login(database, f"{prefix}_review")
    for _ in range(2):
        for name in ("crm_contacts", "crm_deals"):
            run = workflow.match(planner, workspace, workspace.spec(name), "ann")
            assert run.outcomes["same"] > 0
    assert rows(database, "SELECT object, count(*) FROM staging.reconciliation_log GROUP BY 1 ORDER BY 1") == [
        ("contacts", 2), ("deals", 2),
    ]  # fmt: skip
    for who, statement in (
        (planner, "UPDATE staging.reconciliation_log SET total = 0"),
        (planner, "DELETE FROM staging.reconciliation_log"),
        (planner, "DELETE FROM staging.companies_reconciliation"),
        (planner, "CREATE TABLE staging.mine (a int)"),
        (planner, "CREATE SCHEMA mine"),
        (reviewer, "SELECT FROM staging.contacts_reconciliation"),
    ):
        with pytest.raises(DatabaseFailed, match="permission denied"):
            execute(who, statement)


def test_the_service_takes_an_event_and_goes_the_whole_way_by_a_role_of_its_own(
    database: Database, workspace: Workspace, prefix: str
) -> None:
    """HCP-12: it keeps events and their records, plans and applies; it signs nothing, and nobody else keeps events."""
    execute(database, *webhook.TABLES)
    (workspace.root / "reconciliations" / "hcp_jobs.yaml").write_text(webhook.SPEC, encoding="utf-8")
    (workspace.root / "recon.toml").touch()
    home = webhook.settings(workspace)
    scripted(database, home, "hcp_jobs", prefix)
    service, applier = login(database, f"{prefix}_service"), login(database, f"{prefix}_apply")
    reviewer, planner = login(database, f"{prefix}_review"), login(database, f"{prefix}_plan")
    webhook.sign_for_all(reviewer, home)
    with served(webhook.application(home, service)) as address:
        linked = webhook.send(address, webhook.job("job_1"))
        moved = webhook.send(address, webhook.job("job_1", "2026-03-10T11:45:00Z", updated_at="2026-03-03T00:00:00Z"))
        told = webhook.ask(
            address,
            "GET",
            "/webhooks/status",
            None,
            {"Authorization": f"Bearer {webhook.SETTINGS['RECON_SERVICE_TOKEN']}"},
        )
    assert linked.json["said"].startswith("successfully reconciled job job_1 with reservation 10")
    assert moved.json["said"] == "job job_1 updated; reservation 10 holds it"
    assert (told.status, webhook.links(database)) == (200, {10: "job_1", 12: "job_held"})
    assert replay.replay(service).whole
    event = "INSERT INTO recon.webhook_events (origin, event, environment, payload, state) VALUES ('a', 'b', 'c', '{}', 'pending')"
    for who, statement in (
        (planner, event),
        (applier, event),
        (reviewer, "UPDATE recon.webhook_events SET state = 'pending'"),
        (planner, "UPDATE hcp_jobs SET description = 'x'"),
        (applier, "UPDATE hcp_jobs SET description = 'x'"),
        (service, "DELETE FROM recon.webhook_events"),
        (service, "DELETE FROM hcp_jobs"),
        (service, "UPDATE reservations SET guest = 'x'"),
        (service, "INSERT INTO recon.approvals (plan, approver, digest, method) SELECT plan, 'eve', digest, 'recorded'"
                  " FROM recon.plans"),
        (service, "UPDATE recon.standing_sign_offs SET withdrawn_at = NULL"),
    ):  # fmt: skip
        with pytest.raises(DatabaseFailed, match="permission denied"):
            execute(who, statement)


def test_a_mirror_is_kept_in_step_with_its_pins_by_the_service_role(
    database: Database, workspace: Workspace, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SYN-01, SYN-05: by the sign-off of a reviewer, and nobody else writes the log of its runs, jobs or what came."""
    mirrored.prepared(database)
    mirrored.at_once(monkeypatch)
    (workspace.root / "recon.toml").touch()
    scripted(database, workspace, mirrored.NAME, prefix)
    service, applier = login(database, f"{prefix}_service"), login(database, f"{prefix}_apply")
    planner = login(database, f"{prefix}_plan")
    doors = Locks()
    settings = {"RECON_ENVIRONMENT": "development", "RECON_STAYS_ORGANIZATIONS": mirrored.COAST}
    with served(doors.app) as address, mirrored.mirror(
        service, workspace, **settings, RECON_LOCKS_URL=address, RECON_LOCKS_TOKEN=doors.token
    ) as kept:  # fmt: skip
        kept.stays.add(mirrored.COAST, "FN26J", check_in="2026-01-05", check_out="2026-01-08")
        # What ships with recon is for development, and this login gives no sign-off: the plan waits.
        waits = kept.part()
        assert waits.awaits is not None
        assert "this login may give none" in waits.awaits
        replace(kept, database=login(database, f"{prefix}_review")).sign()
        done = kept.sync()
        assert (done.status, done.error, kept.here()) == ("success", None, {"FN26J": "confirmed"})
        carried = follow_ups_done.carry_out(
            service, kept.workspace, kept.workspace.spec(mirrored.NAME), mirrored.NOW + timedelta(hours=12), 10
        )
        assert (carried.done, carried.errors) == (1, ())
        assert rows(database, "SELECT state FROM door_credentials") == [("active",)]
        lines: list[str] = []
        assert worker.work(service, kept.workspace, lambda text, _: lines.append(text), once=True) == 0
        assert "stays_reservations" in lines[0]
    for who, statement in (
        (planner, "UPDATE recon.sync_runs SET status = 'success'"),
        (applier, "UPDATE recon.sync_marks SET changed_until = now()"),
        (applier, "UPDATE recon.follow_ups SET state = 'done'"),
        (planner, "UPDATE bronze.stays_reservations SET status = 'x'"),
        (applier, "UPDATE door_credentials SET state = 'revoked'"),
        (service, "DELETE FROM recon.sync_runs"),
        (service, "DELETE FROM bronze.stays_reservations"),
        (service, "UPDATE reservations SET organization_id = organization_id"),
        (service, "UPDATE properties SET name = 'x'"),
    ):
        with pytest.raises(DatabaseFailed, match="permission denied"):
            execute(who, statement)
