"""The addresses to which outside systems send events, and the one that tells how these stand.

- POST /webhooks/ORIGIN: an event.
- POST /webhooks/ORIGIN/ENVIRONMENT: an event that is meant for this environment.
- POST /webhooks/ORIGIN/SCOPE: an event of a mirror's source, which is about the records of this scope.
- GET /webhooks/status: how each origin stands; wants RECON_SERVICE_TOKEN as a bearer token.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field

from recon.errors import DatabaseUnreachable, ReconError
from recon.service import inbox, origins
from recon.service.answers import NOTHING_KEPT, Turned, problems
from recon.service.inbox import PENDING, Event
from recon.service.place import Place
from recon.service.tokens import spelled
from recon.sources.hooks import AnyHook, MirrorHook

TOKEN = "RECON_SERVICE_TOKEN"
MOST_WAITING = 4  # senders that wait for what comes of their event; the others are answered once it is kept

router = APIRouter(tags=["webhooks"])

Origin = Annotated[str, Path(max_length=100, description="The outside system that sends it, such as housecallpro.")]
Environment = Annotated[
    str,
    Path(
        max_length=100, description="The environment that the event is meant for; elsewhere it is kept and left alone."
    ),
]


_SERVICE = HTTPBearer(
    scheme_name="service token",
    auto_error=False,
    description=f"The text of {TOKEN}, for whoever watches over the service.",
)


class Kept(BaseModel):
    """What came of an event."""

    event: str = Field(description="By what it is known here.")
    state: str = Field(description="pending, success, skipped or failed.")
    said: str | None = Field(description="What was done about it, or why nothing was.")
    received_before: bool = Field(description="Whether the same event came before, and so changed nothing.")


class Origins(BaseModel):
    """How each origin stands."""

    webhooks: list[dict[str, Any]] = Field(
        description="Each with origin, reconciliation, enabled, why not, when the last event came, counts by state, reasons."
    )


EVENT: dict[str, Any] = {
    "responses": {
        200: {"model": Kept, "description": "Worked off, or received before."},
        202: {"model": Kept, "description": "Kept, and still being worked off, or to be tried again."},
        **problems(400, 401, 404, 408, 413, 415, 422, 503),
    },
    "openapi_extra": {
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
    },
}
_log = logging.getLogger("recon.webhooks")


@router.post("/webhooks/{origin}", summary="Take an event", **EVENT)
async def receive(request: Request, origin: Origin) -> JSONResponse:
    """Check its signature, in the manner of its sender, keep it, work it off, say what came of it."""
    return await _received(request, origin, None)


@router.post("/webhooks/{origin}/{environment}", summary="Take an event that is meant for one environment", **EVENT)
async def receive_for(request: Request, origin: Origin, environment: Environment) -> JSONResponse:
    """As without an environment, where this service runs in it; in any other the event is kept and left alone."""
    return await _received(request, origin, environment)


async def _received(request: Request, origin: str, environment: str | None) -> JSONResponse:
    place: Place = request.app.state.place
    hook = place.hooks.get(origin)
    if isinstance(hook, MirrorHook):
        return await receive_of(request, hook, environment)
    try:
        if hook is None:
            known = ", ".join(place.hooks)
            raise Turned(404, f"Nothing is received from there. Events are received from: {known}.")
        body = await request.body()
        signed(hook, request, body, place.workspace.variables.get(hook.secret), hook.secret)
        payload = read(request, body)
        event = await asyncio.to_thread(inbox.store, place.database, place.workspace, hook, body, payload, environment)
    except Turned as turned:
        _log.warning("a request to /webhooks/%s was refused: %s", origin if origin in place.hooks else "?", turned.what)
        raise
    except DatabaseUnreachable as error:
        error.todo = NOTHING_KEPT
        raise
    if event.state == PENDING:
        event = await _worked_off(place, event)
    return JSONResponse(event.as_dict(), 202 if event.state == PENDING else 200)


async def receive_of(request: Request, hook: MirrorHook, scope: str | None) -> JSONResponse:
    """Take an event of a mirror's source: check its signature, keep it, have it worked off, say what came of it."""
    place: Place = request.app.state.place
    settings = place.workspace.variables
    try:
        if scope is None or spelled(scope) not in hook.scopes(settings):
            raise Turned(404, f"No events are received from {hook.origin} for this organisation.")
        scope = spelled(scope)
        body = await request.body()
        signed(hook, request, body, hook.secret_of(settings, scope), hook.secret)
        payload = read(request, body)
        event = await asyncio.get_running_loop().run_in_executor(
            place.lines.keeping, inbox.store, place.database, place.workspace, hook, body, payload, None, scope
        )
    except Turned as turned:
        _log.warning("a request about %s was refused: %s", hook.origin, turned.what)
        raise
    except DatabaseUnreachable as error:
        error.todo = NOTHING_KEPT
        raise
    event = await _settled(place, hook, event)
    return JSONResponse(event.as_dict(), 202 if event.state == PENDING else 200)


async def _settled(place: Place, hook: MirrorHook, event: Event) -> Event:
    """The event after its batch, or as it stands when the sender has waited long enough, or too many wait already."""
    assert event.scope is not None
    batch = place.lines.arrived(hook, event.scope)
    if event.state != PENDING or place.waiting >= MOST_WAITING:
        return event
    place.waiting += 1
    try:
        await asyncio.wait([batch], timeout=place.answer_seconds)
    finally:
        place.waiting -= 1
    return await _as_it_is(place, event)


async def _worked_off(place: Place, event: Event) -> Event:
    """The event after it was worked off, or as it stands when the sender has waited long enough."""
    working = place.work_off()
    await asyncio.wait([working], timeout=place.answer_seconds)
    return await _as_it_is(place, event)


async def _as_it_is(place: Place, event: Event) -> Event:
    try:
        now = await asyncio.to_thread(inbox.by_identity, place.database, event.origin, event.event, event.scope)
    except ReconError:  # the database went away after the event was kept
        return event
    return replace(now, again=event.again)


@router.get(
    "/webhooks/status", summary="How the webhooks stand", responses={200: {"model": Origins}, **problems(401, 503)}
)
async def status(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_SERVICE)]
) -> JSONResponse:
    """Whether each origin is enabled and why not, when the last event came, and why nothing was done about the last ones."""
    place: Place = request.app.state.place
    token = place.workspace.variables.get(TOKEN)
    if not token:
        raise Turned(503, f"Nobody is let in: {TOKEN} is not set.")
    given = request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise Turned(401, "The bearer token is missing or wrong.", WWW_Authenticate="Bearer")
    found = await asyncio.to_thread(origins.status, place.database, place.workspace, place.hooks)
    return JSONResponse(json.loads(json.dumps({"webhooks": found}, default=str)))


# -- what is taken ---------------------------------------------------------------------------------------


def signed(hook: AnyHook, request: Request, body: bytes, secret: str | None, setting: str) -> None:
    """Nothing, if a request is from who knows the secret. Raises Turned."""
    if not secret:
        raise Turned(503, f"No event can be checked: {setting} is not set.")
    if why := hook.refused(dict(request.headers), body, secret, datetime.now(UTC)):
        raise Turned(401, why)


def read(request: Request, body: bytes) -> dict[str, Any]:
    """The document of a request. Raises Turned where it is none."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise Turned(415, "Events are application/json.")
    try:
        payload = json.loads(body.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Turned(400, "The body is no JSON.") from None
    if not isinstance(payload, dict):
        raise Turned(400, "The body is no JSON object.")
    return payload


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
