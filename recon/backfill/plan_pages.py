"""Plans page by page, newest first; of some scopes only where asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
import sqlalchemy.exc as sa_exc

from recon.backfill import plan as plans
from recon.backfill.plan import Plan
from recon.database import tables
from recon.database.connect import Database
from recon.errors import UsageError
from recon.workspace import Workspace


def scope(plan: Plan) -> str | None:
    """The only scope that a plan is of; None: of all, or its reconciliation has none."""
    return (plan.document.get("run_limited") or {}).get("scope")


def page(
    database: Database,
    workspace: Workspace,
    reconciliation: str,
    limit: int,
    *,
    state: str | None = None,
    scopes: Sequence[str] | None = None,
    behind: Sequence[Any] | None = None,
) -> tuple[list[Plan], list[Any] | None]:
    """Plans of a reconciliation, and behind what the next page begins; None: this was the last.

    Args:
        database: where they are kept.
        workspace: where their bundles are.
        reconciliation: its name.
        limit: rows of a page.
        state: only those in it.
        scopes: plans of one of these alone; None: all plans.
        behind: what the page before gave.

    Raises:
        UsageError: `behind` is of no such list.
    """
    tables.ensure(database)
    kept = tables.plans
    query = sa.select(kept.c.plan, kept.c.created_at).where(kept.c.reconciliation == reconciliation)
    if state is not None:
        query = query.where(kept.c.state == state)
    if scopes is not None:
        query = query.where(plans.scope_of_plan().in_(scopes))
    if behind is not None:
        if len(behind) != 2 or not all(isinstance(part, str) for part in behind):
            raise _no_place()
        at = sa.cast(behind[0], sa.DateTime(timezone=True))
        query = query.where(sa.tuple_(kept.c.created_at, kept.c.plan) < sa.tuple_(at, sa.literal(behind[1])))
    query = query.order_by(kept.c.created_at.desc(), kept.c.plan.desc()).limit(limit + 1)
    with database.session(read_only=True) as session:
        try:
            found = session.connection.execute(query).all()
        except sa_exc.DataError as error:
            raise _no_place() from error
        rows = [plans.read(session, workspace, row.plan) for row in found[:limit]]
    last = found[limit - 1] if len(found) > limit else None
    return rows, [last.created_at.isoformat(), last.plan] if last else None


def _no_place() -> UsageError:
    return UsageError("The cursor names no place in this list.", todo="Ask for the first page, without a cursor.")
