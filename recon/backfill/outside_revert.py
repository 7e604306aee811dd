"""Undo a plan in the outside system too: a record gets its former fields again, only where it still holds what was written.

One chunk: which rows would be restored here (tried, and rolled back); what the records hold there; what is about to be
sent, on disk; the request; then, in one transaction, what became of it and the signed statement for those rows. A record
or a row that somebody changed since is a conflict: both are kept.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from recon.backfill import (
    batches,
    executor,
    outside_bundle,
    outside_kept,
    outside_read,
    outside_send,
    outside_told,
    seams,
    work,
)
from recon.backfill.batches import Batch
from recon.backfill.change import Shape
from recon.backfill.executor import Alone, Notice, Progress
from recon.backfill.outside_apply import runs
from recon.backfill.outside_bundle import Line, Lines
from recon.backfill.outside_kept import CONFLICT, DONE, ERROR, RESTORED, RESTORING, SENDING, Kept
from recon.backfill.outside_read import (
    CHANGED_HERE,
    CHANGED_MEANWHILE,
    EDITED,
    HELD_HERE,
    HOLDS_ELSE,
    NOT_THERE,
    READY,
    THERE,
    Look,
)
from recon.backfill.outside_send import Sent
from recon.backfill.plan import Plan
from recon.backfill.veils import Veils
from recon.backfill.work import Job, Tally
from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import BundleChanged
from recon.names import DIALECT, quote
from recon.outside.interface import Edit, Target, Variables

UNDONE = (DONE, SENDING, RESTORING, CONFLICT)  # records that may hold what we wrote


@dataclass
class Outside:
    """The outside part of a revert."""

    target: Target
    lines: Lines

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
        """Undo a plan chunk after chunk; the arguments are those of `work.run`. Raises OutsideFailed, Locked."""
        for first, last in outside_read.chunks(1, job.plan.rows, self.target):
            here, free = self._here(session, job, first, last)
            known = outside_kept.of(session, job.plan.plan, first, last)
            session.commit()
            held = {place for place in here - free if place in known}
            for place, said in _changed_here(held, known).items():
                outside_kept.move(session, job.plan.plan, [place], CONFLICT, said)
            others = _held_by_others(session, job.plan, _may_hold(known) - here)
            outside_kept.move(session, job.plan.plan, sorted(others), CONFLICT, HELD_HERE)
            session.commit()
            ours = _may_hold(known) - held - others
            undone = [line for line in self.lines.between(first, last) if line.place in ours]
            restored = self._restore(session, job.plan, undone, known)
            kept_there = {line.place for line in undone} - restored
            outside_kept.move(session, job.plan.plan, sorted(restored - here), RESTORED)
            session.commit()
            part = replace(job, ranges=runs(free - kept_there), whole=False, write=_writing(job, restored))
            if part.ranges:
                work.run(database, session, alone, part, tally, notice=notice)
            if progress:
                progress(min(last, tally.total), tally.total)

    def _here(self, session: Session, job: Job, first: int, last: int) -> tuple[set[int], set[int]]:
        """The places that were written here and are not restored, and those of them that could be, by revert.sql."""
        ledger = tables.own("ledger", job.plan.plan).sql(DIALECT)
        query = f"SELECT place FROM {ledger} WHERE reverted_at IS NULL AND place BETWEEN $1::bigint AND $2::bigint"  # noqa: S608

        def look() -> tuple[set[int], set[int]]:
            written = {row[0] for row in session.rows(query, first, last)}
            if written:
                job.write(session, batches.at(session, job.plan, job.kind, first, last))
            return written, written - {row[0] for row in session.rows(query, first, last)}

        return work.tried(session, look)

    def _restore(self, session: Session, plan: Plan, lines: list[Line], known: dict[int, Kept]) -> set[int]:
        """Give these records their former fields again; gives the places of those that hold them now."""
        backwards = [_backwards(line, known[line.place]) for line in lines]
        looks = {item.line.place: item for item in outside_read.look(self.target, backwards)}
        seams.reached("outside read")
        for place in _refused(list(looks.values()), known):
            del looks[place]
        lines = [line for line in lines if line.place in looks]
        edited = {line.place for line in lines if self._edited(looks[line.place], line)}
        outside_kept.move(session, plan.plan, sorted(edited), CONFLICT, EDITED)
        session.commit()

        def announce(ready: Iterable[Look]) -> None:
            session.execute("SELECT set_config('synchronous_commit', 'on', true)")
            outside_kept.move(session, plan.plan, [item.line.place for item in ready], RESTORING)
            session.commit()

        left = [item for place, item in looks.items() if place not in edited]
        sent = outside_send.send(self.target, left, announce)
        _keep_conflicts(session, plan, sent)
        session.commit()
        return sent.done

    def _edited(self, item: Look, line: Line) -> bool:
        """Whether a record would be given what the signed plan knows nothing of: somebody edited what is kept of it.

        It was written where each field held what the plan starts from or what it writes, and was never kept else.
        """
        signed, given = line.edit, item.line.edit.after
        return item.verdict == READY and not all(
            any(self.target.same(field, value, side[field]) for side in (signed.before, signed.after))
            for field, value in given.items()
        )

    def whole(self, session: Session, plan: Plan) -> None:
        """Refuse a plan of which it is not kept what became of every record. Raises BundleChanged."""
        ledger = tables.own("ledger", plan.plan).sql(DIALECT)
        unknown = session.rows(
            f"SELECT place FROM {ledger} AS ledger WHERE NOT EXISTS (SELECT FROM recon.outside_changes AS kept"  # noqa: S608 (our own)
            " WHERE kept.plan = $1 AND kept.place = ledger.place) ORDER BY place",
            plan.plan,
        )
        lost = [line for (place,) in unknown if (line := self.lines.between(place, place)[0]).changes]
        if lost:
            raise BundleChanged(
                f"What became of {len(lost):,} records of plan {plan.plan} is no longer kept.",
                why=f"Rows were taken out of recon.outside_changes, such as that of {lost[0].edit.record}:"
                " what was written there could not be undone with its row.",
                todo="See `recon audit`; restore the table from a backup of schema recon.",
            )

    def foreseen(self, database: Database, plan: Plan, changed: set[int]) -> dict[str, Any]:
        """What a revert would find outside; writes nothing.

        Args:
            database: where the plan was applied.
            plan: the plan.
            changed: the places of the rows that would not be restored here, as far as they are known.
        """
        restored = 0
        conflicts: list[dict[str, str]] = []
        for first, last in outside_read.chunks(1, plan.rows, self.target):
            with database.session(read_only=True) as session:
                known = outside_kept.of(session, plan.plan, first, last)
                ours = _may_hold(known)
                others = _held_by_others(session, plan, ours - changed)
            lines = [line for line in self.lines.between(first, last) if line.place in ours]
            kept = dict.fromkeys(others, HELD_HERE) | _changed_here(changed & ours, known)
            undone = [line for line in lines if line.place not in kept]
            looks = outside_read.look(self.target, [_backwards(line, known[line.place]) for line in undone])
            refused = _refused(looks, known)
            for item, line in zip(looks, undone, strict=True):
                if line.place in refused:
                    continue
                if item.verdict in (READY, THERE) and not self._edited(item, line):
                    restored += 1
                    continue
                kept[line.place] = NOT_THERE if item.now is None else EDITED if item.verdict == READY else HOLDS_ELSE
            conflicts += [
                {"record": line.edit.record, "message": kept[line.place]} for line in lines if line.place in kept
            ]
        return {"restored": restored, "conflicts": conflicts[: outside_told.LISTED], "kept": len(conflicts)}


@contextmanager
def opened(plan: Plan, variables: Variables, notice: Notice) -> Generator[Outside]:
    """The outside part of a plan's revert. Raises NotFound, UsageError, WrongDatabase, BundleChanged."""
    with (
        outside_bundle.opened(plan.document, plan.bundle) as lines,
        outside_read.reached(plan, variables, notice) as to,
    ):
        yield Outside(to, lines)


def told(session: Session, plan: Plan, seen: Veils) -> dict[str, Any]:
    """What `recon revert` says of the records, after it was done."""
    found = outside_kept.counts(session, plan.plan)
    return {
        "restored": found.get(RESTORED, 0),
        "conflicts": list(outside_told.conflicts(session, plan, seen)),
        "kept": found.get(CONFLICT, 0),
    }


def _may_hold(known: Mapping[int, Kept]) -> set[int]:
    """The places of the records that may hold what we wrote."""
    return {place for place, kept in known.items() if kept.state in UNDONE or _doubtful(kept)}


def _changed_here(places: set[int], known: Mapping[int, Kept]) -> dict[int, str]:
    """What is said of records whose rows were changed here; one that was being given back may hold either."""
    meanwhile = {place for place in places if known[place].state == RESTORING}
    meanwhile |= {place for place in places if known[place].message == CHANGED_MEANWHILE}  # by an earlier try
    return {place: CHANGED_MEANWHILE if place in meanwhile else CHANGED_HERE for place in places}


def _doubtful(kept: Kept) -> bool:
    """Whether a record was sent and refused: a system may say so of one that it wrote, or writes later."""
    return kept.state == ERROR and kept.attempts > 0


def _refused(looks: Iterable[Look], known: Mapping[int, Kept]) -> set[int]:
    """The places of records that were refused and indeed do not hold what was sent: there is nothing to undo."""
    return {item.line.place for item in looks if item.verdict != READY and _doubtful(known[item.line.place])}


def _held_by_others(session: Session, plan: Plan, places: set[int]) -> set[int]:
    """Of these places those whose row was never written by this plan and yet holds a value that it sent outside.

    A plan may have been left half sent, and a later one have found its values there and written the rows. What the
    later one relies on is not taken away.
    """
    assert plan.outside is not None
    shape = Shape.of_document(plan.document)
    sent = [number for number, name in enumerate(shape.columns, 1) if name in plan.outside["fields"]]
    if not places or not sent:
        return set()
    staged, ledger = (tables.own(kind, plan.plan).sql(DIALECT) for kind in ("staged", "ledger"))
    same = " AND ".join(
        f"target.{quote(key)} = staged.{quote(name)}" for key, name in zip(shape.keys, shape.key_names, strict=True)
    )
    holds = " OR ".join(
        f"staged.before_{n}::text IS DISTINCT FROM staged.after_{n}::text"
        f" AND target.{quote(shape.columns[n - 1])}::text IS NOT DISTINCT FROM staged.after_{n}::text"
        for n in sent
    )
    found = session.rows(
        f"SELECT staged.place FROM {staged} AS staged JOIN {executor.target_name(plan)} AS target ON {same}"  # noqa: S608 (quoted)
        f" WHERE staged.place = ANY ($1::bigint[]) AND ({holds})"
        f" AND NOT EXISTS (SELECT FROM {ledger} AS ledger WHERE ledger.place = staged.place)",
        sorted(places),
    )
    return {row[0] for row in found}


def _backwards(line: Line, kept: Kept) -> Line:
    """The edit that undoes a line: from what was written to what the record held before anything was sent."""
    before = {field: kept.before.get(field) for field in line.edit.after}
    return Line(line.place, Edit(line.edit.record, line.edit.after, before))


def _keep_conflicts(session: Session, plan: Plan, sent: Sent) -> None:
    outside_kept.move(session, plan.plan, sorted(sent.drifted), CONFLICT, HOLDS_ELSE)
    for place, message in sent.errors.items():
        outside_kept.move(session, plan.plan, [place], CONFLICT, message)


def _writing(job: Job, restored: set[int]) -> work.Write:
    """The write of a batch that also says, in the same transaction, that its records are restored outside."""

    def write(session: Session, batch: Batch) -> int:
        places = [place for place in range(batch.first, batch.last + 1) if place in restored]
        outside_kept.move(session, job.plan.plan, places, RESTORED)
        return job.write(session, batch)

    return write
