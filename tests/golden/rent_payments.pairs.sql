SELECT
  "d"."target_key",
  "d"."source_key",
  "d"."outcome",
  "d"."pass",
  "d"."confidence",
  "d"."reason",
  "t"."transaction_date" AS "transaction_date",
  "t"."property_id" AS "property_id",
  "t"."customer_id" AS "customer_id",
  "t"."amount" AS "amount",
  "s"."lease_reference" AS "lease_reference",
  "s"."start_date" AS "start_date",
  "s"."end_date" AS "end_date",
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
  END AS "interpretation"
FROM "recon"."decisions_example" AS "d"
LEFT JOIN "public"."historical_transactions" AS "t"
  ON "t"."id" = "d"."target_key"
LEFT JOIN "public"."invoices" AS "s"
  ON "s"."id" = "d"."source_key"
