"""How much the chaos suite does: a short form for every `make test`, a long one for `make chaos`."""

from __future__ import annotations

from dataclasses import dataclass

BATCH_SEAMS = ("before update", "after ledger", "before commit", "after commit")
SEAMS = (*BATCH_SEAMS, "before move")


@dataclass(frozen=True)
class Scale:
    """The numbers that differ between the two forms; the tests are the same."""

    rows: int  # of a plan that is broken off again and again
    rounds: int  # plans that are applied, and undone, among people and faults
    faults: int  # of one such apply
    people: int  # writers of each kind
    verified: int  # rows of which one is wrong
    server_seams: tuple[str, ...]  # where the server itself is broken, which takes a second each time
    engines: tuple[str, ...]
    organizations: int  # of a simulated day at Stays
    reservations: int
    ticks: int
    killed_every: int  # so many ticks one has its run killed
    kills: int  # of such a tick at most
    told_every: int  # so many ticks one has its changes told by events
    worker_kills: int
    strangers: int  # with two files of each world, and as many databases
    seed: int = 1


SHORT = Scale(
    rows=3_000,
    rounds=1,
    faults=8,
    people=1,
    verified=20_000,
    server_seams=("before commit",),
    engines=("embedded",),
    organizations=3,
    reservations=150,
    ticks=5,
    killed_every=3,
    told_every=3,
    worker_kills=2,
    kills=1,
    strangers=0,  # one of them comes in tests/integration
)
LONG = Scale(
    rows=12_000,
    rounds=5,
    faults=24,
    people=2,
    verified=1_000_000,
    server_seams=SEAMS,
    engines=("embedded", "debian"),
    organizations=4,
    reservations=3_000,
    ticks=48,
    killed_every=6,
    told_every=3,
    worker_kills=12,
    kills=3,
    strangers=6,
)
