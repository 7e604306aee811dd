"""The whole way for schedules and people in a hurry: check, match, plan, sign-off, apply, verify, and what remains.

`recon run` runs the notebook backfill_run.ipynb; each of its cells takes one step of a `Way` here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from recon import extras, workflow
from recon.backfill import absences, outside_bundle, shipped, sign_off, veils
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import review as reviewing
from recon.backfill.applied import Applied
from recon.backfill.plan import Plan
from recon.backfill.review import Review
from recon.backfill.standing import environment_of
from recon.backfill.verify import Verification
from recon.backfill.voices import stricter
from recon.database.connect import Database
from recon.errors import NotApproved, ReconError, VerifyFailed
from recon.matching import check as checking
from recon.matching import run as runs
from recon.matching.check import Checked
from recon.matching.coverage import coverage, statistics
from recon.matching.pool import Filter
from recon.matching.run import Run
from recon.reports import data, kept
from recon.reports.data import ReportData
from recon.reports.parameters import MODES
from recon.reports.run import Progress, Tell, perform
from recon.reports.steps import Asked, Ended, Signing
from recon.spec import Reconciliation
from recon.systems import RunLog, log_of, shipped_standing
from recon.workflow import Verified
from recon.workspace import Workspace

NOTEBOOK = "backfill_run.ipynb"
LABEL = "-run"  # of its files, so that they are told apart from reports
DONE, FELL_SHORT = 0, 3  # exit codes; a failure or a refusal is an error


@dataclass(frozen=True)
class Wish:
    """What a run of the whole way is asked to do.

    Args:
        mode: one of MODES.
        from_day, to_day: ISO days, inclusive; empty: all.
        limit: unlinked records to decide at most; 0: all.
        plan: the id of a plan to carry on with; empty: match, and make one where something would change.

    Days and limit ask for a part of the records: they are matched, planned and changed, and the page says that it was a
    part.
    """

    mode: str = "dry_run"
    from_day: str = ""
    to_day: str = ""
    limit: int = 0
    plan: str = ""

    @property
    def filter(self) -> Filter:
        return Filter(self.limit or None, self.from_day or None, self.to_day or None)

    def check(self, spec: Reconciliation) -> None:
        """Raises UsageError where what is asked for cannot go together, before anything is done."""
        self.filter.check(spec)


@dataclass
class Way:
    """One run of the whole way: what was asked, and what each step gave. Steps are taken in the order below."""

    database: Database
    workspace: Workspace
    spec: Reconciliation
    wish: Wish
    identity: str = ""  # of the row in notebook_runs that is told how it goes; empty: nobody is
    run: Run | None = None
    matched_first: Run | None = None  # the run that the plan is made of, where another one follows it
    made: Plan | None = None
    signing: Signing | None = None
    applied: Applied | None = None
    verified: Verified | None = None
    told: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def actor(self) -> str:
        return self.workspace.actor

    @cached_property
    def log(self) -> RunLog | None:
        """What people of this system read of its runs; None where it has no log of its own."""
        opens = log_of(self.spec)
        return opens(self.database, self.workspace, self.spec) if opens else None

    @property
    def name(self) -> str:
        return self.spec.name

    def asked(self) -> Asked:
        """What is reconciled, by whom, where, and how far this run goes."""
        sides = [side.origin for side in (self.spec.target, self.spec.source)]
        with self.database.session(read_only=True) as session:
            place = session.value("SELECT current_database()::text")
        limits = self.wish.filter.as_dict()
        if self.log:
            self.log.started(self.wish.mode, self.actor, **(limits or {}))
        self._tell(reconciliation=self.name, mode=self.wish.mode, limited=limits)
        return Asked(
            name=self.name,
            title=self.spec.title or self.name,
            target=sides[0],
            source=sides[1],
            mode=MODES[self.wish.mode],
            actor=self.actor,
            database=place,
            environment=environment_of(self.workspace, self.database),
            limits=limits or {},
            plan=self.wish.plan,
            rules=self.spec.digest,
            at=datetime.now(UTC),
            private=self._private(),
        )

    def _private(self) -> str | None:
        """What the page must say of private columns; a plan may have been made when there were others."""
        if self.wish.plan:
            return veils.note(self.workspace, plans.load(self.database, self.workspace, self.wish.plan).document)
        return self.workspace.private_note(self.spec)

    def check(self) -> Checked:
        """Profile the data, the spec and the connection."""
        return checking.check(self.database, self.spec, shows_private=self.workspace.sees_private)

    def match(self) -> Run:
        """Decide every record, or take the run that the given plan came from."""
        if self.wish.plan:
            self.run = runs.load(
                self.database, self.name, plans.load(self.database, self.workspace, self.wish.plan).run
            )
        else:
            self.run = workflow.match(self.database, self.workspace, self.spec, self.actor, self.wish.filter)
        self._tell(match=_matched(self.run))
        if self.log:
            self.log.matched(self.run)
        return self.run

    def found(self) -> ReportData:
        """The decisions as they are shown, with the plan where there is one."""
        checks = self.verified.checks.as_dict() if self.verified else None
        return data.gather(self.database, self.workspace, self.name, self.made.plan if self.made else None, checks)

    def plan(self) -> Review | str:
        """Freeze what would change, or take the plan that waits or was given; a sentence says why there is none."""
        assert self.run is not None
        if self.wish.mode == "match":
            return "This run only matches: no plan was asked for."
        if self.spec.only_finds and not self.wish.plan:
            self._tell(plan=None)
            return f"{self.name} only finds: nothing is written by it. People read what it proposes."
        reused = True
        if self.wish.plan:
            self.made = plans.load(self.database, self.workspace, self.wish.plan)
        else:
            began = datetime.now(UTC)
            # A part was asked for by the wish itself, so nobody takes it for all.
            self.made = plans.make(
                self.database, self.workspace, self.spec, self.actor,
                run=self.run.run, allow_limited=True, again=False, lookup=absences.of_people(self.spec),
            )  # fmt: skip
            reused = self.made is not None and self.made.created_at < began
        if self.made is None:
            self._tell(plan=None)
            return "Nothing would change by this run: there is nothing to plan."
        self._tell_plan(reused)
        return reviewing.collect(self.database, self.workspace, self.made.plan)

    def sign(self) -> Signing | str:
        """Who may sign and who has; where this run executes, a standing sign-off that covers the plan is used.

        Raises:
            NotApproved: the plan expired.
            IllegalMove: it was rejected, is stale, or gave way to another plan.
        """
        if self.made is None or self.wish.mode == "plan":
            return (
                "No sign-off is asked for." if self.made is None else "A reviewer signs: this run ends with the plan."
            )
        plan = self.made
        refused: tuple[str, ...] = ()
        if self.wish.mode == "execute" and plan.state not in (*sign_off.UNDOABLE, "approved"):
            with self.database.session() as session:
                sign_off.not_expired(session, plan, self.actor)
            self.made, refused = approve_unattended(self.database, self.workspace, plan, self.actor)
        with self.database.session(read_only=True) as session:
            tally, _ = sign_off.voices(session, self.database, self.workspace, self.made, None)
        policy = stricter(self.workspace.policy.sign_off, self.made.document["policy"])
        awaited = self.made.state == "planned"
        self.signing = Signing(
            plan=plan.plan,
            state=self.made.state,
            author=plan.author,
            needed=policy.approvals,
            by_name=policy.recorded_by_name,
            given=tally.said,
            refused=refused or tally.refused,
            standing=any(voice.standing for voice in tally.counted),
            awaited=awaited,
            executing=self.wish.mode == "execute",
        )
        if awaited and self.wish.mode == "execute":
            self._tell(awaits=f"recon review {plan.plan}")
        self._tell(
            sign_off={
                "state": self.made.state,
                "needed": policy.approvals,
                "given": list(tally.said),
                "refused": list(self.signing.refused) if awaited else [],
            }
        )
        return self.signing

    def apply(self) -> Applied | str:
        """Change the records, or show what would change; a sentence says why nothing is done."""
        if self.made is None or self.wish.mode == "plan":
            return "Nothing was applied: there is no plan." if self.made is None else "This run ends with the plan."
        executing = self.wish.mode == "execute"
        if executing and self.signing is not None and self.signing.awaited:
            return "Nothing was applied: the plan waits for a reviewer."
        if self.log and executing:
            self.log.applying(self.made)
        self.applied = applying.apply(self.database, self.workspace, self.made.plan, self.actor, execute=executing)
        self.made = plans.load(self.database, self.workspace, self.made.plan)
        if self.log:
            self.log.applied(self.made, self.applied)
        told = ("executed", "planned", "changed", "skipped", "state", "seconds", "predicted_seconds")
        told_outside = {"outside": self.applied.outside} if self.applied.outside else {}
        self._tell(apply={name: getattr(self.applied, name) for name in told} | told_outside)
        return self.applied

    def verify(self) -> Verification | str:
        """Prove what was applied, from a connection of its own.

        Raises:
            CheckErrored: a check could not be carried out: nothing is proven.
        """
        if self.applied is None or not self.applied.executed or self.made is None:
            return "There is nothing to prove: nothing was written."
        self.verified = workflow.verify(self.database, self.workspace, self.made.plan, self.actor)
        self.made = plans.load(self.database, self.workspace, self.made.plan)
        checks = self.verified.checks
        self._tell(
            verify={
                "state": self.verified.state,
                "checked": self.verified.verification.checked,
                "problems": self.verified.verification.problems,
                "checks": {"passed": len(checks.passed), "failed": [item.name for item in checks.failed]},
            }
        )
        return self.verified.verification

    def remains(self) -> ReportData:
        """What is left, counted now: after a change everything is decided once more, as it then stands."""
        assert self.run is not None
        if self.applied and self.applied.executed and self.applied.changed and not self.run.limited:
            again = workflow.match(self.database, self.workspace, self.spec, self.actor)
            self.matched_first, self.run = self.run, again
        found = self.found()
        left = {name: count for name, count in self.run.outcomes.items() if name not in ("linked", "same")}
        self._tell(
            remains={
                "population": found.now.population,
                "linked": found.now.linked,
                "coverage": found.now.share,
                "outcomes": {**left, **{name: count for name, count in self.run.other_side.items() if count}},
            }
        )
        return found

    def end(self) -> Ended:
        """How it ended: its exit code, and what comes next.

        Raises:
            VerifyFailed: what was written is wrong; the run has failed.
        """
        assert self.run is not None
        if self.verified and not self.verified.verification.right:
            wrong = self.verified.verification.problems
            raise VerifyFailed(
                f"{wrong:,} of {self.verified.verification.checked:,} rows of plan {self.verified.plan} are not right.",
                why="verify.sql found them, from a connection of its own.",
                todo=f"Look at `recon verify {self.verified.plan}`; `recon revert {self.verified.plan}` undoes the plan.",
            )
        short: list[str] = []
        if self.signing and self.signing.awaited and self.signing.executing:
            short.append(f"Plan {self.signing.plan} waits for a reviewer.")
        if self.applied and self.applied.skipped:
            short.append(f"{self.applied.skipped:,} rows were not as planned and were left alone.")
        if self.applied and self.applied.outside and self.applied.outside["left"]:
            left = "were left" if self.applied.executed else "would be left"
            short.append(f"Outside {self.applied.outside['left']:,} of the records {left} as they are.")
        if self.verified and not self.verified.checks.success:
            short.append(f"{len(self.verified.checks.failed):,} checks failed.")
        if not self.run.settled:
            short.append("Breaks remain: not every record is reconciled.")
        code = FELL_SHORT if short else DONE
        if self.log:
            written = self.applied.changed if self.applied and self.applied.executed else None
            self.log.ended(self.matched_first or self.run, written, code, tuple(short))
        self._tell(exit_code=code, falls_short=short)
        return Ended(code, tuple(short), self.signing.plan if self.signing and self.signing.awaited else "")

    def _tell_plan(self, reused: bool) -> None:
        assert self.made is not None
        told = {
            name: value for name, value in self.made.as_dict().items() if name in ("plan", "digest", "rows", "bundle")
        }
        self._tell(plan={**told, "waited": reused})

    def _tell(self, **steps: Any) -> None:
        """Keep what a step gave, in the row that the command line and schedules read."""
        self.told |= steps
        if self.identity:
            run, plan = self.run, self.made
            kept.note(
                self.database, self.identity, figures=self.told,
                run=run.run if run else None, plan=plan.plan if plan else None,
            )  # fmt: skip


def _matched(run: Run) -> dict[str, Any]:
    told = ("run", "population", "outcomes", "other_side", "reasons", "coverage", "limited", "seconds")
    return {name: value for name, value in run.as_dict().items() if name in told}


def approve_unattended(
    database: Database, workspace: Workspace, plan: Plan, actor: str
) -> tuple[Plan, tuple[str, ...]]:
    """Approve a planned plan by the standing sign-offs there are, else by the one that ships with recon.

    Returns:
        The plan as it is then, and why nothing covers it where it still waits.
    """
    refused: list[str] = []
    try:
        return sign_off.approve_by_standing(database, workspace, plan.plan, actor), ()
    except NotApproved as error:
        refused.append(error.why)
    item = shipped_standing(plan.reconciliation)
    if item is not None:
        given = shipped.give(database, workspace, item, actor)
        if isinstance(given, str):
            refused.append(f"The standing sign-off that ships with recon: {given}.")
        else:
            try:
                return sign_off.approve_by_standing(database, workspace, plan.plan, actor), ()
            except NotApproved as error:
                refused.append(error.why)
    return plan, tuple(filter(None, refused))


def begin(
    workspace: str,
    reconciliation: str,
    wish: Wish,
    *,
    demo: bool = False,
    identity: str = "",
) -> Way:
    """The start of the way in a notebook: the workspace and the database opened, and what is asked looked at.

    Args:
        workspace: its folder.
        reconciliation: its name.
        wish: what to do.
        demo: work on the demo's database; else RECON_DATABASE_URL says which, and is never a parameter.
        identity: the row in notebook_runs that is told how it goes.

    Raises:
        NotFound, SpecError: no such reconciliation, or it cannot be read.
        UsageError: what is asked cannot go together.
    """
    home = Workspace.find(Path(workspace))
    spec = home.spec(reconciliation)
    wish.check(spec)
    return Way(workflow.open_database(home, demo=demo), home, spec, wish, identity)


def load_first(database: Database, workspace: Workspace, spec: Reconciliation, wish: Wish) -> dict[str, Any] | None:
    """Bring in the jobs, deals or the like of these days before they are matched (HCP-04).

    Returns:
        The records by table; or, where the outside system's token is not set, a sentence about what is matched; None
        where the source is no outside system.

    Raises: as `workflow.load_records`; nothing of it is kept then, and nothing is matched.
    """
    system = spec.source.api
    if system is None:
        return None
    setting = f"RECON_{system.upper()}_TOKEN"
    if setting not in workspace.variables:
        return {"said": f"{setting} is not set: what {spec.source.landing} holds is matched, as it was loaded last"}
    days = [date.fromisoformat(day) if day else None for day in (wish.from_day, wish.to_day)]
    return {"records": workflow.load_records(database, workspace, spec.name, *days), "from": system}


def run(
    database: Database,
    workspace: Workspace,
    name: str,
    wish: Wish,
    *,
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Go the whole way by running its notebook; what `recon run` and schedules call.

    Returns:
        The document of `recon run --json`: what each step gave, the exit code, and where notebook and page are.

    Raises:
        UsageError, NotFound: what is asked makes no sense; said before anything is done.
        MissingExtra: there are no notebooks on this machine.
        ReportFailed: a step failed or was refused; its exit code says which, the partial notebook is named.
    """
    extras.need("notebooks", "A run of the whole way")
    spec = workspace.spec(name)
    wish.check(spec)
    values = {
        "reconciliation": name,
        "mode": wish.mode,
        "from_day": wish.from_day,
        "to_day": wish.to_day,
        "limit": wish.limit,
        "plan": wish.plan,
    }
    try:
        if spec.target.outside and wish.mode != "match":  # a setting that is missing is told before all the work
            outside_bundle.place(spec.target.outside, workspace.variables)
        loaded = None if wish.plan else load_first(database, workspace, spec, wish)
        made = perform(
            database, workspace, NOTEBOOK, name, values,
            title=f"{spec.title or name}: run", label=LABEL, progress=progress, tell=tell,
        )  # fmt: skip
    except ReconError as error:
        if opens := log_of(spec):
            opens(database, workspace, spec).failed(str(error))
        raise
    steps = dict.fromkeys(("match", "plan", "sign_off", "apply", "verify", "remains", "awaits"))
    told: dict[str, Any] = {**steps, **(kept.read(database, made.identity)["figures"] or {})}
    return {
        **told,
        "load": loaded,
        "notebook_run": made.identity,
        "notebook": str(made.notebook),
        "report": str(made.page),
        **_summed(told),
    }


def _summed(told: dict[str, Any]) -> dict[str, Any]:
    """Statistics and coverage as they are in the end (CRM-09)."""
    match, apply = told["match"], told["apply"] or {}
    errors = apply["skipped"] if apply.get("executed") else 0
    share = None if match["limited"] else coverage(match["outcomes"])
    return {"statistics": statistics(match["outcomes"], errors), "coverage": share}
