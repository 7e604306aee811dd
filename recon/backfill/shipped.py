"""Standing sign-offs that ship with recon: reviewed files that let development go on without a reviewer (HCP-13)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from recon.backfill import standing
from recon.backfill.sign_off import UNDOABLE
from recon.backfill.standing import Limits, Standing, environment_of
from recon.backfill.voices import SHIPS
from recon.database import tables
from recon.database.connect import Database, Session
from recon.workspace import Workspace

DEVELOPMENT = "development"  # the only environment that anything ships for


@dataclass(frozen=True)
class Shipped:
    """A standing sign-off that ships with recon: for one reconciliation, one environment and one digest of rules."""

    reconciliation: str
    environment: str
    actions: tuple[str, ...]
    rows: int  # that a plan may change at most
    days: int
    rules: str


def give(database: Database, workspace: Workspace, shipped: Shipped, actor: str) -> Standing | str:
    """Give the standing sign-off that ships with recon, where it is for; else a text says why not.

    It is given anew where the last one expired, never where a person withdrew it. It is recorded, by `SHIPS`, which is
    no person and has signed nothing.

    Args:
        shipped: what the reviewed file says.
        actor: whose run asks for it; the log says so.
    """
    name, policy = shipped.reconciliation, workspace.policy.sign_off
    here = environment_of(workspace, database)
    days = min(shipped.days, policy.standing_days)
    tests = (
        (not here == shipped.environment == DEVELOPMENT, f"it is for {shipped.environment}, and this is {here}"),
        (workspace.spec(name).digest != shipped.rules, f"the rules of {name} are not the ones that it was given for"),
        (not policy.recorded_by_name, "it is recorded by name, and recon.toml says recorded_by_name = false"),
        (days < 1, "recon.toml says standing_days = 0"),
    )
    why = next((said for failed, said in tests if failed), "")
    if why:
        return why
    tables.ensure(database)
    with database.session() as session:
        if not session.value("SELECT has_table_privilege('recon.standing_sign_offs', 'INSERT')"):
            return "this login may give none, which is for recon's review role"
        # Two runs at once give one.
        session.execute("SELECT pg_advisory_xact_lock($1::int, hashtext($2))", tables.LOCK_SPACE, f"standing {name}")
        limits = Limits(sorted(shipped.actions), shipped.rows, days, here)
        document = standing.document_of(session, workspace, name, shipped.rules, SHIPS, limits)
        if was := _written_as(session, document["database"]):
            return f"it is for {DEVELOPMENT}, and this database was written as {was[0]} (plan {was[1]})"
        for item in standing.read(session, name):
            if item.given_by != SHIPS:
                continue
            if item.withdrawn_at is not None:
                return f"{item.withdrawn_by} withdrew {item.id}: {item.withdrawn_reason}"
            ends = min(item.expires, item.given + timedelta(days=policy.standing_days))
            same = all(item.document.get(part) == document[part] for part in ("spec_digest", "database", "outside"))
            if same and datetime.now(UTC) < ends:
                return f"{item.id} is there, and does not cover the plan"
        standing.keep(session, document, actor, given_by=SHIPS, ships_with_recon=True)
    return standing.load(database, name, document["id"])


def _written_as(session: Session, place: Mapping[str, str]) -> tuple[str, str] | None:
    """Another environment than development under which this very database was written, and by which plan.

    Whoever may set RECON_ENVIRONMENT may call any place development; what was written here tells otherwise. A copy
    restored elsewhere is another database, and what is told of the first says nothing of it.
    """
    found = session.rows(
        "SELECT document::jsonb ->> 'environment', plan FROM recon.plans WHERE state = ANY ($1)"
        " AND document::jsonb ->> 'environment' <> $2 AND document::jsonb -> 'database' = $3::jsonb"
        " ORDER BY created_at DESC, plan LIMIT 1",
        [*UNDOABLE, "reverted"], DEVELOPMENT, json.dumps(place),
    )  # fmt: skip
    return found[0] if found else None
