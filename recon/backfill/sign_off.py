"""Who said yes to a plan: approvals of its digest, and the one check that every writing path goes through."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from recon.backfill import bundle, states
from recon.backfill import plan as plans
from recon.backfill.bundle import Bundle
from recon.backfill.change import Shape
from recon.backfill.plan import Plan
from recon.database import relations, tables
from recon.database.connect import Database, Session
from recon.errors import BundleChanged, IllegalMove, NotApproved, UsageError, WrongDatabase
from recon.workspace import Workspace, person

DEMO_PREFIX = "demo-"  # demo-analyst and demo-reviewer act in the demo database only
RECORDED = "recorded"


@dataclass(frozen=True)
class SignOff:
    """What the check found in order: the plan, its signed bundle, and who approved it."""

    plan: Plan
    bundle: Bundle
    approvers: tuple[str, ...]


def approve(database: Database, workspace: Workspace, plan: str, actor: str) -> Plan:
    """Record an approval of a plan's digest by name: a record of who said yes, not a proof of it.

    Raises:
        NotApproved: the author cannot approve, or the policy wants signatures.
        BundleChanged, WrongDatabase, IllegalMove: what would be approved is not what was planned.
    """
    _person(actor, database)
    tables.ensure(database)
    with database.session() as session:
        found = plans.read(session, workspace, plan)
        states.current(session, plan, lock=True)
        if same_person(actor, found.author):
            raise NotApproved(
                f"{actor} made plan {plan} and cannot approve it.",
                why="A plan needs the eyes of somebody else.",
                todo="Ask a colleague to run `recon approve`; RECON_USER says who acts.",
            )
        not_expired(session, found, actor)
        if found.state != "planned":
            raise IllegalMove(f"Plan {plan} is {found.state}.", why="Only a planned one can be approved.")
        whole = intact(session, found)
        _by_name_allowed(workspace, whole)
        session.connection.execute(
            insert(tables.approvals)
            .values(plan=plan, approver=actor, digest=found.digest, method=RECORDED)
            .on_conflict_do_nothing()
        )
        given = _approvers(session, found)
        if len(given) >= _needed(workspace, whole):
            states.move(session, plan, "approved", actor, digest=found.digest, approvers=given, method=RECORDED)
    return plans.load(database, workspace, plan)


def reject(database: Database, workspace: Workspace, plan: str, actor: str, reason: str) -> Plan:
    """Say no to a plan, with the reason. Raises UsageError without one, IllegalMove once it was applied."""
    if not reason.strip():
        raise UsageError("A rejection needs a reason.", todo="Give it with --reason.")
    tables.ensure(database)
    with database.session() as session:
        states.move(session, plan, "rejected", actor, reason=reason)
    return plans.load(database, workspace, plan)


def check(session: Session, database: Database, workspace: Workspace, plan: str, actor: str) -> SignOff:
    """The check that stands before every write, in the executor itself; there is no way around it.

    Raises:
        NotApproved: too few people other than the author approved this digest, or it expired.
        BundleChanged: a file of the bundle or a staged row is not what was approved.
        WrongDatabase: the plan was made elsewhere.
    """
    _person(actor, database)
    found = plans.read(session, workspace, plan)
    whole = intact(session, found)
    approvers = _approvers(session, found)
    _by_name_allowed(workspace, whole)
    needed = _needed(workspace, whole)
    if len(approvers) < needed:
        raise NotApproved(
            f"Plan {plan} has {len(approvers)} of {needed} approvals.",
            why=f"It was made by {found.author}, who cannot approve it." if not approvers else "",
            todo=f"Read {found.bundle} and ask a reviewer to run `recon approve {plan}`.",
        )
    for name in (*approvers, found.author):
        _person(name, database)
    return SignOff(found, whole, tuple(approvers))


def intact(session: Session, plan: Plan) -> Bundle:
    """The plan's bundle, after its files, the staged rows and the database were found to be the planned ones."""
    whole = bundle.read(plan.bundle, plan.digest)
    document = whole.document
    here = relations.identity(session)
    if document["database"] != here:
        raise WrongDatabase(
            f"Plan {plan.plan} was made for database {document['database']['database']}.",
            why=f"This is {here['database']} of another server or of another name.",
            todo="Give the database that it was made for, or make a new plan here.",
        )
    shape = Shape.of_document(document)
    if bundle.staged_digest(session, shape, plan.plan) != document["files"][bundle.CHANGES]:
        raise BundleChanged(
            f"The staged rows of plan {plan.plan} are not those of changes.csv.",
            why="Someone changed them in the database after the plan was made.",
            todo="Make a new plan with `recon plan`.",
        )
    return whole


def _approvers(session: Session, plan: Plan) -> list[str]:
    """Who approved exactly this digest; the author does not count."""
    approvals = tables.approvals
    query = (
        sa.select(approvals.c.approver)
        .where(approvals.c.plan == plan.plan, approvals.c.digest == plan.digest)
        .order_by(approvals.c.at)
    )
    found: list[str] = []
    for name in session.connection.execute(query).scalars():
        if not any(same_person(name, other) for other in (plan.author, *found)):
            found.append(name)
    return found


def same_person(name: str, other: str) -> bool:
    """Whether two names are one person's: case and white space do not make two people of one.

    >>> same_person("Ann ", "ann"), same_person("ann", "anna")
    (True, False)
    """
    return "".join(name.casefold().split()) == "".join(other.casefold().split())


def not_expired(session: Session, plan: Plan, actor: str) -> None:
    """Refuse a plan that nobody applied in time, and log that it expired."""
    if plan.expires_at < datetime.now(UTC):
        if plan.state in ("planned", "approved"):
            states.move(session, plan.plan, "expired", actor)
            session.commit()
        raise NotApproved(
            f"Plan {plan.plan} expired at {plan.expires_at:%Y-%m-%d %H:%M} UTC.",
            why="Its changes may no longer be right.",
            todo="Make a new plan with `recon plan`.",
        )


def _needed(workspace: Workspace, whole: Bundle) -> int:
    """How many approvals a plan needs: by the policy it was made under or the one here, whichever is stricter."""
    return max(workspace.policy.sign_off.approvals, int(whole.document["policy"]["approvals"]))


def _by_name_allowed(workspace: Workspace, whole: Bundle) -> None:
    if not (workspace.policy.sign_off.recorded_by_name and whole.document["policy"]["recorded_by_name"]):
        raise NotApproved(
            "Approvals recorded by name are not accepted for this plan.",
            why="recon.toml says recorded_by_name = false, here or where the plan was made.",
            todo="Sign the digest with a key that the workspace knows.",
        )


def _person(actor: str, database: Database) -> None:
    try:
        person(actor)
    except UsageError as error:
        raise NotApproved(error.what, why=error.why, todo=error.todo) from error
    if actor.strip().casefold().startswith(DEMO_PREFIX) and not database.demo:
        raise NotApproved(
            f"{actor} acts in the demo database only.", todo="Set RECON_USER to your name, or leave it unset."
        )
