"""The endpoints of the mirror of Stays, each for one organisation: reconciled now, what is missing, how it stands, one day.

- POST /reconciliation/reservations/ORGANIZATION: one run, told record by record (RES-07).
- GET /reconciliation/missing/ORGANIZATION: what Stays has and we have not (RES-08).
- GET /reconciliation/health/ORGANIZATION: figures, and what is wrong (RES-09).
- POST /reconciliation/auto-sync/ORGANIZATION: the reservations of one day, put right (RES-10).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from recon.errors import Locked
from recon.mirror import health, missing, scan, sync
from recon.mirror.missing import Missing
from recon.mirror.parts import Part
from recon.mirror.scan import Told
from recon.mirror.silence import silence
from recon.outside.interface import Mirrored
from recon.service import schedules
from recon.service.answers import USUAL, Turned, clean, problems
from recon.service.callers import Guarded, Operator, Organization, Viewer, in_scope
from recon.service.place import Place
from recon.service.tokens import Caller
from recon.service.turns import RETRY_SECONDS
from recon.sources.hooks import MirrorHook
from recon.spec import Reconciliation
from recon.workspace import Workspace

MIRROR, ORIGIN = "stays_reservations", "stays"
MOST = 500  # records in a page that the source is asked for
PATIENCE_SECONDS = 5.0  # to wait for a run that goes on; then the caller is told to come again

router = APIRouter(
    prefix="/reconciliation", route_class=Guarded, tags=["reservations"], responses=USUAL | problems(500, 502)
)

FIRST = Query(alias="checkInFrom", description="Only reservations with check-in from this day on (UTC).")
LAST = Query(alias="checkInTo", description="Only reservations with check-in up to this day (UTC, inclusive).")


class Failure(BaseModel):
    """Something that went wrong in the run, and did not end it."""

    record: str = Field(description="Which record, by its key; empty: it is about no single one.")
    error: str


class Standing(BaseModel):
    """Which run it was, and what became of its plan."""

    run: str = Field(description="The run in the log of the mirror.")
    status: Literal["success", "partial", "failed"] = Field(description="How the run ended.")
    plan: str | None = Field(description="The plan that holds the changes; null: there were none.")
    awaits: str | None = Field(description="Why nothing was written: the plan waits for a reviewer; null: it does not.")


# -- one run, told record by record ----------------------------------------------------------------------


class ScanStats(BaseModel):
    """Counts of the organisation's reservations of these days that come from Stays; `direct` ones have no source."""

    totalScanned: int = Field(description="All of them, whatever their status.")
    validatedOk: int = Field(description="Those that Stays has, and that were cancelled neither there nor here.")
    orphansDetected: int = Field(description="Active here, and not found at Stays, each asked for twice.")
    orphansCancelled: int = Field(description="Of these, those that this call cancelled.")
    errorsFromSource: int = Field(
        description="How often Stays gave no answer (timeout, 401, 429, 5xx, half an answer) or a record that cannot be "
        "read. None of these is taken for an absence."
    )
    alreadyCancelled: int = Field(
        description="Those not at Stays, or cancelled there, that were cancelled here before."
    )


class Concerned(BaseModel):
    """A reservation that is gone or cancelled at Stays."""

    id: str
    external_id: str
    status: str = Field(description="As it was found here, before anything was done.")
    reason: str
    action_taken: str = Field(description="`cancelled`, or `none: …` with the reason why it was left alone.")


class ScanData(Standing):
    """What was found and done."""

    stats: ScanStats
    orphanReservations: list[Concerned] = Field(description="All orphans, whatever the limit.")
    propagated: list[Concerned] = Field(description="Cancelled at Stays and not here.")
    errors: list[Failure] = Field(description="The first hundred.")


class ScanAnswer(BaseModel):
    """What a reconciliation of the organisation's reservations found and did."""

    success: Literal[True] = True
    data: ScanData


@router.post("/reservations/{organization_id}", summary="Reconcile the organisation's reservations with Stays")
def reconcile(
    who: Operator,
    request: Request,
    organization_id: Organization,
    limit: Annotated[int, Query(ge=1, le=MOST, description="Page size of what Stays is asked for; all is read.")] = 100,
    auto_cancel: Annotated[
        bool, Query(alias="autoCancelOrphans", description="Cancel orphans; false: they are only told.")
    ] = False,
    first: Annotated[date | None, FIRST] = None,
    last: Annotated[date | None, LAST] = None,
) -> ScanAnswer:
    """One run of the mirror in this organisation. What is written goes by a plan that a standing sign-off covers; where none
    does, nothing is written, and the answer names the plan. The days bound what is counted and which orphans are looked at;
    what Stays tells as changed is brought here whatever its day. More orphans than the cap are all left alone."""
    if first and last:
        missing.in_order(first, last)
    with _about(request, who, organization_id) as (place, workspace, scope, _), place.turns.one(scope):
        found = scan.reconcile(
            place.database, workspace, MIRROR, scope, page_size=limit, cancels=auto_cancel, first=first, last=last,
            now=datetime.now(UTC), patience=PATIENCE_SECONDS,
        )  # fmt: skip
    stats = ScanStats(
        totalScanned=found.found.scanned,
        validatedOk=found.agree,
        orphansDetected=len(found.orphans),
        orphansCancelled=sum(told.action == scan.DONE for told in found.orphans),
        errorsFromSource=found.part.source_errors,
        alreadyCancelled=found.found.ended,
    )
    data = ScanData(
        **_standing(found.run, found.status, found.part),
        stats=stats,
        orphanReservations=[_concerned(told) for told in found.orphans],
        propagated=[_concerned(told) for told in found.propagated],
        errors=_failures(found.part),
    )
    return ScanAnswer(data=data)


def _concerned(told: Told) -> Concerned:
    record = told.record
    return Concerned(
        id=record.key, external_id=record.identity["external_id"], status=record.status, reason=told.reason,
        action_taken=told.action,
    )  # fmt: skip


# -- what is missing -------------------------------------------------------------------------------------


class MissingReservation(BaseModel):
    """A reservation that Stays has and we have not; the guest is not told."""

    platform: str
    external_id: str
    check_in: datetime | None
    check_out: datetime | None
    status: str | None
    issues: list[str] = Field(description="Why it cannot be taken, such as `missing property mapping`; empty: it can.")


class MissingData(BaseModel):
    """What Stays has now."""

    checkInFrom: date
    checkInTo: date
    fetched: int = Field(description="Reservations that Stays gave for these days.")
    missing: int = Field(description="Of these, those that are not here.")
    reservations: list[MissingReservation] = Field(description="These, by check-in.")
    errors: list[str] = Field(description="Records without an id: nobody can say whether they are here.")


class MissingAnswer(BaseModel):
    """What is missing here."""

    success: Literal[True] = True
    data: MissingData


@router.get("/missing/{organization_id}", summary="Reservations that Stays has and we have not")
def absent(
    who: Viewer,
    request: Request,
    organization_id: Organization,
    first: Annotated[date, FIRST],
    last: Annotated[date, LAST],
) -> MissingAnswer:
    """Asks Stays now, and writes nothing. One whose check-in cannot be read is told whatever the days."""
    with _about(request, who, organization_id) as (place, _, scope, (spec, feed)), place.turns.one(scope):
        days = missing.in_order(first, last)
        found = missing.live(place.database, spec, feed, scope, days)
    data = MissingData(
        checkInFrom=first, checkInTo=last, fetched=found.fetched, missing=len(found.missing),
        reservations=[_missing(item) for item in found.missing], errors=list(found.errors),
    )  # fmt: skip
    return MissingAnswer(data=data)


def _missing(item: Missing) -> MissingReservation:
    return MissingReservation.model_validate({**item.record, "issues": list(item.issues)})


# -- how it stands ---------------------------------------------------------------------------------------


class MetricsData(BaseModel):
    """Figures of the organisation."""

    activeReservations: int = Field(description="Pending, confirmed or checked in, of every platform.")
    orphanReservations: int = Field(description="Active ones from Stays that its last list lacks.")
    checkInsToday: int = Field(description="Not cancelled, with check-in today. The day is that of UTC.")
    pendingImportIssues: int = Field(description="Open import issues.")


class HealthIssue(BaseModel):
    """Something that is not as it should be."""

    code: str = Field(description="Which rule is broken.")
    level: Literal["degraded", "unhealthy"]
    message: str = Field(description="What is the case.")
    why: str = Field(description="What that means.")


class HealthState(BaseModel):
    """The worst of what is wrong, and all of it."""

    status: Literal["healthy", "degraded", "unhealthy"]
    issues: list[HealthIssue]


class HealthData(BaseModel):
    """Figures and state."""

    metrics: MetricsData
    health: HealthState


class HealthAnswer(BaseModel):
    """How the organisation's reservations stand."""

    success: Literal[True] = True
    data: HealthData


@router.get("/health/{organization_id}", summary="How the organisation's reservations stand")
def healthy(who: Viewer, request: Request, organization_id: Organization) -> HealthAnswer:
    """Figures, and what is not as it should be. Stays is not asked. docs/stays_api.md lists the rules."""
    with _about(request, who, organization_id) as (place, workspace, scope, (spec, _)):
        now = datetime.now(UTC)
        found = health.look(
            place.database, spec, scope, now=now, interval=_interval(workspace, now), origin=ORIGIN,
            silent=_silent(place, workspace, scope, now),
        )  # fmt: skip
    metrics = MetricsData(
        activeReservations=found.metrics.active,
        orphanReservations=found.metrics.orphans,
        checkInsToday=found.metrics.today,
        pendingImportIssues=found.metrics.issues,
    )
    issues = [
        HealthIssue(
            code=issue.rule.code, level="unhealthy" if issue.rule.level == "unhealthy" else "degraded",
            message=clean(request, issue.what), why=issue.rule.why,
        )
        for issue in found.issues
    ]  # fmt: skip
    return HealthAnswer(data=HealthData(metrics=metrics, health=HealthState(status=found.status, issues=issues)))


def _interval(workspace: Workspace, now: datetime) -> timedelta | None:
    """Between two ticks of the mirror's schedule; None: it has none."""
    tick = schedules.next_of(workspace, MIRROR, "sync", now)
    after = schedules.next_of(workspace, MIRROR, "sync", tick) if tick else None
    return after - tick if tick and after else None


def _silent(place: Place, workspace: Workspace, scope: str, now: datetime) -> str | None:
    """Why the silence of the webhooks is an alarm; None: it is none."""
    hook = place.hooks.get(ORIGIN)
    found = silence(place.database, workspace, hook, scope, now) if isinstance(hook, MirrorHook) else None
    if found is None or not found.alarm:
        return None
    since = f"since {found.last_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if found.last_at else "at all"
    return f"no webhook event came {since}; one is expected every {found.hours:g} hours"


# -- one day ---------------------------------------------------------------------------------------------


class Skipped(BaseModel):
    """A reservation that cannot be taken."""

    platform: str
    external_id: str
    reasons: list[str] = Field(description="The import issues that are open for it.")


class DayData(Standing):
    """What was done about one day."""

    date: date
    fetched: int = Field(description="Reservations that Stays gave for the day.")
    missing: int = Field(description="Of these, those that were not here.")
    synced: int = Field(description="Of these, those that are here now.")
    skipped: list[Skipped] = Field(description="Of these, those that cannot be taken, and why.")
    errors: list[Failure] = Field(description="The first hundred.")


class DayAnswer(BaseModel):
    """What was done."""

    success: Literal[True] = True
    data: DayData


@router.post("/auto-sync/{organization_id}", summary="Bring in what Stays has for one day")
def auto_sync(
    who: Operator,
    request: Request,
    organization_id: Organization,
    day: Annotated[date | None, Query(alias="date", description="The day of check-in (UTC); default: today.")] = None,
) -> DayAnswer:
    """Fetches the day's reservations, compares them, and writes those that are missing, and what differs in the others.
    Nothing is cancelled for being absent. What is written goes by a plan that a standing sign-off covers."""
    with _about(request, who, organization_id) as (place, workspace, scope, _), place.turns.one(scope):
        now = datetime.now(UTC)
        wanted = day or now.date()
        found = missing.sync_day(place.database, workspace, MIRROR, scope, wanted, now=now, patience=PATIENCE_SECONDS)
    skipped = [
        Skipped(platform=item.record["platform"], external_id=item.record["external_id"], reasons=list(item.issues))
        for item in found.after
        if item.issues
    ]
    data = DayData(
        **_standing(found.run, found.status, found.part),
        date=wanted, fetched=found.part.fetched, missing=len(found.before),
        synced=len(found.before) - len(found.after), skipped=skipped, errors=_failures(found.part),
    )  # fmt: skip
    return DayAnswer(data=data)


# -- what they share -------------------------------------------------------------------------------------


@contextmanager
def _about(
    request: Request, who: Caller, organization: UUID
) -> Generator[tuple[Place, Workspace, str, tuple[Reconciliation, Mirrored]]]:
    """Where to work, as whom, on which organisation, with which source.

    Raises, in a request:
        NotAllowed: 403, of another organisation. Turned: 404, unknown; 409, another run goes on.
    """
    place: Place = request.app.state.place
    scope = in_scope(who, organization)
    workspace = who.workspace(place.workspace)
    spec = sync.mirror_of(workspace, MIRROR)
    feed = sync.open_mirror(spec, workspace)
    try:
        if scope not in feed.scopes:
            raise Turned(
                404, "There is no such organisation.", why="The settings do not name it.",
                todo="Add it to RECON_STAYS_ORGANIZATIONS.",
            )  # fmt: skip
        yield place, workspace, scope, (spec, feed)
    except Locked as error:
        raise Turned(409, error.what, why=error.why, todo="Try again.", Retry_After=str(RETRY_SECONDS)) from error
    finally:
        feed.close()


def _standing(run: str, status: str, part: Part) -> dict[str, Any]:
    return {"run": run, "status": status, "plan": part.plan, "awaits": part.awaits}


def _failures(part: Part) -> list[Failure]:
    return [Failure(record=item["record"], error=item["error"]) for item in part.errors]
