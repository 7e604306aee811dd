"""The script of database roles for one reconciliation: plan, review, apply, service and owner, and what each may do.

It is printed and never run from here: a person reads it, and the owner of the database runs it. It can be run again,
and for each further reconciliation of the same database; the rights on users' tables add up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from sqlglot import exp

from recon import expressions
from recon.database import relations, tables
from recon.database.connect import Database, Session
from recon.database.relations import Relation
from recon.errors import SchemaMismatch, SpecError, UsageError
from recon.names import DIALECT, quote
from recon.outside import jobs
from recon.sources.mirrored import is_mirror
from recon.spec import Reconciliation
from recon.spec_parts import RecordSet

PLAN, REVIEW, APPLY, OWNER = "plan", "review", "apply", "owner"
SERVICE = "service"  # takes events and keeps mirrors in step: it plans and applies too
LONGEST_PREFIX = 40  # characters: with what follows it a name stays far below PostgreSQL's 63 bytes

_LOG = {"audit_log": "INSERT", "audit_head": "UPDATE (entry, hash)", "plans": "UPDATE (state)"}
# Whoever runs a notebook says how it goes; only a reviewer signs what it made.
_TELLS = "state, completed_at, run, plan, file, digest, figures, inputs, error"
_NOTEBOOKS = f"INSERT (id, notebook, reconciliation, state, actor, parameters), UPDATE ({_TELLS})"
# What each role may do to recon's own tables, beside reading all of them. The owner's role owns them.
OWN_TABLES: dict[str, dict[str, str]] = {
    PLAN: _LOG
    | {
        "plans": "INSERT, UPDATE (state)",
        "runs": "INSERT, UPDATE",
        "overrides": "INSERT, UPDATE (undone_at, undone_by, undone_reason)",
        "breaks": "INSERT, UPDATE",
        "break_log": "INSERT",
        "import_issues": "INSERT, UPDATE",
        "backtests": "INSERT",
        "check_results": "INSERT",
        "notebook_runs": _NOTEBOOKS,
    },
    REVIEW: _LOG
    | {
        # A person's approval takes the place of an earlier one of theirs.
        "approvals": "INSERT, DELETE" + (", UPDATE (withdrawn_at)" if "withdrawn_at" in tables.approvals.c else ""),
        "standing_sign_offs": "INSERT, UPDATE (withdrawn_at, withdrawn_by, withdrawn_reason)",
        "notebook_runs": f"{_NOTEBOOKS}, UPDATE (signed_by, signed_at, signature, key)",
    },
    APPLY: _LOG
    | {
        "batches": "INSERT",
        "outside_changes": "INSERT, UPDATE",
        "check_results": "INSERT",
        "notebook_runs": _NOTEBOOKS,
    },
    SERVICE: {
        "webhook_events": "INSERT, UPDATE",
        "sync_runs": "INSERT, UPDATE",
        "sync_marks": "INSERT, UPDATE",
        "follow_ups": "INSERT, UPDATE, DELETE",  # those that ended long ago are forgotten
    },
}


@dataclass(frozen=True)
class Written:
    """The columns of the written table that a backfill of a spec sets."""

    updated: tuple[str, ...]
    inserted: tuple[str, ...]  # empty: it inserts nothing


def written(spec: Reconciliation) -> Written:
    """Which columns the actions of a spec write, whatever a plan of it holds."""
    backfill: dict[str, Any] = spec.model_dump()["backfill"] or {}
    changed, orphan, missing = (backfill.get(name) for name in ("changed", "orphan", "missing"))
    link = [spec.link.column, *spec.link.also] if spec.link else []
    updated = [*link]
    if changed:
        updates = changed.get("update") or []
        updated += list(spec.compare) if updates == "all" else list(updates)
        updated += [name for item in changed.get("also") or [] for name in item["set"]]
    if orphan:
        updated += list(orphan["set"])
    inserted: list[str] = []
    if missing is not None:
        identity = [left.tree for left, _ in spec.passes[0].pairs]
        inserted = [tree.name for tree in identity if isinstance(tree, exp.Column)]
        inserted += [*link, *spec.compare, *(missing.get("insert") or {})]
        inserted += [spec.scope] if spec.scope else []
    return Written(tuple(dict.fromkeys(updated)), tuple(dict.fromkeys(inserted)))


def script(
    database: Database,
    spec: Reconciliation,
    prefix: str = "recon",
    *,
    fills: Mapping[str, str] | None = None,
    receives: bool = False,
) -> str:
    """The SQL that makes the roles and grants what a spec needs.

    Args:
        database: where its tables are; it is looked at, and nothing is granted.
        spec: the reconciliation.
        prefix: what the names of the roles begin with.
        fills: further tables (their names as SQL) that every run fills, and the rights that this takes.
        receives: whether events of an outside system are received for it.

    Raises:
        UsageError: no role can be named so.
        SchemaMismatch: a table or column of the spec is missing, or its records are in no table.
    """
    if not re.fullmatch(rf"[a-z_][a-z0-9_]{{0,{LONGEST_PREFIX - 1}}}", prefix) or prefix.startswith("pg_"):
        raise UsageError(
            f"No role is named after {prefix[:80]!r}.",
            why=f"A prefix has letters from a to z, digits and _, at most {LONGEST_PREFIX}; pg_ is PostgreSQL's own.",
        )
    kinds = (PLAN, REVIEW, APPLY, OWNER, *([SERVICE] if receives or is_mirror(spec) else []))
    roles = {kind: f"{prefix}_{kind}" for kind in kinds}
    tables.ensure(database)
    with database.session(read_only=True) as session:
        parts = [
            *_roles(session, roles),
            *_own_tables(roles),
            *_queue(session, roles),
            *_users_tables(session, spec, roles),
            *_filled(fills or {}, roles[PLAN]),
        ]
    return "\n\n".join(["BEGIN;", *parts, "COMMIT;"]) + "\n"


# -- the parts of the script -----------------------------------------------------------------------------


def _roles(session: Session, roles: dict[str, str]) -> list[str]:
    made = [
        f"    IF to_regrole({_text(quote(name))}) IS NULL THEN CREATE ROLE {quote(name)} NOLOGIN; END IF;"
        for name in roles.values()
    ]
    owner, plan = quote(roles[OWNER]), quote(roles[PLAN])
    database = quote(session.value("SELECT current_database()::text"))
    return [
        "-- The roles. Nobody connects as one of them: grant each person's own role the one of their work, and not two.",
        "\n".join(["DO $roles$ BEGIN", *made, "END $roles$;"]),
        f"-- The owner takes over what members of the plan role make.\nGRANT {plan} TO {owner};",
        "-- Whoever runs this goes on owning recon's tables, through the role.\n"  # noqa: S608 (quoted names)
        "DO $owner$ BEGIN\n    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN"
        f" GRANT {owner} TO CURRENT_USER; END IF;\nEND $owner$;",
        f"GRANT CONNECT ON DATABASE {database} TO {_all(roles)}, {owner};\n"
        f"GRANT TEMPORARY ON DATABASE {database} TO {plan}, {quote(roles[REVIEW])};",
        *_service(roles),
        "-- A schema is only given to a role that could have made it.\n"
        f"GRANT CREATE ON DATABASE {database} TO {owner};\n"
        f"ALTER SCHEMA recon OWNER TO {owner};\n"
        f"REVOKE CREATE ON DATABASE {database} FROM {owner};\n"
        f"REVOKE ALL ON SCHEMA recon FROM PUBLIC, {_all(roles)};\n"
        f"GRANT USAGE ON SCHEMA recon TO {_all(roles)};\n"
        f"GRANT CREATE ON SCHEMA recon TO {plan};",
    ]


def _service(roles: dict[str, str]) -> list[str]:
    if SERVICE not in roles:
        return []
    granted = f"GRANT {quote(roles[PLAN])}, {quote(roles[APPLY])} TO {quote(roles[SERVICE])};"
    return [f"-- Who takes events plans and applies what they lead to, under a standing sign-off.\n{granted}"]


def _own_tables(roles: dict[str, str]) -> list[str]:
    lines: list[str] = []
    for table in tables.metadata.sorted_tables:
        name = f"{quote(tables.SCHEMA)}.{quote(table.name)}"
        lines += [
            f"ALTER TABLE {name} OWNER TO {quote(roles[OWNER])};",
            f"REVOKE ALL ON {name} FROM PUBLIC, {_all(roles)};",
            f"GRANT SELECT ON {name} TO {_all(roles)};",
        ]
        for kind, rights in OWN_TABLES.items():
            if kind in roles and table.name in rights:
                lines.append(f"GRANT {rights[table.name]} ON {name} TO {quote(roles[kind])};")
    named = {kind: _text(name) for kind, name in roles.items()}
    function = resources.files("recon.backfill").joinpath("hand_over.sql").read_text(encoding="utf-8")
    existing = resources.files("recon.backfill").joinpath("hand_over_existing.sql").read_text(encoding="utf-8")
    return [
        "-- recon's own tables: all read them; nobody edits an approval, a plan or an entry of the log.\n"
        + "\n".join(lines),
        "-- A plan's tables belong to the owner as soon as it is made, so that nobody edits what was staged.\n"
        + function.format(**named).rstrip(),
        f"ALTER FUNCTION recon.hand_over(text) OWNER TO {quote(roles[OWNER])};\n"
        f"REVOKE ALL ON FUNCTION recon.hand_over(text) FROM PUBLIC;\n"
        f"GRANT EXECUTE ON FUNCTION recon.hand_over(text) TO {quote(roles[PLAN])};",
        "-- Tables of runs and plans that there are already.\n" + existing.format(**named).rstrip(),
    ]


def _queue(session: Session, roles: dict[str, str]) -> list[str]:
    """The rights on the worker's queue, where there is one."""
    if SERVICE not in roles:
        return []
    lines = [
        f"GRANT {'USAGE' if kind == 'S' else 'SELECT, INSERT, UPDATE, DELETE'} ON"
        f" {'SEQUENCE ' if kind == 'S' else ''}{quote(tables.SCHEMA)}.{quote(name)} TO {quote(roles[SERVICE])};"
        for name, kind in session.rows(_QUEUE, tables.SCHEMA)
    ]
    return ["-- The queue of the worker.\n" + "\n".join(lines)] if lines else []


_QUEUE = """
    SELECT relname::text, relkind::text FROM pg_class
    WHERE relnamespace = to_regnamespace($1) AND relname LIKE 'procrastinate%' AND relkind IN ('r', 'S') ORDER BY 1
"""


def _users_tables(session: Session, spec: Reconciliation, roles: dict[str, str]) -> list[str]:
    session.users_path()
    target, source = relations.records(session, spec, "t"), relations.records(session, spec, "s")
    name = spec.target.writes or spec.target.relation
    changed = written(spec)
    table = relations.table(session, name, "t") if name else None
    for column in (*changed.updated, *changed.inserted):
        if table is None:
            raise SpecError(f"{spec.name} names no table to write.", todo="Add `writes` beside the target's `query`.")
        expressions.resolve_name(column, table.columns, table.label)
    sides = (target, source, *([table] if table else []), *_asked(session, spec))
    read = {_name(tree) for side in sides for tree in _tables(side)}
    if not read:
        raise SchemaMismatch(f"{spec.name} reads no table.", why="Roles are for tables.")
    schemas = sorted({schema for schema, _ in read})
    reading = [f"GRANT USAGE ON SCHEMA {quote(schema)} TO {_all(roles)};" for schema in schemas]
    reading += [f"GRANT SELECT ON {quote(schema)}.{quote(one)} TO {_all(roles)};" for schema, one in sorted(read)]
    parts = ["-- The records: all read them.\n" + "\n".join(reading)]
    if table is not None and (changed.updated or changed.inserted):
        writing = _writing(session, table, changed, quote(roles[APPLY]))
        parts.append("-- And one role writes them, only the columns of this reconciliation.\n" + "\n".join(writing))
    taken = spec.source.relation or spec.source.landing
    if SERVICE in roles and taken is not None:
        right = f"GRANT INSERT, UPDATE ON {_in_full(session, taken)} TO {quote(roles[SERVICE])};"
        parts.append(f"-- An event brings its record, and a mirror's source all of them.\n{right}")
    if SERVICE in roles and (needed := _handlers(spec)):
        given = [
            f"GRANT {rights} ON {_in_full(session, name)} TO {quote(roles[SERVICE])};"
            for name, rights in needed.items()
        ]
        parts.append("-- What follow-ups keep.\n" + "\n".join(given))
    return parts


def _in_full(session: Session, name: str) -> str:
    """A table with its schema, as SQL."""
    return ".".join(quote(part) for part in _name(relations.table(session, name, "t").tree))


def _handlers(spec: Reconciliation) -> dict[str, str]:
    """The tables that the handlers of a spec's follow-ups write, and the rights that they ask for there."""
    found: dict[str, str] = {}
    for follow_up in spec.follow_ups or ():
        if follow_up.job in jobs.installed():
            found |= jobs.rights(jobs.open_handler(follow_up.job))
    return found


def _asked(session: Session, spec: Reconciliation) -> list[Relation]:
    """What the suite of checks asks beside the two sides."""
    asked = [
        RecordSet.model_validate({"query": rule.query, "key": rule.key})
        for rule in spec.expect.never.values()
        if rule.query is not None
    ]
    return [relations.records(session, spec.model_copy(update={"target": one}), "t") for one in asked]


def _filled(fills: Mapping[str, str], plan: str) -> list[str]:
    """The rights on tables that every run fills, for whoever matches."""
    if not fills:
        return []
    schemas = sorted({exp.to_table(name, dialect=DIALECT).db for name in fills})
    lines = [f"GRANT USAGE ON SCHEMA {quote(schema)} TO {quote(plan)};" for schema in schemas]
    lines += [f"GRANT {rights} ON {name} TO {quote(plan)};" for name, rights in fills.items()]
    return ["-- Every run fills these.\n" + "\n".join(lines)]


def _writing(session: Session, table: Relation, changed: Written, apply: str) -> list[str]:
    (schema, one), lines = _name(table.tree), list[str]()
    name = f"{quote(schema)}.{quote(one)}"
    if changed.updated:
        lines.append(f"GRANT UPDATE ({_columns(changed.updated)}) ON {name} TO {apply};")
    if changed.inserted:
        lines.append(f"GRANT INSERT ({_columns(changed.inserted)}) ON {name} TO {apply};")
        lines.append(f"GRANT DELETE ON {name} TO {apply};")  # a revert takes back what was inserted
        lines += [
            f"GRANT USAGE ON SEQUENCE {quote(schema)}.{quote(sequence)} TO {apply};"
            for schema, sequence in session.rows(_SEQUENCES, table.oid)
        ]
    return lines


# Sequences that defaults of a table draw from; those of identity columns need no right.
_SEQUENCES = """
    SELECT DISTINCT namespace.nspname::text, sequence.relname::text
    FROM pg_attrdef JOIN pg_depend ON pg_depend.classid = 'pg_attrdef'::regclass AND pg_depend.objid = pg_attrdef.oid
    JOIN pg_class AS sequence ON pg_depend.refclassid = 'pg_class'::regclass AND sequence.oid = pg_depend.refobjid
    JOIN pg_namespace AS namespace ON namespace.oid = sequence.relnamespace
    WHERE adrelid = $1::oid AND sequence.relkind = 'S' ORDER BY 1, 2
"""


def _tables(relation: Relation) -> Iterable[exp.Expr]:
    """The tables that a relation reads; in a query all but its own WITH queries are named with their schema."""
    return [node for node in relation.tree.find_all(exp.Table) if node.args.get("db") is not None]


def _name(tree: exp.Expr) -> tuple[str, str]:
    return tree.args["db"].name, tree.this.name


def _all(roles: dict[str, str]) -> str:
    """Those who work: everybody but the owner."""
    return ", ".join(quote(roles[kind]) for kind in (PLAN, REVIEW, APPLY))


def _columns(names: Sequence[str]) -> str:
    return ", ".join(quote(name) for name in names)


def _text(value: str) -> str:
    return exp.Literal.string(value).sql(DIALECT)
