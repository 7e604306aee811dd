"""What a reviewer needs before signing: what a plan holds, and how things stand now. Writes nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from recon.backfill import bundle, contents, drift, executor, meanwhile, sign_off, veils
from recon.backfill import plan as plans
from recon.backfill.bundle import Bundle
from recon.backfill.contents import Contents
from recon.backfill.plan import Plan
from recon.backfill.veils import Veils
from recon.backfill.voices import Tally, stricter
from recon.database.connect import Database, Session
from recon.errors import LintRefused, NotApproved, ReconError, Refused, Stale, without_values
from recon.matching import precision
from recon.workspace import Workspace

PENDING = ("planned", "approved", "applying", "interrupted", "apply_failed")  # states in which rows wait to be written
REFUSED = Refused.exit_code


@dataclass(frozen=True)
class Review:
    """A plan as it stands now."""

    plan: Plan
    contents: Contents
    voices: Tally  # whose yes counts, and why others do not
    needed: int
    drifts: tuple[dict[str, Any], ...] | None  # the first drifted rows, each with the count; None: nobody could look
    problems: tuple[ReconError, ...]  # each a reason why it could not be applied now
    changed_files: tuple[str, ...]
    private: str | None = None  # what must be said of private columns

    @property
    def pending(self) -> bool:
        return self.plan.state in PENDING

    @property
    def drifted(self) -> int | None:
        return None if self.drifts is None else drift.count(self.drifts)

    @property
    def command(self) -> str | None:
        """What a reviewer runs to say yes; None where nobody can any more."""
        if self.plan.state != "planned" or self.problems:
            return None
        signed = "" if self.contents.document["policy"].get("recorded_by_name") else " --key FILE"
        return f"recon approve {self.plan.plan}{signed}"

    @property
    def exit_code(self) -> int:
        return REFUSED if self.problems else 0

    def as_dict(self) -> dict[str, Any]:
        """The document of `recon review --json`."""
        held = self.contents
        return {
            **self.plan.as_dict(),
            "created": self.plan.created_at,
            "environment": held.document["environment"],
            "database": held.document["database"],
            "target": held.document["target"],
            "tolerance_rows": held.document["tolerance_rows"],
            "limited": held.document["run_limited"],
            "approvals": {"needed": self.needed, "given": list(self.voices.said), "refused": list(self.voices.refused)},
            "precision": held.measured,
            "groups": [_group(item) for item in held.groups],
            "lint": [item.as_dict() for item in held.findings],
            "drift": None if self.drifts is None else {"rows": self.drifted, "first": list(self.drifts)},
            "refused": [error.as_dict() for error in self.problems],
            "changed_files": list(self.changed_files),
            "scripts": dict(held.scripts),
            "approve": self.command,
            "private": self.private,
        }


def _group(group: contents.Group) -> dict[str, Any]:
    document = asdict(group)
    return {"pass": document.pop("rule"), **document}


def collect(database: Database, workspace: Workspace, plan: str, *, drifts: int = drift.SHOWN_ROWS) -> Review:
    """Everything that can be said of a plan; what stands against it is told, not raised.

    Args:
        database: where the plan was made.
        workspace: whose bundle, policy and signers count.
        plan: its id.
        drifts: how many drifted rows are named.

    Raises:
        NotFound: there is no such plan.
    """
    found = plans.load(database, workspace, plan)
    known = precision.measured(database, found.reconciliation, found.document["spec_digest"])
    seen = veils.for_viewer(workspace, found.document)
    problems: list[ReconError] = []
    with database.session(read_only=True) as session:
        whole = _whole(session, found, problems)
        texts, changed = (whole.scripts, ()) if whole else _on_disk(found)
        session.plain_path()
        held = contents.of(session, found.document, texts, known, seen)
        if held.refused and not any(isinstance(error, LintRefused) for error in problems):
            problems.append(LintRefused(why=f"Faults: {len(held.refused)}. They stand under lint."))
        given, _ = sign_off.voices(session, database, workspace, found, None)
        drifted = _now(session, found, whole, problems, seen, drifts) if found.state in PENDING else ()
    if found.state in PENDING and found.expires_at < datetime.now(UTC):
        problems.append(
            NotApproved(
                f"Plan {plan} expired at {found.expires_at:%Y-%m-%d %H:%M} UTC.",
                why="Plans and their sign-offs hold for a time only, as data moves on.",
                todo="Make a new plan with `recon plan`.",
            )
        )
    needed = stricter(workspace.policy.sign_off, found.document["policy"]).approvals
    once = {str(error): error for error in problems}  # several may fail for the same reason
    note = veils.note(workspace, found.document)
    return Review(found, held, given, needed, drifted, tuple(once.values()), tuple(changed), note)


def _whole(session: Session, plan: Plan, problems: list[ReconError]) -> Bundle | None:
    """The bundle, if it, the staged rows and the database are the planned ones."""
    try:
        with session.driver.transaction():  # what fails here must not keep the rest from being asked
            return sign_off.intact(session, plan)
    except ReconError as error:
        problems.append(error)
    except psycopg.Error as error:
        problems.append(_unanswered(error))
    return None


def _on_disk(plan: Plan) -> tuple[dict[str, str], list[str]]:
    """The scripts as they lie there, and which files are not the planned ones or not there."""
    texts: dict[str, str] = {}
    changed: list[str] = []
    for name, expected in {**plan.document["files"], bundle.MANIFEST: plan.digest}.items():
        try:
            content = (plan.bundle / name).read_bytes()
        except OSError:
            changed.append(name)
            continue
        if bundle.digest(content) != expected:
            changed.append(name)
        if name in bundle.SCRIPTS:
            texts[name] = content.decode(errors="replace")
    return texts, sorted(changed)


def _now(
    session: Session, plan: Plan, whole: Bundle | None, problems: list[ReconError], seen: Veils, limit: int
) -> tuple[dict[str, Any], ...] | None:
    """What came between: an altered table, decisions of people, taken sources, rows that drifted."""
    for ask in (executor.unchanged_schema, meanwhile.agree):
        try:
            with session.driver.transaction():
                ask(session, plan)
        except ReconError as error:
            problems.append(error)
        except psycopg.Error as error:
            problems.append(_unanswered(error))
    if whole is None:
        return None  # what is not the planned script is not run
    try:
        with session.driver.transaction():
            found = drift.listed(session, whole, plan, seen, limit=limit)
    except psycopg.Error as error:
        problems.append(_unanswered(error))
        return None
    count, tolerance = drift.count(found), int(plan.document["tolerance_rows"])
    if count > tolerance:
        problems.append(
            Stale(
                f"{count:,} of {plan.rows:,} rows changed since plan {plan.plan} was made; it tolerates {tolerance:,}.",
                todo=f"Run `recon match {plan.reconciliation}` and `recon plan {plan.reconciliation}` again.",
            )
        )
    return tuple(found)


def _unanswered(error: psycopg.Error) -> Stale:
    return Stale(
        "The planned rows cannot be compared with what is there now.",
        why=f"{without_values(error.diag.message_primary or type(error).__name__).rstrip('.')}.",
        todo="Make a new plan with `recon plan`.",
    )
