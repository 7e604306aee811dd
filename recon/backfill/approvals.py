"""Approvals as they are kept: in the database, and each signature beside the bundle too, both checked at every use."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from recon.backfill import audit, bundle
from recon.backfill.plan import Plan
from recon.backfill.signatures import NAMESPACE, Signers
from recon.backfill.voices import RECORDED, SIGNED, Tally, Voice
from recon.database import tables
from recon.database.connect import Session
from recon.errors import BundleChanged, NotApproved
from recon.workspace import SignOffPolicy, folded, same_person

SIGNATURES = "signatures"  # the folder within a bundle; no file of it is in the manifest, for they come afterwards


def given(session: Session, plan: Plan, policy: SignOffPolicy, signers: Signers, *, undoing: bool) -> Tally:
    """The approvals of exactly this digest that count, and why others do not."""
    kept = tables.approvals
    query = sa.select(kept).where(kept.c.plan == plan.plan, kept.c.digest == plan.digest)
    voices: list[Voice] = []
    refused: list[str] = []
    for row in session.connection.execute(query.order_by(kept.c.at, kept.c.approver)):
        if row.withdrawn_at is not None and not undoing:
            refused.append(f"{row.approver} took it back")
        elif row.method == SIGNED:
            try:
                voices.append(_signed(plan, row.approver, row.signature, signers, row.at if undoing else None))
            except NotApproved as error:
                refused.append(f"{row.approver}: {error.what} {error.why}".strip())
        elif policy.recorded_by_name:
            voices.append(Voice(row.approver, None))
        else:
            refused.append(f"{row.approver} is recorded by name, which does not count here")
    return Tally(refused=tuple(refused)).with_more(voices, plan.author, signers)


def _signed(plan: Plan, approver: str, signature: str, signers: Signers, at: datetime | None) -> Voice:
    """A signature that lies beside the bundle, is the one in the database, and holds. Raises NotApproved."""
    path = signature_file(plan.bundle, approver)
    try:
        beside = path.read_bytes()
    except OSError as error:
        raise NotApproved(f"{path.name} cannot be read.", why=f"{error.strerror}.") from error
    if beside != signature.encode():
        raise NotApproved(f"{path.name} is not the signature that was given.")
    return Voice(approver, signers.verify(manifest(plan), signature, approver, at))


def signature_file(folder: Path, name: str) -> Path:
    """Where a person's signature lies in a bundle, whatever the name holds; two people never share a file.

    >>> signature_file(Path("b"), "Bob / Smith").as_posix()
    'b/signatures/bob-smith-0fe4c391.sig'
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")[:40] or "name"
    return folder / SIGNATURES / f"{slug}-{hashlib.sha256(folded(name).encode()).hexdigest()[:8]}.sig"


def signing_command(plan: Plan) -> str:
    """How a signature is made elsewhere, for --signature."""
    return f"ssh-keygen -Y sign -n {NAMESPACE} -f KEY < {shlex.quote(str(plan.bundle / bundle.MANIFEST))} > plan.sig"


def manifest(plan: Plan) -> bytes:
    """The very bytes that are signed. Raises BundleChanged where they are not those of the plan."""
    path = plan.bundle / bundle.MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BundleChanged(f"{path} cannot be read.", why=f"{error.strerror}.") from error
    if bundle.digest(text) != plan.digest:
        raise BundleChanged(f"{bundle.MANIFEST} is not the one that was planned.", todo="Make a new plan.")
    return text


def _names(session: Session, plan: str) -> list[str]:
    kept = tables.approvals
    return list(session.connection.execute(sa.select(kept.c.approver).where(kept.c.plan == plan)).scalars())


def log(session: Session, plan: str, actor: str, **detail: object) -> None:
    reconciliation = session.connection.execute(
        sa.select(tables.plans.c.reconciliation).where(tables.plans.c.plan == plan)
    ).scalar_one()
    audit.append(session, actor, "approval", reconciliation=reconciliation, plan=plan, detail=detail)


def keep(session: Session, found: Plan, voice: Voice, signature: str | None) -> None:
    """Write the approval in place of an earlier one by the same person, and its signature beside the bundle."""
    kept = tables.approvals
    mine = [name for name in _names(session, found.plan) if same_person(name, voice.person)]
    session.connection.execute(kept.delete().where(kept.c.plan == found.plan, kept.c.approver.in_(mine)))
    session.connection.execute(
        kept.insert().values(
            plan=found.plan,
            approver=voice.person,
            digest=found.digest,
            method=SIGNED if voice.key else RECORDED,
            signature=signature,
            key=voice.key.fingerprint if voice.key else None,
        )
    )
    if signature is not None:
        path = signature_file(found.bundle, voice.person)
        path.parent.mkdir(exist_ok=True)
        written = path.with_suffix(".new")
        written.write_bytes(signature.encode())
        os.replace(written, path)


def withdraw(session: Session, plan: str, actor: str, reason: str) -> bool:
    kept = tables.approvals
    mine = [name for name in _names(session, plan) if same_person(name, actor)]
    withdrawn = session.connection.execute(
        kept.update()
        .where(kept.c.plan == plan, kept.c.approver.in_(mine), kept.c.withdrawn_at.is_(None))
        .values(withdrawn_at=sa.func.clock_timestamp())
    ).rowcount
    if withdrawn:
        log(session, plan, actor, withdrawn=True, reason=reason)
    return bool(withdrawn)
