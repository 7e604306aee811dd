"""Records of an outside system are put into their table all or nothing, and none is ever deleted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from recon.database.connect import Database
from recon.errors import DatabaseFailed, LoadFailed, OutsideFailed, SchemaMismatch, UsageError
from recon.outside.interface import open_feed
from recon.sources import feeds
from recon.sources.feeds import Loaded
from recon.spec_parts import RecordSet
from recon.stand_ins.faults import Fault
from recon.stand_ins.housecallpro import HousecallPro
from recon.stand_ins.server import served
from tests.support import ROOT, execute, rows

pytestmark = pytest.mark.one_engine

SECRET = "hcp-secret-8d1f"
JOBS = RecordSet.model_validate({"api": "housecallpro", "into": "hcp_jobs", "key": "id", "date": "scheduled_start"})
HCP_JOBS = (
    "CREATE TABLE hcp_jobs (id text PRIMARY KEY, customer_id text, address_id text, scheduled_start timestamptz,"
    " scheduled_end timestamptz, work_status text, description text, updated_at timestamptz{more})"
)


class Given:
    """A feed of these pages; an error among them is raised where it stands."""

    place = "here"
    columns: Mapping[str, str] = {"org": "integer", "id": "text", "amount": "numeric(12,2)", "At": "timestamptz"}

    def __init__(self, *pages: Sequence[Mapping[str, Any]] | Exception) -> None:
        self._pages = pages
        self.asked = 0

    def pages(self, from_day: date | None, to_day: date | None) -> Iterator[Sequence[Mapping[str, Any]]]:
        self.asked += 1
        for page in self._pages:
            if isinstance(page, Exception):
                raise page
            yield page

    def close(self) -> None:
        """Nothing is open."""


def _set(**fields: Any) -> RecordSet:
    return RecordSet.model_validate({"api": "given", "into": "feeds.Odd Name", "key": ["org", "id"]} | fields)


def _load(database: Database, record_set: RecordSet, feed: Any, *days: date | None) -> Loaded:
    return feeds.load(database, record_set, feed, *(days or (None, None)), lambda done, total: None)


def _record(number: int, **fields: Any) -> dict[str, Any]:
    return {"org": 1, "id": f"r{number}", "amount": Decimal("1.50"), "At": datetime(2025, 3, 1, tzinfo=UTC)} | fields


def _kept(database: Database) -> list[tuple[Any, ...]]:
    return rows(database, 'SELECT org, id, amount, "At" FROM feeds."Odd Name" ORDER BY org, id')


def test_the_table_and_its_schema_are_made_where_they_are_absent(database: Database) -> None:
    loaded = _load(database, _set(), Given([_record(1), _record(2)], [_record(3)]))

    assert loaded == Loaded("feeds.Odd Name", "here", 3, 3, 0, 0, 0, created=True)
    assert [row[1] for row in _kept(database)] == ["r1", "r2", "r3"]
    types = rows(
        database,
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
        """ WHERE attrelid = 'feeds."Odd Name"'::regclass AND attnum > 0 ORDER BY attnum""",
    )
    assert types == [
        ("org", "integer"),
        ("id", "text"),
        ("amount", "numeric(12,2)"),
        ("At", "timestamp with time zone"),
    ]
    with pytest.raises(DatabaseFailed):  # the key is one
        execute(database, """INSERT INTO feeds."Odd Name" (org, id) VALUES (1, 'r1')""")


def test_loading_again_changes_nothing_and_touches_nothing(database: Database) -> None:
    feed = Given([_record(1), _record(2, amount=None)])
    _load(database, _set(), feed)
    versions = rows(database, 'SELECT id, xmin::text, xmax::text FROM feeds."Odd Name" ORDER BY id')

    loaded = _load(database, _set(), feed)

    assert (loaded.fetched, loaded.inserted, loaded.changed, loaded.unchanged, loaded.created) == (2, 0, 0, 2, False)
    assert rows(database, 'SELECT id, xmin::text, xmax::text FROM feeds."Odd Name" ORDER BY id') == versions


def test_what_differs_is_changed_and_what_was_not_fetched_stays(database: Database) -> None:
    _load(database, _set(), Given([_record(number) for number in range(4)]))
    execute(database, "ALTER TABLE feeds.\"Odd Name\" ADD COLUMN note text DEFAULT 'mine'")
    execute(database, "UPDATE feeds.\"Odd Name\" SET note = 'seen' WHERE id = 'r1'")

    later = datetime(2026, 1, 1, tzinfo=UTC)
    loaded = _load(database, _set(), Given([_record(1, amount=None), _record(2, At=later), _record(3), _record(9)]))

    assert (loaded.fetched, loaded.inserted, loaded.changed, loaded.unchanged) == (4, 1, 2, 1)
    march = datetime(2025, 3, 1, tzinfo=UTC)
    assert _kept(database) == [
        (1, "r0", Decimal("1.50"), march),
        (1, "r1", None, march),
        (1, "r2", Decimal("1.50"), later),
        (1, "r3", Decimal("1.50"), march),
        (1, "r9", Decimal("1.50"), march),
    ]
    notes = dict(rows(database, 'SELECT id, note FROM feeds."Odd Name"'))
    assert notes == {"r0": "mine", "r1": "seen", "r2": "mine", "r3": "mine", "r9": "mine"}


def test_of_a_record_that_comes_twice_the_last_counts(database: Database) -> None:
    twice = Given([_record(1, amount=1), _record(2)], [_record(1, amount=2), _record(1, amount=3)])

    loaded = _load(database, _set(), twice)

    assert (loaded.fetched, loaded.inserted, loaded.changed) == (2, 2, 0)
    assert [row[2] for row in _kept(database)] == [Decimal(3), Decimal("1.50")]


def test_records_without_a_key_are_counted_and_left_out(database: Database) -> None:
    loaded = _load(database, _set(), Given([_record(1), _record(2, id=None), {"amount": 3}]))

    assert (loaded.fetched, loaded.without_key) == (1, 2)
    assert [row[1] for row in _kept(database)] == ["r1"]


def test_no_record_makes_an_empty_table(database: Database) -> None:
    assert _load(database, _set(), Given()) == Loaded("feeds.Odd Name", "here", 0, 0, 0, 0, 0, created=True)
    assert _kept(database) == []


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (OutsideFailed("The second page cannot be had."), OutsideFailed, "second page"),
        ([_record(2, id="a\x00b")], LoadFailed, "1, 'a\\\\x00b'.*\"id\" holds a NUL"),
        ([_record(2, At=datetime(2025, 3, 1))], LoadFailed, "1, 'r2'.*\"At\" has no time zone"),  # noqa: DTZ001
        ([_record(2, amount=Decimal("99999999999999"))], DatabaseFailed, "numeric field overflow"),
    ],
    ids=["the outside fails", "a NUL", "a time without zone", "a number that is too large"],
)
def test_a_load_that_fails_leaves_nothing(database: Database, wrong: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        _load(database, _set(), Given([_record(1)], wrong))

    assert re.search(says, str(caught.value))
    assert rows(database, "SELECT to_regnamespace('feeds')") == [(None,)]
    _load(database, _set(), Given([_record(1)]))
    with pytest.raises(error):
        _load(database, _set(), Given([_record(1, amount=7), _record(5)], wrong))
    assert [row[1:3] for row in _kept(database)] == [("r1", Decimal("1.50"))]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("(org integer, id text, amount numeric(12,2), PRIMARY KEY (org, id))", 'there is no column "At"'),
        (
            '(org integer, id text, amount numeric(8,2), "At" timestamptz, PRIMARY KEY (org, id))',
            '"amount" is numeric(8,2) there and numeric(12,2) in the records',
        ),
        (
            '(org integer, id text, amount numeric(12,2), "At" timestamp, PRIMARY KEY (org, id))',
            '"At" is timestamp without time zone there',
        ),
        (
            '(org integer, id text, amount numeric(12,2), "At" timestamptz)',
            "no unique index stands on the key (org, id)",
        ),
        (
            '(org integer, id text, amount numeric(12,2), "At" timestamptz, due date NOT NULL, PRIMARY KEY (org, id))',
            '"due" must be filled',
        ),
        (
            '(org integer GENERATED ALWAYS AS IDENTITY, id text, amount numeric(12,2), "At" timestamptz,'
            " PRIMARY KEY (org, id))",
            '"org" is filled by PostgreSQL alone',
        ),
    ],
)
def test_a_table_that_cannot_take_the_records_is_refused_before_anything_is_fetched(
    database: Database, table: str, says: str
) -> None:
    execute(database, "CREATE SCHEMA feeds", f'CREATE TABLE feeds."Odd Name" {table}')
    feed = Given([_record(1)])

    with pytest.raises(SchemaMismatch) as caught:
        _load(database, _set(), feed)

    assert says in caught.value.why
    assert caught.value.todo
    assert feed.asked == 0


def test_a_key_that_the_records_do_not_have_is_refused_before_anything_is_fetched(database: Database) -> None:
    feed = Given([_record(1)])

    with pytest.raises(SchemaMismatch, match="ident") as caught:
        _load(database, _set(key="ident"), feed)

    assert "id" in caught.value.why
    assert feed.asked == 0


def test_days_the_wrong_way_round_are_refused(database: Database) -> None:
    with pytest.raises(UsageError, match="later than"):
        _load(database, _set(), Given(), date(2025, 7, 1), date(2025, 6, 30))


def test_no_transaction_is_open_while_the_outside_is_asked(database: Database) -> None:
    seen: list[Any] = []

    class Asking(Given):
        def pages(self, from_day: date | None, to_day: date | None) -> Iterator[Sequence[Mapping[str, Any]]]:
            for number in range(2):
                seen.extend(rows(database, "SELECT state FROM pg_stat_activity WHERE application_name = 'recon'"
                                 " AND pid <> pg_backend_pid() AND datname = current_database()"))  # fmt: skip
                yield [_record(number)]

    _load(database, _set(), Asking())

    assert seen == [("idle",), ("idle",)]


def test_a_load_that_is_killed_leaves_nothing(database: Database) -> None:
    """HCP-04: a load ends whole or not at all: killed between two pages, not even its table is there."""
    program = textwrap.dedent(
        """
        import os, sys, time
        from recon.database.connect import Database
        from recon.sources import feeds
        from recon.spec_parts import RecordSet

        class Slow:
            place = "here"
            columns = {"id": "text"}
            def pages(self, from_day, to_day):
                yield [{"id": "r1"}]
                print("fetched", flush=True)
                time.sleep(60)

        record_set = RecordSet.model_validate({"api": "slow", "into": "feeds.slow", "key": "id"})
        feeds.load(Database(os.environ["URL"]), record_set, Slow(), None, None, lambda done, total: None)
        """
    )
    environment = os.environ | {"URL": database.url, "PYTHONPATH": str(ROOT)}
    loading = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment)
    assert loading.stdout is not None
    assert loading.stdout.readline() == b"fetched\n"

    loading.send_signal(signal.SIGKILL)
    loading.wait()
    loading.stdout.close()

    assert rows(database, "SELECT to_regnamespace('feeds')") == [(None,)]


def test_jobs_of_a_range_of_days_are_loaded_from_housecallpro(database: Database) -> None:
    """HCP-04: jobs within a date range: fetched from HousecallPro into hcp_jobs, and kept up to date."""
    starts = ("2025-06-29T23:59:59Z", "2025-06-30T00:00:00Z", "2025-06-30T23:59:59Z", "2025-07-01T00:00:00Z")
    account = HousecallPro(
        [
            {
                "id": f"job_{number}",
                "customer": {"id": "cus_1"},
                "schedule": {"scheduled_start": start},
                "work_status": "scheduled",
            }
            for number, start in enumerate(starts)
        ],
        token=SECRET,
    )
    execute(database, HCP_JOBS.format(more=", note text"))
    with served(account.app) as address:
        feed = open_feed("housecallpro", {"RECON_HOUSECALLPRO_TOKEN": SECRET, "RECON_HOUSECALLPRO_URL": address})
        last_of_june = (date(2025, 6, 30), date(2025, 6, 30))

        first = _load(database, JOBS, feed, *last_of_june)
        account.jobs[1]["work_status"] = "completed"
        account.jobs.append({"schedule": {"scheduled_start": starts[1]}})
        second = _load(database, JOBS, feed, *last_of_june)
        account.jobs.pop(2)  # the job at 23:59:59 is gone: what is not fetched is not deleted
        account.faults.add(Fault(status=404, body="not there"))
        with pytest.raises(OutsideFailed, match="404"):
            _load(database, JOBS, feed, *last_of_june)
        third = _load(database, JOBS, feed)
        feed.close()

    assert (first.table, first.fetched, first.inserted, first.created) == ("hcp_jobs", 2, 2, False)
    assert (second.inserted, second.changed, second.unchanged, second.without_key) == (0, 1, 1, 1)
    assert (third.fetched, third.inserted, third.changed) == (3, 2, 0)
    kept = rows(database, "SELECT id, customer_id, address_id, scheduled_start, work_status FROM hcp_jobs ORDER BY id")
    assert kept == [
        (f"job_{n}", "cus_1", None, datetime.fromisoformat(start), "completed" if n == 1 else "scheduled")
        for n, start in enumerate(starts)
    ]
