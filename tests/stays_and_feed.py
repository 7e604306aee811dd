"""Stays and their feed, as every action of a backfill meets them, and the steps that plans of them take."""

from __future__ import annotations

from typing import Any

from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import revert as reverting
from recon.backfill import sign_off
from recon.backfill import verify as verifying
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.support import execute, rows, simple_spec

STATUS = "s.status = 'cancelled' and t.status <> 'cancelled'"
BACKFILL: dict[str, Any] = {
    "missing": {"insert": {"raw": "s.raw"}},
    "changed": {
        "update": "all",
        "also": [{"when": STATUS, "set": {"cancelled_at": "now()", "why": "'cancelled in the source'"}}],
    },
    "orphan": {
        "when": "t.platform <> 'direct' and t.status <> 'cancelled'",
        "set": {"status": "'cancelled'", "cancelled_at": "now()", "why": "'not found in the source'"},
    },
}
IDENTITY = ["org", "platform", "external_id"]


def stays_spec(**fields: Any) -> Reconciliation:
    usual: dict[str, Any] = {
        "scope": "org",
        "source": {"table": "feed", "key": IDENTITY},
        "target": {"table": "stay", "key": "id"},
        "link": None,
        "cardinality": "one_to_one",
        "passes": [{"name": "identity", "on": IDENTITY}],
        "valid": [{"rule": "s.place is not null", "issue": "no place"}],
        "compare": {
            "seen": "seen",
            "status": "status",
            "total": {"source": "total", "tolerance": 0.05},
            "place": "place",
        },
        "backfill": BACKFILL,
    }
    return simple_spec(**(usual | fields))


def fill(database: Database) -> None:
    """Seven stays and their feed: one the same, one that differs, one cancelled there, two absent there, one direct, one
    invalid; and two that are new."""
    execute(
        database,
        "CREATE TABLE feed (org text, platform text, external_id text, seen timestamptz, status text,"
        " total numeric(10,2), place int, raw jsonb, PRIMARY KEY (org, platform, external_id))",
        "CREATE TABLE stay (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), serial int GENERATED ALWAYS AS IDENTITY,"
        " org text NOT NULL, platform text NOT NULL, external_id text, seen timestamptz, status text,"
        " total numeric(10,2), place int NOT NULL, raw jsonb, cancelled_at timestamptz, why text,"
        " note text NOT NULL DEFAULT 'by default', UNIQUE (org, platform, external_id))",
        "INSERT INTO feed VALUES"
        " ('a', 'air', '1', '2026-01-01 10:00+02', 'confirmed', 10.00, 1, '{\"n\": 1}'),"
        " ('a', 'air', '2', '2026-01-02 10:00+02', 'confirmed', 20.00, 2, '{}'),"
        " ('a', 'air', '3', '2026-01-03', 'cancelled', 30.00, 3, NULL),"
        " ('a', 'air', '7', '2026-01-07', 'confirmed', 70.00, NULL, '{}'),"
        " ('a', 'air', '8', '2026-01-08', 'confirmed', 80.50, 8, '{\"a\": [1, {\"b\": null}]}'),"
        " ('b', 'air', '9', 'infinity', 'pending', NULL, 9, '{}')",
        "INSERT INTO stay (org, platform, external_id, seen, status, total, place) VALUES"
        " ('a', 'air', '1', '2026-01-01 08:00+00', 'confirmed', 10.03, 1),"
        " ('a', 'air', '2', '2026-01-02 08:00+00', 'pending', 20.04, 1),"
        " ('a', 'air', '3', '2026-01-03', 'confirmed', 31, 3),"
        " ('a', 'air', '4', '2026-01-04', 'confirmed', 40, 4),"
        " ('a', 'air', '5', '2026-01-05', 'cancelled', 50, 5),"
        " ('a', 'direct', NULL, '2026-01-06', 'confirmed', 60, 6),"
        " ('a', 'air', '7', '2026-01-07', 'pending', 70, 7)",
    )


def make(database: Database, workspace: Workspace, spec: Reconciliation, **options: Any) -> Plan:
    runs.match(database, spec, "ann")
    made = plans.make(database, workspace, spec, "ann", **options)
    assert made is not None
    return sign_off.approve(database, workspace, made.plan, "bob")


def apply(database: Database, workspace: Workspace, plan: Plan) -> applying.Applied:
    return applying.apply(database, workspace, plan.plan, "ann", execute=True)


def revert(database: Database, workspace: Workspace, plan: Plan) -> reverting.Reverted:
    return reverting.revert(database, workspace, plan.plan, "ann", execute=True)


def problems(database: Database, workspace: Workspace, plan: Plan) -> list[tuple[str, str]]:
    found = verifying.verify(database, workspace, plan.plan)
    assert found.problems == len(found.rows)
    return [(row["key"], row["problem"]) for row in found.rows]


def everything(database: Database, table: str = "stay") -> list[tuple[Any, ...]]:
    return sorted(rows(database, f"SELECT (record.*)::text FROM {table} AS record"))


def now_in(database: Database, columns: str, where: str) -> list[tuple[Any, ...]]:
    return rows(database, f"SELECT {columns} FROM stay WHERE {where} ORDER BY org, external_id")
