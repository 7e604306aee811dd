"""The parts strung together: from records to a run, and from a plan to its proof, its report and its workbook.

The command line, the service and the notebooks call these functions and hold no logic of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon import extras
from recon.backfill import plan as plans
from recon.backfill import verify as verifying
from recon.backfill.executor import Progress
from recon.backfill.verify import Verification
from recon.checks.run import CheckResult
from recon.checks.run import check as run_checks
from recon.database import embedded, tables
from recon.database.connect import Database
from recon.errors import CheckErrored, NotLoaded, UsageError
from recon.matching import run as runs
from recon.matching.pool import Filter
from recon.sources import loading, samples
from recon.spec import Reconciliation
from recon.systems import after_match, sample_of, sheets_of
from recon.workspace import Workspace, template

if TYPE_CHECKING:
    from recon.reports.saved import Saved

EMBEDDED_DATABASE = "recon"
DEMO_DATABASE = "recon_demo"
DEMO_WORD = "demo"  # `--database demo`: the database that `recon demo` made


def open_database(workspace: Workspace, url: str | None = None, demo: bool = False) -> Database:
    """The database to work on: the demo's, the given URL, RECON_DATABASE_URL, else the embedded one.

    Args:
        workspace: whose embedded server and settings count.
        url: a PostgreSQL URL, or the word `demo`.
        demo: the demo's database, whatever the URL.

    Raises:
        EmbeddedUnavailable: the embedded server cannot be started.
    """
    chosen = url or (workspace.settings.database_url.get_secret_value() if workspace.settings.database_url else None)
    if demo or chosen == DEMO_WORD:
        return Database(embedded.start(workspace.folder, DEMO_DATABASE), embedded=True, demo=True)
    if chosen:
        return Database(chosen)
    return Database(embedded.start(workspace.folder, EMBEDDED_DATABASE), embedded=True)


def load_sample(database: Database, name: str, workspace: Workspace | None = None) -> dict[str, int]:
    """Create the sample tables of a shipped reconciliation or group; returns rows by table.

    The script is always the shipped one: a workspace that came from somewhere else must not run its own. A sample of
    files is written into the workspace and loaded from there.

    Raises:
        AlreadyExists: a table is there, or another file; no table is touched.
        UsageError: the sample has files, and there is no workspace to write them into.
    """
    sample = sample_of(name)
    script = (template("sql") / "schema" / sample.schema).read_text(encoding="utf-8")
    files = sample.files()
    if not files:
        return samples.load(database, script, sample.tables())
    if workspace is None:
        raise UsageError(f"The sample of {name} has files.", why="They are written into a workspace.")
    specs = [workspace.spec(member) for member in sample.members]
    sides = [side for spec in specs for side in (spec.target, spec.source) if side.file]
    samples.write(workspace.root, files)
    counts = samples.load(database, script, sample.tables(), [side.landing for side in sides if side.landing])
    return counts | loading.load(database, workspace, specs)


def load_records(
    database: Database,
    workspace: Workspace,
    name: str,
    from_day: date | None = None,
    to_day: date | None = None,
    *,
    progress: loading.Progress = lambda _done, _all: None,
    step: loading.Step = lambda _name: None,
    told: loading.Told = lambda _loaded: None,
) -> dict[str, int]:
    """Bring in what a reconciliation, or each one of a group, takes from files and outside systems; returns records by table.

    Raises: as `recon.sources.loading.load`; NotFound where nothing has this name.
    """
    specs = [workspace.spec(member) for member in workspace.members(name)]
    return loading.load(database, workspace, specs, from_day, to_day, progress=progress, step=step, told=told)


def match(
    database: Database, workspace: Workspace, spec: Reconciliation, actor: str, limited: Filter | None = None
) -> runs.Run:
    """Decide every record, and let the system whose reconciliation it is write down what its people look at.

    Raises: as `recon.matching.run.match`; NotLoaded says whether there is a file to load, and what was listed without.
    """
    after = after_match(spec)
    try:
        run = runs.match(database, spec, actor, limited)
    except NotLoaded as error:
        listed = after.without_source(database, spec) if after and spec.source.is_loaded else None
        raise loading.explained(error, workspace, spec, listed) from error
    if after:
        after.refresh(database, spec, run)
    return run


# -- verify ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verified:
    """A verification: what verify.sql and the suite found, and the state that the plan has now."""

    plan: str
    state: str
    verification: Verification
    checks: CheckResult

    @property
    def complete(self) -> bool:
        """Whether nothing fell short: the plan is right, and so is everything else."""
        return self.verification.right and self.checks.success

    def as_dict(self) -> dict[str, Any]:
        return {
            "plan": self.plan,
            "state": self.state,
            "checked": self.verification.checked,
            "problems": self.verification.problems,
            "rows": self.verification.rows,
            "checks": self.checks.as_dict(),
        }


def verify(database: Database, workspace: Workspace, plan: str, actor: str) -> Verified:
    """Prove a plan: verify.sql for its own changes, the suite for the whole; the result is stored, then the state.

    Raises:
        CheckErrored: a check could not be carried out; the plan keeps its state, for nothing is proven.
    """
    return verify_all(database, workspace, [plan], actor)[0]


def verify_all(database: Database, workspace: Workspace, found: Sequence[str], actor: str) -> list[Verified]:
    """Prove plans of one reconciliation, each by its own verify.sql, with one run of the suite for all.

    Raises: as `verify`; then none of them is proven.
    """
    loaded = [plans.load(database, workspace, plan) for plan in found]
    proofs = [verifying.verify(database, workspace, plan) for plan in found]
    checks = run_checks(database, workspace, workspace.spec(loaded[0].reconciliation))
    for plan in found:
        store_checks(database, checks, plan)
    if checks.errored:
        item = checks.errored[0]
        raise CheckErrored(
            f"The check {item.name} could not be carried out.",
            why=f"{item.error}. The plan stays {loaded[0].state}: nothing is proven.",
            todo=f"Mend the cause and run `recon verify {found[0]}` again.",
        )
    return [
        Verified(
            proof.plan,
            verifying.record(
                database, proof.plan, actor, right=proof.right, problems=proof.problems, checks_passed=checks.success
            ),
            proof,
            checks,
        )
        for proof in proofs
    ]


def store_checks(database: Database, checks: CheckResult, plan: str | None = None) -> None:
    """Keep a check result."""
    with database.session() as session:
        session.connection.execute(
            tables.check_results.insert().values(
                reconciliation=checks.reconciliation, plan=plan, success=checks.success, result=checks.as_dict()
            )
        )


def latest_checks(database: Database, reconciliation: str) -> dict[str, Any] | None:
    """The last check result of a reconciliation, as it was stored."""
    kept = tables.check_results
    query = kept.select().where(kept.c.reconciliation == reconciliation).order_by(kept.c.entry.desc()).limit(1)
    with database.session(read_only=True) as session:
        row = session.connection.execute(query).mappings().first()
    return dict(row["result"]) if row else None


def report(
    database: Database,
    workspace: Workspace,
    name: str,
    plan: str | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Make the report of a reconciliation, with the checks that were stored last.

    Raises: as `recon.reports.run.report`; MissingExtra where there are no notebooks on this machine.
    """
    extras.need("notebooks", "A report")
    from recon.reports.run import report as run_report

    tables.ensure(database)
    checks = latest_checks(database, name)
    return run_report(database, workspace, name, plan=plan, checks=checks, progress=progress, tell=say)


def save(database: Database, workspace: Workspace, name: str, to: Path | None = None) -> Saved:
    """Write the target's records as they are now to a file, by default reports/NAME.csv.

    Raises: as `recon.reports.saved.save`.
    """
    from recon.reports import saved

    return saved.save(database, workspace, name, to)


def workbook(database: Database, workspace: Workspace, name: str, at: date | None = None) -> Path:
    """Write the Excel workbook of a reconciliation to reports/: summary, open breaks, and what its system adds.

    Args:
        database: where the records are.
        workspace: where the spec is, and where the workbook goes.
        name: the reconciliation.
        at: the day as of which rents and the like are counted; None: today in UTC.
    """
    from recon.reports import workbook as workbooks

    spec = workspace.spec(name)
    return workbooks.in_reports(database, spec, workspace.reports, at=at, extra=sheets_of(spec), workspace=workspace)
