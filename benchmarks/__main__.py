"""`make bench`: a table of ratios, all measured in this run."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import (
    backfill,
    compare,
    desk,
    events,
    guard,
    match_closest,
    match_crm,
    match_exact,
    match_jobs,
    match_many_to_one,
    match_splink,
    process,
    quality,
    ticks,
)
from benchmarks.measure import ROOT, Figure, Setting, document, show, tell
from recon.database import embedded
from recon.database.connect import Database

WORKSPACE = ROOT / ".recon" / "benchmarks"
JUDGED_ROWS = 1_000_000  # the targets are about so many; with fewer, fixed costs of milliseconds decide a ratio
SUBJECTS: dict[str, Callable[[Setting], list[Figure]]] = {
    module.SUBJECT: module.run
    for module in (
        match_many_to_one,
        match_exact,
        match_closest,
        match_splink,
        compare,
        process,
        guard,
        quality,
        backfill,
        desk,
        match_crm,
        match_jobs,
        events,
        ticks,
    )
}


def measured(setting: Setting, only: Sequence[str] = tuple(SUBJECTS)) -> Iterator[Figure]:
    """The figures of these subjects, one after the other.

    Raises:
        AssertionError: two sides that are compared do not decide alike.
    """
    for subject in only:
        for figure in SUBJECTS[subject](setting):
            is_ratio = figure.theirs is not None
            yield replace(figure, met=None) if is_ratio and setting.rows < JUDGED_ROWS else figure


def main() -> None:
    subjects = "\n".join(
        f"  {name}  {(run.__globals__['__doc__'] or '').splitlines()[0]}" for name, run in SUBJECTS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\n\n{subjects}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="records of each side (100_000 for a quick look)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side runs, in turn")
    parser.add_argument("--only", default=",".join(SUBJECTS), help="subjects, such as a,b")
    parser.add_argument("--no-peers", action="store_true", help="leave Splink and reladiff out")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "bank_transactions")
    parser.add_argument("--json", action="store_true", help="the table as JSON too, as the last line")
    asked = parser.parse_args()
    only = [name.strip() for name in asked.only.split(",")]
    unknown = [name for name in only if name not in SUBJECTS]
    if unknown:
        parser.error(f"no subject {', '.join(unknown)}: there are {', '.join(SUBJECTS)}")
    WORKSPACE.mkdir(parents=True, exist_ok=True)
    database = Database(embedded.recreate(WORKSPACE, "benchmarks"), embedded=True)
    figures: list[Figure] = []
    try:
        with database.session(read_only=True) as session:
            server = session.value("SHOW server_version")
        setting = Setting(database, asked.rows, asked.rounds, asked.data, peers=not asked.no_peers)
        for figure in measured(setting, only):
            figures.append(figure)
            tell(figure)
    finally:
        embedded.discard(WORKSPACE)
    about = {
        "rows": asked.rows, "rounds": asked.rounds, "server": f"PostgreSQL {server}", "cores": os.cpu_count(),
        "machine": platform.machine(),
    }  # fmt: skip
    show(
        figures,
        f"{asked.rows:,} rows, medians of {asked.rounds} rounds in turn, PostgreSQL {server}, {os.cpu_count()} cores",
    )
    if asked.json:
        print(json.dumps(document(figures, about)))


if __name__ == "__main__":
    main()
