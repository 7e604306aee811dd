"""The script of database roles for a reconciliation, with what its system and what it receives need."""

from __future__ import annotations

from recon import extras, systems
from recon.backfill import roles
from recon.database.connect import Database
from recon.sources.mirrored import is_mirror
from recon.workspace import Workspace


def script(database: Database, workspace: Workspace, name: str, prefix: str = "recon") -> str:
    """The SQL that makes the roles and grants what they need; nothing of it is run.

    Args:
        database: where its tables are.
        workspace: where its spec is.
        name: the reconciliation.
        prefix: what the names of the roles begin with.

    Raises: as `recon.backfill.roles.script`; MissingExtra where it receives events and there is no queue for them.
    """
    spec = workspace.spec(name)
    after = systems.after_match(spec)
    receives = any(hook.reconciliation == name for hook in systems.webhooks().values())
    if receives or is_mirror(spec):
        extras.need("service", f"`recon database roles {name}`", "procrastinate")
        from recon.service import queue

        queue.prepare(database)  # so that the script knows its tables, whoever starts the first worker
    fills = after.rights(database, spec) if after else None
    return roles.script(database, spec, prefix, fills=fills, receives=receives)
