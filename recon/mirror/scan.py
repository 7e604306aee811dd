"""The records of some days held against the source: how many agree, which are gone there, and what was done about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from sqlglot import exp

from recon.database.connect import Database, Session
from recon.matching import keys as texts
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.run import Run
from recon.mirror import sync
from recon.mirror.lookups import CANCELLED, HELD_BACK, PRESENT, live_here
from recon.mirror.parts import Part, Wish
from recon.names import DIALECT, column
from recon.sources import mirrored
from recon.workspace import Workspace

STATUS, ENDED = "status", "cancelled"  # the column of both sides that says it, and its word
PAGE_SIZE = "RECON_STAYS_PAGE_SIZE"
ORPHAN, PROPAGATED = "Reservation not found in source (orphan)", "Cancelled in source system"
DONE, ASKED_ONLY, OVER_CAP, AWAITS, LEFT = (
    "cancelled",
    "none: only looked at, for autoCancelOrphans is false",
    "none: held back, for there are too many at once; a person must look",
    "none: awaits sign-off",
    "none: it changed meanwhile, and is looked at again in the next run",
)


@dataclass(frozen=True)
class Record:
    """A record that is gone at the source, or cancelled there: its key, its id there, and its status as it was found."""

    key: str
    identity: dict[str, str]
    status: str


@dataclass
class Found:
    """The records of the days before anything is written.

    Args:
        scanned: all that have a source.
        agree: of these, those that the source has, and that are cancelled on neither side.
        ended: of these, those that are gone or cancelled at the source, and cancelled here already.
        suspects: live here, and not in the source's list.
        ended_there: cancelled at the source, and not here.
    """

    scanned: int = 0
    agree: int = 0
    ended: int = 0
    suspects: list[Record] = field(default_factory=list[Record])
    ended_there: list[Record] = field(default_factory=list[Record])


@dataclass(frozen=True)
class Told:
    """What was found out about a record, and what was done."""

    record: Record
    reason: str
    action: str


@dataclass(frozen=True)
class Scan:
    """What came of it."""

    part: Part
    run: str
    status: str
    found: Found
    orphans: tuple[Told, ...]
    propagated: tuple[Told, ...]

    @property
    def agree(self) -> int:
        """Records that the source has: by its list, or by its answer to the single question."""
        return self.found.agree + sum(item["said"] == PRESENT for item in self.part.orphans)


def reconcile(
    database: Database,
    workspace: Workspace,
    name: str,
    scope: str,
    *,
    page_size: int,
    cancels: bool,
    first: date | None,
    last: date | None,
    now: datetime,
    patience: float,
) -> Scan:
    """One run of a mirror in one scope, told record by record for these days (check-in, inclusive, UTC; None: no bound).

    Args:
        page_size: records that the source is asked for at a time; all pages are read.
        cancels: cancel the orphans of these days; else they are only told.

    Raises:
        Locked: another run goes on.
        ReconError: whatever ended the run: nothing was written.
    """
    spec = sync.mirror_of(workspace, name)

    def look() -> Found:
        with database.session(read_only=True) as session:
            return found_now(session, bind(session, spec), scope, first, last)

    kept: list[Found] = []

    def decided(_: Run) -> None:
        kept.append(look())

    wish = Wish(
        scopes=[scope], cause="request", cancels=cancels, from_day=first, to_day=last, patience=patience,
        decided=decided,
    )  # fmt: skip
    done = sync.sync(database, workspace.with_variables({PAGE_SIZE: str(page_size)}), name, wish, now=now)
    part = done.parts[0]
    if part.ended_by is not None:
        raise part.ended_by
    before, after = kept[0], look()
    return Scan(part, done.id, done.status, before, _orphans(part, before, after), _propagated(part, before, after))


def _orphans(part: Part, before: Found, after: Found) -> tuple[Told, ...]:
    said = {item["key"]: item["said"] for item in part.orphans}
    left = {record.key for record in after.suspects}
    actions = {HELD_BACK: OVER_CAP if part.held_back else ASKED_ONLY, CANCELLED: AWAITS if part.awaits else LEFT}
    return tuple(
        Told(record, ORPHAN, actions[said[record.key]] if record.key in left else DONE)
        for record in before.suspects
        if said.get(record.key) in actions
    )


def _propagated(part: Part, before: Found, after: Found) -> tuple[Told, ...]:
    left = {record.key for record in after.ended_there}
    undone = AWAITS if part.awaits else LEFT
    return tuple(Told(record, PROPAGATED, undone if record.key in left else DONE) for record in before.ended_there)


def found_now(session: Session, bound: Bound, scope: str, first: date | None, last: date | None) -> Found:
    """The records of these days as they stand: one pass over them for the counts, one for those to tell."""
    here, there = column("t", STATUS), column("s", STATUS)
    ended = exp.Literal.string(ENDED)
    gone = exp.Is(this=bound.source_keys[0], expression=exp.Null())
    ended_here = exp.EQ(this=here, expression=ended)
    ended_there = exp.EQ(this=there, expression=ended.copy())
    live = live_here(bound)
    joined, values = _joined(bound, scope, first, last)
    counts = joined.select(
        exp.Count(this=exp.Star()),
        _counted(exp.and_(exp.not_(gone.copy()), exp.not_(ended_here.copy()), _surely_not(ended_there))),
        _counted(exp.and_(ended_here.copy(), exp.or_(gone.copy(), ended_there.copy()))),
        copy=True,
    )
    scanned, agree, already = session.rows(counts.sql(DIALECT), *values)[0]

    def listed(*conditions: exp.Expr) -> list[Record]:
        names = mirrored.columns_of(bound.spec)
        own = _own(bound, names)
        query = joined.select(texts.as_text(bound.target_keys), exp.cast(here.copy(), "text"), *own, copy=True)
        query = query.where(*conditions).order_by(column("t", bound.spec.target.date or STATUS), *bound.target_keys)
        rows = session.rows(query.sql(DIALECT), *values)
        return [
            Record(texts.shown(key) or "", dict(zip(names, identity, strict=True)), status)
            for key, status, *identity in rows
        ]

    return Found(
        scanned, agree, already,
        suspects=listed(gone.copy(), *live),
        ended_there=listed(ended_there.copy(), exp.not_(ended_here.copy())),
    )  # fmt: skip


def _own(bound: Bound, names: Sequence[str]) -> list[exp.Expr]:
    found = bound.spec.identity
    assert found is not None, "a mirror's first pass names plain columns"
    here = {there.tree.name: name for name, there in found.items()}
    return [exp.cast(column("t", here[name]), "text") for name in names]


def _joined(bound: Bound, scope: str, first: date | None, last: date | None) -> tuple[exp.Select, list[object]]:
    """The records of the days, each beside the source's record of its identity, and the values of the statement."""
    spec = bound.spec
    assert spec.scope is not None
    wanted = exp.cast(exp.Parameter(this=exp.Literal.number(1)), bound.target.type_of(spec.scope))
    query = (
        exp.Select()
        .from_(bound.target.aliased("t"))
        .join(
            bound.source.aliased("s"),
            on=exp.and_(*bound.passes[0].equalities(), *bound.where("s")),
            join_type="left",
        )
        .where(*bound.where("t"), exp.EQ(this=column("t", spec.scope), expression=wanted))
    )
    values: list[object] = [scope]
    for day, test in ((first, exp.GTE), (last, exp.LTE)):
        if day is not None and spec.target.date is not None:
            values.append(day)
            parameter = exp.cast(exp.Parameter(this=exp.Literal.number(len(values))), "date")
            query = query.where(test(this=exp.cast(column("t", spec.target.date), "date"), expression=parameter))
    return query, values


def _counted(condition: exp.Expr) -> exp.Expr:
    return exp.Filter(this=exp.Count(this=exp.Star()), expression=exp.Where(this=condition))


def _surely_not(condition: exp.Expr) -> exp.Expr:
    """That something does not hold, also where nobody knows."""
    return exp.Is(this=exp.paren(condition.copy()), expression=exp.Not(this=exp.true()))
