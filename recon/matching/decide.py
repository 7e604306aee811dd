"""Deciding: from a bound spec to a table of decisions, inside one transaction. What a run, a plan, a backtest and a
what-if all call."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import psycopg
from sqlglot import exp

from recon.database import tables
from recon.database.connect import Session
from recon.errors import DatabaseFailed, without_values
from recon.matching import candidates, comparison, full_join, one_to_one, prepared, reasons, statements
from recon.matching import pool as pools
from recon.matching.bound import Bound
from recon.matching.pool import Filter, Pool, creating
from recon.names import DIALECT

# Working memory of one sort or hash while matching: a million candidate pairs sort in it without touching the disk.
WORK_MEMORY = "256MB"


@dataclass(frozen=True)
class Decided:
    """What deciding left in the transaction: who took part, what people's decisions clash with, how long it took."""

    pool: Pool
    wide: frozenset[str]  # passes with too many pairs of equal key to look at each for a reason
    people: prepared.Prepared
    seconds: dict[str, float]


def decide(
    session: Session,
    bound: Bound,
    table: exp.Table,
    limited: Filter | None = None,
    *,
    by_people: bool = True,
    explained: bool = True,
) -> Decided:
    """Decide every record of the population; the decisions are a new table.

    Args:
        session: a transaction that may write; it works with `search_path = pg_catalog, pg_temp` from here on.
        bound: the spec.
        table: the table to make; in pg_temp it lasts as long as the transaction.
        limited: what a limited run looks at.
        by_people: whether overrides count; a backtest asks for the rules alone.
        explained: whether records that are not reconciled get their reasons.

    Raises:
        TooManyPairs: a pass would make more candidate pairs than can be looked at.
    """
    limited = limited or Filter()
    session.plain_path()
    session.execute("SELECT set_config('work_mem', $1, true)", WORK_MEMORY)
    seconds: dict[str, float] = {}
    began = perf_counter()
    pool = Pool(limited=pools.limit(session, bound, limited), held=pools.any_held(session, bound))
    people = prepared.Prepared()
    if by_people:
        people = prepared.prepare(session, bound)
        pool = pool.after(people)
    with _said_of_values(bound):
        wide = candidates.guard(session, bound, pool)
        seconds["preparing"] = perf_counter() - began
        began = perf_counter()
        partly = limited.partly
        one_join = full_join.suits(session, bound, pool)
        for step in full_join.steps(bound, table) if one_join else steps(bound, pool, table, partly=partly):
            session.execute(step)
        seconds["matching"] = perf_counter() - began
        if explained:
            began = perf_counter()
            session.execute(f"ANALYZE {table.sql(DIALECT)}")
            session.execute(reasons.of_unmatched(bound, pool, table, wide))
            session.execute(reasons.of_others(table))
            seconds["reasons"] = perf_counter() - began
    return Decided(pool, wide, people, seconds)


@contextmanager
def _said_of_values(bound: Bound) -> Generator[None]:
    """Say what to do where an expression of the spec fails on the value of some record."""
    try:
        yield
    except psycopg.DataError as error:
        said = error.diag.message_primary or ""
        discreet = bool(bound.private)  # the run keeps this sentence, whoever made it, and shows it to everybody
        raise DatabaseFailed(
            f"An expression of the spec fails on a record: {without_values(said) if discreet else said}.",
            why=f"(SQLSTATE {error.sqlstate})",
            todo="Guard it, as in s.amount / nullif(s.parts, 0), or leave such records out with `where`.",
        ) from (None if discreet else error)


def steps(bound: Bound, pool: Pool, table: exp.Table, *, partly: bool = False) -> Iterator[str]:
    """The statements that decide, in order; the last ones make the table of decisions.

    Args:
        bound: the spec.
        pool: who takes part.
        table: the table to make.
        partly: the run looks at a part of the records, so that nothing can be called absent.
    """
    if bound.spec.cardinality == "one_to_one":
        yield from one_to_one.steps(bound, pool)
        query: exp.Query = one_to_one.decisions(bound, pool)
    else:
        query = statements.decisions(bound, pool)
    if not comparison.concerns(bound):
        yield creating(table, query)
        yield f'ALTER TABLE {table.sql(DIALECT)} ADD COLUMN "reason" text, ADD COLUMN "evidence" jsonb'
        return
    yield creating(table, comparison.compared(bound, query, partly))
    if bound.compared and not partly:
        yield from comparison.other_side(bound, pool, table)


def sql(bound: Bound) -> str:
    """What a run without overrides executes to decide, as one text for people."""
    return ";\n\n".join(steps(bound, Pool(), tables.own("decisions", "of_the_run"))) + ";"


def forget(session: Session, table: exp.Table) -> None:
    """Drop what deciding left, so that the same transaction can decide again."""
    session.execute(f"DROP TABLE IF EXISTS {table.sql(DIALECT)}")
    for name in pools.TABLES:
        session.execute(f"DROP TABLE IF EXISTS pg_temp.{name}")
