"""Prove a backfill from outside: own connection, read-only, by the signed verify.sql."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recon.backfill import outside_told, sign_off, states, veils
from recon.backfill import plan as plans
from recon.backfill.change import Shape
from recon.backfill.executor import shown
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.errors import IllegalMove
from recon.workspace import Workspace

SHOWN_PROBLEMS = 20  # rows named; the count says how many there are
VERIFIABLE = ("applied", "verified", "verify_failed")


@dataclass(frozen=True)
class Verification:
    """What verify.sql found: no problem, or which rows are wrong or absent."""

    plan: str
    checked: int
    problems: int
    rows: list[dict[str, Any]]

    @property
    def right(self) -> bool:
        return self.problems == 0


def verify(database: Database, workspace: Workspace, plan: str) -> Verification:
    """Look for every planned change, in a read-only transaction of its own, and outside; changes no state.

    Raises:
        OutsideFailed: the outside system cannot be read: nothing is proven.
        IllegalMove: the plan was not applied.
        BundleChanged: verify.sql is not the signed one.
    """
    found = plans.load(database, workspace, plan)
    _verifiable(found)
    shape = Shape.of_document(found.document)
    keys, sources = len(shape.keys), len(shape.source_keys)
    with database.session(read_only=True) as session:
        # What is looked for is what was signed, not what stands in the staged rows by now.
        statement = sign_off.intact(session, found).scripts["verify.sql"]
        rows = session.rows(
            f"SELECT count(*) OVER (), wrong.* FROM ({statement}) AS wrong LIMIT $1::int",  # noqa: S608 (signed)
            SHOWN_PROBLEMS,
        )
    named = [
        # A row that was never inserted has no key of its own; it is known by its source's.
        {
            "key": shown(row[1 : 1 + keys] if row[1] is not None else row[1 + keys : 1 + keys + sources]),
            "problem": row[-1],
        }
        for row in rows
    ]
    outside = outside_told.wrong(database, found, workspace.variables, veils.for_viewer(workspace, found.document))
    named += outside[: max(0, SHOWN_PROBLEMS - len(named))]
    return Verification(plan, found.rows, (rows[0][0] if rows else 0) + len(outside), named)


def record(database: Database, plan: str, actor: str, *, right: bool, **detail: object) -> str:
    """Keep the outcome of a verification as the plan's state; returns the state.

    The caller stores the check results first: nothing is verified before its result is kept.
    """
    with database.session() as session:
        state = states.current(session, plan, lock=True)
        to = "verified" if right else "verify_failed"
        if state != to and not (state == "verified" and not right):
            states.move(session, plan, to, actor, **detail)
            state = to
    return state


def _verifiable(plan: Plan) -> None:
    if plan.state not in VERIFIABLE:
        waiting = plan.state in ("planned", "approved", "applying", "interrupted", "apply_failed")
        raise IllegalMove(
            f"Plan {plan.plan} is {plan.state}.",
            why="Only what was applied can be verified.",
            todo=f"Apply it first: `recon apply {plan.plan} --execute`." if waiting else "See `recon plans`.",
        )
