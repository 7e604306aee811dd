"""Who takes part in a run: records under `where`, inside the run's limits, and left to the rules by people.

Limits and overrides are temporary tables of the run's transaction, so that values are bound once and every later
statement stands without parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from recon.database.connect import Session
from recon.errors import UsageError
from recon.expressions import TEXT_TYPES, collate
from recon.matching.bound import Bound
from recon.matching.prepared import OVERRIDES, Prepared
from recon.names import DIALECT, Side, column, identifier
from recon.spec import Reconciliation
from recon.spec_parts import RecordSet

SIDES: tuple[Side, Side] = ("t", "s")
LINKS, FORBIDDEN, CONFLICTED = "recon_links", "recon_forbidden", "recon_conflicted"
EXCLUDED: dict[Side, str] = {"t": "recon_excluded_targets", "s": "recon_excluded_sources"}
_LOOKED_AT: dict[Side, str] = {"t": "recon_looked_at_targets", "s": "recon_looked_at_sources"}
DECIDED = "recon_decided"  # one_to_one: target keys, source keys, decided: the pass's number, 0 for a person's link
TIED = "recon_tied"  # one_to_one: records of the population that a pass left tied: their keys, the pass's number
OTHER_TIED = "recon_other_tied"  # records of the other side that stand in a tie which a person must settle
# All that may be there at the end of deciding.
TABLES = (OVERRIDES, LINKS, FORBIDDEN, CONFLICTED, *EXCLUDED.values(), *_LOOKED_AT.values(), DECIDED, TIED, OTHER_TIED)


@dataclass(frozen=True)
class Filter:
    """What a limited run looks at.

    Args:
        limit: so many unlinked records at most.
        from_date, to_date: inclusive ISO dates, of every side that has `date`.
        scope: one value of the spec's `scope`, as text; nothing of any other is looked at.
    """

    limit: int | None = None
    from_date: str | None = None
    to_date: str | None = None
    scope: str | None = None

    @property
    def days(self) -> list[str]:
        return [value for value in (self.from_date, self.to_date) if value is not None]

    @property
    def partly(self) -> bool:
        """Whether partners of what is looked at may be left out: nothing can be called absent. A scope is a whole."""
        return self.limit is not None or bool(self.days)

    def as_dict(self) -> dict[str, object] | None:
        found = {"limit": self.limit, "from": self.from_date, "to": self.to_date, "scope": self.scope}
        return {name: value for name, value in found.items() if value is not None} or None

    @classmethod
    def from_dict(cls, limited: dict[str, object] | None) -> Filter:
        found = limited or {}
        limit, *texts = (found.get(name) for name in ("limit", "from", "to", "scope"))
        first, last, scope = (None if text is None else str(text) for text in texts)
        return cls(int(str(limit)) if limit else None, first, last, scope)

    def check(self, spec: Reconciliation) -> None:
        """Raises UsageError where dates are asked for and no side names one, or a scope and the spec has none."""
        if self.scope is not None and spec.scope is None:
            raise UsageError(f"{spec.name} has no scope.", why="No column divides its records into parts of their own.")
        if self.days and spec.target.date is None and spec.source.date is None:
            raise UsageError("--from and --to need a date.", why=f"{spec.name} names no `date` for either side.")


@dataclass(frozen=True)
class Pool:
    """Which of the temporary tables exist. Without any, everything under `where` takes part."""

    limited: frozenset[Side] = frozenset()
    excluded: frozenset[Side] = frozenset()
    links: bool = False
    forbidden: bool = False
    conflicted: bool = False
    held: bool = True  # whether any target row may hold a link

    def after(self, people: Prepared) -> Pool:
        """This pool with what people decided taken out of it."""
        excluded: set[Side] = set()
        if people.excluded_targets:
            excluded.add("t")
        if people.excluded_sources:
            excluded.add("s")
        return replace(
            self,
            excluded=frozenset(excluded),
            links=people.links,
            forbidden=people.forbidden,
            conflicted=people.conflicted,
        )

    @property
    def restricted(self) -> bool:
        """Whether limits or people keep any record or pair from the rules."""
        return bool(self.limited or self.excluded or self.links or self.forbidden or self.conflicted)

    def looked_at(self, bound: Bound, side: Side) -> list[exp.Expr]:
        """The side's `where` and the limits of the run."""
        semi = [present(_LOOKED_AT[side], bound, [side])] if side in self.limited else []
        return [*bound.where(side), *semi]

    def eligible(self, bound: Bound, side: Side) -> list[exp.Expr]:
        """What a record of this side must satisfy for the rules to look at it at all."""
        conditions = self.looked_at(bound, side)
        one_to_one = bound.spec.cardinality == "one_to_one"
        if bound.link is not None:
            if side == "t":
                conditions.append(exp.Is(this=bound.link, expression=exp.Null()))
            elif one_to_one and self.held:
                conditions.append(exp.Not(this=held(bound)))
        if side in self.excluded:
            conditions.append(exp.Not(this=present(EXCLUDED[side], bound, [side])))
        if self.links and (side == "t" or one_to_one):
            conditions.append(exp.Not(this=present(LINKS, bound, [side])))
        if self.conflicted and side == bound.population:
            conditions.append(exp.Not(this=present(CONFLICTED, bound, [side])))
        return conditions

    def allowed(self, bound: Bound) -> list[exp.Expr]:
        """What a pair must satisfy: nobody forbade it."""
        return [exp.Not(this=present(FORBIDDEN, bound, SIDES))] if self.forbidden else []


def present(table: str, bound: Bound, sides: Sequence[Side], alias: str = "listed") -> exp.Exists:
    """Whether a temporary table holds the key of the record (or of the pair) at hand."""
    same = [
        exp.EQ(this=column(alias, name), expression=key)
        for side in sides
        for name, key in zip(bound.key_names(side), bound.keys(side), strict=True)
    ]
    query = exp.Select(expressions=[exp.Literal.number(1)]).from_(temporary(table, alias)).where(*same)
    return exp.Exists(this=query)


def held(bound: Bound) -> exp.Exists:
    """Whether some row of the target holds the source record at hand in its link column.

    That is any row, under `where` or not; of a query's target, any row of the table behind it.
    """
    return exp.Exists(
        this=exp.Select(expressions=[exp.Literal.number(1)])
        .from_(bound.holders.aliased("holder"))
        .where(holds(bound, "holder"))
    )


def holds(bound: Bound, holder: str) -> exp.Expr:
    """The target under this alias holds `s` in its link column."""
    assert bound.spec.link is not None
    return same_key(bound, column(holder, bound.spec.link.column))


def same_key(bound: Bound, held: exp.Expr) -> exp.Expr:
    """A value of the link column is the key of `s`."""
    assert bound.spec.link is not None
    key: exp.Expr = bound.source_keys[0]
    if bound.target.columns[bound.spec.link.column] in TEXT_TYPES:
        held, key = collate(held), collate(key)
    return exp.EQ(this=held, expression=key)


def temporary(name: str, alias: str | None = None) -> exp.Table:
    """A temporary table of this run."""
    table = exp.Table(this=identifier(name), db=identifier("pg_temp"))
    if alias is not None:
        table.set("alias", exp.TableAlias(this=identifier(alias)))
    return table


def creating(table: exp.Table, query: exp.Expr) -> str:
    """CREATE TABLE … AS, temporary where the table is in pg_temp."""
    passing = table.args["db"].name == "pg_temp"
    name = exp.Table(this=table.this.copy(), db=None if passing else table.args["db"].copy()).sql(DIALECT)
    head = f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS" if passing else f"CREATE TABLE {name} AS"
    return f"{head}\n{query.sql(DIALECT, pretty=True)}"


def any_held(session: Session, bound: Bound) -> bool:
    """Whether a target row holds a link; where none does, no source needs to be looked for among them."""
    if bound.link is None:
        return False
    query = exp.Select(expressions=[exp.Literal.number(1)]).from_(bound.holders.aliased("t"))
    holds_one = exp.Not(this=exp.Is(this=bound.link, expression=exp.Null()))
    return session.value(query.where(holds_one).limit(1).sql(DIALECT)) is not None


def limit(session: Session, bound: Bound, limited: Filter) -> frozenset[Side]:
    """Make the temporary tables of a limited run; says for which sides there is one."""
    parts: dict[Side, list[exp.Expr]] = {
        side: [*_dates(bound, side, limited), *_scope(bound, side, limited)] for side in SIDES
    }
    dated: dict[Side, exp.Query] = {
        side: _keys(bound, side).where(*bound.where(side), *part) for side, part in parts.items()
    }
    sides: dict[Side, exp.Query] = {side: query for side, query in dated.items() if parts[side]}
    if limited.limit is not None:
        side = bound.population
        is_open = exp.and_(*Pool().eligible(bound, side)) if Pool().eligible(bound, side) else exp.true()
        order = [exp.Ordered(this=key, nulls_first=False) for key in bound.keys(side)]
        whole = dated[side]
        assert isinstance(whole, exp.Select)
        first = whole.copy().where(is_open).order_by(*order).limit(limited.limit)
        # What holds a link already is listed in any case: the limit is for the work, not for the account of it.
        sides[side] = exp.union(whole.where(exp.Not(this=exp.paren(is_open.copy()))), exp.paren(first), distinct=False)
    for side, query in sides.items():
        values = limited.days if _dates(bound, side, limited) else []
        if limited.scope is not None:
            values = [*values, limited.scope]
        session.execute(creating(temporary(_LOOKED_AT[side]), query), *values)
    return frozenset(sides)


def _keys(bound: Bound, side: Side) -> exp.Select:
    named = [
        exp.alias_(key, name, quoted=True) for key, name in zip(bound.keys(side), bound.key_names(side), strict=True)
    ]
    return exp.Select(expressions=named).from_(bound.relation[side].aliased(side))


def _scope(bound: Bound, side: Side, limited: Filter) -> list[exp.Expr]:
    """That a record is of the scope that is looked at; its value is the parameter after the days."""
    if limited.scope is None or bound.spec.scope is None:
        return []
    number = 1 + (len(limited.days) if _dates(bound, side, limited) else 0)
    wanted: exp.Expr = exp.cast(
        exp.Parameter(this=exp.Literal.number(number)), bound.relation[side].type_of(bound.spec.scope)
    )
    mine: exp.Expr = column(side, bound.spec.scope)
    if bound.relation[side].columns[bound.spec.scope] in TEXT_TYPES:
        mine, wanted = collate(mine), collate(wanted)
    return [exp.EQ(this=mine, expression=wanted)]


def _dates(bound: Bound, side: Side, limited: Filter) -> list[exp.Expr]:
    record_set: RecordSet = bound.spec.target if side == "t" else bound.spec.source
    if record_set.date is None or not limited.days:
        return []
    day = exp.cast(column(side, record_set.date), "date")
    bounds: list[exp.Expr] = []
    for value, test in ((limited.from_date, exp.GTE), (limited.to_date, exp.LTE)):
        if value is not None:
            parameter = exp.Parameter(this=exp.Literal.number(len(bounds) + 1))
            bounds.append(test(this=day.copy(), expression=exp.cast(parameter, "date")))
    return bounds
