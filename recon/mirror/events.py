"""Events of a mirror's source worked off: in batches of one scope, each batch one run of the mirror.

What an event says of a record is not believed: the source is asked for it as it is now, so that events may come twice,
late and out of order. What is found goes through the mirror's own plan. What became of an event:

    pending   not worked off yet; or the source gave no answer, and it is tried again after a while
    success   the record is here as the source has it; or the source no longer has it, and the next run looks twice
    skipped   nothing was written; `said` tells why
    failed    it went wrong as often as it is tried; `said` tells how
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from recon.database import tables
from recon.database.connect import Database
from recon.errors import DatabaseUnreachable, Locked, ReconError, SpecError, UsageError
from recon.mirror import asking, sync
from recon.mirror.became import FAILED, PENDING, SKIPPED, SUCCESS, Came, brought_in, gone, wrong
from recon.sources.hooks import MirrorHook
from recon.workspace import Workspace

BATCH = 300  # events that are worked off by one run of the mirror
ATTEMPTS = 8  # after so many an event has failed: with the waits between them some 17 hours
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 30, 6 * 3600  # between two attempts, four times as long each time
ALONE_FROM = 3  # attempts that never came to an end: the event is worked off by itself, for it may be the cause


@dataclass(frozen=True)
class Worked:
    """What a batch did: events looked at, what became of them, and how many wait now."""

    processed: int = 0
    succeeded: int = 0
    skipped: int = 0
    failed: int = 0  # went wrong: parked, or tried again later
    pending: int = 0

    def as_dict(self) -> dict[str, int]:
        return {
            "processed": self.processed, "succeeded": self.succeeded, "skipped": self.skipped,
            "failed": self.failed, "pending": self.pending,
        }  # fmt: skip


@dataclass(frozen=True)
class _Event:
    entry: int
    record: str | None
    attempts: int  # before this one
    received_at: datetime
    looked_at: datetime | None  # when its last attempt came to an end
    said: str | None

    @property
    def in_vain(self) -> bool:
        """Whether the source was asked for its record before, and gave no answer."""
        return self.attempts > 0 and self.said is not None and asking.UNASKED not in self.said


def work_off(
    database: Database,
    workspace: Workspace,
    hook: MirrorHook,
    scope: str,
    most: int = BATCH,
    *,
    everything: bool = False,
    now: datetime | None = None,
) -> Worked:
    """Work off what waits of one scope by one run of its mirror, oldest first, and what was tried least before that.

    One process at a time does this for a scope; another one waits its turn, and finds what is left.

    Args:
        most: how many events at most. Others that wait about the same records are settled with them, for nothing more
            is to be asked.
        everything: a person asks: what waits for its next attempt is tried now, what was skipped because of an import
            issue is looked at once more, and no more than `most` events are touched.
        now: the time, with a zone; default: now.

    Raises:
        ReconError: what keeps all of them from being worked off: no database, no settings, another run that goes on.
            They wait as they are.
    """
    tables.ensure(database)
    now = now or datetime.now(UTC)
    with _alone(database, f"webhooks {hook.origin} {scope}"):
        batch = _waiting(database, hook, scope, most, everything, now)
        came = _worked_off(database, workspace, hook, scope, batch, now) if batch else {}
        with database.session(read_only=True) as session:
            left = session.value(_LEFT, hook.origin, scope)
    states = [item.state for item in came.values()]
    done = Worked(
        len(came), states.count(SUCCESS), states.count(SKIPPED), sum(item.wrong for item in came.values()), int(left or 0)
    )  # fmt: skip
    if came:
        told = " ".join(f"{name}={value}" for name, value in done.as_dict().items())
        logging.getLogger(f"recon.{hook.reconciliation}").info(
            "events worked off scope=%s %s", scope, told, extra={"line": "events worked off", "about": done.as_dict()}
        )
    return done


_LEFT = "SELECT count(*) FROM recon.webhook_events WHERE origin = $1 AND scope = $2 AND state = 'pending'"


@contextmanager
def _alone(database: Database, what: str) -> Generator[None]:
    with database.session() as session:
        session.execute("SELECT pg_advisory_lock($1::int, hashtext($2))", tables.LOCK_SPACE, what)
        session.commit()  # the lock is the connection's; no transaction stays open meanwhile
        try:
            yield
        finally:
            session.execute("SELECT pg_advisory_unlock($1::int, hashtext($2))", tables.LOCK_SPACE, what)


# -- which ones ------------------------------------------------------------------------------------------


def _waiting(
    database: Database, hook: MirrorHook, scope: str, most: int, everything: bool, now: datetime
) -> list[_Event]:
    """The events of the next batch."""
    with database.session(read_only=True) as session:
        if everything:
            rows = session.rows(_EVERYTHING, hook.origin, scope, most)
        else:
            rows = session.rows(_DUE, hook.origin, scope, most, now, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
        chosen = [_Event(*row) for row in rows]
        cut_off = [event for event in chosen if event.attempts >= ALONE_FROM and event.looked_at is None]
        if cut_off:
            others = [event for event in chosen if event not in cut_off]
            return others or cut_off[:1]
        if everything or not chosen:
            return chosen
        records = sorted({event.record for event in chosen if event.record is not None})
        more = session.rows(_SAME, hook.origin, scope, records, [event.entry for event in chosen], ALONE_FROM)
        return chosen + [_Event(*row) for row in more]


_COLUMNS = "entry, record, attempts, received_at, completed_at, said"
_OF_SCOPE = f"SELECT {_COLUMNS} FROM recon.webhook_events WHERE origin = $1 AND scope = $2"  # noqa: S608 (our own)
# Of an event that waits, completed_at is when its last attempt ended.
_DUE = f"""
    {_OF_SCOPE} AND state = 'pending' AND (attempts = 0 OR completed_at IS NULL
        OR completed_at <= $4::timestamptz - make_interval(secs => least($5 * power(4, attempts - 1), $6)))
    ORDER BY attempts, entry LIMIT $3
"""
_EVERYTHING = f"""
    {_OF_SCOPE} AND (state = 'pending' OR state = 'skipped' AND said LIKE '%(import issue: %)')
    ORDER BY state, attempts, entry LIMIT $3
"""
_SAME = f"""
    {_OF_SCOPE} AND state = 'pending' AND record = ANY ($3::text[]) AND entry <> ALL ($4::bigint[]) AND attempts < $5
"""


# -- worked off ------------------------------------------------------------------------------------------


def _worked_off(
    database: Database, workspace: Workspace, hook: MirrorHook, scope: str, batch: Sequence[_Event], now: datetime
) -> Mapping[int, Came]:
    """What came of each event of a batch, by entry; it is written down."""
    entries = [event.entry for event in batch]
    with database.session() as session:  # before the attempt, so that one which ends the process counts too
        session.execute(_TRIED, entries)
    came = {event.entry: _nothing(event) for event in batch if event.record is None or event.attempts >= ATTEMPTS}
    asked_about = [event for event in batch if event.entry not in came]
    try:
        by_record = _of_records(database, workspace, hook, scope, asked_about, now) if asked_about else {}
    except DatabaseUnreachable:
        raise  # nothing can be written about them
    except Exception as error:
        ours = error if isinstance(error, ReconError) else None
        if isinstance(ours, Locked | UsageError | SpecError):  # about none of them: nothing was tried
            later = Came(PENDING, f"waits: {ours.what.rstrip('.')}", counts=False, wrong=True)
            _settle(database, came | {event.entry: later for event in asked_about}, now)
            raise
        said = f"{ours.what} {ours.why}" if ours else f"Something unforeseen went wrong ({type(error).__name__})"
        by_record = {event.record: wrong(said) for event in asked_about}
    for event in asked_about:
        came[event.entry] = _counted(event, by_record[event.record])
    _settle(database, came, now)
    return came


_TRIED = "UPDATE recon.webhook_events SET attempts = attempts + 1 WHERE entry = ANY ($1::bigint[])"
_ENDED = """
    UPDATE recon.webhook_events AS kept SET state = came.state, said = came.said,
        attempts = kept.attempts - CASE WHEN came.counts THEN 0 ELSE 1 END, completed_at = $5
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::boolean[]) AS came (entry, state, said, counts)
    WHERE kept.entry = came.entry
"""


def _settle(database: Database, came: Mapping[int, Came], now: datetime) -> None:
    ended = list(came.values())
    with database.session() as session:
        session.execute(
            _ENDED, list(came), [item.state for item in ended], [item.said for item in ended],
            [item.counts for item in ended], now,
        )  # fmt: skip


def _nothing(event: _Event) -> Came:
    if event.record is None:
        return Came(SKIPPED, "The event does not say which record.")
    return Came(FAILED, "failed: none of its attempts came to an end", wrong=True)


def _counted(event: _Event, came: Came) -> Came:
    """The same, parked where this was the last attempt; a source that answers nothing at all parks no event."""
    if came.state != PENDING:
        return came
    attempt = event.attempts + 1
    if attempt < ATTEMPTS:
        return replace(came, said=f"failed: {came.said}; attempt {attempt} of {ATTEMPTS}")
    return Came(FAILED, f"failed: {came.said}", wrong=True) if came.parks else replace(came, counts=False)


def _of_records(
    database: Database, workspace: Workspace, hook: MirrorHook, scope: str, events: Sequence[_Event], now: datetime
) -> dict[str | None, Came]:
    """What came of each record: asked for at the source, then brought in by a run of the mirror."""
    spec = sync.mirror_of(workspace, hook.reconciliation)
    feed = sync.open_mirror(spec, workspace)
    try:
        # Last those that had no answer before, so that they do not stand before the others each time.
        in_order = sorted(events, key=lambda event: event.in_vain)
        records = list(dict.fromkeys(event.record for event in in_order if event.record is not None))
        asked = asking.ask(feed, scope, hook, records, min(event.received_at for event in events))
    finally:
        feed.close()
    came: dict[str | None, Came] = {record: wrong(why) for record, why in asked.errors.items()}
    came |= {record: wrong(why, parks=False) for record, why in asked.unasked.items()}
    held = asking.suspect(database, spec, hook, scope, asked.gone, now)
    came |= {record: gone(hook, record, record in held) for record in asked.gone}
    found = {record: asked.found[record] for record in records if record in asked.found}
    if found:
        came |= brought_in(database, workspace, spec, hook, scope, asked, found, now)
    return came
