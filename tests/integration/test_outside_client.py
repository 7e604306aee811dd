"""HTTP with manners, against a real server on this machine that fails as it is told."""

from __future__ import annotations

import email.utils
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from fastapi import FastAPI, Response

from recon.errors import VEIL, OutsideDenied, OutsideFailed, OutsideUnsure, UsageError
from recon.outside.client import Client, Limit
from recon.stand_ins.faults import Fault, Faults
from recon.stand_ins.server import served

SECRET = "pat-kanari-4711"
PAUSE = 0.01  # seconds; nobody waits in a test


@dataclass
class Place:
    """A server, and a client of it that tells why it waits."""

    url: str
    faults: Faults
    waits: list[str | None] = field(default_factory=list[str | None])
    clients: list[Client] = field(default_factory=list[Client])

    def client(self, **options: Any) -> Client:
        usual: dict[str, Any] = {"per_second": 1000, "timeout": 5.0, "attempts": 3, "first_pause": PAUSE}
        made = Client(
            "Acme",
            self.url,
            headers={"Authorization": f"Bearer {SECRET}"},
            secrets=[SECRET],
            setting="RECON_ACME_TOKEN",
            **usual | options,
        )
        made.notice = self.waits.append
        self.clients.append(made)
        return made

    def close(self) -> None:
        while self.clients:
            self.clients.pop().close()


@pytest.fixture(scope="module")
def server() -> Iterator[Place]:
    app, faults = FastAPI(openapi_url=None), Faults()

    @app.api_route("/thing", methods=["GET", "POST"])
    def thing() -> Response:
        return Response('{"price": 0.10, "name": "lamp"}', media_type="application/json")

    faults.on(app)
    with served(app) as url:
        yield Place(url, faults)


@pytest.fixture
def place(server: Place) -> Iterator[Place]:
    server.faults.waiting.clear()
    server.faults.requests.clear()
    server.waits.clear()
    yield server
    server.close()


def failed(place: Place, *faults: Fault, changes: bool = False, **options: Any) -> OutsideFailed:
    """How asking ends when the server does this."""
    place.faults.add(*faults)
    client = place.client(**options)
    with pytest.raises(OutsideFailed) as caught:
        client.ask("POST", "/thing", body={"a": 1}, changes=changes)
    assert SECRET not in str(caught.value)
    assert SECRET not in str(caught.value.as_dict())
    assert place.waits[-1] is None  # nobody is left waiting on a screen
    return caught.value


def test_a_number_with_a_fraction_keeps_its_digits(place: Place) -> None:
    assert place.client().ask("GET", "/thing").body == {"price": Decimal("0.10"), "name": "lamp"}


def test_the_rate_is_kept(place: Place) -> None:
    client = place.client(per_second=20)
    began = time.monotonic()
    for _ in range(5):
        client.ask("GET", "/thing")
    assert time.monotonic() - began >= 4 / 20


@pytest.mark.parametrize("changes", [False, True])
def test_a_429_is_waited_for_as_long_as_it_asks(place: Place, changes: bool) -> None:
    """A request that was turned away was not carried out, so even a change is sent again."""
    soon = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    place.faults.add(Fault(429, headers={"Retry-After": "0.05"}), Fault(429, headers={"Retry-After": soon}))
    began = time.monotonic()
    assert place.client().ask("POST", "/thing", changes=changes).status == 200
    assert 0.05 <= time.monotonic() - began < 3
    assert next(wait for wait in place.waits if wait) == "Acme asks to wait 0.05 s"
    assert (len(place.faults.requests), place.waits[-1]) == (3, None)


@pytest.mark.parametrize(
    "asked", ["3600", email.utils.format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True), "inf"]
)
def test_a_429_that_asks_for_an_hour_fails_at_once(place: Place, asked: str) -> None:
    error = failed(place, Fault(429, headers={"Retry-After": asked}))
    assert "asks to wait" in error.why
    assert len(place.faults.requests) == 1


def test_a_429_may_name_a_limit_that_no_waiting_helps(place: Place) -> None:
    limit: Limit = lambda document: "The day is used up." if document == {"limit": "day"} else 0.05  # noqa: E731
    assert failed(place, Fault(429, '{"limit": "day"}'), limit=limit).why == "The day is used up."
    assert len(place.faults.requests) == 1
    place.faults.add(Fault(429, "not JSON"))
    place.client(limit=limit).ask("GET", "/thing")
    assert "Acme asks to wait 0.05 s" in place.waits


def test_a_429_without_end_fails_after_the_last_attempt(place: Place) -> None:
    error = failed(place, *[Fault(429, headers={"Retry-After": "0"})] * 3)
    assert "too many requests (429)" in error.why
    assert len(place.faults.requests) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_credential_that_is_refused_is_named_by_its_setting_and_not_shown(place: Place, status: int) -> None:
    error = failed(place, Fault(status, f"no such key: Bearer {SECRET}"))
    assert isinstance(error, OutsideDenied)
    assert "RECON_ACME_TOKEN" in error.todo
    assert VEIL in error.why
    assert len(place.faults.requests) == 1


WRONG = [
    Fault(500, f"oops {SECRET}"),
    Fault(503),
    Fault(delay=0.5),
    Fault(cut=True),
    Fault(200, "<html>"),
    Fault(200, "{}", headers={"Content-Encoding": "gzip"}),
]


@pytest.mark.parametrize("fault", WRONG, ids=["500", "503", "timeout", "cut", "not-json", "encoding"])
def test_reading_is_done_again_and_a_change_is_never_sent_twice(place: Place, fault: Fault) -> None:
    place.faults.add(fault)
    assert place.client(timeout=0.4).ask("GET", "/thing").body["name"] == "lamp"
    assert len(place.faults.requests) == 2
    error = failed(place, fault, changes=True, timeout=0.4)
    assert isinstance(error, OutsideUnsure)
    assert len(place.faults.requests) == 3


@pytest.mark.parametrize("fault", WRONG, ids=["500", "503", "timeout", "cut", "not-json", "encoding"])
def test_reading_gives_up_after_the_last_attempt(place: Place, fault: Fault) -> None:
    error = failed(place, fault, fault, attempts=2, timeout=0.4)
    assert not isinstance(error, OutsideUnsure)
    assert error.what == "Acme did not answer POST /thing."
    assert len(place.faults.requests) == 2


def test_a_404_and_a_redirect_are_no_answers_and_are_not_tried_again(place: Place) -> None:
    assert "404: nothing like it" in failed(place, Fault(404, "nothing like it")).why
    # To follow it would carry the credential elsewhere.
    assert "302" in failed(place, Fault(302, headers={"Location": f"{place.url}/thing"})).why
    assert len(place.faults.requests) == 2


def test_a_server_that_is_not_there_was_surely_sent_nothing() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        nobody = Place(f"http://127.0.0.1:{taken.getsockname()[1]}", Faults())
        with pytest.raises(OutsideFailed) as caught:
            nobody.client().ask("POST", "/thing", changes=True)
        nobody.close()
    assert not isinstance(caught.value, OutsideUnsure)
    assert "cannot be reached" in caught.value.why


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("http://acme.example", "not https"),
        ("ftp://acme.example", "not https"),
        (f"https://me:{SECRET}@acme.example", "holds a credential"),
    ],
)
def test_an_address_over_which_a_credential_would_be_seen_is_refused(base: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Place(base, Faults()).client()
    assert SECRET not in str(caught.value)
