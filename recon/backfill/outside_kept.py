"""recon.outside_changes: what became of each record of a plan in the outside system, written before it is sent and after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from recon.backfill.outside_bundle import Line
from recon.database.connect import Session
from recon.outside.interface import Fields

# The states of a record there. `sending` and `restoring` mean: it may have been sent, and the record is read first.
SENDING, DONE, ERROR, OTHERWISE = "sending", "done", "error", "drifted"
RESTORING, RESTORED, CONFLICT = "restoring", "restored", "conflict"


@dataclass(frozen=True)
class Kept:
    """What is known of one record."""

    place: int
    record: str
    state: str
    message: str | None
    before: Fields  # as it was there when it was first read: what a revert gives it again
    after: Fields
    attempts: int  # how often it was sent


def of(session: Session, plan: str, first: int, last: int) -> dict[int, Kept]:
    """What is known of the records of these places."""
    found = session.rows(
        "SELECT place, record, state, message, before, after, attempts FROM recon.outside_changes"
        " WHERE plan = $1 AND place BETWEEN $2::bigint AND $3::bigint ORDER BY place",
        plan,
        first,
        last,
    )
    return {row[0]: Kept(*row) for row in found}


@dataclass(frozen=True)
class News:
    """What is to be kept of one record."""

    line: Line
    state: str
    before: Fields
    message: str | None = None


# A record that may have been sent keeps what it held before that: by now it may hold what we wrote.
_KEEP = """
    INSERT INTO recon.outside_changes AS kept (plan, place, record, state, message, before, after, attempts)
    SELECT $1, news.place, news.record, news.state, news.message, news.before, news.after, $3::int
    FROM jsonb_to_recordset($2::jsonb)
        AS news (place bigint, record text, state text, message text, before jsonb, after jsonb)
    ON CONFLICT (plan, place) DO UPDATE SET
        state = excluded.state, message = excluded.message, after = excluded.after, at = clock_timestamp(),
        before = CASE WHEN kept.state IN ('sending', 'done') AND excluded.state <> 'drifted' THEN kept.before
                 ELSE excluded.before END,
        attempts = kept.attempts + excluded.attempts
"""


def keep(session: Session, plan: str, news: Sequence[News], *, sent: bool = False) -> None:
    """Keep news of records, in the caller's transaction; `sent` counts one more attempt."""
    if not news:
        return
    said = [
        {
            "place": item.line.place,
            "record": item.line.edit.record,
            "state": item.state,
            "message": item.message,
            "before": dict(item.before),
            "after": dict(item.line.edit.after),
        }
        for item in news
    ]
    session.execute(_KEEP, plan, json.dumps(said), int(sent))


def announce(session: Session, plan: str, news: Sequence[News]) -> None:
    """Write ahead what is about to be sent, on disk before it is."""
    session.execute("SELECT set_config('synchronous_commit', 'on', true)")  # an apply does without for its batches
    keep(session, plan, news, sent=True)
    session.commit()


def move(session: Session, plan: str, places: Sequence[int], state: str, message: str | None = None) -> None:
    """Take records that are known to another state, in the caller's transaction."""
    if places:
        session.execute(
            "UPDATE recon.outside_changes SET state = $3, message = $4, at = clock_timestamp()"
            " WHERE plan = $1 AND place = ANY ($2::bigint[])",
            plan,
            list(places),
            state,
            message,
        )


def counts(session: Session, plan: str) -> dict[str, int]:
    """How many records are in each state; of those that are done, `already` were so before anything was sent."""
    found = session.rows(
        "SELECT CASE WHEN state = 'done' AND attempts = 0 THEN 'already' ELSE state END, count(*)"
        " FROM recon.outside_changes WHERE plan = $1 GROUP BY 1",
        plan,
    )
    return dict(found)


def listed(session: Session, plan: str, state: str, limit: int) -> list[Kept]:
    """The first records in a state, by place."""
    found = session.rows(
        "SELECT place, record, state, message, before, after, attempts FROM recon.outside_changes"
        " WHERE plan = $1 AND state = $2 ORDER BY place LIMIT $3::int",
        plan,
        state,
        limit,
    )
    return [Kept(*row) for row in found]
