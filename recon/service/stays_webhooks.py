"""The addresses of Stays' events.

- POST /staysnet/webhook/ORGANIZATION: an event about its reservations (RES-11).
- POST /staysnet/webhooks/process/ORGANIZATION: work off what waits (RES-12).
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from recon.mirror import events
from recon.service.answers import USUAL, Turned, problems
from recon.service.callers import Guarded, Operator, Organization, in_scope
from recon.service.place import Place
from recon.service.webhooks import EVENT, receive_of
from recon.sources.hooks import MirrorHook

ORIGIN = "stays"
MOST = 500

router = APIRouter(tags=["webhooks"])
guarded = APIRouter(route_class=Guarded, tags=["webhooks"], responses=USUAL | problems(502))


class Processed(BaseModel):
    """What was done about the events that waited."""

    processed: int = Field(description="Events that were looked at.")
    succeeded: int = Field(description="Of these: the record is here as the source has it.")
    skipped: int = Field(description="Of these: nothing was written, and the event says why.")
    failed: int = Field(description="Of these: it went wrong; parked, or tried again later.")
    pending: int = Field(description="Events of the organisation that wait now.")


class ProcessAnswer(BaseModel):
    """What was done."""

    success: Literal[True] = True
    data: Processed


def _hook(place: Place) -> MirrorHook:
    hook = place.hooks.get(ORIGIN)
    if not isinstance(hook, MirrorHook):
        raise Turned(404, f"Nothing is received from {ORIGIN}.")
    return hook


@router.post("/staysnet/webhook/{organization_id}", summary="Take an event about reservations", **EVENT)
async def receive(
    request: Request, organization_id: Annotated[str, Path(max_length=100, description="The organisation's id.")]
) -> JSONResponse:
    """Take an event about the organisation's reservations: signed, kept first, then worked off."""
    return await receive_of(request, _hook(request.app.state.place), organization_id)


@guarded.post("/staysnet/webhooks/process/{organization_id}", summary="Work off the events that wait")
def process(
    who: Operator,
    request: Request,
    organization_id: Organization,
    limit: Annotated[int, Query(ge=1, le=MOST, description="Events at most.")] = 100,
) -> ProcessAnswer:
    """Work off the organisation's events that wait, also those that would be tried again later only, and look once more
    at those that were skipped because of an import issue."""
    place: Place = request.app.state.place
    hook, scope = _hook(place), in_scope(who, organization_id)
    if scope not in hook.scopes(place.workspace.variables):
        raise Turned(404, "The settings do not name this organisation.", todo="Add it to RECON_STAYS_ORGANIZATIONS.")
    with place.turns.one(scope):
        done = events.work_off(place.database, who.workspace(place.workspace), hook, scope, limit, everything=True)
    return ProcessAnswer(data=Processed(**done.as_dict()))


router.include_router(guarded)
