"""A pass that would make fifty billion pairs is refused, with the number, before it costs anything.

All records of both sides have one key, as a mistyped `on` gives. There is nothing to compare with: the figure is the
seconds from asking for a match to the refusal.
"""

from __future__ import annotations

import importlib.util
from time import perf_counter

from benchmarks.measure import Figure, Setting, at_most
from recon.errors import ReconError
from recon.matching import run as runs
from recon.spec import Reconciliation

SUBJECT = "g"
MOST_SECONDS = 10.0
RECORDS = 223_607  # on each side: its square is 50 billion
SPEC = Reconciliation.model_validate(
    {
        "name": "bench_guard",
        "target": {"table": "one_key_targets", "key": "id"},
        "source": {"table": "one_key_sources", "key": "id"},
        "cardinality": "one_to_one",
        "passes": [
            {
                "name": "city",
                "on": ["city"],
                "within": {"target": "number", "source": "number", "tolerance": "5%"},
                "prefer": ["nearest"],
            }
        ],
    }
)


def run(setting: Setting) -> list[Figure]:
    what = f"refuse a pass of {RECORDS * RECORDS:,} pairs"
    if importlib.util.find_spec("recon.matching.candidates") is None:
        return [Figure(SUBJECT, what, note="Skipped: this version does not count pairs before a pass.")]
    with setting.database.session() as session:
        for side in ("targets", "sources"):
            session.execute(f"DROP TABLE IF EXISTS one_key_{side}")
            session.execute(
                f"CREATE TABLE one_key_{side} AS SELECT n AS id, 'London' AS city, n AS number FROM generate_series(1, {RECORDS}) AS n"
            )
    said = ""
    began = perf_counter()
    try:
        runs.match(setting.database, SPEC, "bench")
    except ReconError as error:
        said = str(error)
    seconds = perf_counter() - began
    assert f"{RECORDS * RECORDS:,}" in said, f"not refused with the number of pairs: {said}"
    target, met = at_most(MOST_SECONDS, seconds)
    return [Figure(SUBJECT, what, seconds, "s", target, met, note=said)]
