"""Follow-ups planned over random lives of reservations, compared with the rules written as plain Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from recon.database import tables
from recon.database.connect import Database
from recon.mirror import follow_ups
from tests import stays
from tests.stays import HOUR, NOON, ORGS, identity
from tests.support import execute, rows

RECORDS = 40
STEPS = 6
STATUSES = ("confirmed", "confirmed", "pending", "checked_in", "cancelled", "checked_out")
LIVE = ("pending", "confirmed", "checked_in")


@dataclass
class Stay:
    org: str
    check_in: datetime | None
    check_out: datetime | None
    status: str

    def due(self, job: str, now: datetime) -> datetime | None:
        """When a job of this stay is to be done; None: it is not."""
        if job == "revoke_pin":
            left = None if self.check_out is None else self.check_out + timedelta(days=1)
            return now if self.status == "cancelled" else left
        if self.status not in LIVE or self.check_in is None or self.check_out is None:
            return None
        return self.check_in - timedelta(hours=2) if self.check_out + timedelta(days=1) > now else None


@dataclass
class Known:
    org: str
    state: str
    due: datetime


Jobs = dict[tuple[str, str], Known]


def planned(known: Jobs, house: dict[str, Stay], now: datetime, org: str | None) -> Counter[str]:
    """What planning makes of the jobs; says what was touched."""
    did: Counter[str] = Counter()
    for record, stay in house.items():
        for job in ("generate_pin", "revoke_pin"):
            if org not in (None, stay.org):
                continue
            due, kept = stay.due(job, now), known.get((job, record))
            if kept is None:
                if due is not None:
                    known[job, record] = Known(stay.org, "waiting", due)
                    did["made"] += 1
                continue
            what, kept.org = _what(kept, due, now), stay.org
            if what == "dropped":
                kept.state = "dropped"
            if what in ("again", "moved"):
                assert due is not None
                kept.state, kept.due = "waiting", due
            if what:
                did[what] += 1
    for (job, record), kept in known.items():
        here = record in house and house[record].org == kept.org
        if here or org not in (None, kept.org) or (org is None and record in house):
            continue  # a record that went to another scope is gone from this one
        if job == "revoke_pin":
            if kept.state in ("waiting", "doing", "failed") and kept.due > now:
                kept.state, kept.due = "waiting", now
                did["gone"] += 1
        elif kept.state != "dropped":
            kept.state = "dropped"
            did["gone"] += 1
    return did


def _what(kept: Known, due: datetime | None, now: datetime) -> str:
    if due is None:
        return "" if kept.state == "dropped" else "dropped"
    if kept.state == "dropped":
        return "again"
    if kept.state == "done":
        return "again" if due > now and due != kept.due else ""
    if due <= now and kept.due <= now:
        return ""  # at once, then as now
    return "moved" if due != kept.due else ""


def changed(random: Random, house: dict[str, Stay]) -> None:
    """Something happens to some of the reservations: they come, go, move, and change their state or owner."""
    for number in range(RECORDS):
        if random.random() < 0.5:
            continue
        record = identity(number)
        if record in house and random.random() < 0.2:
            del house[record]
            continue
        begins = random.choice([*(NOON + random.randint(-60, 60) * HOUR for _ in range(6)), None])
        ends = None if begins is None or random.random() < 0.1 else begins + random.randint(1, 40) * HOUR
        before = house.get(record)
        stay = Stay(random.choice(ORGS), begins, ends, random.choice(STATUSES))
        if before is not None and random.random() < 0.7:  # mostly one thing at a time
            name = random.choice(["check_in", "check_out", "status", "status", "org"])
            setattr(before, name, getattr(stay, name))
        else:
            house[record] = stay


def worked(random: Random, known: Jobs) -> None:
    """Some jobs are done, fail, or are at work."""
    for kept in known.values():
        if kept.state in ("waiting", "doing") and random.random() < 0.4:
            kept.state = random.choice(["done", "done", "failed", "doing"])


def written(database: Database, house: dict[str, Stay], known: Jobs) -> None:
    held = [(record, stay.org, stay.check_in, stay.check_out, stay.status) for record, stay in house.items()]
    jobs = [(job, record, kept.state) for (job, record), kept in known.items()]
    with database.session() as session:
        session.execute("DELETE FROM reservations")
        session.execute(
            "INSERT INTO reservations (id, organization_id, check_in, check_out, status) SELECT * FROM unnest"
            " ($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::text[])",
            *_columns(held, 5),
        )
        session.execute(
            "UPDATE recon.follow_ups AS kept SET state = had.state"
            " FROM unnest ($1::text[], $2::text[], $3::text[]) AS had (job, record, state)"
            " WHERE kept.job = had.job AND kept.key[1] = had.record AND kept.state <> had.state",
            *_columns(jobs, 3),
        )


def _columns(records: list[tuple[Any, ...]], count: int) -> list[list[Any]]:
    return [[record[number] for record in records] for number in range(count)]


@pytest.fixture
def house(database: Database) -> Database:
    execute(database, *stays.TABLES)
    tables.ensure(database)
    return database


# A seed cannot be made smaller.
@settings(
    max_examples=5, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(min_value=0, max_value=2**32))
def test_jobs_are_planned_as_the_rules_say_over_any_life_of_reservations(house: Database, seed: int) -> None:
    """SYN-05, SYN-06: after every change the jobs are those of the rules, and what is counted is what was touched."""
    random = Random(seed)
    stays.emptied(house)
    spec = stays.spec()
    records: dict[str, Stay] = {}
    known: Jobs = {}
    now = NOON
    for _ in range(STEPS):
        changed(random, records)
        worked(random, known)
        written(house, records, known)
        org = random.choice([None, *ORGS])
        did = planned(known, records, now, org)
        assert {key: value for key, value in asdict(follow_ups.plan(house, spec, now, org)).items() if value} == did
        found = rows(house, "SELECT job, key[1], scope, state, due_at FROM recon.follow_ups")
        assert {(job, key): Known(*rest) for job, key, *rest in found} == known
        now += random.choice([0, 1, 5, 30]) * HOUR
