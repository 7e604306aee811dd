"""What a follow-up does: a function that is called once for a record when its time has come.

It is found by its name among the entry points of the installed packages, so that anybody's package can add one:

    [project.entry-points."recon.follow_ups"]
    generate_pin = "recon.systems.stays.pins:generate"

docs/follow_ups.md shows what it may rely on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import entry_points
from typing import Any, Protocol

from recon.errors import NotFound, did_you_mean
from recon.outside.interface import Variables

FOLLOW_UPS = "recon.follow_ups"  # a group of entry points


class Transaction(Protocol):
    """One transaction; values are bound as $1, $2, …"""

    def execute(self, sql: str, *values: object) -> Any: ...

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]: ...

    def value(self, sql: str, *values: object) -> Any: ...


class Kept(Protocol):
    """The database of the records: each `session` is one transaction, committed at its end, rolled back on an error."""

    def session(self, *, read_only: bool = False) -> AbstractContextManager[Transaction]: ...


@dataclass(frozen=True)
class Job:
    """What a handler is given.

    Args:
        id: names the reconciliation, the job and the record; the same for ever.
        occasion: the same for every attempt at one thing, and another one once the record asks for it anew: after its
            time moved, or after it was dropped. An outside system takes it as an idempotency key. ASCII, printable.
        reconciliation, name: of the spec, and of the job in it.
        key: of the target's record, as the server writes its parts.
        scope: of the record; None: the spec has no scopes.
        due: when it was to be done, in UTC.
        now: when it is done, in UTC; never before `due`.
        record: the target's record as it is now, by column name; None: it is gone.
        database: where the records are.
        variables: settings, among them credentials.
    """

    id: str
    occasion: str
    reconciliation: str
    name: str
    key: Sequence[str]
    scope: str | None
    due: datetime
    now: datetime
    record: Mapping[str, Any] | None = field(repr=False)  # its columns may be private
    database: Kept = field(repr=False)
    variables: Variables = field(repr=False)


class Handler(Protocol):
    """What an entry point of `recon.follow_ups` is: a function that does the job."""

    def __call__(self, job: Job, /) -> str:
        """Do it, and say in a few words what came of it; these are kept and shown, so no secret stands in them.

        It is called again where its process was killed or it raised: what was done already must stay done once.
        Any error means that it is to be tried again later; the words of a ReconError are kept and shown.
        """
        ...


def installed() -> frozenset[str]:
    """The names of the handlers that can be had."""
    return frozenset(entry_points(group=FOLLOW_UPS).names)


def open_handler(name: str) -> Handler:
    """The handler of this name. Raises NotFound."""
    found = entry_points(group=FOLLOW_UPS)
    if name not in found.names:
        raise NotFound(
            f'No follow-up called "{name}" is installed.',
            why=did_you_mean(name, found.names) or f"There are: {', '.join(sorted(found.names)) or 'none'}.",
            todo=f"Name one of these, or install the package that brings it (entry point group {FOLLOW_UPS}).",
        )
    handler: Handler = found[name].load()
    return handler


def rights(handler: Handler) -> dict[str, str]:
    """The tables that a handler writes, and the rights that this takes: the dictionary RIGHTS beside it; usually empty.

    Names are as a spec writes them (`door_credentials`, `locks.doors`); rights are PostgreSQL's words.
    """
    return dict(getattr(sys.modules.get(handler.__module__), "RIGHTS", {}))
