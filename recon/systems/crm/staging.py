"""Schema `staging`: what people of the CRM query, written after every run in one transaction, and the log of all runs.

These are tables for database users: rights on them decide who sees what, and private columns are not veiled in them.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from psycopg import errors as pg_errors
from psycopg.types.json import Jsonb
from sqlglot import exp

from recon import expressions
from recon.database import relations, tables
from recon.database.connect import Database, Session
from recon.database.relations import Relation
from recon.errors import DatabaseFailed, SpecError
from recon.expressions import Expression
from recon.matching import comparison
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.coverage import RECONCILED, statistics
from recon.matching.pool import creating, temporary
from recon.matching.run import Run
from recon.matching.statements import case
from recon.names import column, identifier, quote
from recon.spec import Reconciliation

_STAGED = "recon_staged"
# What the server says where a relation of schema staging is not the one that recon made.
_NOT_OURS = (
    pg_errors.UndefinedColumn, pg_errors.InvalidColumnReference, pg_errors.WrongObjectType, pg_errors.DuplicateTable,
)  # fmt: skip
ONLY = "hubspot_only"  # a record of HubSpot that no legacy record agrees with
# What an outcome is called here; the others keep their names.
_STATUS = {**dict.fromkeys(RECONCILED, "matched"), "missing": "unmatched", "orphan": ONLY}


@dataclass(frozen=True)
class Object:
    """One kind of record: what it and several of it are called, and the HubSpot properties that make its name."""

    one: str
    many: str
    names: Sequence[str]

    @property
    def table(self) -> str:
        return f"staging.{quote(f'{self.many}_reconciliation')}"

    @property
    def ids(self) -> tuple[str, str]:
        return quote(f"legacy_{self.one}_id"), quote(f"hubspot_{self.one}_id")


OBJECTS = {
    "crm_companies": Object("company", "companies", ("name",)),
    "crm_contacts": Object("contact", "contacts", ("firstname", "lastname")),
    "crm_deals": Object("deal", "deals", ("dealname",)),
    "crm_communications": Object("communication", "communications", ("hs_engagement_subject",)),
}


def refresh(database: Database, spec: Reconciliation, run: Run) -> None:
    """Write down what a run decided: rows of the same records are replaced, and the run is added to the log.

    A run of all records also removes the rows of records that are there no more. A limited one leaves the rows of what
    it did not look at as they are.

    Raises:
        DatabaseFailed: a right on schema staging is missing, or something else bears the name of a table there; the run
            itself is kept.
        SpecError: the spec does not look from the legacy side, by one key.
    """
    kind = OBJECTS.get(spec.name)
    if kind is None:
        return
    if spec.population != "source" or len(spec.source.keys) != 1 or len(spec.target.keys) != 1:
        raise SpecError(
            f"{spec.name} cannot be listed in schema staging.",
            why="There is a row for each legacy record: the spec needs `population: source`, and keys of one column.",
            todo="Correct the spec, or give it another name.",
        )
    with database.session() as session, _listing():
        _ensure(session)
        session.execute(creating(temporary(_STAGED), _decided(bind(session, spec, shows_private=True), kind, run.run)))
        _put(session, kind, spec, run.run, whole=not run.limited)
        only = run.other_side.get("orphan")
        _log(session, kind, spec.name, run.run, statistics(run.outcomes), only=None if run.limited else only)


def without_source(database: Database, spec: Reconciliation) -> tuple[str, int] | None:
    """List HubSpot's own records that carry a legacy id, where there is no legacy side to compare them with.

    Returns:
        the table, and how many records it lists; None for a spec that is not of these objects.
    """
    kind = OBJECTS.get(spec.name)
    if kind is None:
        return None
    run = tables.new_id("map")
    with database.session() as session, _listing():
        _ensure(session)
        session.users_path()
        target = relations.records(session, spec, "t")
        session.plain_path()
        session.execute(creating(temporary(_STAGED), _carrying_an_id(spec, target, kind)))
        count = _put(session, kind, spec, run, whole=True)
        _log(session, kind, spec.name, run, statistics({}), only=count)
    return f"staging.{kind.many}_reconciliation", count


def rights(database: Database, spec: Reconciliation) -> Mapping[str, str]:
    """The rights by table that `refresh` takes; the tables are made where they are missing. Raises DatabaseFailed."""
    kind = OBJECTS.get(spec.name)
    if kind is None:
        return {}
    with database.session() as session:
        _ensure(session)
    return {kind.table: "SELECT, INSERT, UPDATE, DELETE", "staging.reconciliation_log": "SELECT, INSERT"}


# -- what is listed --------------------------------------------------------------------------------------


def _decided(bound: Bound, kind: Object, run: str) -> exp.Select:
    """The decisions of a run as rows of the object's table."""
    table = tables.own("decisions", run)
    decision = exp.Table(this=table.this, db=table.args["db"], alias=exp.TableAlias(this=identifier("d")))
    compared = {item.name: item for item in bound.compared}
    legacy_names = [compared[name].source for name in kind.names if name in compared]
    outcome = column("d", "outcome")
    words = [
        (exp.EQ(this=outcome.copy(), expression=exp.Literal.string(name)), exp.Literal.string(word))
        for name, word in _STATUS.items()
    ]
    is_only = exp.EQ(this=outcome.copy(), expression=exp.Literal.string("orphan"))
    said = bound.resolve(bound.spec.passes[0].pairs[0][0])
    evidence = column("d", "evidence") if comparison.concerns(bound) else exp.Null()
    return (
        _row(
            legacy=case(None, [(is_only, _text(said))], _text(column("d", "source_key"))),
            hubspot=_text(column("d", "target_key")),
            legacy_name=_joined(legacy_names),
            hubspot_name=_joined([column("t", name) for name in kind.names if name in bound.target.columns]),
            status=case(None, words, outcome),
            confidence=column("d", "confidence"),
            evidence=exp.cast(evidence, "jsonb"),
        )
        .from_(decision)
        .join(
            bound.target.aliased("t"),
            on=exp.EQ(this=bound.target_keys[0], expression=column("d", "target_key")),
            join_type="left",
        )
        .join(
            bound.source.aliased("s"),
            on=exp.EQ(this=bound.source_keys[0], expression=column("d", "source_key")),
            join_type="left",
        )
    )


def _carrying_an_id(spec: Reconciliation, target: Relation, kind: Object) -> exp.Select:
    """HubSpot's records with the legacy id that they carry: what the first pass compares."""

    def resolved(expression: Expression) -> exp.Expr:
        return expressions.resolve(expression, {"t": target.columns, "s": {}}, {"t": target.label, "s": "the source"})

    said = resolved(spec.passes[0].pairs[0][0])
    filled = exp.NEQ(this=exp.Anonymous(this="btrim", expressions=[_text(said)]), expression=exp.Literal.string(""))
    conditions: list[exp.Expr] = [filled]  # neither NULL nor blank
    if spec.target.where:
        conditions.append(resolved(expressions.parse(spec.target.where, "t")))
    return (
        _row(
            legacy=_text(said),
            hubspot=_text(column("t", spec.target.keys[0])),
            legacy_name=exp.cast(exp.Null(), "text"),
            hubspot_name=_joined([column("t", name) for name in kind.names if name in target.columns]),
            status=exp.Literal.string(ONLY),
            confidence=exp.cast(exp.Null(), "numeric"),
            evidence=exp.cast(exp.Null(), "jsonb"),
        )
        .from_(target.aliased("t"))
        .where(*conditions)
    )


def _row(**values: exp.Expr) -> exp.Select:
    return exp.Select(expressions=[exp.alias_(tree, name, quoted=True) for name, tree in values.items()])


def _text(tree: exp.Expr) -> exp.Expr:
    return exp.cast(exp.paren(tree.copy()), "text")


def _joined(trees: Sequence[exp.Expr]) -> exp.Expr:
    """Values with a blank between them; NULL where all are."""
    if not trees:
        return exp.cast(exp.Null(), "text")
    joined = exp.Anonymous(this="concat_ws", expressions=[exp.Literal.string(" "), *[_text(tree) for tree in trees]])
    return exp.Nullif(this=joined, expression=exp.Literal.string(""))


# -- where it is written ---------------------------------------------------------------------------------


@cache
def _scripts() -> Mapping[str, str]:
    """What creates each table, with its indexes and comments, by the table's name."""
    whole = files("recon.systems.crm").joinpath("staging.sql").read_text(encoding="utf-8")
    parts = re.split(r"^create table (staging\.\w+)", whole, flags=re.MULTILINE)
    return {name: f"create table {name}{rest}" for name, rest in zip(parts[1::2], parts[2::2], strict=True)}


@contextmanager
def _listing() -> Generator[None]:
    """Raises DatabaseFailed where a table of schema staging is somebody else's: it bears the name and has other columns."""
    try:
        yield
    except _NOT_OURS as error:
        raise DatabaseFailed(
            "The decisions are kept, but cannot be listed in schema staging.",
            why=f"Something there bears a name of recon's tables and is none: {error.diag.message_primary}.",
            todo=f"Rename it; recon makes its own: {', '.join(_scripts())}.",
        ) from None


def _ensure(session: Session) -> None:
    """Create schema and tables where they are missing."""
    try:
        session.execute("SELECT pg_advisory_xact_lock($1::int, hashtext('staging'))", tables.LOCK_SPACE)
        lacking = session.rows(
            "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NULL", list(_scripts())
        )
        if not lacking:
            return
        if session.value("SELECT to_regnamespace('staging')::text") is None:
            session.execute("CREATE SCHEMA staging")
        for (name,) in lacking:
            session.driver.execute(_scripts()[name].encode())  # several statements: sent as one simple query
    except pg_errors.InsufficientPrivilege as error:
        raise DatabaseFailed(
            "The decisions are kept, but cannot be listed in schema staging.",
            why="This database user may not create that schema, or tables in it.",
            todo="Let the database's owner run the command once, and grant the rights on schema staging and its tables.",
        ) from error


def _put(session: Session, kind: Object, spec: Reconciliation, run: str, *, whole: bool) -> int:
    """Replace the rows of the records that are staged, and of a whole run all others; returns how many are staged.

    A row keeps its time where nothing in it changed, so that what is new stands out.
    """
    legacy, hubspot = kind.ids
    session.execute(f"LOCK TABLE {kind.table} IN SHARE ROW EXCLUSIVE MODE")
    # A record that found its partner is no longer one that only HubSpot has.
    session.execute(f"""
        DELETE FROM {kind.table} AS kept USING pg_temp.{_STAGED} AS staged
        WHERE kept.reconciliation_status = '{ONLY}' AND kept.{hubspot} = staged.hubspot AND staged.status <> '{ONLY}'
    """)  # noqa: S608 (names of our own)
    fields = spec.target.outside.fields if spec.target.outside else {}
    for key, is_only in ((legacy, f"<> '{ONLY}'"), (hubspot, f"= '{ONLY}'")):
        session.execute(
            f"""
            INSERT INTO {kind.table} AS kept (
                {legacy}, {hubspot}, legacy_name, hubspot_name, reconciliation_status, match_confidence,
                properties_to_update, last_updated, run
            )
            SELECT legacy, hubspot, legacy_name, hubspot_name, status, confidence, coalesce(
                CASE WHEN evidence ? 'changes' THEN (
                    SELECT jsonb_object_agg(coalesce($2::jsonb ->> change.key, change.key), change.value -> 'after')
                    FROM jsonb_each(evidence -> 'changes') AS change WHERE change.key = ANY($3::text[])
                ) END, '{{}}'
            ), statement_timestamp(), $1 FROM pg_temp.{_STAGED} WHERE status {is_only}
            ON CONFLICT ({key}) WHERE reconciliation_status {is_only} DO UPDATE SET
                {legacy} = excluded.{legacy}, {hubspot} = excluded.{hubspot}, legacy_name = excluded.legacy_name,
                hubspot_name = excluded.hubspot_name, reconciliation_status = excluded.reconciliation_status,
                match_confidence = excluded.match_confidence, properties_to_update = excluded.properties_to_update,
                last_updated = CASE WHEN
                    (kept.{legacy}, kept.{hubspot}, kept.legacy_name, kept.hubspot_name, kept.reconciliation_status,
                        kept.match_confidence, kept.properties_to_update)
                    IS NOT DISTINCT FROM (excluded.{legacy}, excluded.{hubspot}, excluded.legacy_name,
                        excluded.hubspot_name, excluded.reconciliation_status, excluded.match_confidence,
                        excluded.properties_to_update)
                    THEN kept.last_updated ELSE excluded.last_updated END,
                run = excluded.run
            """,  # noqa: S608 (names of our own)
            run, Jsonb(dict(fields)), spec.updates or list(spec.compare),
        )  # fmt: skip
    if whole:
        session.execute(f"DELETE FROM {kind.table} WHERE run <> $1", run)  # noqa: S608
    session.execute(f"ANALYZE {kind.table}")
    return session.value(f"SELECT count(*) FROM pg_temp.{_STAGED}")  # noqa: S608


def _log(session: Session, kind: Object, name: str, run: str, counted: Mapping[str, Any], *, only: int | None) -> None:
    """Add a run to the log; nothing there is ever changed."""
    session.execute(
        f"""
        INSERT INTO staging.reconciliation_log (
            run, object, reconciliation, actor, started_at, completed_at, limited,
            total, matched, unmatched, proposed, ambiguous, excluded, errors, hubspot_only, properties_to_update
        )
        SELECT $1, $2, $3, run.actor, coalesce(run.started_at, now()), coalesce(run.completed_at, now()), run.limited,
            $4, $5, $6, $7, $8, $9, $10, $11, (
                SELECT count(*) FROM {kind.table} AS kept WHERE kept.run = $1 AND properties_to_update <> '{{}}'
            )
        FROM (SELECT) AS one LEFT JOIN recon.runs AS run ON run.run = $1
        ON CONFLICT (run, object) DO NOTHING
        """,  # noqa: S608 (names of our own)
        run, kind.many, name,
        *(counted[word] for word in ("total", "matched", "unmatched", "proposed", "ambiguous", "excluded", "errors")),
        only,
    )  # fmt: skip
