"""Standing sign-offs: a reviewer signs once for the plans of one reconciliation, within limits, for unattended runs.

What is signed is a document of its own: reconciliation, digest of its rules, allowed actions, caps, environment,
database, the place of the outside system that is written too, and expiry. Any change of the rules makes another digest,
so it covers no plan by changed rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from recon.backfill import audit, bundle, outside_bundle, signatures
from recon.backfill.signatures import Signers
from recon.backfill.voices import RECORDED, SIGNED, Voice, acting
from recon.database import relations, tables
from recon.database.connect import Database, Session
from recon.errors import IllegalMove, NotApproved, NotFound, UsageError, did_you_mean
from recon.spec import Reconciliation
from recon.workspace import SignOffPolicy, Workspace
from recon.workspace import reason as checked_reason

KIND = "standing sign-off"  # so that no plan.json is ever taken for one, nor the other way round
ACTIONS = ("link", "update", "insert", "set")


@dataclass(frozen=True)
class Standing:
    """A standing sign-off as the database keeps it."""

    id: str
    text: str
    digest: str
    given_by: str
    method: str
    signature: str | None
    withdrawn_at: datetime | None
    withdrawn_by: str | None
    withdrawn_reason: str | None

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.text)

    @property
    def given(self) -> datetime:
        return datetime.fromisoformat(self.document["given"])

    @property
    def expires(self) -> datetime:
        return datetime.fromisoformat(self.document["expires"])

    def as_dict(self) -> dict[str, Any]:
        """What `recon standing --json` says of it."""
        return {
            **self.document,
            "digest": self.digest,
            "method": self.method,
            "withdrawn": self.withdrawn_at and self.withdrawn_at.isoformat(),
            "withdrawn_by": self.withdrawn_by,
            "withdrawn_reason": self.withdrawn_reason,
        }


def give(
    database: Database,
    workspace: Workspace,
    name: str,
    actor: str,
    *,
    rows: int,
    days: int,
    actions: Sequence[str],
    environment: str | None = None,
    key: Path | None = None,
) -> Standing:
    """Sign for the plans that a reconciliation will make by its rules of today.

    Args:
        rows: how many rows a plan may change at most.
        days: for how long it holds.
        actions: what its plans may do, of ACTIONS.
        environment: where; default: this one.
        key: the SSH key to sign with; without one it is recorded by name.

    Raises:
        UsageError: a limit makes no sense, or a setting is missing that says where the outside system is.
        NotFound: there is no such reconciliation, or its outside system is not installed.
        NotApproved: the policy wants a signature, or the key is not listed for this person.
    """
    acting(actor, database)
    policy = workspace.policy
    _sensible(rows, days, actions, policy.sign_off)
    spec = workspace.spec(name)
    tables.ensure(database)
    limits = Limits(sorted(set(actions)), rows, days, environment or environment_of(workspace, database))
    with database.session(read_only=True) as session:
        document = document_of(session, workspace, name, spec.digest, actor, limits)
    text = bundle.canonical(document)
    signature = fingerprint = None
    if key is not None:
        signature = signatures.sign(text.encode(), key)
        fingerprint = Signers.read(workspace.signers).verify(text.encode(), signature, actor).fingerprint
    elif not policy.sign_off.recorded_by_name:
        raise NotApproved(
            "A standing sign-off recorded by name is not accepted.",
            why="recon.toml says recorded_by_name = false.",
            todo=f"Sign it: `recon standing {name} --give … --key FILE`.",
        )
    with database.session() as session:
        keep(session, document, actor, signature=signature, key=fingerprint)
    return load(database, name, document["id"])


@dataclass(frozen=True)
class Limits:
    """What a standing sign-off covers."""

    actions: list[str]
    rows: int
    days: int
    environment: str


def document_of(
    session: Session, workspace: Workspace, name: str, rules: str, by: str, limits: Limits
) -> dict[str, Any]:
    """What is signed."""
    given = datetime.now(UTC).replace(microsecond=0)
    return {
        "kind": KIND,
        "id": tables.new_id(f"standing_{name}"),
        "reconciliation": name,
        "spec_digest": rules,
        "actions": limits.actions,
        "caps": {"rows": limits.rows, "tolerance_rows": workspace.policy.plan.tolerance_rows},
        "environment": limits.environment,
        "database": relations.identity(session),
        "outside": outside_of(workspace.spec(name), workspace),
        "given": given.isoformat(),
        "expires": (given + timedelta(days=limits.days)).isoformat(),
        "given_by": by,
        "policy": workspace.policy.sign_off.model_dump(),
    }


def keep(
    session: Session,
    document: dict[str, Any],
    actor: str,
    *,
    signature: str | None = None,
    key: str | None = None,
    **detail: object,
) -> None:
    """Write it down, and in the log that `actor` had it written; `detail` is what else the log says."""
    text, name = bundle.canonical(document), document["reconciliation"]
    row: dict[str, Any] = {
        "id": document["id"], "reconciliation": name, "document": text, "digest": bundle.digest(text),
        "given_by": document["given_by"], "method": SIGNED if signature else RECORDED, "signature": signature,
        "key": key,
    }  # fmt: skip
    session.connection.execute(tables.standing_sign_offs.insert().values(**row))
    said: dict[str, object] = {part: row[part] for part in ("digest", "method", "key")}
    said |= {"standing": document["id"], **detail}
    audit.append(session, actor, "standing given", reconciliation=name, detail=said)


def outside_of(spec: Reconciliation, workspace: Workspace) -> dict[str, str] | None:
    """Where plans of a spec write outside, by the settings here; None: they write tables only. Raises UsageError, NotFound."""
    if (outside := spec.target.outside) is None:
        return None
    where = outside_bundle.place(outside, workspace.variables)
    return {"system": outside.system, "object": outside.object, "place": where}


def _sensible(rows: int, days: int, actions: Sequence[str], policy: SignOffPolicy) -> None:
    if rows < 1 or days < 1:
        raise UsageError("A standing sign-off is for one row and one day at least.", todo="Give --rows and --days.")
    if days > policy.standing_days:
        raise UsageError(
            f"A standing sign-off holds for {policy.standing_days} days at most.",
            why="recon.toml says so (standing_days).",
            todo="Give fewer --days, and give it again in time.",
        )
    if not actions:
        raise UsageError("Which actions may the plans hold?", todo=f"Give --action {', --action '.join(ACTIONS)}.")
    for action in actions:
        if action not in ACTIONS:
            raise UsageError(
                f'There is no action "{action}".', why=did_you_mean(action, ACTIONS), todo=f"Use {', '.join(ACTIONS)}."
            )


def withdraw(database: Database, name: str, identity: str, actor: str, reason: str) -> Standing:
    """End a standing sign-off: from now on it covers nothing but the undoing of what was written under it.

    Raises:
        UsageError: there is no reason.
        NotFound, IllegalMove: there is no such standing sign-off, or it was withdrawn before.
    """
    reason = checked_reason(reason, "A withdrawal")
    acting(actor, database)
    found = load(database, name, identity)
    kept = tables.standing_sign_offs
    with database.session() as session:
        changed = session.connection.execute(
            kept.update()
            .where(kept.c.id == identity, kept.c.withdrawn_at.is_(None))
            .values(withdrawn_at=sa.func.clock_timestamp(), withdrawn_by=actor, withdrawn_reason=reason)
        ).rowcount
        if not changed:
            raise IllegalMove(
                f"{identity} was withdrawn before.",
                why="It covers nothing since then, and is withdrawn once.",
                todo=f"See `recon standing {name}`.",
            )
        detail: dict[str, object] = {"standing": identity, "digest": found.digest, "reason": reason}
        audit.append(session, actor, "standing withdrawn", reconciliation=name, detail=detail)
    return load(database, name, identity)


def listed(database: Database, name: str) -> list[Standing]:
    """The standing sign-offs of a reconciliation, newest first."""
    tables.ensure(database)
    with database.session(read_only=True) as session:
        return read(session, name)


def read(session: Session, name: str) -> list[Standing]:
    kept = tables.standing_sign_offs
    query = sa.select(kept).where(kept.c.reconciliation == name).order_by(kept.c.given_at.desc(), kept.c.id.desc())
    return [
        Standing(
            id=row.id, text=row.document, digest=row.digest, given_by=row.given_by, method=row.method,
            signature=row.signature, withdrawn_at=row.withdrawn_at, withdrawn_by=row.withdrawn_by,
            withdrawn_reason=row.withdrawn_reason,
        )
        for row in session.connection.execute(query)
    ]  # fmt: skip


def load(database: Database, name: str, identity: str) -> Standing:
    """One standing sign-off by its id. Raises NotFound."""
    found = {item.id: item for item in listed(database, name)}
    if identity not in found:
        raise NotFound(
            f"{name} has no standing sign-off {identity}.",
            why=did_you_mean(identity, found), todo=f"See `recon standing {name}`.",
        )  # fmt: skip
    return found[identity]


# -- whether one covers a plan ---------------------------------------------------------------------------


def covering(
    session: Session, plan: Mapping[str, Any], environment: str, policy: SignOffPolicy, signers: Signers, undoing: bool
) -> tuple[list[Voice], list[str]]:
    """The voices of the standing sign-offs that cover a plan, and why the others do not.

    Args:
        plan: the plan's document, found intact.
        environment: where this runs.
        policy: the stricter one of here and of the plan.
        undoing: time and withdrawal end what may be written, never what may be undone.
    """
    voices: list[Voice] = []
    refused: list[str] = []
    for item in read(session, plan["reconciliation"]):
        reason = why_not(item, plan, environment, policy, undoing)
        if not reason:
            try:
                voices.append(_voice(item, signers, undoing))
            except NotApproved as error:
                reason = f"{error.what} {error.why}".strip()
        if reason:
            refused.append(f"{item.id} does not cover it: {reason}")
    return voices, refused


def why_not(
    item: Standing, plan: Mapping[str, Any], environment: str, policy: SignOffPolicy, undoing: bool = False
) -> str:
    """Why a standing sign-off does not cover a plan; nothing: its limits do."""
    document = item.document
    now, longest = datetime.now(UTC), item.given + timedelta(days=policy.standing_days)
    actions = {action for action, count in plan["actions"].items() if count}
    beyond = sorted(actions - set(document["actions"]))
    caps = document["caps"]
    meant = (KIND, item.id, item.given_by, plan["reconciliation"])
    tests = (
        (
            item.digest != bundle.digest(item.text)
            or (document.get("kind"), document["id"], document["given_by"], document["reconciliation"]) != meant,
            "it was changed after it was given",
        ),
        (item.method == RECORDED and not policy.recorded_by_name, "it is recorded by name, which does not count here"),
        (not undoing and item.withdrawn_at is not None, f"{item.withdrawn_by} withdrew it"),
        (not undoing and now >= min(item.expires, longest), "it expired"),
        (document["spec_digest"] != plan["spec_digest"], "the rules changed since"),
        (bool(beyond), f"it does not allow {', '.join(beyond)}"),
        (not actions, "the plan does not say what it does"),
        (plan["rows"] > caps["rows"], f"the plan has {plan['rows']:,} rows, it allows {caps['rows']:,}"),
        (
            plan["tolerance_rows"] > caps["tolerance_rows"],
            f"the plan tolerates {plan['tolerance_rows']} changed rows, it allows {caps['tolerance_rows']}",
        ),
        (bool(plan.get("over_cap")), "the plan is over a cap of its spec"),
        (
            not document["environment"] == plan["environment"] == environment,
            f"it is for {document['environment']}",
        ),
        (document["database"] != plan["database"], "it is for another database"),
        (bool(elsewhere := _elsewhere(document, plan, undoing)), elsewhere),
    )
    return next((reason for failed, reason in tests if failed), "")


def _elsewhere(document: Mapping[str, Any], plan: Mapping[str, Any], undoing: bool) -> str:
    """Why a plan may not write where it does outside; nothing: it may, or it writes tables only."""
    planned: Mapping[str, Any] | None = plan.get("outside")
    if not planned:
        return ""
    given: Mapping[str, Any] | None = document.get("outside")
    if not given:  # given before places were named; what was written under it then may be undone
        return "" if undoing else f"it does not say for which place of {planned['system']} it is"
    same = all(given.get(part) == planned[part] for part in ("system", "object", "place"))
    return "" if same else f"it is for another place of {planned['system']}"


def _voice(item: Standing, signers: Signers, undoing: bool) -> Voice:
    if item.method == RECORDED:
        return Voice(item.given_by, None, item.id)
    at = item.given if undoing else None
    key = signers.verify(item.text.encode(), item.signature or "", item.given_by, at)
    return Voice(item.given_by, key, item.id)


def environment_of(workspace: Workspace, database: Database) -> str:
    """Where this runs: RECON_ENVIRONMENT, else what the kind of database says."""
    return workspace.settings.environment or database.environment
