"""People write the same rows all the while: nothing of theirs is overwritten, whatever else breaks."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import psycopg

from tests.chaos.books import Books
from tests.chaos.client import Client, Ended, eventually
from tests.chaos.faults import OF_CLIENTS, OF_SERVERS, answer_lost, hit
from tests.chaos.people import People
from tests.chaos.scale import BATCH_SEAMS, Scale

LOCK_MILLISECONDS = 250
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'recon%'"
LEAST_WRITES = 150  # of people, in the short form; the long form makes thousands


def one_fault(books: Books, chance: random.Random, what: str) -> Ended | None:
    """Any fault at any seam; what the client said where it ended before."""
    order = books.order(
        what=what, stop=(chance.choice(BATCH_SEAMS), chance.randint(1, 4)), workers=chance.choice([1, 2]), batch_rows=60
    )
    kind = chance.random()
    if kind < 0.2:
        answer_lost(
            books,
            lambda url: books.order(what=what, url=url, batch_rows=60),
            chance.randint(1, 3),
            delivered=chance.random() < 0.7,
        )
        return None
    return hit(books, order, chance.choice(OF_SERVERS if kind < 0.35 else OF_CLIENTS))


def test_among_people_and_faults_every_write_survives(
    open_books: Callable[..., Books], scale: Scale, counts: Counter[str]
) -> None:
    chance = random.Random(20261121)
    writes = count = 0
    for _ in range(scale.rounds):
        books = open_books(scale.rows, tolerance=scale.rows)
        with People(books, scale.people, chance) as people:
            for _ in range(scale.faults):
                count += one_fault(books, chance, "apply") is None
            ended = books.finish(batch_rows=60)
            assert ended.result is not None, ended
            counts["batches tried again"] += ended.result["retries"]
        books.applied(people.touched())
        people.kept()
        writes += people.writes

        with People(books, scale.people, chance) as others:
            for _ in range(scale.faults // 2):
                count += one_fault(books, chance, "revert") is None
            ended = books.finish(what="revert", batch_rows=60)
            assert ended.result is not None, ended
        books.reverted(lambda key: people.touched()(key) or others.touched()(key))
        others.kept()
        writes += others.writes
    assert count >= scale.rounds * scale.faults // 2
    assert writes >= LEAST_WRITES * scale.rounds
    counts["faults"] += count
    counts["writes of people meanwhile"] += writes


def test_batches_that_meet_others_are_tried_again(
    open_books: Callable[..., Books], scale: Scale, counts: Counter[str]
) -> None:
    books = open_books(scale.rows, tolerance=scale.rows)
    with (
        People(books, scale.people + 1, random.Random(3)) as people,
        psycopg.connect(books.url.replace("+psycopg", "")) as somebody,
    ):
        # However slow the machine is: one row is held until a batch has waited for it in vain.
        somebody.execute("SELECT FROM pay WHERE id = (SELECT max(id) FROM pay) FOR UPDATE")
        with Client(books.order(workers=2, batch_rows=60, lock_milliseconds=LOCK_MILLISECONDS)) as client:
            assert eventually(lambda: books.ask(WAITS)[0][0] > 0)
            time.sleep(3 * LOCK_MILLISECONDS / 1000)
            somebody.rollback()
            ended = client.ended()
    if ended.result is None:  # somebody held a row for too long; what was committed is kept
        assert ended.error == "Locked"
        ended = books.finish()
    assert ended.result is not None
    assert ended.result["retries"] > 0
    counts["batches tried again"] += ended.result["retries"]
    assert len(ended.result["drifts"]) > 0  # rows left alone are named
    assert ended.result["skipped"] == len(books.applied(people.touched()))
    people.kept()
