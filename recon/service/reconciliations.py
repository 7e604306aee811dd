"""Runs, decisions, breaks and plans of each reconciliation, for whoever may look.

Where a spec has a `scope`, a caller whose token is not for all organisations sees what is of his own: never a run or a
plan over all of them. Private columns are veiled, whoever looks.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request

from recon.backfill import plan as plans
from recon.backfill import plan_pages
from recon.database import tables
from recon.errors import ReconError
from recon.matching import pages
from recon.matching.bind import bind
from recon.service import cursors, shapes
from recon.service.answers import USUAL
from recon.service.callers import Guarded, Viewer
from recon.service.cursors import USUAL_ROWS, Cursor, Limit
from recon.service.place import Place
from recon.service.shapes import plain
from recon.service.tokens import Caller
from recon.spec import Reconciliation

router = APIRouter(prefix="/reconciliations", tags=["reconciliations"], route_class=Guarded, responses=USUAL)

Name = Annotated[
    str, Path(pattern=r"^[a-z][a-z0-9_]{0,47}$", description="The reconciliation, as GET /reconciliations names it.")
]
RunId = Annotated[
    str | None,
    Query(pattern=r"^[0-9a-z_]{1,64}$", description="A run's id; absent: the latest that the caller may see."),
]
Outcome = Literal[
    "linked", "matched", "proposed", "ambiguous", "unmatched", "excluded", "same", "changed", "invalid", "missing", "orphan"
]  # fmt: skip
State = Literal["open", "assigned", "resolved", "all"]


def scopes_of(who: Caller, spec: Reconciliation) -> list[str] | None:
    """Of which scopes a caller sees what a spec is about; None: of all."""
    return None if spec.scope is None or who.scopes is None else sorted(who.scopes)


@router.get("", summary="The reconciliations that there are")
def listed(request: Request, who: Viewer) -> shapes.Reconciliations:
    """Every reconciliation of the workspace and the shipped ones."""
    workspace = _place(request).workspace
    return shapes.Reconciliations(reconciliations=[_described(workspace, name) for name in workspace.reconciliations()])


def _described(workspace: Any, name: str) -> shapes.Reconciliation:
    try:
        spec: Reconciliation = workspace.spec(name)
    except ReconError as error:
        return shapes.Reconciliation(
            name=name, title="", group=None, scope=None, cardinality=None, passes=[], problem=type(error).__doc__
        )
    return shapes.Reconciliation(
        name=name, title=spec.title, group=spec.group, scope=spec.scope, cardinality=spec.cardinality,
        passes=[rule.name for rule in spec.passes], problem=None,
    )  # fmt: skip


@router.get("/{name}/runs", summary="Its runs, newest first")
def runs(request: Request, who: Viewer, name: Name, limit: Limit = USUAL_ROWS, cursor: Cursor = None) -> shapes.Runs:
    """Where the reconciliation has a scope, a caller who is not for all organisations sees runs of his own alone."""
    place = _place(request)
    spec, of = place.workspace.spec(name), f"runs {name}"
    page = pages.runs(place.database, name, limit, scopes_of(who, spec), cursors.read(of, cursor))
    return shapes.Runs(runs=[_run(row) for row in page.rows], next=cursors.written(of, page.behind))


def _run(row: dict[str, Any]) -> shapes.Run:
    counted = {name: dict(row[name] or {}) for name in ("outcomes", "reasons")}
    return shapes.Run.model_validate({**row, **counted}, extra="ignore")


@router.get("/{name}/decisions", summary="What a run decided about each record")
def decisions(
    request: Request, who: Viewer, name: Name, run: RunId = None,
    outcome: Annotated[list[Outcome] | None, Query(max_length=20, description="Only these; may be repeated.")] = None,
    limit: Limit = USUAL_ROWS, cursor: Cursor = None,
) -> shapes.Decisions:  # fmt: skip
    """In the order of keys. The pages of one list are of one run, also where the next one ends meanwhile."""
    place = _place(request)
    spec, of = place.workspace.spec(name), f"decisions {name} {run or ''} {','.join(sorted(outcome or []))}"
    scopes, behind = scopes_of(who, spec), cursors.read(of, cursor)
    tables.ensure(place.database)
    with place.database.session(read_only=True) as session:
        at = str(behind.pop(0)) if behind else run
        found = pages.latest(session, name, scopes, at)
        bound = bind(session, spec)
        page = pages.decisions(session, bound, found, limit, outcomes=outcome or (), scopes=scopes, behind=behind)
    return shapes.Decisions(
        run=found,
        decisions=[shapes.Decision.model_validate(plain(row)) for row in page.rows],
        next=cursors.written(of, None if page.behind is None else [found, *page.behind]),
    )


@router.get("/{name}/breaks", summary="What is not reconciled, since when, and who sees to it")
def breaks(
    request: Request, who: Viewer, name: Name,
    state: Annotated[State | None, Query(description="Absent: open and assigned.")] = None,
    outcome: Annotated[Outcome | None, Query(description="Only of this one.")] = None,
    side: Annotated[Literal["target", "source"] | None, Query(description="Only of this side.")] = None,
    assignee: Annotated[
        str | None, Query(min_length=1, max_length=200, description="Only those that this person sees to.")
    ] = None,
    limit: Limit = USUAL_ROWS, cursor: Cursor = None,
) -> shapes.Breaks:  # fmt: skip
    """The oldest first."""
    place = _place(request)
    spec, of = place.workspace.spec(name), f"breaks {name} {state or ''} {outcome or ''} {side or ''} {assignee or ''}"
    scopes, behind = scopes_of(who, spec), cursors.read(of, cursor)
    tables.ensure(place.database)
    with place.database.session(read_only=True) as session:
        page = pages.breaks(
            session, name, limit, state=state, outcome=outcome, side=side, assignee=assignee, behind=behind,
            within=None if scopes is None else (bind(session, spec), scopes),
        )  # fmt: skip
    found = [shapes.Break.model_validate(row) for row in page.rows]
    return shapes.Breaks(breaks=found, next=cursors.written(of, page.behind))


@router.get("/{name}/plans", summary="Its plans, newest first")
def its_plans(
    request: Request, who: Viewer, name: Name,
    state: Annotated[
        str | None, Query(pattern=r"^[a-z_]{1,40}$", description="Only those in it, such as planned or verified.")
    ] = None,
    limit: Limit = USUAL_ROWS, cursor: Cursor = None,
) -> shapes.Plans:  # fmt: skip
    """A plan over all organisations is shown to callers only who may see all of them."""
    place = _place(request)
    spec, of = place.workspace.spec(name), f"plans {name} {state or ''}"
    found, behind = plan_pages.page(
        place.database, place.workspace, name, limit,
        state=state, scopes=scopes_of(who, spec), behind=cursors.read(of, cursor),
    )  # fmt: skip
    return shapes.Plans(plans=[shapes.Plan(**fields(plan)) for plan in found], next=cursors.written(of, behind))


def fields(plan: plans.Plan) -> dict[str, Any]:
    """What a list of plans tells of each."""
    return {
        "plan": plan.plan, "reconciliation": plan.reconciliation, "run": plan.run, "scope": plan_pages.scope(plan),
        "state": plan.state, "digest": plan.digest, "author": plan.author, "rows": plan.rows,
        "actions": plan.document.get("actions", {}), "created_at": plan.created_at, "expires_at": plan.expires_at,
    }  # fmt: skip


def _place(request: Request) -> Place:
    return request.app.state.place
