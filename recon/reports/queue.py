"""Plans that are not at their end: what each of them waits for, since when, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from recon.backfill import plan as plans
from recon.backfill import sign_off, states
from recon.backfill.plan import Plan
from recon.backfill.voices import stricter
from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import ReconError
from recon.workspace import Workspace

# What a plan in each state waits for; a planned one also says how many approvals it has.
WAITS = {
    "planned": "a sign-off",
    "approved": "somebody who applies it",
    "applying": "the apply to end, or to be resumed if its process is gone",
    "interrupted": "somebody who resumes or reverts it: rows are half written",
    "apply_failed": "somebody who mends the cause, and resumes or reverts it",
    "applied": "its verification",
    "verify_failed": "somebody who looks why it is not proven, and verifies again or reverts it",
    "reverting": "the revert to end, or to be resumed if its process is gone",
}
EXPIRING = ("planned", "approved")  # the clock counts until an apply begins


@dataclass(frozen=True)
class Waiting:
    """A plan that waits; times are UTC."""

    plan: str
    state: str
    waits_for: str
    rows: int
    author: str
    since: datetime
    expires_at: datetime | None  # None: it does not expire any more


def read(session: Session, database: Database, workspace: Workspace, name: str) -> tuple[Waiting, ...]:
    """Every plan of a reconciliation that waits for something, the longest waiting first."""
    kept = tables.plans
    query = sa.select(kept.c.plan).where(kept.c.reconciliation == name, kept.c.state.in_(WAITS))
    found: list[Waiting] = []
    for identity in list(session.connection.execute(query).scalars()):
        plan = plans.read(session, workspace, identity)
        moves = states.log(session, identity)
        found.append(
            Waiting(
                plan=identity,
                state=plan.state,
                waits_for=_waits_for(session, database, workspace, plan),
                rows=plan.rows,
                author=plan.author,
                since=moves[-1]["at"] if moves else plan.created_at,
                expires_at=plan.expires_at if plan.state in EXPIRING else None,
            )
        )
    return tuple(sorted(found, key=lambda item: (item.since, item.plan)))


def _waits_for(session: Session, database: Database, workspace: Workspace, plan: Plan) -> str:
    said = WAITS[plan.state]
    if plan.state != "planned":
        return said
    needed = stricter(workspace.policy.sign_off, plan.document["policy"]).approvals
    try:
        tally, _ = sign_off.voices(session, database, workspace, plan, None)
    except ReconError as error:  # such as a bundle that is gone: the report says so and goes on
        return f"{said}; {error.what}"
    given = f" ({', '.join(tally.said)})" if tally.said else ""
    return f"{said} by somebody other than {plan.author}: {len(tally.counted)} of {needed} given{given}"
