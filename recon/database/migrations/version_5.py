"""Changes in outside systems, and events that they send."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import JSONB

_SCHEMA = "recon"
_Time = sa.DateTime(timezone=True)


def upgrade(op: Operations) -> None:
    """From version 4."""
    op.create_table(
        "outside_changes",
        sa.Column("plan", sa.Text, sa.ForeignKey(f"{_SCHEMA}.plans.plan"), primary_key=True),
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
        schema=_SCHEMA,
    )
    op.create_table(
        "webhook_events",
        sa.Column("entry", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("origin", sa.Text, nullable=False, comment="the outside system that sent it"),
        sa.Column(
            "event", sa.Text, nullable=False, comment="its id there, or the sha256 of the body where it has none"
        ),
        sa.Column("kind", sa.Text, comment="what happened, in the sender's word"),
        sa.Column("environment", sa.Text, nullable=False, comment="where it arrived"),
        sa.Column("received_at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("payload", JSONB, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("said", sa.Text, comment="what was done about it, or why nothing was"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("completed_at", _Time),
        sa.CheckConstraint("state IN ('pending', 'success', 'skipped', 'failed')", name="webhook_event_state"),
        sa.UniqueConstraint("origin", "event", name="webhook_event_once"),
        schema=_SCHEMA,
    )
    op.create_index(
        "webhook_event_pending",
        "webhook_events",
        ["origin", "entry"],
        schema=_SCHEMA,
        postgresql_where=sa.text("state = 'pending'"),
    )
