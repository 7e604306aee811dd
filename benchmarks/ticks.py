"""Ten thousand reservations in a tick of the mirror: all new, then one in twenty changed, then none.

Each tick is the whole of it: fetched page by page over HTTP from a stand-in on this machine, compared with the source's
own list, matched, planned, signed for by a standing sign-off, written with its ledger, proven by verify.sql and the suite.
One process does all three; its memory is the peak of its resident set.
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks import stays
from benchmarks.measure import ROOT, Figure, Setting, at_most

SUBJECT = "n"
RESERVATIONS = 10_000
MOST_SECONDS = 300.0  # a tick must be over long before the next one, half an hour later
SHARE = 20  # one in so many is changed before the second tick

TICKS = """
import json, resource, sys, time
from pathlib import Path
from recon.database.connect import Database
from recon.mirror import sync
from recon.mirror.parts import Wish
from recon.workspace import Workspace
workspace, database = Workspace(Path(sys.argv[1])), Database(sys.argv[2])
for _ in sys.stdin:
    began = time.perf_counter()
    done = sync.sync(database, workspace, sys.argv[3], Wish(cause="schedule"))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([time.perf_counter() - began, memory / 1024, done.status, done.stats, done.error]), flush=True)
"""


def run(setting: Setting) -> list[Figure]:
    """The seconds of each tick, and the memory of the process after all of them."""
    many = min(RESERVATIONS, max(60, setting.rows // 100))
    with stays.place(setting, many) as place:
        command = [sys.executable, "-c", TICKS, str(place.workspace.root), setting.database.url, stays.SPEC]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
        ) as process:
            first = _tick(process, {"created": many})
            for number in range(0, many, SHARE):
                place.stays.change(stays.ORGANIZATION, f"R{number}", check_out="2026-04-05")
            second = _tick(process, {"updated": len(range(0, many, SHARE))})
            third = _tick(process, {"created": 0, "updated": 0})
            assert process.stdin is not None
            process.stdin.close()
    figures: list[Figure] = []
    for what, (seconds, _) in (("all new", first), ("one in twenty changed", second), ("none changed", third)):
        target, met = at_most(MOST_SECONDS, seconds)
        figures.append(Figure(SUBJECT, f"a tick of {many:,} reservations, {what}", seconds, "s", target, met))
    memory = third[1]
    return [*figures, Figure(SUBJECT, f"peak memory of the process, {many:,} reservations", memory, "MB")]


def _tick(process: subprocess.Popen[str], expected: dict[str, int]) -> tuple[float, float]:
    """Have it tick once. Raises AssertionError where it did something else than it should."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    seconds, memory, status, stats, error = json.loads(process.stdout.readline())
    assert {name: stats[name] for name in expected} == expected, (status, stats, error)
    return seconds, memory
