"""What a run of a mirror is asked to do, what it did in each scope, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from recon.errors import ReconError
from recon.matching.run import Run
from recon.mirror import log
from recon.mirror.lookups import AWAITS, CANCELLED
from recon.outside.interface import Bad, Mirrored, Record

SHOWN = 100  # messages and orphans that are kept of one scope


@dataclass
class Part:
    """What a run did in one scope.

    Args:
        scope: which.
        fetched: records that came from the source.
        created, updated: records that were written here.
        orphaned: live records here that the source no longer has, by its own word.
        cancelled: of these, how many a plan has set.
        held_back: of these, how many were left alone: too many at once, or nobody asked for it.
        deleted: jobs that were removed because their record no longer wants them.
        errors: what went wrong with single records, of the first hundred: record and error.
        error_count: with how many.
        source_errors: of these, how often the source gave no answer, or a record that cannot be read.
        run, plan: what was decided and written by.
        awaits: the plan that a person must sign for, and why.
        failed, ended_by: what ended this scope's turn, in words and as it was raised.
        orphans: what was found out about each suspect: key, identity, and what came of it.
    """

    scope: str
    fetched: int = 0
    created: int = 0
    updated: int = 0
    orphaned: int = 0
    cancelled: int = 0
    held_back: int = 0
    deleted: int = 0
    errors: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    error_count: int = 0
    source_errors: int = 0
    run: str | None = None
    plan: str | None = None
    awaits: str | None = None
    failed: str | None = None
    ended_by: ReconError | None = None
    orphans: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def wrong(self, error: str, record: str = "") -> None:
        """Count what went wrong with a record, and keep its message."""
        self.error_count += 1
        if len(self.errors) < SHOWN:
            self.errors.append({"record": record, "error": error})

    @property
    def suspects(self) -> list[dict[str, Any]]:
        """What was found out about each suspect, and what came of it: nothing is cancelled by a plan that waits."""
        waits = self.awaits is not None
        return [{**told, "said": AWAITS} if waits and told["said"] == CANCELLED else told for told in self.orphans]

    @property
    def counts(self) -> dict[str, int]:
        return {
            "fetched": self.fetched, "created": self.created, "updated": self.updated, "orphaned": self.orphaned,
            "deleted": self.deleted, "errors": self.error_count + (self.failed is not None),
        }  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """What the log keeps of it."""
        return {
            "scope": self.scope, **self.counts, "cancelled": self.cancelled, "held_back": self.held_back,
            "run": self.run, "plan": self.plan, "awaits": self.awaits, "failed": self.failed,
            "messages": self.errors, "orphans": self.suspects[:SHOWN],
        }  # fmt: skip


@dataclass(frozen=True)
class Synced:
    """How a run of a mirror ended."""

    id: str
    reconciliation: str
    status: str
    parts: tuple[Part, ...]
    error: str | None

    @property
    def stats(self) -> dict[str, int]:
        """The counts of all scopes together."""
        return {name: sum(part.counts[name] for part in self.parts) for name in log.COUNTS}

    def as_dict(self) -> dict[str, Any]:
        """The document of `recon sync --json`."""
        return {
            "id": self.id, "reconciliation": self.reconciliation, "status": self.status, "stats": self.stats,
            "scopes": [part.as_dict() for part in self.parts], "error": self.error,
        }  # fmt: skip


@dataclass(frozen=True)
class Wish:
    """What a run of a mirror is asked to do.

    Args:
        scopes: only these; None: all that the settings name.
        cause: what asks for it: schedule, person, request or event.
        execute: write; else fetch and decide only.
        fetches: ask the source what changed and what it has; else take what is here (events bring their own records).
        cancels: take orphans for orphans; else they are only told.
        from_day, to_day: only live records of these days (inclusive, UTC) are taken for orphans; None: no bound.
        records: brings in records beforehand, of a scope: what events are about.
        decided: is told the run of matching of a scope, once all is decided and nothing is written yet.
        patience: seconds to wait for a run that goes on.
        suite: prove the whole by the suite of checks too; else each plan by its own verify.sql only, and the whole by the
            next run.
    """

    scopes: Sequence[str] | None = None
    cause: str = "person"
    execute: bool = True
    fetches: bool = True
    cancels: bool = True
    from_day: date | None = None
    to_day: date | None = None
    records: Callable[[Mirrored, str], Iterable[Sequence[Record | Bad]]] | None = None
    decided: Callable[[Run], None] | None = None
    patience: float = log.PATIENCE_SECONDS
    suite: bool = True


def ended(identity: str, name: str, parts: Sequence[Part], short: Sequence[str]) -> Synced:
    failed = [f"{part.scope}: {part.failed}" for part in parts if part.failed]
    waits = [part.awaits for part in parts if part.awaits]
    held = [f"{part.scope}: {part.held_back} orphans held back" for part in parts if part.held_back]
    if parts and len(failed) == len(parts):
        status = log.FAILED
    elif failed or waits or held or short or any(part.error_count for part in parts):
        status = log.PARTIAL
    else:
        status = log.SUCCESS
    return Synced(identity, name, status, tuple(parts), "; ".join([*failed, *waits, *held, *short]) or None)
