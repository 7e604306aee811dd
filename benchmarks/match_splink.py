"""The same rules over the same records: recon beside Splink 5 `deterministic_link`, on PostgreSQL and on DuckDB.

Two sets of records: the payments and leases of subject a (ten payments to a lease, three leases to a property, so that a
record has several pairs), and two registers of people (nearly every key unique, so that both sides only join). Nothing
is preferred. Splink lists every pair that satisfies a rule; it does not choose, and says nothing of records without a
pair. recon decides every record of the left table, many to one, and tells ties apart. The pairs of both are checked:
the number of Splink's against a plain SELECT DISTINCT, and every partner that recon names against the same pairs.

Splink runs in its own interpreter; imports, connections and DuckDB's own copy of the rows come before its clock. On
PostgreSQL both use the same server and working memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import data, match_many_to_one
from benchmarks.measure import Figure, Ours, Setting, faster_than, in_turn, peer, prepared
from recon.matching.decide import WORK_MEMORY
from recon.spec import Reconciliation

SUBJECT = "d"
LEAST = 10
MOST_ROWS = 1_000_000  # Splink needs minutes beyond
PAYMENT_COLUMNS = "id, payprop_id, property_id, customer_id"  # Splink wants the same columns on both sides


@dataclass(frozen=True)
class Case:
    """Two tables and rules, as recon's passes and as Splink's (a list of columns, or a condition over l and r)."""

    name: str
    data: Sequence[str]
    left: str
    right: str
    passes: Sequence[dict[str, object]]
    rules: Sequence[Sequence[str] | str]

    @property
    def spec(self) -> Reconciliation:
        tables = {
            side: {"table": table, "key": "id"} for side, table in (("target", self.left), ("source", self.right))
        }
        return Reconciliation.model_validate({"name": f"bench_{self.left}", **tables, "passes": self.passes})

    @property
    def pairs(self) -> str:
        """Every pair that a rule finds, once."""
        conditions = [
            rule if isinstance(rule, str) else " AND ".join(f"l.{name} = r.{name}" for name in rule)
            for rule in self.rules
        ]
        return " UNION ".join(
            f"SELECT l.id AS l, r.id AS r FROM {self.left} AS l JOIN {self.right} AS r ON {on}" for on in conditions
        )


PAYMENTS = Case(
    "payments and leases",
    (
        *match_many_to_one.DATA,
        f"CREATE TABLE linked_payments AS SELECT {PAYMENT_COLUMNS} FROM payments",
        f"CREATE TABLE linked_leases AS SELECT {PAYMENT_COLUMNS} FROM leases",
    ),
    "linked_payments",
    "linked_leases",
    (
        {"name": "payprop", "on": ["payprop_id"]},
        {"name": "property_and_customer", "on": ["property_id", "customer_id"]},
        {"name": "property_only", "on": ["property_id"], "when": "t.customer_id is null"},
    ),
    (["payprop_id"], ["property_id", "customer_id"], "l.property_id = r.property_id and l.customer_id is null"),
)
PEOPLE_RULES = (["email"], ["surname", "postcode", "birth_date"], ["phone"])
PEOPLE = Case(
    "people",
    data.PEOPLE,
    "people_left",
    "people_right",
    tuple({"name": "_".join(rule), "on": rule} for rule in PEOPLE_RULES),
    PEOPLE_RULES,
)


def run(setting: Setting) -> list[Figure]:
    if setting.peers_missing:
        return [Figure(SUBJECT, "Splink", note=setting.peers_missing)]
    if setting.rows > MOST_ROWS:
        return [Figure(SUBJECT, "Splink", note=f"Skipped: measured up to {MOST_ROWS:,} rows.")]
    return [figure for case in (PAYMENTS, PEOPLE) for figure in _run(setting, case)]


def _run(setting: Setting, case: Case) -> list[Figure]:
    sources = max(setting.rows // match_many_to_one.PER_SOURCE, 1)
    with setting.database.session() as session:
        data.make(session, case.data, rows=setting.rows, targets=setting.rows, sources=sources)
    bound = prepared(setting.database, case.spec)
    pairs: dict[str, int] = {}

    def splink(engine: str) -> float:
        asked = {"database": setting.peers_database, "engine": engine, "left": case.left, "right": case.right}
        answer = peer("peers_splink", {**asked, "key": "id", "rules": case.rules})
        pairs[engine] = answer["pairs"]
        return answer["seconds"]

    with setting.database.session() as session:
        ours = Ours(session, bound)
        sides = {"ours": ours, **{name: lambda name=name: splink(name) for name in ("postgres", "duckdb")}}
        seconds = in_turn(setting.rounds, sides)
        session.execute("SELECT set_config('work_mem', $1, true)", WORK_MEMORY)
        session.execute(f"CREATE TEMPORARY TABLE pairs ON COMMIT DROP AS {case.pairs}")
        expected = session.value("SELECT count(*) FROM pairs")
        matched, right, tied, with_pairs = session.rows(
            f"""SELECT count(*) FILTER (WHERE outcome = 'matched'), count(pairs.r),
                count(*) FILTER (WHERE outcome = 'ambiguous'), (SELECT count(DISTINCT l) FROM pairs)
            FROM {ours.table} AS decided
            LEFT JOIN pairs ON pairs.l = decided.target_key AND pairs.r = decided.source_key"""
        )[0]
    assert pairs == dict.fromkeys(pairs, expected), f"Splink found {pairs} pairs, SQL {expected}"
    assert matched == right, f"{matched - right} of {matched} partners are no pair"
    assert matched + tied == with_pairs, f"{with_pairs} records have pairs, {matched + tied} were decided"
    what = f"3 rules, {setting.rows:,} {case.name}: Splink on"
    note = f"{expected:,} pairs of {with_pairs:,} records; of these recon matched {matched:,} and found {tied:,} tied"
    return [
        faster_than(SUBJECT, f"{what} PostgreSQL", seconds["ours"], seconds["postgres"], LEAST, note),
        faster_than(SUBJECT, f"{what} DuckDB", seconds["ours"], seconds["duckdb"], None),
    ]
