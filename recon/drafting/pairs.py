"""Pairs of records that may belong together, and what they agree in: the ground on which rules are weighed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recon.database.connect import Session
from recon.drafting.comparisons import Comparison
from recon.drafting.windows import Reach, inside

MOST_TARGETS = 20_000  # records of the target that are paired; of more, an even sample
PAIRS_OF_A_BLOCK = 15  # pairs that one condition may make, for each record of the larger side
LEAST_BLOCK = 30_000  # pairs that one condition may make in any case
MOST_PAIRS = 1_500_000  # of all conditions together
MOST_DOUBLES = 16  # conditions of two comparisons that are tried
RANDOM_PAIRS = 30_000  # pairs drawn without regard to anything, by which chance is measured
PAIRS, CHANCE = "recon_draft_pairs", "recon_draft_chance"


@dataclass(frozen=True)
class Paired:
    """What was paired: how many pairs, and every how manieth record of the target."""

    pairs: int
    step: int
    targets: int
    sources: int
    blocks: tuple[int, ...]  # the conditions, as bits of what must agree: whatever satisfies one is among the pairs


def pair(session: Session, comparisons: Sequence[Comparison], records: tuple[int, int], given: str = "") -> Paired:
    """Make the tables of pairs and of random pairs; `look` says of each what its two records agree in.

    Args:
        given: a table of links that exist (t, s), which are pairs in any case.
    """
    step = -(-records[0] // MOST_TARGETS)
    targets = records[0] // step
    session.execute("CREATE TEMPORARY TABLE recon_draft_found_pairs (t int, s int) ON COMMIT DROP")
    allowed = max(PAIRS_OF_A_BLOCK * max(targets, records[1]), LEAST_BLOCK)
    total = 0
    done: list[int] = []
    for block in _blocks(comparisons, allowed * step):
        if total > MOST_PAIRS:
            break
        done.append(sum(1 << item.number for item in block))
        same = " AND ".join(f"s.a{item.source.number} = t.a{item.target.number}" for item in block)
        total += session.execute(
            "INSERT INTO recon_draft_found_pairs SELECT t.rid, s.rid"  # noqa: S608
            " FROM recon_draft_looks_t AS t JOIN recon_draft_looks_s AS s"
            f" ON {same} WHERE t.rid % $1::int = 0 LIMIT {MOST_PAIRS}",
            step,
        ).rowcount
    if given:
        session.execute(
            f"INSERT INTO recon_draft_found_pairs SELECT t, s FROM {given} WHERE t % $1::int = 0",  # noqa: S608
            step,
        )
    count = session.execute(
        "CREATE TEMPORARY TABLE recon_draft_blocks ON COMMIT DROP AS SELECT DISTINCT t, s FROM recon_draft_found_pairs"
    ).rowcount
    session.execute("DROP TABLE recon_draft_found_pairs")
    session.execute(
        "CREATE TEMPORARY TABLE recon_draft_random ON COMMIT DROP AS"
        " SELECT 1 + (n * 7919::bigint) % $1::int AS t, 1 + (n * 104729::bigint + n / $1::int) % $2::int AS s"
        " FROM generate_series(1, $3::int) AS n",
        records[0],
        records[1],
        RANDOM_PAIRS,
    )
    return Paired(count, step, targets, records[1], tuple(done))


def look(session: Session, comparisons: Sequence[Comparison], reach: Mapping[int, Reach]) -> None:
    """Make the tables of what pairs and random pairs agree in: t, s, and as bits what agrees, nearly does, and lacks."""
    columns = patterns(comparisons, reach)
    for table, origin in ((PAIRS, "recon_draft_blocks"), (CHANCE, "recon_draft_random")):
        session.execute(f"DROP TABLE IF EXISTS {table}")
        session.execute(
            f"CREATE TEMPORARY TABLE {table} ON COMMIT DROP AS SELECT t.rid AS t, s.rid AS s, {columns}"  # noqa: S608
            f" FROM {origin} AS pair JOIN recon_draft_looks_t AS t ON t.rid = pair.t"
            " JOIN recon_draft_looks_s AS s ON s.rid = pair.s"
        )
        session.execute(f"ANALYZE {table}")


def _blocks(comparisons: Sequence[Comparison], allowed: float) -> list[list[Comparison]]:
    """Conditions that make few enough pairs: single comparisons, and two together of those that make too many alone."""
    comparisons = [item for item in comparisons if not item.timed]
    alone = [item for item in comparisons if item.agreeing <= allowed]
    blocks = [[item] for item in sorted(alone, key=lambda item: item.agreeing)]
    rest = [item for item in comparisons if item not in alone]
    doubles = [
        (left.agreeing * right.chance(0), [left, right])
        for left, right in itertools.combinations(rest, 2)
        if left.target.column != right.target.column
        and left.source.column != right.source.column
        and left.agreeing * right.chance(0) <= allowed
    ]
    doubles.sort(key=lambda double: double[0])
    return blocks + [double for _, double in doubles[:MOST_DOUBLES]]


def patterns(comparisons: Sequence[Comparison], reach: Mapping[int, Reach]) -> str:
    """The bits of a pair: what agrees, what nearly agrees, what one of the two does not say."""
    agree, near, missing = ["0"], ["0"], ["0"]
    for item in comparisons:
        bit, t, s = 1 << item.number, item.target.number, item.source.number
        agree.append(f"CASE WHEN t.a{t} = s.a{s} THEN {bit} ELSE 0 END")
        missing.append(f"CASE WHEN t.a{t} IS NULL OR s.a{s} IS NULL THEN {bit} ELSE 0 END")
        close = close_by(item, reach)
        if close:
            near.append(f"CASE WHEN {close} THEN {bit} ELSE 0 END")
    return f"{' | '.join(agree)} AS agree, {' | '.join(near)} AS near, {' | '.join(missing)} AS missing"


def close_by(item: Comparison, reach: Mapping[int, Reach]) -> str | None:
    """When two values that differ are nearly the same; None: they never are."""
    t, s = item.target.number, item.source.number
    if item.target.spelled and item.source.spelled:
        return f"t.p{t} = s.p{s} OR t.q{t} = s.q{s}"
    if not item.target.measured:
        return None
    return inside(item, reach)
