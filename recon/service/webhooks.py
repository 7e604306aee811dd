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

from recon.errors import DatabaseUnreachable, LoadFailed, ReconError
from recon.service import events, origins
from recon.service.events import PENDING, Event
from recon.service.place import Place
from recon.sources.hooks import Hook

LARGEST = 1024 * 1024  # bytes of a body; a job has some thousands
RETRY_SECONDS = 30  # when a sender may try again while there is no database
TOKEN = "RECON_SERVICE_TOKEN"

router = APIRouter()
_log = logging.getLogger("recon.webhooks")


class _Turned(Exception):
    """A request that is not taken: the status, and why."""

    def __init__(self, status: int, what: str, **headers: str) -> None:
        super().__init__(what)
        self.status, self.what, self.headers = status, what, headers

    def answer(self) -> JSONResponse:
        return JSONResponse({"what": self.what}, self.status, self.headers)


@router.post("/webhooks/{origin}")
@router.post("/webhooks/{origin}/{environment}")
async def receive(request: Request, origin: str, environment: str | None = None) -> JSONResponse:
    """Take an event: check its signature, keep it, work it off, say what came of it."""
    place: Place = request.app.state.place
    try:
        hook = _hook(place, origin)
        body = await _body(request)
        _signed(place, hook, request, body)
        payload = _read(request, body)
        event = await asyncio.to_thread(events.store, place.database, place.workspace, hook, body, payload, environment)
    except _Turned as turned:
        _log.warning("a request to /webhooks/%s was refused: %s", origin if origin in place.hooks else "?", turned.what)
        return turned.answer()
    except LoadFailed as error:
        return JSONResponse(error.as_dict(), 400)
    except ReconError as error:
        return unavailable(error)
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
        return JSONResponse({"what": f"Nobody is let in: {TOKEN} is not set."}, 503)
    given = request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        return JSONResponse({"what": "The bearer token is missing or wrong."}, 401, {"WWW-Authenticate": "Bearer"})
    try:
        found = await asyncio.to_thread(origins.status, place.database, place.workspace, place.hooks)
    except ReconError as error:
        return unavailable(error)
    return JSONResponse(json.loads(json.dumps({"webhooks": found}, default=str)))


def unavailable(error: ReconError) -> JSONResponse:
    """The answer where the database cannot be worked with: nothing was taken, so nothing is lost."""
    document = error.as_dict()
    if isinstance(error, DatabaseUnreachable):
        document["next"] = f"Nothing was kept. Send it again in {RETRY_SECONDS} seconds."
    return JSONResponse(document, 503, {"Retry-After": str(RETRY_SECONDS)})


# -- what is taken ---------------------------------------------------------------------------------------


def _hook(place: Place, origin: str) -> Hook:
    if origin not in place.hooks:
        raise _Turned(404, f"Nothing is received from there. Events are received from: {', '.join(place.hooks)}.")
    return place.hooks[origin]


async def _body(request: Request) -> bytes:
    too_large = _Turned(413, f"The body is larger than {LARGEST:,} bytes.", Connection="close")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length[:20]) > LARGEST:
        raise too_large
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST:
            raise too_large
    return bytes(body)


def _signed(place: Place, hook: Hook, request: Request, body: bytes) -> None:
    secret = place.workspace.variables.get(hook.secret)
    if not secret:
        raise _Turned(503, f"No event can be checked: {hook.secret} is not set.")
    if why := hook.refused(dict(request.headers), body, secret, datetime.now(UTC)):
        raise _Turned(401, why)


def _read(request: Request, body: bytes) -> dict[str, Any]:
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise _Turned(415, "Events are application/json.")
    try:
        payload = json.loads(body.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise _Turned(400, "The body is no JSON.") from None
    if not isinstance(payload, dict):
        raise _Turned(400, "The body is no JSON object.")
    return payload


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
