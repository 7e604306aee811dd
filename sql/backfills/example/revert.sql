-- One batch: only where a row still holds what was written.
WITH "restored" AS (
  UPDATE "public"."historical_transactions" AS "target" SET "invoice_id" = "ledger"."before_1", "lease_start_date" = "ledger"."before_2", "lease_end_date" = "ledger"."before_3", "lease_rent_amount" = "ledger"."before_4"
  FROM "recon"."ledger_rent_payments_20261121_154630_5c64" AS "ledger"
  WHERE
    "target"."id" = "ledger"."target_key"
    AND "ledger"."place" >= CAST($1 AS BIGINT)
    AND "ledger"."place" <= CAST($2 AS BIGINT)
    AND "target"."id" >= CAST($3 AS INT)
    AND "target"."id" <= CAST($4 AS INT)
    AND "target"."invoice_id" IS NOT DISTINCT FROM "ledger"."after_1"
    AND "target"."lease_start_date" IS NOT DISTINCT FROM "ledger"."after_2"
    AND "target"."lease_end_date" IS NOT DISTINCT FROM "ledger"."after_3"
    AND (
      CAST("target"."lease_rent_amount" AS TEXT)
    ) COLLATE "C" IS NOT DISTINCT FROM (
      CAST("ledger"."after_4" AS TEXT)
    ) COLLATE "C"
    AND "ledger"."reverted_at" IS NULL
  RETURNING "ledger"."place", (
    "target"."invoice_id" IS NOT DISTINCT FROM "ledger"."before_1"
    AND "target"."lease_start_date" IS NOT DISTINCT FROM "ledger"."before_2"
    AND "target"."lease_end_date" IS NOT DISTINCT FROM "ledger"."before_3"
    AND (
      CAST("target"."lease_rent_amount" AS TEXT)
    ) COLLATE "C" IS NOT DISTINCT FROM (
      CAST("ledger"."before_4" AS TEXT)
    ) COLLATE "C"
  ) AS "holds"
)
UPDATE "recon"."ledger_rent_payments_20261121_154630_5c64" AS "ledger" SET "reverted_at" = CLOCK_TIMESTAMP()
FROM "restored"
WHERE
  "ledger"."place" = "restored"."place" AND "restored"."holds"
