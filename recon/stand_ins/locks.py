"""A lock system, as far as recon asks it: credentials of reservations, made and revoked, each thing done once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from secrets import randbelow
from threading import Lock
from typing import TYPE_CHECKING, Any

from recon.stand_ins.faults import Faults

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

TOKEN = "locks-stand-in"  # no secret: it opens nothing but this


@dataclass
class Credential:
    """What opens a door: the guest has the PIN, and nobody else needs it."""

    id: str
    reservation: str
    active_from: datetime
    pin: str = field(repr=False)
    active: bool = True

    def told(self, *, pin: bool) -> dict[str, Any]:
        told = {"id": self.id, "state": "active" if self.active else "revoked", "from": self.active_from.isoformat()}
        return {**told, "pin": self.pin} if pin else told


@dataclass(frozen=True)
class Call:
    """A request that was answered: what was asked, about which reservation, and by which idempotency key."""

    what: str  # generate or revoke
    reservation: str
    key: str | None
    again: bool  # answered before: nothing was done


@dataclass
class Locks:
    """A lock system with an address of its own, once it is served.

    Args:
        token: what a request must show.
        tells_pin: whether an answer holds the PIN, as some systems do.
    """

    token: str = TOKEN
    tells_pin: bool = False
    credentials: list[Credential] = field(default_factory=list[Credential])
    calls: list[Call] = field(default_factory=list[Call])
    faults: Faults = field(default_factory=Faults)
    answers: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    _lock: Lock = field(default_factory=Lock)

    @property
    def app(self) -> FastAPI:
        """The lock system as an application."""
        from fastapi import FastAPI

        app = FastAPI(openapi_url=None)

        async def generate(request: Request) -> Response:
            return self._answer(request, "generate", await request.body())

        async def revoke(request: Request) -> Response:
            return self._answer(request, "revoke", b"")

        app.add_route("/credentials", generate, methods=["POST"])
        app.add_route("/credentials", revoke, methods=["DELETE"])
        self.faults.on(app)
        return app

    def active(self, reservation: str | None = None) -> dict[str, Credential]:
        """The credentials that open a door, by reservation; of one reservation, or of all."""
        with self._lock:
            return {
                one.reservation: one
                for one in self.credentials
                if one.active and reservation in (None, one.reservation)
            }

    def _answer(self, request: Request, what: str, body: bytes) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return _said(401, {"error": "Unauthorized"})
        key = request.headers.get("idempotency-key")
        asked: Mapping[str, Any] = request.query_params
        if what == "generate":
            try:
                asked = json.loads(body)
                moment = datetime.fromisoformat(asked["from"])
            except (ValueError, TypeError, KeyError):
                return _said(422, {"error": "`from` cannot be read"})
        else:
            moment = None
        reservation = asked.get("reservation")
        if not isinstance(reservation, str) or not reservation or (moment is not None and moment.tzinfo is None):
            return _said(422, {"error": "`reservation` and a `from` with its time zone are needed"})
        with self._lock:  # a request that came late, and one that came again, meet here
            known = self.answers.get(key or "")
            self.calls.append(Call(what, reservation, key, known is not None))
            if known is None:
                known = self._generated(reservation, moment) if moment else self._revoked(reservation)
                if key:
                    self.answers[key] = known
        return _raw(*known)

    def _generated(self, reservation: str, moment: datetime) -> tuple[int, str]:
        """The credential that is active, from this moment on; a new one where there is none."""
        found = next((one for one in self.credentials if one.active and one.reservation == reservation), None)
        status = 200
        if found is None:
            status, pin = 201, f"{randbelow(900_000) + 100_000}"
            found = Credential(f"cred_{len(self.credentials) + 1}", reservation, moment, pin)
            self.credentials.append(found)
        found.active_from = moment
        return status, json.dumps(found.told(pin=self.tells_pin))

    def _revoked(self, reservation: str) -> tuple[int, str]:
        """Every active credential of a reservation, revoked: 200 also where there is none, for 404 may mean anything."""
        found = [one for one in self.credentials if one.active and one.reservation == reservation]
        for one in found:
            one.active = False
        return 200, json.dumps({"revoked": [one.id for one in found]})


def _said(status: int, document: Any) -> Response:
    return _raw(status, json.dumps(document))


def _raw(status: int, text: str) -> Response:
    from fastapi import Response

    return Response(text, status, media_type="application/json")
