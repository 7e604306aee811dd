"""Who said yes to a plan: approvals of its digest, and the one check that every writing path goes through.

Going on needs approvals that hold today: not withdrawn, by keys that are valid now, of a plan in time. Undoing needs
approvals that are genuine, and no more: neither the clock nor a reviewer who changed his mind may lock it out.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from recon.backfill import approvals, audit, bundle, lint, seams, signatures, standing, states
from recon.backfill import plan as plans
from recon.backfill.bundle import Bundle
from recon.backfill.change import Shape
from recon.backfill.plan import Plan
from recon.backfill.signatures import Signers
from recon.backfill.voices import RECORDED, SHIPS, SIGNED, Tally, Voice, acting, same_voice, stricter
from recon.database import relations, tables
from recon.database.connect import Database, Session
from recon.errors import BundleChanged, IllegalMove, NotApproved, Refused, UsageError, WrongDatabase
from recon.workspace import SignOffPolicy, Workspace, same_person
from recon.workspace import reason as checked_reason

GOING_ON = ("planned", "approved", "applying", "interrupted", "apply_failed")  # more may still be written
BEGUN = ("applying", "interrupted", "apply_failed")
SHOWN_REASONS = 5  # why voices do not count; old standing sign-offs may be many
UNDOABLE = (*BEGUN, "applied", "verified", "verify_failed", "reverting")


@dataclass(frozen=True)
class SignOff:
    """What the check found in order: the plan, its signed bundle, and who approved it."""

    plan: Plan
    bundle: Bundle
    approvers: tuple[str, ...]


# -- saying yes and no -----------------------------------------------------------------------------------


def approve(
    database: Database,
    workspace: Workspace,
    plan: str,
    actor: str,
    *,
    key: Path | None = None,
    signature: Path | None = None,
    ask: bool = True,
) -> Plan:
    """Approve a plan's digest: signed with an SSH key, or recorded by name, which is a record and not a proof.

    Args:
        key: a key to sign with now.
        signature: a signature over plan.json that was made elsewhere.
        ask: whether a passphrase can be asked for, in the terminal.

    Raises:
        NotApproved: the author cannot approve, the policy wants signatures, or the signature does not hold.
        BundleChanged, WrongDatabase, IllegalMove: what would be approved is not what was planned.
    """
    acting(actor, database)
    tables.ensure(database)
    # Before any row is locked: a person may have to type a passphrase.
    signed = _signature(plans.load(database, workspace, plan), actor, key, signature, ask=ask)
    with database.session() as session:
        with _refusals_logged(session, plan, actor):
            _approve(session, workspace, plan, actor, signed)
        seams.reached("before commit")
    return plans.load(database, workspace, plan)


def _signature(found: Plan, actor: str, key: Path | None, signature: Path | None, *, ask: bool) -> str | None:
    if key is not None and signature is not None:
        raise UsageError("--key signs here, --signature takes one made elsewhere.", todo="Give one of them.")
    if signature is not None:
        return signatures.read(signature)
    if key is None:
        return None
    if same_person(actor, found.author):  # before a passphrase is asked for
        raise _author(found, actor)
    return signatures.sign(approvals.manifest(found), key, ask=ask)


def _approve(session: Session, workspace: Workspace, plan: str, actor: str, signature: str | None) -> None:
    states.current(session, plan, lock=True)
    found = plans.read(session, workspace, plan)
    if same_person(actor, found.author):
        raise _author(found, actor)
    if found.state in ("planned", "approved"):
        not_expired(session, found, actor)
    if found.state != "planned" and found.state not in ("approved", *UNDOABLE):
        raise IllegalMove(f"Plan {plan} is {found.state}.", why="Only a planned one can be approved.")
    whole = intact(session, found)
    policy = stricter(workspace.policy.sign_off, whole.document["policy"])
    signers = Signers.read(workspace.signers)
    tally = approvals.given(session, found, policy, signers, undoing=False)
    if found.state != "planned" and len(tally.counted) >= policy.approvals:
        raise IllegalMove(f"Plan {plan} is {found.state}.", why="It has all the approvals that it needs.")
    voice = Voice(actor, None)
    if signature is not None:
        voice = Voice(actor, signers.verify(approvals.manifest(found), signature, actor))
    elif not policy.recorded_by_name:
        raise _unsigned(found)
    method = SIGNED if voice.key else RECORDED
    # A mere record must not replace what the same person signed.
    if voice.key or not any(same_person(actor, other.person) for other in tally.counted):
        _of_somebody_else(found, voice, tally, signers)
        approvals.keep(session, found, voice, signature)
        fingerprint = voice.key.fingerprint if voice.key else None
        tally = approvals.given(session, found, policy, signers, undoing=False)
        approvals.log(session, plan, actor, digest=found.digest, method=method, key=fingerprint)
    given = [other.person for other in tally.counted]
    if found.state == "planned" and len(given) >= policy.approvals:
        states.move(session, plan, "approved", actor, digest=found.digest, approvers=given, method=method)


def _of_somebody_else(found: Plan, voice: Voice, tally: Tally, signers: Signers) -> None:
    """Refuse a key of the author's, and one that gave another approval under another name."""
    why = same_voice(voice, Voice(found.author, None), signers)
    others = (other for other in tally.counted if not same_person(other.person, voice.person))
    why = why or next(filter(None, (same_voice(voice, other, signers) for other in others)), "")
    if why:
        raise NotApproved(
            f"{voice.person} cannot approve plan {found.plan}.",
            why=f"In the workspace's list of signers {why}.",
            todo="Two people approve with two keys, each listed for one of them.",
        )


def reject(database: Database, workspace: Workspace, plan: str, actor: str, reason: str) -> Plan:
    """Say no to a plan, with the reason; once its apply has begun, take back one's own approval of going on.

    Raises:
        UsageError: there is no reason.
        IllegalMove: the plan is past that, or the actor approved nothing.
    """
    reason = checked_reason(reason, "A rejection")
    acting(actor, database)
    tables.ensure(database)
    with database.session() as session:
        with _refusals_logged(session, plan, actor):
            state = states.current(session, plan, lock=True)
            if state not in BEGUN or not approvals.withdraw(session, plan, actor, reason):
                states.move(session, plan, "rejected", actor, reason=reason)
        seams.reached("before commit")
    return plans.load(database, workspace, plan)


@contextmanager
def _refusals_logged(session: Session, plan: str, actor: str) -> Generator[None]:
    """Whoever is refused, be it because somebody else was faster, is in the log too."""
    try:
        yield
    except Refused as error:
        session.rollback()
        approvals.log(session, plan, actor, refused=error.what)
        session.commit()
        raise


# -- the check -------------------------------------------------------------------------------------------


def check(
    session: Session, database: Database, workspace: Workspace, plan: str, actor: str, *, undoing: bool = False
) -> SignOff:
    """The check that stands before every write, in the executor itself; there is no way around it.

    A planned plan that standing sign-offs cover becomes approved here; that is committed at once.

    Args:
        undoing: a revert asks. It needs genuine approvals, whatever the clock says and whoever changed his mind.

    Raises:
        NotApproved: too few people other than the author approved this digest, or it expired.
        BundleChanged: a file of the bundle or a staged row is not what was approved.
        WrongDatabase: the plan was made elsewhere.
    """
    acting(actor, database)
    found = plans.read(session, workspace, plan)
    whole = intact(session, found, linted=not undoing)
    policy = stricter(workspace.policy.sign_off, whole.document["policy"])
    applier = None if policy.applier_may_approve or undoing else actor
    tally, by_standing = voices(session, database, workspace, found, applier, undoing=undoing)
    if len(tally.counted) < policy.approvals:
        raise _too_few(found, tally, policy)
    # What ships with recon is no person, and signs by its standing sign-off alone.
    people = [voice.person for voice in tally.counted if voice.standing is None or voice.person != SHIPS]
    for name in (*people, found.author):
        acting(name, database)
    if by_standing and not undoing and found.state in GOING_ON:
        _by_standing(session, found, actor, [voice.standing for voice in tally.counted if voice.standing])
    return SignOff(found, whole, tuple(voice.person for voice in tally.counted))


def voices(
    session: Session,
    database: Database,
    workspace: Workspace,
    found: Plan,
    applier: str | None,
    *,
    undoing: bool = False,
) -> tuple[Tally, bool]:
    """Whose yes counts for a plan: its approvals and, where they are too few, the standing sign-offs that cover it.

    Args:
        applier: a person whose voice does not count, because it is this person who applies; None: everybody's does.
        undoing: a revert asks.

    Returns:
        The voices, and whether standing sign-offs were looked for.
    """
    policy = stricter(workspace.policy.sign_off, found.document["policy"])
    signers = Signers.read(workspace.signers)

    def enough(tally: Tally) -> Tally:
        return tally.without(applier, signers) if applier is not None else tally

    tally = enough(given := approvals.given(session, found, policy, signers, undoing=undoing))
    if len(tally.counted) >= policy.approvals:
        return tally, False
    environment = standing.environment_of(workspace, database)
    more, refused = standing.covering(session, found.document, environment, policy, signers, undoing)
    return enough(given.with_more(more, found.author, signers).but(refused)), True


def approve_by_standing(database: Database, workspace: Workspace, plan: str, actor: str) -> Plan:
    """Take a planned plan to approved by the standing sign-offs that cover it.

    Raises:
        NotApproved: they do not cover it; says why.
        IllegalMove: the plan is not planned.
    """
    tables.ensure(database)
    with database.session() as session:
        state = states.current(session, plan, lock=True)
        if state != "planned":
            raise IllegalMove(f"Plan {plan} is {state}.", why="Only a planned one can be approved.")
        check(session, database, workspace, plan, actor)
    return plans.load(database, workspace, plan)


def _by_standing(session: Session, found: Plan, actor: str, used: list[str]) -> None:
    """Log that a plan goes on by standing sign-offs, move it where it waited for that, and commit."""
    state = states.current(session, found.plan, lock=True)
    if state not in GOING_ON:  # somebody was faster; whoever asked finds it out by the state
        return
    not_expired(session, found, actor)
    known = {item.id: item for item in standing.read(session, found.reconciliation)}
    for identity in used:
        detail: dict[str, object] = {
            "standing": identity,
            "digest": known[identity].digest,
            "plan_digest": found.digest,
        }
        audit.append(
            session, actor, "standing used", reconciliation=found.reconciliation, plan=found.plan, detail=detail
        )
    # The log has one writer at a time, and whoever withdraws one writes to it: what is read now is the last word.
    for item in standing.read(session, found.reconciliation):
        if item.id in used and item.withdrawn_at is not None:
            session.rollback()
            raise NotApproved(f"{item.id} was withdrawn just now.", why=f"{item.withdrawn_by} did.")
    if state == "planned":
        digests = {identity: known[identity].digest for identity in used}
        states.move(session, found.plan, "approved", actor, why="standing", standing=digests, digest=found.digest)
    session.commit()


def intact(session: Session, plan: Plan, *, linted: bool = True) -> Bundle:
    """The plan's bundle, after its files, the staged rows and the database were found to be the planned ones.

    Args:
        linted: refuse what lint refuses; a revert does without, for a rule that came later must not lock it out.
    """
    _as_kept(plan)
    whole = bundle.read(plan.bundle, plan.digest)
    document = whole.document
    if document["format"] != plans.FORMAT:
        raise BundleChanged(
            f"Plan {plan.plan} was made by {document['tool']}.",
            why="Its scripts count rows otherwise than this version does.",
            todo="Make a new plan with `recon plan`; what that version applied, it can also revert.",
        )
    if linted:
        lint.refuse(document, whole.scripts)
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


def _as_kept(plan: Plan) -> None:
    """Refuse a plan of which the database keeps something else than was signed. Raises BundleChanged."""
    todo = "See `recon audit`; make a new plan with `recon plan`."
    kept = bundle.digest(bundle.canonical(plan.document))
    if kept != plan.digest:
        raise BundleChanged(
            f"What the database keeps of plan {plan.plan} was changed.",
            why=f"Its sha256 is {kept[:16]}…, the plan's digest is {plan.digest[:16]}….",
            todo=todo,
        )
    if other := plan.otherwise:
        raise BundleChanged(
            f"What the database keeps of plan {plan.plan} was changed.",
            why=f"Not as in plan.json: {', '.join(other)}.",
            todo=todo,
        )


def not_expired(session: Session, plan: Plan, actor: str) -> None:
    """Refuse a plan that nobody applied in time, and log that it expired."""
    if plan.expires_at < datetime.now(UTC):
        if plan.state in ("planned", "approved"):
            states.move(session, plan.plan, "expired", actor)
            session.commit()
        undo = f" `recon revert {plan.plan}` undoes what was written." if plan.state in UNDOABLE else ""
        raise NotApproved(
            f"Plan {plan.plan} expired at {plan.expires_at:%Y-%m-%d %H:%M} UTC.",
            why="Its changes may no longer be right.",
            todo=f"Make a new plan with `recon plan`.{undo}",
        )


# -- what is said where it falls short -------------------------------------------------------------------


def _author(plan: Plan, actor: str) -> NotApproved:
    return NotApproved(
        f"{actor} made plan {plan.plan} and cannot approve it.",
        why="A plan needs the eyes of somebody else.",
        todo="Ask a colleague to run `recon approve`; RECON_USER says who acts.",
    )


def _unsigned(plan: Plan) -> NotApproved:
    return NotApproved(
        "Approvals recorded by name are not accepted for this plan.",
        why="recon.toml says recorded_by_name = false, here or where the plan was made.",
        todo=f"Sign it: `recon approve {plan.plan} --key FILE`; or elsewhere: {approvals.signing_command(plan)}"
        f" and then `recon approve {plan.plan} --signature plan.sig`.",
    )


def _too_few(plan: Plan, tally: Tally, policy: SignOffPolicy) -> NotApproved:
    author = f"It was made by {plan.author}, who cannot approve it." if not tally.counted else ""
    reasons = [f"{reason.rstrip('.')}." for reason in tally.refused[:SHOWN_REASONS]]
    return NotApproved(
        f"Plan {plan.plan} has {len(tally.counted)} of {policy.approvals} approvals.",
        why=" ".join(filter(None, (author, *reasons))),
        todo=f"Read {plan.bundle} and ask a reviewer to run `recon approve {plan.plan}`.",
    )
