"""The SQL that is written for people to read, kept as files: a change of it shows as a diff.

`make golden` writes the files anew; read the diff before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recon.backfill import change, drafts, scripts
from recon.database import relations, tables
from recon.database.connect import Database
from recon.matching import decide as deciding
from recon.matching import pairs, reasons
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.pool import Pool
from recon.names import DIALECT
from tests.support import load_rent_sample, rent_spec, simple_spec

GOLDEN = Path(__file__).parents[1] / "golden"

pytestmark = pytest.mark.one_engine


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    assert text.rstrip("\n") == path.read_text(encoding="utf-8").rstrip("\n"), f"{name} differs: see `make golden`"


def reasons_sql(bound: Bound) -> str:
    return reasons.of_unmatched(bound, Pool(), tables.own("decisions", "example"))


def test_the_sql_of_the_rent_payments(database: Database) -> None:
    load_rent_sample(database)
    spec = rent_spec()
    with database.session(read_only=True) as session:
        bound = bind(session, spec)
        compare("rent_payments.match.sql", deciding.sql(bound))
        compare("rent_payments.reasons.sql", reasons_sql(bound))
        compare("rent_payments.pairs.sql", pairs.pairs(bound, "example").sql(DIALECT, pretty=True))
        session.users_path()
        made = change.of(bound, relations.table(session, "historical_transactions", "t"))
        passes = [rule.name for rule in spec.passes]
        compare("rent_payments.staged.sql", drafts.staged_rows(made, "example", passes).sql(DIALECT, pretty=True))
        for name, text in scripts.all_scripts(made, "example").items():
            compare(f"rent_payments.{name}", text)


def test_the_sql_of_passes_that_look_at_both_sides(database: Database) -> None:
    with database.session() as session:
        session.execute(
            "CREATE TABLE pay (org text, id int, place int, amount numeric, lease_id int, PRIMARY KEY (org, id))"
        )
        session.execute("CREATE TABLE lease (id int PRIMARY KEY, place int, amount numeric, kind text)")
        spec = simple_spec(
            target={"table": "pay", "key": ["org", "id"]},
            source={"table": "lease", "key": "id", "where": "kind <> 'draft'"},
            passes=[
                {"name": "exact", "on": {"place": "place", "amount": "amount"}, "on_tie": "next"},
                {
                    "name": "near",
                    "on": {"place": "place"},
                    "when": "abs(t.amount - s.amount) < 5 and s.kind = 'rent'",
                    "prefer": ["abs(t.amount - s.amount)", "s.kind desc"],
                    "on_tie": "next",
                    "accept": "review",
                },
            ],
        )
        bound = bind(session, spec)
        compare("both_sides.match.sql", deciding.sql(bound))
        compare("both_sides.reasons.sql", reasons_sql(bound))


def test_the_sql_of_one_to_one_with_windows_and_comparison(database: Database) -> None:
    with database.session() as session:
        session.execute(
            "CREATE TABLE jobs (org text, id uuid, customer int, starts timestamptz, PRIMARY KEY (org, id))"
        )
        session.execute("CREATE TABLE stays (id int PRIMARY KEY, org text, customer int, ends timestamptz, job uuid)")
        spec = simple_spec(
            target={"table": "stays", "key": "id"},
            source={"table": "jobs", "key": ["org", "id"]},
            link=None,
            scope="org",
            cardinality="one_to_one",
            passes=[
                {"name": "same", "on": ["customer"], "on_tie": "next"},
                {
                    "name": "near",
                    "on": ["customer"],
                    "within": {"target": "ends", "source": "starts", "tolerance": "1 hour"},
                    "prefer": ["nearest"],
                },
            ],
            valid=[{"rule": "s.starts is not null", "issue": "no start"}],
            compare={"ends": {"source": "starts", "tolerance": {"after": "5 minutes"}}},
        )
        bound = bind(session, spec)
        compare("one_to_one.match.sql", deciding.sql(bound))
        compare("one_to_one.reasons.sql", reasons_sql(bound))


def test_the_sql_of_a_plan_with_every_action(database: Database) -> None:
    with database.session() as session:
        session.execute("CREATE TABLE feed (id int PRIMARY KEY, org text, code text, status text, ends timestamptz)")
        session.execute(
            "CREATE TABLE stay (id uuid PRIMARY KEY, org text, code text, status text, ends timestamptz,"
            " feed_id int, cancelled_at timestamptz, UNIQUE (org, code))"
        )
        spec = simple_spec(
            name="all_actions",
            scope="org",
            target={"table": "stay", "key": "id"},
            source={"table": "feed", "key": "id"},
            link={"column": "feed_id"},
            cardinality="one_to_one",
            passes=[{"name": "code", "on": ["org", "code"]}],
            compare={"status": "status", "ends": {"source": "ends", "tolerance": "1 minute"}},
            backfill={
                "missing": {"insert": {"cancelled_at": "case when s.status = 'cancelled' then now() end"}},
                "changed": {
                    "update": ["status"],
                    "also": [{"when": "s.status = 'cancelled'", "set": {"cancelled_at": "now()"}}],
                },
                "orphan": {"when": "t.status = 'confirmed'", "set": {"status": "'cancelled'", "cancelled_at": "now()"}},
            },
        )
        bound = bind(session, spec)
        session.users_path()
        made = change.of(bound, relations.table(session, "stay", "t"))
        steps = drafts.steps(made, "example", ["code"], whole=True)
        compare("all_actions.staged.sql", ";\n\n".join([*steps, drafts.staging(made, made).sql(DIALECT, pretty=True)]))
        for name, text in scripts.all_scripts(made, "example").items():
            compare(f"all_actions.{name}", text)
