"""A session that remembers what was asked through it, so that a page can show the very statements behind a view."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg

from recon.database.connect import Session


@dataclass(frozen=True)
class Statement:
    """One statement as it was sent, and the values that were bound to $1, $2, …"""

    sql: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True)
class Watched(Session):
    """The same transaction as the session that it was made from; `said` grows with each statement."""

    said: list[Statement] = field(default_factory=list[Statement])

    def execute(self, sql: str, *values: object) -> psycopg.RawCursor[tuple[Any, ...]]:
        self.said.append(Statement(sql, values))
        return super().execute(sql, *values)


def watched(session: Session) -> Watched:
    """Watch what is asked through this session from here on."""
    return Watched(session.connection)
