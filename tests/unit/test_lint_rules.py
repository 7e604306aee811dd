"""Lint: the scripts as they are written pass, and each rule refuses the fault that it is there for."""

from __future__ import annotations

from typing import Any

import pytest

from recon.backfill import lint
from recon.backfill.bundle import SCRIPTS
from recon.errors import LintRefused
from tests.support import ROOT

GOLDEN = {name: (ROOT / "tests" / "golden" / f"rent_payments.{name}").read_text(encoding="utf-8") for name in SCRIPTS}


def document(**fields: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "plan": "example",
        "target": {
            "schema": "public",
            "table": "historical_transactions",
            "key": ["id"],
            "columns": ["invoice_id", "lease_start_date", "lease_end_date", "lease_rent_amount"],
        },
        "source_key": ["id"],
        "actions": {"link": 10},
        "session": {"lock_timeout": "3000", "statement_timeout": "300000", "search_path": "pg_catalog, pg_temp"},
    }
    return usual | fields


# A plan that links and inserts, with a key of two columns, in names that hurt.
HOSTILE = 'or"der; drop table x; --'
QUOTED = '"or""der; drop table x; --"'
INSERTING = document(
    target={"schema": "public", "table": HOSTILE, "key": ["org", "line\nbreak"], "columns": ["select", HOSTILE]},
    actions={"link": 1, "insert": 1},
)
KEYS = """"target"."org" = "recorded"."target_key_1"
    AND "target"."line\nbreak" = "recorded"."target_key_2"
    AND "recorded"."place" >= CAST($1 AS BIGINT)
    AND "recorded"."place" <= CAST($2 AS BIGINT)
    AND ("target"."org", "target"."line\nbreak") >= (CAST($3 AS TEXT), CAST($4 AS INT))
    AND ("target"."org", "target"."line\nbreak") <= (CAST($5 AS TEXT), CAST($6 AS INT))"""
INSERTS = {
    "execute.sql": f"""-- One batch.
WITH "changed" AS (
  UPDATE "public".{QUOTED} AS "target" SET "select" = "staged"."after_1"
  FROM "recon"."staged_example" AS "staged" JOIN "public"."lease" AS "s" ON "s"."id" = "staged"."source_key"
  WHERE {KEYS.replace("recorded", "staged")}
    AND "target"."select" IS NOT DISTINCT FROM "staged"."before_1"
    AND "s"."word" = 'it''s; -- /* $1 */ DROP TABLE x'
  RETURNING "staged"."place", "staged"."before_1", "target"."select" AS "after_1"
), "fresh" AS MATERIALIZED (
  SELECT "staged"."place", "staged"."after_2" FROM "recon"."staged_example" AS "staged"
  WHERE "staged"."place" >= CAST($1 AS BIGINT) AND "staged"."place" <= CAST($2 AS BIGINT)
    AND NOT EXISTS(SELECT 1 FROM "public".{QUOTED} AS "existing" WHERE "existing".{QUOTED} = "staged"."after_2")
), "inserted" AS (
  INSERT INTO "public".{QUOTED} AS "target" ("org", {QUOTED})
  SELECT 'x', "fresh"."after_2" FROM "fresh" ORDER BY "fresh"."place"
  ON CONFLICT DO NOTHING
  RETURNING "target"."org" AS "target_key_1", SHA256(CONVERT_TO(CAST(ROW("target".*) AS TEXT), 'UTF8')) AS "row_digest"
)
INSERT INTO "recon"."ledger_example" ("place", "row_digest")
SELECT "changed"."place", NULL FROM "changed"
UNION ALL
SELECT COALESCE("fresh"."place", 0), "inserted"."row_digest" FROM "inserted" LEFT JOIN "fresh" ON TRUE
""",
    "revert.sql": f"""-- One batch.
WITH "deleted" AS (
  DELETE FROM "public".{QUOTED} AS "target" USING "recon"."ledger_example" AS "ledger"
  WHERE {KEYS.replace("recorded", "ledger")}
    AND SHA256(CONVERT_TO(CAST(ROW("target".*) AS TEXT), 'UTF8')) = "ledger"."row_digest"
    AND "ledger"."reverted_at" IS NULL
  RETURNING "ledger"."place"
)
UPDATE "recon"."ledger_example" AS "ledger" SET "reverted_at" = CLOCK_TIMESTAMP()
FROM "deleted" WHERE "ledger"."place" = "deleted"."place"
""",
}


def broken(found: list[lint.Finding]) -> dict[str, str]:
    return {finding.rule: finding.what for finding in found}


def mutated(texts: dict[str, str], name: str, old: str, new: str) -> dict[str, str]:
    assert old in texts[name], f"{name} no longer holds {old!r}"
    return {**texts, name: texts[name].replace(old, new, 1)}


def test_the_scripts_as_they_are_written_keep_every_rule() -> None:
    assert lint.of_bundle(document(), GOLDEN) == []
    lint.refuse(document(), GOLDEN)


def test_inserts_and_names_that_hurt_keep_every_rule() -> None:
    assert lint.of_bundle(INSERTING, INSERTS) == []


def test_every_rule_has_a_mutation_that_breaks_it() -> None:
    tried = {rule for _, _, _, rule in [*MUTATIONS, *INSERT_MUTATIONS]}
    assert tried == {rule.name for rule in lint.RULES}


EXECUTE, REVERT, DRY_RUN, VERIFY = "execute.sql", "revert.sql", "dry_run.sql", "verify.sql"
GUARD = '"target"."invoice_id" IS NOT DISTINCT FROM "staged"."before_1"'
SET = '"invoice_id" = "staged"."after_1"'
LAST = 'FROM "changed"\n'
# Script, what is taken out, what is put in, and the rule that must refuse it.
MUTATIONS = [
    (EXECUTE, LAST, f"{LAST}; DELETE FROM public.invoices", "one statement"),
    (EXECUTE, "WITH", "EXPLAIN ANALYZE WITH", "one statement"),
    (EXECUTE, "WITH", "THIS IS NOT SQL (", "one statement"),
    (REVERT, "WITH", "DO $$ BEGIN DELETE FROM x; END $$; WITH", "one statement"),
    (EXECUTE, "'rent'", r"E'rent\' OR true --'", "one statement"),
    (EXECUTE, "'rent'", "$$rent$$", "one statement"),
    (EXECUTE, "'rent'", "U&'rent'", "one statement"),
    (VERIFY, "SELECT", "COPY recon.plans TO '/tmp/x' -- ", "one statement"),
    (VERIFY, "SELECT", "TRUNCATE public.invoices; SELECT", "one statement"),
    (VERIFY, "SELECT", "SET ROLE postgres; SELECT", "one statement"),
    (VERIFY, "SELECT", "GRANT ALL ON public.invoices TO public; SELECT", "one statement"),
    (VERIFY, "SELECT", "CALL public.f(); SELECT", "one statement"),
    (VERIFY, "SELECT", "CREATE TABLE public.x AS SELECT", "one statement"),
    (EXECUTE, "-- One batch", "One batch", "title only"),
    (EXECUTE, "in one statement.", "in one\rDELETE FROM public.invoices;", "title only"),
    (EXECUTE, "WHERE", "/* all is well */ WHERE", "title only"),
    (EXECUTE, "WHERE", "WHERE true AND -- all is well\n", "title only"),
    (DRY_RUN, "SELECT\n", 'WITH x AS (DELETE FROM "public"."invoices" RETURNING 1) SELECT\n', "only reads"),
    (VERIFY, "SELECT\n", 'WITH x AS (UPDATE "public"."invoices" SET id = 1 RETURNING 1) SELECT\n', "only reads"),
    (DRY_RUN, '  "staged"."place"\n', '  "staged"."place" FOR UPDATE\n', "only reads"),
    (VERIFY, "'the row is gone'", "$1", "only reads"),
    (DRY_RUN, 'FROM "recon"', 'INTO "public"."copy" FROM "recon"', "no detours"),
    (VERIFY, '"target"."id" IS NULL', '"target"."id" OPERATOR(public.=) 1', "no detours"),
    (DRY_RUN, "'applied'", "CAST(PG_SLEEP(9) AS TEXT)", "known functions"),
    (EXECUTE, "'rent'", "PG_READ_FILE('/etc/passwd')", "known functions"),
    (VERIFY, "'the row is gone'", "LO_IMPORT('/etc/passwd')", "known functions"),
    (REVERT, "CLOCK_TIMESTAMP()", "DBLINK('x', 'y')", "known functions"),
    (REVERT, "CLOCK_TIMESTAMP()", "CURRENT_TIMESTAMP", "known functions"),
    (EXECUTE, '"public"."invoices"', '"invoices"', "full names"),
    (EXECUTE, "HASH_RECORD_EXTENDED(", "public.HASH_RECORD_EXTENDED(", "full names"),
    (EXECUTE, '"public"."invoices"', '"pg_catalog"."pg_authid"', "own tables"),
    (EXECUTE, '"public"."invoices"', "PG_TOAST.pg_toast_1", "own tables"),
    (EXECUTE, '"public"."invoices"', "pg_authid", "own tables"),
    (DRY_RUN, '"recon"."ledger_example"', '"recon"."ledger_other"', "own tables"),
    (DRY_RUN, '"recon"."ledger_example"', "RECON.ledger_other", "own tables"),
    (EXECUTE, 'UPDATE "public"."historical_transactions"', 'UPDATE "public"."invoices"', "target only"),
    (EXECUTE, 'INSERT INTO "recon"."ledger_example"', 'INSERT INTO "recon"."staged_example"', "target only"),
    (REVERT, 'UPDATE "recon"."ledger_example"', 'UPDATE "recon"."staged_example"', "target only"),
    (EXECUTE, SET, f'{SET}, "amount" = "staged"."after_1"', "listed columns"),
    (EXECUTE, f"SET {SET}", 'SET ("invoice_id", "amount") = (SELECT 1, 2)', "listed columns"),
    (REVERT, '"reverted_at" = CLOCK', '"place" = 1, "reverted_at" = CLOCK', "listed columns"),
    (EXECUTE, f"AND {GUARD}", "", "guarded"),
    (EXECUTE, GUARD, f"({GUARD} OR TRUE)", "guarded"),
    (EXECUTE, GUARD, GUARD.replace("IS NOT DISTINCT FROM", "IS DISTINCT FROM"), "guarded"),
    (EXECUTE, GUARD, GUARD.replace("IS NOT DISTINCT FROM", "="), "guarded"),
    (EXECUTE, GUARD, GUARD.replace("before_1", "before_2"), "guarded"),
    (EXECUTE, GUARD, GUARD.replace('"staged"."before_1"', '"target"."invoice_id"'), "guarded"),
    (EXECUTE, 'CAST("target"."lease_rent_amount" AS TEXT)', 'CAST("target"."lease_rent_amount" AS CHAR(1))', "guarded"),
    (REVERT, '"target"."invoice_id" IS NOT DISTINCT FROM "ledger"."after_1"', "TRUE", "guarded"),
    (EXECUTE, SET, '"invoice_id" = 7', "recorded values"),
    (EXECUTE, SET, '"invoice_id" = "staged"."after_1" + 1', "recorded values"),
    (EXECUTE, SET, '"invoice_id" = "staged"."before_1"', "recorded values"),
    (REVERT, '"invoice_id" = "ledger"."before_1"', '"invoice_id" = NULL', "recorded values"),
    (EXECUTE, '"target"."id" = "staged"."target_key"', "TRUE", "same row"),
    (REVERT, '"target"."id" = "ledger"."target_key"', '"target"."id" >= "ledger"."target_key"', "same row"),
    (EXECUTE, 'AND "staged"."place" <= CAST($2 AS BIGINT)', "", "bounded"),
    (EXECUTE, '"staged"."place" >= CAST($1 AS BIGINT)', '"staged"."place" >= 0', "bounded"),
    (EXECUTE, 'AND "target"."id" <= CAST($4 AS INT)', "", "bounded"),
    (EXECUTE, '"target"."id" >= CAST($3 AS INT)', '"target"."id" >= CAST($1 AS INT)', "bounded"),
    (REVERT, 'AND "ledger"."place" >= CAST($1 AS BIGINT)', "", "bounded"),
    (EXECUTE, LAST, 'FROM "recon"."staged_example" AS "changed"\n', "recorded"),
    (EXECUTE, LAST, f"{LAST}ON CONFLICT (place) DO UPDATE SET action = 'link'", "recorded"),
    (REVERT, 'AND "ledger"."reverted_at" IS NULL', "", "recorded"),
    (REVERT, '"ledger"."place" = "restored"."place"', "TRUE", "recorded"),
    (REVERT, 'FROM "restored"', 'FROM "recon"."ledger_example" AS "restored"', "recorded"),
]  # fmt: skip
INSERT_MUTATIONS = [
    (EXECUTE, "  ON CONFLICT DO NOTHING\n", "", "inserts new rows"),
    (EXECUTE, "DO NOTHING", f'("org") DO UPDATE SET {QUOTED} = 1', "inserts new rows"),
    (EXECUTE, f'("org", {QUOTED})', '("org", "secret")', "listed columns"),
    (EXECUTE, f'("org", {QUOTED})', "", "listed columns"),
    (EXECUTE, '"staged"."place" >= CAST($1 AS BIGINT) AND "staged"', '"staged"', "bounded"),
    (EXECUTE, 'FROM "inserted" LEFT JOIN "fresh" ON TRUE', 'FROM "fresh" AS "inserted"', "recorded"),
    (REVERT, '= "ledger"."row_digest"', '<> "ledger"."row_digest"', "deletes own rows"),
    (REVERT, 'ROW("target".*)', 'ROW("ledger".*)', "deletes own rows"),
    (REVERT, "CAST($6 AS INT)", "CAST($4 AS INT)", "bounded"),
    (REVERT, '"target"."org" = "ledger"."target_key_1"', "TRUE", "same row"),
    (REVERT, 'AND "ledger"."reverted_at" IS NULL', "", "recorded"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "new", "rule"), MUTATIONS)
def test_a_script_that_was_bent_is_refused(name: str, old: str, new: str, rule: str) -> None:
    texts = mutated(GOLDEN, name, old, new)
    assert rule in broken(lint.refused(lint.of_bundle(document(), texts)))
    with pytest.raises(LintRefused, match=name.replace(".", r"\.")) as error:
        lint.refuse(document(), texts)
    assert error.value.exit_code == 4
    assert error.value.todo


@pytest.mark.parametrize(("name", "old", "new", "rule"), INSERT_MUTATIONS)
def test_a_script_that_inserts_or_deletes_and_was_bent_is_refused(name: str, old: str, new: str, rule: str) -> None:
    assert rule in broken(lint.of_bundle(INSERTING, mutated(INSERTS, name, old, new)))


def test_a_plan_that_inserts_nothing_may_neither_insert_nor_delete() -> None:
    found = broken(lint.of_bundle({**INSERTING, "actions": {"link": 1}}, INSERTS))
    assert set(found) == {"inserts new rows", "deletes own rows"}


@pytest.mark.parametrize(
    ("session", "said"),
    [
        (None, "states no lock_timeout"),
        ({"lock_timeout": "0"}, "states no lock_timeout"),
        ({"statement_timeout": "99999999"}, "states no statement_timeout"),
        ({"lock_timeout": "-1"}, "states no lock_timeout"),
        ({"search_path": "public, pg_catalog"}, "states another search_path"),
        ({"session_replication_role": "replica"}, "sets session_replication_role"),
    ],
)
def test_a_plan_without_timeouts_or_with_other_settings_is_refused(session: dict[str, Any] | None, said: str) -> None:
    held = None if session is None else document()["session"] | session
    found = [finding.what for finding in lint.of_bundle(document(session=held), GOLDEN)]
    assert any(said in what for what in found)


def test_an_error_names_the_first_faults_and_counts_the_rest() -> None:
    texts = dict.fromkeys(SCRIPTS, "-- nothing\nDROP TABLE x")
    with pytest.raises(LintRefused) as error:
        lint.refuse(document(session=None), texts)
    assert error.value.what.startswith("plan.json states no lock_timeout")
    assert error.value.why.endswith("and 2 more.")
