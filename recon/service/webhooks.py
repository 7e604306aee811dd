"""The addresses to which outside systems send events, and the one that tells how these stand.

- POST /webhooks/ORIGIN: an event.
- POST /webhooks/ORIGIN/ENVIRONMENT: an event that is meant for this environment.
- GET /webhooks/status: how each origin stands; wants RECON_SERVICE_TOKEN as a bearer token.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from recon.errors import DatabaseUnreachable, ReconError
from recon.service import events, origins
from recon.service.answers import RETRY_SECONDS, Turned
from recon.service.events import PENDING, Event
from recon.service.place import Place
from recon.sources.hooks import Hook

NOTHING_KEPT = f"Nothing was kept. Send it again in {RETRY_SECONDS} seconds."
TOKEN = "RECON_SERVICE_TOKEN"

router = APIRouter()
_log = logging.getLogger("recon.webhooks")


@router.post("/webhooks/{origin}")
@router.post("/webhooks/{origin}/{environment}")
async def receive(request: Request, origin: str, environment: str | None = None) -> JSONResponse:
    """Take an event: check its signature, keep it, work it off, say what came of it."""
    place: Place = request.app.state.place
    try:
        hook = _hook(place, origin)
        body = await request.body()
        _signed(place, hook, request, body)
        payload = _read(request, body)
        event = await asyncio.to_thread(events.store, place.database, place.workspace, hook, body, payload, environment)
    except Turned as turned:
        _log.warning("a request to /webhooks/%s was refused: %s", origin if origin in place.hooks else "?", turned.what)
        raise
    except DatabaseUnreachable as error:
        error.todo = NOTHING_KEPT
        raise
    if event.state == PENDING:
        event = await _worked_off(place, event)
    return JSONResponse(event.as_dict(), 202 if event.state == PENDING else 200)


async def _worked_off(place: Place, event: Event) -> Event:
    """The event after it was worked off, or as it stands when the sender has waited long enough."""
    working = place.work_off()
    await asyncio.wait([working], timeout=place.answer_seconds)
    try:
        now = await asyncio.to_thread(events.by_identity, place.database, event.origin, event.event)
    except ReconError:  # the database went away after the event was kept
        return event
    return replace(now, again=event.again)


@router.get("/webhooks/status")
async def status(request: Request) -> JSONResponse:
    """How each origin stands."""
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


def _hook(place: Place, origin: str) -> Hook:
    if origin not in place.hooks:
        raise Turned(404, f"Nothing is received from there. Events are received from: {', '.join(place.hooks)}.")
    return place.hooks[origin]


def _signed(place: Place, hook: Hook, request: Request, body: bytes) -> None:
    secret = place.workspace.variables.get(hook.secret)
    if not secret:
        raise Turned(503, f"No event can be checked: {hook.secret} is not set.")
    if why := hook.refused(dict(request.headers), body, secret, datetime.now(UTC)):
        raise Turned(401, why)


def _read(request: Request, body: bytes) -> dict[str, Any]:
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
