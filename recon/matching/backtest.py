"""How precise are the rules? Hide the links that exist, run the passes over all records, and compare.

Nothing of the users' tables is written: rules decide into temporary tables, and only counts and the listed rows come back.
Not hidden is what a `query` or a `where` reads of the link by itself.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from sqlglot import exp

from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import UsageError
from recon.matching import truth as truths
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.decide import decide
from recon.matching.literal import columns_of
from recon.matching.pool import creating, temporary
from recon.matching.precision import LINKS, Backtest, PassScore, Wrong, keep, latest, measured
from recon.matching.statements import case, no_keys
from recon.matching.truth import TRUTH
from recon.names import DIALECT, column, identifier
from recon.spec import Reconciliation

__all__ = ["Backtest", "PassScore", "Wrong", "backtest", "latest", "measured", "two_files"]

SHOWN_WRONG = 20  # on one screen; --wrong FILE.csv gives all
_DECISIONS, _JUDGED = "recon_backtest", "recon_judged"
_FETCH_ROWS = 5_000  # rows held in memory at once while the wrong ones are written out


def backtest(
    database: Database, spec: Reconciliation, actor: str, truth: Path | None = None, wrong: IO[str] | None = None
) -> Backtest:
    """Decide every record by the rules alone, as if there were no link, and compare with what is known.

    Args:
        database: where the records are.
        spec: the reconciliation.
        actor: who asks.
        truth: a CSV file of right pairs; None: the links that exist.
        wrong: where every wrong pair is written to, as CSV.

    Raises:
        UsageError: nothing is known to compare with, or a line of the file cannot be read.
        TooManyPairs: a pass would make more candidate pairs than can be looked at.
    """
    if spec.link is None and truth is None:
        raise _nothing_known(spec, "The spec has no `link`, and no file was given.")
    tables.ensure(database)
    with database.session() as session:
        bound = bind(session, spec)
        given: int
        if truth is None:
            truths.from_links(session, bound)
            given = truths.links(session, bound)
        else:
            given = truths.from_file(session, bound, truth)
        pairs, known, alone = _known(session, bound)
        if not known and not alone:
            why = "No record that takes part holds a link." if truth is None else f"{truth} names no two such records."
            raise _nothing_known(spec, why)
        hidden = _hidden(session, bound)
        decide(session, hidden, temporary(_DECISIONS), by_people=False, explained=False)
        _judge(session, hidden)
        passes, not_found, population = _scores(session, bound)
        found = Backtest(
            spec.name, spec.digest, None, actor, LINKS if truth is None else truth.name, population, known, alone,
            max(given - pairs - alone, 0), not_found, passes, tuple(_wrong(session, bound, SHOWN_WRONG)),
        )  # fmt: skip
        if wrong is not None:
            _write(session, bound, wrong)
        return keep(session, found)


def two_files(truth: Path | None, wrong: Path | None) -> None:
    """Raises UsageError where what is found wrong would be written over the right pairs."""
    if wrong and truth and wrong.resolve() == truth.resolve():
        raise UsageError("--wrong and --truth are the same file.", todo="Name another file after --wrong.")


def _nothing_known(spec: Reconciliation, why: str) -> UsageError:
    return UsageError(
        f"There is nothing to measure the rules of {spec.name} by.",
        why=why,
        todo="Name a CSV file of right pairs (target_key,source_key) with --truth.",
    )


def _hidden(session: Session, bound: Bound) -> Bound:
    """The rules alone: no link, no comparison; what passes read of the link's columns is NULL."""
    spec = bound.spec
    rules = bind(session, spec.model_copy(update={"link": None, "compare": {}, "valid": []}))
    if spec.link is None:
        return rules
    read = columns_of(
        "t", [tree for rule in rules.passes for tree in (*rule.candidate(), *[p.tree for p in rule.prefer])]
    )
    blank = {spec.link.column, *spec.link.also} & set(read)
    if not blank:
        return rules

    def cell(name: str) -> exp.Expr:
        value = exp.Cast(this=exp.Null(), to=rules.target.type_of(name)) if name in blank else column("t", name)
        return exp.alias_(value, name, quoted=True)

    tree = exp.Select(expressions=[cell(name) for name in rules.target.columns]).from_(rules.target.aliased("t"))
    return replace(rules, target=replace(rules.target, tree=tree.where(*rules.where("t"))), target_where=None)


# -- comparing -------------------------------------------------------------------------------------------


def _counted(query: exp.Select, alias: str) -> exp.Subquery:
    return exp.Subquery(this=query, alias=exp.TableAlias(this=identifier(alias)))


def _not_null(tree: exp.Expr) -> exp.Expr:
    return exp.Not(this=exp.Is(this=tree, expression=exp.Null()))


def _known(session: Session, bound: Bound) -> tuple[int, int, int]:
    """How many pairs are known, how many records have a known partner, and how many are known to have none."""
    own = [column("truth", name) for name in bound.key_names(bound.population)]
    paired = _not_null(column("truth", bound.key_names(bound.other)[0]))
    everything = exp.Count(this=exp.Star())
    counted = exp.alias_(exp.Filter(this=everything, expression=exp.Where(this=paired)), "pairs", quoted=True)
    records = exp.Select(expressions=[counted]).from_(temporary(TRUTH, "truth")).group_by(*own)
    pairs = column("known", "pairs")
    some, none = exp.GT(this=pairs, expression=exp.Literal.number(0)), pairs.copy().eq(0)
    whole = exp.Coalesce(this=exp.Sum(this=pairs.copy()), expressions=[exp.Literal.number(0)])
    query = exp.Select(
        expressions=[
            exp.cast(whole, "bigint"),
            exp.Filter(this=everything.copy(), expression=exp.Where(this=some)),
            exp.Filter(this=everything.copy(), expression=exp.Where(this=none)),
        ]
    ).from_(_counted(records, "known"))
    return session.rows(query.sql(DIALECT))[0]


def _judge(session: Session, bound: Bound) -> None:
    """Each decision beside what is known: right, wrong, not_found, or new where nothing is known of the pair."""
    mine, other = bound.population, bound.other
    own, theirs = bound.key_names(mine), bound.key_names(other)

    def same(alias: str, names: list[str]) -> exp.Expr:
        return exp.and_(*[exp.EQ(this=column("d", name), expression=column(alias, name)) for name in names])

    def side_of_truth(names: list[str], partner: list[str], alias: str) -> exp.Subquery:
        """Each record of a side once, with one known partner: the first."""
        columns = [column("truth", name) for name in (*names, *partner)]
        query = exp.Select(expressions=columns).from_(temporary(TRUTH, "truth"))
        query = query.distinct(*[column("truth", name) for name in names]).order_by(*[c.copy() for c in columns])
        return _counted(query.where(_not_null(column("truth", names[0]))), alias)

    decided = exp.In(
        this=column("d", "outcome"), expressions=[exp.Literal.string(word) for word in ("matched", "proposed")]
    )
    known = _not_null(column("mine", own[0]))
    one_to_one = bound.spec.cardinality == "one_to_one"
    whose: list[exp.Expr] = [column("theirs", name) for name in own]
    if not one_to_one:  # a source may be many records' partner
        whose = [part.this for part in no_keys(bound, mine)]
    if one_to_one:  # whoever has a partner that is known to be another's is wrong
        known = exp.or_(known, _not_null(column("theirs", theirs[0])))
    verdict = case(
        None,
        [
            (exp.and_(decided, _not_null(column("pair", own[0]))), exp.Literal.string("right")),
            (exp.and_(decided.copy(), exp.paren(known)), exp.Literal.string("wrong")),
            (decided.copy(), exp.Literal.string("new")),
            (_not_null(column("mine", theirs[0])), exp.Literal.string("not_found")),
        ],
    )
    query = (
        exp.Select(
            expressions=[
                *[column("d", name) for name in (*own, *theirs, "outcome", "pass")],
                *[exp.alias_(column("mine", name), f"known_{name}", quoted=True) for name in theirs],
                *[exp.alias_(tree, f"whose_{name}", quoted=True) for name, tree in zip(own, whose, strict=True)],
                exp.alias_(verdict, "verdict", quoted=True),
            ]
        )
        .from_(temporary(_DECISIONS, "d"))
        .join(temporary(TRUTH, "pair"), on=same("pair", [*own, *theirs]), join_type="left")
        .join(side_of_truth(own, theirs, "mine"), on=same("mine", own), join_type="left")
        .join(side_of_truth(theirs, own, "theirs"), on=same("theirs", theirs), join_type="left")
    )
    session.execute(f"ANALYZE pg_temp.{_DECISIONS}")
    session.execute(creating(temporary(_JUDGED), query))


def _scores(session: Session, bound: Bound) -> tuple[tuple[PassScore, ...], dict[str, int], int]:
    """What each pass found, what was not found, and how many records there are: only counts leave the server."""
    columns = [column("judged", name) for name in ("verdict", "outcome", "pass")]
    query = exp.Select(expressions=[*columns, exp.Count(this=exp.Star())]).from_(temporary(_JUDGED, "judged"))
    counts: dict[str, dict[str, int]] = {
        rule.name: dict.fromkeys(("right", "wrong", "proposed_right", "proposed_wrong", "new"), 0)
        for rule in bound.passes
    }
    not_found: dict[str, int] = {}
    population = 0
    for verdict, outcome, name, number in session.rows(query.group_by(*[c.copy() for c in columns]).sql(DIALECT)):
        population += number
        if verdict == "not_found":
            not_found[outcome] = not_found.get(outcome, 0) + number
        elif verdict is not None:
            counted = f"proposed_{verdict}" if outcome == "proposed" and verdict != "new" else verdict
            counts[name][counted] += number
    return (
        tuple(PassScore(name, **numbers) for name, numbers in counts.items()),
        dict(sorted(not_found.items())),
        population,
    )


# -- the wrong ones --------------------------------------------------------------------------------------


def _wrong_query(bound: Bound) -> exp.Select:
    own, theirs = bound.key_names(bound.population), bound.key_names(bound.other)
    names = [
        *own,
        *(f"known_{name}" for name in theirs),
        *theirs,
        *(f"whose_{name}" for name in own),
        "outcome",
        "pass",
    ]
    query = exp.Select(expressions=[column("judged", name) for name in names]).from_(temporary(_JUDGED, "judged"))
    query = query.where(exp.EQ(this=column("judged", "verdict"), expression=exp.Literal.string("wrong")))
    return query.order_by(*[column("judged", name) for name in own])


def _wrong(session: Session, bound: Bound, most: int) -> Iterator[Wrong]:
    for row in session.rows(_wrong_query(bound).limit(most).sql(DIALECT)):
        yield _wrong_of(bound, row)


def _wrong_of(bound: Bound, row: tuple[Any, ...]) -> Wrong:
    own, theirs = len(bound.keys(bound.population)), len(bound.keys(bound.other))
    keys: list[Any] = []
    start = 0
    for length in (own, theirs, theirs, own):
        part = row[start : start + length]
        start += length
        keys.append(None if all(v is None for v in part) else part[0] if length == 1 else json.dumps(part, default=str))
    return Wrong(*keys, *row[start:])


def _write(session: Session, bound: Bound, out: IO[str]) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["record", "linked_to", "rules_say", "which_is_linked_to", "outcome", "pass"])
    cursor = session.driver.cursor(name="wrong")
    cursor.itersize = _FETCH_ROWS
    with cursor:
        cursor.execute(_wrong_query(bound).sql(DIALECT).encode())
        for row in cursor:
            found = _wrong_of(bound, row)
            cells = (found.record, found.linked_to, found.rules_say, found.whose, found.outcome, found.rule)
            writer.writerow(["" if cell is None else cell for cell in cells])
