"""What the records are like before any rule is trusted: how many, how filled, and what the sides have in common.

Everything is counted over the records under `where`, linked ones too: what is linked already shows best whether the
sides speak the same language.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from recon.allowed import shortened
from recon.database import relations
from recon.database.connect import Session
from recon.matching import formats, grouped
from recon.matching import pool as pools
from recon.matching import profile_statements as statements
from recon.matching.bound import Bound, BoundPass
from recon.matching.read_columns import read_columns
from recon.names import DIALECT, Side


@dataclass(frozen=True)
class ColumnProfile:
    """One column that the rules read. `distinct` is counted among the first `distinct_of` records, as text."""

    name: str
    type: str
    uses: tuple[str, ...]  # what reads it, such as "on (pass by_code)"
    filled: int
    distinct: int
    distinct_of: int


@dataclass(frozen=True)
class SideProfile:
    """The records of one side. A duplicate key is one that several records have; NULL keys are counted apart."""

    label: str
    key: tuple[str, ...]
    records: int
    hidden: bool  # whether there are records, but `where` leaves none of them
    null_keys: int
    duplicate_keys: int
    duplicate_records: int
    linked: int | None  # None where the spec names no link
    columns: tuple[ColumnProfile, ...]


@dataclass(frozen=True)
class Values:
    """The values of one side for one equality or pass; NULLs are left out, for they equal nothing."""

    filled: int  # records that have all values
    distinct: int
    repeated: int  # values that several records have
    found: int  # records whose value the other side has too
    shared: int  # records whose value several records of the other side have


@dataclass(frozen=True)
class FormatCount:
    """One way of writing: values of either side written so, and target values that find a source only without it."""

    name: str
    target: int
    source: int
    would_agree: int


@dataclass(frozen=True)
class Equality:
    """One `on` equality, for all passes that have it. Formats are counted for text only."""

    target_name: str
    source_name: str
    target_type: str
    source_type: str
    target: Values
    source: Values
    common: int  # values that both sides have
    formats: tuple[FormatCount, ...]
    together: int  # target values that find a source only without any of the formats


@dataclass(frozen=True)
class PassProfile:
    """One pass: each equality, and all of them at once. Probes are values of each side, where nothing is in common."""

    name: str
    on: tuple[Equality, ...]
    target: Values
    source: Values
    common: int
    target_probes: tuple[tuple[str, ...], ...]
    source_probes: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Profile:
    """The two sides and the passes that have `on` equalities."""

    reconciliation: str
    target: SideProfile
    source: SideProfile
    passes: tuple[PassProfile, ...]


def profile(session: Session, bound: Bound, tell: Callable[[str], None] = lambda _: None) -> Profile:
    """Count what a spec's records are like. Nothing is written; a read-only session will do.

    Args:
        session: an open session.
        bound: the spec and its relations.
        tell: is told what is being looked at.
    """
    with grouped.hashed(session):
        sides: list[SideProfile] = []
        for side in ("t", "s"):
            tell(f"Reading {bound.relation[side].label}")
            sides.append(_side(session, bound, side))
        comparer = _Comparer(session, bound)
        passes: list[PassProfile] = []
        for rule in bound.passes:
            if rule.targets:
                tell(f"Comparing values of pass {rule.name}")
                passes.append(comparer.passed(rule))
    return Profile(bound.spec.name, sides[0], sides[1], tuple(passes))


def _side(session: Session, bound: Bound, side: Side) -> SideProfile:
    relation = bound.relation[side]
    keys = bound.spec.target.keys if side == "t" else bound.spec.source.keys
    uses = read_columns(bound, side)
    names = list(uses)
    (records, null_keys, *filled), *_ = _rows(session, statements.scan(bound, side, names))
    (looked_at, *distinct), *_ = _rows(session, statements.sample(bound, side, names))
    duplicate_keys = duplicate_records = 0
    if not relations.is_unique(session, relation, keys):
        (duplicate_keys, duplicate_records), *_ = _rows(session, statements.duplicates(bound, side))
    linked = None
    if bound.spec.link is not None:
        linked = filled[names.index(bound.spec.link.column)] if side == "t" else _linked_sources(session, bound)
    columns = [
        ColumnProfile(name, relation.columns[name], uses[name], int(count), int(different), int(looked_at))
        for name, count, different in zip(names, filled, distinct, strict=True)
    ]
    return SideProfile(
        relation.label,
        tuple(keys),
        int(records),
        not records and bool(_rows(session, statements.any_record(bound, side))),
        int(null_keys),
        int(duplicate_keys),
        int(duplicate_records),
        linked,
        tuple(columns),
    )


def _linked_sources(session: Session, bound: Bound) -> int:
    return int(_rows(session, statements.linked_sources(bound, pools.held(bound)))[0][0])


class _Comparer:
    """Compares the values of both sides, the same equality of several passes once."""

    def __init__(self, session: Session, bound: Bound) -> None:
        self._session = session
        self._bound = bound
        self._compared: dict[str, tuple[Any, ...]] = {}
        self._equalities: dict[tuple[str, str], Equality] = {}

    def passed(self, rule: BoundPass) -> PassProfile:
        equalities = tuple(self._equality(rule, number) for number in range(len(rule.targets)))
        # A pass of one equality repeats its very statement, and gets its answer.
        texts = len(equalities) == 1 and _is_text(rule.targets[0])
        target, source, common, _ = self._overlap(rule.targets, rule.sources, written=texts)
        probes: list[tuple[tuple[str, ...], ...]] = [(), ()]
        if not common and self._bound.passes:
            probes = [self._probes("t", rule.targets), self._probes("s", rule.sources)]
        return PassProfile(rule.name, equalities, target, source, common, probes[0], probes[1])

    def _equality(self, rule: BoundPass, number: int) -> Equality:
        left, right = rule.targets[number], rule.sources[number]
        place = left.sql(DIALECT), right.sql(DIALECT)
        if place not in self._equalities:
            as_text = rule.rule.compare_as == "text"
            bare = [grouped.bare(left, as_text=as_text), grouped.bare(right, as_text=as_text)]
            cursor = self._session.execute(statements.described(self._bound, bare).sql(DIALECT))
            codes = [item.type_code for item in cursor.description or []]
            types = relations.type_names(self._session, codes)
            target, source, common, written = self._overlap([left], [right], written=_is_text(left))
            counts, together = self._formats(left, right, written, lonely=target.distinct - common)
            self._equalities[place] = Equality(
                grouped.label(bare[0]),
                grouped.label(bare[1]),
                *(types[code][0] for code in codes),
                target=target,
                source=source,
                common=common,
                formats=counts,
                together=together,
            )
        return self._equalities[place]

    def _overlap(
        self, targets: Sequence[exp.Expr], sources: Sequence[exp.Expr], *, written: bool
    ) -> tuple[Values, Values, int, list[tuple[int, int]]]:
        statement = statements.overlap(self._bound, targets, sources, written=written).sql(DIALECT)
        if statement not in self._compared:
            self._compared[statement] = self._session.rows(statement)[0]
        numbers = [int(value) for value in self._compared[statement]]
        width = 3 + (len(formats.FORMATS) if written else 0)
        left, right = numbers[:width], numbers[width : 2 * width]
        common, target_found, source_found, target_shared, source_shared = numbers[2 * width :]
        return (
            Values(left[0], left[1], left[2], target_found, target_shared),
            Values(right[0], right[1], right[2], source_found, source_shared),
            common,
            list(zip(left[3:], right[3:], strict=True)),
        )

    def _formats(
        self, left: exp.Expr, right: exp.Expr, written: Sequence[tuple[int, int]], *, lonely: int
    ) -> tuple[tuple[FormatCount, ...], int]:
        # Where every target value finds a source as it is, nothing more could agree.
        seen = [item for item, numbers in zip(formats.FORMATS, written, strict=False) if lonely and any(numbers)]
        row = _rows(self._session, statements.agreeing(self._bound, left, right, seen))[0] if seen else ()
        agreeing = [int(value) for value in row]
        found = dict(zip([item.name for item in seen], agreeing, strict=False))
        together = agreeing[-1] if agreeing else 0
        counts = tuple(
            FormatCount(item.name, target, source, found.get(item.name, 0))
            for item, (target, source) in zip(formats.FORMATS, written, strict=False)
        )
        return counts, together

    def _probes(self, side: Side, values: Sequence[exp.Expr]) -> tuple[tuple[str, ...], ...]:
        rows = _rows(self._session, statements.probes(self._bound, side, values))
        return tuple(tuple(shortened(value) for value in row) for row in rows)


def _is_text(value: exp.Expr) -> bool:
    return isinstance(value, exp.Collate)  # binding gives text, and text only, its collation


def _rows(session: Session, statement: exp.Query) -> list[tuple[Any, ...]]:
    return session.rows(statement.sql(DIALECT))
