"""The sample of the HousecallPro jobs: the same on every call, whole in itself, with times as clocks in Berlin had them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from recon.systems.hcp_jobs.sample import CASES, CEST, CET, HOUSES, STAYS, tables

BERLIN = ZoneInfo("Europe/Berlin")


def _rows(name: str) -> list[dict[str, Any]]:
    table = next(table for table in tables() if table.name == name)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_it_is_equal_on_every_call() -> None:
    assert tables() == tables()


def test_its_sizes_are_those_of_a_small_agency() -> None:
    assert {table.name: len(table.rows) for table in tables()} == {
        "properties": 17, "reservations": 12 * STAYS + len(CASES), "hcp_jobs": 100,
    }  # fmt: skip
    assert 60 <= 12 * STAYS + len(CASES) <= 120


def test_ids_are_unique_and_links_lead_somewhere() -> None:
    stays, jobs = _rows("reservations"), {job["id"] for job in _rows("hcp_jobs")}
    assert len(jobs) == len(_rows("hcp_jobs"))
    assert len({stay["id"] for stay in stays}) == len({stay["airtable_id"] for stay in stays}) == len(stays)
    links = [stay["service_job_id"] for stay in stays if stay["service_job_id"]]
    assert len(set(links)) == len(links)
    assert set(links) <= jobs
    assert {stay["property_id"] for stay in stays} <= {house.id for house in HOUSES}


def test_clocks_are_those_of_berlin() -> None:
    """HCP-05: the night in which an hour repeats and the one in which an hour is skipped are as they were."""
    for stay in _rows("reservations"):
        service: datetime = stay["final_service_time"]
        assert service.utcoffset() == service.astimezone(BERLIN).utcoffset(), stay["id"]
        assert stay["check_in"] < stay["check_out"] == service.date()
    cases = {case.name: case for case in CASES}
    back = cases["repeated hour, the clock goes back by 30"]
    job = back.service.astimezone(UTC) + timedelta(minutes=back.jobs[0].minutes)
    assert (back.service.tzinfo, f"{back.service:%H:%M}", f"{job.astimezone(BERLIN):%H:%M}") == (CEST, "02:45", "02:15")
    far = cases["repeated hour, 90 minutes that look like 30"]
    job = far.service.astimezone(UTC) + timedelta(minutes=far.jobs[0].minutes)
    assert (f"{far.service:%H:%M}", f"{job.astimezone(BERLIN):%H:%M}") == ("02:15", "02:45")
    skipped = cases["skipped hour, 30 minutes that look like 90"]
    job = skipped.service.astimezone(UTC) + timedelta(minutes=skipped.jobs[0].minutes)
    assert (skipped.service.tzinfo, f"{skipped.service:%H:%M}", f"{job.astimezone(BERLIN):%H:%M}") == (
        CET,
        "01:45",
        "03:15",
    )


def test_the_late_house_was_activated_after_its_jobs_were_there() -> None:
    """HCP-01: the jobs of the house were updated last before it was activated."""
    house = next(house for house in HOUSES if house.name == "Lindenhof")
    jobs = [job for job in _rows("hcp_jobs") if job["address_id"] == house.address]
    assert len(jobs) == 3
    assert house.activated is not None
    assert all(job["updated_at"] < house.activated for job in jobs)
