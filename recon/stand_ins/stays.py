"""Stays as far as recon reads it: accounts of organizations, lists of reservations by skip and limit, single ones, events.

A test may add, change, cancel and take away reservations at any time, also while a list is being read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from recon.stand_ins.faults import Faults
from recon.stand_ins.rate import Rate

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

PATH = "/external/v1/booking/reservations"
SECRET = "stays-stand-in-webhooks"  # no secret: it opens nothing but a test
MOST_PER_PAGE = 100
DATE_TYPES = ("arrival", "modified")
_Query = tuple[str, str, str]  # dateType, from, to

Given = dict[str, Any]  # a reservation as the API gives it


class Account:
    """One organization's reservations, in the order of their creation.

    Attributes:
        login, password: what a request must show.
        asked: how often its lists were asked for (`list`), and its single reservations (`one`).
        version: counts the changes.
    """

    def __init__(self, organization: str) -> None:
        self.organization = organization
        self.login, self.password = f"stand-in-{organization[:8]}", f"opens-nothing-{organization[-4:]}"
        self.asked: Counter[str] = Counter()
        self.version = 0
        self._reservations: dict[str, Given] = {}
        self._pages: dict[_Query, tuple[int, list[Given]]] = {}  # what a list holds, and at which version

    @property
    def token(self) -> str:
        """The credential as a setting holds it."""
        return f"{self.login}:{self.password}"

    def put(self, given: Any, code: str | None = None) -> None:
        """Add a reservation, or put it in the place of the one of its id; of one that has none, `code` is its name here."""
        self._reservations[code or given["id"]] = given
        self.version += 1

    def take(self, code: str) -> Given:
        """Take one away, as if it had never been; returns it."""
        self.version += 1
        return self._reservations.pop(code)

    def get(self, code: str) -> Given | None:
        return self._reservations.get(code)

    def __len__(self) -> int:
        return len(self._reservations)

    def codes(self) -> list[str]:
        """The ids of all its reservations, in the order of their creation."""
        return list(self._reservations)

    def listed(self, query: _Query) -> list[Given]:
        """What a list holds; looked for once, until something changes."""
        at, found = self._pages.get(query, (-1, []))
        if at != self.version:
            found = [given for given in self._reservations.values() if _is_within(given, query)]
            self._pages[query] = self.version, found
        return found


class Stays:
    """Stays with these organizations' accounts.

    Args:
        organizations: their ids, uuid as text.
        rate: how many requests it answers in a while; None: any number.
        before_page: called with the organization and the `skip` before a page is made, so that the list can change.
        most: records in a page at most, whatever is asked for.
        clock: what the time of a change is, with zone.

    Attributes:
        accounts: by organization.
        faults: what goes wrong next.
    """

    def __init__(
        self,
        organizations: Iterable[str],
        *,
        rate: Rate | None = None,
        before_page: Callable[[str, int], None] | None = None,
        most: int = MOST_PER_PAGE,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.accounts = {organization: Account(organization) for organization in organizations}
        self.rate, self.before_page, self.most, self.clock = rate, before_page, most, clock
        self.faults = Faults()
        self._numbers, self._lock = count(1), threading.RLock()
        self._by_token = {
            "Basic " + base64.b64encode(account.token.encode()).decode(): account for account in self.accounts.values()
        }

    def settings(self, url: str) -> dict[str, str]:
        """The settings by which recon finds it, where it is served at this address."""
        own = {f"RECON_STAYS_TOKEN_{_upper(name)}": account.token for name, account in self.accounts.items()}
        return {
            "RECON_STAYS_URL": url,
            "RECON_STAYS_ORGANIZATIONS": ",".join(self.accounts),
            "RECON_STAYS_PER_SECOND": "1000",
            "RECON_STAYS_WEBHOOK_SECRET": SECRET,
            **own,
        }

    # -- what a test does to it ------------------------------------------------------------------------------

    def add(
        self,
        organization: str,
        code: str,
        *,
        listing: str | None = "listing-1",
        check_in: str = "2026-01-10",
        check_out: str = "2026-01-14",
        kind: str = "booked",
        partner: str | None = None,
        zone: str = "America/Sao_Paulo",
        guest: str | None = "Ana Souza",
        **others: Any,
    ) -> Given:
        """Add a reservation; returns it as the API gives it.

        Args:
            code: its id, such as FN26J.
            listing: the property's id in Stays.
            check_in, check_out: days, `YYYY-MM-DD`, at 15:00 and 11:00 there; or `YYYY-MM-DDTHH:MM`.
            kind: its `type`: reserved, booked, canceled …
            partner: the platform's name; None: made in Stays itself.
            zone: IANA name of the time zone of the listing.
            others: further fields, or others in the place of these.
        """
        given: Given = {
            "_id": hashlib.sha256(f"{organization} {code}".encode()).hexdigest()[:24],
            "id": code,
            "creationDate": self.clock().date().isoformat(),
            **_clocks("checkIn", check_in, "15:00"),
            **_clocks("checkOut", check_out, "11:00"),
            "timezone": zone,
            "_idlisting": listing,
            "type": kind,
            "guests": 2,
            "guestsDetails": {"adults": 2, "list": [{"name": guest, "primary": True}] if guest else []},
            **({"partner": {"name": partner}} if partner else {}),
            "updatedAt": self._now(),
            **others,
        }
        with self._lock:
            self.accounts[organization].put(given)
        return given

    def change(self, organization: str, code: str, **fields: Any) -> Given:
        """Change fields of a reservation; `check_in`, `check_out`, `kind` and `listing` as in `add`."""
        with self._lock:
            account = self.accounts[organization]
            was = account.get(code)
            if was is None:
                raise KeyError(code)
            given = dict(was)
            for name, key in (("check_in", "checkIn"), ("check_out", "checkOut")):
                if name in fields:
                    given |= _clocks(key, fields.pop(name), given[f"{key}Time"])
            for name, key in (("kind", "type"), ("listing", "_idlisting")):
                if name in fields:
                    given[key] = fields.pop(name)
            given |= {"updatedAt": self._now(), **fields}
            account.put(given)
            return given

    def cancel(self, organization: str, code: str) -> Given:
        """Cancel a reservation; it stays in the lists."""
        return self.change(organization, code, kind="canceled")

    def vanish(self, organization: str, code: str) -> Given:
        """Take a reservation away: no list has it, and it is answered 404. Returns it, to `put` it back."""
        with self._lock:
            return self.accounts[organization].take(code)

    def put(self, organization: str, given: Any, code: str | None = None) -> None:
        """Put a reservation there as it is given, also one that nobody can read, or that has no id: then under `code`."""
        with self._lock:
            self.accounts[organization].put(given, code)

    def event(
        self, code: str, action: str = "reservation.modified", *, event: str | None = None, at: datetime | None = None,
        secret: str = SECRET, **payload: Any,
    ) -> tuple[dict[str, str], bytes]:  # fmt: skip
        """A signed webhook request about a reservation: its headers and its body.

        Args:
            code: the reservation's id.
            action: reservation.created, .modified, .canceled or .deleted.
            event: the event's id; None: a new one.
            at: when it was sent, with zone; default: the present, by the clock of this machine.
            secret: what it is signed with.
            payload: further fields of it.
        """
        number = event or f"evt-{next(self._numbers)}"
        body = {"id": number, "action": action, "_dt": self._now(), "payload": {"id": code, **payload}}
        return signed(json.dumps(body).encode(), at or datetime.now(UTC), secret)

    # -- what it answers -------------------------------------------------------------------------------------

    @property
    def app(self) -> FastAPI:
        """It as an application."""
        from fastapi import FastAPI

        app = FastAPI(openapi_url=None)

        async def listed(request: Request) -> Response:
            return self._guarded(request, self._list)

        async def one(request: Request) -> Response:
            return self._guarded(request, self._one)

        app.add_route(PATH, listed, methods=["GET"])
        app.add_route(f"{PATH}/{{code}}", one, methods=["GET"])
        self.faults.on(app)
        return app

    def _guarded(self, request: Request, answer: Callable[[Request, Account], Response]) -> Response:
        account = self._by_token.get(request.headers.get("authorization", ""))
        if account is None:
            return _said(401, {"message": "Unauthorized"})
        refusal = self.rate.headers_of_refusal() if self.rate else None
        if refusal is not None:
            return _said(429, {"message": "Too many requests"}, refusal)
        with self._lock:
            return answer(request, account)

    def _list(self, request: Request, account: Account) -> Response:
        asked = dict(request.query_params)
        try:
            query = (asked["dateType"], asked["from"], asked["to"])
            skip, limit = int(asked.get("skip", "0")), int(asked.get("limit", "20"))
            for text in query[1:]:
                datetime.fromisoformat(text)
        except (KeyError, ValueError):
            return _said(400, {"message": "A parameter is missing or cannot be read."})
        if query[0] not in DATE_TYPES or (query[0] == "modified") != ("T" in query[1]) or skip < 0 or limit < 1:
            return _said(400, {"message": "A parameter is out of its range."})
        if self.before_page is not None:
            self.before_page(account.organization, skip)
        account.asked["list"] += 1
        return _said(200, account.listed(query)[skip : skip + min(limit, self.most)])

    def _one(self, request: Request, account: Account) -> Response:
        account.asked["one"] += 1
        given = account.get(request.path_params["code"])
        return _said(404, {"message": "Reservation not found"}) if given is None else _said(200, given)

    def _now(self) -> str:
        return self.clock().astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def signed(body: bytes, at: datetime, secret: str = SECRET) -> tuple[dict[str, str], bytes]:
    """A request with this body as Stays would sign it at a time (with zone): its headers and its body."""
    timestamp = str(int(at.timestamp()))
    signature = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {
        "X-Stays-Timestamp": timestamp,
        "X-Stays-Signature": signature,
        "Content-Type": "application/json",
    }, body


def _is_within(given: object, query: _Query) -> bool:
    """Whether a list holds a reservation: by its day of arrival, or by the moment of its last change."""
    kind, first, last = query
    known: Mapping[str, Any] = cast(Given, given) if isinstance(given, dict) else {}
    try:
        if kind == "modified":
            return datetime.fromisoformat(first) <= datetime.fromisoformat(str(known.get("updatedAt")))
        day = known.get("checkInDate")
        return date.fromisoformat(first) <= date.fromisoformat(str(day)[:10]) <= date.fromisoformat(last)
    except ValueError:
        return True  # one that nobody can read is in every list


def _clocks(name: str, written: str, clock: str) -> dict[str, str]:
    day, _, told = written.partition("T")
    return {f"{name}Date": day, f"{name}Time": told or clock}


def _upper(organization: str) -> str:
    return organization.upper().replace("-", "_")


def _said(status: int, document: Any, headers: dict[str, str] | None = None) -> Response:
    from fastapi import Response

    return Response(json.dumps(document), status, headers, media_type="application/json")
