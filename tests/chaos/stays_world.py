"""A simulated day at Stays: reservations of several organizations, what guests and people do, and what goes wrong meanwhile.

Nothing of the real clock: `now` is the world's. What the source holds is kept here a second time, in plain values, so that
whoever judges a mirror need not ask the stand-in, let alone recon. Every choice comes from one seed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID
from zoneinfo import ZoneInfo

from recon.stand_ins.stays import PATH, Stays
from tests.chaos.stays_oracle import Booking, Deed, Key, Weather

BEGIN = datetime(2031, 3, 10, tzinfo=UTC)  # far from now, so that what mixes the two clocks up is seen
TICK = timedelta(minutes=30)
ACTED = timedelta(minutes=20)  # before a tick people and guests did what they did since the one before
ZONES = ("America/Sao_Paulo", "Europe/Lisbon", "Asia/Tokyo", "UTC")
PARTNERS = {None: "staysnet", "API booking.com": "booking", "API airbnb": "airbnb"}
KINDS = {
    "reserved": "pending", "booked": "confirmed", "contract": "confirmed", "checked-in": "checked_in",
    "checked-out": "checked_out", "canceled": "cancelled",
}  # fmt: skip
LISTINGS = 20  # of an organization, of which the last ones are known to nobody here until somebody fills them in
UNMAPPED = 2
SURELY = 2  # the tick at which more goes than anybody should believe
NAMES = ("Ana Souza", "Bo Lind", "Chidi Okoro", "Dee O'Hara", "Eva Æbelø", "فاطمة")


class World:
    """The source, its weather, and the people.

    Args:
        seed: of every choice.
        organizations: how many.
        reservations: in all; the first organization has most of them.
        begin: when the day begins, with a zone.
    """

    def __init__(self, seed: int, organizations: int, reservations: int, begin: datetime = BEGIN) -> None:
        self.random = random.Random(seed)
        self.begin = self.now = begin
        self.did: Counter[str] = Counter()  # what was done and what went wrong, for the record
        self.organizations = [str(UUID(int=0xA0 + number)) for number in range(organizations)]
        self.stays = Stays(self.organizations, most=60, clock=lambda: self.now)
        self.bookings: dict[str, dict[str, Booking]] = {name: {} for name in self.organizations}
        self.gone: dict[str, dict[str, tuple[Booking, dict[str, Any]]]] = {name: {} for name in self.organizations}
        self.mapped: dict[str, dict[str, int]] = {}
        for number, name in enumerate(self.organizations):
            known = range(1, LISTINGS + 1 - UNMAPPED)
            self.mapped[name] = {f"listing-{n}": (number + 1) * 1000 + n for n in known}
        self.weather: dict[str, Weather] = {}
        self.late: dict[str, set[str]] = {}  # what went only after the list of this tick had told it
        self.touched: dict[str, set[str]] = {name: set() for name in self.organizations}  # since the last tick
        self._unread: dict[str, str] = {}
        self._numbers = 0
        self._outages: dict[str, tuple[str, int]] = {}  # how, and for how many ticks more
        self._absent_for: dict[str, int] = {}  # those that were taken away by mistake, and come back
        shares = [2 ** -(number + 1) for number in range(organizations)]
        for name, share in zip(self.organizations, shares, strict=True):
            for _ in range(round(reservations * share / sum(shares))):
                self.book(name)
        for name in self.organizations:
            self._odd(name)
        self.sky = Sky(self)

    # -- the source ----------------------------------------------------------------------------------------

    def book(self, organization: str, **given: Any) -> Booking:
        """A new reservation."""
        self._numbers += 1
        chosen = self.random
        start = self._near(self.now + timedelta(hours=chosen.randint(-120, 24 * 20)))
        usual = {
            "code": f"R{self._numbers:05d}",
            "listing": f"listing-{chosen.randint(1, LISTINGS if chosen.random() < 0.2 else LISTINGS - UNMAPPED)}",
            "partner": chosen.choice(list(PARTNERS)),
            "kind": chosen.choice(["booked"] * 8 + ["reserved", "contract", "canceled"]),
            "guest": chosen.choice(NAMES) if chosen.random() < 0.9 else None,
            "check_in": start,
            "check_out": self._near(start + timedelta(hours=chosen.randint(14, 200))),
            "zone": chosen.choice(ZONES),
        }
        return self._put(organization, {**usual, **given})

    def _near(self, at: datetime) -> datetime:
        return at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0)

    def _put(self, organization: str, fields: dict[str, Any]) -> Booking:
        zone = ZoneInfo(fields["zone"])
        clocks = {name: fields[name].astimezone(zone) for name in ("check_in", "check_out")}
        # An hour that clocks show twice or skip is told elsewhere; here a time is what it says.
        self.stays.add(
            organization, fields["code"], listing=fields["listing"], kind=fields["kind"], partner=fields["partner"],
            zone=fields["zone"], guest=fields["guest"],
            **{name: f"{at:%Y-%m-%dT%H:%M}" for name, at in clocks.items()},
        )  # fmt: skip
        made = Booking(
            fields["code"], PARTNERS[fields["partner"]], fields["listing"],
            fields["check_in"], fields["check_out"], KINDS[fields["kind"]], fields["guest"], self.now,
        )  # fmt: skip
        self.bookings[organization][made.code] = made
        self.touched[organization].add(made.code)
        return made

    def change(self, organization: str, code: str, **fields: Any) -> None:
        """Change a reservation at its source: check_in, check_out, kind, listing, guest."""
        was = self.bookings[organization][code]
        told: dict[str, Any] = {}
        own: dict[str, Any] = {}
        given = self.stays.accounts[organization].get(code)
        assert given is not None
        for name, value in fields.items():
            if name in ("check_in", "check_out"):
                own[name], told[name] = value, f"{value.astimezone(ZoneInfo(given['timezone'])):%Y-%m-%dT%H:%M}"
            elif name == "kind":
                own["status"] = KINDS[value]
                told[name] = value
            elif name == "guest":
                own[name] = value
                told["guestsDetails"] = {"list": [{"name": value, "primary": True}] if value else []}
            else:
                own[name] = told[name] = value
        self.stays.change(organization, code, **told)
        self.bookings[organization][code] = replace(was, changed=self.now, **own)
        self.touched[organization].add(code)

    def vanish(self, organization: str, code: str) -> None:
        self.touched[organization].add(code)
        self.gone[organization][code] = self.bookings[organization].pop(code), self.stays.vanish(organization, code)

    def come_back(self, organization: str, code: str) -> None:
        booking, given = self.gone[organization].pop(code)
        self.stays.put(organization, given)
        self.stays.change(organization, code)
        self.bookings[organization][code] = replace(booking, changed=self.now)
        self.touched[organization].add(code)

    def spoil(self, organization: str, code: str, how: str) -> None:
        """Make a reservation one that cannot be taken over: unreadable, unknown, or backwards."""
        was = self.bookings[organization][code]
        if how == "backwards" and was.check_in:
            self.change(organization, code, check_out=was.check_in - timedelta(hours=2))
        elif how == "unknown":
            self.stays.change(organization, code, kind="lost and found")
            self.bookings[organization][code] = replace(was, status=None, readable=False, changed=self.now)
        else:
            self.stays.change(organization, code, checkInDate="soon")
            self.bookings[organization][code] = replace(was, check_in=None, readable=False, changed=self.now)

    def mend(self, organization: str, code: str) -> None:
        """Make it readable again."""
        start = self._near(self.now + timedelta(hours=self.random.randint(-10, 200)))
        self.change(
            organization, code, check_in=start, check_out=self._near(start + timedelta(hours=40)), kind="booked"
        )
        self.bookings[organization][code] = replace(self.bookings[organization][code], readable=True)

    def _odd(self, organization: str) -> None:
        """What is odd from the beginning: no id, an unknown platform, days that are closed in the calendar."""
        nameless = self.book(organization)
        given = self.stays.vanish(organization, nameless.code)
        del self.bookings[organization][nameless.code]
        self.stays.put(organization, {**given, "id": f" {nameless.code}"})
        elsewhere = self.book(organization)
        given = self.stays.vanish(organization, elsewhere.code)
        self.stays.put(organization, {**given, "partner": {"name": "Expedia"}})
        self.bookings[organization][elsewhere.code] = replace(elsewhere, platform="expedia", readable=False)
        closed = self.book(organization)
        given = self.stays.vanish(organization, closed.code)
        del self.bookings[organization][closed.code]
        self.stays.put(organization, {**given, "type": "blocked"})

    # -- what happens between two ticks ----------------------------------------------------------------------

    def guests(self, tick: int) -> None:
        """What guests do, and Stays itself, before a tick."""
        self.now = self.begin + tick * TICK - ACTED
        for name in self.organizations:
            self.touched[name].clear()
            self._return(name, tick)
            for _ in range(self.random.randint(2, max(6, len(self.bookings[name]) // 40))):
                self._guest(name)
        for code in self._live(self.organizations[0])[:2]:  # so that there is always something to be suspected
            self.vanish(self.organizations[0], code)
        for name in self.organizations[1:]:  # one that cannot be read any more, and then goes, is gone as well
            if tick == SURELY - 1:
                self._unread[name] = self._live(name)[0]
                self.spoil(name, self._unread[name], "unreadable")
            elif tick == SURELY and self._unread[name] in self.bookings[name]:
                self.vanish(name, self._unread[name])
        if tick == SURELY or self.random.random() < 0.2:
            self._take_many(self.organizations[0] if tick == SURELY else self.random.choice(self.organizations), tick)

    def people(
        self, local: Mapping[str, list[tuple[str, str, str]]], guest: tuple[str, Key] | None = None
    ) -> list[Deed]:
        """What people do to our own tables.

        Args:
            local: of each organization what is here: platform, code (of a direct one its id), status.
            guest: organization and key of a reservation whose guest has a PIN; it is deleted.
        """
        deeds = [Deed("deleted", *guest)] if guest else []
        for name in self.organizations:
            for _ in range(self.random.randint(0, max(2, len(local[name]) // 200))):
                deeds += self._person(
                    name,
                    local[name],
                    {deed.key for deed in deeds if (deed.what, deed.organization) == ("deleted", name)},
                )
        if self.random.random() < 0.2:
            deeds += self._map(self.random.choice(self.organizations))
        return deeds

    def _guest(self, organization: str) -> None:
        known = list(self.bookings[organization].values())
        one = self.random.choice(known)
        what = self.random.choice(
            ("book", "book", "earlier", "later", "stay", "stay", "cancel", "again", "vanish", "back", "move", "name",
             "in", "out", "spoil", "mend")
        )  # fmt: skip
        hours = timedelta(hours=self.random.randint(1, 60))
        if what == "book":
            self.book(organization)
        elif what in ("spoil", "mend") and what == ("spoil" if one.readable else "mend"):
            if what == "mend" and one.platform != "expedia":
                self.mend(organization, one.code)
            elif what == "spoil":
                self.spoil(organization, one.code, self.random.choice(("unreadable", "unknown", "backwards")))
        elif what == "vanish":
            self.vanish(organization, one.code)
        elif what == "back" and self.gone[organization]:
            self.come_back(organization, self.random.choice(sorted(self.gone[organization])))
        elif one.readable and one.check_in and one.check_out:
            if what == "earlier":
                self.change(organization, one.code, check_in=one.check_in - hours)
            elif what == "later" and one.check_in + hours < one.check_out:
                self.change(organization, one.code, check_in=one.check_in + hours)
            elif what == "stay":  # extended, also after it has passed; or cut short
                ended = one.check_out < self.now
                longer = self._near(self.now) + hours if ended else one.check_out + hours
                self.change(organization, one.code, check_out=longer)
            elif what == "cancel":
                self.change(organization, one.code, kind="canceled")
            elif what == "again" and one.status == "cancelled":
                self.change(organization, one.code, kind="booked")
            elif what == "move":
                self.change(organization, one.code, listing=f"listing-{self.random.randint(1, LISTINGS)}")
            elif what == "name":
                self.change(organization, one.code, guest=self.random.choice([*NAMES, None]))
            elif what in ("in", "out"):
                self.change(organization, one.code, kind=f"checked-{what}")
            else:
                return
        else:
            return
        self.did[what] += 1

    def _live(self, organization: str) -> list[str]:
        return [one.code for one in self.bookings[organization].values() if one.status in ("pending", "confirmed")]

    def _take_many(self, organization: str, tick: int) -> None:
        """So many go at once that nobody should believe it; most often a mistake, which is mended after some ticks."""
        live = self._live(organization)
        count = min(len(live) // 2, max(12, len(live) // 12))
        if count < 11:
            return
        for code in self.random.sample(live, count):
            self.vanish(organization, code)
            self._absent_for[f"{organization} {code}"] = tick + self.random.randint(1, 3)
        self.did["many at once"] += 1

    def _return(self, organization: str, tick: int) -> None:
        for code in sorted(self.gone[organization]):
            if self._absent_for.get(f"{organization} {code}") == tick:
                self.come_back(organization, code)

    def _map(self, organization: str) -> list[Deed]:
        """Somebody fills a listing in, whose property was missing."""
        missing = [f"listing-{n}" for n in range(1, LISTINGS + 1) if f"listing-{n}" not in self.mapped[organization]]
        if not missing:
            return []
        listing = missing[0]
        number = (self.organizations.index(organization) + 1) * 1000 + int(listing.removeprefix("listing-"))
        self.mapped[organization][listing] = number
        self.did["mapped"] += 1
        return [Deed("mapped", organization, ("", listing), {"property_id": number})]

    def _person(self, organization: str, local: list[tuple[str, str, str]], gone: set[Key]) -> list[Deed]:
        what = self.random.choice(("direct", "direct", "delete", "status", "status", "rename", "invent"))
        start = self._near(self.now + timedelta(hours=self.random.randint(-30, 200)))
        fields: dict[str, Any] = {
            "property_id": self.mapped[organization]["listing-1"], "check_in": start,
            "check_out": self._near(start + timedelta(hours=self.random.randint(10, 90))), "status": "confirmed",
            "guest": self.random.choice(NAMES),
        }  # fmt: skip
        self.did[f"people {what}"] += 1
        if what == "direct":
            return [Deed("booked", organization, ("direct", str(UUID(int=self.random.getrandbits(128)))), fields)]
        if what == "invent":  # typed in by hand as if it came from a platform: nobody there knows it
            self._numbers += 1
            return [Deed("booked", organization, ("airbnb", f"H{self._numbers:05d}"), fields)]
        here = [(platform, code) for platform, code, _ in local if (platform, code) not in gone]
        if not here:
            return []
        key = self.random.choice(here)
        if what == "delete":
            return [Deed("deleted", organization, key)]
        if what == "rename":
            return [Deed("renamed", organization, key, {"guest": "Somebody Else"})]
        status = self.random.choice(("checked_in", "checked_out", "cancelled"))
        return [Deed("status", organization, key, {"status": status})]

    # -- the weather -----------------------------------------------------------------------------------------

    def forecast(self, tick: int, *, calm: bool = False, still: bool = False) -> None:
        """What goes wrong in this tick.

        Args:
            calm: nothing but what a second try mends.
            still: nothing changes while it is read, so that a run may be made twice.
        """
        self.now = self.begin + tick * TICK
        self.late = {name: set() for name in self.organizations}
        self.sky.begin()
        for name in self.organizations:
            self.weather[name] = Weather() if calm else self._weather(name, still)

    def _weather(self, name: str, still: bool) -> Weather:
        chosen, codes = self.random, sorted(self.bookings[name])
        how, left = self._outages.pop(name, ("", 0))
        surely = not left and self.now == self.begin + TICK and name == self.organizations[0]
        if surely:  # what went is looked up in vain: an error is no absence
            return Weather(denied=frozenset(self.gone[name]))
        if not left and chosen.random() < 0.08:
            how, left = chosen.choice(("500", "401", "429", "timeout", "cut", "no list")), chosen.choice((1, 1, 2, 4))
            self.did[f"down: {how}"] += 1
        if left:
            if left > 1:
                self._outages[name] = how, left - 1
            return Weather(down=how)
        made = Weather()
        made.listed = chosen.choice(["whole"] * 7 + ["failed", "empty", "lossy", "lossy"])
        self.did[f"list: {made.listed}"] += 1
        gone = sorted(self.gone[name])
        if made.listed == "lossy":
            start = chosen.randrange(len(codes)) if codes else 0
            made.lost = frozenset(codes[start : start + chosen.randint(1, 40)])
            made.mistaken = frozenset(code for code in made.lost if chosen.random() < 0.5)
        if gone and chosen.random() < 0.6:
            made.denied = frozenset(chosen.sample(gone, min(len(gone), chosen.randint(1, 6))))
        if not still:
            made.leaves, made.comes = chosen.random() < 0.2, chosen.random() < 0.2
        return made


Serve = Callable[..., Any]


class Sky:
    """Stands before the stand-in and lets the weather happen to what is asked of it.

    Args:
        world: whose weather.
        spoilt: the share of requests that fail at the first or the second try, and not at the third.
    """

    def __init__(self, world: World, spoilt: float = 0.02) -> None:
        self.world, self.spoilt, self.patience = world, spoilt, 0.5
        self._app: Any = world.stays.app
        self._random = random.Random(world.random.random())
        self._tokens = {
            "Basic " + base64.b64encode(account.token.encode()).decode(): name
            for name, account in world.stays.accounts.items()
        }
        self.begin()

    def begin(self) -> None:
        """A new tick."""
        self._failed: Counter[str] = Counter()
        self._mistaken: set[tuple[str, str]] = set()
        self._first: dict[str, str] = {}

    async def __call__(self, scope: Any, receive: Serve, send: Serve) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        organization = self._tokens.get(headers.get("authorization", ""), "")
        if not organization:
            await self._app(scope, receive, send)
            return
        self.world.did["requests"] += 1
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        weather = self.world.weather.get(organization, Weather())
        code = scope["path"].removeprefix(PATH).strip("/")
        kind = "one" if code else "changes" if query.get("dateType") == "modified" else "list"
        if kind == "list" and query.get("from", "") < "2001":
            kind = "changes"  # the first time everything is new
        how = weather.down or self._of_one(organization, code, weather, kind) or self._of_list(weather, kind)
        if not how and self._random.random() < self.spoilt:
            how = self._passing(f"{scope['path']} {scope['query_string']}", int(query.get("skip", 0)))
        if kind == "list" and weather.listed in ("empty", "lossy") and not how:
            await _answer(send, 200, self._shortened(organization, query, weather))
            return
        if not how:
            self._meanwhile(organization, kind, int(query.get("skip", 0)), query)
            await self._app(scope, receive, send)
            return
        self.world.did[f"answered {how}"] += 1
        await self._spoil(how, scope, receive, send)

    def _of_one(self, organization: str, code: str, weather: Weather, kind: str) -> str:
        if kind != "one":
            return ""
        if code in weather.denied:
            return "500"
        if code in weather.mistaken and (organization, code) not in self._mistaken:
            self._mistaken.add((organization, code))
            return "404"
        return ""

    def _of_list(self, weather: Weather, kind: str) -> str:
        return "500" if kind == "list" and weather.listed == "failed" else ""

    def _passing(self, request: str, skip: int) -> str:
        """A fault that the second or the third try does not meet."""
        if self._failed[request] >= 2:
            return ""
        self._failed[request] += 1
        return self._random.choice(["500", "cut", "429 passing", "timeout", *(["hollow"] if skip else [])])

    def _shortened(self, organization: str, query: Mapping[str, str], weather: Weather) -> list[dict[str, Any]]:
        account = self.world.stays.accounts[organization]
        if weather.listed == "empty":
            return []
        found = account.listed((query["dateType"], query["from"], query["to"]))
        there = [given for given in found if given["id"] not in weather.lost]
        skip = int(query["skip"])
        return there[skip : skip + min(int(query["limit"]), self.world.stays.most)]

    def _meanwhile(self, organization: str, kind: str, skip: int, query: Mapping[str, str]) -> None:
        """What happens between two pages."""
        world, weather = self.world, self.world.weather.get(organization, Weather())
        if kind == "changes" and weather.comes and skip:
            weather.comes = False
            world.book(organization)
            world.did["made while paged"] += 1
        if kind == "list" and weather.leaves:
            account = world.stays.accounts[organization]
            if not skip:
                found = account.listed((query["dateType"], query["from"], query["to"]))
                self._first[organization] = found[0]["id"] if found else ""
            elif first := self._first.get(organization, "").strip():
                weather.leaves = False
                if first in world.bookings[organization]:
                    world.vanish(organization, first)
                    world.late[organization].add(first)
                    world.did["gone while paged"] += 1

    async def _spoil(self, how: str, scope: Any, receive: Serve, send: Serve) -> None:
        if how == "timeout":
            await asyncio.sleep(self.patience * 1.5)
            await _answer(send, 503, {})
        elif how == "cut":
            await _answer(send, 200, None, raw=b'[{"id": "R0')
        elif how == "hollow":
            await _answer(send, 200, [])
        elif how == "no list":
            await _answer(send, 200, {"message": "We will be back soon"})
        elif how.startswith("429"):
            await _answer(send, 429, {}, after="0.01" if "passing" in how else "3600")
        else:
            await _answer(send, int(how), {"message": "Reservation not found" if how == "404" else "Sorry"})


async def _answer(send: Serve, status: int, document: Any, *, raw: bytes | None = None, after: str = "") -> None:
    body = json.dumps(document).encode() if raw is None else raw
    headers = [(b"content-type", b"application/json"), *([(b"retry-after", after.encode())] if after else [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
