"""Invented stays and jobs, the same on every call, with each case that the rules must get right, by name.

Times are written with the offset that clocks in Berlin had: CEST in summer, CET in winter, and both in the night in
which clocks go back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from random import Random

from recon.sources.samples import Table

SEED = 20251026  # any number would do; this one is the night in which clocks went back
CET, CEST = timezone(timedelta(hours=1), "CET"), timezone(timedelta(hours=2), "CEST")
CLOCKS_BACK = datetime(2025, 10, 26, 1, tzinfo=UTC)  # 03:00 CEST became 02:00 CET
CLOCKS_FORWARD = datetime(2026, 3, 29, 1, tzinfo=UTC)  # 02:00 CET became 03:00 CEST
TODAY = datetime(2026, 4, 20, 12, tzinfo=CEST)  # when the jobs were loaded last
HISTORY = date(2025, 9, 8), date(2026, 3, 20)  # first and last day of the stays that the normal flow linked
STAYS = 6  # linked stays of each house of the history
MINUTES = (0, 0, 0, 5, 10, 15, -15, 20, -20, 30, -30, 45, -45)  # between a stay's service and its job, as a rule
GUESTS = "Abel Brandt Castro Diallo Eriksen Fontana Greco Hansen Ito Jensen Keller Lund Moreau Novak Okafor".split()

Row = tuple[object, ...]
PROPERTY_COLUMNS = ("id", "name", "hcp_customer_id", "hcp_address_id", "activated_at")
RESERVATION_COLUMNS = (
    "id", "property_id", "guest", "check_in", "check_out", "final_service_time", "service_job_id", "airtable_id",
)  # fmt: skip
JOB_COLUMNS = (
    "id", "customer_id", "address_id", "scheduled_start", "scheduled_end", "work_status", "description", "updated_at",
)  # fmt: skip


@dataclass(frozen=True)
class House:
    """A property; the owner and the place are known to HousecallPro by ids, or not yet (None)."""

    id: int
    name: str
    customer: str | None
    address: str | None
    activated: datetime | None = datetime(2025, 8, 1, 9, tzinfo=CEST)


def _house(number: int, name: str, **otherwise: object) -> House:
    known: dict[str, object] = {"customer": f"cus_{number:02d}", "address": f"adr_{number:02d}"}
    return House(number, name, **(known | otherwise))  # pyright: ignore[reportArgumentType] (fields by name)


HOUSES = [  # the first twelve have a history
    _house(1, "Seeblick 1"), _house(2, "Seeblick 2"),
    _house(3, "Haus Ahorn"), _house(4, "Haus Birke", customer="cus_03"),  # two houses of one owner
    _house(5, "Mühle am Bach"), _house(6, "Altes Forsthaus"), _house(7, "Hafenloft"), _house(8, "Dachgarten"),
    _house(9, "Weinberg 9"), _house(10, "Marktplatz 4"), _house(11, "Kapitänshaus"), _house(12, "Strandkate"),
    _house(13, "Lindenhof", activated=datetime(2026, 2, 10, 9, tzinfo=CET)),
    _house(14, "Turmzimmer", customer=None), _house(15, "Gartenhaus", address=None),
    _house(16, "Neubau Süd", customer=None, address=None, activated=None),
    _house(17, "Waldhütte"),
]  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A job: at which house, how far from a stay's service, and what is unusual about it."""

    id: str
    minutes: int
    customer: str | None = None  # None: the house's own
    address: str | None = None
    description: str = "Turnover cleaning"
    status: str = ""  # none: as the time tells


@dataclass(frozen=True)
class Case:
    """A stay that shows one thing, and what the rules must say of it.

    Args:
        name: what it shows.
        id: of the reservation.
        house: its property.
        service: when the final service is due.
        jobs: the jobs around it that no other case brings.
        linked: the job that it holds already.
        outcome, job, rule, reason: the decision: the job it is matched with or that is proposed, the pass, and why not.
    """

    name: str
    id: int
    house: int
    service: datetime
    jobs: tuple[Job, ...] = ()
    linked: str | None = None
    outcome: str = "matched"
    job: str | None = None
    rule: str | None = "property_and_time"
    reason: str | None = None


def _at(day: str, clock: str = "11:00", zone: timezone | None = None) -> datetime:
    """A day and the time on the clocks there; the zone need be said only in the night in which they go back."""
    read = datetime.combine(date.fromisoformat(day), time.fromisoformat(clock))
    summer = read.replace(tzinfo=CEST)
    return read.replace(tzinfo=zone or (CET if CLOCKS_BACK <= summer < CLOCKS_FORWARD else CEST))


CASES = [
    # HCP-01: the house was activated after its jobs existed; a job made by hand
    Case("activated late", 2001, 13, _at("2026-01-12"), (Job("job_2001", 10),), job="job_2001"),
    Case("activated late, a job before the time", 2002, 13, _at("2026-01-19"), (Job("job_2002", -25),), job="job_2002"),
    Case("activated late, to the minute", 2003, 13, _at("2026-01-26"), (Job("job_2003", 0),), job="job_2003"),
    Case("made by hand", 2004, 1, _at("2026-04-02"), (Job("job_2004", 40, description="Made by hand"),), job="job_2004"),
    Case(
        "made by hand the day after", 2005, 2, _at("2026-04-03"),
        (Job("job_2005", -40, description="Made by hand"),), job="job_2005",
    ),
    # HCP-06: the closest in time; one job goes to one reservation; an exact tie waits for a person
    Case("two jobs near", 2006, 3, _at("2026-04-04"), (Job("job_2006", -35), Job("job_2007", 12)), job="job_2007"),
    Case("one job near two stays: the closer", 2007, 5, _at("2026-04-05", "10:00"), (Job("job_2008", 20),), job="job_2008"),
    Case(
        "one job near two stays: the other", 2008, 5, _at("2026-04-05"),
        outcome="unmatched", reason="taken",
    ),
    Case(
        "exact tie", 2009, 6, _at("2026-04-06"), (Job("job_2009", -30), Job("job_2010", 30)),
        outcome="ambiguous", reason="tie",
    ),
    # HCP-14: the property lacks an id; HCP-08: then only a part can agree
    Case(
        "no customer id", 2010, 14, _at("2026-04-07"), (Job("job_2011", 15, customer="cus_14"),),
        outcome="proposed", job="job_2011", rule="address_and_time", reason="review",
    ),
    Case(
        "no address id", 2011, 15, _at("2026-04-07"), (Job("job_2012", -10, address="adr_15"),),
        outcome="proposed", job="job_2012", rule="customer_and_time", reason="review",
    ),
    Case("neither id", 2012, 16, _at("2026-04-07"), outcome="unmatched", reason="null_key"),
    # HCP-05: one hour, bounds included, both ways
    Case("61 minutes after", 2013, 7, _at("2026-04-08"), (Job("job_2013", 61),), outcome="unmatched", reason="out_of_tolerance"),
    Case("61 minutes before", 2014, 8, _at("2026-04-08"), (Job("job_2014", -61),), outcome="unmatched", reason="out_of_tolerance"),
    Case("60 minutes after", 2015, 9, _at("2026-04-09"), (Job("job_2015", 60),), job="job_2015"),
    Case("60 minutes before", 2016, 10, _at("2026-04-09"), (Job("job_2016", -60),), job="job_2016"),
    # HCP-05: the nights in which clocks change; jobs start so many minutes later, whatever the clocks say
    Case("repeated hour, the clock goes back by 30", 2017, 11, _at("2025-10-26", "02:45", CEST), (Job("job_2017", 30),), job="job_2017"),
    Case(
        "repeated hour, 90 minutes that look like 30", 2018, 12, _at("2025-10-26", "02:15", CEST), (Job("job_2018", 90),),
        outcome="unmatched", reason="out_of_tolerance",
    ),
    Case("skipped hour, 30 minutes that look like 90", 2019, 11, _at("2026-03-29", "01:45"), (Job("job_2019", 30),), job="job_2019"),
    # HCP-10, HCP-14: what is linked stays as it is, and a job that is held is not given away
    Case(
        "linked already, a nearer job is free", 2020, 12, _at("2026-04-10"), (Job("job_2020", 45), Job("job_2021", 5)),
        linked="job_2020", outcome="linked", job="job_2020", rule=None,
    ),
    Case("holds the job of another stay", 2021, 4, _at("2026-04-11", "09:30"), (Job("job_2022", 40),),
         linked="job_2022", outcome="linked", job="job_2022", rule=None),
    Case("job already taken", 2022, 4, _at("2026-04-11", "10:30"), outcome="unmatched", reason="already_linked"),
    Case(
        "linked by a person who settled a tie", 2023, 6, _at("2026-04-13"), (Job("job_2023", -20), Job("job_2024", 20)),
        linked="job_2024", outcome="linked", job="job_2024", rule=None,
    ),
    # HCP-08: customer only, address only
    Case(
        "customer only", 2024, 3, _at("2026-04-14"), (Job("job_2025", 10, address="adr_04"),),
        outcome="proposed", job="job_2025", rule="customer_and_time", reason="review",
    ),
    Case(
        "address only", 2025, 9, _at("2026-04-14"), (Job("job_2026", -20, customer="cus_former"),),
        outcome="proposed", job="job_2026", rule="address_and_time", reason="review",
    ),
    Case(
        "its job was cancelled", 2027, 17, _at("2026-04-16"), (Job("job_2027", 5, status="pro canceled"),),
        outcome="unmatched", reason="no_candidate",
    ),
    Case("no job at all", 2026, 17, _at("2026-04-15"), outcome="unmatched", reason="no_candidate"),
]  # fmt: skip


def tables() -> list[Table]:
    """The three sample tables, each after those it refers to. Equal on every call."""
    rng = Random(SEED)
    houses = {house.id: house for house in HOUSES}
    stays: list[Row] = []
    jobs: list[Row] = []
    for house, service, job in _history(rng):
        stays.append(_stay(rng, 1001 + len(stays), house, service, job.id))
        jobs.append(_job(house, service, job))
    for case in CASES:
        house = houses[case.house]
        stays.append(_stay(rng, case.id, house, case.service, case.linked))
        jobs += [_job(house, case.service, job) for job in case.jobs]
    # A request that nobody has given a time yet: it is near nothing.
    jobs.append(("job_2099", "cus_05", "adr_05", None, None, "needs scheduling", "Window cleaning", TODAY))
    properties: list[Row] = [(x.id, x.name, x.customer, x.address, x.activated) for x in HOUSES]
    return [
        Table("properties", PROPERTY_COLUMNS, properties),
        Table("reservations", RESERVATION_COLUMNS, stays),
        Table("hcp_jobs", JOB_COLUMNS, jobs),
    ]


def _history(rng: Random) -> list[tuple[House, datetime, Job]]:
    """What the normal flow linked, in the order of time: each stay with its job."""
    first, last = HISTORY
    apart = (last - first).days // STAYS
    found: list[tuple[House, datetime, int]] = []
    for house in HOUSES[:12]:
        for number in range(STAYS):
            day = first + timedelta(days=number * apart + rng.randrange(apart - 7))
            found.append((house, _at(day.isoformat(), rng.choice(("10:00", "11:00", "12:00"))), rng.choice(MINUTES)))
    found.sort(key=lambda item: (item[1], item[0].id))
    return [
        (house, service, Job(f"job_{number}", minutes)) for number, (house, service, minutes) in enumerate(found, 1001)
    ]


def _stay(rng: Random, number: int, house: House, service: datetime, job: str | None) -> Row:
    leaves = service.date()
    arrives = leaves - timedelta(days=rng.randint(2, 6))
    return (number, house.id, rng.choice(GUESTS), arrives, leaves, service, job, f"recSAMPLE{number:08d}")


def _job(house: House, service: datetime, job: Job) -> Row:
    start = service.astimezone(UTC) + timedelta(minutes=job.minutes)  # across a change of clocks, minutes are minutes
    return (
        job.id, job.customer or house.customer, job.address or house.address, start, start + timedelta(hours=2),
        job.status or ("complete unrated" if start < TODAY else "scheduled"), job.description, start - timedelta(days=3),
    )  # fmt: skip
