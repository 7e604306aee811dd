"""recon's own tables across versions: what an older recon made and filled becomes what this one makes anew."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from recon.database import tables
from recon.database.connect import Database
from recon.errors import DatabaseFailed, Locked
from tests.support import ROOT, execute, rows

# What an instance of the first version holds: a run, a plan with its log, and tables of their own.
OLD_ROWS = (
    "INSERT INTO recon.meta VALUES (1)",
    """INSERT INTO recon.runs (run, reconciliation, state, actor, spec_digest, population, outcomes)
       VALUES ('20260101_000000_aaaa', 'rent', 'success', 'ann', 'd1', 2, '{"linked": 2}')""",
    """INSERT INTO recon.plans VALUES ('rent_20260101_000001_bbbb', 'rent', '20260101_000000_aaaa', 'planned', 'x', '{}',
       'ann', 1, now(), now())""",
    "INSERT INTO recon.plan_log (plan, to_state, actor) VALUES ('rent_20260101_000001_bbbb', 'planned', 'ann')",
    "CREATE TABLE recon.decisions_20260101_000000_aaaa (target_key int, outcome text)",
)
CATALOGUE = """
    SELECT 'column ' || class.relname || '.' || attname || ' ' || format_type(atttypid, atttypmod) || ' '
        || attnotnull::text || ' ' || attidentity::text || ' ' || coalesce(pg_get_expr(adbin, adrelid), '') || ' '
        || coalesce(col_description(class.oid, attnum), '')
    FROM pg_class AS class JOIN pg_attribute ON attrelid = class.oid AND attnum > 0
    LEFT JOIN pg_attrdef ON adrelid = class.oid AND adnum = attnum
    WHERE class.relnamespace = 'recon'::regnamespace AND relkind = 'r' AND relname NOT LIKE 'decisions%'
    UNION ALL SELECT 'constraint ' || conrelid::regclass::text || ' ' || conname || ' ' || pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'recon'::regnamespace
    UNION ALL SELECT 'index ' || pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE relnamespace = 'recon'::regnamespace
    ORDER BY 1
"""


@pytest.fixture
def old(database: Database) -> Database:
    """A database as the first version left it."""
    text = (ROOT / "tests" / "schema" / "version_1.sql").read_text(encoding="utf-8")
    execute(database, *filter(str.strip, text.split(";\n")), *OLD_ROWS)
    return database


def _of_ours(_object: Any, name: str | None, kind: str, _reflected: bool, _other: Any) -> bool:
    """Without the tables that single runs and plans have for themselves."""
    return kind != "table" or name in {table.name for table in tables.metadata.tables.values()}


def test_an_old_schema_becomes_what_a_fresh_one_is_and_keeps_its_rows(old: Database) -> None:
    tables.ensure(old)
    with old.session() as session:
        context = MigrationContext.configure(
            session.connection,
            opts={
                "include_schemas": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == "recon",
                "include_object": _of_ours,
                "compare_server_default": True,
            },
        )
        assert compare_metadata(context, tables.metadata) == []
    assert rows(old, "SELECT schema_version FROM recon.meta") == [(tables.SCHEMA_VERSION,)]
    kept = "SELECT run, state, outcomes, other_side, conflicts, breaks FROM recon.runs"
    assert rows(old, kept) == [("20260101_000000_aaaa", "success", {"linked": 2}, None, None, None)]
    assert rows(old, "SELECT entry, event, plan, to_state FROM recon.audit_log") == [
        (1, "move", "rent_20260101_000001_bbbb", "planned")
    ]
    assert rows(old, "SELECT entry, length(hash) FROM recon.audit_head") == [(1, 64)]
    # Alembic does not compare checks, comments and conditions of indexes; the server's own catalogue does.
    upgraded = rows(old, CATALOGUE)
    execute(old, "DROP SCHEMA recon CASCADE")
    tables.ensure(old)
    assert rows(old, CATALOGUE) == upgraded


def test_an_upgrade_that_fails_leaves_the_old_schema_as_it_was(old: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows(old, CATALOGUE)
    monkeypatch.setattr(tables, "SCHEMA_VERSION", tables.SCHEMA_VERSION + 1)  # there is no step to that
    with pytest.raises(ModuleNotFoundError):
        tables.ensure(old)
    assert rows(old, CATALOGUE) == before
    monkeypatch.undo()
    tables.ensure(old)
    assert rows(old, "SELECT max(schema_version) FROM recon.meta") == [(tables.SCHEMA_VERSION,)]


def test_two_upgrades_at_once_make_one(old: Database) -> None:
    errors: list[BaseException] = []

    def upgrade() -> None:
        try:
            tables.ensure(Database(old.url))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert rows(old, "SELECT schema_version FROM recon.meta") == [(tables.SCHEMA_VERSION,)]


def test_an_upgrade_does_not_wait_for_ever_for_a_run_in_progress(
    old: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "UPGRADE_PATIENCE", "200ms")
    with old.session() as session:
        session.execute("UPDATE recon.runs SET state = 'running'")
        with pytest.raises(Locked, match="brought up to date"):
            tables.ensure(Database(old.url))
    tables.ensure(old)


def test_a_newer_schema_is_refused(database: Database) -> None:
    tables.ensure(database)
    execute(database, "UPDATE recon.meta SET schema_version = 99")
    with pytest.raises(DatabaseFailed, match="version 99"):
        tables.ensure(database)


@pytest.mark.one_engine
def test_alembic_is_imported_only_where_something_has_to_change(database: Database) -> None:
    tables.ensure(database)
    script = (
        "import sys; from recon.database import tables; from recon.database.connect import Database\n"
        "tables.ensure(Database(sys.argv[1])); assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, database.url], check=True, timeout=60)
