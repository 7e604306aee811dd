"""What if a window were wider, or narrower? The records are decided again, exactly, with each other tolerance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any

from sqlglot import exp

from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import NotFound, Refused, did_you_mean
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.decide import decide, forget
from recon.matching.pool import temporary
from recon.names import DIALECT, column
from recon.spec import Reconciliation, Sides, Within

# How many times as wide as the present tolerance; 1 is the present itself.
FACTORS = tuple(map(Decimal, ("0", "0.25", "0.5", "0.75", "1", "1.5", "2", "3", "5", "10")))
_PRESENT, _OTHER = "recon_present", "recon_what_if"

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
    windows = [
        (place, number, window)
        for place, rule in enumerate(plain.passes)
        for number, window in enumerate(rule.windows)
        if only in (None, rule.name)
    ]
    if not windows:
        return WhatIf(spec.name, ())
    tables.ensure(database)  # decisions of people are looked up in recon's own tables
    tell = progress or _silent
    whole = len(windows) * len(FACTORS)
    curves: list[Curve] = []
    with database.session() as session:
        bound = bind(session, plain)
        decide(session, bound, temporary(_PRESENT), explained=False)
        session.execute(f"ANALYZE pg_temp.{_PRESENT}")
        forget(session, temporary(_OTHER))
        for place, number, window in windows:
            points: list[Point] = []
            for factor in FACTORS:
                points.append(_point(session, plain, place, number, factor, points))
                tell(len(curves) * len(FACTORS) + len(points), whole)
            named = bound.passes[place]
            curves.append(Curve(named.name, named.windows[number].text, _text(window, Decimal(1)), tuple(points)))
    return WhatIf(spec.name, tuple(curves))


def _silent(done: int, whole: int) -> None:
    """Progress that nobody watches."""


def _point(
    session: Session, spec: Reconciliation, place: int, number: int, factor: Decimal, before: list[Point]
) -> Point:
    """Decide with one tolerance. What that makes is undone, so that the next one finds the same state."""
    window = spec.passes[place].windows[number]
    text = _text(window, factor)
    for known in before:  # a tolerance of 0 stays 0, whatever it is multiplied by
        if known.tolerance == text:
            return replace(known, factor=float(factor))
    try:
        with session.driver.transaction(force_rollback=True):
            other = bind(session, _with(spec, place, number, _times(window, factor)))
            decide(session, other, temporary(_OTHER), explained=False)
            matched, proposed, ambiguous, gained, lost, moved = _compared(session, other)
            return Point(float(factor), text, matched, proposed, ambiguous, gained, lost, moved)
    except Refused as refusal:
        return Point(float(factor), text, 0, 0, 0, 0, 0, 0, refusal.what)


def _with(spec: Reconciliation, place: int, number: int, window: Within) -> Reconciliation:
    """The spec with one window instead of another."""
    rule = spec.passes[place]
    windows = [window if position == number else item for position, item in enumerate(rule.windows)]
    passes = list(spec.passes)
    passes[place] = rule.model_copy(update={"within": windows})
    return spec.model_copy(update={"passes": passes})


def _times(window: Within, factor: Decimal) -> Within:
    before, after = (bound.times(factor) for bound in window.bounds)
    return window.model_copy(update={"tolerance": Sides(before=str(before), after=str(after))})


def _text(window: Within, factor: Decimal) -> str:
    before, after = (bound.times(factor) for bound in window.bounds)
    return str(before) if before == after else f"{before} before, {after} after"


def _compared(session: Session, bound: Bound) -> tuple[int, int, int, int, int, int]:
    """Matched, proposed, ambiguous; gained, lost and moved beside the present."""
    own, theirs = bound.key_names(bound.population), bound.key_names(bound.other)

    def is_(alias: str, outcome: str) -> exp.Expr:
        return exp.EQ(this=column(alias, "outcome"), expression=exp.Literal.string(outcome))

    def number(*conditions: exp.Expr) -> exp.Expr:
        return exp.Filter(this=exp.Count(this=exp.Star()), expression=exp.Where(this=exp.and_(*conditions)))

    now, then = (
        exp.In(
            this=column(alias, "outcome"), expressions=[exp.Literal.string(word) for word in ("matched", "proposed")]
        )
        for alias in ("present", "other")
    )
    differs = exp.or_(
        *[exp.NullSafeNEQ(this=column("present", name), expression=column("other", name)) for name in theirs]
    )
    query = exp.Select(
        expressions=[
            number(is_("other", "matched")),
            number(is_("other", "proposed")),
            number(is_("other", "ambiguous")),
            number(then.copy(), exp.Not(this=now)),
            number(now.copy(), exp.Not(this=then.copy())),
            number(now.copy(), then.copy(), exp.paren(differs)),
        ]
    ).from_(temporary(_PRESENT, "present"))
    same = [exp.EQ(this=column("present", name), expression=column("other", name)) for name in own]
    session.execute(f"ANALYZE pg_temp.{_OTHER}")
    found = session.rows(query.join(temporary(_OTHER, "other"), on=exp.and_(*same)).sql(DIALECT))[0]
    return found[0], found[1], found[2], found[3], found[4], found[5]
