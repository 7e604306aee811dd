"""Decisions to plan: freeze the changes of a run as staged rows and a bundle, before anyone is asked to sign."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from recon.backfill import bundle, change, contents, lint, outside_bundle, review_page, scripts, states, veils
from recon.backfill.absences import Lookup, Records
from recon.backfill.change import Change, Shape
from recon.backfill.limits import LIMITS
from recon.backfill.staging import Draft, Staged, stage
from recon.database import relations, roles, tables
from recon.database.connect import Database, Session
from recon.errors import NotFound, SchemaMismatch, SpecError, UsageError, did_you_mean
from recon.expressions import TEXT_TYPES
from recon.matching import precision
from recon.matching import run as runs
from recon.matching.bind import bind
from recon.matching.run import Run
from recon.names import DIALECT
from recon.spec import Reconciliation
from recon.spec_parts import OVERRIDE
from recon.version import __version__
from recon.workspace import Workspace

FORMAT = 2  # of plan.json and the scripts; 1: batches by key


@dataclass(frozen=True)
class Plan:
    """A plan as the database keeps it; `document` is plan.json."""

    plan: str
    reconciliation: str
    run: str
    state: str
    digest: str
    author: str
    rows: int
    created_at: datetime
    expires_at: datetime
    document: dict[str, Any]
    bundle: Path

    @property
    def outside(self) -> dict[str, Any] | None:
        """What plan.json says of the outside system that the plan writes too; None: it writes the table only."""
        return self.document.get("outside")

    @property
    def otherwise(self) -> list[str]:
        """Which columns of the kept plan say something else than its document does.

        An earlier expiry is no other: it takes from the plan, and gives it nothing.
        """
        said = self.document
        pairs: dict[str, tuple[object, object]] = {
            "plan": (self.plan, said["plan"]),
            "reconciliation": (self.reconciliation, said["reconciliation"]),
            "run": (self.run, said["run"]),
            "author": (self.author, said["author"]),
            "rows": (self.rows, said["rows"]),
        }
        later = ["expires"] if self.expires_at > datetime.fromisoformat(said["expires"]) else []
        return [name for name, (column, signed) in pairs.items() if column != signed] + later

    def as_dict(self) -> dict[str, Any]:
        """The document of `recon plan --json`, and a little more."""
        return {
            "plan": self.plan,
            "digest": self.digest,
            "bundle": str(self.bundle),
            "rows": self.rows,
            "state": self.state,
            "reconciliation": self.reconciliation,
            "author": self.author,
            "expires": self.expires_at.isoformat(),
            **({"outside": self.outside} if self.outside else {}),
        }


def make(
    database: Database,
    workspace: Workspace,
    spec: Reconciliation,
    actor: str,
    *,
    run: str | None = None,
    passes: Sequence[str] = (),
    allow_limited: bool = False,
    over_cap: bool = False,
    again: bool = True,
    lookup: Lookup | None = None,
) -> Plan | None:
    """Freeze what a run (the latest, unless named) would change as a plan.

    Args:
        database: where the records are.
        workspace: where the bundle goes.
        spec: the reconciliation.
        actor: who plans.
        run: a run's id.
        passes: plan what these matched, and nothing else.
        allow_limited: take a run that looked at a part only.
        over_cap: take more orphans than the spec's cap, though never all of a scope.
        again: make a new plan in any case. False: a waiting plan of exactly these changes stays the one, with what
            people said to it; so a run of every night does not take away what a reviewer approved in the day.
        lookup: how suspected orphans are looked up; None: in the source's records as they are here.

    Returns:
        The plan, or None where nothing would change: there is nothing to sign.

    Raises:
        UsageError: the run was limited, or the rules changed since.
        NotFound: there is no run, or no such pass.
        OverCap: more orphans than the spec allows.
        Stale: decisions of the run no longer hold.
        SchemaMismatch: the tables cannot take it, or two rows name the same record outside.
    """
    outside = spec.target.outside
    where = outside_bundle.place(outside, workspace.variables) if outside else None
    frozen = _Frozen(database, spec, run, passes, allow_limited=allow_limited, over_cap=over_cap, lookup=lookup)
    plan = frozen.plan
    folder = workspace.backfills / plan
    folder.mkdir(parents=True)
    try:
        with database.session() as session:
            # One writer at a time makes plans of one reconciliation, so that one of them is the newest.
            session.execute("SELECT pg_advisory_xact_lock($1::int, hashtext($2))", tables.LOCK_SPACE, spec.name)
            draft, found = frozen.stage(session)
            rows = sum(found.actions.values())
            same = None if again or not rows else _same(session, workspace, draft, found, where)
            if rows and not same:
                _keep(session, database, workspace, draft, found, actor, where)
            else:
                session.rollback()
    except BaseException:
        shutil.rmtree(folder)
        raise
    if same or not rows:
        shutil.rmtree(folder)
    return load(database, workspace, same or plan) if rows else None


def _same(session: Session, workspace: Workspace, draft: Draft, found: Staged, where: str | None) -> str | None:
    """The newest waiting plan, if it holds exactly the changes that were just staged, by the same rules and terms."""
    waiting = session.connection.execute(
        sa.select(tables.plans)
        .where(tables.plans.c.reconciliation == found.change.bound.spec.name)
        .where(tables.plans.c.state.in_(("planned", "approved")), tables.plans.c.expires_at > sa.func.now())
        .where(scope_of_plan().is_not_distinct_from(_of(draft.decided)))
        .order_by(tables.plans.c.created_at.desc(), tables.plans.c.plan.desc())
        .limit(1)
    ).mappings().first()  # fmt: skip
    if waiting is None or not (workspace.backfills / waiting["plan"] / bundle.MANIFEST).is_file():
        return None
    document = json.loads(waiting["document"])
    terms = {
        "format": FORMAT,
        "spec_digest": found.change.bound.spec.digest,
        "run_limited": draft.decided.limited,
        "tolerance_rows": workspace.policy.plan.tolerance_rows,
        "policy": workspace.policy.sign_off.model_dump(),
        "schema_fingerprint": relations.fingerprint(session, found.change.table),
        "left_out": found.left_out,
    }
    if any(document.get(name) != term for name, term in terms.items()):
        return None
    if where is not None:
        sha, count = outside_bundle.write(session, found.change, draft.plan, None)
        if document.get("outside") != outside_bundle.document(found.change, where, count):
            return None
        if document["files"][bundle.OUTSIDE] != sha:
            return None
    shape, signed = found.change.shape, document["files"][bundle.CHANGES]
    if bundle.staged_digest(session, shape, draft.plan) == signed:
        return waiting["plan"]
    moments = found.change.moments
    if not moments or session.value("SELECT to_regclass($1)::oid", f"recon.staged_{waiting['plan']}") is None:
        return None
    intact = bundle.staged_digest(session, shape, waiting["plan"]) == signed
    return waiting["plan"] if intact and _alike(session, shape, moments, waiting["plan"], draft.plan) else None


def _alike(session: Session, shape: Shape, moments: Collection[str], older: str, newer: str) -> bool:
    """Whether two plans stage the same but for when they were made, which `now()` wrote into these columns."""
    columns = ", ".join(
        f'"{name}" IS NULL' if name in moments else f'"{name}"'
        for name in shape.staged_columns  # names of our own
    )
    one, other = (f"SELECT {columns} FROM {tables.own('staged', plan).sql(DIALECT)}" for plan in (older, newer))  # noqa: S608
    differ = f"({one} EXCEPT ALL {other}) UNION ALL ({other} EXCEPT ALL {one})"
    return session.value(f"SELECT count(*) FROM ({differ}) AS differ") == 0  # noqa: S608


@contextmanager
def drafted(database: Database, spec: Reconciliation) -> Generator[tuple[Session, Draft, Staged]]:
    """What `make` would freeze of the latest run: staged, in a transaction that keeps nothing of it.

    Raises:
        The same as `make`.
    """
    frozen = _Frozen(database, spec)
    with database.session() as session:
        try:
            yield session, *frozen.stage(session)
        finally:
            session.rollback()


class _Frozen:
    """What a plan takes of a run; it may be made, or only looked at."""

    def __init__(
        self,
        database: Database,
        spec: Reconciliation,
        run: str | None = None,
        passes: Sequence[str] = (),
        *,
        allow_limited: bool = False,
        over_cap: bool = False,
        lookup: Lookup | None = None,
    ) -> None:
        self.decided = runs.load(database, spec.name, run)
        self.chosen = _chosen_passes(spec, passes)
        _usable(self.decided, spec, allow_limited)
        self.plan = tables.new_id(spec.name)
        self._database, self._spec = database, spec
        self._whole, self._over_cap, self._lookup = not passes, over_cap, lookup

    def stage(self, session: Session) -> tuple[Draft, Staged]:
        made = _change(session, self._spec)
        draft = Draft(made, self.plan, self.decided, self.chosen, whole=self._whole, over_cap=self._over_cap)
        return draft, stage(session, draft, self._lookup or Records(self._database, made.bound))


def _chosen_passes(spec: Reconciliation, passes: Sequence[str]) -> list[str]:
    names = [OVERRIDE, *(rule.name for rule in spec.passes)]
    for name in passes:
        if name not in names:
            raise NotFound(
                f'{spec.name} has no pass "{name}".', why=did_you_mean(name, names), todo=f"It has: {', '.join(names)}."
            )
    return [name for name in names if not passes or name in passes]


def _usable(decided: Run, spec: Reconciliation, allow_limited: bool) -> None:
    if spec.only_finds:
        raise SpecError(
            f"{spec.name} has neither a link nor a `backfill`.",
            why="There is nothing that a plan could write.",
            todo="Say under `backfill` what is done about missing, changed and orphaned records.",
        )
    if decided.limited and not allow_limited:
        said = ", ".join(f"{name} {value}" for name, value in decided.limited.items())
        raise UsageError(
            f"Run {decided.run} looked at a part of the records only ({said}).",
            why="A plan from it would leave the rest out silently.",
            todo="Run `recon match` without limits, or plan with --limited to say that you mean it.",
        )
    if decided.spec_digest != spec.digest:
        raise UsageError(
            f"The rules of {spec.name} changed since run {decided.run}.",
            why="A plan carries out what today's rules decide.",
            todo=f"Run `recon match {spec.name}` again.",
        )


def _change(session: Session, spec: Reconciliation) -> Change:
    written = spec.target.writes or spec.target.relation
    if written is None:
        raise SpecError(f"{spec.name} names no table to write.", todo="Add `writes` beside the target's `query`.")
    session.users_path()
    table = relations.table(session, written, "t")
    bound = bind(session, spec)
    if not relations.is_unique(session, table, spec.target.keys):
        raise SchemaMismatch(
            f"{written} has no unique index on {', '.join(spec.target.keys)}.",
            why="Without it a change could reach, or a revert undo, a row that was never planned.",
            todo="Create a unique index on the key, or name another key.",
        )
    made = change.of(bound, table)
    if spec.link and table.columns[spec.link.column] in TEXT_TYPES:
        made = replace(made, link_collation=relations.collation(session, table, spec.link.column))
    fixed = relations.unwritable(session, table, made.columns)
    if fixed:
        raise SchemaMismatch(
            f"{written} computes {', '.join(fixed)} itself.", why="Nobody can write a generated column.",
            todo="Name another column.",
        )  # fmt: skip
    if made.inserts:
        _insertable(session, made, written)
    return made


def _insertable(session: Session, made: Change, written: str) -> None:
    """Refuse a table into which the rows that the spec describes cannot go, or could go twice."""
    if not relations.is_unique(session, made.table, made.identity):
        raise SchemaMismatch(
            f"{written} has no unique index on {', '.join(made.identity)}.",
            why="By these an inserted record is known; without it somebody else may insert the same at the same time.",
            todo="Create a unique index on these columns.",
        )
    needed = relations.needed(session, made.table, [value.column for value in made.inserts])
    if needed:
        raise SchemaMismatch(
            f"A new record of {written} needs {', '.join(needed)}.",
            why="These columns have no default and may not be NULL.",
            todo="Say under `backfill.missing.insert` what they take.",
        )


def _keep(
    session: Session,
    database: Database,
    workspace: Workspace,
    draft: Draft,
    found: Staged,
    actor: str,
    where: str | None,
) -> None:
    """Write the bundle and the plan; the database row comes last, so that a plan is always whole."""
    made, plan = found.change, draft.plan
    folder, rows = workspace.backfills / plan, sum(found.actions.values())
    files = {bundle.CHANGES: bundle.write_changes(session, made.shape, plan, folder / bundle.CHANGES)}
    texts = scripts.all_scripts(made, plan)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        files[name] = bundle.digest(text)
    now = datetime.now(UTC)
    created = now.replace(microsecond=0)
    expires = created + timedelta(days=workspace.policy.plan.expires_days)
    counts = session.rows(
        f'SELECT "pass", count(*) FROM {draft.staged.sql(DIALECT)} GROUP BY 1'  # noqa: S608 (our own)
    )
    document = {
        "format": FORMAT,
        "plan": plan,
        "reconciliation": made.bound.spec.name,
        "spec_digest": made.bound.spec.digest,
        "run": draft.decided.run,
        "run_limited": draft.decided.limited,
        "cardinality": made.bound.spec.cardinality,
        "passes": {name: dict(counts).get(name, 0) for name in draft.passes},
        "actions": found.actions,
        "columns": {action: made.written(action) for action in found.actions},
        "left_out": found.left_out,
        "rows": rows,
        "tolerance_rows": workspace.policy.plan.tolerance_rows,
        "target": {
            "schema": made.table.tree.args["db"].name,
            "table": made.table.tree.name,
            "key": made.keys,
            "columns": list(made.columns),
        },
        "source_key": made.bound.spec.source.keys,
        "schema_fingerprint": relations.fingerprint(session, made.table),
        "database": relations.identity(session),
        "environment": workspace.settings.environment or database.environment,
        "policy": workspace.policy.sign_off.model_dump(),
        "session": LIMITS,
        "author": actor,
        "created": created.isoformat(),
        "expires": expires.isoformat(),
        "tool": f"recon {__version__}",
        "files": files,
    }
    if where is not None:
        files[bundle.OUTSIDE], count = outside_bundle.write(session, made, plan, folder / bundle.OUTSIDE)
        document["outside"] = outside_bundle.document(made, where, count)
    if found.orphans:
        document["orphans"] = found.orphans
        if draft.over_cap:
            document["over_cap"] = True
    if private := veils.document(made):
        document[veils.PRIVATE] = private
    lint.refuse(document, texts)  # a refusal here is a fault of ours, and better found now
    known = precision.measured(database, made.bound.spec.name, made.bound.spec.digest)
    # Veiled whoever plans: the page goes with the bundle to everybody.
    page = review_page.page(contents.of(session, document, texts, known))
    (folder / bundle.REVIEW).write_text(page, encoding="utf-8")
    files[bundle.REVIEW] = bundle.digest(page)
    text = bundle.canonical(document)
    (folder / bundle.MANIFEST).write_text(text, encoding="utf-8")
    _supersede(session, made.bound.spec.name, plan, actor, _of(draft.decided))
    states.create(
        session,
        {
            "plan": plan, "reconciliation": made.bound.spec.name, "run": draft.decided.run,
            "digest": bundle.digest(text), "document": text, "author": actor, "row_count": rows,
            "created_at": now, "expires_at": expires,  # whole, so that two plans of one second stand in their order
        },
        actor,
    )  # fmt: skip
    roles.hand_over(session, plan)


def scope_of_plan() -> sa.ColumnElement[str | None]:
    """The scope that a plan is of; NULL: of all."""
    return sa.cast(tables.plans.c.document, JSONB)["run_limited"]["scope"].astext


def _of(decided: Run) -> str | None:
    return (decided.limited or {}).get("scope")


def _supersede(session: Session, reconciliation: str, plan: str, actor: str, scope: str | None) -> None:
    """Put a plan in place of those that wait; one of a single scope gives way to one of the same or of all."""
    replaced = sa.true() if scope is None else scope_of_plan().is_not_distinct_from(scope)
    waiting = session.connection.execute(
        sa.select(tables.plans.c.plan)
        .where(tables.plans.c.reconciliation == reconciliation, tables.plans.c.state.in_(("planned", "approved")))
        .where(replaced)
        .order_by(tables.plans.c.plan)
        .with_for_update()  # all before the first move, which locks the log
    ).scalars()
    for older in list(waiting):
        states.move(session, older, "superseded", actor, by=plan)


def retire(database: Database, run: Run, actor: str) -> None:
    """Put the plans that wait out of the way, for a run of their scope found that nothing is left to change."""
    with database.session() as session:
        session.execute("SELECT pg_advisory_xact_lock($1::int, hashtext($2))", tables.LOCK_SPACE, run.reconciliation)
        _supersede(session, run.reconciliation, run.run, actor, _of(run))


# -- what is kept ----------------------------------------------------------------------------------------


def load(database: Database, workspace: Workspace, plan: str) -> Plan:
    """A plan by its id. Raises NotFound."""
    tables.ensure(database)
    with database.session(read_only=True) as session:
        return read(session, workspace, plan)


def read(session: Session, workspace: Workspace, plan: str) -> Plan:
    """A plan by its id, in the caller's transaction. Raises NotFound."""
    states.current(session, plan)
    row = session.connection.execute(sa.select(tables.plans).where(tables.plans.c.plan == plan)).mappings().one()
    return _plan(dict(row), workspace)


def listed(
    database: Database,
    workspace: Workspace,
    reconciliation: str | None = None,
    states: Sequence[str] = (),
    scope: str | None = None,
) -> list[Plan]:
    """Every plan, newest first; or those of a reconciliation, in one of these states, of one scope alone."""
    tables.ensure(database)
    query = sa.select(tables.plans).order_by(tables.plans.c.created_at.desc(), tables.plans.c.plan.desc())
    if reconciliation:
        query = query.where(tables.plans.c.reconciliation == reconciliation)
    if states:
        query = query.where(tables.plans.c.state.in_(states))
    if scope is not None:
        query = query.where(scope_of_plan() == scope)
    with database.session(read_only=True) as session:
        return [_plan(dict(row), workspace) for row in session.connection.execute(query).mappings()]


def _plan(row: dict[str, Any], workspace: Workspace) -> Plan:
    expires = row["expires_at"]
    if not isinstance(expires, datetime):  # somebody wrote infinity: later than any plan says, and so refused
        expires = datetime.max.replace(tzinfo=UTC)
    return Plan(
        plan=row["plan"],
        reconciliation=row["reconciliation"],
        run=row["run"],
        state=row["state"],
        digest=row["digest"],
        author=row["author"],
        rows=row["row_count"],
        created_at=row["created_at"],
        expires_at=expires,
        document=json.loads(row["document"]),
        bundle=workspace.backfills / row["plan"],
    )
