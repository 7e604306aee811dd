"""The records of a run that a choice lets through: one page of them on the screen, or all of them as a file.

The database filters, sorts and cuts; what `show` names is looked up for the records of the page alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import psycopg
from sqlglot import exp

from recon.database.connect import Database, Session
from recon.database.watched import Statement, watched
from recon.desk.explore import View, harmless
from recon.desk.explore_facets import Chosen, Values, chosen_in, conditions, decisions, keeps, with_dates
from recon.errors import NotFound
from recon.matching import keys, pairs
from recon.matching.because import LABEL, because
from recon.matching.coverage import RECONCILED
from recon.matching.pairs import shown_key
from recon.names import DIALECT, Side, column, identifier
from recon.reports import sheets
from recon.reports.words import outcome_words, reason_words

PAGE_ROWS = 25  # what fits on a screen
FILE_ROWS = 100_000  # in one file: more than anybody reads, and a workbook still opens
PAGE_DIGITS = 9  # of a page's number in an address, which may say anything
EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
FETCH_ROWS = 5_000  # held in memory at once while a file is written
# Keys of a million breaks fit in twice this much; where they did not, each record would go through all of them.
_WORK_MEMORY = "SET LOCAL work_mem = '64MB'"

Order = Literal["to explain first", "key", "key, last first"]
ORDERS: tuple[Order, ...] = ("to explain first", "key", "key, last first")


@dataclass(frozen=True)
class Asked:
    """Which records are wanted: by what is ticked, or the one of a key whatever is ticked; and which page of them."""

    chosen: Chosen
    key: str = ""
    order: Order = ORDERS[0]
    page: int = 1


def asked_in(given: Callable[[str], list[str]], view: View) -> Asked:
    """What an address asks for; what it says wrongly is taken as not said.

    Args:
        given: the values of a name in the address.
        view: the run.
    """

    def one(name: str) -> str:
        return next(filter(keeps, given(name)), "")

    orders: dict[str, Order] = {item: item for item in ORDERS}
    number = one("page")
    number = int(number) if number.isascii() and number.isdigit() and len(number) <= PAGE_DIGITS else 1
    return Asked(chosen_in(given, view.cube), one("key"), orders.get(one("order"), ORDERS[0]), number)


@dataclass(frozen=True)
class Page:
    """Some of the records that were asked for, and how many there are of them."""

    rows: list[dict[str, Any]]
    total: int
    number: int  # of this page, from 1
    statements: tuple[Statement, ...] = field(default=(), repr=False)

    @property
    def pages(self) -> int:
        return max(-(-self.total // PAGE_ROWS), 1)

    @property
    def first(self) -> int:
        """The place of the first record shown among all of them."""
        return (self.number - 1) * PAGE_ROWS + 1 if self.rows else 0


def page(database: Database, view: View, asked: Asked) -> Page:
    """One page of records; a page beyond the last is the last one.

    Args:
        database: where the records are.
        view: the run.
        asked: which of them.

    Raises:
        NotFound: the run's decisions were dropped meanwhile.
    """
    with database.session(read_only=True) as session:
        _still_there(session, view)
        session.execute(_WORK_MEMORY)
        asking = watched(session)
        total = _found(asking, view, asked) if asked.key.strip() else view.cube.total(asked.chosen)
        last = max(-(-total // PAGE_ROWS), 1)
        asked = replace(asked, page=min(max(asked.page, 1), last))
        query, values = _query(view, asked, PAGE_ROWS, (asked.page - 1) * PAGE_ROWS)
        rows = asking.records(query.sql(DIALECT, pretty=True), *values.bound)
    return Page(rows, total, asked.page, tuple(asking.said))


def _still_there(session: Session, view: View) -> None:
    """Refuse a run that was left behind by so many later ones, while the page stayed open, that its decisions are gone."""
    name = decisions(view.run)
    name.set("alias", None)
    if session.value("SELECT to_regclass($1)::text", name.sql(DIALECT)) is None:
        raise NotFound(
            f"The run {view.run.run} is no longer there.",
            why=f"{view.run.reconciliation} was matched again many times since this page was opened.",
            todo="Reload the page to see the latest run.",
        )


def key_of(view: View, row: dict[str, Any], side: Side) -> str | None:
    """A record's key on one side as text; a composite key is a JSON array. None where it has no record there."""
    found = shown_key([row[name] for name in view.bound.key_names(side)])
    return None if found is None else str(found)


def side_of(view: View, row: dict[str, Any]) -> Side:
    """Whose record a decision is about: the population's, or the other side's where that has no partner."""
    mine = view.bound.population
    return mine if row[view.bound.key_names(mine)[0]] is not None else view.bound.other


# -- on the screen ---------------------------------------------------------------------------------------


def table_rows(view: View, found: Page) -> list[dict[str, Any]]:
    """Records for a table on the screen: keys, what was decided and why, then what `show` names."""
    labels = _labels(view)
    rest = [LABEL, *pairs.labels(view.bound.spec.show), "interpretation", "differences"]
    filled = [name for name in rest if any(row.get(name) is not None for row in found.rows)]
    foreign = any(side_of(view, row) != view.bound.population for row in found.rows)
    own = "target" if view.bound.population == "t" else "source"
    return [
        {
            "record": _shown(view, row, side_of(view, row)),
            **({"side": own if side_of(view, row) == view.bound.population else labels[1]} if foreign else {}),
            "outcome": outcome_words(row["outcome"]),
            "reason": reason_words(row["reason"]),
            "pass": row["pass"] or "",
            labels[0]: _shown(view, row, view.bound.other) if side_of(view, row) == view.bound.population else "",
            **{name: harmless(row[name]) for name in filled},
        }
        for row in found.rows
    ]


def _labels(view: View) -> tuple[str, str]:
    """What stands above the partners, and what the other side is called."""
    word = "source" if view.bound.population == "t" else "target"
    label = view.bound.place(view.bound.other)
    taken = {"record", "side", "outcome", "reason", "pass", *pairs.labels(view.bound.spec.show)}
    return (label if label not in taken else f"{word} {label}"), word


def _shown(view: View, row: dict[str, Any], side: Side) -> Any:
    """A key as the table shows it: a number stays one, and is aligned as such."""
    return harmless(shown_key([row[name] for name in view.bound.key_names(side)]))


def chosen_row(view: View, found: Page, selected: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The record behind the selected line of `table_rows`; None where nothing is selected."""
    lines = table_rows(view, found)
    return next((row for row, line in zip(found.rows, lines, strict=True) if line in selected), None)


# -- as a file -------------------------------------------------------------------------------------------


def as_csv(database: Database, view: View, asked: Asked) -> bytes:
    """All records that were asked for, at most FILE_ROWS, as CSV in UTF-8."""
    with database.session(read_only=True) as session, _streamed(session, view, asked) as (columns, rows):
        return sheets.csv_bytes(columns, rows)


def as_excel(database: Database, view: View, asked: Asked) -> bytes:
    """All records that were asked for, at most FILE_ROWS, as a workbook."""
    with database.session(read_only=True) as session, _streamed(session, view, asked) as (columns, rows):
        return sheets.excel_bytes("records", columns, rows)


@contextmanager
def _streamed(session: Session, view: View, asked: Asked) -> Generator[tuple[list[str], Iterator[Sequence[Any]]]]:
    """The columns and, little by little, the rows."""
    session.execute(_WORK_MEMORY)
    query, values = _query(view, asked, FILE_ROWS, 0)
    with psycopg.RawServerCursor[tuple[Any, ...]](session.driver, "records") as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.execute(query.sql(DIALECT).encode(), cast("Sequence[Any]", values.bound))
        yield [item.name for item in cursor.description or []], cursor


# -- the statements --------------------------------------------------------------------------------------


def _query(view: View, asked: Asked, limit: int, offset: int) -> tuple[exp.Select, Values]:
    """Decisions that were asked for, in order, cut to size, and only then with what people see of them."""
    values = Values()
    inner = exp.Select(expressions=[exp.Column(this=exp.Star(), table=identifier("d"))]).from_(decisions(view.run))
    inner = _chosen(view, asked, inner, values).order_by(*_ordered(view, asked)).limit(limit)
    inner = inner.offset(offset) if offset else inner
    cut = exp.Subquery(this=inner, alias=exp.TableAlias(this=identifier("d")))
    query = pairs.pairs(view.bound, view.run.run).from_(cut).order_by(*_ordered(view, asked))
    query = query.select(exp.alias_(because(view.bound), LABEL, quoted=True))
    return query, values


def _found(session: Session, view: View, asked: Asked) -> int:
    """How many records have the key that is looked for."""
    values = Values()
    query = exp.Select(expressions=[exp.Count(this=exp.Star())]).from_(decisions(view.run))
    return session.value(_chosen(view, asked, query, values).sql(DIALECT, pretty=True), *values.bound)


def _chosen(view: View, asked: Asked, query: exp.Select, values: Values) -> exp.Select:
    if asked.key.strip():
        return query.where(_has_key(view, asked.key.strip(), values))
    if asked.chosen.get("month"):
        query = with_dates(view.bound, query)
    found = conditions(view.bound, view.run, view.cube, asked.chosen, values)
    return query.where(*found) if found else query


def _has_key(view: View, key: str, values: Values) -> exp.Expr:
    """Either record of the decision has this key, or a part of its key is so; a JSON array means the parts in order."""
    tests: list[exp.Expr] = []
    for side in (view.bound.population, view.bound.other):
        names = view.bound.key_names(side)
        texts = [exp.cast(column("d", name), "text") for name in names]
        parts = keys.in_array(key) if len(names) > 1 else None
        if parts is not None and len(parts) == len(names):
            pairs_equal = zip(texts, parts, strict=True)
            tests.append(
                exp.and_(*[exp.EQ(this=text, expression=values.add(part, "text")) for text, part in pairs_equal])
            )
        else:
            tests += [exp.EQ(this=text, expression=values.add(key, "text")) for text in texts]
    return exp.paren(exp.or_(*tests))


def _ordered(view: View, asked: Asked) -> list[exp.Expr]:
    """What is left to explain first, or the keys alone; the other side's records come after the population's."""
    down = asked.order == "key, last first"
    sides = (view.bound.population, view.bound.other)
    names = [name for side in sides for name in view.bound.key_names(side)]
    order: list[exp.Expr] = [exp.Ordered(this=column("d", name), desc=down, nulls_first=False) for name in names]
    if asked.order == ORDERS[0]:
        words = [exp.Literal.string(name) for name in (*RECONCILED, "excluded")]
        order.insert(0, exp.Ordered(this=exp.In(this=column("d", "outcome"), expressions=words), nulls_first=False))
    return order
