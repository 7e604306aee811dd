"""A reviewer signs a report: "I have seen this". What is signed is the file's digest, so a changed file is no longer it.

The rules are those of plans: whoever made the report cannot be the one who signs it; with an SSH key it is a proof,
by name it is a record, and only where the policy allows records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from recon.backfill import audit, signatures
from recon.backfill.signatures import Signers
from recon.backfill.voices import RECORDED, SIGNED, Voice, acting, same_voice
from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import BundleChanged, IllegalMove, NotApproved, NotFound, did_you_mean
from recon.names import storable
from recon.workspace import Workspace, same_person

EVENT = "report signed"  # of the audit log; its detail names report, file and digest
_runs = tables.notebook_runs


@dataclass(frozen=True)
class Signed:
    """A signed report."""

    report: str
    reconciliation: str
    file: str
    digest: str  # sha256 of the file, hex
    author: str  # who made the report
    signed_by: str
    signed_at: datetime
    method: str  # signed, or recorded: by name, a record and not a proof
    key: str | None  # the fingerprint of the key that signed

    def as_dict(self) -> dict[str, Any]:
        """The document of `recon report NAME --sign REPORT --json`."""
        return {**vars(self), "signed_at": self.signed_at.isoformat()}


def text(digest: str, file: str) -> bytes:
    """What is signed: the line that `sha256sum FILE` prints.

    >>> text("ab12", "rent-20261121T070000Z.html")
    b'ab12  rent-20261121T070000Z.html\\n'
    """
    return f"{digest}  {file}\n".encode()


def sign(
    database: Database, workspace: Workspace, name: str, report: str, actor: str, *, key: Path | None = None
) -> Signed:
    """Sign a report, with an SSH key or by name.

    Args:
        database: where reports are kept account of.
        workspace: where the file, the policy and the list of signers are.
        name: the reconciliation.
        report: the report's HTML file, or its id (the file's name without ending).
        actor: who signs.
        key: a private key, or the .pub file of one that an agent holds; None: recorded by name.

    Raises:
        NotFound: there is no such report, or its file is gone.
        BundleChanged: the file is not the one that was made.
        NotApproved: whoever made it cannot sign it, the policy wants signatures, or the key is not the actor's.
        IllegalMove: it failed, or it is signed already.
    """
    acting(actor, database)
    tables.ensure(database)
    with database.session(read_only=True) as session:
        found = _found(session, name, report)
    path = Path(report) if _is_file(report) else workspace.reports / found["file"]
    _unsigned(found, actor)
    signature, voice = None, Voice(actor, None)
    signers = Signers.read(workspace.signers)
    _unchanged(path, found)
    if key is not None:  # before a row is locked: a person may have to type a passphrase
        line = text(found["digest"], found["file"])
        signature = signatures.sign(line, key)
        voice = Voice(actor, signers.verify(line, signature, actor))
    elif not workspace.policy.sign_off.recorded_by_name:
        raise NotApproved(
            "This workspace wants signatures, not names.",
            why="recon.toml says recorded_by_name = false.",
            todo=f"Sign it: `recon report {name} --sign {report} --key FILE`.",
        )
    if why := same_voice(voice, Voice(found["actor"], None), signers):
        raise _author(found, f"In the workspace's list of signers {why}.")
    with database.session() as session:
        return _keep(session, found["id"], name, path, voice, signature)


def proof(workspace: Workspace, row: Mapping[str, Any]) -> str:
    """What the signature of a kept report is worth today, in words."""
    if row["signature"] is None:
        return "recorded by name: a record, not a proof"
    try:
        line = text(row["digest"], row["file"])
        Signers.read(workspace.signers).verify(line, row["signature"], row["signed_by"], row["signed_at"])
    except NotApproved as error:
        return f"signed with the key {row['key']}, which does not hold: {error.what} {error.why}".strip()
    return f"signed with the key {row['key']}, and the signature holds"


def _keep(session: Session, identity: str, name: str, path: Path, voice: Voice, signature: str | None) -> Signed:
    """Write who signed, in one transaction with the entry of the log."""
    locked = sa.select(_runs).where(_runs.c.id == identity).with_for_update()
    row = session.connection.execute(locked).mappings().one()
    _unsigned(row, voice.person)
    _unchanged(path, row)
    fingerprint = voice.key.fingerprint if voice.key else None
    method = SIGNED if voice.key else RECORDED
    at = session.connection.execute(
        _runs.update()
        .where(_runs.c.id == identity)
        .values(signed_by=voice.person, signed_at=sa.func.clock_timestamp(), signature=signature, key=fingerprint)
        .returning(_runs.c.signed_at)
    ).scalar_one()
    detail: dict[str, object] = {
        "report": identity, "file": row["file"], "digest": row["digest"], "method": method, "key": fingerprint,
    }  # fmt: skip
    audit.append(session, voice.person, EVENT, reconciliation=name, detail=detail)
    return Signed(
        identity, name, row["file"], row["digest"], row["actor"], voice.person, at, method, fingerprint
    )  # fmt: skip


# -- what must hold --------------------------------------------------------------------------------------


def _is_file(report: str) -> bool:
    try:
        return Path(report).is_file()
    except (OSError, ValueError):  # such as a name that is too long
        return False


def _found(session: Session, name: str, report: str) -> Any:
    """The row of a report, by its id or by the name of its file."""
    last = Path(report).name
    query = sa.select(_runs).where(
        _runs.c.reconciliation == name, _runs.c.digest.is_not(None), sa.or_(_runs.c.id == last, _runs.c.file == last)
    )
    row = session.connection.execute(query.limit(1)).mappings().first() if storable(report) else None
    if row is None:
        known = sa.select(_runs.c.id).where(_runs.c.reconciliation == name, _runs.c.digest.is_not(None))
        ids = list(session.connection.execute(known.order_by(_runs.c.started_at.desc())).scalars())
        latest = f"The latest is {ids[0]}." if ids else "None has been made yet."
        raise NotFound(
            f"{name} has no report {report!r}.",
            why=did_you_mean(last, ids) or latest,
            todo=f"Make one with `recon report {name}`, and sign it by its file or its id.",
        )
    return row


def _unsigned(row: Any, actor: str) -> None:
    if row["state"] != "success":
        raise IllegalMove(
            f"The report {row['id']} is {row['state']}.",
            why="Only a finished one can be signed.",
            todo=f"Make a new one with `recon report {row['reconciliation']}`.",
        )
    if row["signed_by"] is not None:
        raise IllegalMove(
            f"The report {row['id']} is signed already.",
            why=f"{row['signed_by']} did, {row['signed_at']:%Y-%m-%d}.",
            todo="Nothing is left to do; a later report is signed by itself.",
        )
    if same_person(actor, row["actor"]):
        raise _author(row, f"{row['actor']} made it.")


def _author(row: Any, why: str) -> NotApproved:
    return NotApproved(
        f"The report {row['id']} is signed by somebody else than its author.",
        why=why,
        todo="Ask a reviewer to read and to sign it.",
    )


def _unchanged(path: Path, row: Any) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotFound(
            f"The file of the report {row['id']} cannot be read.",
            why=f"{path}: {error.strerror}.",
            todo="Give its path with --sign FILE, or make a new report.",
        ) from error
    if hashlib.sha256(content).hexdigest() != row["digest"]:
        raise BundleChanged(
            f"{path.name} is not the report that was made.",
            why="Its sha256 is not the one that was kept when it was made.",
            todo="Make a new report, or take the file from where it was not changed.",
        )
