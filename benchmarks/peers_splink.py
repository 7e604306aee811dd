"""Splink's `deterministic_link`, timed in its own interpreter: a JSON question on stdin, a JSON answer on stdout.

    {"database": "postgresql+psycopg://…", "engine": "postgres" or "duckdb", "left": "table", "right": "table",
     "key": "id", "rules": [["email"], ["surname", "postcode"], "l.phone = r.mobile"], "rounds": 3}

Both tables have the same columns and lie in schema public, where Splink looks for them by their bare names. A rule is a
list of columns that must be equal, or a condition over `l` and `r`. Splink gives every pair that satisfies a rule, once,
with the first rule that found it; it does not choose among several.

The connection is open, libraries are imported, and DuckDB holds its own copy of the rows before the clock starts: a round
is what Splink does with registered tables, up to the table of pairs. It imports nothing of recon: it runs where recon is
not installed.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import duckdb
import psycopg
import sqlalchemy
from psycopg import sql
from splink import Linker, SettingsCreator, block_on
from splink.backends.duckdb import DuckDBAPI
from splink.backends.postgres import PostgresAPI


class PlainPostgresAPI(PostgresAPI):
    """Without the extension fuzzystrmatch: a server without contrib has none, and equalities use none of it."""

    def _register_extensions(self) -> None:
        pass


def postgres(asked: dict[str, Any]) -> Callable[[], Any]:
    """Opens the connection; what is returned gives Splink a fresh start on it, without results of the round before."""
    engine = sqlalchemy.create_engine(asked["database"])
    with engine.connect():
        pass
    return lambda: PlainPostgresAPI(engine)


def duck(asked: dict[str, Any]) -> Callable[[], Any]:
    """DuckDB in memory with its own copy of both tables, through CSV: its reader of PostgreSQL is a download."""
    connection = duckdb.connect()
    with psycopg.connect(asked["database"].replace("+psycopg", "")) as origin, tempfile.TemporaryDirectory() as folder:
        for name in (asked["left"], asked["right"]):
            file = Path(folder) / "rows.csv"
            columns = [
                (column.name, origin.execute("SELECT format_type(%s, NULL)", [column.type_code]).fetchone()[0])
                for column in origin.execute(
                    sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(name))
                ).description
            ]
            copy = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT (FORMAT csv, NULL '\\N')").format(sql.Identifier(name))
            with file.open("wb") as target, origin.cursor().copy(copy) as rows:
                target.writelines(rows)
            names = ", ".join(f'"{column}" {kind}' for column, kind in columns)
            connection.execute(f'CREATE TABLE "{name}" ({names})')
            connection.execute(f"COPY \"{name}\" FROM '{file}' (FORMAT csv, HEADER false, NULLSTR '\\N')")
    return lambda: DuckDBAPI(connection)


def once(interface: Any, asked: dict[str, Any]) -> tuple[float, int]:
    """Seconds of one link and the number of its pairs."""
    settings = SettingsCreator(
        link_type="link_only",
        unique_id_column_name=asked["key"],
        blocking_rules_to_generate_predictions=[
            rule if isinstance(rule, str) else block_on(*rule) for rule in asked["rules"]
        ],
    )
    began = perf_counter()
    sides = [
        interface.register(table, table_name=alias, dataset_display_name=alias)
        # Splink calls `l` the table whose name comes first in the alphabet.
        for table, alias in ((asked["left"], "a_left"), (asked["right"], "b_right"))
    ]
    pairs = Linker(sides, settings, log_level=logging.ERROR).inference.deterministic_link()
    seconds = perf_counter() - began
    (counted,) = interface.query_sql(f"SELECT count(*) AS pairs FROM {pairs.physical_name}").as_record_list()
    interface.delete_tables_created_by_splink_from_db()
    return seconds, int(counted["pairs"])


def main() -> None:
    asked = json.load(sys.stdin)
    logging.getLogger("splink").setLevel(logging.ERROR)
    began = perf_counter()
    fresh = {"postgres": postgres, "duckdb": duck}[asked["engine"]](asked)
    loading = perf_counter() - began
    rounds = [once(fresh(), asked) for _ in range(asked.get("rounds", 1))]
    json.dump(
        {
            "seconds": statistics.median(seconds for seconds, _ in rounds),
            "rounds": [round(seconds, 3) for seconds, _ in rounds],
            "pairs": rounds[-1][1],
            "seconds_before": loading,
            "versions": {name: version(name) for name in ("splink", "duckdb", "sqlalchemy", "sqlglot")},
        },
        sys.stdout,
    )


main()
