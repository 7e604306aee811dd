"""Updates, inserts and ends of orphans, broken off at every seam: each is done once, undone once, and nothing else is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from recon.spec import Reconciliation
from tests.chaos.books import Books
from tests.chaos.faults import OF_CLIENTS, hit
from tests.chaos.scale import BATCH_SEAMS

OpenBooks = Callable[..., Books]

EACH = 300  # records of each kind: the same, changed, orphaned, missing
# The key of a stay is the server's: an inserted one has it in the ledger only.
SCHEMA = (
    "CREATE TABLE stay (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), ref int UNIQUE NOT NULL, place int, status text, why text)",
    "CREATE TABLE feed (ref int PRIMARY KEY, place int, status text)",
    f"INSERT INTO stay (ref, place, status) SELECT n, n, 'confirmed' FROM generate_series(1, {3 * EACH}) AS n",
    f"INSERT INTO feed SELECT n, n + CASE WHEN n > {EACH} THEN 1 ELSE 0 END, 'confirmed' FROM generate_series(1, {2 * EACH}) AS n",
    f"INSERT INTO feed SELECT n, n, 'pending' FROM generate_series({3 * EACH + 1}, {4 * EACH}) AS n",
)
STAYS = Reconciliation.model_validate(
    {
        "name": "stays",
        "target": {"table": "stay", "key": "id"},
        "source": {"table": "feed", "key": "ref"},
        "cardinality": "one_to_one",
        "passes": [{"name": "identity", "on": ["ref"]}],
        "compare": {"place": "place", "status": "status"},
        "backfill": {
            "missing": {"insert": {}},
            "changed": {"update": "all"},
            "orphan": {"set": {"status": "'cancelled'", "why": "'not in the feed'"}, "cap": {"share": 0.9, "rows": 1}},
        },
    }
)
RECORDS = "SELECT ref, place, status, why FROM stay ORDER BY ref"


def expected() -> list[tuple[int, int, str, str | None]]:
    """What must stand there afterwards, counted by hand."""
    same = [(n, n, "confirmed", None) for n in range(1, EACH + 1)]
    changed = [(n, n + 1, "confirmed", None) for n in range(EACH + 1, 2 * EACH + 1)]
    orphaned = [(n, n, "cancelled", "not in the feed") for n in range(2 * EACH + 1, 3 * EACH + 1)]
    missing = [(n, n, "pending", None) for n in range(3 * EACH + 1, 4 * EACH + 1)]
    return [*same, *changed, *orphaned, *missing]


def broken_off(books: Books, what: str) -> int:
    count = 0
    for seam in BATCH_SEAMS:
        for fault in OF_CLIENTS:
            order = books.order(what=what, stop=(seam, 2), workers=1 + count % 2, batch_rows=30)
            while hit(books, order, fault) is not None:
                pass
            count += 1
    return count


def test_all_actions_survive_being_broken_off_and_a_revert_gives_back_what_was_there(
    open_books: OpenBooks, counts: Counter[str]
) -> None:
    books = open_books(3 * EACH, signed=False)
    books.do(*SCHEMA)
    before = books.ask("SELECT * FROM stay ORDER BY ref")
    books.plan = books.sign(STAYS)
    counts["faults"] += broken_off(books, "apply")
    ended = books.finish()
    assert ended.result is not None, ended
    assert books.ask(RECORDS) == expected()
    ledger = (
        f'SELECT action, count(*), count(DISTINCT target_key) FROM recon."ledger_{books.plan}" GROUP BY 1 ORDER BY 1'
    )
    assert books.ask(ledger) == [("insert", EACH, EACH), ("set", EACH, EACH), ("update", EACH, EACH)]
    assert books.ask("SELECT sum(changed), sum(last - first + 1) FROM recon.batches") == [(3 * EACH, 3 * EACH)]

    books.do("UPDATE stay SET why = 'a guest called' WHERE ref IN (301, 601, 901)")  # one row of each action
    counts["faults"] += broken_off(books, "revert")
    ended = books.finish(what="revert")
    assert ended.result is not None, ended
    # The update did not write `why`: what a person noted there is no reason to keep what was written beside it.
    assert (ended.result["restored"], ended.result["conflicts"]) == (3 * EACH - 2, 2)
    kept = books.ask("SELECT ref, place, status, why FROM stay WHERE why = 'a guest called' ORDER BY ref")
    assert kept == [
        (301, 301, "confirmed", "a guest called"),
        (601, 601, "cancelled", "a guest called"),
        (901, 901, "pending", "a guest called"),
    ]
    others = "SELECT * FROM stay WHERE ref NOT IN (301, 601, 901) ORDER BY ref"
    assert books.ask(others) == [row for row in before if row[1] not in (301, 601)]
