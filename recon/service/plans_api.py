"""One plan: what it holds, and yes or no to it by a person who did not make it. Nothing is applied here."""

from __future__ import annotations

import tempfile
from pathlib import Path as File
from typing import Annotated

from fastapi import APIRouter, Body, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from recon.backfill import approvals, plan_pages, review, sign_off
from recon.backfill import plan as plans
from recon.backfill.signatures import LONGEST_SIGNATURE
from recon.errors import NotFound, ReconError, Stale
from recon.service import shapes
from recon.service.answers import USUAL, clean, given
from recon.service.callers import Guarded, Reviewer, Viewer
from recon.service.place import Place
from recon.service.reconciliations import fields
from recon.service.shapes import plain
from recon.service.tokens import Caller
from recon.workspace import Workspace

LONGEST_REASON = 2_000  # characters
_TEXT = r"^[^\x00]*$"

router = APIRouter(prefix="/plans", tags=["plans"], route_class=Guarded, responses=USUAL)

Identity = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,99}$", description="The plan's id.")]


class Approval(BaseModel):
    """Yes to a plan."""

    model_config = ConfigDict(extra="forbid")
    digest: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="The digest of the plan that was read; refused where it is another.",
    )
    signature: str | None = Field(
        None, min_length=1, max_length=LONGEST_SIGNATURE, pattern=_TEXT,
        description="An armoured SSH signature over `manifest` (`ssh-keygen -Y sign -n recon-sign-off`). Absent: the yes is "
        "recorded by name, where the policy takes that.",
    )  # fmt: skip


class Rejection(BaseModel):
    """No to a plan."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field(
        min_length=1, max_length=LONGEST_REASON, pattern=_TEXT, description="Who reads it in a year must understand it."
    )


@router.get("/{plan}", summary="A plan as a reviewer reads it")
def one(request: Request, who: Viewer, plan: Identity) -> shapes.WholePlan:
    """What it would change, who said what to it, and what stands against it now."""
    place, workspace, found = _found(request, who, plan)
    seen = review.collect(place.database, workspace, plan)
    told = plain(seen.as_dict())
    return shapes.WholePlan(
        **fields(found),
        approvals=shapes.Approvals.model_validate(told["approvals"]),
        problems=[_short(request, error) for error in seen.problems],
        manifest=_manifest(found),
        **{name: told[name] for name in ("groups", "precision", "lint", "drift", "scripts", "private")},
    )


def _short(request: Request, error: ReconError) -> dict[str, str]:
    document = given(error)
    return {name: clean(request, document[name]) for name in ("error", "what", "why", "next")}


def _manifest(plan: plans.Plan) -> str | None:
    try:
        return approvals.manifest(plan).decode()
    except ReconError:
        return None


@router.post("/{plan}/approve", summary="Say yes to a plan")
def approve(
    request: Request, who: Reviewer, plan: Identity, given: Annotated[Approval | None, Body()] = None
) -> shapes.Plan:
    """The caller approves under the name of his token. The author cannot, and no voice counts twice."""
    place, workspace, found = _found(request, who, plan)
    given = given or Approval(digest=None, signature=None)
    if given.digest is not None and given.digest != found.digest:
        raise Stale("This is not the plan that was read.", why="It has another digest.", todo="Read it again.")
    if given.signature is None:
        approved = sign_off.approve(place.database, workspace, plan, workspace.actor, ask=False)
    else:
        with tempfile.TemporaryDirectory(prefix="recon-") as folder:
            path = File(folder) / "plan.sig"
            path.write_text(given.signature, encoding="utf-8", errors="replace")
            approved = sign_off.approve(place.database, workspace, plan, workspace.actor, signature=path, ask=False)
    return shapes.Plan(**fields(approved))


@router.post("/{plan}/reject", summary="Say no to a plan")
def reject(request: Request, who: Reviewer, plan: Identity, given: Rejection) -> shapes.Plan:
    """The plan is rejected; once its apply has begun, the caller takes back his own approval of going on."""
    place, workspace, _ = _found(request, who, plan)
    return shapes.Plan(**fields(sign_off.reject(place.database, workspace, plan, workspace.actor, given.reason)))


def _found(request: Request, who: Caller, plan: str) -> tuple[Place, Workspace, plans.Plan]:
    """The plan, and the workspace in which the caller acts.

    Raises:
        NotFound: there is none, or none that this caller may see; the answer is the same.
    """
    place: Place = request.app.state.place
    workspace = who.workspace(place.workspace)
    missing = NotFound(f"There is no plan {plan}.", why="None, at least, that this token is for.")
    try:
        found = plans.load(place.database, workspace, plan)
    except NotFound:
        raise missing from None  # without hints, which name plans of others
    if not _open(who, workspace, found.reconciliation) and not who.sees(plan_pages.scope(found)):
        raise missing
    return place, workspace, found


def _open(who: Caller, workspace: Workspace, reconciliation: str) -> bool:
    """Whether all that a reconciliation is about may be seen; of one whose spec is gone, nobody knows."""
    if who.scopes is None:
        return True
    try:
        return workspace.spec(reconciliation).scope is None
    except ReconError:
        return False
