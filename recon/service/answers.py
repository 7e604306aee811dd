"""What is answered when a request is not done: one document for every error, and which status it has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from recon.errors import (
    AlreadyExists,
    DatabaseUnreachable,
    EmbeddedUnavailable,
    LoadFailed,
    NoKey,
    NotFound,
    OutsideFailed,
    ReconError,
    Refused,
    SchemaMismatch,
    SpecError,
    TokenRefused,
    UsageError,
    visible,
)

RETRY_SECONDS = 30  # when one may ask again while there is no database
AGAIN = f"Try again in {RETRY_SECONDS} seconds."
NOTHING_KEPT = f"Nothing was kept. Send it again in {RETRY_SECONDS} seconds."  # of an event
LONGEST_SAID = 2_000  # characters of one part of an error
_log = logging.getLogger("recon.service")


class Wrong(BaseModel):
    """One value of a request that cannot be taken."""

    where: str = Field(description="Which one: query.limit, path.name, body.reason.")
    wrong: str = Field(description="What is wrong with it. The value itself is not repeated.")


class Problem(BaseModel):
    """Why a request was not done."""

    error: str = Field(description="The kind of error, one word.")
    what: str = Field(description="What happened.")
    why: str = Field(description="Why; empty where there is no more to say.")
    next: str = Field(description="What to do next; empty where there is nothing.")
    request: str = Field(description="The id of this request, as in X-Request-Id and in the log.")
    fields: list[Wrong] = Field(default=[], description="What is wrong with the request's values, where that is it.")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These answers, for the `responses` of an endpoint."""
    return {status: {"model": Problem, "description": DESCRIBED[status]} for status in statuses}


DESCRIBED = {
    400: "The request cannot be read or followed.",
    401: "The bearer token is missing or not accepted.",
    403: "The token lacks the role, or is for another organisation.",
    404: "There is nothing of this name that the caller may see.",
    408: "The body did not arrive in time.",
    409: "Refused: what is there does not allow it.",
    413: "The body is too large.",
    414: "The address is too long.",
    415: "The body is no JSON.",
    422: "A value of the request is missing or not as described; `fields` says which.",
    500: "Something unforeseen went wrong; the log has it under the id of the request.",
    502: "An outside system did not do what it was asked.",
    503: "No database, or no key for tokens is set; try again later.",
}
USUAL = problems(400, 401, 403, 404, 408, 409, 413, 414, 422, 503)


_KINDS = {
    400: "BadRequest", 401: "NotSignedIn", 403: "NotAllowed", 404: "NotFound", 405: "WrongMethod", 408: "TooSlow",
    413: "TooLarge", 414: "TooLong", 415: "WrongType", 431: "TooLong", 503: "Unavailable",
}  # fmt: skip


class Turned(ReconError):
    """The request is not taken."""

    because = "The service cannot take it as it was asked."
    next_step = "See /openapi.json."

    def __init__(self, status: int, what: str, *, why: str = "", todo: str = "", **headers: str) -> None:
        super().__init__(what, why=why, todo=todo)
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}

    def as_dict(self) -> dict[str, Any]:
        kind = _KINDS.get(self.status, "NotDone")
        return {"error": kind, "what": self.what, "why": self.why, "next": self.todo}


class NotAllowed(Turned):
    """The caller may not do this."""

    because = "None of the token's roles allows it, or the token is for another organisation."
    next_step = "Ask who runs the service for a token with that role."

    def __init__(self, what: str, *, why: str = "", todo: str = "") -> None:
        super().__init__(403, what, why=why, todo=todo, WWW_Authenticate='Bearer error="insufficient_scope"')


# The first that fits; what fits none is a fault of ours or of the place, and its words are for the log.
_STATUSES: tuple[tuple[type[ReconError], int], ...] = (
    (TokenRefused, 401),
    (NoKey, 503),
    (NotFound, 404),
    (AlreadyExists, 409),
    (SpecError, 409),
    (SchemaMismatch, 409),
    (UsageError, 400),
    (Refused, 409),
    (LoadFailed, 400),
    (OutsideFailed, 502),
    (DatabaseUnreachable, 503),
    (EmbeddedUnavailable, 503),
)
_HEADERS: dict[int, dict[str, str]] = {
    401: {"WWW-Authenticate": 'Bearer error="invalid_token"'},
    503: {"Retry-After": str(RETRY_SECONDS)},
}


def given(error: ReconError) -> dict[str, Any]:
    """An error with what is said of this case only: the list's own advice is for the command line."""
    return error.as_dict() | {"why": error.why, "next": error.todo}


def request_id(request: Request) -> str:
    """The id that the ground gave this request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def refused(request: Request, error: ReconError) -> JSONResponse:
    """The answer to a request that failed for a reason that we know."""
    if isinstance(error, Turned):
        return _answer(request, error.status, error.as_dict(), error.headers)
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    if status == 500:
        _log.error("%s: %s", type(error).__name__, error)
        return unforeseen(request)
    document = given(error)
    if isinstance(error, (DatabaseUnreachable, EmbeddedUnavailable)):  # where it is, is for whoever runs the service
        _log.error("%s: %s", type(error).__name__, error)
        document |= {"why": "", "next": error.todo if error.todo == NOTHING_KEPT else AGAIN}
    return _answer(request, status, document, _HEADERS.get(status, {}))


def unforeseen(request: Request) -> JSONResponse:
    """The answer to what nobody thought of: without details, which may hold values."""
    return _answer(
        request, 500,
        {
            "error": "Unforeseen", "what": "Something unforeseen went wrong.", "why": "It is a fault of the service.",
            "next": "Tell its operator the id of the request; the log has the rest.",
        },
        {},
    )  # fmt: skip


def _answer(request: Request, status: int, document: Mapping[str, Any], headers: Mapping[str, str]) -> JSONResponse:
    said = {name: clean(request, value) if isinstance(value, str) else value for name, value in document.items()}
    return JSONResponse({**said, "request": request_id(request)}, status, dict(headers))


def clean(request: Request, text: str) -> str:
    """A text for people elsewhere: readable, not endless, and without the folders of this machine."""
    place = getattr(request.app.state, "place", None) if "app" in request.scope else None
    folders = [str(place.workspace.root)] if place else []
    for folder in [*folders, str(Path(__file__).parents[1])]:
        text = text.replace(f"{folder}/", "").replace(folder, "the workspace")
    return visible(text[:LONGEST_SAID])


# -- the kinds of errors that FastAPI tells --------------------------------------------------------------


def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    # Without the values: they may be anything, and would be read by others in logs of clients.
    fields = [
        {
            "where": visible(".".join(str(part) for part in item["loc"]))[:LONGEST_SAID],
            "wrong": visible(str(item["msg"]))[:LONGEST_SAID],
        }
        for item in error.errors()
    ]
    first = fields[0] if fields else {"where": "the request", "wrong": "not as described"}
    document = {
        "error": "Invalid", "what": "The request is not as the service describes it.",
        "why": f"{first['where']}: {first['wrong']}.", "next": "See /openapi.json.", "fields": fields,
    }  # fmt: skip
    return _answer(request, 422, document, {})


_TOLD = {
    400: "The request cannot be read.",
    404: "There is nothing at this address.",
    405: "This address is not asked in this way.",
    408: "The body did not arrive in time.",
}


def _http(request: Request, error: HTTPException) -> JSONResponse:
    kind = _KINDS.get(error.status_code, "NotDone")
    what = error.detail if error.status_code == 413 else _TOLD.get(error.status_code, "The request was not done.")
    document = {"error": kind, "what": what, "why": "", "next": "See /openapi.json."}
    return _answer(request, error.status_code, document, error.headers or {})


def attach(app: FastAPI) -> None:
    """Let an application answer every error in this way."""

    async def ours(request: Request, error: Any) -> JSONResponse:
        return refused(request, error)

    async def invalid(request: Request, error: Any) -> JSONResponse:
        return _invalid(request, error)

    async def http(request: Request, error: Any) -> JSONResponse:
        return _http(request, error)

    app.add_exception_handler(ReconError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
