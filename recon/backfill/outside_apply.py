"""Apply a plan that writes an outside system too: chunk by chunk, there first, and in the table only what it has.

One chunk: which rows would still change here (tried, and rolled back); what the records hold there; what is about to be
sent, on disk; the request; then, in one transaction, what became of it and the signed statement for those rows. Killed at
any of these moments it goes on: what may have been sent is read before anything is sent again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace

from recon.backfill import batches, outside_bundle, outside_kept, outside_read, outside_send, seams, work
from recon.backfill.batches import Batch
from recon.backfill.executor import Alone, Notice, Progress
from recon.backfill.outside_bundle import Line, Lines
from recon.backfill.outside_kept import DONE, ERROR, OTHERWISE, SENDING, News
from recon.backfill.outside_read import HOLDS_ELSE, Look
from recon.backfill.outside_send import Sent
from recon.backfill.plan import Plan
from recon.backfill.work import Job, Tally
from recon.database import tables
from recon.database.connect import Database, Session
from recon.names import DIALECT
from recon.outside.interface import Target, Variables


@dataclass
class Outside:
    """The outside part of an apply: the system, what is to be sent, and what was left."""

    target: Target
    lines: Lines
    statement: str  # the signed execute.sql
    drifted: int = 0  # rows of the table that were not as planned, so nothing was sent for them
    left: int = 0  # records with an error, or that hold something else

    def run(
        self,
        database: Database,
        session: Session,
        alone: Alone,
        job: Job,
        tally: Tally,
        progress: Progress | None,
        notice: Notice,
    ) -> None:
        """Do a job, chunk after chunk; the arguments are those of `work.run`.

        Raises:
            OutsideFailed: the system cannot be asked, or nobody knows what it did; what was done is kept.
            Stale, Locked: as without an outside system.
        """
        for pack in outside_read.packed(job.ranges, self.target):
            lines: list[Line] = []
            for first, last in pack:
                changing = self._would_change(session, job, first, last)
                self.drifted += last - first + 1 - len(changing)
                lines += [line for line in self.lines.between(first, last) if line.place in changing]
            news, done = self._send(session, job.plan, [line for line in lines if line.changes])
            done |= {line.place for line in lines if not line.changes}
            part = replace(
                job, ranges=runs(done), whole=False, write=_writing(job, {item.line.place: item for item in news})
            )
            if part.ranges:
                work.run(database, session, alone, part, tally, notice=notice)
            if progress:
                progress(tally.done + self.drifted + self.left, tally.total)

    def _would_change(self, session: Session, job: Job, first: int, last: int) -> set[int]:
        """The places whose rows would be changed now, by the signed statement itself; nothing is kept of it."""
        ledger = tables.own("ledger", job.plan.plan).sql(DIALECT)
        query = f"SELECT place FROM {ledger} WHERE place BETWEEN $1::bigint AND $2::bigint"  # noqa: S608 (our own)

        def look() -> set[int]:
            batch = batches.at(session, job.plan, job.kind, first, last, job.written_by)
            session.execute(self.statement, *batch.bounds)
            found = {row[0] for row in session.rows(query, first, last)}
            job.before_commit(session, batch, len(found))  # what would stop the batch stops it before it is sent
            return found

        return work.tried(session, look)

    def _send(self, session: Session, plan: Plan, lines: list[Line]) -> tuple[list[News], set[int]]:
        """Bring these records to what is wanted; gives what is to be kept of the done ones, and their places."""
        looks = {item.line.place: item for item in outside_read.look(self.target, lines)}
        seams.reached("outside read")

        def announce(ready: Iterable[Look]) -> None:
            outside_kept.announce(session, plan.plan, [News(item.line, SENDING, item.before) for item in ready])

        sent = outside_send.send(self.target, list(looks.values()), announce)
        failed = _failed(sent, looks)
        self.left += len(failed)
        outside_kept.keep(session, plan.plan, failed)
        session.commit()
        return [News(looks[place].line, DONE, looks[place].before) for place in sorted(sent.done)], set(sent.done)


@contextmanager
def opened(plan: Plan, statement: str, variables: Variables, notice: Notice) -> Generator[Outside]:
    """The outside part of a plan's apply.

    Args:
        plan: the plan, found intact.
        statement: the signed execute.sql.
        variables: the workspace's settings.
        notice: called with the reason while the system asks to wait.

    Raises:
        NotFound, UsageError, WrongDatabase, BundleChanged: it is not the system or the file of the plan.
    """
    with (
        outside_bundle.opened(plan.document, plan.bundle) as lines,
        outside_read.reached(plan, variables, notice) as to,
    ):
        yield Outside(to, lines, statement)


def _failed(sent: Sent, looks: dict[int, Look]) -> list[News]:
    """What is kept of records that were not written. What they hold is kept apart from the words."""
    errors = [News(looks[place].line, ERROR, looks[place].before, said) for place, said in sent.errors.items()]
    return errors + [News(looks[place].line, OTHERWISE, held, HOLDS_ELSE) for place, held in sent.drifted.items()]


def _writing(job: Job, news: dict[int, News]) -> work.Write:
    """The write of a batch that also says, in the same transaction, that its records are done outside."""

    def write(session: Session, batch: Batch) -> int:
        done = [news[place] for place in range(batch.first, batch.last + 1) if place in news]
        outside_kept.keep(session, job.plan.plan, done)
        return job.write(session, batch)

    return write


def runs(places: Iterable[int]) -> list[tuple[int, int]]:
    """These places as ranges without a gap.

    >>> runs({5, 1, 2, 7, 6})
    [(1, 2), (5, 7)]
    """
    found: list[tuple[int, int]] = []
    for place in sorted(places):
        if found and found[-1][1] == place - 1:
            found[-1] = (found[-1][0], place)
        else:
            found.append((place, place))
    return found
