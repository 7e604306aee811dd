"""Whether the source of a mirror has been silent for too long: no event in the time in which one is expected."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from recon.database import tables
from recon.database.connect import Database
from recon.errors import UsageError
from recon.sources.hooks import MirrorHook
from recon.workspace import Workspace

HOURS = 24.0  # without any event that are an alarm, where the settings say nothing else


@dataclass(frozen=True)
class Silence:
    """Since when nothing came of a scope, and whether that is an alarm.

    Args:
        last_at: when the last event came, in UTC; None: none ever did.
        hours: without any event that are an alarm; None: nobody expects events, for no secret is set.
        alarm: whether it has been longer, since the last event or, without any, since the mirror's first run.
    """

    last_at: datetime | None
    hours: float | None
    alarm: bool

    def as_dict(self) -> dict[str, Any]:
        return {"last_event_at": self.last_at, "alarm_after_hours": self.hours, "alarm": self.alarm}


def silence(
    database: Database, workspace: Workspace, hook: MirrorHook, scope: str, now: datetime | None = None
) -> Silence:
    """Whether a source has been silent for too long (RES-13).

    Args:
        now: the time, with a zone; default: now.

    Raises:
        UsageError: the setting is no number of hours.
    """
    hours = _hours(workspace.variables.get(hook.silence, "").strip(), hook.silence)
    expected = bool(hook.secret_of(workspace.variables, scope))
    tables.ensure(database)
    with database.session(read_only=True) as session:
        last, first = session.rows(_LAST, hook.origin, scope, hook.reconciliation)[0]
    since = last or first
    quiet = since is not None and ((now or datetime.now(UTC)) - since).total_seconds() > hours * 3600
    return Silence(last, hours if expected else None, expected and quiet)


_LAST = """
    SELECT (SELECT max(received_at) FROM recon.webhook_events WHERE origin = $1 AND scope = $2),
        (SELECT min(created_at) FROM recon.sync_runs WHERE reconciliation = $3)
"""


def _hours(text: str, setting: str) -> float:
    try:
        hours = float(text) if text else HOURS
    except ValueError:
        hours = 0.0
    if not 0 < hours < float("inf"):
        raise UsageError(f"{setting} is no number of hours above zero.", todo="Correct it, or leave it out.")
    return hours
