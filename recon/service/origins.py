"""How each origin of events stands: whether they are worked off, what came and when, and why nothing was done."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from recon.backfill.standing import environment_of
from recon.database import tables
from recon.database.connect import Database, Session
from recon.mirror.silence import silence
from recon.service.inbox import STATES, not_taken
from recon.sources.hooks import AnyHook, MirrorHook
from recon.workspace import Workspace

REASONS = 5  # why nothing was done: so many, the latest first


def status(database: Database, workspace: Workspace, known: Mapping[str, AnyHook]) -> list[dict[str, Any]]:
    """One document for each origin; what `recon webhooks --json` and GET /webhooks/status give. Times in UTC."""
    tables.ensure(database)
    now = datetime.now(UTC)
    with database.session(read_only=True) as session:
        return [_of_origin(session, database, workspace, hook, now) for hook in known.values()]


def _of_origin(
    session: Session, database: Database, workspace: Workspace, hook: AnyHook, now: datetime
) -> dict[str, Any]:
    counts = dict(
        session.rows("SELECT state, count(*) FROM recon.webhook_events WHERE origin = $1 GROUP BY 1", hook.origin)
    )
    last = session.value("SELECT max(received_at) FROM recon.webhook_events WHERE origin = $1", hook.origin)
    reasons = session.records(
        "SELECT received_at AS at, kind, state, said FROM recon.webhook_events "
        "WHERE origin = $1 AND state <> 'success' ORDER BY entry DESC LIMIT $2",
        hook.origin, REASONS,
    )  # fmt: skip
    why = not_taken(workspace, database, hook, None)
    scopes = hook.scopes(workspace.variables) if isinstance(hook, MirrorHook) else None
    secret = workspace.variables.get(hook.secret)
    if isinstance(hook, MirrorHook):
        secret = any(hook.secret_of(workspace.variables, scope) for scope in hook.scopes(workspace.variables))
    if scopes == []:
        why = "not enabled: the settings name no organisation"
    elif not secret:
        why = f"not enabled: {hook.secret} is not set, so no event can be told from a forged one"
    return {
        "origin": hook.origin,
        "reconciliation": hook.reconciliation,
        "environment": environment_of(workspace, database),
        "enabled": not why,
        "why": why or None,
        "last_event_at": last,
        "silent_seconds": round((now - last).total_seconds()) if last else None,
        "silence": f"no events received since {last:%Y-%m-%d %H:%M:%S} UTC" if last else "no events received yet",
        "counts": {state: counts.get(state, 0) for state in STATES},
        "reasons": reasons,
        **(
            {"scopes": [_of_scope(session, database, workspace, hook, scope, now) for scope in scopes or ()]}
            if isinstance(hook, MirrorHook)
            else {}
        ),
    }


def _of_scope(
    session: Session, database: Database, workspace: Workspace, hook: MirrorHook, scope: str, now: datetime
) -> dict[str, Any]:
    counts = dict(
        session.rows(
            "SELECT state, count(*) FROM recon.webhook_events WHERE origin = $1 AND scope = $2 GROUP BY 1",
            hook.origin, scope,
        )
    )  # fmt: skip
    return {
        "scope": scope,
        **silence(database, workspace, hook, scope, now).as_dict(),
        "counts": {state: counts.get(state, 0) for state in STATES},
    }
