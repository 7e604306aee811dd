"""Whether a batch may go on now, or should wait for somebody; with the reason, for the person who waits.

A transaction that has been open for long on the table that is written may wait for our rows, or hold rows that we
wait for, and as long as it lasts nothing of what we leave behind can be cleaned up.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from recon.backfill import executor
from recon.backfill.executor import Notice
from recon.backfill.plan import Plan
from recon.database.connect import Session
from recon.errors import Locked

LONG_TRANSACTION_SECONDS = 30.0  # open on the same table for longer than this is in the way
LOOK_SECONDS = 1.0  # between two looks at who is there; a look takes about a millisecond
PATIENCE_SECONDS = 600.0  # then the apply gives up, and can be resumed

_IN_THE_WAY = """
    SELECT pid, coalesce(nullif(application_name, ''), 'a program without a name'), usename::text, state,
        extract(epoch FROM clock_timestamp() - xact_start)::float8
    FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
      AND NOT pid = ANY ($1::int[]) AND xact_start < clock_timestamp() - $2::float8 * interval '1 second'
      AND EXISTS (SELECT FROM pg_locks AS held WHERE held.pid = pg_stat_activity.pid AND held.locktype = 'relation'
          AND held.relation = to_regclass($3) AND held.granted)
    ORDER BY xact_start LIMIT 1
"""


@dataclass
class Quiet:
    """Looks before a batch, not more often than once a second."""

    plan: Plan
    notice: Notice
    own: tuple[int, ...]  # backends of this apply itself
    looked: float = 0.0
    pauses: int = 0

    def wait(self, session: Session) -> None:
        """Return once nobody is in the way.

        Raises:
            Locked: somebody still is after ten minutes.
        """
        if time.monotonic() - self.looked < LOOK_SECONDS:
            return
        began = time.monotonic()
        paused = False
        while reason := self._reason(session):
            if not paused:
                self.pauses += 1
                paused = True
            self.notice(reason)
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise Locked(
                    f"Somebody has been in the way for {PATIENCE_SECONDS / 60:.0f} minutes.",
                    why=f"{reason}.",
                    todo=f"When it is gone, `recon apply {self.plan.plan} --execute` goes on where this stopped.",
                )
            time.sleep(LOOK_SECONDS)
        if paused:
            self.notice(None)
        self.looked = time.monotonic()

    def _reason(self, session: Session) -> str | None:
        found = session.rows(_IN_THE_WAY, list(self.own), LONG_TRANSACTION_SECONDS, executor.target_name(self.plan))
        session.commit()
        if not found:
            return None
        pid, program, user, state, seconds = found[0]
        return (
            f"{program} of {user} (process {pid}, {state}) has had a transaction open on the table for {seconds:.0f} s"
        )
