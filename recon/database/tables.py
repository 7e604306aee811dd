"""recon's own tables, in schema `recon`. What depends on a spec (decisions, staged rows, ledgers) has a table
of its own for each run or plan, with typed keys; everything else is here.

Keys of records stand here as arrays of text, one part for each key column, as the server writes it: overrides and
breaks outlive runs, and the types of users' columns. A change of these tables is a step in `migrations`.
"""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import sqlalchemy as sa
import sqlalchemy.exc as sa_exc
from psycopg import errors as pg_errors
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlglot import exp

from recon.database.chain import BEFORE_THE_FIRST
from recon.database.connect import Database, Session
from recon.errors import DatabaseFailed, Locked
from recon.names import identifier

SCHEMA = "recon"
SCHEMA_VERSION = 6
UPGRADE_PATIENCE = "10s"  # an upgrade that waits for a table holds up everybody who comes after it

# One number for all of recon's advisory locks' first half, so that they meet no other program's.
LOCK_SPACE = 0x7EC0

metadata = sa.MetaData(schema=SCHEMA)

_Time = sa.DateTime(timezone=True)
_Key = ARRAY(sa.Text)

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
    sa.Column("other_side", JSONB, comment="records of the other side that nothing of the population agrees with"),
    sa.Column("conflicts", JSONB, comment="overrides that the data no longer allows"),
    sa.Column("breaks", JSONB, comment="open breaks by age after this run"),
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

audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("entry", sa.BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3 … without a gap"),
    sa.Column("at", _Time, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False, comment="move: a plan went to another state; or what else was done"),
    sa.Column("reconciliation", sa.Text, index=True),
    sa.Column("plan", sa.Text, sa.ForeignKey(plans.c.plan), index=True),
    sa.Column("from_state", sa.Text),
    sa.Column("to_state", sa.Text),
    sa.Column("detail", JSONB, nullable=False),
    sa.Column("hash", sa.Text, nullable=False, comment="sha256 over the hash before it and all other columns, hex"),
)

audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("one", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("entry", sa.BigInteger, nullable=False, comment="the last entry of audit_log; 0: there is none"),
    sa.Column("hash", sa.Text, nullable=False),
    sa.CheckConstraint("one", name="audit_head_is_one"),
)

approvals = sa.Table(
    "approvals",
    metadata,
    sa.Column("plan", sa.Text, sa.ForeignKey(plans.c.plan), primary_key=True),
    sa.Column("approver", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("method", sa.Text, nullable=False, comment="signed; or recorded: by name, a record and not a proof"),
    sa.Column("at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("signature", sa.Text, comment="the SSH signature over plan.json, armoured"),
    sa.Column("key", sa.Text, comment="the fingerprint of the key that signed"),
    sa.Column("withdrawn_at", _Time, comment="from then on it covers undoing only"),
    sa.CheckConstraint("method IN ('recorded', 'signed')", name="approval_method"),
    sa.CheckConstraint("(method = 'signed') = (signature IS NOT NULL)", name="approval_signature"),
)

standing_sign_offs = sa.Table(
    "standing_sign_offs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("reconciliation", sa.Text, nullable=False, index=True),
    sa.Column("document", sa.Text, nullable=False, comment="what was signed, canonical JSON: within which limits"),
    sa.Column("digest", sa.Text, nullable=False, comment="sha256 of the document, hex"),
    sa.Column("given_by", sa.Text, nullable=False),
    sa.Column("given_at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("signature", sa.Text),
    sa.Column("key", sa.Text),
    sa.Column("withdrawn_at", _Time),
    sa.Column("withdrawn_by", sa.Text),
    sa.Column("withdrawn_reason", sa.Text),
    sa.CheckConstraint("method IN ('recorded', 'signed')", name="standing_method"),
    sa.CheckConstraint("(method = 'signed') = (signature IS NOT NULL)", name="standing_signature"),
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("plan", sa.Text, sa.ForeignKey(plans.c.plan), primary_key=True),
    sa.Column("first", sa.BigInteger, primary_key=True, comment="the place of its first row among the staged ones"),
    sa.Column("last", sa.BigInteger, nullable=False),
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

_active = sa.text("undone_at IS NULL")

overrides = sa.Table(
    "overrides",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("reconciliation", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("target_key", _Key),
    sa.Column("source_key", _Key),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("made_at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("made_by_pass", sa.Text, comment="the pass whose proposals were accepted; NULL: made singly"),
    sa.Column("undone_at", _Time),
    sa.Column("undone_by", sa.Text),
    sa.Column("undone_reason", sa.Text),
    sa.CheckConstraint("kind IN ('link', 'forbid', 'exclude')", name="override_kind"),
    sa.CheckConstraint(
        "CASE WHEN kind = 'exclude' THEN num_nonnulls(target_key, source_key) = 1"
        " ELSE num_nulls(target_key, source_key) = 0 END",
        name="override_keys",
    ),
)
# Contradictions are refused with a reason before they get here; these hold whatever happens at the same time.
for _name, _columns, _kind in (
    ("override_link", ("target_key",), "kind = 'link'"),
    ("override_forbid", ("target_key", "source_key"), "kind = 'forbid'"),
    ("override_exclude_target", ("target_key",), "kind = 'exclude' AND target_key IS NOT NULL"),
    ("override_exclude_source", ("source_key",), "kind = 'exclude' AND source_key IS NOT NULL"),
):
    sa.Index(
        _name,
        overrides.c.reconciliation,
        *(overrides.c[name] for name in _columns),
        unique=True,
        postgresql_where=sa.text(f"{_kind} AND undone_at IS NULL"),
    )
sa.Index("override_source", overrides.c.reconciliation, overrides.c.source_key, postgresql_where=_active)

breaks = sa.Table(
    "breaks",
    metadata,
    sa.Column("reconciliation", sa.Text, primary_key=True),
    sa.Column("side", sa.Text, primary_key=True),
    sa.Column("key", _Key, primary_key=True),
    sa.Column("first_seen", _Time, nullable=False),
    sa.Column("opened_at", _Time, nullable=False, comment="when the present episode began"),
    sa.Column("last_seen", _Time, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("assignee", sa.Text),
    sa.Column("resolved_at", _Time),
    sa.Column("run", sa.Text, nullable=False, comment="the run that saw it last"),
    sa.CheckConstraint("side IN ('target', 'source')", name="break_side"),
    sa.CheckConstraint("state IN ('open', 'assigned', 'resolved')", name="break_state"),
)

break_log = sa.Table(
    "break_log",
    metadata,
    sa.Column("entry", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("reconciliation", sa.Text, nullable=False),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("key", _Key, nullable=False),
    sa.Column("at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("who", sa.Text, comment="the person; NULL: a run"),
    sa.Column("run", sa.Text),
    sa.Column("detail", sa.Text),
    sa.CheckConstraint("event IN ('opened', 'assigned', 'resolved', 'reopened')", name="break_event"),
    sa.Index("break_log_of", "reconciliation", "key"),
)

import_issues = sa.Table(
    "import_issues",
    metadata,
    sa.Column("reconciliation", sa.Text, primary_key=True),
    sa.Column("source_key", _Key, primary_key=True),
    sa.Column("issue", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("first_seen", _Time, nullable=False),
    sa.Column("last_seen", _Time, nullable=False),
    sa.Column("closed_at", _Time),
    sa.CheckConstraint("state IN ('open', 'closed')", name="issue_state"),
)

backtests = sa.Table(
    "backtests",
    metadata,
    sa.Column("entry", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("reconciliation", sa.Text, nullable=False, index=True),
    sa.Column("spec_digest", sa.Text, nullable=False),
    sa.Column("run_at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("truth", sa.Text, nullable=False, comment="what the passes were compared with"),
    sa.Column("result", JSONB, nullable=False),
)


notebook_runs = sa.Table(
    "notebook_runs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True, comment="the file's name in reports/, without its ending"),
    sa.Column("notebook", sa.Text, nullable=False),
    sa.Column("reconciliation", sa.Text, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("started_at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("completed_at", _Time),
    sa.Column("parameters", JSONB, nullable=False),
    sa.Column("run", sa.Text, comment="the run of matching that it shows or made"),
    sa.Column("plan", sa.Text, comment="the plan that it shows or made"),
    sa.Column("file", sa.Text, comment="what people read, a name in reports/; of a failed run the partial notebook"),
    sa.Column("digest", sa.Text, comment="sha256 of that file, hex"),
    sa.Column("figures", JSONB, comment="what a report showed: the next one says what changed since"),
    sa.Column("inputs", JSONB, comment="digests of all that a report was made from"),
    sa.Column("error", sa.Text),
    sa.Column("signed_by", sa.Text),
    sa.Column("signed_at", _Time),
    sa.Column("signature", sa.Text, comment="the SSH signature over the digest; NULL: recorded by name"),
    sa.Column("key", sa.Text, comment="the fingerprint of the key that signed"),
    sa.CheckConstraint("state IN ('pending', 'running', 'success', 'partial', 'failed')", name="notebook_run_state"),
    sa.CheckConstraint("(signed_by IS NULL) = (signed_at IS NULL)", name="notebook_run_signed"),
)

outside_changes = sa.Table(
    "outside_changes",
    metadata,
    sa.Column("plan", sa.Text, sa.ForeignKey(plans.c.plan), primary_key=True),
    sa.Column("place", sa.BigInteger, primary_key=True, comment="the row's place among the plan's"),
    sa.Column("record", sa.Text, nullable=False, comment="its id in the outside system"),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("message", sa.Text, comment="why it was not written, in the outside system's words"),
    sa.Column("before", JSONB, nullable=False, comment="the fields as they were there, read just before"),
    sa.Column("after", JSONB, nullable=False, comment="what was asked for"),
    sa.Column("attempts", sa.Integer, nullable=False, comment="how often it was sent"),
    sa.Column("at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.CheckConstraint(
        "state IN ('sending', 'done', 'error', 'drifted', 'restoring', 'restored', 'conflict')",
        name="outside_change_state",
    ),
)

webhook_events = sa.Table(
    "webhook_events",
    metadata,
    sa.Column("entry", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("origin", sa.Text, nullable=False, comment="the outside system that sent it"),
    sa.Column("event", sa.Text, nullable=False, comment="its id there, or the sha256 of the body where it has none"),
    sa.Column("kind", sa.Text, comment="what happened, in the sender's word"),
    sa.Column("environment", sa.Text, nullable=False, comment="where it arrived"),
    sa.Column("scope", sa.Text, comment="whose records it is about; NULL: the system has no such parts"),
    sa.Column("record", sa.Text, comment="the id of its record in the outside system"),
    sa.Column("received_at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("payload", JSONB, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("said", sa.Text, comment="what was done about it, or why nothing was"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("completed_at", _Time),
    sa.CheckConstraint("state IN ('pending', 'success', 'skipped', 'failed')", name="webhook_event_state"),
    sa.Index("webhook_event_once", "origin", "event", sa.text("coalesce(scope, '')"), unique=True),
    sa.Index("webhook_event_latest", "origin", "scope", "received_at"),
)
sa.Index(
    "webhook_event_pending",
    webhook_events.c.origin,
    webhook_events.c.entry,
    postgresql_where=sa.text("state = 'pending'"),
)


sync_runs = sa.Table(
    "sync_runs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("reconciliation", sa.Text, nullable=False, index=True),
    sa.Column("scope", sa.Text, comment="the only scope that it was about; NULL: all of them"),
    sa.Column("cause", sa.Text, nullable=False, comment="what asked for it: schedule, person, request or event"),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("created_at", _Time, nullable=False, server_default=sa.func.clock_timestamp(), index=True),
    sa.Column("started_at", _Time, index=True),
    sa.Column("completed_at", _Time),
    sa.Column("duration_ms", sa.BigInteger),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("stats", JSONB, comment="fetched, created, updated, orphaned, deleted, errors, duration"),
    sa.Column("parts", JSONB, comment="the same for each scope, with its plan and the errors' messages"),
    sa.Column("error", sa.Text, comment="what ended it"),
    sa.CheckConstraint("status IN ('pending', 'running', 'success', 'partial', 'failed')", name="sync_run_status"),
)
sa.Index("sync_run_status", sync_runs.c.status)
sa.Index("sync_run_pending", sync_runs.c.created_at, postgresql_where=sa.text("status = 'pending'"))

sync_marks = sa.Table(
    "sync_marks",
    metadata,
    sa.Column("reconciliation", sa.Text, primary_key=True),
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("changed_until", _Time, comment="what changed in the source up to then has been fetched"),
    sa.Column("listed_at", _Time, comment="when the source's own list was read last, whole"),
)

follow_ups = sa.Table(
    "follow_ups",
    metadata,
    sa.Column("reconciliation", sa.Text, primary_key=True),
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("key", _Key, primary_key=True, comment="of the target record"),
    sa.Column("scope", sa.Text, comment="the record's scope"),
    sa.Column("due_at", _Time, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("next_at", _Time, comment="when one that failed is tried again; NULL: at its time"),
    sa.Column("said", sa.Text, comment="what came of it, or why it failed"),
    sa.Column("made_at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("changed_at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("done_at", _Time),
    sa.CheckConstraint("state IN ('waiting', 'doing', 'done', 'failed', 'dropped')", name="follow_up_state"),
    sa.Index("follow_up_due", "reconciliation", "due_at", postgresql_where=sa.text("state IN ('waiting', 'doing')")),
)


def ensure(database: Database) -> None:
    """Create what is missing and bring what is old up to date; no more than one look where all is as it should be.

    Raises:
        DatabaseFailed: schema `recon` was made by a newer version, or a right is missing.
        Locked: an upgrade waited in vain for somebody who is using these tables.
    """
    with database.session() as session:
        try:
            _ensure(session)
        except (psycopg.Error, sa_exc.DBAPIError) as error:
            cause = error.orig if isinstance(error, sa_exc.DBAPIError) else error
            if isinstance(cause, pg_errors.LockNotAvailable):
                raise Locked(
                    "recon's own tables cannot be brought up to date now.",
                    why=f"Somebody has been using them for more than {UPGRADE_PATIENCE}.",
                    todo="Try again when that run has ended.",
                ) from error
            if not isinstance(cause, pg_errors.InsufficientPrivilege):
                raise
            raise DatabaseFailed(
                "This database user may not keep recon's own tables.",
                why="recon keeps them in schema recon. It needs the right CREATE on the database once, or an owner "
                "who creates that schema, and from then on all rights on schema recon and its tables. Tables that an "
                "older recon made are brought up to date by their owner.",
                todo="Ask the database's owner for these rights, or connect as a user who has them.",
            ) from error


def _ensure(session: Session) -> None:
    version = _version(session)
    if version is None or version < SCHEMA_VERSION:
        session.execute("SELECT pg_advisory_xact_lock($1::int, 0)", LOCK_SPACE)
        version = _version(session)  # somebody else may have been at it
    if version is None:
        if session.value("SELECT to_regclass('recon.runs')::text") is not None:
            raise DatabaseFailed(
                "Schema recon of this database does not say which version it is.",
                why="Its table meta is empty or missing.",
                todo="Restore it from a backup, or drop schema recon if nothing in it is needed.",
            )
        # Not IF NOT EXISTS, which asks for the right even where the schema is there.
        if session.value("SELECT to_regnamespace('recon')::text") is None:
            session.execute("CREATE SCHEMA recon")
        metadata.create_all(session.connection)
        session.connection.execute(audit_head.insert().values(entry=0, hash=BEFORE_THE_FIRST))
        session.connection.execute(meta.insert().values(schema_version=SCHEMA_VERSION))
    elif version < SCHEMA_VERSION:
        from recon.database import migrations  # with Alembic: only where something has to change

        session.execute("SELECT set_config('lock_timeout', $1, true)", UPGRADE_PATIENCE)
        migrations.upgrade(session.connection, version, SCHEMA_VERSION)
        session.connection.execute(meta.update().values(schema_version=SCHEMA_VERSION))
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
    """A name that sorts by time, such as 20261121_081503_9f3a: the end is the part of the second, in 65,536ths.

    By chance instead, two of one second had the same end now and then; so had runs for events that follow each other closely.
    """
    now = datetime.now(UTC)
    stamp = f"{now:%Y%m%d_%H%M%S}_{now.microsecond * 65_536 // 1_000_000:04x}"
    return f"{prefix}_{stamp}" if prefix else stamp


def own(kind: str, identity: str) -> exp.Table:
    """The table of one run or plan, such as recon.decisions_20261121_081503_9f3a."""
    return exp.Table(this=identifier(f"{kind}_{identity}"), db=identifier(SCHEMA))
