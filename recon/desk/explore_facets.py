"""Facets of a run's records: by outcome, reason, pass, age, month and assignee, each counted under the others' choices.

One query counts every combination; choosing among them is then a matter of milliseconds, without the database.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlglot import exp

from recon.database import tables
from recon.database.connect import Session
from recon.expressions import collate
from recon.matching import breaks, keys
from recon.matching.bound import Bound
from recon.matching.coverage import RECONCILED
from recon.matching.privacy import hidden
from recon.matching.run import Run
from recon.matching.statements import OUTCOMES, equal
from recon.names import DIALECT, Side, column, identifier
from recon.spec_parts import OVERRIDE

FACETS = ("outcome", "reason", "pass", "age", "month", "assignee")
NONE = "(none)"  # the value of a record that has none: no reason, no pass, no break, no date
ALL = "(all)"  # in an address: no outcome is chosen, where else what is left to explain would be
MONTHS = 24  # shown one by one; what is older stands together
_BEFORE = "before "
_OLDER = re.compile(_BEFORE + "[0-9]{4}-[0-9]{2}")
_FIRST, _LAST = "0001-01-01", "9999-12-31"  # what Python can hold; other dates count as none

Chosen = Mapping[str, Sequence[str]]  # the values that are ticked, by facet; a facet without any lets all through


@dataclass
class Values:
    """What is bound to a statement that is being built."""

    bound: list[object] = field(default_factory=list[object])

    def add(self, value: object, kind: str) -> exp.Expr:
        """The parameter that stands for one more value, as this type."""
        self.bound.append(value)
        return exp.cast(exp.Parameter(this=exp.Literal.number(len(self.bound))), kind)

    def one_of(self, tree: exp.Expr, wanted: Sequence[str]) -> exp.Expr:
        return exp.EQ(this=tree, expression=exp.Any(this=exp.paren(self.add(list(wanted), "text[]"))))


@dataclass(frozen=True)
class Cell:
    """How many records have these values, in the order of FACETS."""

    values: tuple[str, ...]
    records: int


@dataclass(frozen=True)
class Cube:
    """Every combination of values that a run's records have."""

    cells: tuple[Cell, ...]
    passes: tuple[str, ...]  # in the order in which they run

    @property
    def months(self) -> frozenset[str]:
        """The values of the facet of months. What stands together as older moves on from month to month."""
        place = FACETS.index("month")
        return frozenset(cell.values[place] for cell in self.cells)

    @property
    def unreconciled(self) -> tuple[str, ...]:
        """The outcomes that leave something to explain, in the order of the pipeline."""
        found = {cell.values[0] for cell in self.cells} - {*RECONCILED, "excluded"}
        return tuple(name for name in OUTCOMES if name in found)

    def total(self, chosen: Chosen) -> int:
        """How many records a choice lets through."""
        return sum(cell.records for cell in self.cells if _fits(cell, chosen))

    def counts(self, chosen: Chosen) -> dict[str, dict[str, int]]:
        """For each facet its values, and how many records each has under the choices of the other facets.

        A facet in which all records are alike is left out, unless something is ticked in it. A value that the other
        choices leave without a record stays, with 0: a facet does not change its shape under the hand.
        """
        found: dict[str, dict[str, int]] = {}
        for place, facet in enumerate(FACETS):
            others = {name: values for name, values in chosen.items() if name != facet}
            numbers = {cell.values[place]: 0 for cell in self.cells} | dict.fromkeys(chosen.get(facet, ()), 0)
            for cell in self.cells:
                if _fits(cell, others):
                    numbers[cell.values[place]] += cell.records
            if len(numbers) > 1 or (numbers and chosen.get(facet)):
                found[facet] = {value: numbers[value] for value in sorted(numbers, key=self._order(facet))}
        return found

    def by_reason(self, outcome: str) -> dict[str, int]:
        """How many records of an outcome have each reason, most first; those without a reason are left out."""
        found: dict[str, int] = {}
        for cell in self.cells:
            if cell.values[0] == outcome and cell.values[1] != NONE:
                found[cell.values[1]] = found.get(cell.values[1], 0) + cell.records
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def _order(self, facet: str) -> Callable[[str], tuple[Any, ...]]:
        listed: Mapping[str, Sequence[str]] = {"outcome": OUTCOMES, "pass": self.passes, "age": breaks.AGES}
        if facet in listed:
            places = {name: place for place, name in enumerate(listed[facet])}
            return lambda value: (value == NONE, places.get(value, len(places)), value)
        if facet == "reason":
            weights: dict[str, int] = {}
            for cell in self.cells:
                weights[cell.values[1]] = weights.get(cell.values[1], 0) + cell.records
            return lambda value: (value == NONE, -weights.get(value, 0), value)
        if facet == "month":  # the newest first
            return lambda value: (value == NONE, value.startswith(_BEFORE), [-ord(letter) for letter in value])
        return lambda value: (value == NONE, value)


def _fits(cell: Cell, chosen: Chosen) -> bool:
    return all(not values or cell.values[FACETS.index(facet)] in values for facet, values in chosen.items())


def chosen_in(given: Callable[[str], list[str]], cube: Cube) -> dict[str, tuple[str, ...]]:
    """What an address chooses: without a word on outcomes, what is left to explain.

    Args:
        given: the values of a name in the address.
        cube: what there is to choose from.
    """
    found = {facet: tuple(filter(keeps, given(facet))) for facet in FACETS}
    found["month"] = tuple(dict.fromkeys(_as_listed(value, cube.months) for value in found["month"]))
    if found["outcome"] == (ALL,):
        found["outcome"] = ()
    elif not found["outcome"]:
        found["outcome"] = cube.unreconciled
    return found


def keeps(text: str) -> bool:
    """Whether PostgreSQL can hold a text that an address says, which may be anything: no NUL, no half of a letter."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _as_listed(month: str, months: frozenset[str]) -> str:
    """A month of an address that is older than the facet: what is older is meant by it, as far as it reaches now."""
    if not _OLDER.fullmatch(month):
        return month
    return next(filter(_OLDER.fullmatch, months), month)


def in_address(facet: str, values: Sequence[str], cube: Cube) -> list[str]:
    """What stands in the address for a choice; the other way round than `chosen_in`."""
    if facet != "outcome":
        return list(values)
    return [] if set(values) == set(cube.unreconciled) else list(values) or [ALL]


# -- counting --------------------------------------------------------------------------------------------


def count(session: Session, bound: Bound, run: Run) -> Cube:
    """Count every combination of values among the decisions of a run, in one statement."""
    passes = (OVERRIDE, *(rule.name for rule in bound.passes))
    values = Values()
    parts = [_part(bound, run, values, side) for side in (None, *_sides(bound))]
    whole = exp.union(*parts, distinct=False)
    found: dict[tuple[Any, ...], int] = {}
    for *row, number in session.rows(whole.sql(DIALECT, pretty=True), *values.bound):
        found[tuple(row)] = found.get(tuple(row), 0) + number
    place = FACETS.index("month")
    months = sorted({row[place] for row in found if isinstance(row[place], date)})
    first = months[-MONTHS] if len(months) > MONTHS else None
    cells: dict[tuple[str, ...], int] = {}
    for row, number in found.items():
        named = tuple(
            _month(value, first) if at == place else NONE if value is None else str(value)
            for at, value in enumerate(row)
        )
        cells[named] = cells.get(named, 0) + number
    return Cube(tuple(Cell(named, number) for named, number in cells.items()), passes)


def _month(value: object, first: date | None) -> str:
    if not isinstance(value, date):
        return NONE
    return f"{_BEFORE}{first:%Y-%m}" if first is not None and value < first else f"{value:%Y-%m}"


def _sides(bound: Bound) -> list[Side]:
    """Whose records the decisions are about: the population's, and where the spec compares the other side's too."""
    return [bound.population, bound.other] if bound.compared else [bound.population]


def decisions(run: Run) -> exp.Table:
    """The decisions of a run, under the alias `d`."""
    table = tables.own("decisions", run.run)
    return exp.Table(this=table.this, db=table.args["db"], alias=exp.TableAlias(this=identifier("d")))


def _part(bound: Bound, run: Run, values: Values, side: Side | None) -> exp.Select:
    """Counts of those reconciled (side None), or of the breaks of one side."""
    nothing = exp.cast(exp.Null(), "text")
    age: exp.Expr = nothing
    assignee: exp.Expr = nothing.copy()
    if side is not None:
        opened = column("b", "opened_at")
        age = breaks.age_class(
            opened, exp.GTE(this=opened.copy(), expression=values.add(run.started_at, "timestamptz"))
        )
        assignee = column("b", "assignee")
    grouped = [*(column("d", name) for name in FACETS[:3]), age, _month_of(bound), assignee]
    query = exp.Select(expressions=[*grouped, exp.Count(this=exp.Star())]).from_(decisions(run))
    query = with_dates(bound, query)
    settled = _no_break()
    if side is None:
        query = query.where(settled)
    else:
        own = bound.key_names(side)
        on = exp.and_(*_break_of(bound, values, side), keys.same(column("b", "key"), [column("d", n) for n in own]))
        table = exp.Table(this=identifier("breaks"), db=identifier(tables.SCHEMA))
        table.set("alias", exp.TableAlias(this=identifier("b")))
        query = query.where(exp.Not(this=settled), *_about(bound, side)).join(table, on=on, join_type="left")
    return query.group_by(*[exp.Literal.number(place) for place in range(1, len(grouped) + 1)])


def _no_break() -> exp.Expr:
    words = [exp.Literal.string(name) for name in breaks.NO_BREAK]
    return exp.In(this=column("d", "outcome"), expressions=words)


def _about(bound: Bound, side: Side) -> list[exp.Expr]:
    """A decision is about a record of this side: the population's own, or where that has none the other's."""
    if not bound.compared:
        return []
    foreign = exp.Is(this=column("d", bound.key_names(bound.population)[0]), expression=exp.Null())
    return [exp.Not(this=foreign) if side == bound.population else foreign]


def _break_of(bound: Bound, values: Values, side: Side) -> list[exp.Expr]:
    return [
        exp.EQ(this=column("b", "reconciliation"), expression=values.add(bound.spec.name, "text")),
        exp.EQ(this=column("b", "side"), expression=exp.Literal.string(keys.WORDS[side])),
        exp.NEQ(this=column("b", "state"), expression=exp.Literal.string("resolved")),
    ]


def date_of(bound: Bound) -> exp.Expr | None:
    """The day of a record of the population; None where the spec names no `date` for it, or it may not be seen."""
    side = bound.population
    name = (bound.spec.target if side == "t" else bound.spec.source).date
    if not name or hidden(bound, column(side, name)):
        return None
    return exp.cast(column(side, name), "date")


def with_dates(bound: Bound, query: exp.Select) -> exp.Select:
    """A query over decisions with the population's records beside them, where these have a date."""
    side = bound.population
    if date_of(bound) is None:
        return query
    on = [*equal(bound.keys(side), "d", bound.key_names(side)), *bound.where(side)]
    return query.join(bound.relation[side].aliased(side), on=exp.and_(*on), join_type="left")


def _month_of(bound: Bound) -> exp.Expr:
    day = date_of(bound)
    if day is None:
        return exp.cast(exp.Null(), "date")
    first = exp.cast(exp.Anonymous(this="date_trunc", expressions=[exp.Literal.string("month"), day]), "date")
    return exp.Case(ifs=[exp.If(this=_is_date(day), true=first)])


def _is_date(day: exp.Expr) -> exp.Expr:
    low, high = (exp.cast(exp.Literal.string(text), "date") for text in (_FIRST, _LAST))
    return exp.Between(this=day.copy(), low=low, high=high)


# -- choosing --------------------------------------------------------------------------------------------


def conditions(bound: Bound, run: Run, cube: Cube, chosen: Chosen, values: Values) -> list[exp.Expr]:
    """What a decision `d` must satisfy to be among the chosen; where months are chosen, `with_dates` must be there.

    A month that the cube does not list lets no record through, so that as many are listed as are counted.
    """
    found: list[exp.Expr] = []
    for facet in FACETS:
        wanted = [value for value in chosen.get(facet, ()) if value != NONE]
        if not chosen.get(facet):
            continue
        if facet == "month":
            months = cube.months
            tests = [_in_month(bound, value, values) if value in months else exp.false() for value in wanted]
        elif facet in ("age", "assignee"):
            tests = [_has_break(bound, run, facet, wanted, values)] if wanted else []
        else:
            tests = [values.one_of(column("d", facet), wanted)] if wanted else []
        if NONE in chosen[facet]:
            tests.append(_has_none(bound, run, facet, values))
        found.append(exp.paren(exp.or_(*tests)))
    return found


def _has_none(bound: Bound, run: Run, facet: str, values: Values) -> exp.Expr:
    if facet == "month":
        day = date_of(bound)
        return exp.true() if day is None else exp.Not(this=exp.Coalesce(this=_is_date(day), expressions=[exp.false()]))
    if facet in ("age", "assignee"):
        return exp.Not(this=exp.paren(_has_break(bound, run, facet, None, values)))
    return exp.Is(this=column("d", facet), expression=exp.Null())


def _has_break(bound: Bound, run: Run, facet: str, wanted: Sequence[str] | None, values: Values) -> exp.Expr:
    """The record has an open break of one of these ages or assignees; None: of any age, or with any assignee."""
    whose: list[exp.Expr] = []
    for side in _sides(bound):
        own = [column("d", name) for name in bound.key_names(side)]
        parts = [
            exp.Bracket(this=column("b", "key"), expressions=[exp.Literal.number(place)], offset=1)
            for place in range(1, len(own) + 1)
        ]
        table = exp.Table(this=identifier("breaks"), db=identifier(tables.SCHEMA))
        table.set("alias", exp.TableAlias(this=identifier("b")))
        length = exp.EQ(
            this=exp.Anonymous(this="cardinality", expressions=[column("b", "key")]),
            expression=exp.Literal.number(len(own)),
        )
        inner = exp.Select(expressions=parts).from_(table).where(*_break_of(bound, values, side), length)
        if facet == "assignee":
            tree = column("b", "assignee")
            any_of = exp.Not(this=exp.Is(this=tree, expression=exp.Null()))
            inner = inner.where(any_of if wanted is None else values.one_of(tree, wanted))
        elif wanted is not None:
            opened = column("b", "opened_at")
            since = exp.GTE(this=opened.copy(), expression=values.add(run.started_at, "timestamptz"))
            inner = inner.where(values.one_of(breaks.age_class(opened, since), wanted))
        texts = [collate(exp.cast(part, "text")) for part in own]
        left = texts[0] if len(texts) == 1 else exp.Tuple(expressions=texts)
        found = exp.In(this=left, query=exp.Subquery(this=inner))
        # Right after a large run the planner takes the breaks for a few, and would go through all of them for each
        # record. What is asked to be true is no join to it: it reads the breaks once, and holds their keys.
        whose.append(exp.and_(*_about(bound, side), exp.Is(this=exp.paren(found), expression=exp.true())))
    return exp.and_(exp.Not(this=_no_break()), exp.paren(exp.or_(*whose)))


def _in_month(bound: Bound, value: str, values: Values) -> exp.Expr:
    day = date_of(bound)
    if day is None:
        return exp.false()
    first = date.fromisoformat(f"{value.removeprefix(_BEFORE)}-01")
    start = values.add(first, "date")
    if value.startswith(_BEFORE):
        return exp.and_(_is_date(day), exp.LT(this=day, expression=start))
    month = exp.Interval(this=exp.Literal.string("1"), unit=exp.Var(this="MONTH"))
    until = exp.LT(this=day.copy(), expression=exp.Add(this=start.copy(), expression=month))
    return exp.paren(exp.and_(exp.GTE(this=day, expression=start), until))
