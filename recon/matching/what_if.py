"""What if a window were wider, or narrower? The records are decided again, exactly, with each other tolerance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any

from sqlglot import exp

from recon import tolerances
from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import NotFound, Refused, did_you_mean
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.decide import decide, forget
from recon.matching.pool import temporary
from recon.matching.windows import BoundWindow
from recon.names import DIALECT, column
from recon.spec import Reconciliation
from recon.spec_parts import Sides, Within
from recon.tolerances import Tolerance

# How many times as wide as the present tolerance; 1 is the present itself.
FACTORS = tuple(map(Decimal, ("0", "0.25", "0.5", "0.75", "1", "1.5", "2", "3", "5", "10")))
PRESENT, OTHER = "recon_present", "recon_what_if"

Progress = Callable[[int, int], None]  # tolerances tried, and all there are to try


@dataclass(frozen=True)
class Point:
    """What the whole reconciliation would decide with one tolerance, and how that differs from the present."""

    factor: float  # times the present tolerance
    tolerance: str
    matched: int
    proposed: int
    ambiguous: int
    gained: int  # neither matched nor proposed at present, one of them then
    lost: int  # matched or proposed at present, neither then
    moved: int  # matched or proposed both times, with another partner
    refused: str | None = None  # why this tolerance could not be tried; its counts are 0


@dataclass(frozen=True)
class Curve:
    """One window of one pass, with each tolerance; everything else stays as it is."""

    rule: str
    window: str
    tolerance: str  # the present one
    points: tuple[Point, ...]
    whole_days: bool = False  # dates have no hours: a tolerance between two days is the shorter one


@dataclass(frozen=True)
class WhatIf:
    """Every window of a reconciliation at other tolerances."""

    reconciliation: str
    curves: tuple[Curve, ...]

    def as_dict(self) -> dict[str, Any]:
        """The document of `recon what-if --json`."""
        return asdict(self)

    def records(self) -> list[dict[str, Any]]:
        """One row for each point: what a figure draws."""
        return [
            {"pass": curve.rule, "window": curve.window, **asdict(point)}
            for curve in self.curves
            for point in curve.points
        ]


def what_if(
    database: Database, spec: Reconciliation, only: str | None = None, progress: Progress | None = None
) -> WhatIf:
    """Decide every record again for each window and each of `FACTORS`; nothing that is decided is kept.

    Args:
        database: where the records are.
        spec: the reconciliation.
        only: the windows of this pass alone.
        progress: called after each tolerance.

    Raises:
        NotFound: there is no such pass.
    """
    if only is not None and only not in (names := [rule.name for rule in spec.passes]):
        raise NotFound(
            f"{spec.name} has no pass {only}.", why=did_you_mean(only, names), todo=f"Its passes: {', '.join(names)}."
        )
    # What matched records disagree in changes nothing of who matches whom.
    plain = spec.model_copy(update={"compare": {}})
    windows = [item for item in windows_of(plain) if only in (None, plain.passes[item[0]].name)]
    if not windows:
        return WhatIf(spec.name, ())
    tables.ensure(database)  # decisions of people are looked up in recon's own tables
    tell = progress or _silent
    whole = len(windows) * len(FACTORS)
    curves: list[Curve] = []
    with database.session() as session:
        bound = bind(session, plain)
        decide(session, bound, temporary(PRESENT), explained=False)
        session.execute(f"ANALYZE pg_temp.{PRESENT}")
        forget(session, temporary(OTHER))
        for place, number in windows:
            points: list[Point] = []
            for factor in FACTORS:
                points.append(_point(session, bound, place, number, factor, points))
                tell(len(curves) * len(FACTORS) + len(points), whole)
            named = bound.passes[place]
            window = named.windows[number]
            in_days = window.family == "date"
            curves.append(Curve(named.name, window.text, text_of(window, Decimal(1)), tuple(points), in_days))
    return WhatIf(spec.name, tuple(curves))


def _silent(done: int, whole: int) -> None:
    """Progress that nobody watches."""


def windows_of(spec: Reconciliation) -> list[tuple[int, int]]:
    """Every window of a spec: the place of its pass among the passes, and its own place in the pass."""
    return [(place, number) for place, rule in enumerate(spec.passes) for number, _ in enumerate(rule.windows)]


def _point(session: Session, present: Bound, place: int, number: int, factor: Decimal, before: list[Point]) -> Point:
    """Decide with one tolerance. What that makes is undone, so that the next one finds the same state."""
    window = present.passes[place].windows[number]
    text = text_of(window, factor)
    for known in before:  # a tolerance of 0 stays 0, whatever it is multiplied by
        if known.tolerance == text:
            return replace(known, factor=float(factor))
    try:
        with session.driver.transaction(force_rollback=True):
            other = bind(session, with_tolerances(present, {(place, number): factor}))
            decide(session, other, temporary(OTHER), explained=False)
            return Point(float(factor), text, *compared(session, other))
    except Refused as refusal:
        return Point(float(factor), text, 0, 0, 0, 0, 0, 0, refusal.what)


def with_tolerances(present: Bound, factors: Mapping[tuple[int, int], Decimal]) -> Reconciliation:
    """The spec with other tolerances.

    Args:
        present: the spec as it is; what its windows measure says how finely they can be told apart.
        factors: for windows by their places (`windows_of`): how many times as wide; others stay as they are.
    """
    passes = list(present.spec.passes)
    for (place, number), factor in factors.items():
        before, after = bounds(present.passes[place].windows[number], factor)
        windows: list[Within] = list(passes[place].windows)
        written = Sides(before=str(before), after=str(after))
        windows[number] = windows[number].model_copy(update={"tolerance": written})
        passes[place] = passes[place].model_copy(update={"within": windows})
    return present.spec.model_copy(update={"passes": passes})


def bounds(window: BoundWindow, factor: Decimal) -> tuple[Tolerance, Tolerance]:
    """A window's bounds before and after the target, that many times as wide; between dates in whole days."""
    both = window.before.times(factor), window.after.times(factor)
    if window.family != "date":
        return both
    before, after = (tolerances.parse(f"{bound.days} days") if bound.kind == "interval" else bound for bound in both)
    return before, after


def text_of(window: BoundWindow, factor: Decimal) -> str:
    """A window's tolerance as a spec writes it, that many times as wide."""
    before, after = bounds(window, factor)
    return str(before) if before == after else f"{before} before, {after} after"


def compared(session: Session, bound: Bound) -> tuple[int, int, int, int, int, int]:
    """Matched, proposed, ambiguous; gained, lost and moved beside the present."""

    def is_(outcome: str) -> exp.Expr:
        return exp.EQ(this=column("other", "outcome"), expression=exp.Literal.string(outcome))

    def number(condition: exp.Expr) -> exp.Expr:
        return exp.Filter(this=exp.Count(this=exp.Star()), expression=exp.Where(this=condition))

    theirs = bound.key_names(bound.other)
    differs = exp.or_(
        *[exp.NullSafeNEQ(this=column("present", name), expression=column("other", name)) for name in theirs]
    )
    moved = exp.and_(_paired("present"), _paired("other"), exp.paren(differs))
    wanted = [is_("matched"), is_("proposed"), is_("ambiguous"), gained(), lost(), moved]
    session.execute(f"ANALYZE pg_temp.{OTHER}")
    found = session.rows(beside(bound, [number(condition) for condition in wanted]).sql(DIALECT, pretty=True))[0]
    return found[0], found[1], found[2], found[3], found[4], found[5]


def gained() -> exp.Expr:
    """Neither matched nor proposed at present, one of them then."""
    return exp.and_(_paired("other"), exp.Not(this=_paired("present")))


def lost() -> exp.Expr:
    """Matched or proposed at present, neither then."""
    return exp.and_(_paired("present"), exp.Not(this=_paired("other")))


def beside(bound: Bound, wanted: Sequence[exp.Expr]) -> exp.Select:
    """Each record's decision at present beside its other one."""
    own = bound.key_names(bound.population)
    same = [exp.EQ(this=column("present", name), expression=column("other", name)) for name in own]
    query = exp.Select(expressions=list(wanted)).from_(temporary(PRESENT, "present"))
    return query.join(temporary(OTHER, "other"), on=exp.and_(*same))


def _paired(alias: str) -> exp.Expr:
    words = [exp.Literal.string(word) for word in ("matched", "proposed")]
    return exp.In(this=column(alias, "outcome"), expressions=words)
