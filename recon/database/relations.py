"""What the database says of the records: relations, their columns and types, who the database is."""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from psycopg import errors as pg_errors
from sqlglot import exp

from recon import expressions
from recon.database.connect import Session, temporary_right
from recon.errors import DatabaseFailed, NotLoaded, SchemaMismatch, SpecError, did_you_mean
from recon.names import DIALECT, Side, identifier, quote, split_relation
from recon.spec import Reconciliation

# The type below each domain of $1, however many domains stand on each other; another type is its own.
_BASES = """
    WITH RECURSIVE below AS (
        SELECT oid AS named, oid, typtype, typbasetype, typname FROM pg_type WHERE oid = ANY($1::oid[])
        UNION ALL SELECT below.named, kind.oid, kind.typtype, kind.typbasetype, kind.typname
        FROM below JOIN pg_type AS kind ON kind.oid = below.typbasetype WHERE below.typtype = 'd'
    )
    SELECT named, typname FROM below WHERE typtype <> 'd'
"""
_COLUMNS = """
    SELECT attname, atttypid, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
# The collation that a column compares by, where a script can name it without its schema and it tells all texts apart.
_COLLATIONS = """
    SELECT attname::text, collname::text FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation
    WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped
      AND collnamespace = 'pg_catalog'::regnamespace AND collisdeterministic
"""
_TYPE_NAMES = "SELECT oid, format_type(oid, NULL) FROM pg_type WHERE oid = ANY($1::oid[])"
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
        -- An index of a table is none of the tables that inherit from it; of a divided table it is.
        AND (NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = $1::oid)
             OR EXISTS (SELECT FROM pg_class WHERE oid = $1::oid AND relkind = 'p'))
        AND NOT (0 = ANY(indkey::int2[])) AND (
            SELECT bool_and(attname = ANY($2::text[])) FROM pg_attribute
            WHERE attrelid = $1::oid AND attnum = ANY((indkey::int2[])[0:indnkeyatts - 1])
        )
    )
"""
_UNWRITABLE = """
    SELECT attname::text FROM pg_attribute
    WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped AND attname = ANY($2::text[])
      AND (attgenerated <> '' OR attidentity = 'a')
    ORDER BY array_position($2::text[], attname::text)
"""


@dataclass(frozen=True)
class Relation:
    """The records of one side, as SQL can name them."""

    side: Side
    label: str
    tree: exp.Expr
    columns: Mapping[str, str]  # name to type name, such as int4; of a domain the type below it
    sql_types: Mapping[str, str]  # name to declared type under any search path: numeric(10,2), public.mood
    oid: int | None = None  # of a table; None for a query

    def aliased(self, alias: str) -> exp.Expr:
        """The relation in a FROM, under a quoted alias."""
        tree = self.tree.copy()
        name = exp.TableAlias(this=identifier(alias))
        if isinstance(tree, exp.Table):
            tree.set("alias", name)
            return tree
        return exp.Subquery(this=tree, alias=name)

    def only(self, names: Sequence[str]) -> Relation:
        """The same with these columns alone."""
        return replace(
            self,
            columns={name: self.columns[name] for name in names},
            sql_types={name: self.sql_types[name] for name in names},
        )

    def bare_type_of(self, name: str) -> exp.DataType:
        """The type of a column in a script, for a parameter or a NULL: of an interval without its fields.

        Lint reads scripts by sqlglot, which does not know `interval day to second(3)`.
        """
        if self.sql_types[name].startswith("interval"):
            return exp.DataType.build("interval", dialect=DIALECT)
        return self.type_of(name)

    def type_of(self, name: str) -> exp.DataType:
        """The declared type of a column, for a CAST."""
        written = self.sql_types[name].replace("bit varying", "varbit")  # the same type; sqlglot reads this name only
        # The server wrote the name, so it is right as it stands; these are the ones that sqlglot prints otherwise.
        if '"' in written or "." in written or written.startswith(("varbit", "interval")):
            return exp.DataType(this=exp.DataType.Type.USERDEFINED, kind=written)
        return exp.DataType.build(written, dialect=DIALECT, udt=True)


@contextmanager
def _full_names(session: Session) -> Generator[None]:
    """While this is open, PostgreSQL writes every name that is not its own with its schema.

    What it writes leaves out what the search path makes plain, and every session has its own path.
    """
    path = session.value("SELECT current_setting('search_path')")
    session.execute("SELECT set_config('search_path', 'pg_catalog', true)")
    yield
    # Not after an error: that ends the transaction, or its savepoint, and the setting with it.
    session.execute("SELECT set_config('search_path', $1, true)", path)


def table(session: Session, name: str, side: Side) -> Relation:
    """A table or view by the name that a spec gives it. Raises SchemaMismatch with the nearest right name."""
    return _table(session, split_relation(name), side)


def _table(session: Session, parts: tuple[str | None, str], side: Side) -> Relation:
    given = [part for part in parts if part is not None]
    label = ".".join(given)
    found = session.rows(_RELATION, ".".join(map(quote, given)))
    if not found:
        names = [row[0] for row in session.rows(_RELATION_NAMES)]
        raise SchemaMismatch(
            f'There is no table "{label}" in this database.',
            why=did_you_mean(label, names),
            todo="Correct the name, load the records first (`recon load`), or check the database URL.",
        )
    oid, schema_name, table_name, _ = found[0]
    with _full_names(session):
        columns = session.rows(_COLUMNS, oid)
    bases = _bases(session, [kind for _, kind, _ in columns])
    tree = exp.Table(this=identifier(table_name), db=identifier(schema_name))
    return Relation(side, label, tree, {c: bases[t] for c, t, _ in columns}, {c: s for c, _, s in columns}, oid)


def _bases(session: Session, oids: Sequence[int]) -> dict[int, str]:
    return dict(session.rows(_BASES, list(set(oids))))


def records(session: Session, spec: Reconciliation, side: Side) -> Relation:
    """The relation of a side of a spec, with its key and date columns checked.

    Raises:
        NotLoaded: its records come from a file or an outside system, and `recon load` was never called.
        SchemaMismatch: there is no such table or column.
    """
    record_set = spec.target if side == "t" else spec.source
    if record_set.landing is not None and not _exists(session, record_set.landing):
        raise NotLoaded(
            f"The records of {record_set.origin} were not loaded yet.",
            why=f"There is no table {record_set.landing} in this database, which takes them.",
            todo=f"Load them: `recon load {spec.name}`.",
        )
    if record_set.relation is not None:
        relation = table(session, record_set.relation, side)
    else:
        assert record_set.query is not None
        query = _qualified(session, expressions.parse_query(record_set.query), side)
        _nothing_volatile(session, query)
        label = f"the query of the {'target' if side == 't' else 'source'}"
        relation = replace(described(session, query, side), label=label)
    for name in (*record_set.keys, *([record_set.date] if record_set.date else [])):
        expressions.resolve_name(name, relation.columns, relation.label)
    return relation


def _exists(session: Session, name: str) -> bool:
    parts = [part for part in split_relation(name) if part is not None]
    return session.value("SELECT to_regclass($1)", ".".join(map(quote, parts))) is not None


def _qualified(session: Session, query: exp.Query, side: Side) -> exp.Query:
    """The query with every table named in full, so that it means the same under any search path."""
    tables = [node for node in query.find_all(exp.Table) if isinstance(node.this, exp.Identifier)]
    # All first, for a table that has its schema no longer looks like the name of a CTE.
    for node in [node for node in tables if node.db or _folded(node.this) not in _ctes(node)]:
        schema = node.args.get("db")
        found = _table(session, (_folded(schema) if schema else None, _folded(node.this)), side).tree
        node.set("this", found.this.copy())
        node.set("db", found.args["db"].copy())
    return query


_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def _folded(name: exp.Expr) -> str:
    """A name as PostgreSQL reads it: in lower case (ASCII only), unless it is quoted."""
    return name.name if name.args.get("quoted") else name.name.translate(_LOWER)


def _ctes(node: exp.Expr) -> set[str]:
    """The names of the WITH queries that can be read where this table stands."""
    names: set[str] = set()
    inside: exp.Expr = node
    inside_cte: exp.Expr | None = None
    while inside.parent is not None:
        inside = inside.parent
        if isinstance(inside, exp.CTE):
            inside_cte = inside
        clause = inside.args.get("with_")
        if not isinstance(clause, exp.With):
            continue
        for cte in clause.expressions:
            if cte is inside_cte and not clause.args.get("recursive"):
                break  # without RECURSIVE a WITH query sees those before it only
            names.add(_folded(cte.args["alias"].this))
    return names


# Functions that a view calls, itself or through an operator or an aggregate. PostgreSQL's own are not
# listed: on these no dependency is kept, and which of them a query may call is decided when it is read.
_VOLATILE = """
    WITH RECURSIVE called AS (
        SELECT DISTINCT needs.refclassid AS class, needs.refobjid AS id
        FROM pg_rewrite AS rule JOIN pg_depend AS needs ON needs.classid = 'pg_rewrite'::regclass AND needs.objid = rule.oid
        WHERE rule.ev_class = to_regclass($1)
        UNION SELECT needs.refclassid, needs.refobjid
        FROM called JOIN pg_depend AS needs ON needs.classid = called.class AND needs.objid = called.id
        WHERE called.class = 'pg_operator'::regclass
           OR called.class = 'pg_proc'::regclass AND called.id IN (SELECT oid FROM pg_proc WHERE prokind = 'a')
    )
    SELECT called.id::regprocedure::text FROM called JOIN pg_proc AS function ON function.oid = called.id
    WHERE called.class = 'pg_proc'::regclass AND function.provolatile = 'v' ORDER BY 1 LIMIT 1
"""


def _nothing_volatile(session: Session, query: exp.Query) -> None:
    """Refuse a query that calls a volatile function in any disguise: as an operator, as a column, by a cast.

    The server itself says what a query calls, once it is a view; the view is taken back at once.

    Raises:
        SpecError: the query calls one.
        DatabaseFailed: the right TEMPORARY is missing.
    """
    if session.value("SELECT current_setting('transaction_read_only')") == "off":
        found = _volatile(session, query)
    else:  # not even a temporary view can be made here; what others committed is seen from beside as well
        with session.connection.engine.connect() as connection:
            beside = Session(connection)
            beside.execute("SET TRANSACTION READ WRITE")
            found = _volatile(beside, query)
            beside.rollback()
    if found:
        raise SpecError(
            f"A query calls only functions that give the same answer every time; it calls {found}.",
            why="That function is declared VOLATILE.",
            todo="Take it out of the query, or declare it STABLE or IMMUTABLE if it is.",
        )


def _volatile(session: Session, query: exp.Query) -> str | None:
    name = quote(f"recon_query_{secrets.token_hex(4)}")
    records = exp.Subquery(this=query.copy(), alias=exp.TableAlias(this=identifier("query")))
    # Around the query, so that its columns may share a name or have none.
    view = exp.Select(expressions=[exp.alias_(exp.Literal.number(1), "one")]).from_(records).sql(DIALECT)
    try:
        with session.driver.transaction(force_rollback=True):
            session.execute(f"CREATE TEMPORARY VIEW {name} AS {view}")
            return session.value(_VOLATILE, f"pg_temp.{name}")
    except pg_errors.InsufficientPrivilege as error:
        if "temporary" not in (error.diag.message_primary or ""):
            raise
        raise DatabaseFailed(
            "The query of a side cannot be checked.",
            why="recon makes a temporary view of it, which needs the right TEMPORARY on this database.",
            todo=temporary_right(session.driver.info),
        ) from error


def described(session: Session, query: exp.Query, side: Side = "t") -> Relation:
    """A query as a relation: its columns and types as the server describes them."""
    cursor = session.execute(exp.Select(expressions=[exp.Star()]).from_(
        exp.Subquery(this=query.copy(), alias=exp.TableAlias(this=identifier("described")))
    ).limit(0).sql(DIALECT))  # fmt: skip
    description = cursor.description or []
    types = type_names(session, [column.type_code for column in description])
    columns = {column.name: types[column.type_code][0] for column in description}
    sql_types = {column.name: types[column.type_code][1] for column in description}
    return Relation(side, "the query", query, columns, sql_types)


def type_names(session: Session, oids: Sequence[int]) -> dict[int, tuple[str, str]]:
    """Type name (of a domain the type below it) and SQL name under any search path, by oid."""
    bases = _bases(session, oids)
    with _full_names(session):
        return {oid: (bases[oid], sql) for oid, sql in session.rows(_TYPE_NAMES, list(set(oids)))}


def is_unique(session: Session, relation: Relation, keys: Sequence[str]) -> bool:
    """Whether an index proves that no two records share these columns (NULLs aside)."""
    return relation.oid is not None and bool(session.value(_UNIQUE, relation.oid, list(keys)))


def collation(session: Session, relation: Relation, name: str) -> str:
    """The collation by which an index on this column is ordered; the database's own where no script could name it."""
    return dict(session.rows(_COLLATIONS, relation.oid)).get(name, "default")


def unwritable(session: Session, relation: Relation, names: Sequence[str]) -> list[str]:
    """Those of the named columns that PostgreSQL alone fills: generated ones, and GENERATED ALWAYS AS IDENTITY."""
    if relation.oid is None:
        return []
    return [row[0] for row in session.rows(_UNWRITABLE, relation.oid, list(names))]


_NEEDED = """
    SELECT attname::text FROM pg_attribute
    WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef AND attidentity = ''
      AND attname <> ALL($2::text[])
    ORDER BY attnum
"""


def needed(session: Session, relation: Relation, names: Sequence[str]) -> list[str]:
    """The columns beside the named ones that a new row must be given: not NULL, and without a default."""
    return [row[0] for row in session.rows(_NEEDED, relation.oid, list(names))]


def identity(session: Session) -> dict[str, str]:
    """Which database this is: the cluster's system identifier and the database's name."""
    system, name = session.rows(
        "SELECT (SELECT system_identifier::text FROM pg_control_system()), current_database()::text"
    )[0]
    return {"system_identifier": system, "database": name}


_FINGERPRINT = """
    SELECT 'table ' || relkind::text || ' ' || relrowsecurity::text || ' ' || relforcerowsecurity::text
        || coalesce(' ' || pg_get_partkeydef(oid), '') || coalesce(' ' || pg_get_expr(relpartbound, oid), '')
    FROM pg_class WHERE oid = $1::oid
    UNION ALL SELECT 'column ' || attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull::text
        || ' ' || attgenerated::text || ' ' || attidentity::text
    FROM pg_attribute WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped
    UNION ALL SELECT 'default ' || attname || ' ' || pg_get_expr(adbin, adrelid)
    FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum WHERE adrelid = $1::oid
    UNION ALL SELECT 'constraint ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = $1::oid
    UNION ALL SELECT 'index ' || pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = $1::oid
    UNION ALL SELECT 'trigger ' || tgenabled::text || ' ' || pg_get_triggerdef(pg_trigger.oid) || ' ' || md5(prosrc)
    FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid WHERE tgrelid = $1::oid AND NOT tgisinternal
    UNION ALL SELECT 'trigger of a part ' || tgenabled::text || ' ' || pg_get_triggerdef(pg_trigger.oid) || ' ' || md5(prosrc)
    FROM pg_partition_tree($1::oid) JOIN pg_trigger ON tgrelid = relid JOIN pg_proc ON pg_proc.oid = tgfoid
    WHERE relid <> $1::oid AND NOT tgisinternal
    UNION ALL SELECT 'rule ' || ev_enabled::text || ' ' || pg_get_ruledef(oid) FROM pg_rewrite WHERE ev_class = $1::oid
    UNION ALL SELECT 'policy ' || quote_ident(polname) || ' ' || polcmd::text || ' ' || polpermissive::text
        || ' for ' || ARRAY(SELECT role::regrole::text FROM unnest(polroles) AS role ORDER BY 1)::text
        || ' using ' || coalesce(pg_get_expr(polqual, polrelid), '')
        || ' check ' || coalesce(pg_get_expr(polwithcheck, polrelid), '')
    FROM pg_policy WHERE polrelid = $1::oid
    UNION ALL SELECT 'child ' || inhrelid::regclass::text || ' ' || coalesce(pg_get_expr(relpartbound, inhrelid), '')
    FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = $1::oid
    UNION ALL SELECT 'parent ' || inhparent::regclass::text FROM pg_inherits WHERE inhrelid = $1::oid
    ORDER BY 1
"""


def fingerprint(session: Session, relation: Relation) -> str:
    """sha256 over all that decides how a table takes a write: what a reviewer relied on.

    That is its kind, columns and defaults, constraints, indexes, triggers with the text of their functions, and rules
    (and whether they are switched on), row security with its policies, and the tables it inherits from or is divided into,
    with their triggers.
    """
    with _full_names(session):
        lines = sorted(row[0] for row in session.rows(_FINGERPRINT, relation.oid))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# Which transaction wrote each row of the catalogue that the fingerprint reads.
_VERSION = """
    SELECT md5(string_agg(kind || ' ' || id::text || ' ' || version::text, ',' ORDER BY kind, id)) FROM (
        SELECT 'class' AS kind, oid::bigint AS id, xmin AS version FROM pg_class WHERE oid = $1::oid
        UNION ALL SELECT 'column', attnum, xmin FROM pg_attribute WHERE attrelid = $1::oid
        UNION ALL SELECT 'default', oid::bigint, xmin FROM pg_attrdef WHERE adrelid = $1::oid
        UNION ALL SELECT 'constraint', oid::bigint, xmin FROM pg_constraint WHERE conrelid = $1::oid
        UNION ALL SELECT 'index', indexrelid::bigint, xmin FROM pg_index WHERE indrelid = $1::oid
        UNION ALL SELECT 'trigger', pg_trigger.oid::bigint, pg_trigger.xmin FROM pg_trigger WHERE tgrelid = $1::oid
        UNION ALL SELECT 'function', pg_proc.oid::bigint, pg_proc.xmin
        FROM pg_proc WHERE oid IN (SELECT tgfoid FROM pg_trigger WHERE tgrelid = $1::oid)
        UNION ALL SELECT 'trigger of a part', pg_trigger.oid::bigint, pg_trigger.xmin
        FROM pg_partition_tree($1::oid) JOIN pg_trigger ON tgrelid = relid WHERE relid <> $1::oid
        UNION ALL SELECT 'function of a part', pg_proc.oid::bigint, pg_proc.xmin FROM pg_proc WHERE oid IN (
            SELECT tgfoid FROM pg_partition_tree($1::oid) JOIN pg_trigger ON tgrelid = relid WHERE relid <> $1::oid
        )
        UNION ALL SELECT 'rule', oid::bigint, xmin FROM pg_rewrite WHERE ev_class = $1::oid
        UNION ALL SELECT 'policy', oid::bigint, xmin FROM pg_policy WHERE polrelid = $1::oid
        UNION ALL SELECT 'child', inhrelid::bigint, xmin FROM pg_inherits WHERE inhparent = $1::oid
        UNION ALL SELECT 'parent', inhparent::bigint, xmin FROM pg_inherits WHERE inhrelid = $1::oid
    ) AS catalogue
"""


def version(session: Session, name: str) -> str | None:
    """A text that changes whenever a fingerprint could: quick enough to ask for in every batch.

    Args:
        session: a transaction.
        name: the table, quoted, with its schema.

    Returns:
        None where there is no such table.
    """
    return session.value(_VERSION, session.value("SELECT to_regclass($1)::oid", name))
