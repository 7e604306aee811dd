"""Two tables with few differences: recon beside reladiff 0.6, in one database.

Both join by the key `id` and compare four columns (text, numeric, date, text with NULLs). recon writes one row for each
record, with what differs before and after; reladiff gives the differing rows to its caller. Counts of added, removed and
changed rows must be equal. reladiff runs in its own interpreter, connected and imported before its clock starts. It has
two ways, and both are shown: joindiff joins inside the server, as recon does; hashdiff compares checksums of ranges of
keys, the only way it has between two databases. Each gets two threads, the number of cores that recon's one statement
may use, and sessions with the working memory that recon's has.
"""

from __future__ import annotations

from benchmarks import data
from benchmarks.measure import Figure, Ours, Setting, faster_than, in_turn, peer, prepared
from recon.spec import Reconciliation

SUBJECT = "e"
LEAST = 5
THREADS = 2
COLUMNS = ("name", "amount", "day", "status")
SPEC = Reconciliation.model_validate(
    {
        "name": "bench_compared",
        "target": {"table": "compared_targets", "key": "id"},
        "source": {"table": "compared_sources", "key": "id"},
        "cardinality": "one_to_one",
        "passes": [{"name": "id", "on": ["id"]}],
        "compare": {name: name for name in COLUMNS},
    }
)


def run(setting: Setting) -> list[Figure]:
    what = f"compare {len(COLUMNS)} columns, {setting.rows:,} × {setting.rows:,}"
    if setting.peers_missing:
        return [Figure(SUBJECT, what, note=setting.peers_missing)]
    with setting.database.session() as session:
        data.make(session, data.COMPARED, rows=setting.rows)
    bound = prepared(setting.database, SPEC)
    answers: dict[str, dict[str, int]] = {}

    def reladiff(algorithm: str) -> float:
        answer = peer(
            "peers_reladiff",
            {
                "database": setting.peers_database, "left": "compared_targets", "right": "compared_sources", "key": ["id"],
                "columns": COLUMNS, "algorithm": algorithm, "threads": THREADS,
            },
        )  # fmt: skip
        answers[algorithm] = {name: answer[name] for name in ("added", "removed", "changed")}
        return answer["seconds"]

    with setting.database.session() as session:
        ours = Ours(session, bound)
        sides = {"ours": ours, **{name: lambda name=name: reladiff(name) for name in ("joindiff", "hashdiff")}}
        seconds = in_turn(setting.rounds, sides)
        found = dict(session.rows(f"SELECT outcome, count(*) FROM {ours.table} GROUP BY 1"))
    expected = {"added": found.get("missing", 0), "removed": found.get("orphan", 0), "changed": found.get("changed", 0)}
    for algorithm, answer in answers.items():
        assert answer == expected, f"{algorithm} found {answer}, recon {expected}"
    note = ", ".join(f"{name} {count:,}" for name, count in expected.items()) + "; all three agree"
    return [
        faster_than(SUBJECT, f"{what}: reladiff joindiff", seconds["ours"], seconds["joindiff"], LEAST, note),
        faster_than(SUBJECT, f"{what}: reladiff hashdiff", seconds["ours"], seconds["hashdiff"], LEAST),
    ]
