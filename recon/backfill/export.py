"""A plan's changes for an outside system as lines that other tools take: what differs of each record, and nothing else.

What is written is what the bundle holds, which is what is signed: nothing is read again from the tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from recon.backfill import bundle, sign_off, veils
from recon.backfill import plan as plans
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.errors import BundleChanged, Refused, UsageError
from recon.outside.interface import Edit
from recon.workspace import Workspace


@dataclass(frozen=True)
class Exported:
    """A plan that can be exported: its bundle is intact, and the acting person may see what it holds."""

    plan: Plan
    system: str  # of the records
    object: str
    digest: str  # sha256 of the lines

    def edits(self) -> Iterator[Edit]:
        """The changes in the plan's order, straight from the bundle; a row that changes nothing there has none.

        Raises:
            BundleChanged: the file was changed since it was found intact: what was given must not be used.
        """
        sha = hashlib.sha256()
        with (self.plan.bundle / bundle.OUTSIDE).open("rb") as lines:
            for line in lines:
                sha.update(line)
                document = json.loads(line)
                if document["after"]:
                    yield Edit(document["record"], document["before"], document["after"])
        if sha.hexdigest() != self.digest:
            raise BundleChanged(f"{bundle.OUTSIDE} was changed while it was read.", todo="Export again.")


def of(database: Database, workspace: Workspace, plan: str) -> Exported:
    """A plan's changes for an outside system.

    Raises:
        NotFound: there is no such plan.
        UsageError: the plan is for a table alone.
        BundleChanged, WrongDatabase: the bundle is not the one that was planned.
        Refused: the changes hold private values, and the acting person does not see them.
    """
    found = plans.load(database, workspace, plan)
    outside: dict[str, Any] | None = found.outside
    if outside is None:
        raise UsageError(
            f"Plan {plan} writes to no outside system.",
            why=f"{found.reconciliation} has no `outside` under its target.",
            todo=f"Its rows are in {found.bundle / 'changes.csv'}.",
        )
    held = {outside["record"], *outside["fields"]}
    marked = veils.for_viewer(workspace, found.document)
    ids = (found.document.get(veils.PRIVATE) or {"target": []})["target"] if not workspace.sees_private else []
    private = held & {*marked.columns, *ids}
    if private:
        raise Refused(
            f"An export of plan {plan} would show private columns: {', '.join(sorted(private))}.",
            why=veils.note(workspace, found.document) or "",
            todo="Ask somebody who may see them, with RECON_SHOW_PRIVATE=1.",
        )
    with database.session(read_only=True) as session:
        whole = sign_off.intact(session, found)
    return Exported(found, outside["system"], outside["object"], whole.document["files"][bundle.OUTSIDE])
