"""Nothing to do, one row wrong among many, and somebody who never ends a transaction."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from recon.backfill import plan as plans
from recon.backfill import verify
from recon.matching import run as runs
from tests.chaos.books import Books
from tests.chaos.client import Client, run
from tests.chaos.scale import Scale
from tests.support import simple_spec

OpenBooks = Callable[..., Books]


@pytest.mark.parametrize(
    "change", ["DELETE FROM pay", "UPDATE pay SET lease_id = 1000000 + id % 50", "DELETE FROM lease"]
)
def test_where_there_is_nothing_to_do_there_is_no_plan(open_books: OpenBooks, change: str) -> None:
    books = open_books(200, signed=False)
    books.do(change)
    made = runs.match(books.database, simple_spec(), "ann")
    assert made.outcomes.get("matched", 0) == 0
    assert plans.make(books.database, books.workspace, simple_spec(), "ann") is None
    assert books.ask("SELECT count(*) FROM recon.plans") == [(0,)]
    assert list(books.workspace.backfills.glob("*")) == []


def test_one_wrong_row_among_very_many_is_found(open_books: OpenBooks, scale: Scale) -> None:
    books = open_books(scale.verified)
    assert run(books.order(batch_rows=20_000)).result is not None
    assert verify.verify(books.database, books.workspace, books.plan).right
    key = scale.verified // 2 + 7
    for change, said in (
        (f"UPDATE pay SET lease_id = lease_id + 1 WHERE id = {key}", "the row holds another value"),
        (f"DELETE FROM pay WHERE id = {key}", "the row is gone"),
    ):
        books.do(change)
        found = verify.verify(books.database, books.workspace, books.plan)
        assert (found.checked, found.problems) == (scale.verified, 1)
        assert found.rows == [{"key": str(key), "problem": said}]


def idle(books: Books) -> psycopg.Connection[object]:
    """Somebody who reads one row and goes home."""
    connection = psycopg.connect(books.url.replace("+psycopg", ""), options="-c application_name=lunch")
    connection.execute("SELECT FROM pay WHERE id = 1")
    return connection


def test_it_pauses_behind_an_old_transaction_and_says_why(open_books: OpenBooks) -> None:
    books = open_books(600)
    with Client(books.order(stop=("after commit", 2), long_transaction_seconds=0.4)) as client:
        assert client.stopped()
        with idle(books):
            books.ask("SELECT pg_sleep(0.6)")
            client.go()
            said = client.noticed()
            assert said is not None
            assert said.startswith("lunch of ")
            assert "a transaction open on the table" in said
            done = books.ask("SELECT count(*) FROM recon.batches")
            assert done < [(6,)]
        while client.notices[-1] is not None:
            client.noticed()
        ended = client.ended().result
    assert ended is not None
    assert ended["pauses"] >= 1
    assert books.applied() == set()


def test_its_patience_ends_and_it_goes_on_another_time(open_books: OpenBooks) -> None:
    books = open_books(600)
    with idle(books):
        books.ask("SELECT pg_sleep(0.6)")
        ended = run(books.order(long_transaction_seconds=0.4, patience_seconds=0.5))
        assert ended.error == "Locked"
        assert "lunch of" in ended.said
        assert books.ask("SELECT count(*) FROM pay WHERE lease_id IS NOT NULL") == [(0,)]
    assert run(books.order(long_transaction_seconds=0.4)).result is not None
    assert books.applied() == set()


def test_a_row_that_stays_locked_stops_it_and_keeps_what_was_done(open_books: OpenBooks) -> None:
    books = open_books(600)
    with books.server.connect(books.name) as somebody:
        somebody.execute("UPDATE pay SET note = 'mine' WHERE id = 450")
        ended = run(books.order(lock_milliseconds=20, tries=4))
        assert (ended.error, books.state) == ("Locked", "apply_failed")
        assert books.ask("SELECT count(*) FROM pay WHERE lease_id IS NOT NULL") == [(400,)]
    assert run(books.order()).result is not None
    assert books.applied() == set()
    assert books.ask("SELECT note FROM pay WHERE id = 450") == [("mine",)]
