"""The list of breaks as rows for a sheet: each with its record, the nearest candidate, and who sees to it.

Rows come from the server a few thousand at a time, so a hundred thousand breaks take no more memory than ten.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlglot import exp

from recon import expressions
from recon.database import tables
from recon.database.connect import Session
from recon.matching import breaks, candidates, keys, pairs
from recon.matching.bound import Bound, BoundPass
from recon.matching.coverage import RECONCILED
from recon.matching.privacy import VEIL, veiled
from recon.names import DIALECT, Side, column, identifier
from recon.reports.cells import EXACT_DIGITS
from recon.reports.tables import words
from recon.reports.words import reason_words

FETCH_ROWS = 5_000  # rows held in memory at once
MOST_PAIRS = 5_000_000  # pairs of a pass that are looked at for the nearest candidate: seconds, not minutes
STATES = {None: ("open", "assigned"), "all": ("open", "assigned", "resolved")}
_INTEGERS = ("int2", "int4", "int8")
_HEAD = ("record", "side", "outcome", "reason", "closest pass", "first seen", "age (days)", "state", "assignee")


@dataclass(frozen=True)
class Counted:
    """How many breaks have this side, outcome, reason and age; `age` is one of the words of `breaks.AGES`."""

    side: str
    outcome: str
    reason: str | None
    age: str
    breaks: int


def states_of(state: str | None) -> list[str]:
    """The states that an asked one stands for: None is what is open, assigned or not; all is every one."""
    return list(STATES.get(state, (state or "",)))


def counted(session: Session, name: str, state: str | None = None) -> list[Counted]:
    """Breaks by side, outcome, reason and age. The age is that of the present episode, in days of 24 hours."""
    return [
        Counted(side, outcome, reason, breaks.AGES[age], number)
        for side, outcome, reason, age, number in session.rows(_COUNTED, name, states_of(state))
    ]


def by_person(session: Session, name: str, state: str | None = None) -> list[tuple[str | None, int, int]]:
    """Who sees to how many breaks, and the age of the oldest in days; None: nobody does."""
    return session.rows(_BY_PERSON, name, states_of(state))


# The same limits as `breaks.ages` has; age 0 is what a run has just opened, which only the run itself knows.
_COUNTED = """
    SELECT side, outcome, reason,
        CASE WHEN days < 1 THEN 1 WHEN days < 8 THEN 2 WHEN days < 31 THEN 3 ELSE 4 END AS age, count(*)
    FROM (
        SELECT side, outcome, reason,
            floor(extract(epoch FROM coalesce(resolved_at, now()) - opened_at) / 86400) AS days
        FROM recon.breaks WHERE reconciliation = $1 AND state = ANY ($2::text[])
    ) AS aged
    GROUP BY 1, 2, 3, 4 ORDER BY 1 DESC, 2, 3, 4
"""
_BY_PERSON = """
    SELECT assignee, count(*), max(floor(extract(epoch FROM coalesce(resolved_at, now()) - opened_at) / 86400))::bigint
    FROM recon.breaks WHERE reconciliation = $1 AND state = ANY ($2::text[])
    GROUP BY 1 ORDER BY 2 DESC, 1
"""


@dataclass(frozen=True)
class BreakList:
    """The breaks of one reconciliation: what their columns are called, and a query that gives them."""

    columns: tuple[str, ...]
    remarks: tuple[str, ...]  # what whoever reads it must know
    query: str
    parameters: tuple[Any, ...]
    integer_keys: tuple[bool, bool]  # of target and source

    def rows(self, session: Session) -> Iterator[list[Any]]:
        """Each break in the order of the columns, the oldest first."""
        # Tables that a run has just filled have no statistics: the planner takes them for tiny, and one break at a time
        # would look through all records (a hundred thousand breaks: hours instead of seconds).
        session.execute("SET LOCAL enable_nestloop TO off")
        cursor = psycopg.RawServerCursor(session.driver, "breaks")
        cursor.itersize = FETCH_ROWS
        with cursor:
            cursor.execute(self.query.encode(), self.parameters)
            for side, key, outcome, reason, *rest in cursor:
                shown, whole = keys.shown(key), self.integer_keys[side == "source"]
                yield [_as_number(shown) if whole else shown, side, outcome, reason_words(reason), *rest]
        session.execute("SET LOCAL enable_nestloop TO DEFAULT")


def _as_number(text: str | None) -> Any:
    return int(text) if text and re.fullmatch(rf"-?\d{{1,{EXACT_DIGITS}}}", text) else text


def prepare(session: Session, bound: Bound, run: str | None, state: str | None = None) -> BreakList:
    """What the list of breaks shows, and how it is asked for.

    Columns: record key, side, outcome, reason in words, the pass that came closest, first seen (UTC), age in whole
    days of the present episode, state, assignee; what `show` names of the record; the key of its nearest candidate,
    what `show` names of that, and what the match would mean. The nearest is the proposed partner, else the best
    record with the key of the closest pass.

    Args:
        session: may be read-only.
        bound: the spec and its relations.
        run: whose decisions tell partner and closest pass; None: these columns stay empty.
        state: open, assigned, resolved, all; None: open and assigned.
    """
    mine, other = bound.population, bound.other
    remarks: list[str] = []
    near = _nearest(session, bound, run, remarks) if run else []
    selects = [_listed(bound, run, near, mine), _listed(bound, None, [], other)]
    whole = exp.Subquery(this=exp.union(*selects, distinct=False), alias=exp.TableAlias(this=identifier("listed")))
    names = [select_name.alias_or_name for select_name in selects[0].expressions]
    query = exp.Select(expressions=[column("listed", name) for name in names if name != "opened_at"]).from_(whole)
    query = query.order_by(*[column("listed", name) for name in ("opened_at", "side", "key")])
    own, theirs = _shown(bound, mine), _shown(bound, other)
    partner = f"nearest {keys.WORDS[other]}"
    columns = [
        *_HEAD,
        *[words(label) for _, label in own],
        partner,
        *[f"{partner}: {words(label)}" for _, label in theirs],
        *(["what the match means"] if bound.spec.interpret else []),
    ]
    integers = [_integer_key(bound, side) for side in ("t", "s")]
    parameters = (bound.spec.name, states_of(state))
    return BreakList(tuple(columns), tuple(remarks), query.sql(DIALECT), parameters, (integers[0], integers[1]))


def _integer_key(bound: Bound, side: Side) -> bool:
    found = bound.keys(side)
    return len(found) == 1 and bound.relation[side].columns[found[0].name] in _INTEGERS


def _shown(bound: Bound, side: Side) -> list[tuple[str, str]]:
    """What `show` names, with its label: of the other side whatever reads it, of the population the rest."""
    found: list[tuple[str, str]] = []
    for text, label in zip(bound.spec.show, pairs.labels(bound.spec.show), strict=True):
        of_other = bound.other in expressions.parse(text, "t").sides()
        if of_other == (side == bound.other):
            found.append((text, label))
    return found


def _listed(bound: Bound, run: str | None, near: list[exp.Select], side: Side) -> exp.Select:
    """The breaks of one side; `b` is the break, `t` and `s` are the records, `d` the decision."""
    mine, other = bound.population, bound.other
    partner = [column("near" if near else "d", name) for name in bound.key_names(other)]
    joined = run is not None and side == mine
    shown = [
        exp.alias_(veiled(bound, bound.resolve(expressions.parse(text, "t"))), f"show_{place}", quoted=True)
        for place, (text, _) in enumerate([*_shown(bound, mine), *_shown(bound, other)])
    ]
    nearest: exp.Expr = exp.cast(exp.Null(), "text")
    if joined:
        parts = [exp.cast(_key_shown(bound, other, place, part), "text") for place, part in enumerate(partner)]
        nearest = (
            parts[0]
            if len(parts) == 1
            else exp.cast(exp.Anonymous(this="jsonb_build_array", expressions=parts), "text")
        )
        if len(parts) > 1:
            nothing = exp.Is(this=partner[0].copy(), expression=exp.Null())
            nearest = exp.Case(ifs=[exp.If(this=nothing, true=exp.Null())], default=nearest)
    lasted = exp.Sub(
        this=exp.Coalesce(this=column("b", "resolved_at"), expressions=[_now()]), expression=column("b", "opened_at")
    )
    seconds = exp.Extract(this=exp.Var(this="EPOCH"), expression=exp.paren(lasted))
    days = exp.cast(exp.Floor(this=exp.Div(this=seconds, expression=exp.Literal.number(86_400))), "bigint")
    split = len(_shown(bound, mine))
    meaning: exp.Expr = exp.cast(exp.Null(), "text")
    if joined:  # without a candidate there is nothing to interpret
        no_one = exp.Is(this=partner[0].copy(), expression=exp.Null())
        meaning = exp.Case(ifs=[exp.If(this=no_one, true=exp.Null())], default=pairs.interpretation(bound))
    select = exp.Select(
        expressions=[
            column("b", "side"),
            exp.alias_(_break_key(bound, side), "key", quoted=True),
            column("b", "outcome"),
            column("b", "reason"),
            exp.alias_(column("d", "pass") if joined else exp.cast(exp.Null(), "text"), "pass", quoted=True),
            exp.alias_(_to_the_second(column("b", "first_seen")), "first_seen", quoted=True),
            exp.alias_(days, "days", quoted=True),
            column("b", "state"),
            column("b", "assignee"),
            *shown[:split],
            exp.alias_(nearest, "nearest", quoted=True),
            *shown[split:],
            *([exp.alias_(meaning, "means", quoted=True)] if bound.spec.interpret else []),
            column("b", "opened_at"),
        ]
    ).from_(
        exp.Table(this=identifier("breaks"), db=identifier(tables.SCHEMA), alias=exp.TableAlias(this=identifier("b")))
    )
    select = select.join(
        bound.relation[side].aliased(side), on=keys.same(column("b", "key"), bound.keys(side)), join_type="left"
    )
    opposite = other if side == mine else mine
    if joined:
        assert run is not None
        select = select.join(_decisions(run), on=_equal(bound.keys(mine), "d", bound.key_names(mine)), join_type="left")
        if near:
            union = exp.union(*near, distinct=False) if len(near) > 1 else near[0]
            found = exp.Subquery(this=union, alias=exp.TableAlias(this=identifier("near")))
            select = select.join(found, on=_equal(bound.keys(mine), "near", bound.key_names(mine)), join_type="left")
        select = select.join(
            bound.relation[opposite].aliased(opposite),
            on=exp.and_(
                *[
                    exp.EQ(this=key, expression=part.copy())
                    for key, part in zip(bound.keys(other), partner, strict=True)
                ]
            ),
            join_type="left",
        )
    else:
        select = select.join(bound.relation[opposite].aliased(opposite), on=exp.false(), join_type="left")
    word = keys.WORDS[side]
    return select.where(
        exp.EQ(this=column("b", "reconciliation"), expression=exp.Parameter(this=exp.Literal.number(1))),
        exp.EQ(this=column("b", "side"), expression=exp.Literal.string(word)),
        exp.EQ(
            this=column("b", "state"),
            expression=exp.Any(this=exp.paren(exp.cast(exp.Parameter(this=exp.Literal.number(2)), "text[]"))),
        ),
    )


def _to_the_second(tree: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this="date_trunc", expressions=[exp.Literal.string("second"), tree])


def _now() -> exp.Expr:
    return exp.Anonymous(this="now", expressions=[])


def _key_shown(bound: Bound, side: Side, place: int, value: exp.Expr) -> exp.Expr:
    """A part of a key, or the veil where its column is private."""
    return exp.Literal.string(VEIL) if hidden(bound, side, bound.keys(side)[place].name) else value.copy()


def _break_key(bound: Bound, side: Side) -> exp.Expr:
    """The key as it is kept, with the veil for parts that are private."""
    names = [key.name for key in bound.keys(side)]
    if not any(hidden(bound, side, name) for name in names):
        return column("b", "key")
    parts = [
        exp.Literal.string(VEIL)
        if hidden(bound, side, name)
        else exp.Bracket(this=column("b", "key"), expressions=[exp.Literal.number(place)], offset=1)
        for place, name in enumerate(names, start=1)
    ]
    return exp.Array(expressions=[exp.cast(part, "text") for part in parts])


def hidden(bound: Bound, side: Side, name: str) -> bool:
    """Whether people may not see the values of this column."""
    plain = column(side, name)
    return veiled(bound, plain.copy()) != plain


def _decisions(run: str) -> exp.Table:
    table = tables.own("decisions", run)
    return exp.Table(this=table.this, db=table.args["db"], alias=exp.TableAlias(this=identifier("d")))


def _equal(own: list[exp.Column], alias: str, names: list[str]) -> exp.Expr:
    return exp.and_(*[exp.EQ(this=key, expression=column(alias, name)) for key, name in zip(own, names, strict=True)])


# -- the nearest candidate -------------------------------------------------------------------------------


def _nearest(session: Session, bound: Bound, run: str, remarks: list[str]) -> list[exp.Select]:
    """For each record of the run that is a break, one candidate: its partner, or the best that the closest pass met."""
    mine, other = bound.population, bound.other
    names = [*bound.key_names(mine), *bound.key_names(other)]
    held = exp.Select(expressions=[column("d", name) for name in names]).from_(_decisions(run))
    has_partner = exp.Not(this=exp.Is(this=column("d", bound.key_names(other)[0]), expression=exp.Null()))
    has_record = exp.Not(this=exp.Is(this=column("d", bound.key_names(mine)[0]), expression=exp.Null()))
    found = [held.where(has_partner, has_record, exp.Not(this=_reconciled()))]
    for rule in bound.passes:
        if not rule.targets:
            continue
        if candidates.count(session, bound, rule).pairs > MOST_PAIRS:
            remarks.append(
                f"Nearest candidates by the pass {rule.name} are left out: it has more than {MOST_PAIRS:,} pairs to look at. "
                f"`recon explain {bound.spec.name} --key K` shows them for one record."
            )
            continue
        found.append(_best(bound, run, rule))
    return found


def _best(bound: Bound, run: str, rule: BoundPass) -> exp.Select:
    """The best record with the key of a pass, for records that came closest by it and have no partner."""
    mine, other = bound.population, bound.other
    own, theirs = bound.key_names(mine), bound.key_names(other)
    order: list[exp.Expr] = [exp.Ordered(this=key, nulls_first=False) for key in bound.keys(mine)]
    for conditions in (rule.candidate(), rule.conditions()):
        if conditions:
            holds = exp.Is(this=exp.paren(exp.and_(*conditions)), expression=exp.true())
            order.append(exp.Ordered(this=holds, desc=True, nulls_first=False))
    order += [exp.Ordered(this=window.missed_by(), nulls_first=False) for window in rule.windows[:1]]
    order += [term.ordered() for term in rule.prefer]
    order += [exp.Ordered(this=key, nulls_first=False) for key in bound.keys(other)]
    select = (
        exp.Select(
            expressions=[
                *[exp.alias_(key, name, quoted=True) for key, name in zip(bound.keys(mine), own, strict=True)],
                *[exp.alias_(key, name, quoted=True) for key, name in zip(bound.keys(other), theirs, strict=True)],
            ]
        )
        .from_(_decisions(run))
        .join(bound.relation[mine].aliased(mine), on=_equal(bound.keys(mine), "d", own))
        .join(bound.relation[other].aliased(other), on=exp.and_(*rule.equalities()))
        .where(
            exp.EQ(this=column("d", "pass"), expression=exp.Literal.string(rule.name)),
            exp.Is(this=column("d", theirs[0]), expression=exp.Null()),
            exp.Not(this=_reconciled()),
            *bound.where(other),
        )
        .distinct(*bound.keys(mine))
        .order_by(*order)
    )
    return exp.Select(expressions=[column("best", name) for name in (*own, *theirs)]).from_(
        exp.Subquery(this=select, alias=exp.TableAlias(this=identifier("best")))
    )


def _reconciled() -> exp.In:
    done = [exp.Literal.string(outcome) for outcome in (*RECONCILED, "excluded")]
    return exp.In(this=column("d", "outcome"), expressions=done)
