"""What the admin sees of the mirror: its last run, its next one, and what it does now.

- GET /api/admin/reconciliation/status (SYN-08).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from recon.mirror import log
from recon.service import schedules
from recon.service.answers import USUAL
from recon.service.callers import Admin, Guarded
from recon.service.place import Place
from recon.service.stays_api import MIRROR
from recon.service.tokens import Caller

STATS = ("fetched", "created", "updated", "orphaned", "errors")

router = APIRouter(prefix="/api/admin/reconciliation", route_class=Guarded, tags=["admin"], responses=USUAL)


class Stats(BaseModel):
    """Counts of a run, over the organisations that the caller may see."""

    fetched: int
    created: int
    updated: int
    orphaned: int
    errors: int


class LastRun(BaseModel):
    """The last run over all organisations that has ended."""

    id: str
    startedAt: str = Field(description="ISO 8601, UTC.")
    completedAt: str = Field(description="ISO 8601, UTC.")
    duration: int = Field(description="Milliseconds.")
    status: Literal["success", "partial", "failed"]
    stats: Stats


class Status(BaseModel):
    """How the mirror stands."""

    lastRun: LastRun | None = Field(description="null before the first has ended.")
    nextRun: str | None = Field(description="The next time of the schedule, ISO 8601, UTC; null: there is no schedule.")
    currentStatus: Literal["idle", "pending", "running"]
    schedule: str | None = Field(description='Such as "*/30 * * * * (Every 30 minutes)"; null: there is none.')


class StatusAnswer(BaseModel):
    """How the mirror stands."""

    data: Status


@router.get("/status", summary="The mirror's last run, its next one, and what it does now")
def status(who: Admin, request: Request) -> StatusAnswer:
    """Runs over all organisations only: what was asked for one organisation tells nothing of the others."""
    place: Place = request.app.state.place
    workspace = who.workspace(place.workspace)
    last = log.last_whole(place.database, MIRROR)
    entry = schedules.entry_of(workspace, MIRROR)
    tick = schedules.next_of(workspace, MIRROR, "sync", datetime.now(UTC))
    found = Status.model_validate(
        {
            "lastRun": None if last is None else _run(who, last),
            "nextRun": tick and written(tick),
            "currentStatus": log.current(place.database, MIRROR),
            "schedule": entry and schedules.spelled(entry),
        }
    )
    return StatusAnswer(data=found)


def _run(who: Caller, run: dict[str, Any]) -> dict[str, Any]:
    parts = [part for part in run["parts"] or [] if who.sees(part["scope"])]
    return {
        "id": run["id"], "startedAt": written(run["started_at"]), "completedAt": written(run["completed_at"]),
        "duration": run["duration_ms"], "status": run["status"],
        "stats": {name: sum(part[name] for part in parts) for name in STATS},
    }  # fmt: skip


def written(moment: datetime) -> str:
    """A moment in ISO 8601, UTC, to the millisecond.

    >>> written(datetime(2026, 3, 1, 12, 30, tzinfo=UTC))
    '2026-03-01T12:30:00.000Z'
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
