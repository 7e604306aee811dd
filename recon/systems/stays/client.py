"""Reservations from Stays: what changed, what there is, and one reservation by its code, each for one organization.

`GET /external/v1/booking/reservations?from&to&dateType&skip&limit` with HTTP Basic answers a bare list, without saying how
many there are; `…/reservations/{code}` answers one, or 404. docs/stays.md says what of it is assumed.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast
from urllib.parse import quote
from uuid import UUID

from recon.errors import OutsideFailed, UsageError, visible
from recon.outside.client import FIRST_PAUSE_SECONDS, TIMEOUT_SECONDS, Client
from recon.outside.interface import Bad, Identity, Record, Variables
from recon.outside.settings import credential, needed
from recon.systems.stays import values

NAME = "Stays"
PATH = "/external/v1/booking/reservations"
ATTEMPTS = 3  # SYN-02: with pauses between them that double
PER_SECOND = 5.0  # requests; nothing is promised, and beyond it their 429 is obeyed
PAGE_SIZE = 100  # asked for; a server that gives fewer is read on all the same
OVERLAP = 5  # records that each page shares with the one before, so that a list that moves is noticed
STEPS = 10  # back, in a list that loses records while it is paged
EARLIEST, LATEST = date(2000, 1, 1), date(2100, 1, 1)  # what stands for no bound: from and to must be there
A_DAY = timedelta(days=1)  # no clock is further from UTC than this
_CODE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._:-]*")  # what can stand in an address and never means another one

COLUMNS = {
    "organization_id": "uuid",
    "platform": "text",
    "external_id": "text",
    "listing_id": "text",
    "check_in": "timestamptz",
    "check_out": "timestamptz",
    "status": "text",
    "guest": "text",
    "problem": "text",
    "updated_at": "timestamptz",
    "raw": "jsonb",
}


@dataclass(frozen=True)
class Account:
    """Where one organization's reservations are, and what opens them; the address and the credential are one account."""

    organization: str
    base: str
    token: str
    setting: str  # that holds the token


def feed(variables: Variables) -> Stays:
    """The feed `stays`. Does not connect yet.

    Raises:
        UsageError: a setting is missing or makes no sense, or two organizations would be given the same reservations.
    """
    zone = variables.get("RECON_STAYS_TIME_ZONE", "").strip()
    if zone and not values.known_zone(zone):
        raise UsageError(
            f"RECON_STAYS_TIME_ZONE is no time zone: {visible(zone)}.", todo="Write a name such as America/Sao_Paulo."
        )
    return Stays(
        accounts(variables),
        zone=zone,
        per_second=_number(variables, "RECON_STAYS_PER_SECOND", PER_SECOND),
        timeout=_number(variables, "RECON_STAYS_TIMEOUT", TIMEOUT_SECONDS),
        page_size=int(max(1.0, _number(variables, "RECON_STAYS_PAGE_SIZE", PAGE_SIZE))),
    )


def accounts(variables: Variables) -> list[Account]:
    """The account of each organization that the settings name, in their order. Raises UsageError."""
    listed = needed(variables, "RECON_STAYS_ORGANIZATIONS", "the organizations' ids (uuid), divided by commas")
    found: dict[str, Account] = {}
    for written in (part.strip() for part in listed.split(",")):
        if not written:
            continue
        try:
            organization = str(UUID(written))
        except ValueError:
            raise UsageError(
                f"RECON_STAYS_ORGANIZATIONS names {visible(written[:50])}, which is no uuid.",
                todo="Write the organizations' ids, divided by commas.",
            ) from None
        found[organization] = _account(variables, organization)
    if not found:
        raise UsageError("RECON_STAYS_ORGANIZATIONS names no organization.", todo="Write their ids, divided by commas.")
    shared: dict[tuple[str, str], str] = {}
    for account in found.values():
        other = shared.setdefault((account.base.rstrip("/"), account.token), account.organization)
        if other != account.organization:
            raise UsageError(
                f"The organizations {other} and {account.organization} would be given the same reservations.",
                why="An account of Stays belongs to one organization, and both would use the same one.",
                todo=f"Set {_own('RECON_STAYS_TOKEN', account.organization)}, its own token.",
            )
    return list(found.values())


def _account(variables: Variables, organization: str) -> Account:
    own = _own("RECON_STAYS_TOKEN", organization)
    setting = own if variables.get(own, "").strip() else "RECON_STAYS_TOKEN"
    token = credential(variables, setting, "login:password of the API of a Stays account, or the two encoded in base64")
    place = _own("RECON_STAYS_URL", organization)
    base = variables.get(place, "").strip() or needed(
        variables, "RECON_STAYS_URL", "the address of the account, such as https://example.stays.net"
    )
    return Account(organization, base, token, setting)


def _own(name: str, organization: str) -> str:
    """The setting of one organization."""
    return f"{name}_{organization.upper().replace('-', '_')}"


def _number(variables: Variables, name: str, default: float) -> float:
    text = variables.get(name, "").strip()
    try:
        number = float(text) if text else default
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise UsageError(f"{name} is no number above zero.", todo="Correct it, or leave it out.")
    return number


class Stays:
    """The reservations of several organizations, as a feed that a mirror is kept in step with.

    Not for several threads at once.
    """

    def __init__(
        self,
        found: Sequence[Account],
        *,
        zone: str = "",
        per_second: float = PER_SECOND,
        timeout: float = TIMEOUT_SECONDS,
        page_size: int = PAGE_SIZE,
        first_pause: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        self._accounts = {account.organization: account for account in found}
        self._zone, self._page_size = zone, page_size
        self._clients = {account.organization: _client(account, per_second, timeout, first_pause) for account in found}

    @property
    def place(self) -> str:
        return ", ".join(dict.fromkeys(f"{account.base.rstrip('/')}{PATH}" for account in self._accounts.values()))

    @property
    def columns(self) -> Mapping[str, str]:
        return COLUMNS

    @property
    def scopes(self) -> Sequence[str]:
        """The organizations, as uuid in small letters."""
        return list(self._accounts)

    def close(self) -> None:
        """Give back what it holds open."""
        for client in self._clients.values():
            client.close()

    def pages(self, from_day: date | None, to_day: date | None) -> Iterator[Sequence[Record]]:
        """The reservations of all organizations whose check-in is on these days (inclusive, UTC), page by page.

        One that cannot be read is given with its `problem`, on whatever day it is; one without an id is given with NULL in
        its place: it cannot be kept, and is counted by whoever loads.

        Raises:
            OutsideFailed: a page could not be had.
        """
        nameless: Record = dict.fromkeys(COLUMNS)
        for scope in self.scopes:
            for page in self._by_arrival(scope, from_day, to_day):
                yield [nameless if isinstance(one, Bad) else one for one in page]

    def changed(self, scope: str, since: datetime | None) -> Iterator[Sequence[Record | Bad]]:
        """The reservations of an organization that changed since a moment (with zone), or all of them, page by page.

        Raises:
            UsageError: the settings do not name the organization.
            OutsideFailed: a page could not be had, after three tries: what was given so far is not all.
        """
        if since is None:
            yield from self._by_arrival(scope, None, None)
            return
        moment = since.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        query = {"from": moment, "to": LATEST.isoformat(), "dateType": "modified"}
        for page in self._read(scope, query):
            yield self._rows(scope, page)

    def of_days(self, scope: str, from_day: date | None, to_day: date | None) -> Iterator[Sequence[Record | Bad]]:
        """The reservations of an organization whose check-in is on these days (inclusive, UTC), page by page.

        Raises:
            UsageError, OutsideFailed: as `changed`.
        """
        yield from self._by_arrival(scope, from_day, to_day)

    def listed(self, scope: str, from_day: date | None, to_day: date | None) -> Iterator[Sequence[Identity]]:
        """The keys of every reservation that has its check-in on these days (inclusive, UTC), whatever its state.

        One whose check-in cannot be read is given too: it is there.

        Raises:
            UsageError, OutsideFailed: as `changed`.
        """
        for page in self._by_arrival(scope, from_day, to_day, whole=False):
            yield [
                {"platform": one["platform"], "external_id": one["external_id"]}
                for one in page
                if not isinstance(one, Bad)
            ]

    def find(self, scope: str, identity: Identity) -> Record | None:
        """One reservation as it is now, by its `external_id`; None only where Stays says that there is none (404).

        The platform plays no part: a code is one reservation. It stands in the record as Stays says it now.

        Raises:
            UsageError: the settings do not name the organization.
            OutsideFailed: Stays gave no answer to that, or one about something else. That is no absence.
        """
        code = identity["external_id"]
        if not _CODE.fullmatch(code) or len(code) > values.LONGEST_ID:
            raise OutsideFailed(
                f"{NAME} cannot be asked for the reservation {visible(code[:50])!r}.",
                why="No code of theirs is written so.",
                todo="Look at the reservation: whether it is there is not known.",
            )
        client = self._client(scope)
        reply = client.ask("GET", f"{PATH}/{quote(code, safe='')}", expected=(200, 404))
        if reply.status == 404:
            return None
        found = values.row(scope, reply.body, self._zone)
        if isinstance(found, Bad) or code not in (found["external_id"], cast(dict[str, Any], reply.body).get("_id")):
            raise OutsideFailed(
                f"{NAME} answered something else than the reservation {code}.",
                why=f"At {client.base}: {found.why if isinstance(found, Bad) else 'it has another id'}.",
                todo="Whether the reservation is there is not known; nothing is done about it.",
            )
        return found

    # -- pages -----------------------------------------------------------------------------------------------

    def _client(self, scope: str) -> Client:
        client = self._clients.get(scope)
        if client is None:
            raise UsageError(
                f"The settings do not name the organization {visible(scope[:50])}.",
                todo="Add it to RECON_STAYS_ORGANIZATIONS.",
            )
        return client

    def _by_arrival(
        self, scope: str, from_day: date | None, to_day: date | None, *, whole: bool = True
    ) -> Iterator[list[Record | Bad]]:
        """Reservations by their check-in. Stays counts days on the clocks of the listing: a day more on either side is
        asked for, and left out again by the moment."""
        query = {
            "from": (_within(from_day) - A_DAY if from_day else EARLIEST).isoformat(),
            "to": (_within(to_day) + A_DAY if to_day else LATEST).isoformat(),
            "dateType": "arrival",
        }
        for page in self._read(scope, query):
            yield [one for one in self._rows(scope, page, whole=whole) if _on_days(one, from_day, to_day)]

    def _rows(self, scope: str, page: Sequence[object], *, whole: bool = True) -> list[Record | Bad]:
        return [values.row(scope, one, self._zone, whole=whole) for one in page if not values.is_block(one)]

    def _read(self, scope: str, query: Mapping[str, str]) -> Iterator[list[object]]:
        """Every page of a list, each record once.

        The list has no total, and skips count from its beginning: one that goes while it is paged moves the others to a
        page that was read already. So each page begins with records of the page before. If it does not, some went, and it
        is read again from further back. What is new comes last, for the list is in the order of creation.
        """
        client, seen = self._client(scope), set[str]()
        place, back, steps = 0, 0, 0
        while True:
            start = max(0, place - back)
            asked = {**query, "skip": start, "limit": self._page_size}
            page = self._listed(client, client.ask("GET", PATH, query=asked).body)
            names = [_name(one) for one in page]
            if start and (not names or names[0] not in seen):
                steps += 1
                if steps > STEPS:
                    raise OutsideFailed(
                        f"The list of reservations changes faster than {NAME} gives it.",
                        why=f"At {client.base}{PATH}: reservations left it between its pages, more than {STEPS} times.",
                        todo="Try again; nothing is taken for absent because of it.",
                    )
                back *= 2
                continue
            new = {name: one for name, one in zip(names, page, strict=True) if name not in seen}
            seen.update(new)
            if new:
                yield list(new.values())
            end = start + len(page)
            if not new and end <= place and back <= OVERLAP:
                return
            place, back = end, max(1, min(OVERLAP, len(page) - 1))

    def _listed(self, client: Client, body: object) -> list[object]:
        if isinstance(body, list):
            return cast(list[object], body)
        raise OutsideFailed(
            f"{NAME} answered something that is no list of reservations.",
            why=f"At {client.base}{PATH}.",
            todo="Check RECON_STAYS_URL; where it is right, their API has changed.",
        )


def _name(given: object) -> str:
    """What a record of a list is known by while it is paged: its code, and without one all that it says."""
    code = values.identity(cast(dict[str, Any], given)) if isinstance(given, dict) else None
    try:
        return code or f"{{}} {values.json_text(given)}"
    except RecursionError:
        return "{} nested too deeply"


def _within(day: date) -> date:
    """A day that has one before and one after it in all that is asked for; no calendar goes on for ever."""
    return min(max(day, EARLIEST + A_DAY), LATEST - A_DAY)


def _on_days(one: Record | Bad, from_day: date | None, to_day: date | None) -> bool:
    if isinstance(one, Bad) or one["check_in"] is None:
        return True
    day = one["check_in"].date()
    return (from_day is None or day >= from_day) and (to_day is None or day <= to_day)


def _client(account: Account, per_second: float, timeout: float, first_pause: float) -> Client:
    token = account.token
    if ":" in token:
        token = base64.b64encode(token.encode()).decode()
    return Client(
        NAME,
        account.base,
        headers={"Authorization": f"Basic {token}", "Accept": "application/json"},
        secrets=[account.token, token],
        per_second=per_second,
        setting=account.setting,
        timeout=timeout,
        attempts=ATTEMPTS,
        first_pause=first_pause,
    )
