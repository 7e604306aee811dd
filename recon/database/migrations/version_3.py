"""The audit log, chained, in place of the log of plans; signatures; standing sign-offs; batches by place."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import JSONB

from recon.database.chain import BEFORE_THE_FIRST, entry_hash

_SCHEMA = "recon"
_Time = sa.DateTime(timezone=True)


def upgrade(op: Operations) -> None:
    """From version 2."""
    _audit(op)
    _approvals(op)
    # What a plan of an older recon wrote can be looked up in its ledger; its batches mean nothing to this one.
    op.drop_table("batches", schema=_SCHEMA)
    op.create_table(
        "batches",
        sa.Column("plan", sa.Text, sa.ForeignKey(f"{_SCHEMA}.plans.plan"), primary_key=True),
        sa.Column("first", sa.BigInteger, primary_key=True, comment="the place of its first row among the staged ones"),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.Column("milliseconds", sa.Float, nullable=False),
        sa.Column("at", _Time, nullable=False, server_default=sa.func.clock_timestamp()),
        schema=_SCHEMA,
    )


def _audit(op: Operations) -> None:
    log = op.create_table(
        "audit_log",
        sa.Column("entry", sa.BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3 … without a gap"),
        sa.Column("at", _Time, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column(
            "event", sa.Text, nullable=False, comment="move: a plan went to another state; or what else was done"
        ),
        sa.Column("reconciliation", sa.Text),
        sa.Column("plan", sa.Text, sa.ForeignKey(f"{_SCHEMA}.plans.plan")),
        sa.Column("from_state", sa.Text),
        sa.Column("to_state", sa.Text),
        sa.Column("detail", JSONB, nullable=False),
        sa.Column("hash", sa.Text, nullable=False, comment="sha256 over the hash before it and all other columns, hex"),
        schema=_SCHEMA,
    )
    op.create_index("ix_recon_audit_log_plan", "audit_log", ["plan"], schema=_SCHEMA)
    op.create_index("ix_recon_audit_log_reconciliation", "audit_log", ["reconciliation"], schema=_SCHEMA)
    head = op.create_table(
        "audit_head",
        sa.Column("one", sa.Boolean, primary_key=True, server_default=sa.true()),
        sa.Column("entry", sa.BigInteger, nullable=False, comment="the last entry of audit_log; 0: there is none"),
        sa.Column("hash", sa.Text, nullable=False),
        sa.CheckConstraint("one", name="audit_head_is_one"),
        schema=_SCHEMA,
    )
    connection = op.get_bind()
    last, entry = BEFORE_THE_FIRST, 0
    moves = connection.execute(
        sa.text(
            "SELECT log.at, log.actor, 'move' AS event, plans.reconciliation, log.plan, log.from_state, log.to_state,"
            " log.detail FROM recon.plan_log AS log JOIN recon.plans USING (plan) ORDER BY log.entry"
        )
    )
    for entry, move in enumerate(moves.mappings().all(), 1):
        said = {name: value for name, value in move.items() if name != "at"}
        last = entry_hash(last, entry, move["at"], said)
        connection.execute(log.insert().values(**move, entry=entry, hash=last))
    connection.execute(head.insert().values(entry=entry, hash=last))
    op.drop_table("plan_log", schema=_SCHEMA)


def _approvals(op: Operations) -> None:
    op.add_column(
        "approvals",
        sa.Column("signature", sa.Text, comment="the SSH signature over plan.json, armoured"),
        schema=_SCHEMA,
    )
    op.add_column(
        "approvals", sa.Column("key", sa.Text, comment="the fingerprint of the key that signed"), schema=_SCHEMA
    )
    op.add_column(
        "approvals",
        sa.Column("withdrawn_at", _Time, comment="from then on it covers undoing only"),
        schema=_SCHEMA,
    )
    op.alter_column(
        "approvals",
        "method",
        comment="signed; or recorded: by name, a record and not a proof",
        existing_comment="recorded: by name, a record and not a proof",
        existing_type=sa.Text,
        existing_nullable=False,
        schema=_SCHEMA,
    )
    methods, signed = "method IN ('recorded', 'signed')", "(method = 'signed') = (signature IS NOT NULL)"
    op.create_check_constraint("approval_method", "approvals", methods, schema=_SCHEMA)
    op.create_check_constraint("approval_signature", "approvals", signed, schema=_SCHEMA)
    op.create_table(
        "standing_sign_offs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("reconciliation", sa.Text, nullable=False),
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
        sa.CheckConstraint(methods, name="standing_method"),
        sa.CheckConstraint(signed, name="standing_signature"),
        schema=_SCHEMA,
    )
    op.create_index(
        "ix_recon_standing_sign_offs_reconciliation", "standing_sign_offs", ["reconciliation"], schema=_SCHEMA
    )
