"""How much each comparison tells, learnt from the pairs that stand out: who agrees in most, and is alone in it.

The weights are those of Fellegi and Sunter (1969): the logarithm of how much more often records that belong together
agree (m) than records that do not (u). u is counted. m is counted on seeds, pairs that are each other's best by far;
better weights find better seeds, so it is done a few times over. Where links exist, they are the seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log2

from recon.database.connect import Session
from recon.drafting import pairs, windows
from recon.drafting.comparisons import Comparison
from recon.drafting.pairs import CHANCE, PAIRS, Paired
from recon.drafting.windows import Reach

ROUNDS, LOOKS = 10, 3  # how often weights are learnt; and in which of these rounds windows are
FIRST_M = 0.85  # before anything is known
TEACHES = 0.2  # how probable a pair is that teaches, as much as it is probable
SEED, SURE = 0.9, 0.99  # how probable a pair is that windows are read from, and one that counts as known
ALL = -1  # in place of a comparison's number: all pairs
SEVERAL = 0.08  # of the sources that have a partner, those with several, from which it is many to one
LEAST_LIFT_BITS, LEAST_M = 1.0, 0.15  # what an agreement must tell, and how often it must be there, to be evidence
SEVERAL_SURE = 0.015  # the same of sure pairs, where links that exist say what agreements are worth
SEVERAL_HELD = 0.005  # the same of links that exist and agree in all else
DENSE_M = 0.6  # of pairs that other columns chose, those that agree in a number that was counted up on both sides
MOST_BITS = 200.0  # beyond, a score says nothing more
SCORED, LINKS, GIVEN = "recon_draft_scored", "recon_draft_sure", "recon_draft_given"

Levels = Mapping[
    int, tuple[float, float, float]
]  # by comparison: pairs that agree, nearly agree, say something on both sides


@dataclass(frozen=True)
class Weight:
    """What is known of one comparison among records that belong together (m), and among others (u)."""

    comparison: Comparison
    m: float  # agree, of the seeds that say something on both sides
    m_near: float
    u: float
    u_near: float
    filled: float  # of the seeds, those that say something on both sides

    @property
    def agree(self) -> float:
        return log2(self.m / self.u)

    @property
    def close(self) -> float:
        told = log2(self.m_near / self.u_near)
        return min(told, self.agree) if self.m >= LEAST_M else told  # as good as equal, but no better

    @property
    def within(self) -> float:
        """What it tells that the two agree or nearly do."""
        return log2(min(self.m + self.m_near, 1.0) / min(self.u + self.u_near, 1.0))

    @property
    def told(self) -> float:
        """What it tells of a pair that belongs together, on the average."""
        return self.filled * (self.m * max(self.agree, 0.0) + self.m_near * max(self.close, 0.0))

    @property
    def differ(self) -> float:
        return min(log2(max(1 - self.m - self.m_near, 1e-3) / max(1 - self.u - self.u_near, 1e-3)), 0.0)


@dataclass(frozen=True)
class Learnt:
    """The weights, the windows, and how many pairs are sure by them: what rules are measured by."""

    weights: tuple[Weight, ...]
    sure: int
    many_to_one: bool
    known: int = 0  # links that exist: rules are measured by them
    reach: Mapping[int, Reach] = field(default_factory=dict[int, Reach])


def learn(session: Session, comparisons: Sequence[Comparison], paired: Paired, *, known: int = 0) -> Learnt:
    """Learn weights and windows; leaves the scored pairs and the sure ones in temporary tables.

    Args:
        known: how many links exist, in the table GIVEN (t, s); 0: none, and there is no such table.
    """
    reach: dict[int, Reach] = {}
    many = True  # at first nothing is said of how many targets a source may have
    prior = log2(max(paired.sources, 2))
    pairs.look(session, comparisons, reach)
    chance = _levels(session, comparisons, CHANCE)
    weights = [_first(item, chance) for item in comparisons]
    if known:
        reach = windows.learn(session, comparisons, GIVEN, f"(SELECT t, s, 1.0 AS p FROM {GIVEN})")  # noqa: S608
        pairs.look(session, comparisons, reach)
        chance = _levels(session, comparisons, CHANCE)
        found = _levels(session, comparisons, _HELD)
        weights = best(
            [
                replace(_again(weight, found, chance, paired.step), u=_by_accident(session, weight.comparison))
                for weight in weights
            ]
        )
        comparisons = [weight.comparison for weight in weights]
        # A link that is wrong gives a source two now and then; two that agree in all else are a source with two.
        _score(session, weights, prior, many=True)
        _sure(session, SEED, many=True)
        held = _has_several(session, f"{GIVEN} JOIN {LINKS} USING (t, s)", SEVERAL_HELD)
        many = held or _has_several(session, LINKS, SEVERAL_SURE)
    for turn in range(ROUNDS):
        _score(session, weights, prior if turn or known else 0.0, many=many)
        sure = _sure(session, SEED, many=many)
        if not sure:
            return Learnt(tuple(weights), 0, False)
        if turn < LOOKS and not known:
            reach = windows.learn(session, comparisons, LINKS, f"(SELECT t, s, p FROM {SCORED} WHERE p > {TEACHES})")  # noqa: S608
            pairs.look(session, comparisons, reach)
            chance = _levels(session, comparisons, CHANCE)
        found = _levels(session, comparisons, _AGAIN, "p")
        weights = [_again(weight, found, chance, paired.step) for weight in weights]
        if turn < 1 and not known:
            weights = [_unheard(weight) if weight.comparison.dense else weight for weight in weights]
        if turn == 1 and not known:
            # By now others have chosen the pairs; numbers that were counted up count if these agree in them, or never.
            weights = best([weight for weight in weights if not weight.comparison.dense or weight.m >= DENSE_M])
            comparisons = [weight.comparison for weight in weights]
            many = _has_several(session, LINKS, SEVERAL)
    _score(session, weights, prior, many=many)
    return Learnt(tuple(weights), _sure(session, SURE, many=many), many, known, reach)


_HELD = f"(SELECT looked.* FROM {GIVEN} JOIN {PAIRS} AS looked USING (t, s)) AS held"  # noqa: S608
# Every pair that is not improbable teaches as much as it is probable, by what is seen of it now.
_AGAIN = (
    f"(SELECT looked.*, p FROM {SCORED} AS scored JOIN {PAIRS} AS looked USING (t, s) WHERE p > {TEACHES}) AS taught"  # noqa: S608
)


def best(weights: Sequence[Weight]) -> list[Weight]:
    """The comparisons that tell something, the most telling first; of several for one column the best one.

    Two that read the same column say the same thing twice, and would count twice.
    """
    telling = [
        weight
        for weight in weights
        if max(weight.agree, weight.within) >= LEAST_LIFT_BITS and weight.m + weight.m_near >= LEAST_M
    ]
    telling.sort(key=lambda weight: (-weight.told, weight.comparison.number))
    taken: list[Weight] = []
    for weight in telling:
        mine = weight.comparison
        if all(
            mine.target.column != other.comparison.target.column
            and mine.source.column != other.comparison.source.column
            for other in taken
        ):
            taken.append(weight)
    return taken


def _by_accident(session: Session, item: Comparison) -> float:
    """How often two records agree that do not belong together, by those whose partner is known: of the others none knows."""
    t, s = f"a{item.target.number}", f"a{item.source.number}"
    agree, true, filled, sources = session.rows(
        f"""
        SELECT coalesce(sum(beside.n), 0), count(*) FILTER (WHERE t.{t} = s.{s}), count(t.{t}),
            (SELECT count({s}) FROM recon_draft_looks_s)
        FROM {GIVEN} AS g JOIN recon_draft_looks_t AS t ON t.rid = g.t JOIN recon_draft_looks_s AS s ON s.rid = g.s
        LEFT JOIN (SELECT {s}, count(*) AS n FROM recon_draft_looks_s GROUP BY {s}) AS beside ON beside.{s} = t.{t}
        """  # noqa: S608
    )[0]
    return max(float(agree - true), 0.5) / max(float(filled) * sources, 1.0)


def _first(item: Comparison, chance: Levels) -> Weight:
    u, u_near = item.chance(item.shared), _near_by_chance(item, chance)
    if item.dense or item.timed:  # nothing is thought of these before other columns speak for them
        return Weight(item, u, u_near, u, u_near, 1.0)
    return Weight(item, max(FIRST_M, u), 0.05, u, u_near, 1.0)


def _unheard(weight: Weight) -> Weight:
    """The comparison as one that tells nothing."""
    return Weight(weight.comparison, weight.u, weight.u_near, weight.u, weight.u_near, weight.filled)


def _near_by_chance(item: Comparison, chance: Levels) -> float:
    _, near, filled = chance[item.number]
    return max((near + 0.5) / (filled + 1), 1e-4)


def _again(weight: Weight, found: Levels, chance: Levels, step: int) -> Weight:
    item = weight.comparison
    agree, near, filled = found[item.number]
    u, u_near = item.chance(agree * step), _near_by_chance(item, chance)
    m, m_near = (agree + u) / (filled + 1), (near + u_near) / (filled + 1)
    return Weight(item, max(m, u, 1e-6), max(m_near, 1e-6), u, u_near, filled / max(found[ALL][0], 1.0))


def _levels(session: Session, comparisons: Sequence[Comparison], table: str, counted: str = "1") -> Levels:
    """Of each comparison the pairs that agree, nearly agree, and say something; and under ALL how many pairs there are."""
    counts: list[str] = []
    for item in comparisons:
        bit = 1 << item.number
        counts.append(f"sum({counted}) FILTER (WHERE agree & {bit} <> 0)")
        counts.append(f"sum({counted}) FILTER (WHERE agree & {bit} = 0 AND near & {bit} <> 0)")
        counts.append(f"sum({counted}) FILTER (WHERE missing & {bit} = 0)")
    row = [float(value or 0) for value in session.rows(f"SELECT sum({counted}), {', '.join(counts)} FROM {table}")[0]]  # noqa: S608
    levels = {
        item.number: (row[3 * place + 1], row[3 * place + 2], row[3 * place + 3])
        for place, item in enumerate(comparisons)
    }
    return {**levels, ALL: (row[0], row[0], row[0])}


def _score(session: Session, weights: Sequence[Weight], prior: float, *, many: bool) -> None:
    """Score every pair, and say how probable it is beside the other pairs of its records.

    Args:
        prior: the bits against any pair.
        many: whether a source may have several partners, so that its other pairs say nothing.
    """
    terms: list[str] = []
    values: list[float] = [prior]
    for weight in weights:
        bit, first = 1 << weight.comparison.number, len(values) + 1
        terms.append(
            f"CASE WHEN missing & {bit} <> 0 THEN 0 WHEN agree & {bit} <> 0 THEN ${first}::float8"
            f" WHEN near & {bit} <> 0 THEN ${first + 1}::float8 ELSE ${first + 2}::float8 END"
        )
        values += [weight.agree, weight.close, weight.differ]
    session.execute(f"DROP TABLE IF EXISTS {SCORED}")
    rivals = "of_t" if many else "greatest(of_t, of_s)"
    session.execute(
        f"""
        CREATE TEMPORARY TABLE {SCORED} ON COMMIT DROP AS
        SELECT t, s, agree, near, missing, odds / (1 + {rivals}) AS p FROM (
            SELECT *, sum(odds) OVER (PARTITION BY t) AS of_t, sum(odds) OVER (PARTITION BY s) AS of_s FROM (
                SELECT t, s, agree, near, missing,
                    power(2::float8, least(greatest({" + ".join(terms)} - $1::float8, -{MOST_BITS}), {MOST_BITS})) AS odds
                FROM {PAIRS}
            ) AS scored
        ) AS beside
        """,  # noqa: S608
        *values,
    )


def _sure(session: Session, least: float, *, many: bool) -> int:
    """Keep the pairs that are at least this probable; returns how many."""
    session.execute(f"DROP TABLE IF EXISTS {LINKS}")
    count = session.execute(
        f"CREATE TEMPORARY TABLE {LINKS} ON COMMIT DROP AS SELECT * FROM {SCORED} WHERE p >= $1::float8",  # noqa: S608
        least,
    ).rowcount
    session.execute(f"CREATE INDEX ON {LINKS} (t)")
    session.execute(f"CREATE INDEX ON {LINKS} (s)")
    session.execute(f"ANALYZE {LINKS}")
    return count


def _has_several(session: Session, links: str, share: float) -> bool:
    several, sources = session.rows(
        f"SELECT count(*) FILTER (WHERE n > 1), count(*) FROM (SELECT count(*) AS n FROM {links} GROUP BY s) AS held"  # noqa: S608
    )[0]
    return several > share * sources
