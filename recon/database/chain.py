"""How an entry of the audit log depends on the one before it: what was changed or taken out later breaks the chain."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

BEFORE_THE_FIRST = "0" * 64  # stands where the hash of an entry before the first would


def entry_hash(previous: str, entry: int, at: datetime, said: dict[str, Any]) -> str:
    """sha256 in hex over the previous entry's hash and all that this entry says, as canonical JSON.

    Args:
        previous: the hash of the entry before.
        entry: the entry's number, from 1 on without a gap.
        at: when it was written, with its zone.
        said: the entry's other columns.

    >>> entry_hash(BEFORE_THE_FIRST, 1, datetime(2026, 1, 1, tzinfo=UTC), {"actor": "ann"})[:8]
    '6fa6257e'
    """
    whole = {**said, "previous": previous, "entry": entry, "at": at.astimezone(UTC).isoformat(timespec="microseconds")}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
