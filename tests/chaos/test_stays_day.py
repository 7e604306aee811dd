"""A day at Stays in fast-forward: after each tick our table is what the rules say, whatever the source did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from recon.workspace import Workspace
from tests.chaos import stays_house
from tests.chaos.scale import Scale
from tests.chaos.servers import Embedded, Server
from tests.chaos.stays_house import House
from tests.chaos.stays_world import World

pytestmark = pytest.mark.one_engine


@pytest.fixture
def house(server: Server, workspace: Workspace, scale: Scale, counts: Counter[str]) -> Iterator[House]:
    if not isinstance(server, Embedded):
        pytest.skip("a day takes minutes, and asks nothing of the server that others would answer differently")
    world = World(scale.seed, scale.organizations, scale.reservations)
    with stays_house.opened(server, workspace, world, counts) as opened:
        yield opened
    counts["reservations"] += sum(len(known) for known in world.bookings.values())
    for what, number in sorted(world.did.items()):
        counts[f"({what})"] += number


def test_after_each_tick_of_a_day_the_table_is_what_the_rules_say(house: House, scale: Scale) -> None:
    """SYN-01, SYN-03, SYN-04, SYN-05, RES-03, RES-04, RES-05, RES-06, RES-11, RES-15: changed, cancelled, vanished, misread:
    each row is what an oracle says that shares no code; events come twice, late, out of order, altered or never."""
    house.tick(0, calm=True)
    for number in range(1, scale.ticks):
        killed = number % scale.killed_every == 0
        house.world.guests(number)
        if number % scale.told_every == 0:
            house.deliver(kills=int(killed))
        for deed in house.world.people(house.local(), house.guest()):
            house.deed(deed)
        house.tick(number, kills=house.chosen.randint(1, scale.kills) if killed else 0)
    house.accounts()
