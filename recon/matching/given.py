"""Decisions of people on their way in: their shape, the files they come in, the records that their keys mean."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sqlglot import exp

from recon.database import relations
from recon.database.connect import Session
from recon.database.relations import Relation
from recon.errors import NotFound, UsageError, did_you_mean
from recon.matching import keys
from recon.names import DIALECT, column, identifier, storable
from recon.spec import Reconciliation
from recon.workspace import reason as checked_reason

KINDS = ("link", "forbid", "exclude")
HEADING = ("kind", "target_key", "source_key", "reason")
SPELLINGS = 4  # ways in which a key may have been kept


@dataclass(frozen=True)
class Given:
    """One decision on its way in; `line` is its line in a file, keys are as they were written."""

    line: int
    kind: str
    target: str | None
    source: str | None
    reason: str


def checked(given: Given) -> Given:
    """The decision with a tidy reason, if it has the right shape. Raises UsageError."""
    if given.kind not in KINDS:
        raise UsageError(
            f"There is no decision {given.kind!r}.",
            why=did_you_mean(given.kind, KINDS),
            todo=f"Use {', '.join(KINDS)}.",
        )
    if given.kind == "exclude" and (given.target is None) == (given.source is None):
        raise UsageError("exclude leaves out one record: a target or a source.", todo="Give one key.")
    if given.kind != "exclude" and (given.target is None or given.source is None):
        raise UsageError(f"{given.kind} is about a pair.", todo="Give a target and a source.")
    return replace(given, reason=reason_of(given.reason))


def reason_of(text: str | None) -> str:
    """A reason without the white space around it. Raises UsageError where there is none, or it is no text."""
    return checked_reason((text or "").strip(), "A decision")


def no_nul(text: str) -> str:
    """The text, if PostgreSQL can keep it. Raises UsageError."""
    if not storable(text):
        raise UsageError(f"{text!r} holds a NUL or half a character.", why="PostgreSQL keeps no such text.")
    return text


def read(path: Path, reason: str) -> Iterator[Given]:
    """The lines of a CSV file; `reason` is for those that give none, and a key that is empty is none.

    Raises:
        UsageError: the file cannot be read, or a line has too many or too few values.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            heading = tuple(reader.fieldnames or ())
            if heading not in (HEADING, HEADING[:-1]):
                raise UsageError(
                    f"{path}: its heading is {','.join(heading) or 'missing'}.", todo=f"Write {','.join(HEADING)}."
                )
            last = reader.line_num
            for row in reader:
                line, last = last + 1, reader.line_num  # a quoted value may have taken several lines
                if None in row or None in row.values():
                    raise UsageError(f"{path}: line {line} does not have {len(heading)} values.")
                yield Given(
                    line, row["kind"].strip(), row["target_key"] or None, row["source_key"] or None, row.get("reason") or reason
                )  # fmt: skip
    except OSError as error:
        raise UsageError(f"{path} cannot be read.", why=f"{error.strerror}.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a CSV file in UTF-8.", why=f"{error}.") from error


class Records:
    """The records of both sides, by the keys that people write."""

    def __init__(self, session: Session, spec: Reconciliation) -> None:
        session.users_path()
        self._session = session
        self._sides: dict[str, tuple[Relation, list[str]]] = {
            "t": (relations.records(session, spec, "t"), spec.target.keys),
            "s": (relations.records(session, spec, "s"), spec.source.keys),
        }
        self._known: dict[tuple[str, str], list[str]] = {}
        session.plain_path()

    def look_up(self, side: str, texts: Sequence[str | None]) -> None:
        """Find many records in one statement: those whose keys are written as the server writes them."""
        relation, names = self._sides[side]
        wanted: dict[tuple[str, ...], str] = {}
        for text in texts:
            try:
                if text is not None and "\x00" not in text:
                    wanted[tuple(keys.parts(text, names))] = text
            except UsageError:
                continue  # `key` says so
        self._session.execute("CREATE TEMPORARY TABLE recon_wanted (key text[]) ON COMMIT DROP")
        with self._session.driver.cursor().copy("COPY pg_temp.recon_wanted FROM STDIN") as copy:
            for key in wanted:
                if not any("\x00" in part for part in key):
                    copy.write_row([list(key)])
        query = exp.Select(expressions=[column("wanted", "key")]).from_(relation.aliased(side))
        query = query.join(
            exp.Table(this=identifier("recon_wanted"), alias=exp.TableAlias(this=identifier("wanted"))),
            on=keys.same(column("wanted", "key"), [column(side, name) for name in names]),
        )
        for (found,) in self._session.rows(query.sql(DIALECT)):
            self._known[side, wanted[tuple(found)]] = found
        self._session.execute("DROP TABLE pg_temp.recon_wanted")

    def key(self, side: str, text: str | None) -> list[str] | None:
        """The key of the record that a text means. Raises UsageError or NotFound."""
        if text is None:
            return None
        if (side, text) not in self._known:
            relation, names = self._sides[side]
            found = keys.find(self._session, relation, names, keys.parts(text, names))
            if found is None:
                raise NotFound(f"{relation.label} has no record {text}.", todo="Check the key.")
            self._known[side, text] = found
        return self._known[side, text]

    def spellings(self, side: str, text: str | None) -> list[list[str] | None]:
        """The keys that a text may stand for, whatever became of the record and of its key; always four of them."""
        if text is None:
            return [None] * SPELLINGS
        relation, names = self._sides[side]
        found = [[text]]
        whole = keys.in_array(text)
        if whole and not any("\x00" in part for part in whole):
            found.append(whole)
        with suppress(UsageError):  # then the key's type was another one when it was kept
            key = keys.parts(text, names)
            now = (keys.written(self._session, relation, names, key), keys.find(self._session, relation, names, key))
            found += filter(None, now)
        return [*found, *[found[0]] * (SPELLINGS - len(found))]
