"""Runs of notebooks: what ran, how it ended, and what a report showed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import JSONB

_SCHEMA = "recon"
_Time = sa.DateTime(timezone=True)


def upgrade(op: Operations) -> None:
    """From version 3."""
    op.create_table(
        "notebook_runs",
        sa.Column("id", sa.Text, primary_key=True, comment="the file's name in reports/, without its ending"),
        sa.Column("notebook", sa.Text, nullable=False),
        sa.Column("reconciliation", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("started_at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("completed_at", _Time),
        sa.Column("parameters", JSONB, nullable=False),
        sa.Column("run", sa.Text, comment="the run of matching that it shows or made"),
        sa.Column("plan", sa.Text, comment="the plan that it shows or made"),
        sa.Column(
            "file", sa.Text, comment="what people read, a name in reports/; of a failed run the partial notebook"
        ),
        sa.Column("digest", sa.Text, comment="sha256 of that file, hex"),
        sa.Column("figures", JSONB, comment="what a report showed: the next one says what changed since"),
        sa.Column("inputs", JSONB, comment="digests of all that a report was made from"),
        sa.Column("error", sa.Text),
        sa.Column("signed_by", sa.Text),
        sa.Column("signed_at", _Time),
        sa.Column("signature", sa.Text, comment="the SSH signature over the digest; NULL: recorded by name"),
        sa.Column("key", sa.Text, comment="the fingerprint of the key that signed"),
        sa.CheckConstraint(
            "state IN ('pending', 'running', 'success', 'partial', 'failed')", name="notebook_run_state"
        ),
        sa.CheckConstraint("(signed_by IS NULL) = (signed_at IS NULL)", name="notebook_run_signed"),
        schema=_SCHEMA,
    )
    op.create_index("ix_recon_notebook_runs_reconciliation", "notebook_runs", ["reconciliation"], schema=_SCHEMA)
