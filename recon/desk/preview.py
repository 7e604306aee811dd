"""What the preview notebook shows: a plan, or the draft of one, for the person who signs it.

Plain data: `preview_rows` reads the rows, `preview_view` draws, `preview_actions` acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from recon.backfill import plan as plans
from recon.backfill import review as reviewing
from recon.backfill import veils
from recon.backfill.change import Shape
from recon.backfill.drafts import staged_rows, staging, steps
from recon.backfill.plan import Plan
from recon.backfill.review import Review
from recon.database import relations, tables
from recon.database.connect import Database, Session
from recon.desk import preview_rows
from recon.desk.preview_rows import Filter, Group, Planned, Row, Sum
from recon.errors import ReconError
from recon.matching import run as runs
from recon.matching.precision import Backtest, measured
from recon.matching.run import Run
from recon.names import DIALECT
from recon.reports.tables import count, moment
from recon.workspace import Workspace, same_person

DRAFT = "draft"  # in place of a plan's id: what a plan of the latest run would change
DRAFT_ROWS = 200  # of each pass and action: a draft is not kept, so its rows are fetched once
SLOW_POPULATION = 100_000  # records of a run; a draft decides them all anew, so of more a person asks for it
SHOWN_DRIFTS = 50
LOG_ENTRIES = 500  # of one plan


# -- where, who, what there is ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Who looks, and at which database. Of its URL only what may be shown."""

    actor: str
    environment: str
    database: str
    host: str


def place(database: Database, workspace: Workspace) -> Place:
    """Who acts, and where.

    Raises:
        UsageError: the acting person has no name that can be read.
        DatabaseUnreachable: there is no connection.
    """
    with database.session(read_only=True) as session:
        name = relations.identity(session)["database"]
        info = session.driver.info
        host = "this machine, by a socket" if info.host.startswith("/") else f"{info.host}, port {info.port}"
    return Place(workspace.actor, workspace.settings.environment or database.environment, name, host)


def reconciliations(database: Database, workspace: Workspace) -> list[str]:
    """Those with a finished run or a plan. Creates nothing in the database."""
    with database.session(read_only=True) as session:
        if session.value("SELECT to_regclass('recon.plans')::text") is None:
            return []
        run = tables.runs
        ran = sa.select(run.c.reconciliation).where(run.c.state == "success", run.c.kept)
        found = set(session.connection.execute(ran.union(sa.select(tables.plans.c.reconciliation))).scalars())
    known = [name for name in workspace.reconciliations() if name in found]
    return [*known, *sorted(found.difference(known))]


def choices(database: Database, workspace: Workspace, reconciliation: str) -> dict[str, str]:
    """What can be looked at: label to a plan's id, the newest first, and the draft at the end."""
    found: dict[str, str] = {}
    for item in plans.listed(database, workspace, reconciliation):
        rows = f"{count(item.rows)} row{'' if item.rows == 1 else 's'}"
        found[f"{item.plan} · {item.state} · {rows} · {moment(item.created_at)}"] = item.plan
    return {**found, "Draft: what a plan of the latest run would change": DRAFT}


def reconciliation_of(database: Database, workspace: Workspace, plan: str) -> str:
    """Whose plan this is. Raises NotFound."""
    return plans.load(database, workspace, plan).reconciliation


# -- a plan or a draft -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """Some rows, and where they stand among those that a filter lets through."""

    rows: tuple[Row, ...]
    number: int  # from 1
    pages: int
    total: int
    sql: str
    values: tuple[Any, ...] = ()

    @property
    def first(self) -> int:
        """The number of the first row."""
        return (self.number - 1) * preview_rows.PAGE_ROWS + 1


@dataclass(frozen=True)
class Preview:
    """What would be written: the counts of each pass and action; of a plan, or of a draft, which nobody keeps."""

    reconciliation: str
    run: str
    planned: Planned
    groups: tuple[Group, ...]
    backtest: Backtest | None
    statements: Mapping[str, str]  # what is above them on the screen, and the SQL
    plan: Plan | None = None
    drafted: tuple[Row, ...] | None = None  # of a draft, the first rows of each group
    left_out: Mapping[str, int] | None = None  # of a draft: rows that it leaves out, by reason
    target: str = ""
    done: int = 0  # rows in batches that are committed
    private: str | None = None  # what must be said of private columns

    @property
    def rows(self) -> int:
        return sum(item.rows for item in self.groups)

    @property
    def sums(self) -> tuple[Sum, ...]:
        return self.planned.sums

    def total(self, chosen: Filter) -> int:
        """How many rows a filter lets through; counted once for each group, so that no filter counts anew."""
        return sum(item.rows for item in self.groups if chosen.lets_through(item))

    def precision(self, rule: str | None) -> float | None:
        """Of a pass, 0 to 1; None where nobody measured it."""
        scores = self.backtest.passes if self.backtest else ()
        return next((item.precision for item in scores if item.name == rule), None)

    def pass_options(self) -> dict[str, str]:
        """Choices of the filter by pass."""
        totals: dict[str, int] = {}
        for item in self.groups:
            totals[item.rule or ""] = totals.get(item.rule or "", 0) + item.rows
        return {f"{name or 'no pass'} ({count(number)})": name for name, number in totals.items()}

    def action_options(self) -> dict[str, str]:
        """Choices of the filter by action."""
        totals: dict[str, int] = {}
        for item in self.groups:
            totals[item.action] = totals.get(item.action, 0) + item.rows
        return {f"{name} ({count(number)})": name for name, number in totals.items()}


def open_plan(database: Database, workspace: Workspace, plan: str) -> Preview:
    """A plan's rows as they were frozen; quick at any size, for nothing is compared with the present.

    Raises:
        NotFound: there is no such plan.
        BundleChanged: its rows are gone.
    """
    found = plans.load(database, workspace, plan)
    document = found.document
    spec, unreadable = None, None
    try:
        spec = workspace.spec(found.reconciliation)
    except ReconError as error:
        unreadable = error
    with database.session(read_only=True) as session:
        shape, staged = Shape.of_document(document), tables.own("staged", plan)
        seen = veils.for_viewer(workspace, document)
        planned = preview_rows.of(session, spec, staged, shape, seen, shows_private=workspace.sees_private)
        groups = preview_rows.totals(session, planned)
        done = session.value(
            "SELECT coalesce(sum(last - first + 1), 0)::bigint FROM recon.batches WHERE plan = $1", plan
        )
    return Preview(
        found.reconciliation,
        found.run,
        replace(planned, problem=unreadable or planned.problem),
        groups,
        measured(database, found.reconciliation, document["spec_digest"]),
        {"Counts and sums": preview_rows.totals_statement(planned)},
        found,
        target=f"{document['target']['schema']}.{document['target']['table']}",
        done=done,
        private=veils.note(workspace, document),
    )


def latest_run(database: Database, reconciliation: str) -> Run:
    """The run that a draft would be made of. Raises NotFound."""
    return runs.load(database, reconciliation)


def open_draft(database: Database, workspace: Workspace, reconciliation: str) -> Preview:
    """What a plan of the latest run would change; decided anew as for a plan, and rolled back.

    Raises:
        The same as `plan.make`.
    """
    spec = workspace.spec(reconciliation)
    known = measured(database, reconciliation, spec.digest)
    with plans.drafted(database, spec) as (session, draft, found):
        made, run = found.change, draft.decided.run
        seen = veils.for_draft(workspace, made)
        planned = preview_rows.of(session, spec, draft.staged, made.shape, seen, shows_private=workspace.sees_private)
        groups = preview_rows.totals(session, planned) if sum(found.actions.values()) else ()
        rows = tuple(sorted(_first_of_each(session, planned, groups), key=lambda row: row.place))
    if made.only_links:
        statements = {"How rows are drafted": staged_rows(made, run, draft.passes).sql(DIALECT, pretty=True)}
    else:
        drafting = list(steps(draft.change, run, draft.passes, whole=True))
        drafting.append(staging(draft.change, made).sql(DIALECT, pretty=True))
        statements = {f"Step {number} of a draft": text for number, text in enumerate(drafting, 1)}
    statements["Counts and sums"] = preview_rows.totals_statement(planned)
    target = f"{made.table.tree.args['db'].name}.{made.table.tree.name}"
    return Preview(
        reconciliation,
        run,
        planned,
        groups,
        known,
        statements,
        drafted=rows,
        left_out=found.left_out,
        target=target,
        private=workspace.private_note(spec),
    )


def _first_of_each(session: Session, planned: Planned, groups: tuple[Group, ...]) -> list[Row]:
    rows: list[Row] = []
    for item in groups:
        chosen = Filter((item.rule or "",), (item.action,))
        rows += preview_rows.page(session, planned, preview_rows.page_values(chosen, 1, DRAFT_ROWS))
    return rows


def rows(database: Database, preview: Preview, chosen: Filter, number: int = 1) -> Page:
    """One page of the rows that a filter lets through.

    Args:
        database: where they are.
        preview: of what.
        chosen: which rows.
        number: of the page, from 1; beyond the last one: the last one.
    """
    size, total, statement = preview_rows.PAGE_ROWS, preview.total(chosen), preview_rows.page_statement(preview.planned)
    held: list[Row] | None = None
    if preview.drafted is not None:
        held = [row for row in preview.drafted if chosen.lets_through(row)]
    pages = max(1, -(-(total if held is None else len(held)) // size))
    number = min(max(1, number), pages)
    values = preview_rows.page_values(chosen, number)
    if held is not None:
        found = held[(number - 1) * size : number * size]
    else:
        with database.session(read_only=True) as session:
            session.plain_path()
            found = preview_rows.page(session, preview.planned, values)
    return Page(tuple(found), number, pages, total, statement, tuple(values))


def download(database: Database, preview: Preview, chosen: Filter, kind: str) -> bytes:
    """The rows that a filter lets through as a file, the first 10,000 of a plan; of a draft those that were fetched.

    Args:
        database: where they are.
        preview: of what.
        chosen: which rows.
        kind: csv or xlsx.
    """
    from recon.reports import sheets

    if preview.drafted is None:
        found = list(preview_rows.downloaded(database, preview.planned, chosen))
    else:
        found = [preview_rows.cells(row) for row in preview.drafted if chosen.lets_through(row)]
    headings = preview.planned.headings()
    if kind == "csv":
        return sheets.csv_bytes(headings, found)
    return sheets.excel_bytes("changes", headings, found)


def download_name(preview: Preview, kind: str) -> str:
    """What a downloaded file is called."""
    return f"{preview.plan.plan if preview.plan else f'{preview.reconciliation}-draft'}-rows.{kind}"


# -- how a plan stands now -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """What somebody did with a plan."""

    at: Any
    actor: str
    event: str
    detail: Mapping[str, Any]


def review(database: Database, workspace: Workspace, plan: str) -> Review:
    """How a plan stands now: all its rows are compared with what is there. Raises NotFound."""
    return reviewing.collect(database, workspace, plan, drifts=SHOWN_DRIFTS)


def log(database: Database, plan: str) -> list[Entry]:
    """What was done with a plan, first to last."""
    kept = tables.audit_log
    query = sa.select(kept).where(kept.c.plan == plan).order_by(kept.c.entry).limit(LOG_ENTRIES)
    with database.session(read_only=True) as session:
        found = session.connection.execute(query).mappings().all()
    return [Entry(row["at"], row["actor"], _event(row), row["detail"]) for row in found]


def _event(row: Mapping[Any, Any]) -> str:
    if row["event"] != "move":
        return str(row["event"])
    return f"{row['from_state']} → {row['to_state']}" if row["from_state"] else str(row["to_state"])


def by_author(preview: Preview, actor: str) -> bool:
    """Whether the acting person made the plan."""
    return preview.plan is not None and same_person(actor, preview.plan.author)
