"""Where one works: a workspace, its database, its reconciliations, and how records are brought in."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from recon import spec_file, workflow
from recon.api.arguments import all_looked_at
from recon.database import embedded
from recon.database.connect import Database, Session
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.spec import Reconciliation
from recon.workspace import Workspace

if TYPE_CHECKING:
    from recon.reports.saved import Saved

Spec = str | Reconciliation  # a reconciliation by its name, or one that was changed or written in Python


@all_looked_at
@dataclass(frozen=True)
class Place:
    """A workspace and a database."""

    workspace: Workspace
    database: Database
    server: embedded.Guest | None = field(
        default=None, repr=False
    )  # of the embedded server: it leaves when this is closed

    @property
    def actor(self) -> str:
        """The acting person: whose name decisions, plans and approvals bear.

        >>> bench.actor
        'ann'
        """
        return self.workspace.actor

    def acting(self, actor: str) -> Self:
        """The same place for another person, as RECON_USER does it: a record of who acts, not a proof.

        Closing it leaves the database as it is.

        >>> bench.acting("bob").actor
        'bob'
        """
        return replace(self, workspace=self.workspace.with_variables({"RECON_USER": actor}), server=None)

    def close(self) -> None:
        """Let go of the embedded database, which stops unless others use it, here or elsewhere; another database is left alone.

        `with recon.open(…) as bench:` does it at the end; without either it is done when the process ends.

        >>> bench.close()
        """
        self.database.engine.dispose()
        if self.server:
            self.server.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- reconciliations -------------------------------------------------------------------------------

    def reconciliations(self) -> list[Reconciliation]:
        """The reconciliations of this workspace and the shipped ones, as `recon list` shows them.

        Raises:
            SpecError: one of them cannot be read.

        >>> [spec.name for spec in bench.reconciliations() if spec.like == "rent_payments"]
        ['financial_transactions']
        """
        return [self.workspace.spec(name) for name in self.workspace.reconciliations()]

    def members(self, name: str) -> list[str]:
        """The reconciliations that a name stands for: those of a group, else the one itself. Raises NotFound.

        What a command does with a group is done here with each of them.

        >>> bench.members("crm")
        ['crm_communications', 'crm_companies', 'crm_contacts', 'crm_deals']
        """
        return self.workspace.members(name)

    def spec(self, name: str, **fields: Any) -> Reconciliation:
        """A reconciliation; with other fields than its file has, to try something: the file stays as it is.

        Args:
            name: the reconciliation.
            fields: fields of the spec, as YAML has them.

        Raises:
            NotFound: there is no reconciliation of this name.
            SpecError: it cannot be read, or a field cannot be so.

        >>> spec = bench.spec("rent_payments")
        >>> [rule.name for rule in spec.passes][:2]
        ['payprop_invoice_id', 'property_and_customer']
        >>> narrow = bench.spec("rent_payments", passes=[{"name": "by_id", "on": {"payprop_invoice_id": "payprop_id"}}])
        >>> bench.match(narrow).outcomes
        {'linked': 125, 'matched': 3, 'unmatched': 7}
        """
        spec = self.workspace.spec(name)
        return spec_file.changed(spec, self.workspace.spec_path(name), fields) if fields else spec

    # -- records ---------------------------------------------------------------------------------------

    def load(self, name: str, *, from_day: date | None = None, to_day: date | None = None) -> dict[str, int]:
        """Bring records in from the files and outside systems that the spec names, each side all or nothing.

        Args:
            name: a reconciliation or a group.
            from_day: of an outside system: from this day, inclusive, UTC.
            to_day: to this day, inclusive.

        Returns:
            Records by table.

        Raises:
            UsageError: a line cannot be read, or there is nothing to load. Nothing is changed then.
            OutsideFailed, OutsideDenied: the outside system gave no answer, or a refusal.

        >>> bench.load("rent_payments")  # its records are in tables
        Traceback (most recent call last):
        ...
        recon.errors.UsageError: ...
        """
        return workflow.load_records(self.database, self.workspace, name, from_day, to_day)

    def load_sample(self, name: str) -> dict[str, int]:
        """Create and fill the sample tables of a shipped reconciliation or group; `recon load NAME --sample`.

        Returns:
            Records by table.

        Raises:
            AlreadyExists: a table or a file is there; none is touched.
            NotFound: there is no sample of it.

        >>> bench.load_sample("rent_payments")
        Traceback (most recent call last):
        ...
        recon.errors.AlreadyExists: ...
        """
        return workflow.load_sample(self.database, name, self.workspace)

    def save(self, name: str, to: str | Path | None = None) -> Saved:
        """Write the target's records as they are now to a file: the linked table of people whose target is a file.

        Args:
            name: the reconciliation.
            to: a file: .csv, .parquet or .xlsx; None: reports/NAME.csv of the workspace. No file that a spec reads.

        Raises:
            UsageError: the file is one that a spec reads, or cannot hold the records.
            NotLoaded: the target is a file that was never loaded.
            MissingExtra: a library for this kind of file is not installed.

        >>> saved = bench.save("rent_payments", "linked.csv")
        >>> saved.records, saved.linked
        (183, 130)
        """
        path = Path(to).expanduser() if to is not None else None
        return workflow.save(self.database, self.workspace, name, path)

    def roles(self, name: str, prefix: str = "recon") -> str:
        """The SQL that makes database roles for a reconciliation; nothing of it is run. `recon database roles NAME`.

        Args:
            name: the reconciliation.
            prefix: what the names of the roles begin with.

        Raises:
            UsageError: no role can be named so.
            SchemaMismatch: a table or column of the spec is missing.

        >>> "CREATE ROLE" in bench.roles("rent_payments", "rent")
        True
        """
        from recon.service import rights

        return rights.script(self.database, self.workspace, name, prefix)

    # -- for the parts of a workbench ------------------------------------------------------------------

    def _spec(self, of: Spec) -> Reconciliation:
        return of if isinstance(of, Reconciliation) else self.workspace.spec(of)

    def _bound(self, session: Session, spec: Reconciliation) -> Bound:
        return bind(session, spec, shows_private=self.workspace.sees_private)

    def _known(self, name: str | None, found: Sized) -> None:
        """Raises NotFound where nothing is kept under a name and no reconciliation has it."""
        if name and not len(found):  # what was done under a name stays, whatever became of its spec
            self.workspace.spec_path(name)
