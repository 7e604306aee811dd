"""What changes records: plan, sign-off, apply, verify, revert."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon import workflow
from recon.api import planned
from recon.api.arguments import all_looked_at
from recon.api.place import Place, Spec
from recon.backfill import absences, sign_off
from recon.backfill import apply as applying
from recon.backfill import export as exporting
from recon.backfill import plan as planning
from recon.backfill import revert as reverting
from recon.backfill import review as reviewing
from recon.backfill import standing as sign_offs
from recon.backfill.applied import Applied
from recon.backfill.plan import Plan
from recon.backfill.revert import Reverted
from recon.backfill.review import Review
from recon.backfill.standing import Standing
from recon.systems import exported
from recon.workflow import Verified

if TYPE_CHECKING:
    import pandas as pd


@all_looked_at
class Backfill(Place):
    """The methods that change records, by the same checks as the commands."""

    def plan(
        self,
        name: Spec,
        *,
        passes: Sequence[str] = (),
        run: str | None = None,
        limited: bool = False,
        over_cap: bool = False,
    ) -> Plan | None:
        """Freeze what a run would change as a plan and its bundle; None where nothing would change.

        Args:
            name: a reconciliation, or a spec.
            passes: only of these passes; none: of all.
            run: a run; None: the latest.
            limited: plan from a limited run on purpose.
            over_cap: take more orphans than the spec's cap, never all of a scope.

        Raises:
            NotFound: there is no such run or pass.
            Stale: the run followed other rules than the spec has now.
            OverCap: more orphans than the cap.

        >>> plan = bench.plan("rent_payments")
        >>> plan.state, plan.rows, plan.author
        ('planned', 10, 'ann')
        """
        spec = self._spec(name)
        return planning.make(
            self.database,
            self.workspace,
            spec,
            self.actor,
            run=run,
            passes=passes,
            allow_limited=limited,
            over_cap=over_cap,
            lookup=None if over_cap else absences.of_people(spec),  # with it, a person says that they are gone
        )

    def plans(self, name: str | None = None) -> list[Plan]:
        """Every plan, the newest first. Raises NotFound where there is no such reconciliation.

        >>> made = bench.plan("rent_payments")
        >>> [plan.state for plan in bench.plans("rent_payments")]
        ['planned']
        """
        found = planning.listed(self.database, self.workspace, name)
        self._known(name, found)
        return found

    def review(self, plan: str) -> Review:
        """What a reviewer needs before signing: rows of each pass, precision, lint, drift, scripts, the digest.

        Raises:
            NotFound: there is no such plan.

        >>> plan = bench.plan("rent_payments")
        >>> found = bench.review(plan.plan)
        >>> found.needed, found.problems, found.changed_files
        (1, (), ())
        """
        return reviewing.collect(self.database, self.workspace, plan)

    def changes(self, plan: str, rows: int | None = None) -> pd.DataFrame:
        """The rows that a plan changes, before and after, as its bundle has them: all text, private columns veiled.

        Args:
            plan: its id.
            rows: at most this many; None: all.

        >>> plan = bench.plan("rent_payments")
        >>> bench.changes(plan.plan)[["target id", "invoice_id before", "invoice_id after"]].head(2)
          target id invoice_id before invoice_id after
        0      1483               NaN                9
        1      1484               NaN               10
        """
        return planned.frame(self.workspace, planning.load(self.database, self.workspace, plan), rows)

    def script(self, plan: str, name: str = "execute.sql") -> str:
        """A script of a plan's bundle: dry_run.sql, execute.sql, verify.sql or revert.sql. Raises NotFound.

        >>> plan = bench.plan("rent_payments")
        >>> "UPDATE" in bench.script(plan.plan)
        True
        """
        return planned.script(planning.load(self.database, self.workspace, plan), name)

    def export(self, plan: str, form: str = "jsonl") -> Iterator[dict[str, Any]]:
        """What a plan changes in an outside system, for other tools: a document for each record. It sends nothing.

        Args:
            plan: its id.
            form: jsonl, or requests: HubSpot's batch updates.

        Raises:
            UsageError: the plan is for a table alone, or there is no such format.
            Refused: it would show private columns.

        >>> plan = bench.plan("rent_payments")
        >>> next(bench.export(plan.plan))
        Traceback (most recent call last):
        ...
        recon.errors.UsageError: ...
        """
        return exported.documents(exporting.of(self.database, self.workspace, plan), form)

    # -- sign-off --------------------------------------------------------------------------------------

    def approve(self, plan: str, *, key: str | Path | None = None, signature: str | Path | None = None) -> Plan:
        """Sign off a plan with an SSH key; without one, recorded by name: a record of who said yes, not a proof.

        Args:
            plan: its id.
            key: the SSH key; a .pub file where an agent holds it.
            signature: a signature over plan.json made elsewhere.

        Raises:
            NotApproved: the author cannot approve, or a signature does not hold.
            IllegalMove: the plan is in no state for it.

        >>> plan = bench.plan("rent_payments")
        >>> bench.acting("bob").approve(plan.plan).state
        'approved'
        """
        files = [Path(file).expanduser() if file else None for file in (key, signature)]
        return sign_off.approve(self.database, self.workspace, plan, self.actor, key=files[0], signature=files[1])

    def reject(self, plan: str, reason: str) -> Plan:
        """Say no to a plan; once its apply has begun, take your own approval back.

        Raises:
            UsageError: no reason.
            IllegalMove: the plan is in no state for it.

        >>> plan = bench.plan("rent_payments")
        >>> bench.acting("bob").reject(plan.plan, "The leases of March are not in yet.").state
        'rejected'
        """
        return sign_off.reject(self.database, self.workspace, plan, self.actor, reason)

    def standing(self, name: str) -> list[Standing]:
        """The standing sign-offs of a reconciliation, the newest first. Raises NotFound.

        >>> bench.standing("rent_payments")
        []
        """
        found = sign_offs.listed(self.database, name)
        self._known(name, found)
        return found

    def give_standing(
        self,
        name: str,
        *,
        rows: int,
        days: int,
        actions: Sequence[str],
        environment: str | None = None,
        key: str | Path | None = None,
    ) -> Standing:
        """Sign once for the plans of unattended runs, by today's rules; `recon standing --give`.

        Args:
            name: the reconciliation.
            rows: how many rows a plan may change at most.
            days: for how many days.
            actions: what the plans may do: link, update, insert, set.
            environment: where it holds; None: this environment.
            key: an SSH key; None: recorded by name.

        Raises:
            UsageError: the policy of the workspace does not allow it.

        >>> given = bench.acting("bob").give_standing("rent_payments", rows=500, days=30, actions=["link"])
        >>> given.document["caps"]["rows"], given.method
        (500, 'recorded')
        """
        return sign_offs.give(
            self.database,
            self.workspace,
            name,
            self.actor,
            rows=rows,
            days=days,
            actions=actions,
            environment=environment,
            key=Path(key).expanduser() if key else None,
        )

    def withdraw_standing(self, name: str, identity: str, reason: str) -> Standing:
        """End a standing sign-off; `recon standing --withdraw`.

        Raises:
            UsageError: no reason.
            NotFound, IllegalMove: there is none of this id, or it was withdrawn before.

        >>> given = bench.acting("bob").give_standing("rent_payments", rows=500, days=30, actions=["link"])
        >>> bench.withdraw_standing("rent_payments", given.id, "The rules are looked at again.").withdrawn_by
        'ann'
        """
        return sign_offs.withdraw(self.database, name, identity, self.actor, reason)

    # -- change ----------------------------------------------------------------------------------------

    def apply(self, plan: str, *, execute: bool = False, workers: int = 1) -> Applied:
        """Change the rows of an approved plan; without `execute` only see what would change.

        Args:
            plan: its id.
            execute: write.
            workers: sessions that write at the same time: 1 or 2.

        Raises:
            NotApproved, BundleChanged, Stale, IllegalMove: it may not be applied; no row is changed.
            OutsideLeft: an outside system did not take all of it.

        >>> plan = bench.plan("rent_payments")
        >>> foreseen = bench.apply(plan.plan)
        >>> foreseen.changed, foreseen.state
        (10, 'planned')
        >>> approved = bench.acting("bob").approve(plan.plan)
        >>> done = bench.apply(plan.plan, execute=True)
        >>> done.changed, done.state
        (10, 'applied')
        """
        return applying.apply(self.database, self.workspace, plan, self.actor, execute=execute, workers=workers)

    def verify(self, plan: str) -> Verified:
        """Prove an applied plan, from a connection of its own: its changes, and the suite of its reconciliation.

        Raises:
            IllegalMove: the plan was not applied.
            CheckErrored: a check could not be carried out; nothing is proven.

        >>> plan = bench.plan("rent_payments")
        >>> approved = bench.acting("bob").approve(plan.plan)
        >>> done = bench.apply(plan.plan, execute=True)
        >>> proof = bench.verify(plan.plan)
        >>> proof.state, proof.verification.checked, proof.complete
        ('verified', 10, True)
        """
        return workflow.verify(self.database, self.workspace, plan, self.actor)

    def revert(self, plan: str, *, execute: bool = False, workers: int = 1) -> Reverted:
        """Undo a plan where rows still hold what it wrote; without `execute` only see what would be restored.

        Args:
            plan: its id.
            execute: write.
            workers: sessions that write at the same time: 1 or 2.

        Raises:
            NotApproved, IllegalMove: it may not be reverted.

        >>> plan = bench.plan("rent_payments")
        >>> approved = bench.acting("bob").approve(plan.plan)
        >>> done = bench.apply(plan.plan, execute=True)
        >>> undone = bench.revert(plan.plan, execute=True)
        >>> undone.restored, undone.conflicts, undone.state
        (10, 0, 'reverted')
        """
        return reverting.revert(self.database, self.workspace, plan, self.actor, execute=execute, workers=workers)
