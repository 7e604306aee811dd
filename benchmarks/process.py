"""What recon itself needs: memory of its process for a match of ten million rows, and the seconds of `recon explain`.

Memory is the peak resident set of a fresh interpreter that does what `recon match` does, reasons and counts included;
the records stay in the server, whose memory is not counted. `recon explain` is timed as a person feels it, the whole
command with its start, and inside an open session, which is what a notebook pays.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks import data, match_closest, match_exact
from benchmarks.measure import ROOT, Figure, Setting, at_most, in_turn, prepared
from recon.matching import explain
from recon.matching import run as runs

SUBJECT = "f"
MOST_MEGABYTES = 300
MOST_SECONDS = 1.0
MEMORY_TIMES, MEMORY_ROWS = 10, 10_000_000  # memory is measured with ten times the rows, up to the target's ten million
MEGABYTE = 1024  # in kilobytes, the unit of ru_maxrss on Linux

MATCH = """
import resource, sys
from recon.database.connect import Database
from recon.matching import run
from recon.spec import Reconciliation
found = run.match(Database(sys.argv[1]), Reconciliation.model_validate_json(sys.stdin.read()), "bench")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, found.population, round(sum(found.seconds.values()), 1))
"""


def run(setting: Setting) -> list[Figure]:
    return [_memory(setting), *_explain(setting)]


def _memory(setting: Setting) -> Figure:
    rows = max(setting.rows, min(setting.rows * MEMORY_TIMES, MEMORY_ROWS))
    with setting.database.session() as session:
        data.make(session, data.EXACT, rows=rows)
    ended = _process("-c", MATCH, setting.database.url, given=match_exact.SPEC.model_dump_json(exclude_unset=True))
    kilobytes, population, seconds = ended.split()
    assert int(population) == rows
    megabytes = int(kilobytes) / MEGABYTE
    target, met = at_most(MOST_MEGABYTES, megabytes)
    what = f"peak memory of the process, match {rows:,} × {rows:,}"
    return Figure(SUBJECT, what, megabytes, "MB", target, met, note=f"the match took {seconds} s, reasons included")


def _explain(setting: Setting) -> list[Figure]:
    with setting.database.session() as session:
        data.make(session, data.CLOSEST, rows=setting.rows)
    bound = prepared(setting.database, match_closest.SPEC)
    found = runs.match(setting.database, match_closest.SPEC, "bench")
    with setting.database.session() as session:
        keys = session.rows(
            f"SELECT target_key FROM recon.decisions_{found.run} WHERE outcome = 'unmatched' ORDER BY 1 LIMIT $1",
            setting.rounds,
        )
    asked = iter([str(key) for (key,) in keys] * 2)
    with tempfile.TemporaryDirectory() as folder, setting.database.session(read_only=True) as session:
        place = Path(folder) / "reconciliations"
        place.mkdir()
        spec = match_closest.SPEC
        (place / f"{spec.name}.yaml").write_text(spec.model_dump_json(exclude_unset=True))

        def command() -> float:
            began = perf_counter()
            where = ("--workspace", folder, "--database", setting.database.url, "--json")
            _process("-c", "from recon.cli import main; main()", "explain", spec.name, "--key", next(asked), *where)
            return perf_counter() - began

        def inside() -> float:
            began = perf_counter()
            explain.explain(session, bound, next(asked))
            return perf_counter() - began

        seconds = in_turn(len(keys), {"command": command, "inside": inside})
    figures: list[Figure] = []
    for name, note in (("command", "the whole command, its start included"), ("inside", "in an open session")):
        value = statistics.median(seconds[name])
        target, met = at_most(MOST_SECONDS, value)
        figures.append(Figure(SUBJECT, f"explain one of {setting.rows:,}: {note}", value, "s", target, met))
    return figures


def _process(*arguments: str, given: str = "") -> str:
    ended = subprocess.run(
        [sys.executable, *arguments], input=given, capture_output=True, text=True, check=False, cwd=ROOT
    )
    if ended.returncode:
        raise RuntimeError(f"a process of recon failed:\n{ended.stderr[-2000:]}")
    return ended.stdout
