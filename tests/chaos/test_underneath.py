"""What changes underneath: rows, the table, recon's own rows. Never written, and listed, or refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.books import CHRONICLE, Books
from tests.chaos.client import Client, run

OpenBooks = Callable[..., Books]

# What a person does to a row, and what recon says of it then.
OF_ROWS = {
    "UPDATE pay SET code = 'z' WHERE id = {}": "target changed",
    "UPDATE pay SET lease_id = -7 WHERE id = {}": "target changed",
    "DELETE FROM pay WHERE id = {}": "target gone",
    "WITH gone AS (DELETE FROM pay WHERE id = {} RETURNING id) SELECT FROM gone": "target gone",
}


def drifting(books: Books, first: int) -> dict[int, str]:
    """Change, delete and re-create rows, from this key on; returns what is to be said of each."""
    changes = list(OF_ROWS.items())
    books.do(*(change.format(first + n) for n, (change, _) in enumerate(changes)))
    books.do(f"INSERT INTO pay (id, code) VALUES ({first + 3}, 'again')")
    said = {first + n: status for n, (_, status) in enumerate(changes)}
    return said | {first + 3: "target changed"}


def look(books: Books) -> list[tuple[object, ...]]:
    return books.ask("SELECT * FROM pay ORDER BY id")


def test_rows_that_changed_before_or_during_a_batch_are_left_alone_and_listed(open_books: OpenBooks) -> None:
    books = open_books(600, tolerance=100)
    said = drifting(books, 5)
    with Client(books.order(stop=("before update", 2))) as client:
        assert client.stopped()
        said |= drifting(books, 150)  # of the batch that is about to be written
        said |= drifting(books, 350)  # of one that comes later
        books.do(
            f"UPDATE lease SET code = 'renamed' WHERE id = {books.lease_of(360)}",
            f"DELETE FROM lease WHERE id = {books.lease_of(365)}",
        )
        for key in (210, 360, 510):  # the fourth of each lease was written before
            said |= {key: "source changed", key + 5: "source gone"}
        client.go()
        ended = client.ended().result
    assert ended is not None
    assert {int(row["key"]): row["status"] for row in ended["drifts"]} == said
    assert (ended["skipped"], ended["retries"]) == (18, 1)  # what changed after the batch's snapshot starts it anew
    assert books.applied(lambda key: key in said) == set(said)


def test_rows_that_changed_beyond_the_tolerance_stop_it(open_books: OpenBooks) -> None:
    books = open_books(600)
    with Client(books.order(stop=("before update", 2))) as client:
        assert client.stopped()
        drifting(books, 150)
        client.go()
        assert client.ended().error == "Stale"
    assert books.ask("SELECT first, last FROM recon.batches") == [(1, 100)]
    assert books.state == "apply_failed"
    before = look(books)
    refused = run(books.order())
    assert refused.error == "Stale"
    assert "150: " in refused.said
    assert look(books) == before
    assert run(books.order(what="revert")).result is not None
    books.reverted()


# A change of the table, and what takes it back.
OF_TABLES = {
    "index dropped": ("DROP INDEX pay_note", "CREATE INDEX pay_note ON pay (note)"),
    "trigger added": (
        "CREATE TRIGGER spy BEFORE UPDATE ON pay FOR EACH ROW EXECUTE FUNCTION spies()",
        "DROP TRIGGER spy ON pay",
    ),
    "column retyped": ("ALTER TABLE pay ALTER note TYPE varchar(99)", "ALTER TABLE pay ALTER note TYPE text"),
    "column added": ("ALTER TABLE pay ADD COLUMN more int DEFAULT 7", "ALTER TABLE pay DROP COLUMN more"),
    "trigger's function replaced": (
        CHRONICLE.replace("CREATE", "CREATE OR REPLACE", 1).replace("RETURN", "INSERT INTO spy VALUES (0); RETURN", 2)
        .replace("INSERT INTO spy VALUES (0); RETURNS", "RETURNS", 1).replace("INTO spy", "INTO public.spy"),
        CHRONICLE.replace("CREATE", "CREATE OR REPLACE", 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", OF_TABLES)
def test_a_table_that_is_altered_is_refused_and_nothing_of_that_batch_is_kept(
    open_books: OpenBooks, change: str
) -> None:
    books = open_books(900, tolerance=900)
    books.do(
        "CREATE FUNCTION spies() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO public.spy VALUES (new.id); RETURN new; END $$"
    )
    done, undone = OF_TABLES[change]

    books.do(done)
    assert run(books.order()).error == "Stale"
    assert books.ask("SELECT count(*) FROM recon.batches") == [(0,)]
    books.do(undone)

    for workers, seam in ((1, "before update"), (1, "after commit"), (2, "before update")):
        with Client(books.order(stop=(seam, 2), workers=workers, batch_rows=60)) as client:
            assert client.stopped()
            books.do(done)
            before = books.ask("SELECT count(*) FROM recon.batches")
            client.go()
            ended = client.ended()
            assert ended.error == "Stale", ended
            assert "altered" in ended.said
        if workers == 1:
            assert books.ask("SELECT count(*) FROM recon.batches") == before
        assert books.ask("SELECT count(*) FROM spy") == [(0,)]  # no row was written under the new rules
        assert run(books.order()).error == "Stale"  # and none is, until there is a new plan
        books.do(undone)
    assert run(books.order()).result is not None
    assert books.applied() == set()


@pytest.mark.parametrize("moment", ["before", "in mid-run", "in mid-batch", "in a second try", "after a kill"])
def test_staged_rows_that_were_edited_are_never_written(open_books: OpenBooks, moment: str) -> None:
    books = open_books(600)
    wrong = "UPDATE {} SET after_1 = 666 WHERE place BETWEEN 150 AND 160"
    if moment == "before":
        books.edit("staged", wrong)
        refused = run(books.order())
    elif moment == "after a kill":
        with Client(books.order(stop=("before commit", 2))) as client:
            assert client.stopped()
            client.kill()
        books.edit("staged", wrong)
        refused = books.finish()
    else:
        # In a second try a batch looks at its rows anew, each time it asks: not as of one moment.
        stop = {"in mid-run": ("after commit", 1), "in mid-batch": ("before update", 2)}.get(
            moment, ("before update", 3)
        )
        other = (
            ("before update", 2, "UPDATE pay SET note = note WHERE id = 155") if moment == "in a second try" else None
        )
        with Client(books.order(stop=stop, meanwhile=other)) as client:
            assert client.stopped()
            assert books.ask("SELECT first FROM recon.batches") == [(1,)]
            books.edit("staged", wrong)
            client.go()
            refused = client.ended()
    assert books.ask("SELECT count(*) FROM pay WHERE lease_id = 666") == [(0,)]
    if moment == "in mid-batch":  # the batch is of one moment, and that was before
        assert books.applied() == set()
    else:
        assert refused.error == "BundleChanged", refused


@pytest.mark.parametrize("statement", ["DELETE FROM {} WHERE place = 5", "DELETE FROM {} WHERE place > 100"])
def test_a_ledger_that_lost_rows_is_not_reverted_by(open_books: OpenBooks, statement: str) -> None:
    books = open_books(300)
    assert run(books.order()).result is not None
    books.edit("ledger", statement)
    before = look(books)
    assert run(books.order(what="revert")).error == "BundleChanged"
    assert look(books) == before
    assert books.state == "applied"


def test_what_a_person_edits_after_an_apply_stays_when_it_is_reverted(open_books: OpenBooks) -> None:
    books = open_books(600)
    assert run(books.order()).result is not None
    books.do("UPDATE pay SET lease_id = -9 WHERE id IN (7, 550)", "DELETE FROM pay WHERE id = 300")
    with Client(books.order(what="revert", stop=("before update", 2))) as client:
        assert client.stopped()
        books.do("UPDATE pay SET lease_id = NULL WHERE id = 120")  # in the batch that is about to be undone
        client.kill()
    ended = books.finish(what="revert").result
    assert ended is not None
    assert sorted(map(int, ended["rows"])) == [7, 120, 300, 550]
    assert (ended["conflicts"], ended["restored"], ended["state"]) == (4, 596, "reverted_with_conflicts")
    books.reverted(lambda key: key in (7, 120, 300, 550))
    assert books.ask("SELECT id FROM pay WHERE lease_id = -9 ORDER BY id") == [(7,), (550,)]
    assert run(books.order(what="revert")).error == "IllegalMove"
