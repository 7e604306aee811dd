CREATE TABLE "recon"."decisions_of_the_run" AS
WITH "best_1" AS (
  SELECT
    "s"."payprop_id" COLLATE "C" AS "key_1",
    MIN("s"."id") AS "source_key",
    COUNT(*) AS "equals"
  FROM "public"."invoices" AS "s"
  WHERE
    NOT "s"."payprop_id" COLLATE "C" IS NULL
  GROUP BY
    1
), "best_2" AS (
  SELECT
    "ranked"."key_1",
    "ranked"."key_2",
    "ranked"."source_key",
    "ranked"."equals"
  FROM (
    SELECT
      "s"."property_id" AS "key_1",
      "s"."customer_id" AS "key_2",
      "s"."id" AS "source_key",
      ROW_NUMBER() OVER (
        PARTITION BY "s"."property_id", "s"."customer_id"
        ORDER BY "s"."end_date" DESC, "s"."start_date" DESC NULLS LAST
      ) AS "position",
      COUNT(*) OVER (
        PARTITION BY "s"."property_id", "s"."customer_id"
        ORDER BY "s"."end_date" DESC, "s"."start_date" DESC NULLS LAST
      ) AS "equals"
    FROM "public"."invoices" AS "s"
    WHERE
      NOT "s"."property_id" IS NULL AND NOT "s"."customer_id" IS NULL
  ) AS "ranked"
  WHERE
    "ranked"."position" = 1
), "best_3" AS (
  SELECT
    "ranked"."key_1",
    "ranked"."source_key",
    "ranked"."equals"
  FROM (
    SELECT
      "s"."property_id" AS "key_1",
      "s"."id" AS "source_key",
      ROW_NUMBER() OVER (
        PARTITION BY "s"."property_id"
        ORDER BY "s"."end_date" DESC, "s"."start_date" DESC NULLS LAST
      ) AS "position",
      COUNT(*) OVER (
        PARTITION BY "s"."property_id"
        ORDER BY "s"."end_date" DESC, "s"."start_date" DESC NULLS LAST
      ) AS "equals"
    FROM "public"."invoices" AS "s"
    WHERE
      NOT "s"."property_id" IS NULL
  ) AS "ranked"
  WHERE
    "ranked"."position" = 1
), "best_4" AS (
  SELECT
    "ranked"."key_1",
    "ranked"."source_key",
    "ranked"."equals"
  FROM (
    SELECT
      "s"."property_id" AS "key_1",
      "s"."id" AS "source_key",
      ROW_NUMBER() OVER (
        PARTITION BY "s"."property_id"
        ORDER BY "s"."end_date" DESC, "s"."start_date" DESC NULLS LAST
      ) AS "position",
      COUNT(*) OVER (
        PARTITION BY "s"."property_id"
        ORDER BY "s"."end_date" DESC, "s"."start_date" DESC NULLS LAST
      ) AS "equals"
    FROM "public"."invoices" AS "s"
    WHERE
      NOT "s"."property_id" IS NULL
  ) AS "ranked"
  WHERE
    "ranked"."position" = 1
), "pool" AS (
  SELECT
    "t"."id" AS "target_key",
    CASE
      WHEN "best_1"."equals" = 1
      THEN 1
      WHEN "best_1"."equals" > 1
      THEN -1
      WHEN "best_2"."equals" = 1
      THEN 2
      WHEN "best_2"."equals" > 1
      THEN -2
      WHEN "best_3"."equals" = 1
      THEN 3
      WHEN "best_3"."equals" > 1
      THEN -3
      WHEN "best_4"."equals" = 1
      THEN 4
      WHEN "best_4"."equals" > 1
      THEN -4
    END AS "decided",
    "best_1"."source_key" AS "source_key_of_1",
    "best_2"."source_key" AS "source_key_of_2",
    "best_3"."source_key" AS "source_key_of_3",
    "best_4"."source_key" AS "source_key_of_4"
  FROM "public"."historical_transactions" AS "t"
  LEFT JOIN "best_1"
    ON "t"."payprop_invoice_id" COLLATE "C" = "best_1"."key_1"
  LEFT JOIN "best_2"
    ON "t"."property_id" = "best_2"."key_1" AND "t"."customer_id" = "best_2"."key_2"
  LEFT JOIN "best_3"
    ON "t"."property_id" = "best_3"."key_1" AND "t"."customer_id" IS NULL
  LEFT JOIN "best_4"
    ON "t"."property_id" = "best_4"."key_1"
  WHERE
    "t"."category" = 'rent' AND "t"."invoice_id" IS NULL
)
SELECT
  "t"."id" AS "target_key",
  "t"."invoice_id" AS "source_key",
  'linked' AS "outcome",
  CAST(NULL AS TEXT) AS "pass",
  CAST(NULL AS DECIMAL(4, 3)) AS "confidence"
FROM "public"."historical_transactions" AS "t"
WHERE
  "t"."category" = 'rent' AND NOT "t"."invoice_id" IS NULL
UNION ALL
SELECT
  "pool"."target_key",
  CASE "pool"."decided"
    WHEN 1
    THEN "pool"."source_key_of_1"
    WHEN 2
    THEN "pool"."source_key_of_2"
    WHEN 3
    THEN "pool"."source_key_of_3"
    WHEN 4
    THEN "pool"."source_key_of_4"
  END AS "source_key",
  CASE "pool"."decided"
    WHEN 1
    THEN 'matched'
    WHEN -1
    THEN 'ambiguous'
    WHEN 2
    THEN 'matched'
    WHEN -2
    THEN 'ambiguous'
    WHEN 3
    THEN 'matched'
    WHEN -3
    THEN 'ambiguous'
    WHEN 4
    THEN 'proposed'
    WHEN -4
    THEN 'ambiguous'
    ELSE 'unmatched'
  END AS "outcome",
  CASE "pool"."decided"
    WHEN 1
    THEN 'payprop_invoice_id'
    WHEN -1
    THEN 'payprop_invoice_id'
    WHEN 2
    THEN 'property_and_customer'
    WHEN -2
    THEN 'property_and_customer'
    WHEN 3
    THEN 'property_without_customer'
    WHEN -3
    THEN 'property_without_customer'
    WHEN 4
    THEN 'property_of_another_tenant'
    WHEN -4
    THEN 'property_of_another_tenant'
  END AS "pass",
  CAST(CASE "pool"."decided"
    WHEN 1
    THEN 1.0
    WHEN 2
    THEN 0.95
    WHEN 3
    THEN 0.7
    WHEN 4
    THEN 0.3
  END AS DECIMAL(4, 3)) AS "confidence"
FROM "pool";

ALTER TABLE "recon"."decisions_of_the_run" ADD COLUMN "reason" text, ADD COLUMN "evidence" jsonb;
