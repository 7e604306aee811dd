"""Which column of one side holds what a column of the other holds: shared values, counted on the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log2

from recon.database.connect import Session
from recon.drafting.attributes import Attribute
from recon.drafting.forms import OR_NOTHING

LEAST_SHARE = (
    0.03  # of a side's filled records whose value the other side has too; below, two columns share by accident
)
MOST_NEAR = 8  # of these, days and moments that share no values
MOST_KEPT = 28  # comparisons looked at; each is a bit of a pair's pattern
ALMOST_ALL = 0.99  # a stricter form is taken if it finds this share of what the loosest one finds
FEW_VALUES = 20_000  # a column of fewer distinct values is counted whole
SAMPLED_VALUES = 4_000_000  # values counted on a side; of more columns and records, a share by hash


@dataclass(frozen=True)
class Comparison:
    """Two attributes that may hold the same thing."""

    number: int
    target: Attribute
    source: Attribute
    shared: int  # distinct values on both sides
    target_share: float  # of the target's filled records, those whose value the source has
    source_share: float
    agreeing: float  # pairs of records that agree
    possible: float  # pairs of records that have a value on both sides
    timed: bool = False  # two days or moments that share few values, and may be near each other
    dense: bool = False  # both sides count 1, 2, 3 …: they share values whether or not they mean the same

    @property
    def words(self) -> str:
        return self.target.form.words

    def chance(self, true: float) -> float:
        """How often two records agree that do not belong together, where so many of those that agree do."""
        return max(self.agreeing - true, 0.5) / self.possible

    @property
    def bits(self) -> float:
        """How much an agreement says, if the two hold the same and each shared value is one pair's."""
        return -log2(self.chance(self.shared))


def shared(
    session: Session,
    targets: Sequence[Attribute],
    sources: Sequence[Attribute],
    tables: tuple[str, str],
    records: tuple[int, int],
) -> list[Comparison]:
    """Every two attributes of one form that share values, the most telling first."""
    share = 1
    while max(len(targets) * records[0], len(sources) * records[1]) // share > SAMPLED_VALUES:
        share *= 2
    for side, table, attributes in (("t", tables[0], targets), ("s", tables[1], sources)):
        session.execute(
            f"CREATE TEMPORARY TABLE recon_draft_values_{side} (attribute int2, form text, h bigint, n bigint) ON COMMIT DROP"
        )
        for attribute in attributes:
            column = f"a{attribute.number}"
            sampled = f" AND ({column} & {share - 1}) = 0" if _many(attribute) and share > 1 else ""
            session.execute(
                f"INSERT INTO recon_draft_values_{side} SELECT $1::int2, $2::text, {column}, count(*) FROM {table}"  # noqa: S608
                f" WHERE {column} IS NOT NULL{sampled} GROUP BY {column}",
                attribute.number,
                attribute.form.name,
            )
        session.execute(f"ANALYZE recon_draft_values_{side}")
    filled = [_filled(session, table, side) for table, side in zip(tables, (targets, sources), strict=True)]
    found: list[Comparison] = []
    for t, s, both, in_target, in_source, agreeing in session.rows(_SHARED):
        target, source = targets[t], sources[s]
        scale = share if _many(target) or _many(source) else 1
        all_t, all_s = filled[0][t], filled[1][s]
        shares = float(in_target) * scale / all_t, float(in_source) * scale / all_s
        if max(shares) < LEAST_SHARE or both < 2:
            continue
        pairs = float(agreeing) * scale
        found.append(
            Comparison(
                0, target, source, int(both) * scale, min(shares[0], 1.0), min(shares[1], 1.0), pairs,
                float(all_t) * all_s, dense=_counted_up(target, source),
            )
        )  # fmt: skip
    session.execute("DROP TABLE recon_draft_values_t, recon_draft_values_s")
    return _chosen(found, _only_near(targets, sources, found, filled))


def _only_near(
    targets: Sequence[Attribute], sources: Sequence[Attribute], found: Sequence[Comparison], filled: Sequence[list[int]]
) -> list[Comparison]:
    """Days and moments that share no values and may lie near each other all the same."""
    known = {(item.target.number, item.source.number) for item in found}
    return [
        Comparison(0, t, s, 0, 0.0, 0.0, 0.0, float(filled[0][t.number]) * filled[1][s.number], timed=True)
        for t in targets
        for s in sources
        if t.form.family in ("day", "time") and t.form.name == s.form.name and (t.number, s.number) not in known
    ]


_SHARED = """
    SELECT t.attribute, s.attribute, count(*), sum(t.n), sum(s.n), sum(t.n * s.n)
    FROM recon_draft_values_t AS t JOIN recon_draft_values_s AS s ON s.h = t.h AND s.form = t.form
    GROUP BY t.attribute, s.attribute ORDER BY t.attribute, s.attribute
"""


def _many(attribute: Attribute) -> bool:
    return attribute.kind.distinct >= FEW_VALUES


def _filled(session: Session, table: str, attributes: Sequence[Attribute]) -> list[int]:
    if not attributes:
        return []
    counts = ", ".join(f"count(a{attribute.number})" for attribute in attributes)
    return [max(int(count), 1) for count in session.rows(f"SELECT {counts} FROM {table}")[0]]  # noqa: S608


def _counted_up(target: Attribute, source: Attribute) -> bool:
    """Whether both sides hold numbers that were counted up: they share values whether or not they mean the same."""
    plain = [item.form.name in ("digits", "number") or not item.kind.lettered for item in (target, source)]
    alone = any(2 * item.kind.distinct > item.kind.filled for item in (target, source))
    return alone and all(plain) and target.kind.counted_up and source.kind.counted_up


def _chosen(found: Sequence[Comparison], near: Sequence[Comparison]) -> list[Comparison]:
    """Of each two columns the strictest form that loses next to nothing; and of all of them the most telling."""
    by_columns: dict[tuple[str, str, bool], list[Comparison]] = {}
    for item in found:
        empty = item.target.form.name.endswith(OR_NOTHING)
        by_columns.setdefault((item.target.column, item.source.column, empty), []).append(item)
    best: list[Comparison] = []
    for items in by_columns.values():
        most = max(item.target_share + item.source_share for item in items)
        enough = [item for item in items if item.target_share + item.source_share >= ALMOST_ALL * most]
        best.append(min(enough, key=lambda item: (item.target.form.rank, item.target.number)))
    best.sort(key=lambda item: (-item.bits * max(item.target_share, item.source_share), item.target.number))
    timed = {(item.target.column, item.source.column) for item in best}
    near = [
        item
        for item in near
        if (item.target.column, item.source.column) not in timed or item.target.form.name == "time"
    ]
    best = best[: MOST_KEPT - min(len(near), MOST_NEAR)] + list(near[:MOST_NEAR])
    return [replace(item, number=number) for number, item in enumerate(best)]
