"""The ground under every endpoint: an id and a log line for each request, limits of bodies, headers of answers."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
import traceback
from collections.abc import MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from recon.errors import of_place
from recon.service import answers

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST = 1024 * 1024  # bytes of a body
BODY_SECONDS = 30.0  # within which a whole body arrives
LONGEST_ADDRESS = 8_192  # bytes of path and query
HEADER_BYTES = 32 * 1024  # of all the headers of a request
_SANE = re.compile(r"[A-Za-z0-9._:-]{1,64}")  # an id of somebody else's that may stand in our log
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
}
_OURS = Path(__file__).parents[1]
_access = logging.getLogger("recon.access")
_log = logging.getLogger("recon.service")

REQUEST: ContextVar[str] = ContextVar("recon_request", default="")  # the id of the request that is being answered


class WithRequest(logging.Filter):
    """Puts the id of the request, where there is one, into `request` of every line of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request = f"[{REQUEST.get()}] " if REQUEST.get() else ""
        return True


class Ground:
    """What every request goes through, webhooks among them."""

    def __init__(self, app: ASGIApp, largest: int = LARGEST, body_seconds: float = BODY_SECONDS) -> None:
        self._app, self._largest, self._body_seconds = app, largest, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no websockets here
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        identity = given if _SANE.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = identity
        request, answer = Request(scope), _Answer(send, identity)
        token, began = REQUEST.set(identity), time.perf_counter()
        try:
            await self._answered(request, receive, answer)
        finally:
            _access.info(_line(request, answer.status, time.perf_counter() - began))
            REQUEST.reset(token)

    async def _answered(self, request: Request, receive: Receive, answer: _Answer) -> None:
        try:
            if turned := self._turned(request):
                await turned(request.scope, receive, answer)
            else:
                await self._app(request.scope, _Body(receive, self._largest, self._body_seconds), answer)
        except ClientDisconnect:
            pass  # nobody is there to answer
        except Exception as error:
            place = of_place(error)
            _log.error("unforeseen %s%s at %s", type(error).__name__, f" ({place})" if place else "", _where(error))
            if answer.status is not None:
                raise  # half an answer is out: the connection has to end
            await answers.unforeseen(request)(request.scope, receive, answer)

    def _turned(self, request: Request) -> JSONResponse | None:
        """An answer to what no endpoint should see; None: go on."""
        path, query = request.scope.get("raw_path") or b"", request.scope.get("query_string", b"")
        length = request.headers.get("content-length", "0")
        if len(path) + len(query) > LONGEST_ADDRESS:
            return answers.refused(request, answers.Turned(414, "The address is too long."))
        # The server stops what comes in pieces; what comes in one piece gets by it.
        if sum(len(name) + len(value) for name, value in request.scope["headers"]) > HEADER_BYTES:
            return answers.refused(request, answers.Turned(431, "The headers are too long.", Connection="close"))
        if _CONTROL.search(unquote_to_bytes(path)) or b"\x00" in unquote_to_bytes(query):
            wrong = "The address holds characters that no name has."
            return answers.refused(request, answers.Turned(400, wrong, why="A NUL or another control character."))
        if not length.isdigit() or int(length[:20]) > self._largest:
            return answers.refused(request, answers.Turned(413, said_of(self._largest), Connection="close"))
        return None


def said_of(largest: int) -> str:
    """That a body is larger than is taken."""
    return f"The body is larger than {largest:,} bytes."


class _Body:
    """The body as it comes in: no more of it than is taken, and not for ever."""

    def __init__(self, receive: Receive, largest: int, seconds: float) -> None:
        self._receive, self._left, self._largest = receive, largest, largest
        self._until, self._whole = time.monotonic() + seconds, False

    async def __call__(self) -> Message:
        if self._whole:  # what comes now is that the other side hangs up
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(self._until - time.monotonic(), 0.001))
        except TimeoutError:
            raise HTTPException(408, headers={"Connection": "close"}) from None
        self._left -= len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._left < 0:
            raise HTTPException(413, said_of(self._largest), {"Connection": "close"})
        return message


class _Answer:
    """An answer on its way out, with the headers that each has."""

    def __init__(self, send: Send, identity: str) -> None:
        self._send, self._identity = send, identity
        self.status: int | None = None

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {name for name, _ in message.get("headers", ())}
            more = {**_HEADERS, b"x-request-id": self._identity.encode()}
            added = [(name, value) for name, value in more.items() if name not in own]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await self._send(message)


def _where(error: BaseException) -> str:
    """Through which lines of ours an error came, and where it began. Its own text may hold values of records."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if _OURS in Path(frame.filename).parents or frame is frames[-1]]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} ({frame.name})" for frame in reversed(ours))


def _line(request: Request, status: int | None, seconds: float) -> str:
    """What is kept of a request: of its address the template only, and of its query the names that we know."""
    route = request.scope.get("route")
    who = getattr(request.state, "caller", None)
    return json.dumps(
        {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request": request.scope["state"]["request_id"],
            "method": request.method if request.method.isalpha() and len(request.method) <= 10 else "?",
            "path": getattr(route, "path", None),
            "status": status,
            "ms": round(seconds * 1000, 1),
            "caller": who.name if who else None,
        },
        ensure_ascii=True,
    )
