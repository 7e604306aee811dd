"""Payments here and in a shop outside, to be linked in both: what many tests of such plans do with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import replay, sign_off, states
from recon.backfill import revert as reverting
from recon.backfill import verify as verifying
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.matching import run as runs
from recon.workspace import Workspace
from tests.shop import Shop
from tests.support import rows, simple_spec

ROWS = 25
KEPT = "SELECT DISTINCT state, attempts FROM recon.outside_changes WHERE plan = $1"


@dataclass
class Books:
    """Payments here and in the shop, to be linked in both."""

    database: Database
    workspace: Workspace
    shop: Shop

    def spec(self, **fields: Any) -> Any:
        outside = {"system": "shop", "object": "payments", "record": "shop_id", "fields": {"lease_id": "Lease"}}
        return simple_spec(**({"target": {"table": "pay", "key": "id", "outside": outside}} | fields))

    def plan(self, **fields: Any) -> Plan:
        spec = self.spec(**fields)
        runs.match(self.database, spec, "ann")
        made = plans.make(self.database, self.workspace, spec, "ann")
        assert made is not None
        return sign_off.approve(self.database, self.workspace, made.plan, "bob")

    def apply(self, plan: Plan, **options: Any) -> applying.Applied:
        return applying.apply(self.database, self.workspace, plan.plan, "ann", execute=True, **options)

    def dry_run(self, plan: Plan) -> applying.Applied:
        return applying.apply(self.database, self.workspace, plan.plan, "ann")

    def revert(self, plan: Plan, *, execute: bool = True) -> reverting.Reverted:
        return reverting.revert(self.database, self.workspace, plan.plan, "ann", execute=execute)

    def verify(self, plan: Plan) -> verifying.Verification:
        return verifying.verify(self.database, self.workspace, plan.plan)

    def state(self, plan: Plan) -> str:
        with self.database.session() as session:
            return states.current(session, plan.plan)

    def tolerant(self, rows: int) -> None:
        (self.workspace.root / "recon.toml").write_text(f"[plan]\ntolerance_rows = {rows}\n")
        self.workspace = Workspace(self.workspace.root)

    @property
    def linked(self) -> list[int]:
        return [row[0] for row in rows(self.database, "SELECT id FROM pay WHERE lease_id IS NOT NULL ORDER BY id")]

    @property
    def leases(self) -> dict[str, str | None]:
        return {record: fields["Lease"] for record, fields in self.shop.records.items()}

    def intact(self) -> None:
        """The log and what stands beside it agree."""
        assert replay.replay(self.database).findings == ()


EVERYTHING = {f"rec{n}": str(n) for n in range(1, ROWS + 1)}
