"""`make bench`: prints a table of ratios."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import match_many_to_one
from recon.database import embedded
from recon.database.connect import Database

WORKSPACE = Path(__file__).parents[1] / ".recon" / "benchmarks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=1_000_000, help="payments")
    parser.add_argument("--sources", type=int, default=100_000, help="leases")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side runs, in turn")
    asked = parser.parse_args()
    WORKSPACE.mkdir(parents=True, exist_ok=True)
    database = Database(embedded.recreate(WORKSPACE, "benchmarks"), embedded=True)
    try:
        match_many_to_one.run(database, asked.targets, asked.sources, asked.rounds)
    finally:
        embedded.discard(WORKSPACE)


main()
