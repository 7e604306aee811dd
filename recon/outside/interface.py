"""What an outside system must be able to do: be a feed that records come from, a source that a mirror is kept in step
with, or a target that a plan writes.

A system is found by its name among the entry points of the installed packages, so that anybody's package can add one:

    [project.entry-points."recon.targets"]
    hubspot = "recon.systems.crm.hubspot:target"

    [project.entry-points."recon.feeds"]
    housecallpro = "recon.systems.hcp_jobs.housecallpro:feed"

docs/outside.md shows one from start to end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from importlib.metadata import entry_points
from typing import Any, Protocol

from recon.errors import NotFound, did_you_mean
from recon.spec_parts import Outside

TARGETS, FEEDS = "recon.targets", "recon.feeds"  # groups of entry points

Variables = Mapping[str, str]  # RECON_… settings by name, from the environment or the workspace's .env
Fields = Mapping[str, str | None]  # a record's fields as text, as PostgreSQL writes the value; None: empty


@dataclass(frozen=True)
class Edit:
    """One record's change, as the signed bundle says it."""

    record: str  # its id there
    before: Fields  # what it must hold for the change to be made
    after: Fields


@dataclass(frozen=True)
class Answer:
    """What became of one edit; an error is the system's own words, without values that nobody may see."""

    record: str
    error: str | None = None


class Target(Protocol):
    """An outside system that a plan writes. A target is opened for one object (a table, a kind of record) of it."""

    @property
    def place(self) -> str:
        """Where it is, without credentials: a plan made for one place is never applied to another."""
        ...

    @property
    def most(self) -> int:
        """How many records one request may read or write at most."""
        ...

    def read(self, records: Sequence[str], fields: Sequence[str]) -> Mapping[str, Fields]:
        """These fields of these records as they are now, at most `most` of them; a record that is not there is left out.

        Raises:
            OutsideFailed: the system could not be asked: nothing is known about any record.
        """
        ...

    def write(self, edits: Sequence[Edit]) -> Sequence[Answer]:
        """Set the `after` fields of these records, at most `most` of them; one answer for each, in any order.

        Raises:
            OutsideUnsure: the request may or may not have been carried out: the caller reads the records again.
            OutsideFailed: nothing of it was carried out.
        """
        ...

    def same(self, field: str, left: str | None, right: str | None) -> bool:
        """Whether two values of a field are one to this system, such as 1500 and 1500.00 of an amount."""
        ...

    def close(self) -> None:
        """Give back what it holds open."""
        ...


class OpensTarget(Protocol):
    """What an entry point of `recon.targets` is: a function that opens a target."""

    def __call__(self, outside: Outside, variables: Variables) -> Target:
        """Open it. Raises UsageError where a setting is missing; does not connect yet."""
        ...


class Feed(Protocol):
    """An outside system that records come from."""

    @property
    def place(self) -> str:
        """Where it is, without credentials."""
        ...

    @property
    def columns(self) -> Mapping[str, str]:
        """What a record has: column names and their PostgreSQL types."""
        ...

    def pages(self, from_day: date | None, to_day: date | None) -> Iterator[Sequence[Mapping[str, Any]]]:
        """The records of these days (inclusive, UTC), page by page, each record by column name.

        Raises:
            OutsideFailed: a page could not be had: what was given so far is not all, and must not be taken for it.
        """
        ...

    def close(self) -> None:
        """Give back what it holds open."""
        ...


Record = Mapping[str, Any]  # a record by the columns of `Feed.columns`
Identity = Mapping[str, str]  # a record's key by column name, as text; without the scope, which is named beside it


@dataclass(frozen=True)
class Bad:
    """A record that cannot be kept at all, for it has no key: what was wrong with it, without its values."""

    why: str


class Mirrored(Feed, Protocol):
    """A feed that a mirror is kept in step with: it tells what changed, what there is, and looks single records up.

    Every question is about one scope, a value of the spec's `scope` as text. A record that has its key but cannot be read
    otherwise is given all the same: with NULL for what cannot be read, and in its column `problem` the reason in words.
    """

    @property
    def scopes(self) -> Sequence[str]:
        """The scopes that the settings name, in a fixed order. Raises UsageError where they name none."""
        ...

    def changed(self, scope: str, since: datetime | None) -> Iterator[Sequence[Record | Bad]]:
        """The records that changed since a moment, or all of them, page by page.

        Raises:
            OutsideFailed: a page could not be had, after three tries: what was given so far is not all.
        """
        ...

    def of_days(self, scope: str, from_day: date | None, to_day: date | None) -> Iterator[Sequence[Record | Bad]]:
        """The records of these days (inclusive, UTC, by the spec's date), page by page, and those whose day cannot be read.

        Raises:
            OutsideFailed: as `changed`.
        """
        ...

    def listed(self, scope: str, from_day: date | None, to_day: date | None) -> Iterator[Sequence[Identity]]:
        """The keys of every record of these days (inclusive, UTC, by the spec's date), whatever its state.

        Raises:
            OutsideFailed: as `changed`.
        """
        ...

    def find(self, scope: str, identity: Identity) -> Record | None:
        """One record as it is now; None only where the system says that there is none (404).

        Raises:
            OutsideFailed: the system gave no answer to that: refused, busy, broken or too late. That is no absence.
        """
        ...


class OpensFeed(Protocol):
    """What an entry point of `recon.feeds` is: a function that opens a feed."""

    def __call__(self, variables: Variables) -> Feed:
        """Open it. Raises UsageError where a setting is missing; does not connect yet."""
        ...


def open_target(outside: Outside, variables: Variables) -> Target:
    """The target that a spec names. Raises NotFound, UsageError."""
    opens: OpensTarget = _named(TARGETS, outside.system, "writes to")
    return opens(outside, variables)


def open_feed(name: str, variables: Variables) -> Feed:
    """The feed that a spec names. Raises NotFound, UsageError."""
    opens: OpensFeed = _named(FEEDS, name, "reads from")
    return opens(variables)


def _named(group: str, name: str, does: str) -> Any:
    found = entry_points(group=group)
    if name not in found.names:
        raise NotFound(
            f'There is no outside system "{name}" that recon {does}.',
            why=did_you_mean(name, found.names) or f"There are: {', '.join(sorted(found.names)) or 'none'}.",
            todo=f"Name one of these, or install the package that brings it (entry point group {group}).",
        )
    return found[name].load()
