"""What is known to be right: the links that exist, or the pairs that a file names, as a temporary table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql
from sqlglot import exp

from recon.database.connect import Session
from recon.errors import NotFound, UsageError
from recon.matching import keys, pairs
from recon.matching.bound import Bound
from recon.matching.pool import SIDES, creating, same_key, temporary
from recon.matching.statements import equal, named, no_keys
from recon.names import DIALECT, column, identifier

TRUTH = "recon_truth"  # each known pair once; the partner is NULL where a record is known to have none
_RAW = "recon_truth_as_given"
_HEADINGS = ("target_key", "source_key")
_COPY_LINE = re.compile(r"line (\d+)")


def from_links(session: Session, bound: Bound) -> None:
    """Make the table of the links that exist between records that take part."""
    assert bound.link is not None
    pairs = (
        exp.Select(expressions=[tree for side in SIDES for tree in named(bound.keys(side), bound.key_names(side))])
        .from_(bound.target.aliased("t"))
        .join(bound.source.aliased("s"), on=same_key(bound, bound.link))
        .where(*bound.where("t"), *bound.where("s"))
    )
    _make(session, pairs)


def links(session: Session, bound: Bound) -> int:
    """How many targets that take part hold a link, to whatever it leads."""
    query = exp.Select(expressions=[exp.Count(this=bound.link)]).from_(bound.target.aliased("t"))
    return session.value(query.where(*bound.where("t")).sql(DIALECT))


def from_file(session: Session, bound: Bound, path: Path) -> int:
    """Make the table of the pairs in a CSV file; returns how many different ones it names.

    The heading names target_key and source_key (further columns are left alone); composite keys are JSON arrays. An
    empty partner says that the record is known to have none. Pairs with a record that takes no part are left out.

    Raises:
        NotFound: there is no such file.
        UsageError: a line cannot be read; it is named by its number.
    """
    raw = exp.Select(expressions=[*no_keys(bound, "t"), *no_keys(bound, "s")]).where(exp.false())
    session.execute(creating(temporary(_RAW), raw))
    _copy(session, bound, path)
    given_pairs = session.value(f"SELECT count(*) FROM (SELECT DISTINCT * FROM pg_temp.{_RAW}) AS given")  # noqa: S608
    mine, other = bound.population, bound.other
    _one_each(session, bound)
    given = [column("given", name) for side in SIDES for name in bound.key_names(side)]
    both = exp.Select(expressions=given).from_(temporary(_RAW, "given"))
    for side in SIDES:
        on = equal(bound.keys(side), "given", bound.key_names(side))
        both = both.join(bound.relation[side].aliased(side), on=exp.and_(*on, *bound.where(side)))
    alone = exp.Select(expressions=[part.copy() for part in given]).from_(temporary(_RAW, "given"))
    on = equal(bound.keys(mine), "given", bound.key_names(mine))
    alone = alone.join(bound.relation[mine].aliased(mine), on=exp.and_(*on, *bound.where(mine)))
    alone = alone.where(exp.Is(this=column("given", bound.key_names(other)[0]), expression=exp.Null()))
    _make(session, exp.union(both, alone))
    return given_pairs


def _one_each(session: Session, bound: Bound) -> None:
    """Refuse a file that names two partners of one record of the population."""
    own = [column("given", name) for name in bound.key_names(bound.population)]
    given = exp.Subquery(
        this=exp.Select(expressions=[exp.Star()]).distinct().from_(temporary(_RAW)),
        alias=exp.TableAlias(this=identifier("given")),
    )
    several = exp.GT(this=exp.Count(this=exp.Star()), expression=exp.Literal.number(1))
    query = exp.Select(expressions=own).from_(given).group_by(*[key.copy() for key in own]).having(several)
    found = session.rows(query.order_by(*[key.copy() for key in own]).limit(1).sql(DIALECT))
    if found:
        raise UsageError(
            f"The file names more than one partner of {pairs.shown_key(found[0])}.", todo="Keep the right one."
        )


def _make(session: Session, query: exp.Query) -> None:
    session.execute(creating(temporary(TRUTH), query))
    session.execute(f"ANALYZE pg_temp.{TRUTH}")


def _copy(session: Session, bound: Bound, path: Path) -> None:
    """COPY the file's keys as they are; the server reads them as the types of the keys."""
    statement = sql.SQL("COPY pg_temp.{} FROM STDIN").format(sql.Identifier(_RAW))
    shifts: list[tuple[int, int]] = []  # from which row on the line's number is larger, and by how much
    number = 0
    try:
        with (
            path.open(newline="", encoding="utf-8-sig") as file,
            session.driver.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            for line, row in _read(bound, path, csv.reader(file, strict=True)):
                number += 1
                if not shifts or line - number != shifts[-1][1]:
                    shifts.append((number, line - number))
                copy.write_row(row)
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.", todo="Check the path after --truth.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read {path}.", why="It must be a CSV file in UTF-8.") from error
    except psycopg.DataError as error:
        at = _COPY_LINE.search(error.diag.context or "")
        row = int(at[1]) if at else 1
        line = row + max((shift for shift in shifts if shift[0] <= row), default=(0, 1))[1]
        raise UsageError(
            f"{path}, line {line}: {error.diag.message_primary or error}.", todo="Correct the key."
        ) from error


def _read(bound: Bound, path: Path, reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str | None]]]:
    """Each line's number and the parts of its keys."""
    line = 0

    def wrong(what: str, todo: str) -> UsageError:
        return UsageError(f"{path}, line {line}: {what}.", todo=todo)

    places: list[int] = []
    own = _HEADINGS[SIDES.index(bound.population)]
    while True:
        line = getattr(reader, "line_num", line) + 1
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise wrong(f"it is not CSV ({error})", "Quote values that hold commas or quotes.") from error
        if not places:
            if not set(_HEADINGS) <= set(row):
                raise wrong("the heading does not name target_key and source_key", "Start with target_key,source_key.")
            places = [row.index(name) for name in _HEADINGS]
            continue
        if not row:
            continue
        if len(row) <= max(places):
            raise wrong("it has too few columns", "Give every line its target_key and source_key.")
        parts: list[str | None] = []
        for name, side, place in zip(_HEADINGS, SIDES, places, strict=True):
            names = bound.key_names(side)
            text = row[place]
            if text == "":
                if name == own:
                    raise wrong(f"it has no {name}", "Only the partner may be empty: it says that there is none.")
                parts += [None] * len(names)
                continue
            if "\x00" in text:
                raise wrong(f"{name} holds a NUL character", "No key in a database does.")
            read = keys.in_array(text) if len(names) > 1 else [text]
            if read is None or len(read) != len(names):
                raise wrong(f"{name} is not a JSON array of {len(names)} values", "Write it like recon decisions does.")
            parts += read
        yield line, parts
    if not places:
        raise wrong("the file is empty", "Start with target_key,source_key.")
