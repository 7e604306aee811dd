"""What a person does at the reviewer's desk: by the same functions as the command line, with no way around their checks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from recon import workflow
from recon.backfill import absences, rehearsal, sign_off
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import revert as reverting
from recon.backfill import verify as verifying
from recon.backfill.applied import Applied
from recon.backfill.plan import Plan
from recon.backfill.revert import Reverted
from recon.backfill.review import Review
from recon.backfill.sign_off import BEGUN, UNDOABLE
from recon.backfill.voices import stricter
from recon.database.connect import Database
from recon.desk.page import attempt
from recon.errors import BundleChanged, NotApproved, ReconError, UsageError
from recon.workflow import Verified
from recon.workspace import Workspace, same_person

TYPED_CHARACTERS = 8  # of the digest: enough to show that it was looked at, few enough to be typed
DRAW_SECONDS = 0.25  # between two drawings of the progress

Result = Applied | Reverted | Verified | Plan | None
BY_NAME, BY_KEY, BY_FILE = "by name", "SSH key on this machine", "signature made elsewhere"


MAKE, APPROVE, REJECT = "Make the plan", "Approve", "Reject"
SIGNING = (APPROVE, REJECT)


@dataclass(frozen=True)
class Outcome:
    """What became of an action: its result, or why it was refused."""

    action: str  # such as "Approve"
    plan: str  # its id; of what could not be planned, the reconciliation
    result: Result = None
    problem: ReconError | None = None


# -- what may be done ------------------------------------------------------------------------------------


def obstacles(review: Review, actor: str) -> dict[str, str]:
    """Why an action cannot be taken now, for people; an action that can is not in it.

    It spares a click, no more: whether something is allowed is asked again where it is done.
    """
    plan, state = review.plan, review.plan.state
    words = state.replace("_", " ")
    found: dict[str, str] = {}
    enough = len(review.voices.counted) >= review.needed
    if same_person(actor, plan.author):
        found["approve"] = f"You ({actor}) made this plan. It needs the eyes of somebody else."
    elif state != "planned" and (enough or state not in ("approved", *UNDOABLE)):
        found["approve"] = f"The plan is {words}: there is nothing left to approve."
    elif review.problems:
        found["approve"] = "The plan is refused as it stands; the reasons are above."
    if state not in ("planned", "approved", *BEGUN):
        found["reject"] = f"The plan is {words}: there is nothing left to reject."
    if state not in rehearsal.REHEARSED:
        found["dry run"] = f"The plan is {words}: there is nothing left that it would change."
    if state not in applying.RESUMABLE and not (state == "planned" and enough):
        waits = f"it has {len(review.voices.counted)} of {review.needed} approvals"
        found["apply"] = f"The plan is {words}{f': {waits}' if state == 'planned' else ''}."
    if state not in verifying.VERIFIABLE:
        found["verify"] = f"The plan is {words}: only what was applied can be verified."
    if state not in reverting.REVERTIBLE:
        found["revert"] = f"The plan is {words}: there is nothing to undo."
    return found


def ways(workspace: Workspace, plan: Plan) -> list[str]:
    """How this plan may be approved: by name only where the policy here and the plan's own take it."""
    policy = stricter(workspace.policy.sign_off, plan.document["policy"])
    return [*([BY_NAME] if policy.recorded_by_name else []), BY_KEY, BY_FILE]


def confirmed(plan: Plan, typed: str) -> None:
    """Refuse what was not confirmed by the beginning of the digest that stands on the page. Raises NotApproved."""
    wanted = plan.digest[:TYPED_CHARACTERS]
    if typed.strip().lower() == wanted:
        return
    said = f"You typed {typed.strip()[:TYPED_CHARACTERS]!r}." if typed.strip() else "You typed nothing."
    raise NotApproved(
        "This is not how the plan's digest begins.",
        why=f"{said} Whoever signs, applies or reverts shows that it is this plan that is meant.",
        todo=f"Type the first {TYPED_CHARACTERS} characters of the digest that stands above the buttons.",
    )


def _same(database: Database, workspace: Workspace, plan: Plan) -> None:
    """Refuse a plan that is not the one on the page any more. Raises BundleChanged."""
    if plans.load(database, workspace, plan.plan).digest != plan.digest:
        raise BundleChanged(
            "The database keeps another digest of this plan than the page shows.",
            why="Somebody changed it since the page was loaded.",
            todo="Reload the page and look again; `recon audit` says what happened.",
        )


# -- saying yes and no -----------------------------------------------------------------------------------


def make(database: Database, workspace: Workspace, reconciliation: str) -> Outcome:
    """Freeze the latest run's changes as a plan."""

    def made() -> Plan | None:
        spec = workspace.spec(reconciliation)
        return plans.make(database, workspace, spec, workspace.actor, lookup=absences.of_people(spec))

    result, problem = attempt(made)
    return Outcome(MAKE, result.plan if result else reconciliation, result, problem)


def approve(
    database: Database,
    workspace: Workspace,
    plan: Plan,
    typed: str,
    way: str,
    *,
    key: str = "",
    signature: bytes | None = None,
) -> Outcome:
    """Approve the digest that the page shows.

    Args:
        database: where the plan was made.
        workspace: whose policy and signers count.
        plan: as the page shows it.
        typed: the beginning of its digest.
        way: one of `ways`.
        key: the path of an SSH key on this machine.
        signature: what `ssh-keygen -Y sign` wrote.
    """

    def approved() -> Plan:
        confirmed(plan, typed)
        _same(database, workspace, plan)
        if way == BY_KEY:
            return sign_off.approve(database, workspace, plan.plan, workspace.actor, key=_key(key), ask=False)
        if way == BY_NAME:
            return sign_off.approve(database, workspace, plan.plan, workspace.actor)
        if not signature:
            raise UsageError("There is no signature.", todo="Choose the .sig file that ssh-keygen wrote.")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "signature.sig"
            path.write_bytes(signature)
            return sign_off.approve(database, workspace, plan.plan, workspace.actor, signature=path)

    return Outcome(APPROVE, plan.plan, *attempt(approved))


def _key(text: str) -> Path:
    path = Path(text.strip()).expanduser()
    if not text.strip() or not path.is_file():
        raise UsageError(
            f"There is no file {path}." if text.strip() else "No key was named.",
            why="The key must lie on the machine that serves this page.",
            todo="Give the path of a private key, or of the .pub file of a key that the agent here holds;"
            " or sign elsewhere and give the signature.",
        )
    return path


def reject(database: Database, workspace: Workspace, plan: Plan, reason: str) -> Outcome:
    """Say no, with a reason; once an apply has begun, take one's own approval back."""

    def rejected() -> Plan:
        _same(database, workspace, plan)
        return sign_off.reject(database, workspace, plan.plan, workspace.actor, reason)

    return Outcome(REJECT, plan.plan, *attempt(rejected))


# -- apply, verify, revert -------------------------------------------------------------------------------

Draw = Callable[["Moment"], None]


@dataclass(frozen=True)
class Moment:
    """How far a long step has come."""

    done: int  # rows
    total: int
    seconds: float  # since it began
    at_first: int = 0  # rows that were done when the first batch ended: an earlier attempt's, mostly
    waits: str = ""  # why it pauses

    @property
    def rate(self) -> float | None:
        """Rows per second; None where nothing can be said yet."""
        return (self.done - self.at_first) / self.seconds if self.done > self.at_first and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate else None


class Watch:
    """Takes the progress and the pauses of an apply or a revert, and draws them a few times a second."""

    def __init__(self, total: int, draw: Draw, done: int = 0) -> None:
        self._draw, self._began, self._drawn = draw, monotonic(), 0.0
        self._done, self._total, self._at_first, self._waits = done, total, done, ""
        self._now()

    def __call__(self, done: int, total: int) -> None:
        """Rows done, rows in all."""
        self._done, self._total = done, total
        if done >= total or monotonic() - self._drawn >= DRAW_SECONDS:
            self._now()

    def notice(self, reason: str | None) -> None:
        """Why it waits; None: it goes on."""
        self._waits = reason or ""
        self._now()

    def _now(self) -> None:
        self._drawn = monotonic()
        self._draw(Moment(self._done, self._total, self._drawn - self._began, self._at_first, self._waits))


def dry_run(database: Database, workspace: Workspace, plan: Plan) -> Outcome:
    """Try a plan on its first rows, in a transaction that is rolled back."""
    return Outcome(
        "Dry run", plan.plan, *attempt(applying.apply, database, workspace, plan.plan, workspace.actor)
    )  # fmt: skip


def apply(database: Database, workspace: Workspace, plan: Plan, typed: str, draw: Draw, done: int = 0) -> Outcome:
    """Write a plan.

    Args:
        database: where the plan was made.
        workspace: whose policy and signers count.
        plan: as the page shows it.
        typed: the beginning of its digest.
        draw: shows the progress.
        done: rows that an interrupted apply wrote.
    """

    def applied() -> Applied:
        confirmed(plan, typed)
        _same(database, workspace, plan)
        watch = Watch(plan.rows, draw, done)
        return applying.apply(
            database, workspace, plan.plan, workspace.actor, execute=True, progress=watch, notice=watch.notice
        )

    return Outcome("Apply", plan.plan, *attempt(applied))


def verify(database: Database, workspace: Workspace, plan: Plan) -> Outcome:
    """Prove a plan: its own changes by verify.sql, the whole by its suite."""
    return Outcome("Verify", plan.plan, *attempt(workflow.verify, database, workspace, plan.plan, workspace.actor))


def try_revert(database: Database, workspace: Workspace, plan: Plan) -> Outcome:
    """What a revert would restore, and which rows stand in its way."""
    return Outcome(
        "Dry run of the revert", plan.plan, *attempt(reverting.revert, database, workspace, plan.plan, workspace.actor)
    )


def revert(database: Database, workspace: Workspace, plan: Plan, typed: str, draw: Draw) -> Outcome:
    """Undo a plan where its rows still hold what it wrote; the arguments are those of `apply`."""

    def reverted() -> Reverted:
        confirmed(plan, typed)
        _same(database, workspace, plan)
        watch = Watch(plan.rows, draw)
        return reverting.revert(
            database, workspace, plan.plan, workspace.actor, execute=True, progress=watch, notice=watch.notice
        )

    return Outcome("Revert", plan.plan, *attempt(reverted))


def uploaded(files: object) -> bytes | None:
    """The content of the one file that was chosen in the page; None: there is none."""
    contents = [getattr(item, "contents", None) for item in files] if isinstance(files, (list, tuple)) else []
    return contents[0] if contents and isinstance(contents[0], bytes) else None
