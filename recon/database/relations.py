"""What the database says of the records: relations, their columns and types, who the database is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from recon import expressions
from recon.database.connect import Session
from recon.errors import SchemaMismatch, did_you_mean
from recon.expressions import DIALECT, Side
from recon.spec import RecordSet

_COLUMNS = """
    SELECT attribute.attname, kind.typname, format_type(attribute.atttypid, attribute.atttypmod)
    FROM pg_attribute AS attribute JOIN pg_type AS kind ON kind.oid = attribute.atttypid
    WHERE attribute.attrelid = $1::oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
    ORDER BY attribute.attnum
"""
_TYPE_NAMES = "SELECT oid, typname, format_type(oid, NULL) FROM pg_type WHERE oid = ANY($1::oid[])"
_RELATION = """
    SELECT class.oid, namespace.nspname, class.relname, class.relkind
    FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
    WHERE class.oid = to_regclass($1)
"""
_RELATION_NAMES = """
    SELECT CASE WHEN pg_table_is_visible(class.oid) THEN relname ELSE nspname || '.' || relname END
    FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
    WHERE relkind IN ('r', 'v', 'm', 'f', 'p') AND nspname NOT IN ('pg_catalog', 'information_schema', 'recon')
      AND nspname NOT LIKE 'pg\\_%'
"""
# A unique index without a condition or an expression, over columns that are all among the given ones.
_UNIQUE = """
    SELECT EXISTS (
        SELECT FROM pg_index WHERE indrelid = $1::oid AND indisunique AND indisvalid AND indpred IS NULL
        AND NOT (0 = ANY(indkey::int2[])) AND (
            SELECT bool_and(attname = ANY($2::text[])) FROM pg_attribute
            WHERE attrelid = $1::oid AND attnum = ANY((indkey::int2[])[0:indnkeyatts - 1])
        )
    )
"""


@dataclass(frozen=True)
class Relation:
    """The records of one side, as SQL can name them."""

    side: Side
    label: str
    tree: exp.Expr
    columns: Mapping[str, str]  # name to type name, such as int4
    sql_types: Mapping[str, str]  # name to declared type, such as numeric(10,2)
    oid: int | None = None  # of a table; None for a query

    def aliased(self, alias: str) -> exp.Expr:
        """The relation in a FROM, under a quoted alias."""
        tree = self.tree.copy()
        name = exp.TableAlias(this=expressions.identifier(alias))
        if isinstance(tree, exp.Table):
            tree.set("alias", name)
            return tree
        return exp.Subquery(this=tree, alias=name)

    def type_of(self, name: str) -> exp.DataType:
        return exp.DataType.build(self.sql_types[name], dialect=DIALECT, udt=True)


def table(session: Session, name: str, side: Side) -> Relation:
    """A table or view by the name that a spec gives it. Raises SchemaMismatch with the nearest right name."""
    schema, bare = expressions.split_relation(name)
    written = ".".join(expressions.quote(part) for part in (schema, bare) if part is not None)
    found = session.rows(_RELATION, written)
    if not found:
        names = [row[0] for row in session.rows(_RELATION_NAMES)]
        raise SchemaMismatch(
            f'There is no table "{name}" in this database.',
            why=did_you_mean(name, names),
            todo="Correct the name, load the records first (`recon load`), or check the database URL.",
        )
    oid, schema_name, table_name, _ = found[0]
    columns = session.rows(_COLUMNS, oid)
    tree = exp.Table(this=expressions.identifier(table_name), db=expressions.identifier(schema_name))
    return Relation(side, name, tree, {c: t for c, t, _ in columns}, {c: s for c, _, s in columns}, oid)


def records(session: Session, record_set: RecordSet, side: Side) -> Relation:
    """The relation of a side of a spec, with its key and date columns checked."""
    if record_set.table is not None:
        relation = table(session, record_set.table, side)
    elif record_set.query is not None:
        query = _qualified(session, expressions.parse_query(record_set.query), side)
        label = f"the query of the {'target' if side == 't' else 'source'}"
        relation = replace(described(session, query, side), label=label)
    else:
        raise SchemaMismatch(
            "This side's records come from a file or an outside system.",
            why="This version matches tables and queries.",
            todo="Load the records into a table and name it in the spec.",
        )
    for name in (*record_set.keys, *([record_set.date] if record_set.date else [])):
        expressions.resolve_name(name, relation.columns, relation.label)
    return relation


def _qualified(session: Session, query: exp.Query, side: Side) -> exp.Query:
    """The query with every table named in full, so that it means the same under any search path."""
    named = {cte.alias for cte in query.find_all(exp.CTE)}
    for node in list(query.find_all(exp.Table)):
        if not isinstance(node.this, exp.Identifier) or (not node.db and node.name in named):
            continue
        parts = [
            part if part.args.get("quoted") else part.name.lower() for part in (node.args.get("db"), node.this) if part
        ]
        name = ".".join(expressions.quote(part if isinstance(part, str) else part.name) for part in parts)
        found = table(session, name, side).tree
        node.set("this", found.this.copy())
        node.set("db", found.args["db"].copy())
    return query


def described(session: Session, query: exp.Query, side: Side = "t") -> Relation:
    """A query as a relation: its columns and types as the server describes them."""
    cursor = session.execute(exp.Select(expressions=[exp.Star()]).from_(
        exp.Subquery(this=query.copy(), alias=exp.TableAlias(this=expressions.identifier("described")))
    ).limit(0).sql(DIALECT))  # fmt: skip
    description = cursor.description or []
    types = type_names(session, [column.type_code for column in description])
    columns = {column.name: types[column.type_code][0] for column in description}
    sql_types = {column.name: types[column.type_code][1] for column in description}
    return Relation(side, "the query", query, columns, sql_types)


def type_names(session: Session, oids: Sequence[int]) -> dict[int, tuple[str, str]]:
    """Type name and SQL name by oid."""
    return {oid: (name, sql) for oid, name, sql in session.rows(_TYPE_NAMES, list(set(oids)))}


def is_unique(session: Session, relation: Relation, keys: Sequence[str]) -> bool:
    """Whether an index proves that no two records share these columns (NULLs aside)."""
    return relation.oid is not None and bool(session.value(_UNIQUE, relation.oid, list(keys)))


def identity(session: Session) -> dict[str, str]:
    """Which database this is: the cluster's system identifier and the database's name."""
    system, name = session.rows(
        "SELECT (SELECT system_identifier::text FROM pg_control_system()), current_database()::text"
    )[0]
    return {"system_identifier": system, "database": name}


_FINGERPRINT = """
    SELECT 'column ' || attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull::text
        || ' ' || attgenerated::text
    FROM pg_attribute WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped
    UNION ALL SELECT 'constraint ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = $1::oid
    UNION ALL SELECT 'index ' || pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = $1::oid
    UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = $1::oid AND NOT tgisinternal
    UNION ALL SELECT 'rule ' || pg_get_ruledef(oid) FROM pg_rewrite WHERE ev_class = $1::oid
    ORDER BY 1
"""


def fingerprint(session: Session, relation: Relation) -> str:
    """sha256 over a table's columns, constraints, indexes, triggers and rules: what a reviewer relied on."""
    # The definitions leave out what the search path makes plain, so it is the same one for every fingerprint.
    path = session.value("SELECT current_setting('search_path')")
    session.execute("SELECT set_config('search_path', 'pg_catalog', true)")
    lines = sorted(row[0] for row in session.rows(_FINGERPRINT, relation.oid))
    session.execute("SELECT set_config('search_path', $1, true)", path)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
