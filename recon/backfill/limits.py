"""What every session that writes is bound to; plan.json says so, and a reviewer signs it."""

from __future__ import annotations

LOCK_TIMEOUT_MILLISECONDS = 3_000  # wait for other people's row locks this long, then give way
STATEMENT_TIMEOUT_MILLISECONDS = 300_000  # no batch takes minutes; one that does is stopped
IDLE_TIMEOUT_MILLISECONDS = 60_000  # a client that stands still in mid-batch must not keep its locks
SEARCH_PATH = "pg_catalog, pg_temp"
LIMITS = {
    "search_path": SEARCH_PATH,
    "lock_timeout": str(LOCK_TIMEOUT_MILLISECONDS),
    "statement_timeout": str(STATEMENT_TIMEOUT_MILLISECONDS),
    "idle_in_transaction_session_timeout": str(IDLE_TIMEOUT_MILLISECONDS),
    "enable_seqscan": "off",  # a batch is a few rows of a table: whatever has an index is read by it
    "jit": "off",  # compiling a statement takes longer than a batch may
    # A batch, its ledger and its own row are one transaction: a crash loses all of it or nothing, and what it lost is done
    # again. Only a plan's moves wait for the disk, and with it for every batch before them.
    "synchronous_commit": "off",
}
