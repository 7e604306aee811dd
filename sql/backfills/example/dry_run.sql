-- What would change, row by row. Reads only.
SELECT
  "staged"."target_key",
  "staged"."source_key",
  "staged"."action",
  "staged"."before_1",
  "staged"."after_1",
  "target"."invoice_id" AS "now_1",
  "staged"."before_2",
  "staged"."after_2",
  "target"."lease_start_date" AS "now_2",
  "staged"."before_3",
  "staged"."after_3",
  "target"."lease_end_date" AS "now_3",
  "staged"."before_4",
  "staged"."after_4",
  "target"."lease_rent_amount" AS "now_4",
  "staged"."pass",
  "staged"."confidence",
  "staged"."interpretation",
  CASE
    WHEN NOT "ledger"."place" IS NULL
    THEN 'applied'
    WHEN "target"."id" IS NULL
    THEN 'target gone'
    WHEN (
      "target"."invoice_id" IS NOT DISTINCT FROM "staged"."before_1"
      AND "target"."lease_start_date" IS NOT DISTINCT FROM "staged"."before_2"
      AND "target"."lease_end_date" IS NOT DISTINCT FROM "staged"."before_3"
      AND (
        CAST("target"."lease_rent_amount" AS TEXT)
      ) COLLATE "C" IS NOT DISTINCT FROM (
        CAST("staged"."before_4" AS TEXT)
      ) COLLATE "C"
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
      AND "target"."category" = 'rent'
    ) IS NOT TRUE
    THEN 'target changed'
    WHEN "s"."id" IS NULL
    THEN 'source gone'
    WHEN (
      HASH_RECORD_EXTENDED(
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
    ) IS NOT TRUE
    THEN 'source changed'
    ELSE 'as planned'
  END AS "status"
FROM "recon"."staged_rent_payments_20261121_154630_5c64" AS "staged"
LEFT JOIN "public"."historical_transactions" AS "target"
  ON "target"."id" = "staged"."target_key"
LEFT JOIN "public"."invoices" AS "s"
  ON "s"."id" = "staged"."source_key"
LEFT JOIN "recon"."ledger_rent_payments_20261121_154630_5c64" AS "ledger"
  ON "ledger"."place" = "staged"."place" AND "ledger"."reverted_at" IS NULL
ORDER BY
  "staged"."place"
