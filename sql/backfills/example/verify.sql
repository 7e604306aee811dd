-- Gives no row when every planned change is there and right.
SELECT
  "checked"."target_key",
  "checked"."source_key",
  "checked"."problem"
FROM (
  SELECT
    "staged"."place",
    "staged"."target_key" AS "target_key",
    "staged"."source_key",
    CASE
      WHEN "target"."id" IS NULL
      THEN 'the row is gone'
      WHEN "ledger"."place" IS NULL
      THEN 'the change was never written'
      WHEN NOT (
        "target"."invoice_id" IS NOT DISTINCT FROM "staged"."after_1"
        AND "target"."lease_start_date" IS NOT DISTINCT FROM "staged"."after_2"
        AND "target"."lease_end_date" IS NOT DISTINCT FROM "staged"."after_3"
        AND (
          CAST("target"."lease_rent_amount" AS TEXT)
        ) COLLATE "C" IS NOT DISTINCT FROM (
          CAST("staged"."after_4" AS TEXT)
        ) COLLATE "C"
      )
      THEN 'the row holds another value'
      WHEN "s"."id" IS NULL
      THEN 'the source row does not exist'
    END AS "problem"
  FROM "recon"."staged_rent_payments_20261121_154630_5c64" AS "staged"
  LEFT JOIN "recon"."ledger_rent_payments_20261121_154630_5c64" AS "ledger"
    ON "ledger"."place" = "staged"."place" AND "ledger"."reverted_at" IS NULL
  LEFT JOIN "public"."historical_transactions" AS "target"
    ON "target"."id" = "staged"."target_key"
  LEFT JOIN "public"."invoices" AS "s"
    ON "s"."id" = "staged"."source_key"
) AS "checked"
WHERE
  NOT "checked"."problem" IS NULL
ORDER BY
  "checked"."place"
