"""The audit log: who did what to which plan, each entry chained to the one before it by its hash."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from recon.database import tables
from recon.database.chain import entry_hash
from recon.database.connect import Session


def append(
    session: Session,
    actor: str,
    event: str,
    *,
    reconciliation: str | None = None,
    plan: str | None = None,
    from_state: str | None = None,
    to_state: str | None = None,
    detail: dict[str, object] | None = None,
) -> None:
    """Write one entry, in the caller's transaction; whoever writes the next one waits until that ends.

    The lock on the head comes after all others: lock the rows of every plan that you will move before the first entry.
    """
    head = tables.audit_head
    plain = json.loads(json.dumps(detail or {}, default=str))
    # The detail as the server keeps it, for that is what the hash is checked against: it has its own way to write 1e16.
    kept = sa.cast(sa.bindparam("detail", plain, JSONB), JSONB)
    query = sa.select(head.c.entry, head.c.hash, sa.func.clock_timestamp(), kept).with_for_update(of=head)
    last, previous, at, said_more = session.connection.execute(query).one()
    said: dict[str, Any] = {
        "actor": actor,
        "event": event,
        "reconciliation": reconciliation,
        "plan": plan,
        "from_state": from_state,
        "to_state": to_state,
        "detail": said_more,
    }
    entry = last + 1
    chained = entry_hash(previous, entry, at, said)
    session.connection.execute(tables.audit_log.insert().values(**said, entry=entry, at=at, hash=chained))
    session.connection.execute(head.update().values(entry=entry, hash=chained))
