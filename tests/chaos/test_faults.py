"""Killed at any moment, an apply resumes and a revert too: ledger, changes and plan agree, and nothing is done twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.chaos.books import Books
from tests.chaos.client import Client, eventually, run
from tests.chaos.faults import OF_CLIENTS, OF_SERVERS, answer_lost, hit
from tests.chaos.scale import SEAMS, Scale

OpenBooks = Callable[..., Books]
# What a client may say that is in a dead one's way, or whose line or server broke.
IN_TROUBLE = {"", "Locked", "DatabaseUnreachable", "DatabaseFailed", "OperationalError"}

AT_WORK = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'recon'"
    " AND xact_start IS NOT NULL"
)


def broken_off_at_every_seam(books: Books, what: str, scale: Scale) -> int:
    """One client after the other, each with one fault at one seam; returns how many faults there were."""
    count = 0
    for seam in SEAMS:
        if seam == SEAMS[-1]:  # all but the last move is done after these
            for commit, delivered in ((1, True), (2, False), (2, True)):
                while not answer_lost(
                    books, lambda url: books.order(what=what, url=url, batch_rows=50), commit, delivered=delivered
                ):
                    pass
                count += 1
        for fault in (*OF_CLIENTS, *(OF_SERVERS if seam in scale.server_seams else ())):
            stop = (seam, 1 if seam == SEAMS[-1] else 2)
            order = books.order(what=what, stop=stop, workers=1 + count % 2, batch_rows=50)
            while (ended := hit(books, order, fault)) is not None:
                assert ended.error == "Locked", ended
            count += 1
    return count


def test_a_plan_that_is_broken_off_at_every_seam_is_applied_once_and_reverted_once(
    open_books: OpenBooks, scale: Scale, counts: Counter[str]
) -> None:
    books = open_books(scale.rows)
    counts["faults"] += (count := broken_off_at_every_seam(books, "apply", scale))
    assert count >= 20
    ended = books.finish()
    assert ended.result is not None, ended
    assert books.applied() == set()
    assert run(books.order()).result["changed"] == 0  # pyright: ignore

    counts["faults"] += (count := broken_off_at_every_seam(books, "revert", scale))
    assert count >= 20
    ended = books.finish(what="revert")
    assert ended.result is not None, ended
    assert (ended.result["restored"], ended.result["conflicts"]) == (books.rows, 0)
    books.reverted()
    assert run(books.order(what="revert")).error == "IllegalMove"
    assert run(books.order()).error == "IllegalMove"
    books.reverted()


@pytest.mark.parametrize("seam", ["before update", "after ledger", "before commit"])
def test_a_client_that_stands_still_loses_its_locks_and_its_batch(open_books: OpenBooks, seam: str) -> None:
    books = open_books(600)
    with Client(books.order(stop=(seam, 2), idle_milliseconds=500)) as client:
        assert client.stopped()
        client.freeze()
        assert eventually(lambda: books.ask(AT_WORK) == [(0,)])
        books.do("UPDATE pay SET note = 'mine'")  # every row of its batch is free again
        assert books.ask("SELECT count(*) FROM recon.batches") == [(1,)]
        client.thaw()
        client.go()
        assert client.ended().error == "DatabaseUnreachable"
    assert books.finish().result is not None
    assert books.applied() == set()
    assert books.ask("SELECT count(*) FROM pay WHERE note = 'mine'") == [(600,)]


@pytest.mark.parametrize("seam", ["before update", "before commit"])
def test_a_second_worker_whose_first_is_gone_does_not_meet_the_next_apply(open_books: OpenBooks, seam: str) -> None:
    books = open_books(1_000, tolerance=1_000)
    with Client(books.order(stop=(seam, 2), worker=1, workers=2)) as client:
        assert client.stopped(), client.ended()
        assert eventually(lambda: len(books.ask("SELECT FROM recon.batches WHERE first <= 500")) >= 5)
        (holder,) = books.backends()[:1]
        books.ask("SELECT pg_terminate_backend(%s)", holder)
        assert eventually(lambda: holder not in books.backends())
        second = run(books.order())
        assert second.error == "Locked", second  # the batch of the second is open still
        client.go()
        assert client.ended().error in IN_TROUBLE
    assert books.finish().result is not None
    assert books.applied() == set()


def test_a_session_that_is_ended_at_any_moment_loses_no_batch_and_doubles_none(
    open_books: OpenBooks, scale: Scale, counts: Counter[str]
) -> None:
    chance = random.Random(7)
    books = open_books(scale.rows)
    for _ in range(scale.faults):
        with Client(books.order(workers=chance.choice([1, 2]), batch_rows=60)) as client:
            time.sleep(chance.uniform(0.1, 0.5))
            pids = books.backends()
            if pids and chance.random() < 0.5:
                books.ask("SELECT pg_terminate_backend(%s)", chance.choice(pids))
                assert client.ended().error in IN_TROUBLE
            else:
                client.kill()
    counts["faults"] += scale.faults
    done = books.finish()
    assert done.result is not None, done
    assert books.applied() == set()
