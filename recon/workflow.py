"""The parts strung together: from a plan to its proof, and the whole way that `recon demo` goes.

The command line, the service and the notebooks call these functions and hold no logic of their own.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon import extras
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import sign_off
from recon.backfill import verify as verifying
from recon.backfill.executor import Progress
from recon.backfill.verify import Verification
from recon.checks.run import CheckResult
from recon.checks.run import check as run_checks
from recon.database import embedded, tables
from recon.database.connect import Database
from recon.errors import AlreadyExists, CheckErrored, Locked, NoPlace, NotLoaded, UsageError
from recon.matching import run as runs
from recon.matching.backtest import backtest
from recon.matching.coverage import RECONCILED, statistics
from recon.matching.pool import Filter
from recon.sources import loading, samples
from recon.spec import Reconciliation
from recon.systems import after_match, sample_of, sheets_of, stand_in_of
from recon.workspace import POLICY_FILE, SIGNERS_FILE, SPEC_SCHEMA, Workspace, template

if TYPE_CHECKING:
    from recon.reports.saved import Saved

EMBEDDED_DATABASE = "recon"
DEMO_DATABASE = "recon_demo"
DEMO_ANALYST, DEMO_REVIEWER = "demo-analyst", "demo-reviewer"
DEMO_LOCK = "demo.lock"  # in the workspace's `.recon/`: held while a demo runs
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


# -- the whole way ---------------------------------------------------------------------------------------

Tell = Callable[[str, Any], None]  # the step's name, and what it gave


def demo(workspace: Workspace, name: str, tell: Tell) -> dict[str, Any]:
    """Sample data, match, plan, sign-off, apply, verify, report, in a database of its own that is made anew.

    Outside systems are never reached: what the system's folder brings stands in for them, on this machine.

    Args:
        workspace: where bundle and report go; its embedded server is used whatever the URL says.
        name: a reconciliation with sample data.
        tell: called after each step.

    Returns:
        The document of `recon demo --json`; every figure is counted from the tables.

    Raises:
        Locked: another demo is at work on the same database.
        MissingExtra: an outside system cannot be stood in for.
    """
    spec = workspace.spec(name)
    sample_of(name)  # an unknown name is an error before anything is dropped
    _need_stand_in(name, name)
    with _only_demo(workspace):
        database = _demo_database(workspace, name, tell)
        return _demo(database, workspace, spec, tell)


def demo_group(workspace: Workspace, group: str, tell: Callable[[str, str, Any], None]) -> dict[str, Any]:
    """The demo of each reconciliation of a group, one after the other on the one sample of all.

    Args:
        workspace: as for `demo`.
        group: a group with sample data.
        tell: called after each step with the reconciliation's name, the step and what it gave; `load` is told once, of
            the group.

    Returns:
        The document of `recon demo --json`: the group, and the document of each member.
    """
    specs = [workspace.spec(name) for name in workspace.members(group)]
    sample_of(group)
    for spec in specs:
        _need_stand_in(group, spec.name)
    with _only_demo(workspace):
        database = _demo_database(workspace, group, lambda step, counts: tell(group, step, counts))
        members = [_demo(database, workspace, spec, partial(tell, spec.name)) for spec in specs]
    return {"group": group, "members": members}


@contextmanager
def _only_demo(workspace: Workspace) -> Generator[None]:
    """Hold the demo's lock, which the operating system drops when the process ends however it ends."""
    import fcntl

    workspace.folder.mkdir(parents=True, exist_ok=True)
    # Reading is enough to lock, so a file that root made does not shut out the workspace's owner.
    descriptor = os.open(workspace.folder / DEMO_LOCK, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(
                "Another demo is running in this workspace.",
                why="Each demo makes the demo's database anew.",
                todo="Wait until it ends, or use another workspace with --workspace.",
            ) from None
        yield
    finally:
        os.close(descriptor)


def _demo_database(workspace: Workspace, name: str, tell: Tell) -> Database:
    """The demo's database, made anew, with the sample."""
    _forget_demos(workspace)
    database = Database(embedded.recreate(workspace.folder, DEMO_DATABASE), embedded=True, demo=True)
    tell("load", load_sample(database, name, workspace))
    return database


def _need_stand_in(shown: str, name: str) -> None:
    """Raise MissingExtra where an outside system must be stood in for, and this machine has nothing to serve it with."""
    if stand_in_of(name):
        extras.need("service", f"The demo of {shown}")


def _demo(database: Database, workspace: Workspace, spec: Reconciliation, tell: Tell) -> dict[str, Any]:
    stand_in = stand_in_of(spec.name)
    with stand_in(database) if stand_in else nullcontext(dict[str, str]()) as variables:
        return _demonstrated(database, workspace.with_variables(variables), spec, tell)


def _demonstrated(database: Database, workspace: Workspace, spec: Reconciliation, tell: Tell) -> dict[str, Any]:
    name = spec.name
    before = _linked(database, spec) if spec.link else None
    run = match(database, workspace, spec, DEMO_ANALYST)
    tell("match", run)
    if spec.link:
        tell("backtest", backtest(database, spec, DEMO_ANALYST))
    if spec.only_finds:  # what it finds is for people: there is nothing to plan, and nothing to prove
        path = _demo_report(database, workspace, name, None, tell)
        figures = _figures(_reconciled(run), _reconciled(run), run.population) | {
            "statistics": statistics(run.outcomes)
        }
        return {"reconciliation": name, **figures, "plan": None, "bundle": None, "report": path, "verified": None}
    plan = plans.make(database, workspace, spec, DEMO_ANALYST)
    if plan is None:
        raise UsageError(f"The sample of {name} holds nothing to link or to change.")
    tell("plan", plan)
    tell("dry run", applying.apply(database, workspace, plan.plan, DEMO_ANALYST))
    tell("approve", sign_off.approve(database, workspace, plan.plan, DEMO_REVIEWER))
    tell("apply", applying.apply(database, workspace, plan.plan, DEMO_ANALYST, execute=True))
    verified = verify(database, workspace, plan.plan, DEMO_ANALYST)
    tell("verify", verified)
    if spec.link and before:
        held, total = _linked(database, spec)
        figures = _figures(before[0], held, total)
    else:  # nothing holds a link that could be counted: a second run says what agrees now
        again = match(database, workspace, spec, DEMO_ANALYST)
        tell("match again", again)
        figures = _figures(_reconciled(run), _reconciled(again), again.population)
        figures["coverage_before"] = run.coverage or 0.0  # inserts make the population larger
        figures["total_before"] = run.population
        figures |= {"same_before": run.outcomes.get("same", 0), "same_after": again.outcomes.get("same", 0)}
        figures["statistics"] = statistics(again.outcomes)
    path = _demo_report(database, workspace, name, plan.plan, tell)
    return {
        "reconciliation": name,
        **figures,
        "plan": plan.plan,
        "bundle": str(plan.bundle),
        "report": path,
        "verified": verified.state == "verified" and verified.verification.right,
    }


def _demo_report(database: Database, workspace: Workspace, name: str, plan: str | None, tell: Tell) -> str | None:
    """Make the report; without notebooks on this machine a demo goes all the way all the same, and says why there is none."""
    if error := extras.lacking("notebooks", "A report"):
        tell("report", error)
        return None
    path = report(database, workspace, name, plan)
    tell("report", path)
    return str(path)


def _figures(before: int, after: int, total: int) -> dict[str, Any]:
    return {
        "total": total,
        "linked_before": before,
        "linked_after": after,
        "coverage_before": before / total,
        "coverage_after": after / total,
    }


def _reconciled(run: runs.Run) -> int:
    return sum(run.outcomes.get(outcome, 0) for outcome in RECONCILED)


def _forget_demos(workspace: Workspace) -> None:
    """Remove the bundles of former demos: their database is made anew, so no one can use them any more."""
    for manifest in workspace.backfills.glob("*/plan.json"):
        try:
            document = json.loads(manifest.read_bytes())
        except ValueError:
            continue  # not one of ours, or damaged: left for a person to look at
        ours = document.get("author") == DEMO_ANALYST and document.get("database", {}).get("database") == DEMO_DATABASE
        if ours and document.get("plan") == manifest.parent.name:  # a copy kept under another name stays
            shutil.rmtree(manifest.parent)


def _linked(database: Database, spec: Reconciliation) -> tuple[int, int]:
    """How many records of the target hold a link, and how many there are, counted from the table."""
    from sqlglot import exp

    from recon.matching.bind import bind
    from recon.names import DIALECT

    with database.session(read_only=True) as session:
        bound = bind(session, spec)
        assert bound.link is not None
        query = exp.Select(expressions=[exp.Count(this=bound.link), exp.Count(this=exp.Star())])
        query = query.from_(bound.target.aliased("t"))
        if bound.target_where is not None:
            query = query.where(bound.target_where.copy())
        linked, total = session.rows(query.sql(DIALECT))[0]
    return linked, total


# -- a workspace of one's own ----------------------------------------------------------------------------

_EXAMPLE = Path(__file__).parent / "example"  # two files and a spec, which every new workspace has
_GITIGNORE = ".recon/\n.env\nbronze/\nsql/backfills/*\nreports/*\n__marimo__/\n.ipynb_checkpoints/\n"
_ENVIRONMENT = """\
# Copy to .env and fill in; .env is never committed.
# RECON_DATABASE_URL=postgresql://user@host:5432/name
# RECON_USER=your-name
# RECON_ENVIRONMENT=production
# RECON_SHOW_PRIVATE=1
# RECON_HUBSPOT_TOKEN=
# RECON_HOUSECALLPRO_TOKEN=
# RECON_AIRTABLE_TOKEN=
# RECON_AIRTABLE_BASE=
# RECON_WEBHOOKS=production
# RECON_HOUSECALLPRO_WEBHOOK_SECRET=
# RECON_STAYS_URL=https://example.stays.net
# RECON_STAYS_TOKEN=
# RECON_STAYS_ORGANIZATIONS=
# RECON_STAYS_TIME_ZONE=America/Sao_Paulo
# RECON_STAYS_SCHEDULE=*/30 * * * *
# RECON_STAYS_WEBHOOK_SECRET=
# RECON_LOCKS_URL=
# RECON_LOCKS_TOKEN=
# RECON_JWT_SECRET=
# RECON_SERVICE_TOKEN=
"""


def init(folder: Path) -> list[Path]:
    """Make a workspace: the folders of this repository, the notebooks, settings with comments.

    Raises:
        AlreadyExists: the folder holds something.
        NoPlace: it cannot be made or written; nothing of it is left.
    """
    ours = there = False
    try:
        there = folder.exists()
        if there and (not folder.is_dir() or any(folder.iterdir())):
            raise AlreadyExists(f"{folder} is not empty.", todo="Name a new or an empty folder.")
        ours = True  # it is empty or not there: all in it is made here
        _laid_out(folder)
    except OSError as error:
        with suppress(OSError):
            if ours:
                empty(folder, keep=there)
        raise NoPlace(
            f"No workspace can be made at {folder}.",
            why=f"The system says: {error.strerror or type(error).__name__}.",
            todo="Name a folder in a place where you may write, and look that its disk has room.",
        ) from error
    return sorted(path.relative_to(folder) for path in folder.iterdir())


def empty(folder: Path, *, keep: bool) -> None:
    """Delete all that is in a folder, and the folder too unless it is kept."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not keep:
        folder.rmdir()


def _laid_out(folder: Path) -> None:
    for name in ("reconciliations", "sql/backfills", "reports"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    ignored = shutil.ignore_patterns("backfills", "__pycache__", "__marimo__", ".ipynb_checkpoints", "*.md")
    for name in ("notebooks", "sql", "expectations"):
        shutil.copytree(template(name), folder / name, ignore=ignored, dirs_exist_ok=True)
    for name in (POLICY_FILE, SIGNERS_FILE):
        shutil.copyfile(template(name), folder / name)
    shutil.copyfile(SPEC_SCHEMA, folder / SPEC_SCHEMA.name)
    (folder / "bronze").mkdir(exist_ok=True)
    for path in _EXAMPLE.iterdir():
        shutil.copyfile(path, folder / ("bronze" if path.suffix == ".csv" else "reconciliations") / path.name)
    (folder / ".gitignore").write_text(_GITIGNORE, encoding="utf-8")
    (folder / ".env.example").write_text(_ENVIRONMENT, encoding="utf-8")
