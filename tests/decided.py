"""Payments and leases of which people decide, and what a run is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recon.database import tables
from recon.database.connect import Database, Session
from recon.matching import bind as binding
from recon.matching import overrides
from recon.matching.overrides import Prepared
from recon.spec import Reconciliation
from tests.support import execute, simple_spec

Given = tuple[str, str | None, str | None]  # kind, target, source
ONE_TO_ONE = {"cardinality": "one_to_one"}


def spec_of(**fields: Any) -> Reconciliation:
    usual = {
        "target": {"table": "pay", "key": "id", "where": "not gone"},
        "source": {"table": "lease", "key": "id", "where": "not gone"},
    }
    return simple_spec(**(usual | fields))


def decide(
    database: Database, spec: Reconciliation, kind: str, target: str | None, source: str | None
) -> dict[str, Any]:
    return overrides.decide(
        database, spec, actor="ann", kind=kind, target=target, source=source, reason=f"{kind} it"
    )  # fmt: skip


def prepared(
    database: Database, spec: Reconciliation, look: Callable[[Session, Prepared], Any] = lambda session, found: found
) -> Any:
    """What `prepare` gives in a transaction like that of a run, and what is seen there."""
    tables.ensure(database)
    with database.session() as session:
        bound = binding.bind(session, spec)
        session.plain_path()
        return look(session, overrides.prepare(session, bound))


def made(name: str) -> Callable[[Session, Prepared], list[tuple[Any, ...]]]:
    return lambda session, found: session.rows(f"SELECT * FROM {name} ORDER BY 1")


def fill(database: Database) -> None:
    """Targets 1 to 6 and sources 10 to 15; target 5 holds source 14, target 6 and source 15 are outside `where`."""
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int, gone bool DEFAULT false)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text, gone bool DEFAULT false)",
        "INSERT INTO pay SELECT n, 'c' || n, CASE n WHEN 5 THEN 14 END, n = 6 FROM generate_series(1, 6) AS n",
        "INSERT INTO lease SELECT n, 'c' || n, n = 15 FROM generate_series(10, 15) AS n",
    )
