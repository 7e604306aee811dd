"""Windows as SQL: whether two values lie within a tolerance, how far apart they are, and by how much they miss.

Times are compared as `s between t - interval and t + interval`, and distances of times are intervals that are compared
as they are: no number of seconds is taken out of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from sqlglot import exp

from recon.names import operand
from recon.tolerances import Tolerance

Family = Literal["number", "date", "time"]
INTEGERS = frozenset({"int2", "int4", "int8"})
FLOATS = frozenset({"float4", "float8"})
_TIMES = frozenset({"timestamp", "timestamptz"})


def family(kind: str) -> Family | None:
    """What is measured between values of this PostgreSQL type; None where nothing is."""
    if kind in INTEGERS or kind in FLOATS or kind == "numeric":
        return "number"
    return "date" if kind == "date" else "time" if kind in _TIMES else None


@dataclass(frozen=True)
class BoundWindow:
    """Two values of a pair and how far the source's may lie before and after the target's."""

    target: exp.Expr
    source: exp.Expr
    before: Tolerance
    after: Tolerance
    text: str  # as the spec writes the two sides, for people
    family: Family = "number"

    def typed(self, target: str, source: str) -> BoundWindow:
        """The same window over values that can be added and subtracted without loss.

        Floats are taken as the decimals that they show, so that a bound is where a person reads it; small integers
        get room for the sum.
        """
        whole = all(bound.kind != "percent" and bound.amount % 1 == 0 for bound in (self.before, self.after))

        def roomy(tree: exp.Expr, kind: str) -> exp.Expr:
            if kind in FLOATS:  # by way of the digits that it shows: a cast alone would cut some off
                return exp.cast(exp.cast(tree.copy(), "text"), "numeric")
            if (kind in INTEGERS and not whole) or kind == "int8":
                return exp.cast(tree.copy(), "numeric")
            return exp.cast(tree.copy(), "bigint") if kind in INTEGERS else tree

        measured = family(target)
        assert measured is not None
        left, right = self.target, self.source
        if measured == "number":
            left, right = roomy(left, target), roomy(right, source)
        return replace(self, target=operand(left), source=operand(right), family=measured)

    def inside(self) -> exp.Expr:
        """Whether the source's value lies in the window, bounds included; NULL where a value is NULL."""
        between = exp.Between(
            this=self.source.copy(),
            low=self._moved(exp.Sub, self.before),
            high=self._moved(exp.Add, self.after),
        )
        if self.before.kind != "percent" and self.after.kind != "percent":
            return between
        # A share of infinity is none: there only the same value is within.
        size = exp.Anonymous(this="abs", expressions=[self.target.copy()])
        finite = exp.LT(this=size, expression=exp.cast(exp.Literal.string("Infinity"), "numeric"))
        same = exp.EQ(this=self.source.copy(), expression=self.target.copy())
        return exp.paren(exp.or_(same, exp.and_(finite, between)))

    def distance(self) -> exp.Expr:
        """How far apart the two values are: a number, a number of days, or an interval; never negative.

        NULL between an infinite time and another.
        """
        return self._difference(
            exp.Sub(this=self.source.copy(), expression=self.target.copy()),
            exp.Sub(this=self.target.copy(), expression=self.source.copy()),
        )

    def missed_by(self) -> exp.Expr:
        """How far beyond its bound the source's value lies; zero within the window, NULL where it cannot be measured."""
        late = exp.Sub(this=self.source.copy(), expression=exp.paren(self._moved(exp.Add, self.after)))
        early = exp.Sub(this=exp.paren(self._moved(exp.Sub, self.before)), expression=self.source.copy())
        measured = exp.Case(
            ifs=[
                exp.If(this=exp.GT(this=self.source.copy(), expression=self._moved(exp.Add, self.after)), true=late),
                exp.If(this=exp.LT(this=self.source.copy(), expression=self._moved(exp.Sub, self.before)), true=early),
                exp.If(this=self.inside(), true=self._zero()),
            ]
        )
        if self.family == "number":
            return measured
        # Between two infinite times there is no distance.
        finite = [exp.Anonymous(this="isfinite", expressions=[tree.copy()]) for tree in (self.target, self.source)]
        return exp.Case(ifs=[exp.If(this=exp.and_(*finite), true=measured)])

    def _difference(self, later: exp.Expr, earlier: exp.Expr) -> exp.Expr:
        # Not abs(): intervals have none, and equal infinite times have no difference.
        unmeasured: list[exp.If] = []
        if self.family != "number":
            finite = [exp.Anonymous(this="isfinite", expressions=[tree.copy()]) for tree in (self.target, self.source)]
            apart = exp.NEQ(this=self.source.copy(), expression=self.target.copy())
            never = exp.and_(exp.Not(this=exp.paren(exp.and_(*finite))), apart)
            unmeasured.append(exp.If(this=never, true=exp.Null()))
        return exp.Case(
            ifs=[
                *unmeasured,
                exp.If(this=exp.GT(this=self.source.copy(), expression=self.target.copy()), true=later),
                exp.If(this=exp.LT(this=self.source.copy(), expression=self.target.copy()), true=earlier),
                exp.If(this=exp.EQ(this=self.source.copy(), expression=self.target.copy()), true=self._zero()),
            ]
        )

    def _zero(self) -> exp.Expr:
        return _interval("0", "second") if self.family == "time" else exp.Literal.number(0)

    def _moved(self, direction: type[exp.Binary], bound: Tolerance) -> exp.Expr:
        if not bound.amount:
            return self.target.copy()
        return direction(this=self.target.copy(), expression=self._amount(bound))

    def _amount(self, bound: Tolerance) -> exp.Expr:
        if bound.kind == "interval":
            return exp.Literal.number(bound.days) if self.family == "date" else _interval(*bound.unit)
        if bound.kind == "number":
            return exp.Literal.number(f"{bound.amount:f}")
        share = exp.Literal.number(f"{bound.amount / 100:f}")
        return exp.Mul(this=exp.Anonymous(this="abs", expressions=[self.target.copy()]), expression=share)


def _interval(number: str, unit: str) -> exp.Expr:
    return exp.Interval(this=exp.Literal.string(number), unit=exp.Var(this=unit.upper()))
