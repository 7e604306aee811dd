"""Jobs are fetched from HousecallPro whole or not at all, whatever the other side does: a stand-in over real HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest

from recon.errors import OutsideDenied, OutsideFailed, UsageError
from recon.outside.client import Client
from recon.outside.interface import open_feed
from recon.stand_ins.faults import Fault
from recon.stand_ins.housecallpro import TOKEN, HousecallPro
from recon.stand_ins.rate import Rate
from recon.stand_ins.server import served
from recon.systems.hcp_jobs.housecallpro import Jobs, row

SECRET = "hcp-secret-8d1f"
DAY = (date(2025, 6, 30), date(2025, 6, 30))


def _job(number: int, start: str | None = "2025-06-30T12:00:00Z") -> dict[str, Any]:
    return {
        "id": f"job_{number}",
        "customer": {"id": f"cus_{number}", "first_name": "Ann"},
        "address": {"id": f"adr_{number}"},
        "schedule": {"scheduled_start": start, "scheduled_end": start, "appointments": []},
        "work_status": "scheduled",
        "description": "Cleaning",
        "updated_at": "2025-06-01T08:00:00Z",
    }


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[HousecallPro, str]]:
    account = HousecallPro([], token=SECRET)
    with served(account.app) as address:
        yield account, address


@pytest.fixture
def account(server: tuple[HousecallPro, str]) -> HousecallPro:
    """An account with seven jobs, which behaves."""
    account = server[0]
    account.jobs = [_job(number) for number in range(7)]
    account.rate = account.before_page = None
    account.asked.clear()
    account.faults.waiting.clear()
    account.faults.requests.clear()
    return account


def _client(address: str, token: str = SECRET, **options: Any) -> Client:
    usual: dict[str, Any] = {"per_second": 10_000, "first_pause": 0.001, "longest_pause": 0.002}
    return Client(
        "HousecallPro",
        address,
        headers={"Authorization": f"Token {token}"},
        secrets=[token],
        setting="RECON_HOUSECALLPRO_TOKEN",
        **usual | options,
    )


@pytest.fixture
def jobs(server: tuple[HousecallPro, str]) -> Iterator[Jobs]:
    feed = Jobs(_client(server[1]), page_size=3)
    yield feed
    feed.close()


def _ids(feed: Jobs, *days: date | None) -> list[str | None]:
    return [record["id"] for page in feed.pages(*(days or (None, None))) for record in page]


def test_all_pages_are_read_and_each_job_has_the_columns_of_its_table(account: HousecallPro, jobs: Jobs) -> None:
    """HCP-04: jobs within a date range, page by page."""
    pages = list(jobs.pages(None, None))

    assert [len(page) for page in pages] == [3, 3, 1]
    assert pages[0][0] == {
        "id": "job_0",
        "customer_id": "cus_0",
        "address_id": "adr_0",
        "scheduled_start": datetime(2025, 6, 30, 12, tzinfo=UTC),
        "scheduled_end": datetime(2025, 6, 30, 12, tzinfo=UTC),
        "work_status": "scheduled",
        "description": "Cleaning",
        "updated_at": datetime(2025, 6, 1, 8, tzinfo=UTC),
    }
    assert list(pages[0][0]) == list(jobs.columns)


def test_days_are_whole_days_in_utc_with_both_their_ends(account: HousecallPro, jobs: Jobs) -> None:
    """HCP-04: a job at 23:59:59 of the last day is in, one at midnight after it is not, whatever zone it is written in."""
    starts = {
        1: "2025-06-29T23:59:59Z",
        2: "2025-06-30T00:00:00Z",
        3: "2025-06-30T23:59:59Z",
        4: "2025-07-01T00:00:00Z",
        5: "2025-06-30T20:30:00-05:00",  # is 1 July in UTC
        6: "2025-06-29T20:30:00-05:00",  # is 30 June
        7: None,
    }
    account.jobs = [_job(number, start) for number, start in starts.items()]

    assert _ids(jobs, *DAY) == ["job_2", "job_3", "job_6"]
    assert _ids(jobs, date(2025, 7, 1), None) == ["job_4", "job_5"]
    assert _ids(jobs, None, date(2025, 6, 29)) == ["job_1"]
    assert len(_ids(jobs)) == 7


def test_no_job_is_an_answer(account: HousecallPro, jobs: Jobs) -> None:
    account.jobs = []

    assert _ids(jobs) == []


def test_a_job_that_lacks_everything_but_its_id_has_nulls(account: HousecallPro, jobs: Jobs) -> None:
    account.jobs = [{"id": "job_1"}, {"id": "job_2", "customer": None, "schedule": {"scheduled_start": None}}]

    assert [set(record.values()) for record in next(jobs.pages(None, None))] == [{"job_1", None}, {"job_2", None}]


def test_a_job_without_an_id_is_given_without_one_and_counted_once(account: HousecallPro, jobs: Jobs) -> None:
    account.jobs[2:2] = [_job(9) | {"id": None}, _job(9) | {"id": ""}]

    assert _ids(jobs).count(None) == 2
    assert len(account.asked) == 3  # the list is complete: nothing is read twice for it


@pytest.mark.parametrize(
    ("job", "says"),
    [
        ({"id": "job_5", "schedule": {"scheduled_start": "2025-06-30T12:00:00"}}, "scheduled_start has no time zone"),
        (
            {"id": "job_5", "schedule": {"scheduled_end": "0001-01-01T00:00:00+05:00"}},
            "scheduled_end is beyond the calendar",
        ),
        ({"id": "job_5", "schedule": {"scheduled_end": "soon"}}, "scheduled_end is no time"),
        ({"id": "job_5", "updated_at": 1750000000}, "updated_at is no time"),
        ({"id": "job_5", "customer": "cus_1"}, "customer is no object"),
        ({"id": "job_5", "description": ["a"]}, "description is no text"),
    ],
)
def test_a_job_that_cannot_be_read_is_named(job: dict[str, Any], says: str) -> None:
    with pytest.raises(OutsideFailed) as caught:
        row(job)

    assert "job_5" in caught.value.what
    assert says in caught.value.why
    assert caught.value.todo


def test_a_time_without_zone_stops_the_whole_fetch(account: HousecallPro, jobs: Jobs) -> None:
    account.jobs[5] = _job(5, "2025-06-30T12:00:00")

    with pytest.raises(OutsideFailed, match="job_5"):
        _ids(jobs)


def test_a_new_job_in_the_middle_comes_last_and_nothing_is_read_twice(account: HousecallPro, jobs: Jobs) -> None:
    account.before_page = lambda page: account.jobs.append(_job(100 + page)) if page == 2 else None

    assert _ids(jobs) == [f"job_{number}" for number in (*range(7), 102)]
    assert len(account.asked) == 3


def test_a_job_that_moves_others_to_the_next_page_is_given_once(account: HousecallPro, jobs: Jobs) -> None:
    """A job that enters the range among the first moves the last one of a page to the next: it comes twice."""
    account.before_page = lambda page: (
        account.jobs.insert(0, _job(50)) if page == 2 and len(account.jobs) == 7 else None
    )

    assert sorted(_ids(jobs)) == sorted(["job_50", *(f"job_{number}" for number in range(7))])
    assert len(account.asked) == 6  # the new one stood on a page that was read already


def test_a_list_that_shrinks_while_it_is_paged_is_read_once_more(account: HousecallPro, jobs: Jobs) -> None:
    """Without job_0, job_3 moves to the page that was read already: only another reading finds it."""
    account.before_page = lambda page: account.jobs.pop(0) if page == 2 and len(account.jobs) == 7 else None

    assert sorted(_ids(jobs)) == [f"job_{number}" for number in range(7)]  # job_0 was there when it was read


def test_a_list_that_shrinks_again_and_again_is_no_list(account: HousecallPro, jobs: Jobs) -> None:
    account.before_page = lambda page: account.jobs.pop(0) if page == 2 else None

    with pytest.raises(OutsideFailed, match="changes faster") as caught:
        _ids(jobs)

    assert "may be missing" in caught.value.why
    assert "--from" in caught.value.todo


def test_an_empty_page_before_the_last_is_no_end(account: HousecallPro, jobs: Jobs) -> None:
    def empty(page: int) -> None:
        if page == 3 and len(account.jobs) == 7:
            account.jobs = account.jobs[:4]

    account.before_page = empty

    assert sorted(_ids(jobs)) == [f"job_{number}" for number in range(6)]
    assert len(account.asked) == 5  # three pages, and the two that are left


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500, body="oops"),
        Fault(status=503, body="later"),
        Fault(status=429, headers={"Retry-After": "0.01"}),
        Fault(status=429),
        Fault(delay=1.0),  # longer than the client's patience
        Fault(cut=True),
    ],
    ids=["500", "503", "429 that says when", "429", "timeout", "truncated"],
)
def test_what_passes_is_waited_for(account: HousecallPro, server: tuple[HousecallPro, str], fault: Fault) -> None:
    account.faults.add(fault)
    feed = Jobs(_client(server[1], timeout=0.5 if fault.delay else 5.0))

    assert len(_ids(feed)) == 7

    assert len(account.faults.requests) >= 2
    feed.close()


def test_a_429_is_not_asked_again_before_it_says(account: HousecallPro, jobs: Jobs) -> None:
    account.faults.add(Fault(status=429, headers={"Retry-After": "0.2"}))
    told: list[str | None] = []
    jobs.notice = told.append
    began = time.monotonic()

    assert len(_ids(jobs)) == 7

    assert time.monotonic() - began >= 0.2
    assert "HousecallPro asks to wait 0.2 s" in told


def test_requests_keep_their_distance(account: HousecallPro, server: tuple[HousecallPro, str]) -> None:
    feed = Jobs(_client(server[1], per_second=10), page_size=2)
    began = time.monotonic()

    assert len(_ids(feed)) == 7

    assert time.monotonic() - began >= 0.3  # four requests
    feed.close()


def test_who_asks_too_fast_is_slowed_down_and_misses_nothing(account: HousecallPro, jobs: Jobs) -> None:
    account.rate = Rate(2, 1.0)

    assert len(_ids(jobs)) == 7

    assert account.rate.refused >= 1  # it waited as long as it was told


def test_a_system_that_stays_down_fails_after_a_few_attempts(account: HousecallPro, jobs: Jobs) -> None:
    account.faults.add(*[Fault(status=500, body=f"no, {SECRET}")] * 5)

    with pytest.raises(OutsideFailed) as caught:
        _ids(jobs)

    assert "500" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.todo
    assert len(account.faults.requests) == 5


def test_a_credential_that_is_refused_is_named_by_its_setting_and_never_shown(
    account: HousecallPro, server: tuple[HousecallPro, str]
) -> None:
    feed = Jobs(_client(server[1], token="wrong-c0ffee"))

    with pytest.raises(OutsideDenied) as caught:
        _ids(feed)

    assert "RECON_HOUSECALLPRO_TOKEN" in caught.value.todo
    assert "c0ffee" not in str(caught.value)
    assert len(account.faults.requests) == 1  # asking again would change nothing
    feed.close()


def test_another_address_is_no_list_of_jobs(account: HousecallPro, server: tuple[HousecallPro, str]) -> None:
    feed = Jobs(_client(f"{server[1]}/elsewhere"))

    with pytest.raises(OutsideFailed, match="GET /jobs"):
        _ids(feed)

    feed.close()


def test_pages_that_are_promised_and_empty_are_not_asked_for_one_by_one(account: HousecallPro, jobs: Jobs) -> None:
    account.faults.add(*[Fault(status=200, body='{"jobs": [], "total_pages": 1000, "total_items": 5}')] * 2)

    with pytest.raises(OutsideFailed):
        _ids(jobs)

    assert len(account.faults.requests) == 2


@pytest.mark.parametrize(
    "body",
    [
        '{"jobs": [], "total_pages": 0}',
        '{"jobs": [], "total_items": 0}',
        '{"jobs": {}, "total_pages": 0, "total_items": 0}',
        "[]",
    ],
)
def test_an_answer_that_is_no_list_is_said(account: HousecallPro, jobs: Jobs, body: str) -> None:
    account.faults.add(Fault(status=200, body=body))

    with pytest.raises(OutsideFailed, match="no list of jobs"):
        _ids(jobs)


def test_the_feed_is_found_by_its_name_and_opened_from_settings(
    account: HousecallPro, server: tuple[HousecallPro, str]
) -> None:
    settings = {"RECON_HOUSECALLPRO_TOKEN": SECRET, "RECON_HOUSECALLPRO_URL": server[1]}
    feed = open_feed("housecallpro", settings)

    assert [len(page) for page in feed.pages(*DAY)] == [7]

    assert account.asked[0]["page_size"] == "100"
    assert feed.place == f"{server[1]}/jobs"
    assert open_feed("housecallpro", {"RECON_HOUSECALLPRO_TOKEN": TOKEN}).place == "https://api.housecallpro.com/jobs"
    feed.close()


@pytest.mark.parametrize("token", ["", "  ", "two words", "naïve", "line\nbreak"])
def test_a_credential_that_cannot_be_sent_is_refused_before_anything_is_asked(token: str) -> None:
    with pytest.raises(UsageError, match="RECON_HOUSECALLPRO_TOKEN") as caught:
        open_feed("housecallpro", {"RECON_HOUSECALLPRO_TOKEN": token})

    assert not token.strip() or token not in str(caught.value)
