"""One run of a mirror: each scope fetched, decided, planned, signed for, written, proven and followed up, one after another.

A scope that fails does not keep the others from their turn. Nothing is written but by a plan: staged, signed for by a
standing sign-off, ledgered and verified, as any other.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlglot import exp

from recon import workflow
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import verify as verifying
from recon.backfill.absences import Key, Lookup
from recon.backfill.plan import Plan
from recon.backfill.verify import Verification
from recon.database.connect import Database
from recon.errors import (
    DatabaseUnreachable,
    OutsideFailed,
    OverCap,
    ReconError,
    SpecError,
    Unforeseen,
    UsageError,
    did_you_mean,
    of_place,
    visible,
)
from recon.matching import keys as texts
from recon.matching.bind import bind
from recon.matching.pool import Filter
from recon.matching.run import Run
from recon.mirror import follow_ups, follow_ups_kept, log, marks
from recon.mirror.lookups import CANCELLED, HELD_BACK, AtSource, HeldBack
from recon.mirror.parts import Part, Synced, Wish, ended
from recon.names import DIALECT, column
from recon.outside.interface import Mirrored, open_feed
from recon.sources import mirrored
from recon.spec import Reconciliation
from recon.whole_way import approve_unattended
from recon.workspace import Workspace

# what changed shortly before the last fetch is fetched again: clocks differ, pages shift
OVERLAP = timedelta(minutes=10)

Progress = Callable[[str], None]  # is told which scope is at work
_log = logging.getLogger(__name__)


def sync(
    database: Database,
    workspace: Workspace,
    name: str,
    wish: Wish | None = None,
    *,
    now: datetime | None = None,
    progress: Progress = lambda _scope: None,
) -> Synced:
    """Keep a mirror in step with its source: one run over its scopes.

    Args:
        database: where the mirror is.
        workspace: where spec and settings are; its actor acts.
        name: the reconciliation.
        wish: what is asked for.
        now: the time, with a zone; default: now.
        progress: is told which scope comes next.

    Raises:
        NotFound, SpecError, UsageError: what is asked makes no sense; nothing is begun.
        Locked: another run goes on.
        DatabaseUnreachable: there is no connection.
    """
    wish, now = wish or Wish(), now or datetime.now(UTC)
    spec = mirror_of(workspace, name)
    feed = open_mirror(spec, workspace)
    try:
        scopes = _asked(feed, wish)
        alone = scopes[0] if wish.scopes is not None and len(scopes) == 1 else None
        with log.one_at_a_time(database, name, wish.cause, workspace.actor, alone, wish.patience) as identity:
            turn = _Turn(database, workspace, spec, feed, wish, now)
            parts: list[Part] = []
            for scope in scopes:
                progress(scope)
                parts.append(turn.take(scope))
            done = ended(identity, name, parts, turn.prove(parts))
            log.end(database, identity, done.status, done.stats, [part.as_dict() for part in parts], done.error)
    finally:
        feed.close()
    return done


def _asked(feed: Mirrored, wish: Wish) -> list[str]:
    """The scopes of a run. Raises UsageError where one is asked for that the settings do not name."""
    known = list(feed.scopes)
    if wish.scopes is None:
        return known
    for scope in wish.scopes:
        if scope not in known:
            raise UsageError(
                f"The settings do not name {visible(scope[:50])}.",
                why=did_you_mean(scope, known) or f"They name: {', '.join(known)}.",
                todo="Ask for one of these, or add it to the settings.",
            )
    return list(wish.scopes)


def mirror_of(workspace: Workspace, name: str) -> Reconciliation:
    """The spec of a mirror. Raises NotFound, SpecError."""
    spec = workspace.spec(name)
    if not mirrored.is_mirror(spec):
        raise SpecError(
            f"{name} is no mirror.",
            why="A mirror has a `scope`, and a source that is an `api`.",
            todo=f"`recon run {name}` goes the whole way of any other reconciliation.",
        )
    mirrored.columns_of(spec)
    return spec


def open_mirror(spec: Reconciliation, workspace: Workspace) -> Mirrored:
    """The source of a mirror, by the settings of the workspace. Raises NotFound, UsageError."""
    assert spec.source.api is not None
    feed: Any = open_feed(spec.source.api, workspace.variables)
    if not all(hasattr(type(feed), name) for name in ("scopes", "changed", "of_days", "listed", "find")):
        raise SpecError(
            f"The outside system {spec.source.api} is a feed only.",
            why="It cannot say what changed, what there is, and whether single records are there.",
        )
    return feed


def _unforeseen(error: Exception) -> ReconError:
    """An error that nobody thought of, without its text, which may hold values; the log has where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    what = f"Something unforeseen went wrong ({type(error).__name__}, {Path(last.filename).name} line {last.lineno})."
    _log.error("%s", what)
    return Unforeseen(what)


@dataclass
class _Turn:
    """A run's way through the scopes."""

    database: Database
    workspace: Workspace
    spec: Reconciliation
    feed: Mirrored
    wish: Wish
    now: datetime
    applied: list[str] = field(default_factory=list[str])  # plans that are to be proven

    def take(self, scope: str) -> Part:
        """One scope's turn; what goes wrong is kept in the part."""
        part = Part(scope)
        try:
            self._left(part)
            came = self._fetch(part)
            self._reconcile(part, came)
        except DatabaseUnreachable:
            raise
        except Exception as error:  # whatever it is in one scope, the others have their turn
            known = error if isinstance(error, ReconError) else of_place(error) or _unforeseen(error)
            part.failed, part.ended_by = f"{known.what} {known.why}".strip(), known
            part.source_errors += isinstance(known, OutsideFailed)
        if self.wish.execute and self.spec.follow_ups:
            self._follow_up(part)
        return part

    def _follow_up(self, part: Part) -> None:
        """Bring the jobs in step with the records as they are here, whatever the source said or did not say."""
        try:
            planned = follow_ups.plan(self.database, self.spec, self.now, part.scope)
        except DatabaseUnreachable:
            raise
        except ReconError as error:
            part.wrong(f"follow-ups: {error.what} {error.why}".strip())
            return
        removed, _ = follow_ups_kept.remove_orphaned(self.database, self.spec, part.scope)  # why not stands in the log
        part.deleted = planned.dropped + removed

    # -- fetching ------------------------------------------------------------------------------------------

    def _fetch(self, part: Part) -> set[Key] | None:
        """Bring in what the source says; returns the source keys that came, or None where too many came to tell."""
        fetched = mirrored.Fetched()
        if self.wish.records is not None:
            fetched = mirrored.take(self.database, self.spec, self.feed, self.wish.records(self.feed, part.scope))
        if self.wish.fetches:
            until = marks.mark(self.database, self.spec.name, part.scope)
            since = until - OVERLAP if until else None
            more = mirrored.fetch(self.database, self.spec, self.feed, part.scope, since)
            known = more.known_until(self.now, until)
            marks.set_mark(self.database, self.spec.name, part.scope, "changed_until", known)
            fetched.records += more.records
            fetched.keys |= more.since(until)  # what was fetched before is told once
            fetched.bad += more.bad
            fetched.bad_count += more.bad_count
            self._compare_list(part)
        part.fetched = fetched.records
        part.source_errors += fetched.bad_count
        for why in fetched.bad:
            part.wrong(why)
        part.error_count += fetched.bad_count - len(fetched.bad)
        return fetched.keys

    def _compare_list(self, part: Part) -> None:
        days = marks.live_days(self.database, self.spec, part.scope)
        try:
            if days is not None:
                mirrored.compare_list(self.database, self.spec, self.feed, part.scope, days, self.now)
        except (OutsideFailed, mirrored.LoadFailed) as error:
            part.wrong(f"{error.what} {error.why}".strip())  # nobody is called absent by a list that was not read
            part.source_errors += 1
        else:
            marks.set_mark(self.database, self.spec.name, part.scope, "listed_at", self.now)

    # -- deciding and writing ------------------------------------------------------------------------------

    def _reconcile(self, part: Part, came: set[Key] | None) -> None:
        run = self._match(part.scope)
        part.run = run.run
        if self.wish.decided is not None:
            self.wish.decided(run)
        marks.invalid(self.database, self.spec, run, part, came)
        if not self.wish.execute:
            part.created, part.updated = run.other_side.get("missing", 0), run.outcomes.get("changed", 0)
            part.orphaned = marks.suspected(self.database, self.spec, run)
            return
        lookup = AtSource(
            self.database, self.spec, self.feed, part.scope, self._only(part.scope), cancels=self.wish.cancels
        )
        plan = self._plan(part, run, lookup)
        self._tell_orphans(part, lookup)
        if plan is not None and self._carry_out(part, plan):
            part.run = self._match(part.scope).run  # as it stands now, for the proof and for whoever looks

    def _match(self, scope: str) -> Run:
        return workflow.match(self.database, self.workspace, self.spec, self.workspace.actor, Filter(scope=scope))

    def _plan(self, part: Part, run: Run, lookup: AtSource) -> Plan | None:
        if not (run.other_side.get("missing") or run.outcomes.get("changed") or run.outcomes.get("orphan")):
            plans.retire(self.database, run, self.workspace.actor)
            return None
        try:
            return self._made(run, lookup)
        except (OverCap, OutsideFailed) as error:  # the rest is sound, and goes on
            part.wrong(
                " ".join(filter(None, [error.what, error.why, error.todo if isinstance(error, OverCap) else ""]))
            )
            part.source_errors += isinstance(error, OutsideFailed)
            return self._made(run, HeldBack(lookup))
        finally:
            lookup.bring_in()

    def _made(self, run: Run, lookup: Lookup) -> Plan | None:
        return plans.make(
            self.database, self.workspace, self.spec, self.workspace.actor,
            run=run.run, allow_limited=True, again=False, lookup=lookup,
        )  # fmt: skip

    def _carry_out(self, part: Part, plan: Plan) -> bool:
        """Apply a plan that is signed for; count what it did. Says whether it was applied."""
        part.plan = plan.plan
        if plan.state == "planned":
            plan, refused = approve_unattended(self.database, self.workspace, plan, self.workspace.actor)
            if plan.state == "planned":
                why = f" ({' '.join(refused)})" if refused else ""
                part.awaits = f"plan {plan.plan} waits for a reviewer: no standing sign-off covers it{why}"
                return False
        applied = applying.apply(self.database, self.workspace, plan.plan, self.workspace.actor, execute=True)
        if applied.skipped:
            part.wrong(f"{applied.skipped:,} rows of plan {plan.plan} were not as planned and were left alone")
        self.applied.append(plan.plan)
        actions = plan.document["actions"]
        part.created += actions.get("insert", 0)
        part.updated += actions.get("update", 0) + actions.get("link", 0)
        part.cancelled += actions.get("set", 0)
        return True

    def prove(self, parts: Sequence[Part]) -> list[str]:
        """Prove what was applied, each plan for itself and the whole by the suite; says what fell short."""
        if not self.applied:
            return []
        try:
            if not self.wish.suite:
                proven, checks = self._proven_alone(), ()
            else:
                proofs = workflow.verify_all(self.database, self.workspace, self.applied, self.workspace.actor)
                proven, checks = [proof.verification for proof in proofs], proofs[0].checks.failed
        except ReconError as error:
            return [f"not proven: {error.what} {error.why}".strip()]
        for proof in proven:
            if not proof.right:
                part = next((part for part in parts if part.plan == proof.plan), parts[0])
                part.wrong(
                    f"{proof.problems:,} of {proof.checked:,} rows of plan {proof.plan} are not right; "
                    f"`recon revert {proof.plan}` undoes it"
                )
        # The suite looks at all scopes, so what falls short may be another's. And how much has a partner is told elsewhere:
        # that it is little is nothing that went wrong here.
        if self.wish.scopes is not None:
            return []
        return [f"the check {check.name} fell short" for check in checks if check.kind != "coverage"]

    def _proven_alone(self) -> list[Verification]:
        """Prove each plan by its own verify.sql; the whole is proven by the next run that has the suite."""
        proofs = [verifying.verify(self.database, self.workspace, plan) for plan in self.applied]
        for proof in proofs:
            verifying.record(
                self.database, proof.plan, self.workspace.actor, right=proof.right, problems=proof.problems,
                checks_passed=None,
            )  # fmt: skip
        return proofs

    def _left(self, part: Part) -> None:
        """Carry on with plans of this scope that were signed for or begun: a process was killed, or somebody signed one."""
        if not self.wish.execute:
            return
        begun = ("approved", "applying", "interrupted")
        for plan in plans.listed(self.database, self.workspace, self.spec.name, (*begun, "applied"), part.scope):
            if plan.state in begun:
                try:
                    self._carry_out(part, plan)
                except ReconError as error:
                    part.wrong(f"{error.what} {error.why}".strip())
            else:
                self.applied.append(plan.plan)  # nothing is lost: it waits for its proof only

    # -- orphans -------------------------------------------------------------------------------------------

    def _only(self, scope: str) -> frozenset[Key] | None:
        """The live records of the days that were asked for; None: all of them."""
        if not self.wish.fetches and not self.wish.cancels:  # nobody asked about others than the records that came
            return frozenset()
        if self.wish.from_day is None and self.wish.to_day is None:
            return None
        with self.database.session(read_only=True) as session:
            bound = bind(session, self.spec)
            query = exp.Select(expressions=[texts.as_text(bound.target_keys)]).from_(bound.target.aliased("t"))
            day = exp.cast(column("t", self.spec.target.date or ""), "date")
            values: list[object] = [scope]
            query = query.where(marks.scope_is(self.spec, bound.target))
            for bound_day, test in ((self.wish.from_day, exp.GTE), (self.wish.to_day, exp.LTE)):
                if bound_day is not None:
                    values.append(bound_day)
                    parameter = exp.cast(exp.Parameter(this=exp.Literal.number(len(values))), "date")
                    query = query.where(test(this=day.copy(), expression=parameter))
            return frozenset(tuple(row[0]) for row in session.rows(query.sql(DIALECT), *values))

    def _tell_orphans(self, part: Part, lookup: AtSource) -> None:
        gone = {key: said for key, said in lookup.said.items() if said in (CANCELLED, HELD_BACK)}
        part.orphaned = len(gone)
        part.held_back = sum(said == HELD_BACK for said in gone.values()) if self.wish.cancels else 0
        for key, error in lookup.errors.items():
            part.wrong(error, texts.shown(key) or "")
        part.source_errors += len(lookup.errors)
        for key, said in lookup.said.items():
            told = {"key": texts.shown(key), "identity": dict(lookup.identities.get(key, {})), "said": said}
            part.orphans.append(told | ({"error": lookup.errors[key]} if key in lookup.errors else {}))
