"""Who asks: what endpoints depend on to know the caller, his roles and the organisations that he may see."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Path, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from recon.errors import UsageError
from recon.service import tokens
from recon.service.answers import NotAllowed, Turned
from recon.service.place import Place
from recon.service.tokens import Caller, Role

_log = logging.getLogger("recon.service")
_SCHEME = HTTPBearer(
    scheme_name="bearer", bearerFormat="JWT", auto_error=False,
    description="A signed token: `sub` is who asks, `roles` what for, `organizations` whose records (or \"*\").",
)  # fmt: skip


class Guarded(APIRoute):
    """An address that knows its caller before it reads a body: who is not let in is not listened to."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # pyright: ignore[reportIncompatibleMethodOverride] (FastAPI says Coroutine)
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            await _authenticated(request)
            return await inner(request)

        return handle


async def _authenticated(request: Request) -> Caller:
    found = getattr(request.state, "caller", None)
    if found is None:
        # A signature of a large key takes a while, and the loop has others to serve.
        found = await asyncio.to_thread(_read, request)
        request.state.caller = found
    return found


def _read(request: Request) -> Caller:
    place: Place = request.app.state.place
    try:
        trusted = tokens.trust(place.workspace.variables)
    except UsageError as error:  # a fault of whoever runs the service, and for his eyes
        _log.error("nobody is let in: %s", error)
        raise Turned(503, "Nobody is let in: the key for tokens does not hold.", todo="Ask whoever runs it.") from None
    given = request.headers.getlist("authorization")
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise Turned(
            401, "Nobody is named.", why="The request has no bearer token.",
            todo="Send `Authorization: Bearer TOKEN`.", WWW_Authenticate="Bearer",
        )  # fmt: skip
    return tokens.read(token.strip(), trusted)


def caller(role: Role) -> Any:
    """A dependency: the caller, who must have this role.

    Raises, in a request:
        Turned: 401, no token. TokenRefused: 401. NoKey: 503. NotAllowed: 403, without the role.
    """

    async def known(request: Request, _: Annotated[Any, Depends(_SCHEME)]) -> Caller:
        found = await _authenticated(request)
        if not found.may(role):
            raise NotAllowed(f"This takes the role {role}.", why=f"{found.name} does not have it.")
        return found

    return Depends(known)


def in_scope(who: Caller, organization: UUID | str) -> str:
    """The organisation's id as the database writes it, if the caller may see it. Raises NotAllowed (403)."""
    scope = tokens.spelled(str(organization))
    if not who.sees(scope):
        raise NotAllowed("This is of another organisation.", why=f"The token of {who.name} is not for it.")
    return scope


Organization = Annotated[UUID, Path(description="The organisation's id.")]
Viewer = Annotated[Caller, caller("viewer")]
Operator = Annotated[Caller, caller("operator")]
Reviewer = Annotated[Caller, caller("reviewer")]
Admin = Annotated[Caller, caller("admin")]
