"""What an analyst does about a record: link, forbid, leave out, undo, assign. Each says in a sentence what was done."""

from __future__ import annotations

import json
from dataclasses import dataclass

import sqlalchemy as sa

from recon import workflow
from recon.database import tables
from recon.database.connect import Database
from recon.desk.explore import View
from recon.desk.explore_why import Why
from recon.errors import UsageError
from recon.matching import breaks, overrides
from recon.matching.run import Run
from recon.matching.standing import Override
from recon.spec import Reconciliation
from recon.workspace import Workspace

KINDS = {"link it to": "link", "never link it to": "forbid", "leave it out": "exclude"}  # as people choose
NEXT_RUN = "The next run takes account of it."
TYPED = "another record, by its key"


@dataclass(frozen=True)
class Choices:
    """What a form about a record offers."""

    candidates: dict[str, str | None]  # what people read, and the key; None: the key is typed
    standing: dict[str, Override]  # decisions that can be undone, as sentences


def choices(found: Why) -> Choices:
    """What can be chosen for a record: its candidates as they are shown, and what stands."""
    candidates: dict[str, str | None] = {
        f"{key} ({role})": str(key) for key, role in zip(found.candidates, found.roles, strict=True)
    }
    return Choices({**candidates, TYPED: None}, {sentence(item): item for item in found.standing})


def sentence(item: Override) -> str:
    """A standing decision as a sentence."""
    said = overrides.said(item.kind, _text(item.target_key), _text(item.source_key))
    return f"{said}: {item.reason} ({item.author}, {item.made_at:%Y-%m-%d %H:%M} UTC)"


def _text(key: object) -> str | None:
    if key is None:
        return None
    return json.dumps(key, ensure_ascii=False, default=str) if isinstance(key, (list, tuple)) else str(key)


def decide(
    database: Database, spec: Reconciliation, found: Why, *, kind: str, other: str, reason: str, actor: str
) -> str:
    """Link the record to another, forbid the pair, or leave the record out.

    Args:
        database: where the records are.
        spec: the reconciliation.
        found: the record.
        kind: one of the values of KINDS.
        other: the key of the other side's record; not asked for where the record is left out.
        reason: why; may not be blank.
        actor: who decides.

    Raises:
        UsageError: no reason or no other record.
        NotFound, AlreadyExists, Contradicted: as `recon decide` says.
    """
    if kind != "exclude" and not other.strip():
        raise UsageError("Say which record.", todo="Choose one of the candidates, or type a key.")
    own, theirs = ("target", "source") if found.side == "t" else ("source", "target")
    named: dict[str, str] = {own: found.key} if kind == "exclude" else {own: found.key, theirs: other.strip()}
    made = overrides.decide(
        database, spec, actor=actor, kind=kind, reason=reason, target=named.get("target"), source=named.get("source")
    )
    said = overrides.said(kind, made["target_key"], made["source_key"])
    return f"{said[0].upper()}{said[1:]}. {NEXT_RUN}"


def undo(database: Database, spec: Reconciliation, item: Override, *, reason: str, actor: str) -> str:
    """Undo a decision that stands.

    Raises:
        UsageError: no reason.
        NotFound: somebody undid it meanwhile.
    """
    target, source = _text(item.target_key), _text(item.source_key)
    overrides.undo(database, spec, actor=actor, reason=reason, target=target, source=source, kind=item.kind)
    return f"It no longer stands that {overrides.said(item.kind, target, source)}. {NEXT_RUN}"


def assign(database: Database, view: View, found: Why, *, who: str, actor: str) -> str:
    """Give the record's break to somebody, or to nobody again.

    Raises:
        UsageError: this is no name.
        NotFound: the record has no open break.
    """
    breaks.assign(database, view.run.reconciliation, who, actor, [found.key])
    return f"{found.key} is with {who.strip()}." if who.strip() else f"{found.key} is with nobody."


def waiting(database: Database, view: View) -> int:
    """How many decisions of people were made or undone since the run: the next one takes account of them."""
    made = tables.overrides.c
    since = sa.or_(made.made_at > view.run.started_at, made.undone_at > view.run.started_at)
    query = sa.select(sa.func.count()).where(made.reconciliation == view.run.reconciliation, since)
    with database.session(read_only=True) as session:
        return session.connection.execute(query).scalar_one()


def match_again(database: Database, workspace: Workspace, name: str) -> Run:
    """Decide every record anew, in the name of the acting person. Raises what `recon match` raises."""
    return workflow.match(database, workspace, workspace.spec(name), workspace.actor)
