"""Overrides, breaks and their log, import issues, backtests; and what a run says of the other side, conflicts and breaks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

_SCHEMA = "recon"
_Time = sa.DateTime(timezone=True)
_Key = ARRAY(sa.Text)


def upgrade(op: Operations) -> None:
    """From version 1."""
    for name, comment in (
        ("other_side", "records of the other side that nothing of the population agrees with"),
        ("conflicts", "overrides that the data no longer allows"),
        ("breaks", "open breaks by age after this run"),
    ):
        op.add_column("runs", sa.Column(name, JSONB, comment=comment), schema=_SCHEMA)
    _overrides(op)
    _breaks(op)
    op.create_table(
        "import_issues",
        sa.Column("reconciliation", sa.Text, primary_key=True),
        sa.Column("source_key", _Key, primary_key=True),
        sa.Column("issue", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("first_seen", _Time, nullable=False),
        sa.Column("last_seen", _Time, nullable=False),
        sa.Column("closed_at", _Time),
        sa.CheckConstraint("state IN ('open', 'closed')", name="issue_state"),
        schema=_SCHEMA,
    )
    op.create_table(
        "backtests",
        sa.Column("entry", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("reconciliation", sa.Text, nullable=False),
        sa.Column("spec_digest", sa.Text, nullable=False),
        sa.Column("run_at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("truth", sa.Text, nullable=False, comment="what the passes were compared with"),
        sa.Column("result", JSONB, nullable=False),
        schema=_SCHEMA,
    )
    op.create_index("ix_recon_backtests_reconciliation", "backtests", ["reconciliation"], schema=_SCHEMA)


def _overrides(op: Operations) -> None:
    op.create_table(
        "overrides",
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
        schema=_SCHEMA,
    )
    for name, columns, kind in (
        ("override_link", ["target_key"], "kind = 'link' AND "),
        ("override_forbid", ["target_key", "source_key"], "kind = 'forbid' AND "),
        ("override_exclude_target", ["target_key"], "kind = 'exclude' AND target_key IS NOT NULL AND "),
        ("override_exclude_source", ["source_key"], "kind = 'exclude' AND source_key IS NOT NULL AND "),
        ("override_source", ["source_key"], ""),
    ):
        op.create_index(
            name,
            "overrides",
            ["reconciliation", *columns],
            unique=bool(kind),
            schema=_SCHEMA,
            postgresql_where=sa.text(f"{kind}undone_at IS NULL"),
        )


def _breaks(op: Operations) -> None:
    op.create_table(
        "breaks",
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
        schema=_SCHEMA,
    )
    op.create_table(
        "break_log",
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
        schema=_SCHEMA,
    )
    op.create_index("break_log_of", "break_log", ["reconciliation", "key"], schema=_SCHEMA)
