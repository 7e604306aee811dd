"""Replay the audit log: is its chain whole, and does what stands agree with what it says?

All is read in one snapshot and as a stream. The chain shows what somebody changed who cannot or did not write it anew;
who owns the database can, and only a head that was noted elsewhere shows that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from recon.backfill import agreement, states
from recon.database import tables
from recon.database.chain import BEFORE_THE_FIRST, entry_hash
from recon.database.connect import Database, Session
from recon.errors import UsageError

SHOWN_FINDINGS = 100  # named; the count says how many there are
FETCHED_ROWS = 5_000  # entries read from the server at a time, and between two steps of the progress bar

Progress = Callable[[int, int], None]  # entries done, entries in all


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    kind: str
    says: str
    entry: int | None = None
    plan: str | None = None


@dataclass(frozen=True)
class Audit:
    """What the audit log proves, and what it does not agree with."""

    entries: int
    head_entry: int | None  # None: there is no head
    head_hash: str | None
    checked: dict[str, int]  # what was compared, and how many of it
    findings: tuple[Finding, ...]  # the first ones
    finding_count: int
    expected: str | None = None  # the hash that had to occur
    plan: str | None = None
    history: tuple[dict[str, Any], ...] = ()  # the entries of that plan

    @property
    def whole(self) -> bool:
        return self.finding_count == 0

    def as_dict(self) -> dict[str, Any]:
        """The document of `recon audit --json`."""
        return {"whole": self.whole, **asdict(self)}


@dataclass
class Findings:
    """Findings as they come: the first ones are kept, all are counted."""

    first: list[Finding] = field(default_factory=list[Finding])
    count: int = 0

    def add(self, kind: str, says: str, entry: int | None = None, plan: str | None = None) -> None:
        self.count += 1
        if len(self.first) < SHOWN_FINDINGS:
            self.first.append(Finding(kind, says, entry, plan))


def replay(
    database: Database, *, expect: str | None = None, plan: str | None = None, progress: Progress | None = None
) -> Audit:
    """Replay the whole chain, and compare plans, approvals and ledgers with it.

    Args:
        database: whose log.
        expect: the hash of a head that was noted earlier; it must occur in the chain.
        plan: compare this plan only, and give its entries; the chain is replayed as a whole all the same.
        progress: called now and then.

    Raises:
        UsageError: `expect` is no hash.
        NotFound: there is no such plan.
    """
    wanted = _hash(expect) if expect is not None else None
    tables.ensure(database)
    found = Findings()
    with database.session(read_only=True) as session:
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # all of it as of one moment
        if plan is not None:
            states.current(session, plan)
        head = next(iter(session.rows("SELECT entry, hash FROM recon.audit_head")), None)
        entries, seen = _chain(session, head, wanted, found, progress)
        if wanted is not None and not seen:
            says = f"no entry has the expected hash {wanted}: the chain was rewritten, or is another one"
            found.add("rewritten", says)
        checked = {"entries": entries, **agreement.compare(session, plan, found.add)}
        history = _history(session, plan) if plan is not None else ()
    head_entry, head_hash = head or (None, None)
    return Audit(entries, head_entry, head_hash, checked, tuple(found.first), found.count, wanted, plan, tuple(history))


def _hash(text: str) -> str:
    given = text.strip().lower()
    if not re.fullmatch("[0-9a-f]{64}", given):
        raise UsageError(
            f"--expect {text[:80]!r} is no hash.",
            why="The hash of a head has 64 digits of 0 to 9 and a to f.",
            todo="Copy it whole from an earlier `recon audit`.",
        )
    return given


# -- the chain -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """A row of the log as it stands."""

    entry: int
    at: datetime | str
    said: dict[str, Any]
    detail: str
    hash: str

    def hash_after(self, previous: str) -> str | None:
        """What its hash must be after this one; None where no entry that was written here can look like it."""
        if not isinstance(self.at, datetime):
            return None
        try:
            said = {**self.said, "detail": json.loads(self.detail)}
            return entry_hash(previous, self.entry, self.at, said)
        except (ValueError, RecursionError):  # numbers and depths that no entry of ours has
            return None


def _stream(session: Session) -> Iterator[_Entry]:
    columns = ("actor", "event", "reconciliation", "plan", "from_state", "to_state")
    with session.driver.cursor("recon_audit") as cursor:  # on the server: memory stays flat
        cursor.itersize = FETCHED_ROWS
        cursor.execute(
            "SELECT entry, at, actor, event, reconciliation, plan, from_state, to_state, detail::text, hash"
            " FROM recon.audit_log ORDER BY entry"
        )
        for row in cursor:
            yield _Entry(row[0], row[1], dict(zip(columns, row[2:8], strict=True)), row[8], row[9])


def _chain(
    session: Session, head: tuple[int, str] | None, wanted: str | None, found: Findings, progress: Progress | None
) -> tuple[int, bool]:
    """Follow the chain from its first entry to its head; how many entries there are, and whether `wanted` is one."""
    total = session.value("SELECT count(*) FROM recon.audit_log") if progress else 0
    count, last, seen = 0, 0, wanted == BEFORE_THE_FIRST
    # What may stand before the next entry: the hash that the last one has, and the one that it ought to have, so that
    # one changed hash is one finding. Nothing: the entry before is missing.
    before = {BEFORE_THE_FIRST}
    at_head: str | None = BEFORE_THE_FIRST if head and head[0] == 0 else None
    for item in _stream(session):
        count += 1
        if item.entry < 1:
            found.add("foreign", "its number is one that no entry has", item.entry)
            continue
        if item.entry > last + 1:
            missing = (
                f"entry {last + 1} is" if item.entry == last + 2 else f"entries {last + 1} to {item.entry - 1} are"
            )
            found.add("missing", f"{missing} missing: deleted", last + 1)
            before = set()
        right = {item.hash_after(previous) for previous in before}
        if before and item.hash not in right:
            says = "its hash does not follow from what it says and the entry before it: edited, or put in their place"
            found.add("edited", says, item.entry)
        before = {item.hash, *(hash for hash in right if hash is not None)}
        last, seen = item.entry, seen or item.hash == wanted
        if head and item.entry == head[0]:
            at_head = item.hash
        if progress and count % FETCHED_ROWS == 0:
            progress(count, total)
    _head(head, count, last, at_head, found)
    return count, seen


def _head(head: tuple[int, str] | None, count: int, last: int, at_head: str | None, found: Findings) -> None:
    if head is None:
        found.add("head", "the head of the log is missing")
        return
    entry, hash = head
    if entry > last:
        if count:
            found.add("cut", f"the end is cut off: the head says {entry} entries, the last one is {last}", last + 1)
        else:
            found.add("emptied", f"the log was emptied: the head says {entry} entries")
    elif entry < last:
        says = f"appended past the head, which says {entry} entries: not written by recon, or the head was set back"
        found.add("past the head", says, entry + 1)
    if at_head is not None and at_head != hash:
        found.add("head", f"the head has another hash than entry {entry}: one of the two was edited", entry)


def _history(session: Session, plan: str) -> list[dict[str, Any]]:
    return session.records(
        "SELECT entry, at, actor, event, from_state, to_state, detail FROM recon.audit_log"
        " WHERE plan = $1 ORDER BY entry",
        plan,
    )
