-- One batch: guarded changes and ledger in one statement.
WITH "changed" AS (
  UPDATE "public"."historical_transactions" AS "target" SET "invoice_id" = "staged"."after_1", "lease_start_date" = "staged"."after_2", "lease_end_date" = "staged"."after_3", "lease_rent_amount" = "staged"."after_4"
  FROM "recon"."staged_rent_payments_20261121_154630_5c64" AS "staged"
    JOIN "public"."invoices" AS "s"
      ON "s"."id" = "staged"."source_key"
  WHERE
    "target"."id" = "staged"."target_key"
    AND "staged"."place" >= CAST($1 AS BIGINT)
    AND "staged"."place" <= CAST($2 AS BIGINT)
    AND "target"."id" >= CAST($3 AS INT)
    AND "target"."id" <= CAST($4 AS INT)
    AND "target"."invoice_id" IS NOT DISTINCT FROM "staged"."before_1"
    AND "target"."lease_start_date" IS NOT DISTINCT FROM "staged"."before_2"
    AND "target"."lease_end_date" IS NOT DISTINCT FROM "staged"."before_3"
    AND (
      CAST("target"."lease_rent_amount" AS TEXT)
    ) COLLATE "C" IS NOT DISTINCT FROM (
      CAST("staged"."before_4" AS TEXT)
    ) COLLATE "C"
    AND "target"."category" = 'rent'
    AND HASH_RECORD_EXTENDED(
      ROW(
        "target"."category",
        "target"."customer_id",
        "target"."id",
        "target"."payprop_invoice_id",
        "target"."property_id"
      ),
      0
    ) = "staged"."target_digest"
    AND HASH_RECORD_EXTENDED(
      ROW(
        "s"."customer_id",
        "s"."end_date",
        "s"."id",
        "s"."payprop_id",
        "s"."property_id",
        "s"."rent_amount",
        "s"."start_date"
      ),
      0
    ) = "staged"."source_digest"
  RETURNING "staged"."place", "staged"."action", "staged"."target_key", "staged"."before_1", "target"."invoice_id" AS "after_1", "staged"."before_2", "target"."lease_start_date" AS "after_2", "staged"."before_3", "target"."lease_end_date" AS "after_3", "staged"."before_4", "target"."lease_rent_amount" AS "after_4"
)
INSERT INTO "recon"."ledger_rent_payments_20261121_154630_5c64" (
  "place",
  "action",
  "target_key",
  "before_1",
  "after_1",
  "before_2",
  "after_2",
  "before_3",
  "after_3",
  "before_4",
  "after_4"
)
SELECT
  "changed"."place",
  "changed"."action",
  "changed"."target_key",
  "changed"."before_1",
  "changed"."after_1",
  "changed"."before_2",
  "changed"."after_2",
  "changed"."before_3",
  "changed"."after_3",
  "changed"."before_4",
  "changed"."after_4"
FROM "changed"
