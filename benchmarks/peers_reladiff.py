"""reladiff comparing two tables of one database, timed in its own interpreter: JSON on stdin, JSON on stdout.

    {"database": "postgresql+psycopg://…", "left": "table", "right": "table", "key": ["id"], "columns": ["name", "amount"],
     "algorithm": "joindiff" or "hashdiff", "threads": 2, "rounds": 3}

The connection is open and libraries are imported before the clock starts; a round ends when the last difference is read.
joindiff joins inside the server; hashdiff compares checksums of ranges of keys and fetches the ranges that differ. It
imports nothing of recon: it runs where recon is not installed.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from importlib.metadata import version
from time import perf_counter
from typing import Any

from psycopg2.extensions import parse_dsn
from reladiff import connect, connect_to_table, diff_tables


def once(asked: dict[str, Any]) -> tuple[float, dict[str, int]]:
    """Seconds of one comparison and the number of rows added, removed and changed."""
    options = {"driver": "postgresql", **parse_dsn(asked["database"].replace("+psycopg", ""))}
    threads = asked.get("threads", 1)
    database = connect(options, thread_count=threads)
    database.query("SELECT 1", int)
    began = perf_counter()
    tables = [
        connect_to_table(database, asked[side], tuple(asked["key"]), extra_columns=tuple(asked["columns"]))
        for side in ("left", "right")
    ]
    with diff_tables(*tables, algorithm=asked["algorithm"], max_threadpool_size=threads) as difference:
        signs: dict[tuple[str, ...], str] = {}
        for sign, row in difference:
            key = tuple(row[: len(asked["key"])])
            signs[key] = "changed" if key in signs else {"-": "removed", "+": "added"}[sign]
    seconds = perf_counter() - began
    database.close()
    return seconds, dict(Counter(signs.values()))


def main() -> None:
    asked = json.load(sys.stdin)
    rounds = [once(asked) for _ in range(asked.get("rounds", 1))]
    differences = rounds[-1][1]
    json.dump(
        {
            "seconds": statistics.median(seconds for seconds, _ in rounds),
            "rounds": [round(seconds, 3) for seconds, _ in rounds],
            "differences": sum(differences.values()),
            **{name: differences.get(name, 0) for name in ("added", "removed", "changed")},
            "versions": {name: version(name) for name in ("reladiff", "sqeleton", "psycopg2-binary")},
        },
        sys.stdout,
    )


main()
