"""Why not? Each record without a partner gets, pass by pass, what stood in the way (design, section 5)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from decimal import Decimal

from sqlglot import exp

from recon.matching import pool as pools
from recon.matching.bound import Bound, BoundPass
from recon.matching.comparison import outcomes_alone
from recon.matching.pool import DECIDED, EXCLUDED, TIED, Pool, present, temporary
from recon.matching.statements import case, equal, first_columns, named, not_null
from recon.names import DIALECT, Side, column, identifier
from recon.spec_parts import OVERRIDE

# How close a pass came, nearest first; `tie` occurs only where `on_tie: next` went past it.
CLOSENESS = (
    "tie", "taken", "already_linked", "forbidden", "out_of_tolerance", "when_false", "no_candidate", "null_key",
)  # fmt: skip
NEARBY = Decimal(10)  # how many tolerances wide the look around is where looking at every pair would be too much

# A tie, a proposal and what people decided are reasons too: they say what a person is awaited for.
OF_OTHERS = {"ambiguous": "tie", "proposed": "review", "excluded": "excluded", "invalid": "invalid"}
CONFLICT = "conflict"


def of_others(table: exp.Table) -> str:
    """The statement that gives the reason of records that are not reconciled for another cause than no partner."""
    cases = [
        exp.If(this=exp.Literal.string(outcome), true=exp.Literal.string(reason))
        for outcome, reason in OF_OTHERS.items()
    ]
    words = exp.Case(this=_own("outcome"), ifs=cases)
    conflict = exp.and_(
        exp.EQ(this=_own("outcome"), expression=exp.Literal.string("ambiguous")),
        exp.EQ(this=_own("pass"), expression=exp.Literal.string(OVERRIDE)),
    )
    reason = case(None, [(conflict, exp.Literal.string(CONFLICT))], words)
    update = exp.Update(this=table.copy(), expressions=[exp.EQ(this=_own("reason"), expression=reason)])
    concerned = exp.In(this=_own("outcome"), expressions=[exp.Literal.string(word) for word in OF_OTHERS])
    update.set("where", exp.Where(this=concerned))
    return update.sql(DIALECT, pretty=True)


def _own(name: str) -> exp.Column:
    return exp.Column(this=identifier(name))


def of_unmatched(bound: Bound, pool: Pool, table: exp.Table, wide: Collection[str] = ()) -> str:
    """The statement that gives each record without a partner its reason, and every pass's in `evidence`.

    `reason` and `pass` say the closest, then the earliest pass; `evidence` holds every pass with its reason and, where
    there is more to say, details: which columns are NULL, who took or holds a candidate, by how much the nearest missed.

    Args:
        bound: the spec.
        pool: who took part.
        table: the decisions.
        wide: passes whose `on` alone gives too many pairs to look at; there only what lies near is.
    """
    mine = bound.population
    own = bound.key_names(mine)
    passes = [
        _PassReason(bound, pool, rule, number, table, rule.name in wide)
        for number, rule in enumerate(bound.passes, start=1)
    ]
    records = exp.Select(expressions=[column("decision", name) for name in own])
    records = records.from_(_aliased(table, "decision"))
    records = records.join(bound.relation[mine].aliased(mine), on=exp.and_(*equal(bound.keys(mine), "decision", own)))
    for item in passes:
        records = item.joined(records)
        records = records.select(
            exp.alias_(item.rank(), item.name("rank"), quoted=True),
            exp.alias_(item.details(), item.name("details"), quoted=True),
            append=True,
        )
    records = records.where(_alone(bound))

    ranks = [column("reasons", item.name("rank")) for item in passes]
    best: exp.Expr = exp.Least(this=ranks[0].copy(), expressions=[rank.copy() for rank in ranks[1:]])
    codes = [(exp.Literal.number(place), exp.Literal.string(code)) for place, code in enumerate(CLOSENESS, start=1)]
    closest = [
        (exp.EQ(this=rank.copy(), expression=best.copy()), exp.Literal.string(rule.name))
        for rank, rule in zip(ranks, bound.passes, strict=True)
    ]
    said: list[exp.Expr] = []
    details: list[exp.Expr] = []
    for rank, item in zip(ranks, passes, strict=True):
        name = exp.Literal.string(item.rule.name)
        said += [name, case(rank.copy(), [(a.copy(), b.copy()) for a, b in codes])]
        details += [name.copy(), column("reasons", item.name("details"))]
    evidence = _object([exp.Literal.string("passes"), _object(said), exp.Literal.string("details"), _object(details)])
    update = exp.Update(
        this=_aliased(table, "decision"),
        expressions=[
            exp.EQ(this=_own("reason"), expression=case(best, codes)),
            exp.EQ(this=_own("pass"), expression=case(None, closest)),
            exp.EQ(
                this=_own("evidence"),
                expression=exp.Anonymous(this="jsonb_strip_nulls", expressions=[evidence]),
            ),
        ],
    ).from_(exp.Table(this=identifier("reasons")))
    same = [exp.EQ(this=column("decision", name), expression=column("reasons", name)) for name in own]
    update.set("where", exp.Where(this=exp.and_(*same)))
    for item in passes:
        for name, step in item.steps().items():
            update = update.with_(identifier(name), as_=step)
    return update.with_(identifier("reasons"), as_=records).sql(DIALECT, pretty=True)


def _aliased(table: exp.Table, alias: str) -> exp.Table:
    aliased = table.copy()
    aliased.set("alias", exp.TableAlias(this=identifier(alias)))
    return aliased


def _object(parts: list[exp.Expr]) -> exp.Expr:
    return exp.Anonymous(this="jsonb_build_object", expressions=parts)


def _texts(parts: list[exp.Column]) -> exp.Expr:
    """The parts of a key as a JSON array of texts."""
    return exp.Anonymous(this="jsonb_build_array", expressions=[exp.cast(part.copy(), "text") for part in parts])


def _listed(value: exp.Expr, order: list[exp.Ordered], where: exp.Expr) -> exp.Expr:
    """The values where a condition holds, in order."""
    return exp.Filter(
        this=exp.Anonymous(this="array_agg", expressions=[exp.Order(this=value, expressions=order)]),
        expression=exp.Where(this=where.copy()),
    )


def _first(listed: exp.Expr) -> exp.Expr:
    """The first of an array."""
    return exp.Bracket(this=exp.paren(listed), expressions=[exp.Literal.number(1)], offset=1)


def _any(condition: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this="bool_or", expressions=[condition])


def _alone(bound: Bound) -> exp.Expr:
    words = [exp.Literal.string(word) for word in outcomes_alone(bound)]
    return exp.In(this=column("decision", "outcome"), expressions=words)


@dataclass(frozen=True)
class _PassReason:
    """What one pass says of the records without a partner."""

    bound: Bound
    pool: Pool
    rule: BoundPass
    number: int
    table: exp.Table
    wide: bool

    def name(self, step: str) -> str:
        return f"{step}_{self.number}"

    @property
    def mine(self) -> Side:
        return self.bound.population

    @property
    def other(self) -> Side:
        return self.bound.other

    @property
    def one_to_one(self) -> bool:
        return self.bound.spec.cardinality == "one_to_one"

    @property
    def needs_pairs(self) -> bool:
        """Whether knowing the keys of the other side is not enough to tell."""
        return self.one_to_one or self.pool.forbidden or not self.rule.reducible

    def steps(self) -> dict[str, exp.Select]:
        found = {self.name("known"): self._known_keys()} if self.rule.targets else {}
        if self.needs_pairs:
            found[self.name("seen")] = self._seen()
        return found

    def joined(self, records: exp.Select) -> exp.Select:
        """The records with the steps of this pass beside them."""
        if self.rule.targets:
            keys = [f"key_{position}" for position in range(1, len(self.rule.targets) + 1)]
            on = equal(self.rule.on(self.mine), self.name("known"), keys)
            records = records.join(exp.Table(this=identifier(self.name("known"))), on=exp.and_(*on), join_type="left")
        own = self.bound.key_names(self.mine)
        if self.needs_pairs:
            on = [exp.EQ(this=column("decision", name), expression=column(self.name("seen"), name)) for name in own]
            records = records.join(exp.Table(this=identifier(self.name("seen"))), on=exp.and_(*on), join_type="left")
        if self._may_be_tied and self.one_to_one:
            tied = self.name("tied")
            on = [
                *[exp.EQ(this=column("decision", name), expression=column(tied, name)) for name in own],
                exp.EQ(this=column(tied, "decided"), expression=exp.Literal.number(self.number)),
            ]
            records = records.join(temporary(TIED, tied), on=exp.and_(*on), join_type="left")
        return records

    @property
    def _may_be_tied(self) -> bool:
        return self.rule.rule.on_tie == "next"

    def rank(self) -> exp.Case:
        """The place of this pass's reason in the order of closeness."""
        parts: list[tuple[exp.Expr, str]] = []
        if self.rule.targets:
            nulls = [exp.Is(this=left.copy(), expression=exp.Null()) for left in self.rule.on(self.mine)]
            parts.append((exp.or_(*nulls), "null_key"))
            parts.append((exp.Is(this=column(self.name("known"), "key_1"), expression=exp.Null()), "no_candidate"))
        if self._may_be_tied:
            parts.append((self._tied(), "tie"))
        if self.needs_pairs:
            if self.one_to_one:
                parts.append((column(self.name("seen"), "taken"), "taken"))
                if self.bound.link is not None:
                    parts.append((column(self.name("seen"), "already_linked"), "already_linked"))
            parts.append((column(self.name("seen"), "candidate"), "forbidden"))
            if self.rule.windows:
                parts.append((column(self.name("seen"), "holds"), "out_of_tolerance"))
                nothing = exp.Is(this=column(self.name("seen"), "met"), expression=exp.Null())
                if self.wide:  # nothing near: all that is known is that something has the key
                    parts.append((nothing, "out_of_tolerance"))
                elif not self.rule.targets:
                    parts.append((nothing, "no_candidate"))
        places = [(test, exp.Literal.number(CLOSENESS.index(code) + 1)) for test, code in parts]
        return case(None, places, exp.Literal.number(CLOSENESS.index("when_false") + 1))

    def _tied(self) -> exp.Expr:
        """Whether `on_tie: next` went past a tie here."""
        if self.one_to_one:
            name = self.bound.key_names(self.mine)[0]
            return exp.Not(this=exp.Is(this=column(self.name("tied"), name), expression=exp.Null()))
        if self.needs_pairs:  # whatever satisfied a pass of many_to_one and still has no partner was tied
            return column(self.name("seen"), "allowed")
        return exp.and_(*(part.copy() for part in self.rule.when_target), column(self.name("known"), "holds"))

    def details(self) -> exp.Expr:
        """What more is to be said of this pass, as jsonb; NULL where nothing is."""
        cases: list[tuple[exp.Expr, exp.Expr]] = []
        for text, left in zip(self._own_names(), self.rule.on(self.mine), strict=True):
            said = _object([exp.Literal.string("null"), exp.cast(exp.Literal.string(text), "text")])
            cases.append((exp.Is(this=left.copy(), expression=exp.Null()), said))
        if self.needs_pairs and self.one_to_one:
            for name in ("taken_by", *(["held_by"] if self.bound.link is not None else [])):
                said = column(self.name("seen"), name)
                cases.append((exp.Not(this=exp.Is(this=said, expression=exp.Null())), said.copy()))
        if self.needs_pairs and self.rule.windows:
            missed: list[exp.Expr] = []
            for position, window in enumerate(self.rule.windows, start=1):
                said = exp.cast(column(self.name("seen"), f"missed_{position}"), "text")
                if window.family == "date":
                    said = exp.DPipe(this=said, expression=exp.Literal.string(" days"))
                missed += [exp.Literal.string(window.text), said]
            out = exp.and_(
                column(self.name("seen"), "holds"),
                exp.Not(this=exp.paren(column(self.name("seen"), "candidate"))),
            )
            cases.append((out, _object([exp.Literal.string("missed_by"), _object(missed)])))
        return case(None, cases) if cases else exp.cast(exp.Null(), "jsonb")

    def _own_names(self) -> tuple[str, ...]:
        return self.rule.target_names if self.mine == "t" else self.rule.source_names

    # -- steps -------------------------------------------------------------------------------------------

    def _others(self) -> list[exp.Expr]:
        """The other side's records that are there at all: under `where`, looked at, and not excluded by a person."""
        conditions = self.pool.looked_at(self.bound, self.other)
        if self.other in self.pool.excluded:
            conditions.append(exp.Not(this=present(EXCLUDED[self.other], self.bound, [self.other])))
        return conditions

    def _known_keys(self) -> exp.Select:
        """Every key the other side has for a pass, once, and whether a row of it passes its own part of `when`."""
        parts = self.rule.on(self.other)
        names = [f"key_{position}" for position in range(1, len(parts) + 1)]
        own = [part.copy() for part in self.rule.when(self.other)]
        holds: exp.Expr = exp.and_(*own) if own else exp.true()
        select = exp.Select(expressions=[*named(parts, names), exp.alias_(_any(holds), "holds", quoted=True)])
        select = select.from_(self.bound.relation[self.other].aliased(self.other))
        return select.group_by(*first_columns(len(parts))).where(*self._others(), *not_null(parts))

    def _seen(self) -> exp.Select:
        """For each record, what there is among the other side's records with its key."""
        bound, rule = self.bound, self.rule
        own = bound.key_names(self.mine)
        windows = [window.inside() for window in rule.windows]
        holds = exp.and_(*rule.conditions()) if rule.conditions() else exp.true()
        candidate = exp.and_(*windows, holds.copy()) if windows else holds.copy()
        allowed = exp.and_(candidate.copy(), *self.pool.allowed(bound))
        columns = [
            *[column("decision", name) for name in own],
            exp.alias_(_any(exp.true()), "met", quoted=True),
            exp.alias_(_any(holds), "holds", quoted=True),
            exp.alias_(_any(candidate), "candidate", quoted=True),
            exp.alias_(_any(allowed), "allowed", quoted=True),
        ]
        for position, window in enumerate(rule.windows, start=1):
            least = exp.Filter(this=exp.Min(this=window.missed_by()), expression=exp.Where(this=holds.copy()))
            columns.append(exp.alias_(least, f"missed_{position}", quoted=True))
        if self.one_to_one:
            columns += self._takers(allowed)
        near = rule.windows
        if self.wide:
            near = tuple(replace(w, before=w.before.times(NEARBY), after=w.after.times(NEARBY)) for w in near)
        on = [*rule.equalities(), *([window.inside() for window in near] if self.wide else [])]
        select = exp.Select(expressions=columns).from_(_aliased(self.table, "decision"))
        select = select.join(
            bound.relation[self.mine].aliased(self.mine),
            on=exp.and_(*equal(bound.keys(self.mine), "decision", own)),
        )
        select = select.join(bound.relation[self.other].aliased(self.other), on=exp.and_(*on) if on else exp.true())
        if self.one_to_one:
            names = bound.key_names(self.other)
            taken = equal(bound.keys(self.other), "taken", names)
            select = select.join(temporary(DECIDED, "taken"), on=exp.and_(*taken), join_type="left")
            if bound.link is not None and self.other == "s":  # any row may hold it, be it under `where` or not
                holders = bound.holders.aliased("holder")
                select = select.join(holders, on=pools.holds(bound, "holder"), join_type="left")
        return select.where(_alone(bound), *self._others()).group_by(*[column("decision", name) for name in own])

    def _takers(self, allowed: exp.Expr) -> list[exp.Expr]:
        """Whether a candidate was taken, by whom in which pass, or already held by a link."""
        bound = self.bound
        by = bound.key_names(self.mine)
        is_taken = exp.and_(
            allowed.copy(), exp.Not(this=exp.Is(this=column("taken", "decided"), expression=exp.Null()))
        )
        name = case(
            column("taken", "decided"),
            [
                (exp.Literal.number(number), exp.Literal.string(rule.name))
                for number, rule in enumerate(bound.passes, start=1)
            ],
            exp.Literal.string(OVERRIDE),
        )
        keys = _texts([column("taken", part) for part in by])
        taker = _object([exp.Literal.string("taken_by"), keys, exp.Literal.string("taken_in"), exp.cast(name, "text")])
        # Of several takers the one of the earliest pass is named.
        order = [exp.Ordered(this=column("taken", part), nulls_first=False) for part in ("decided", *by)]
        listed = _listed(taker, order, is_taken)
        columns = [
            exp.alias_(_any(is_taken), "taken", quoted=True),
            exp.alias_(_first(listed), "taken_by", quoted=True),
        ]
        if bound.link is not None:
            if self.other == "s":
                parts = [column("holder", key.name) for key in bound.target_keys]
                held: exp.Expr = parts[0]
            else:
                parts, held = [bound.link], bound.link
            is_held = exp.and_(allowed.copy(), exp.Not(this=exp.Is(this=held.copy(), expression=exp.Null())))
            columns.append(exp.alias_(_any(is_held), "already_linked", quoted=True))
            holder = _object([exp.Literal.string("held_by"), _texts(parts)])
            order = [exp.Ordered(this=part.copy(), nulls_first=False) for part in parts]
            columns.append(exp.alias_(_first(_listed(holder, order, is_held)), "held_by", quoted=True))
        return columns
