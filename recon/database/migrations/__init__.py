"""How tables of an older version become those of this one: a step for each version, by Alembic's operations.

A step is the module `version_N` with one function `upgrade`. It names tables and columns itself and never looks at
`tables`, which goes on changing. There is no way back: an older recon refuses a newer schema.
"""

from __future__ import annotations

from importlib import import_module

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations


def upgrade(connection: sa.Connection, version: int, wanted: int) -> None:
    """Take schema `recon` from one version to another, in the transaction of the connection.

    Args:
        connection: one that holds the lock of the schema.
        version: what the schema has.
        wanted: what it shall have.
    """
    operations = Operations(MigrationContext.configure(connection))
    for number in range(version + 1, wanted + 1):
        import_module(f"{__name__}.version_{number}").upgrade(operations)
