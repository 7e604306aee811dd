"""Two at once: exactly one works, the other is refused in plain words, and the result is as if one had run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos.books import Books
from tests.chaos.client import Client, run
from tests.support import simple_spec

OpenBooks = Callable[..., Books]


@pytest.mark.parametrize("seam", ["before update", "before commit", "before move"])
def test_while_one_applies_nobody_else_applies_or_reverts(open_books: OpenBooks, seam: str) -> None:
    books = open_books(400)
    with Client(books.order(stop=(seam, 1), workers=2)) as first:
        assert first.stopped()
        assert run(books.order()).error == "Locked"
        assert run(books.order(what="revert")).error == "Locked"
        first.go()
        assert first.ended().result is not None
    assert books.applied() == set()
    again = run(books.order()).result
    assert again is not None
    assert (again["changed"], again["state"]) == (0, "applied")
    assert books.applied() == set()


@pytest.mark.parametrize("seam", ["before update", "before commit", "before move"])
def test_while_one_reverts_nobody_else_applies_or_reverts(open_books: OpenBooks, seam: str) -> None:
    books = open_books(400)
    assert run(books.order()).result is not None
    with Client(books.order(what="revert", stop=(seam, 1))) as first:
        assert first.stopped()
        assert run(books.order(what="revert")).error == "Locked"
        assert run(books.order()).error == "Locked"
        first.go()
        assert first.ended().result is not None
    books.reverted()
    assert run(books.order()).error == "IllegalMove"
    assert run(books.order(what="revert")).error == "IllegalMove"
    books.reverted()


def test_of_two_plans_on_one_table_the_second_waits_for_the_first(open_books: OpenBooks) -> None:
    books = open_books(400)
    other = books.sign(simple_spec(name="others", link={"column": "other_id"}))
    with Client(books.order(stop=("after ledger", 2))) as first:
        assert first.stopped()
        refused = run(books.order(plan=other))
        assert refused.error == "Locked"
        assert books.ask("SELECT count(*) FROM pay WHERE other_id IS NOT NULL") == [(0,)]
        first.go()
        assert first.ended().result is not None
    assert run(books.order(plan=other)).result is not None
    assert books.applied() == set()
    assert books.ask("SELECT count(*) FROM pay WHERE other_id = lease_id") == [(books.rows,)]


def test_of_many_that_start_together_the_rows_are_written_once(open_books: OpenBooks) -> None:
    books = open_books(600)
    for what in ("apply", "revert"):
        orders = [books.order(what=what, workers=1 + n % 2) for n in range(4)]
        with ThreadPoolExecutor(len(orders)) as pool:
            ended = list(pool.map(run, orders))
        worked = [one.result for one in ended if one.result is not None and one.result.get("changed") != 0]
        assert len(worked) == 1, ended
        assert {one.error for one in ended if one.result is None} <= {"Locked", "IllegalMove"}
        if what == "apply":
            assert books.applied() == set()
    books.reverted()


def test_killed_in_mid_apply_it_may_be_undone_instead_of_resumed(open_books: OpenBooks) -> None:
    books = open_books(600)
    with Client(books.order(stop=("before commit", 3))) as client:
        assert client.stopped()
        client.kill()
    ((written,),) = books.ask("SELECT count(*) FROM pay WHERE lease_id IS NOT NULL")
    assert 0 < written < 600  # two batches; on a slow machine they are smaller
    ended = books.finish(what="revert")
    assert ended.result is not None, ended
    assert ended.result["restored"] == written
    books.reverted()
    assert run(books.order()).error == "IllegalMove"
