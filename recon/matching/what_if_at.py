"""What if these windows had these tolerances, all at once? Decided again in the database; nothing is kept.

So that a slider answers while one looks at it, many records are judged by some of them: a sample that the same data
always gives, and in which every decision is the one that the whole would give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlglot import exp

from recon.database import tables
from recon.database.connect import Database, Session
from recon.database.relations import Relation
from recon.database.watched import Statement, watched
from recon.errors import Refused
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.decide import decide, forget
from recon.matching.pairs import shown_key
from recon.matching.pool import creating, temporary
from recon.matching.side_by_side import interval_words
from recon.matching.what_if import OTHER, PRESENT, beside, bounds, compared, gained, lost, windows_of, with_tolerances
from recon.matching.windows import BoundWindow
from recon.names import DIALECT, Side, column
from recon.spec import Reconciliation
from recon.tolerances import Tolerance

# Deciding so many records twice, after drawing them from a million, takes about half a second; more
# are judged by about so many of them. Of as many independent records a share is off by half a per cent or so.
SAMPLE = 10_000
UNEVEN = 4  # a sample this many times too large or too small says little: then all records are decided
EXAMPLES = 10  # keys of gained and of lost records: enough to look some up
_SAMPLED: dict[Side, str] = {"t": "recon_sampled_targets", "s": "recon_sampled_sources"}
# Types whose equal values have equal hashes, by their oids: what `on` compares is nearly always one of these.
_WHOLE_NUMBERS = frozenset({20, 21, 23})
_TEXTS = frozenset({25, 1043})


@dataclass(frozen=True)
class Counts:
    """How many records the passes would decide in which way."""

    matched: int
    proposed: int
    ambiguous: int


@dataclass(frozen=True)
class WhatIfAt:
    """What the chosen tolerances would give beside the present ones. Counts of a sample are scaled up to all records."""

    present: Counts
    then: Counts
    gained: int  # neither matched nor proposed at present, one of them then
    lost: int
    moved: int  # matched or proposed both times, with another partner
    gained_keys: tuple[Any, ...]  # the first few of the records that were decided, in key order
    lost_keys: tuple[Any, ...]
    looked_at: int  # records of the population that were decided
    population: int
    refused: str = ""  # why these tolerances cannot be tried; then all counts are 0
    statements: tuple[Statement, ...] = field(default=(), repr=False)

    @property
    def estimated(self) -> bool:
        """Whether the counts are scaled up from a sample."""
        return self.looked_at < self.population


def what_if_at(
    database: Database,
    spec: Reconciliation,
    factors: Mapping[tuple[int, int], Decimal],
    *,
    exactly: bool = False,
    sample: int = SAMPLE,
) -> WhatIfAt:
    """Decide with the present tolerances and with others, and compare.

    Args:
        database: where the records are.
        spec: the reconciliation.
        factors: for windows by the places of pass and window: how many times as wide as at present; others stay.
        exactly: decide all records, however many there are.
        sample: about how many are decided where there are more.
    """
    plain = spec.model_copy(update={"compare": {}, "valid": []})  # they change nothing of who matches whom
    tables.ensure(database)
    with database.session() as opened:
        session = watched(opened)
        bound = bind(session, plain)
        whole = int(session.value(_counting(bound).sql(DIALECT)))
        chosen = None if exactly or whole <= sample else _sampled(session, bound, whole, sample)
        looked_at = whole if chosen is None else chosen[0]

        def judged(of: Bound) -> Bound:
            return of if chosen is None else _within(of, chosen[1])

        began = len(session.said)
        scale = whole / looked_at if looked_at else 1.0
        try:
            decide(session, judged(bound), temporary(PRESENT), explained=False)
            session.execute(f"ANALYZE pg_temp.{PRESENT}")
            present = Counts(*session.rows(_outcomes().sql(DIALECT))[0])
            forget(session, temporary(OTHER))
            other = judged(bind(session, with_tolerances(bound, factors)))
            decide(session, other, temporary(OTHER), explained=False)
            matched, proposed, ambiguous, more, fewer, moved = compared(session, other)
            more_keys, fewer_keys = (_examples(session, other, which) for which in (gained(), lost()))
        except Refused as refusal:
            opened.rollback()
            nothing = Counts(0, 0, 0)
            return WhatIfAt(nothing, nothing, 0, 0, 0, (), (), looked_at, whole, refusal.what)
        said = tuple(session.said[began:])
        opened.rollback()

    def scaled(number: int) -> int:
        return round(number * scale)

    return WhatIfAt(
        Counts(*(scaled(n) for n in (present.matched, present.proposed, present.ambiguous))),
        Counts(scaled(matched), scaled(proposed), scaled(ambiguous)),
        scaled(more), scaled(fewer), scaled(moved), more_keys, fewer_keys, looked_at, whole, statements=said,
    )  # fmt: skip


@dataclass(frozen=True)
class Slider:
    """A window that can be tried at other tolerances."""

    place: tuple[int, int]  # of its pass, and its own in the pass
    rule: str
    window: BoundWindow

    def at(self, factor: Decimal) -> str:
        """The tolerance in words, so many times as wide as at present."""
        before, after = bounds(self.window, factor)
        if before == after:
            return in_words(before)
        return f"{in_words(before)} before, {in_words(after)} after"


def sliders(bound: Bound) -> list[Slider]:
    """The windows of a spec, in the order of its passes."""
    return [
        Slider((place, number), bound.passes[place].name, bound.passes[place].windows[number])
        for place, number in windows_of(bound.spec)
    ]


def in_words(bound: Tolerance) -> str:
    """A tolerance as people say it.

    >>> from recon import tolerances
    >>> [in_words(tolerances.parse(text)) for text in ("90 minutes", "36 hours", "5%", "0.50")]
    ['1 hour 30 minutes', '1 day 12 hours', '5 %', '0.5']
    """
    if bound.kind == "interval":
        return interval_words(timedelta(microseconds=int(bound.amount)))
    return str(bound).replace("%", " %")


# -- what is decided -------------------------------------------------------------------------------------


def _counting(bound: Bound) -> exp.Select:
    side = bound.population
    query = exp.Select(expressions=[exp.Count(this=exp.Star())]).from_(bound.relation[side].aliased(side))
    return query.where(*bound.where(side)) if bound.where(side) else query


def _outcomes() -> exp.Select:
    """How many are matched, proposed and ambiguous at present."""
    counted: list[exp.Expr] = []
    for word in ("matched", "proposed", "ambiguous"):
        is_it = exp.EQ(this=column("present", "outcome"), expression=exp.Literal.string(word))
        counted.append(exp.Filter(this=exp.Count(this=exp.Star()), expression=exp.Where(this=is_it)))
    return exp.Select(expressions=counted).from_(temporary(PRESENT, "present"))


def _examples(session: Session, bound: Bound, which: exp.Expr) -> tuple[Any, ...]:
    """Keys of the first few records of the population that are so."""
    keys: list[exp.Expr] = [column("present", name) for name in bound.key_names(bound.population)]
    query = beside(bound, keys).where(which).order_by(*[key.copy() for key in keys]).limit(EXAMPLES)
    return tuple(shown_key(row) for row in session.rows(query.sql(DIALECT, pretty=True)))


# -- some records instead of all -------------------------------------------------------------------------


def _sampled(session: Session, bound: Bound, whole: int, sample: int) -> tuple[int, Mapping[Side, Relation]] | None:
    """Make temporary tables of some records; says how many of the population they are, and what they are of.

    many_to_one: each target is decided by itself, so any targets do, beside all sources. one_to_one: records compete,
    but only with those of one value where every pass asks for the same equality; so all records of some values do.
    None: no such sample can be drawn.
    """
    hashes: dict[Side, exp.Expr] = {}
    if bound.spec.cardinality == "many_to_one":
        hashes["t"] = _hash(bound.target_keys)
    else:
        shared = _shared(session, bound)
        if shared is None:
            return None
        hashes = {side: _hash([value]) for side, value in shared.items()}
    buckets = exp.Literal.number(-(-whole // sample))
    made: dict[Side, Relation] = {}
    for side, hashed in hashes.items():
        relation = bound.relation[side]
        one_of = exp.EQ(
            this=exp.Mod(this=exp.paren(hashed), expression=buckets.copy()), expression=exp.Literal.number(0)
        )
        wanted = [column(side, name) for name in relation.columns]
        query = exp.Select(expressions=wanted).from_(relation.aliased(side)).where(*bound.where(side), one_of)
        session.execute(creating(temporary(_SAMPLED[side]), query))
        session.execute(f"ANALYZE pg_temp.{_SAMPLED[side]}")
        made[side] = replace(relation, tree=temporary(_SAMPLED[side]), oid=None)
    looked_at = int(session.value(f"SELECT count(*) FROM pg_temp.{_SAMPLED[bound.population]}"))  # noqa: S608
    if not sample / UNEVEN <= looked_at <= sample * UNEVEN:
        return None
    return looked_at, made


def _within(bound: Bound, made: Mapping[Side, Relation]) -> Bound:
    """The spec over the sampled records. Links are still looked for among all targets."""
    return replace(
        bound,
        target=made.get("t", bound.target),
        source=made.get("s", bound.source),
        target_where=None if "t" in made else bound.target_where,
        source_where=None if "s" in made else bound.source_where,
        written=bound.holders,
    )


def _shared(session: Session, bound: Bound) -> dict[Side, exp.Expr] | None:
    """Both sides of an equality that every pass asks for, of types whose equal values have one hash."""
    found: dict[tuple[str, str], tuple[exp.Expr, exp.Expr]] = {}
    for place, rule in enumerate(bound.passes):
        pairs = {
            (left.sql(DIALECT), right.sql(DIALECT)): (left, right)
            for left, right in zip(rule.targets, rule.sources, strict=True)
        }
        found = pairs if place == 0 else {text: pair for text, pair in found.items() if text in pairs}
    for left, right in found.values():
        sides: dict[Side, exp.Expr] = {"t": left, "s": right}
        kinds = {_kind(session, bound, side, tree) for side, tree in sides.items()}
        if len(kinds) == 1 or kinds <= _TEXTS:
            return sides
        if kinds <= _WHOLE_NUMBERS:
            return {side: exp.cast(tree.copy(), "bigint") for side, tree in sides.items()}
    return None


def _kind(session: Session, bound: Bound, side: Side, tree: exp.Expr) -> int:
    """The oid of an expression's type, as the server sees it."""
    query = exp.Select(expressions=[tree.copy()]).from_(bound.relation[side].aliased(side)).limit(0)
    described = session.execute(query.sql(DIALECT)).description
    assert described
    return described[0].type_code


def _hash(values: list[Any]) -> exp.Expr:
    """A number that equal values share, not negative. An array has the hash of its elements' own type."""
    listed = [exp.Anonymous(this="hash_array", expressions=[exp.Array(expressions=[item.copy()])]) for item in values]
    mixed: exp.Expr = listed[0]
    for item in listed[1:]:
        mixed = exp.BitwiseXor(this=mixed, expression=item)
    return exp.BitwiseAnd(this=exp.paren(mixed), expression=exp.Literal.number(0x7FFFFFFF))
