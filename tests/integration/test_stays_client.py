"""The client of Stays against a server that moves, fails and lies: what it gives is all there is, or it says so."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from recon.errors import OutsideDenied, OutsideFailed, UsageError
from recon.outside.interface import Bad, open_feed
from recon.stand_ins.faults import Fault
from recon.stand_ins.rate import Rate
from recon.stand_ins.server import served
from recon.stand_ins.stays import PATH, SECRET, Stays
from recon.systems.stays import client
from recon.systems.stays.client import Account, feed

PRAIA, SERRA = "a2f5b4d0-51a4-4c9e-9b0e-6f3c1f0a7a01", "b7c9e1a3-0c55-4f0a-8a39-2d1f64b8c102"
DAYS = (date(2027, 1, 1), date(2027, 1, 31))
START = datetime(2027, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[Stays, str]]:
    """One server for all tests; each puts its own reservations there."""
    server = Stays([PRAIA, SERRA], clock=Clock())
    with served(server.app) as url:
        yield server, url


@pytest.fixture
def stays(address: tuple[Stays, str]) -> Stays:
    server, _ = address
    kept = server.faults  # the application that is served asks these two objects
    server.__init__([PRAIA, SERRA], clock=Clock())
    server.faults = kept
    kept.waiting.clear()
    kept.requests.clear()
    return server


@pytest.fixture(scope="module")
def opened(address: tuple[Stays, str]) -> Iterator[client.Stays]:
    """The feed, with pages of twenty and pauses that cost no time."""
    server, url = address
    with _opened(server.settings(url)) as found:
        yield found


@contextmanager
def _opened(settings: dict[str, str], **others: Any) -> Iterator[client.Stays]:
    options: dict[str, Any] = {"page_size": 20, "per_second": 10_000, "first_pause": 0.001, "timeout": 0.2, **others}
    found = client.Stays(client.accounts(settings), **options)
    yield found
    found.close()


def add(stays: Stays, organization: str, count: int, **fields: Any) -> list[str]:
    codes = [f"R{number:03d}J" for number in range(count)]
    for code in codes:
        stays.add(organization, code, check_in="2027-01-10", check_out="2027-01-14", **fields)
    return codes


def codes(pages: Iterator[Any]) -> list[str]:
    return [one["external_id"] for page in pages for one in page]


# -- all of it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 19, 20, 21, 35, 36, 95])
def test_every_page_is_read_and_each_reservation_given_once(stays: Stays, opened: client.Stays, count: int) -> None:
    """SYN-02: fetched from the Stays API, paged, whatever the number of records and the size of a page."""
    expected = add(stays, PRAIA, count)
    add(stays, SERRA, 3)
    assert codes(opened.changed(PRAIA, None)) == expected
    assert codes(opened.listed(PRAIA, *DAYS)) == expected


@pytest.mark.parametrize("most", [2, 3, 7])
def test_a_server_that_gives_fewer_than_asked_is_read_on(stays: Stays, opened: client.Stays, most: int) -> None:
    expected = add(stays, PRAIA, 30)
    stays.most = most
    assert codes(opened.changed(PRAIA, None)) == expected


def test_since_the_last_run_only_what_changed_is_fetched(stays: Stays, opened: client.Stays) -> None:
    """SYN-02: fetches from the Stays API since the last run; that very moment is included."""
    add(stays, PRAIA, 30)
    stays.clock.now = START + timedelta(minutes=30)  # pyright: ignore
    stays.cancel(PRAIA, "R007J")
    since = START + timedelta(minutes=30)
    ((one,),) = opened.changed(PRAIA, since.astimezone(None))
    assert (one["external_id"], one["status"], one["updated_at"]) == ("R007J", "cancelled", since)
    assert list(opened.changed(PRAIA, since + timedelta(milliseconds=1))) == []
    assert len(codes(opened.changed(PRAIA, START))) == 30


def test_a_list_is_of_days_in_utc_by_check_in(stays: Stays, opened: client.Stays) -> None:
    """Days there are days of the house: 15:00 on Kiritimati is still the day before in UTC."""
    stays.add(PRAIA, "EAST", check_in="2027-02-01", check_out="2027-02-03", zone="Pacific/Kiritimati")
    stays.add(PRAIA, "WEST", check_in="2026-12-31T22:00", check_out="2027-02-03", zone="America/Sao_Paulo")
    stays.add(PRAIA, "OUT", check_in="2027-02-01", check_out="2027-02-03", zone="America/Sao_Paulo")
    stays.add(PRAIA, "BAD", check_in="soon", check_out="2027-02-03")
    stays.add(PRAIA, "GONE", check_in="2027-01-05", check_out="2027-02-03", kind="canceled", partner="API airbnb")
    stays.add(PRAIA, "SHUT", check_in="2027-01-05", check_out="2027-02-03", kind="blocked")
    assert codes(opened.listed(PRAIA, DAYS[0], date(2027, 1, 31))) == ["WEST", "BAD", "GONE"]
    assert codes(opened.listed(PRAIA, DAYS[0], date(2027, 2, 1))) == ["EAST", "WEST", "OUT", "BAD", "GONE"]
    assert codes(opened.listed(PRAIA, date(2027, 2, 1), None)) == ["EAST", "OUT", "BAD"]
    last = [one for page in opened.listed(PRAIA, None, None) for one in page][-1]
    assert last == {"platform": "airbnb", "external_id": "GONE"}


def test_a_load_takes_all_organizations(stays: Stays, opened: client.Stays) -> None:
    """RES-15: each organization's reservations by its own account, and with its own id."""
    add(stays, PRAIA, 2)
    add(stays, SERRA, 1)
    loaded = [(one["organization_id"], one["external_id"]) for page in opened.pages(*DAYS) for one in page]
    assert loaded == [(PRAIA, "R000J"), (PRAIA, "R001J"), (SERRA, "R000J")]
    assert set(opened.columns) == set(next(iter(next(opened.pages(*DAYS)))))
    assert list(opened.scopes) == [PRAIA, SERRA]
    assert [stays.accounts[name].asked["list"] for name in (PRAIA, SERRA)] == [3, 2]


# -- a list that moves -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [1, 5, 6, 15, 60])
def test_a_list_that_loses_reservations_while_it_is_read_loses_no_other(
    stays: Stays, opened: client.Stays, gone: int
) -> None:
    """SYN-02: pages shift while they are read; what is still there at the end was given."""
    expected = add(stays, PRAIA, 90)
    went: list[str] = []

    def lose(_organization: str, skip: int) -> None:
        if skip >= 60 and not went:
            went.extend(expected[:gone])
            for code in went:
                stays.vanish(PRAIA, code)

    stays.before_page = lose
    given = codes(opened.changed(PRAIA, None))
    assert went
    assert set(given) >= set(expected) - set(went)
    assert len(given) == len(set(given))


def test_a_list_that_grows_while_it_is_read_is_read_to_its_end(stays: Stays, opened: client.Stays) -> None:
    add(stays, PRAIA, 30)

    def grow(_organization: str, skip: int) -> None:
        if len(stays.accounts[PRAIA]) < 60:
            stays.add(PRAIA, f"N{len(stays.accounts[PRAIA])}")

    stays.before_page = grow
    given = codes(opened.changed(PRAIA, None))
    assert given[:30] == [f"R{number:03d}J" for number in range(30)]
    assert len(given) == len(set(given)) > 32


def test_a_list_that_never_stands_still_is_said_to_be_one(stays: Stays, opened: client.Stays) -> None:
    """What was given is not all: an error says so, and nobody takes the rest for absent."""
    left = add(stays, PRAIA, 3000)

    def lose(_organization: str, skip: int) -> None:
        for _ in range(200 if skip else 0):
            stays.vanish(PRAIA, left.pop(0))

    stays.before_page = lose
    with pytest.raises(OutsideFailed, match="changes faster"):
        codes(opened.changed(PRAIA, None))


# -- single reservations ---------------------------------------------------------------------------------


def key(code: str) -> dict[str, str]:
    return {"platform": "staysnet", "external_id": code}


def test_one_is_found_by_its_code_in_its_own_organization(stays: Stays, opened: client.Stays) -> None:
    """RES-04, RES-15: absent is what the organization's own account answers 404 for; another's is not asked."""
    stays.add(PRAIA, "FN26J", kind="canceled")
    found = opened.find(PRAIA, key("FN26J"))
    assert found is not None
    assert (found["external_id"], found["status"], found["platform"]) == ("FN26J", "cancelled", "staysnet")
    assert opened.find(SERRA, key("FN26J")) is None
    assert [stays.accounts[name].asked["one"] for name in (PRAIA, SERRA)] == [1, 1]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(401), Fault(403), Fault(429), Fault(500), Fault(502, "<html>"), Fault(delay=0.3), Fault(cut=True),
        Fault(302, headers={"Location": "/elsewhere"}), Fault(404, "<html>no such page</html>"), Fault(400), Fault(410),
        Fault(200, "null"), Fault(200, "[]"), Fault(200, '{"id": "OTHER"}'), Fault(200, ""), Fault(204), Fault(200, "{}"),
    ],
)  # fmt: skip
def test_only_a_404_of_stays_is_an_absence(stays: Stays, opened: client.Stays, fault: Fault) -> None:
    """RES-06: a timeout, 401, 429 or 5xx is an error, never an absence; nor is anything else that was not asked for."""
    stays.add(PRAIA, "FN26J")
    stays.faults.add(*[fault] * client.ATTEMPTS)
    with pytest.raises((OutsideFailed, OutsideDenied)):
        opened.find(PRAIA, key("FN26J"))


@pytest.mark.parametrize("code", ["", ".", "..", "../..", "a/b", "a b", "a?b", "a%2fb", "é", "x" * 201, "a\n", "-\0"])
def test_a_code_that_means_another_address_is_not_asked_for(stays: Stays, opened: client.Stays, code: str) -> None:
    """RES-06: the answer would be about something else."""
    with pytest.raises(OutsideFailed, match="cannot be asked for"):
        opened.find(PRAIA, key(code))
    assert stays.faults.requests == []


def test_a_false_404_is_an_absence_to_one_look_only(stays: Stays, opened: client.Stays) -> None:
    """RES-06: an absence is confirmed by a second look; the client cannot know better than its one answer."""
    stays.add(PRAIA, "FN26J")
    stays.faults.add(Fault(404, '{"message": "Reservation not found"}'))
    assert [opened.find(PRAIA, key("FN26J")) is None for _ in range(2)] == [True, False]


# -- failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500),
        Fault(503),
        Fault(429, headers={"Retry-After": "0"}),
        Fault(delay=0.3),
        Fault(cut=True),
        Fault(200, ""),
    ],
)
def test_a_request_is_sent_three_times(stays: Stays, opened: client.Stays, fault: Fault) -> None:
    """SYN-02: 3 attempts; two failures are got over, three end it, and the next tick tries again."""
    add(stays, PRAIA, 1)
    stays.faults.add(fault, fault)
    if fault.status == 200:  # an empty answer is no list: asked again it would be none either
        with pytest.raises(OutsideFailed, match="no list"):
            codes(opened.changed(PRAIA, None))
        return
    assert codes(opened.changed(PRAIA, None)) == ["R000J"]
    assert len(stays.faults.requests) == 4  # the first page three times, and the look behind it
    stays.faults.requests.clear()
    stays.faults.add(*[fault] * 3)
    with pytest.raises(OutsideFailed):
        codes(opened.changed(PRAIA, None))
    assert len(stays.faults.requests) == 3


def test_the_pauses_between_attempts_double(stays: Stays, address: tuple[Stays, str]) -> None:
    """SYN-02: exponential backoff."""

    with _opened(stays.settings(address[1]), first_pause=0.05) as opened:
        stays.faults.add(*[Fault(500)] * 3)
        started = datetime.now(UTC)
        with pytest.raises(OutsideFailed):
            opened.find(PRAIA, key("FN26J"))
        took = (datetime.now(UTC) - started).total_seconds()
    assert took >= 0.05 + 0.1


def test_retry_after_is_obeyed(stays: Stays, opened: client.Stays) -> None:
    add(stays, PRAIA, 1)
    stays.rate = Rate(1, 0.15)
    assert codes(opened.listed(PRAIA, *DAYS)) == ["R000J"]
    assert stays.rate.refused


def test_a_failing_page_ends_the_list_with_an_error(stays: Stays, opened: client.Stays) -> None:
    """SYN-02: what was given so far is not all."""
    add(stays, PRAIA, 50)
    pages = opened.changed(PRAIA, None)
    assert len(next(pages)) == 20
    stays.faults.add(*[Fault(503)] * 3)
    with pytest.raises(OutsideFailed):
        list(pages)


@pytest.mark.parametrize("body", ["{}", '"text"', "7", "null", '{"reservations": []}'])
def test_what_is_no_list_is_an_error(stays: Stays, opened: client.Stays, body: str) -> None:
    stays.faults.add(Fault(200, body))
    with pytest.raises(OutsideFailed, match="no list of reservations"):
        list(opened.changed(PRAIA, None))


def test_bad_records_never_stop_a_page(stays: Stays, opened: client.Stays) -> None:
    """SYN-04: one bad record does not stop the run: with a key it is told by its problem, without one it is bad."""
    add(stays, PRAIA, 30)
    stays.put(PRAIA, {"checkInDate": "2027-01-10"}, "nameless")
    stays.put(PRAIA, [1, 2], "no object")
    stays.put(PRAIA, {"id": "ODD", "partner": {"name": "Expedia"}, "type": [], "checkInDate": 7})
    add_later = stays.add(PRAIA, "LAST")
    given = [one for page in opened.changed(PRAIA, None) for one in page]
    assert [one.why for one in given if isinstance(one, Bad)] == ["a reservation has no id", "a record is no object"]
    records = [one for one in given if not isinstance(one, Bad)]
    odd = next(one for one in records if one["external_id"] == "ODD")
    assert odd["problem"] == (
        "its platform is none that is known; its type is no text; it has no checkInTime; it has no checkOutDate"
    )
    assert (len(records), records[-1]["external_id"]) == (32, add_later["id"])
    loaded = [one for page in opened.pages(None, None) for one in page]
    assert [one for one in loaded if one["external_id"] is None] == [dict.fromkeys(opened.columns)] * 2
    assert {"platform": "expedia", "external_id": "ODD"} in [
        one for page in opened.listed(PRAIA, None, None) for one in page
    ]


# -- settings and credentials ----------------------------------------------------------------------------


def test_the_credential_is_never_shown(stays: Stays, opened: client.Stays) -> None:
    """SYN-10: the key comes from the environment, and no error shows it, whatever the other side echoes."""
    token = stays.accounts[PRAIA].token
    stays.faults.add(Fault(401, f"bad credentials: {token}"))
    with pytest.raises(OutsideDenied) as denied:
        opened.find(PRAIA, key("FN26J"))
    said = f"{denied.value.what} {denied.value.why} {denied.value.todo}"
    assert stays.accounts[PRAIA].password not in said
    assert f"RECON_STAYS_TOKEN_{PRAIA.upper().replace('-', '_')}" in said
    assert opened.place.endswith(PATH)


def test_an_unknown_token_is_refused_by_the_stand_in_as_by_stays(stays: Stays, address: tuple[Stays, str]) -> None:
    with _opened({**stays.settings(address[1]), **_own(PRAIA, "login:wrong")}) as opened, pytest.raises(OutsideDenied):
        opened.find(PRAIA, key("FN26J"))


def _own(organization: str, token: str) -> dict[str, str]:
    return {f"RECON_STAYS_TOKEN_{organization.upper().replace('-', '_')}": token}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "RECON_STAYS_ORGANIZATIONS is not set"),
        ({"RECON_STAYS_ORGANIZATIONS": "praia"}, "no uuid"),
        ({"RECON_STAYS_ORGANIZATIONS": " , "}, "names no organization"),
        ({"RECON_STAYS_ORGANIZATIONS": PRAIA}, "RECON_STAYS_TOKEN is not set"),
        ({"RECON_STAYS_ORGANIZATIONS": PRAIA, "RECON_STAYS_TOKEN": "a:b"}, "RECON_STAYS_URL is not set"),
        ({"RECON_STAYS_ORGANIZATIONS": PRAIA, "RECON_STAYS_TOKEN": "a:b", "RECON_STAYS_URL": "http://stays.net"}, "not https"),
        ({"RECON_STAYS_ORGANIZATIONS": PRAIA, "RECON_STAYS_TOKEN": "a b", "RECON_STAYS_URL": "https://x"}, "credential"),
        (
            {"RECON_STAYS_ORGANIZATIONS": f"{PRAIA},{SERRA}", "RECON_STAYS_TOKEN": "a:b", "RECON_STAYS_URL": "https://x"},
            "would be given the same reservations",
        ),
        ({"RECON_STAYS_TIME_ZONE": "Berlin"}, "no time zone"),
        ({"RECON_STAYS_PER_SECOND": "0", "RECON_STAYS_ORGANIZATIONS": PRAIA, "RECON_STAYS_TOKEN": "a", "RECON_STAYS_URL": "https://x"}, "no number"),
        ({"RECON_STAYS_TIMEOUT": "nan", "RECON_STAYS_ORGANIZATIONS": PRAIA, "RECON_STAYS_TOKEN": "a", "RECON_STAYS_URL": "https://x"}, "no number"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused_by_name(settings: dict[str, str], said: str) -> None:
    """SYN-10: API URL and key by environment; RES-15: two organizations are never given one account's reservations."""
    with pytest.raises(UsageError, match=said):
        feed(settings)


def test_each_organization_may_have_its_own_token_and_address() -> None:
    """RES-15: accounts are per organization."""
    settings = {
        "RECON_STAYS_ORGANIZATIONS": f"{PRAIA.upper()}, {SERRA}, {PRAIA}",
        "RECON_STAYS_URL": "https://praia.example",
        "RECON_STAYS_TOKEN": "login:one",
        f"RECON_STAYS_URL_{SERRA.upper().replace('-', '_')}": "https://serra.example/",
        **_own(SERRA, "login:two"),
    }
    assert client.accounts(settings) == [
        Account(PRAIA, "https://praia.example", "login:one", "RECON_STAYS_TOKEN"),
        Account(SERRA, "https://serra.example/", "login:two", next(iter(_own(SERRA, "")))),
    ]
    opened = open_feed("stays", settings)
    assert opened.place == f"https://praia.example{PATH}, https://serra.example{PATH}"
    opened.close()


def test_an_organization_that_no_setting_names_is_not_asked(opened: client.Stays) -> None:
    """RES-15: there is no account to ask."""
    with pytest.raises(UsageError, match="do not name the organization"):
        opened.find("c31d8f77-9e42-4b6d-b1c4-90a5e7d3f203", key("FN26J"))


# -- the stand-in itself ---------------------------------------------------------------------------------


def test_the_stand_in_signs_events_as_it_says(stays: Stays) -> None:
    at = datetime(2027, 1, 1, 12, tzinfo=UTC)
    headers, body = stays.event("FN26J", "reservation.canceled", event="evt-7", at=at, _idlisting="PL01I")
    told = json.loads(body)
    assert (told["id"], told["action"], told["payload"]) == (
        "evt-7", "reservation.canceled", {"id": "FN26J", "_idlisting": "PL01I"},
    )  # fmt: skip
    assert headers["X-Stays-Timestamp"] == str(int(at.timestamp()))
    mac = hmac.new(SECRET.encode(), headers["X-Stays-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-Stays-Signature"] == mac
    assert json.loads(stays.event("FN26J")[1])["id"] != json.loads(stays.event("FN26J")[1])["id"]


def test_the_stand_in_looks_through_its_reservations_once_for_all_pages(
    stays: Stays, opened: client.Stays, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recon.stand_ins import stays as module

    looked: list[str] = []
    whole = module._is_within  # pyright: ignore
    monkeypatch.setattr(
        module, "_is_within", lambda given, query: bool(looked.append(given["id"])) or whole(given, query)
    )
    add(stays, PRAIA, 100)
    assert len(codes(opened.changed(PRAIA, None))) == 100
    assert len(looked) == 100
