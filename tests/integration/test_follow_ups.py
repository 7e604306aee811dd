"""Follow-ups: each record has its jobs at their times, whatever becomes of the record, and each is done once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from recon.database.connect import Database
from recon.mirror import follow_ups
from recon.mirror.follow_ups import Planned
from tests import stays
from tests.stays import HOUR, NOON, reserve
from tests.support import rows

pytestmark = pytest.mark.one_engine

KEPT = "SELECT job, state, due_at FROM recon.follow_ups ORDER BY key, job"


@pytest.fixture
def house(database: Database) -> Database:
    return stays.made(database)


def test_a_reservation_has_a_pin_made_two_hours_before_and_revoked_a_day_after(house: Database) -> None:
    """SYN-05: two hours before check-in, 24 hours after check-out, each once, however often it is planned."""
    reserve(house, 1, NOON + 24 * HOUR, nights=3)
    assert follow_ups.plan(house, stays.spec(), NOON) == Planned(made=2)
    assert rows(house, KEPT) == [
        ("generate_pin", "waiting", NOON + 22 * HOUR),
        ("revoke_pin", "waiting", NOON + timedelta(days=5)),
    ]
    versions = rows(house, "SELECT job, xmin::text, ctid::text FROM recon.follow_ups")
    assert follow_ups.plan(house, stays.spec(), NOON + HOUR) == Planned()
    assert rows(house, "SELECT job, xmin::text, ctid::text FROM recon.follow_ups") == versions
