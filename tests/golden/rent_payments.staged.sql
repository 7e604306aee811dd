SELECT
  ROW_NUMBER() OVER (ORDER BY "d"."target_key") AS "place",
  'link' AS "action",
  "d"."target_key",
  "s"."id" AS "source_key",
  "t"."invoice_id" AS "before_1",
  "t"."lease_start_date" AS "before_2",
  "t"."lease_end_date" AS "before_3",
  "t"."lease_rent_amount" AS "before_4",
  CAST("s"."id" AS INT) AS "after_1",
  CAST("s"."start_date" AS DATE) AS "after_2",
  CAST("s"."end_date" AS DATE) AS "after_3",
  CAST("s"."rent_amount" AS DECIMAL(10, 2)) AS "after_4",
  "d"."pass",
  "d"."confidence",
  CASE
    WHEN "t"."transaction_date" < "s"."start_date" - 1
    THEN CONCAT(
      'deposit or early rent, ',
      "s"."start_date" - "t"."transaction_date",
      ' days before the lease starts'
    )
    WHEN "t"."transaction_date" = "s"."start_date" - 1
    THEN CONCAT('early rent, 1 day before the lease starts')
    WHEN "t"."transaction_date" > "s"."end_date" + 31
    THEN CONCAT('late, ', "t"."transaction_date" - "s"."end_date", ' days after the lease ended')
    WHEN "t"."transaction_date" = "s"."end_date" + 1
    THEN CONCAT('final payment of an ended lease, 1 day after its end')
    WHEN "t"."transaction_date" > "s"."end_date"
    THEN CONCAT(
      'final payment of an ended lease, ',
      "t"."transaction_date" - "s"."end_date",
      ' days after its end'
    )
    WHEN "t"."transaction_date" >= "s"."start_date"
    THEN CONCAT('within the lease')
  END AS "interpretation",
  HASH_RECORD_EXTENDED(
    ROW("t"."category", "t"."customer_id", "t"."id", "t"."payprop_invoice_id", "t"."property_id"),
    0
  ) AS "target_digest",
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
  ) AS "source_digest",
  TRUE AS "exact"
FROM "recon"."decisions_example" AS "d"
JOIN "public"."historical_transactions" AS "t"
  ON "t"."id" = "d"."target_key"
JOIN "public"."invoices" AS "s"
  ON "s"."id" = "d"."source_key"
JOIN "pg_temp"."recon_now" AS "now"
  ON "now"."target_key" = "d"."target_key"
  AND "now"."source_key" = "d"."source_key"
  AND "now"."outcome" = "d"."outcome"
  AND "now"."pass" = "d"."pass"
WHERE
  "t"."category" = 'rent'
  AND "d"."outcome" = 'matched'
  AND "d"."pass" IN (
    'payprop_invoice_id',
    'property_and_customer',
    'property_without_customer',
    'property_of_another_tenant'
  )
