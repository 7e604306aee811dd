"""recon's own tables, in schema `recon`. What depends on a spec (decisions, staged rows, ledgers) has a table
of its own for each run or plan, with typed keys; everything else is here."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa
import sqlalchemy.exc as sa_exc
from psycopg import errors as pg_errors
from sqlalchemy.dialects.postgresql import JSONB
from sqlglot import exp

from recon.database.connect import Database, Session
from recon.errors import DatabaseFailed
from recon.names import identifier

SCHEMA = "recon"
SCHEMA_VERSION = 1

# One number for all of recon's advisory locks' first half, so that they meet no other program's.
LOCK_SPACE = 0x7EC0

metadata = sa.MetaData(schema=SCHEMA)

_Time = sa.DateTime(timezone=True)

meta = sa.Table("meta", metadata, sa.Column("schema_version", sa.Integer, primary_key=True))

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("reconciliation", sa.Text, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("started_at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("completed_at", _Time),
    sa.Column("spec_digest", sa.Text, nullable=False),
    sa.Column("limited", JSONB, comment="what --limit, --from and --to left out; NULL: nothing"),
    sa.Column("population", sa.BigInteger),
    sa.Column("outcomes", JSONB),
    sa.Column("passes", JSONB),
    sa.Column("reasons", JSONB),
    sa.Column("seconds", JSONB, comment="how long each step took"),
    sa.Column("error", sa.Text),
    sa.Column(
        "kept", sa.Boolean, nullable=False, server_default=sa.true(), comment="whether the decisions are still there"
    ),
    sa.CheckConstraint("state IN ('pending', 'running', 'success', 'partial', 'failed')", name="run_state"),
)

plans = sa.Table(
    "plans",
    metadata,
    sa.Column("plan", sa.Text, primary_key=True),
    sa.Column("reconciliation", sa.Text, nullable=False, index=True),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False, comment="sha256 of plan.json, hex"),
    sa.Column("document", sa.Text, nullable=False, comment="plan.json as it was written"),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("expires_at", _Time, nullable=False),
)

plan_log = sa.Table(
    "plan_log",
    metadata,
    sa.Column("entry", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("plan", sa.Text, sa.ForeignKey(plans.c.plan), nullable=False, index=True),
    sa.Column("from_state", sa.Text),
    sa.Column("to_state", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("detail", JSONB, nullable=False, server_default="{}"),
)

approvals = sa.Table(
    "approvals",
    metadata,
    sa.Column("plan", sa.Text, sa.ForeignKey(plans.c.plan), primary_key=True),
    sa.Column("approver", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("method", sa.Text, nullable=False, comment="recorded: by name, a record and not a proof"),
    sa.Column("at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("plan", sa.Text, sa.ForeignKey(plans.c.plan), primary_key=True),
    sa.Column("batch", sa.BigInteger, primary_key=True),
    sa.Column("planned", sa.BigInteger, nullable=False),
    sa.Column("changed", sa.BigInteger, nullable=False),
    sa.Column("milliseconds", sa.Float, nullable=False),
    sa.Column("at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
)

check_results = sa.Table(
    "check_results",
    metadata,
    sa.Column("entry", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("reconciliation", sa.Text, nullable=False, index=True),
    sa.Column("plan", sa.Text, sa.ForeignKey(plans.c.plan), comment="the plan that was verified; NULL: none"),
    sa.Column("at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("success", sa.Boolean, nullable=False),
    sa.Column("result", JSONB, nullable=False),
)


def ensure(database: Database) -> None:
    """Create what is missing; does nothing more than one look where all is there.

    Raises:
        DatabaseFailed: schema `recon` was made by a newer version, or a right is missing.
    """
    with database.session() as session:
        try:
            _ensure(session)
        except (pg_errors.InsufficientPrivilege, sa_exc.ProgrammingError) as error:
            if not isinstance(getattr(error, "orig", error), pg_errors.InsufficientPrivilege):
                raise
            raise DatabaseFailed(
                "This database user may not keep recon's own tables.",
                why="recon keeps them in schema recon. It needs the right CREATE on the database once, or an owner "
                "who creates that schema, and from then on all rights on schema recon and its tables.",
                todo="Ask the database's owner for these rights, or connect as a user who has them.",
            ) from error


def _ensure(session: Session) -> None:
    version = _version(session)
    if version is None:
        session.execute("SELECT pg_advisory_xact_lock($1::int, 0)", LOCK_SPACE)
        # Not IF NOT EXISTS, which asks for the right even where the schema is there.
        if session.value("SELECT to_regnamespace('recon')::text") is None:
            session.execute("CREATE SCHEMA recon")
        metadata.create_all(session.connection)
        if _version(session) is None:
            session.connection.execute(meta.insert().values(schema_version=SCHEMA_VERSION))
    elif version > SCHEMA_VERSION:
        raise DatabaseFailed(
            f"This database's schema recon has version {version}; this recon knows {SCHEMA_VERSION}.",
            todo="Upgrade recon.",
        )


def _version(session: Session) -> int | None:
    if session.value("SELECT to_regclass('recon.meta')::text") is None:
        return None
    return session.value("SELECT max(schema_version) FROM recon.meta")


def new_id(prefix: str = "") -> str:
    """A name that sorts by time and that two processes never share, such as 20261121_081503_9f3a."""
    stamp = f"{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(2)}"
    return f"{prefix}_{stamp}" if prefix else stamp


def own(kind: str, identity: str) -> exp.Table:
    """The table of one run or plan, such as recon.decisions_20261121_081503_9f3a."""
    return exp.Table(this=identifier(f"{kind}_{identity}"), db=identifier(SCHEMA))
