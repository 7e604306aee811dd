"""One reconciliation at a notebook: the same functions as everywhere, and tables as pandas shows them.

Everything here is one call of another module; who wants more than a table calls that module with
`lab.database`, `lab.workspace` and `lab.spec`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon import workflow
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import revert as reverting
from recon.backfill import sign_off, veils
from recon.backfill.applied import Applied
from recon.backfill.change import Shape
from recon.backfill.revert import Reverted
from recon.database import embedded
from recon.database.connect import Database, Session
from recon.errors import VEIL, NotFound, UsageError, did_you_mean
from recon.matching import attempt as trying
from recon.matching import breaks as open_breaks
from recon.matching import check as checking
from recon.matching import explain as explaining
from recon.matching import overrides, pairs
from recon.matching import run as runs
from recon.matching import what_if as asking
from recon.matching.attempt import Attempt
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.explain import Explanation
from recon.matching.run import Run
from recon.spec import Reconciliation
from recon.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SCRATCH = "tutorial"  # the folder in `.recon/`
SCRATCH_DATABASE = "recon_tutorial"  # a database of its own in the embedded server
ROWS = 1_000  # of a table, unless more are asked for: a notebook that holds a million rows helps nobody


@dataclass(frozen=True)
class Lab:
    """Where one works, on what, and as whom.

    >>> lab = Lab.open("rent_payments")  # doctest: +SKIP
    >>> lab.match()  # doctest: +SKIP
    >>> lab.decisions("ambiguous")  # doctest: +SKIP
    """

    database: Database
    workspace: Workspace
    spec: Reconciliation
    actor: str

    @classmethod
    def open(cls, name: str, folder: Path | None = None, url: str | None = None) -> Lab:
        """A reconciliation of a workspace (the nearest from here upwards) in its database. Raises ReconError."""
        workspace = Workspace.find(folder)
        return cls(workflow.open_database(workspace, url), workspace, workspace.spec(name), workspace.actor)

    @classmethod
    def scratch(cls, name: str, folder: Path | None = None) -> Lab:
        """A shipped reconciliation with its sample, in a database and a workspace that are made anew each time.

        The database lies in the embedded server, whatever the URL in the environment says; the workspace in `.recon/`.

        Raises:
            NotFound: there is no such reconciliation, or no sample of it.
            EmbeddedUnavailable: the embedded server cannot be started.
        """
        home = Workspace.find(folder)
        spec = home.spec(name)
        database = Database(embedded.recreate(home.folder, SCRATCH_DATABASE), embedded=True)
        root = home.folder / SCRATCH
        shutil.rmtree(root, ignore_errors=True)
        workflow.init(root)
        workflow.load_sample(database, name, Workspace(root))
        return cls(database, Workspace(root), spec, home.actor)

    def acting(self, actor: str) -> Lab:
        """The same place, for somebody else."""
        return replace(self, actor=actor)

    def with_spec(self, **fields: Any) -> Lab:
        """The same place with some fields of the spec changed, to try something; the file stays as it is."""
        document = self.spec.model_dump(by_alias=True, exclude_unset=True)
        return replace(self, spec=Reconciliation.model_validate({**document, **fields}))

    def _bound(self, session: Session) -> Bound:
        return bind(session, self.spec, shows_private=self.workspace.sees_private)

    # -- why ---------------------------------------------------------------------------------------------

    def check(self) -> pd.DataFrame:
        """What stands in the way of matching, the worst first: severity, where, what, todo."""
        found = checking.check(self.database, self.spec, shows_private=self.workspace.sees_private).findings
        return _frame([item.as_dict() for item in found], ["severity", "where", "what", "todo"])

    def match(self) -> Run:
        """Decide every record; nothing is written to the users' tables."""
        return runs.match(self.database, self.spec, self.actor)

    def outcomes(self) -> pd.DataFrame:
        """How many records of the latest run have each outcome."""
        return _counts("outcome", runs.load(self.database, self.spec.name).outcomes)

    def reasons(self) -> pd.DataFrame:
        """Why the unmatched records of the latest run are not matched."""
        return _counts("reason", runs.load(self.database, self.spec.name).reasons)

    def waterfall(self) -> go.Figure:
        """How the passes of the latest run add up to the population."""
        from recon.reports import data, figures

        return figures.waterfall(data.gather(self.database, self.workspace, self.spec.name).steps)

    def decisions(self, *outcomes: str, rows: int = ROWS) -> pd.DataFrame:
        """Decisions of the latest run with what people see of them, in key order; only of some outcomes where given."""
        run = runs.load(self.database, self.spec.name).run
        with self.database.session(read_only=True) as session:
            return _frame(pairs.listed(session, self._bound(session), run, outcomes=outcomes, limit=rows))

    def breaks(self, rows: int = ROWS) -> pd.DataFrame:
        """What is not reconciled, since when, and who sees to it; the oldest first."""
        return _frame(open_breaks.listed(self.database, self.spec.name, limit=rows))

    def explain(self, key: object) -> Explanation:
        """Why one record is matched or not; a composite key is a JSON array. Raises NotFound."""
        with self.database.session(read_only=True) as session:
            return explaining.explain(session, self._bound(session), str(key))

    def why(self, key: object) -> pd.DataFrame:
        """The same as a table: pass, result, what it found."""
        steps = self.explain(key).passes
        return _frame([{"pass": step.name, "result": step.result, "says": step.sentence} for step in steps])

    def candidates(self, key: object) -> pd.DataFrame:
        """The nearest records of the other side for one record, pass by pass."""
        return _frame(
            [
                {"pass": step.name, "candidate": item.key, "standing": item.standing, **item.shown}
                for step in self.explain(key).passes
                for item in step.candidates
            ]
        )

    def attempt(self, rule: str, target: Mapping[str, Any], source: Mapping[str, Any]) -> Attempt:
        """Try one pass of the spec on two records that are in no table. Raises NotFound, UsageError."""
        names = [item.name for item in self.spec.passes]
        if rule not in names:
            raise NotFound(f"{self.spec.name} has no pass {rule}.", why=did_you_mean(rule, names))
        with self.database.session(read_only=True) as session:
            return trying.attempt_typed(session, self.spec, rule, target, source)

    def what_if(self, only: str | None = None) -> pd.DataFrame:
        """How many records would match at wider and at narrower windows; nothing of it is kept."""
        return _frame(asking.what_if(self.database, self.spec, only).records())

    # -- decide and change -------------------------------------------------------------------------------

    def decide(self, kind: str, *, target: object = None, source: object = None, reason: str) -> dict[str, Any]:
        """Link or forbid a pair, or exclude a record, for a reason. Raises as `overrides.decide` does."""
        keys = {name: None if key is None else str(key) for name, key in (("target", target), ("source", source))}
        return overrides.decide(self.database, self.spec, actor=self.actor, kind=kind, reason=reason, **keys)

    def plan(self, passes: Sequence[str] = ()) -> plans.Plan:
        """Freeze what the latest run would change. Raises UsageError where nothing would change."""
        made = plans.make(self.database, self.workspace, self.spec, self.actor, passes=passes)
        if made is None:
            raise UsageError("Nothing would change.", why="The latest run has nothing new to link.")
        return made

    def changes(self, plan: str, rows: int = ROWS) -> pd.DataFrame:
        """The first rows that a plan would change, before and after; all text, as the bundle has them, under veils."""
        import pandas as pd

        found = plans.load(self.database, self.workspace, plan)
        seen, shape = veils.for_viewer(self.workspace, found.document), Shape.of_document(found.document)
        frame = pd.read_csv(found.bundle / "changes.csv", dtype=str, nrows=rows)
        # By place: the heading of a column's image may be that of another column's key.
        first = 1 + len(shape.keys) + len(shape.source_keys)
        images = range(2 * len(shape.columns))
        hidden = [first + number for number in images if shape.columns[number // 2] in seen.columns]
        if seen.interpretation:
            hidden.append(shape.csv_heading.index("interpretation"))
        for place in hidden:
            frame.isetitem(place, frame.iloc[:, place].map(_veil, na_action="ignore"))
        return frame

    def script(self, plan: str, name: str = "execute.sql") -> str:
        """A script of a plan's bundle: dry_run.sql, execute.sql, verify.sql or revert.sql."""
        scripts = ("dry_run.sql", "execute.sql", "verify.sql", "revert.sql")
        if name not in scripts:
            raise NotFound(f"A bundle has no script {name}.", todo=f"There are: {', '.join(scripts)}.")
        return (plans.load(self.database, self.workspace, plan).bundle / name).read_text(encoding="utf-8")

    def approve(self, plan: str) -> plans.Plan:
        """Approve a plan's digest by name, which is a record and not a proof. Raises NotApproved."""
        return sign_off.approve(self.database, self.workspace, plan, self.actor)

    def apply(self, plan: str, *, execute: bool = False) -> Applied:
        """Write an approved plan; without `execute` only see what would be written."""
        return applying.apply(self.database, self.workspace, plan, self.actor, execute=execute)

    def verify(self, plan: str) -> workflow.Verified:
        """Prove a plan that was applied."""
        return workflow.verify(self.database, self.workspace, plan, self.actor)

    def revert(self, plan: str, *, execute: bool = False) -> Reverted:
        """Undo a plan; without `execute` only see what would be restored, and which rows others changed since."""
        return reverting.revert(self.database, self.workspace, plan, self.actor, execute=execute)

    def report(self) -> Path:
        """Make the report: one HTML file that opens with no network."""
        return workflow.report(self.database, self.workspace, self.spec.name)


def _frame(records: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([dict(record) for record in records], columns=list(columns) if columns else None)


def _veil(_: object) -> str:
    return VEIL


def _counts(name: str, counts: Mapping[str, int]) -> pd.DataFrame:
    return _frame([{name: key, "records": count} for key, count in counts.items()], [name, "records"])
