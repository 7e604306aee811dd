"""Mirrors that are kept in step: their runs, what was fetched, jobs for their records; events of a scope."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

_SCHEMA = "recon"
_Time = sa.DateTime(timezone=True)


def upgrade(op: Operations) -> None:
    """From version 5."""
    comment = "whose records it is about; NULL: the system has no such parts"
    op.add_column("webhook_events", sa.Column("scope", sa.Text, comment=comment), schema=_SCHEMA)
    comment = "the id of its record in the outside system"
    op.add_column("webhook_events", sa.Column("record", sa.Text, comment=comment), schema=_SCHEMA)
    op.drop_constraint("webhook_event_once", "webhook_events", schema=_SCHEMA)
    once = ["origin", "event", sa.text("coalesce(scope, '')")]
    op.create_index("webhook_event_once", "webhook_events", once, unique=True, schema=_SCHEMA)
    op.create_index("webhook_event_latest", "webhook_events", ["origin", "scope", "received_at"], schema=_SCHEMA)
    op.create_table(
        "sync_runs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("reconciliation", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, comment="the only scope that it was about; NULL: all of them"),
        sa.Column("cause", sa.Text, nullable=False, comment="what asked for it: schedule, person, request or event"),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("created_at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("started_at", _Time),
        sa.Column("completed_at", _Time),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("stats", JSONB, comment="fetched, created, updated, orphaned, deleted, errors, duration"),
        sa.Column("parts", JSONB, comment="the same for each scope, with its plan and the errors' messages"),
        sa.Column("error", sa.Text, comment="what ended it"),
        sa.CheckConstraint("status IN ('pending', 'running', 'success', 'partial', 'failed')", name="sync_run_status"),
        schema=_SCHEMA,
    )
    for column in ("reconciliation", "created_at", "started_at"):
        op.create_index(f"ix_recon_sync_runs_{column}", "sync_runs", [column], schema=_SCHEMA)
    op.create_index("sync_run_status", "sync_runs", ["status"], schema=_SCHEMA)
    pending = sa.text("status = 'pending'")
    op.create_index("sync_run_pending", "sync_runs", ["created_at"], schema=_SCHEMA, postgresql_where=pending)
    op.create_table(
        "sync_marks",
        sa.Column("reconciliation", sa.Text, primary_key=True),
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("changed_until", _Time, comment="what changed in the source up to then has been fetched"),
        sa.Column("listed_at", _Time, comment="when the source's own list was read last, whole"),
        schema=_SCHEMA,
    )
    op.create_table(
        "follow_ups",
        sa.Column("reconciliation", sa.Text, primary_key=True),
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("key", ARRAY(sa.Text), primary_key=True, comment="of the target record"),
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
        schema=_SCHEMA,
    )
    op.create_index(
        "follow_up_due",
        "follow_ups",
        ["reconciliation", "due_at"],
        schema=_SCHEMA,
        postgresql_where=sa.text("state IN ('waiting', 'doing')"),
    )
