"""What is told of a plan's records in the outside system: how many were sent, and which were not, in whose words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recon.backfill import batches, outside_bundle, outside_kept, outside_read, rehearsal
from recon.backfill.executor import Notice
from recon.backfill.outside_bundle import Lines
from recon.backfill.outside_kept import CONFLICT, DONE, ERROR, OTHERWISE, Kept
from recon.backfill.outside_read import ABSENT, DRIFTED, NOT_THERE, READY, THERE, Words
from recon.backfill.plan import Plan
from recon.backfill.rehearsal import SAMPLE_ROWS
from recon.backfill.veils import Veils
from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import OutsideLeft, visible
from recon.names import DIALECT
from recon.outside.interface import Variables

LISTED = 1_000  # records named at most; the counts say how many there are
NAMED = 3  # of them in an error
SHOWN_CHARACTERS = 300  # of what is said of one

Document = dict[str, Any]


def so_far(session: Session, plan: Plan, seen: Veils) -> Document | None:
    """What `recon apply` says of the records, after whatever was done; None where the plan writes its table only.

    `sent` and `already` are done: by us, or so before. `errors` and `drifted` are not; `ahead` are done outside while
    their rows here changed in the meantime, which only a person or a revert can settle.
    """
    if plan.outside is None:
        return None
    words, found = Words.of(plan, seen), outside_kept.counts(session, plan.plan)
    drifted = outside_kept.listed(session, plan.plan, OTHERWISE, LISTED)
    with outside_bundle.opened(plan.document, plan.bundle) as lines:
        held = [_drift(words, lines, kept) for kept in drifted]
    errors = outside_kept.listed(session, plan.plan, ERROR, LISTED)
    return {
        **_where(plan),
        "sent": found.get(DONE, 0),
        "already": found.get("already", 0),
        "errors": [_row(kept.record, words.error(kept.message or "")) for kept in errors],
        "drifted": held,
        "left": found.get(ERROR, 0) + found.get(OTHERWISE, 0),
        "ahead": _ahead(session, plan),
    }


def _where(plan: Plan) -> Document:
    assert plan.outside is not None
    return {name: plan.outside[name] for name in ("system", "object", "place")}


def _row(record: str, message: str) -> Document:
    short = message[:SHOWN_CHARACTERS] + ("…" if len(message) > SHOWN_CHARACTERS else "")
    return {"record": record, "message": visible(short)}


def _drift(words: Words, lines: Lines, kept: Kept) -> Document:
    edit = lines.between(kept.place, kept.place)[0].edit
    return _row(kept.record, words.drift(edit, kept.before))


def _ahead(session: Session, plan: Plan) -> int:
    ledger = tables.own("ledger", plan.plan).sql(DIALECT)
    return session.value(
        "SELECT count(*) FROM recon.outside_changes AS kept WHERE plan = $1 AND state = 'done'"  # noqa: S608 (our own)
        f" AND NOT EXISTS (SELECT FROM {ledger} AS ledger WHERE ledger.place = kept.place)",
        plan.plan,
    )


def tolerated(session: Session, plan: Plan, left: int, skipped: int, hidden: Veils) -> None:
    """Refuse to call a plan applied that left more rows than it tolerates.

    Args:
        session: sees what was kept.
        plan: the plan.
        left: records that were not written outside.
        skipped: rows that were not as planned here.
        hidden: what nobody may see of its values.

    Raises:
        OutsideLeft: names the first records.
    """
    tolerance = int(plan.document["tolerance_rows"])
    if not left or left + skipped <= tolerance:
        return
    said = so_far(session, plan, hidden)
    session.commit()
    assert said is not None
    first = [*said["errors"], *said["drifted"]][:NAMED]
    named = "; ".join(f"{row['record']}: {row['message'].rstrip('.')}" for row in first)
    more = f"; and {left - len(first):,} more" if left > len(first) else ""
    raise OutsideLeft(
        f"{left:,} of {plan.rows:,} records of plan {plan.plan} were not written to {said['system']};"
        f" it tolerates {tolerance:,}.",
        why=f"{named}{more}. Everything else is done.",
        todo=f"Mend the cause: `recon apply {plan.plan} --execute` tries exactly these again."
        f" Or undo the rest with `recon revert {plan.plan}`.",
        outside=said,
    )


# -- before anything is written --------------------------------------------------------------------------


def foreseen(database: Database, plan: Plan, variables: Variables, seen: Veils, notice: Notice) -> Document | None:
    """What an apply would find outside: how many records it would send, and which it could not; writes nothing.

    Of a large plan the first 10,000 rows that are left are looked at, as in the table; `read` says how many. `tried` are
    the errors of an earlier try.
    """
    if plan.outside is None:
        return None
    with database.session(read_only=True) as session:
        written = session.rows("SELECT first, last FROM recon.batches WHERE plan = $1", plan.plan)
        refused = outside_kept.listed(session, plan.plan, ERROR, LISTED)
    words = Words.of(plan, seen)
    counted: dict[str, int] = dict.fromkeys((THERE, READY, DRIFTED, ABSENT), 0)
    errors: list[Document] = []
    drifted: list[Document] = []
    read = 0
    with (
        outside_bundle.opened(plan.document, plan.bundle) as lines,
        outside_read.reached(plan, variables, notice) as target,
    ):
        waiting = rehearsal.first_of(batches.gaps([(first, last) for first, last in written], plan.rows), SAMPLE_ROWS)
        for pack in outside_read.packed(waiting, target):
            chunk = [line for first, last in pack for line in lines.between(first, last) if line.changes]
            looks = outside_read.look(target, chunk)
            read += len(looks)
            for item in looks:
                counted[item.verdict] += 1
                if item.verdict == ABSENT:
                    errors.append(_row(item.line.edit.record, NOT_THERE))
                if item.verdict == DRIFTED:
                    said = words.drift(item.line.edit, item.before, target.same)
                    drifted.append(_row(item.line.edit.record, said))
    return {
        **_where(plan),
        "read": read,
        "sent": counted[READY],
        "already": counted[THERE],
        "errors": errors[:LISTED],
        "drifted": drifted[:LISTED],
        "left": counted[ABSENT] + counted[DRIFTED],
        "tried": [_row(kept.record, words.error(kept.message or "")) for kept in refused],
    }


# -- after an apply --------------------------------------------------------------------------------------


def wrong(database: Database, plan: Plan, variables: Variables, seen: Veils) -> list[Document]:
    """The records that an apply brought to what was planned and that no longer are; reads them all, writes nothing.

    Raises:
        OutsideFailed: they cannot be read, so nothing is proven.
    """
    if plan.outside is None:
        return []
    words = Words.of(plan, seen)
    found: list[Document] = []
    # What is written here must stand there, whatever is kept of it.
    ledger = tables.own("ledger", plan.plan).sql(DIALECT)
    written = (
        f"SELECT place FROM {ledger} WHERE reverted_at IS NULL AND place BETWEEN $2::bigint AND $3::bigint"  # noqa: S608 (our own)
        " UNION SELECT place FROM recon.outside_changes"
        " WHERE plan = $1 AND state = 'done' AND place BETWEEN $2::bigint AND $3::bigint"
    )
    with (
        outside_bundle.opened(plan.document, plan.bundle) as lines,
        outside_read.reached(plan, variables) as target,
    ):
        for first, last in outside_read.chunks(1, plan.rows, target):
            with database.session(read_only=True) as session:
                done = {row[0] for row in session.rows(written, plan.plan, first, last)}
            chunk = [line for line in lines.between(first, last) if line.changes and line.place in done]
            for item in outside_read.look(target, chunk):
                if item.verdict == ABSENT:
                    found.append({"key": _named(plan, item.line.edit.record), "problem": NOT_THERE})
                elif item.verdict != THERE:
                    said = words.held(item.line.edit, item.before, target.same)
                    found.append({"key": _named(plan, item.line.edit.record), "problem": visible(said)})
    return found


def _named(plan: Plan, record: str) -> str:
    assert plan.outside is not None
    return f"{plan.outside['system']} {plan.outside['object']} {record}"


def conflicts(session: Session, plan: Plan, seen: Veils) -> Sequence[Document]:
    """The records that a revert left as they are, and why."""
    words = Words.of(plan, seen)
    return [
        _row(kept.record, words.error(kept.message or ""))
        for kept in outside_kept.listed(session, plan.plan, CONFLICT, LISTED)
    ]
