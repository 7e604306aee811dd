WITH "known_1" AS (
  SELECT
    "s"."payprop_id" COLLATE "C" AS "key_1",
    BOOL_OR(TRUE) AS "holds"
  FROM "public"."invoices" AS "s"
  WHERE
    NOT "s"."payprop_id" COLLATE "C" IS NULL
  GROUP BY
    1
), "known_2" AS (
  SELECT
    "s"."property_id" AS "key_1",
    "s"."customer_id" AS "key_2",
    BOOL_OR(TRUE) AS "holds"
  FROM "public"."invoices" AS "s"
  WHERE
    NOT "s"."property_id" IS NULL AND NOT "s"."customer_id" IS NULL
  GROUP BY
    1,
    2
), "known_3" AS (
  SELECT
    "s"."property_id" AS "key_1",
    BOOL_OR(TRUE) AS "holds"
  FROM "public"."invoices" AS "s"
  WHERE
    NOT "s"."property_id" IS NULL
  GROUP BY
    1
), "known_4" AS (
  SELECT
    "s"."property_id" AS "key_1",
    BOOL_OR(TRUE) AS "holds"
  FROM "public"."invoices" AS "s"
  WHERE
    NOT "s"."property_id" IS NULL
  GROUP BY
    1
), "reasons" AS (
  SELECT
    "decision"."target_key",
    CASE
      WHEN "t"."payprop_invoice_id" COLLATE "C" IS NULL
      THEN 8
      WHEN "known_1"."key_1" IS NULL
      THEN 7
      ELSE 6
    END AS "rank_1",
    CASE
      WHEN "t"."payprop_invoice_id" COLLATE "C" IS NULL
      THEN JSONB_BUILD_OBJECT('null', CAST('payprop_invoice_id' AS TEXT))
    END AS "details_1",
    CASE
      WHEN "t"."property_id" IS NULL OR "t"."customer_id" IS NULL
      THEN 8
      WHEN "known_2"."key_1" IS NULL
      THEN 7
      ELSE 6
    END AS "rank_2",
    CASE
      WHEN "t"."property_id" IS NULL
      THEN JSONB_BUILD_OBJECT('null', CAST('property_id' AS TEXT))
      WHEN "t"."customer_id" IS NULL
      THEN JSONB_BUILD_OBJECT('null', CAST('customer_id' AS TEXT))
    END AS "details_2",
    CASE
      WHEN "t"."property_id" IS NULL
      THEN 8
      WHEN "known_3"."key_1" IS NULL
      THEN 7
      ELSE 6
    END AS "rank_3",
    CASE
      WHEN "t"."property_id" IS NULL
      THEN JSONB_BUILD_OBJECT('null', CAST('property_id' AS TEXT))
    END AS "details_3",
    CASE
      WHEN "t"."property_id" IS NULL
      THEN 8
      WHEN "known_4"."key_1" IS NULL
      THEN 7
      ELSE 6
    END AS "rank_4",
    CASE
      WHEN "t"."property_id" IS NULL
      THEN JSONB_BUILD_OBJECT('null', CAST('property_id' AS TEXT))
    END AS "details_4"
  FROM "recon"."decisions_example" AS "decision"
  JOIN "public"."historical_transactions" AS "t"
    ON "t"."id" = "decision"."target_key"
  LEFT JOIN "known_1"
    ON "t"."payprop_invoice_id" COLLATE "C" = "known_1"."key_1"
  LEFT JOIN "known_2"
    ON "t"."property_id" = "known_2"."key_1" AND "t"."customer_id" = "known_2"."key_2"
  LEFT JOIN "known_3"
    ON "t"."property_id" = "known_3"."key_1"
  LEFT JOIN "known_4"
    ON "t"."property_id" = "known_4"."key_1"
  WHERE
    "decision"."outcome" IN ('unmatched')
)
UPDATE "recon"."decisions_example" AS "decision" SET "reason" = CASE LEAST("reasons"."rank_1", "reasons"."rank_2", "reasons"."rank_3", "reasons"."rank_4")
  WHEN 1
  THEN 'tie'
  WHEN 2
  THEN 'taken'
  WHEN 3
  THEN 'already_linked'
  WHEN 4
  THEN 'forbidden'
  WHEN 5
  THEN 'out_of_tolerance'
  WHEN 6
  THEN 'when_false'
  WHEN 7
  THEN 'no_candidate'
  WHEN 8
  THEN 'null_key'
END, "pass" = CASE
  WHEN "reasons"."rank_1" = LEAST("reasons"."rank_1", "reasons"."rank_2", "reasons"."rank_3", "reasons"."rank_4")
  THEN 'payprop_invoice_id'
  WHEN "reasons"."rank_2" = LEAST("reasons"."rank_1", "reasons"."rank_2", "reasons"."rank_3", "reasons"."rank_4")
  THEN 'property_and_customer'
  WHEN "reasons"."rank_3" = LEAST("reasons"."rank_1", "reasons"."rank_2", "reasons"."rank_3", "reasons"."rank_4")
  THEN 'property_without_customer'
  WHEN "reasons"."rank_4" = LEAST("reasons"."rank_1", "reasons"."rank_2", "reasons"."rank_3", "reasons"."rank_4")
  THEN 'property_of_another_tenant'
END, "evidence" = JSONB_STRIP_NULLS(
  JSONB_BUILD_OBJECT(
    'passes',
    JSONB_BUILD_OBJECT(
      'payprop_invoice_id',
      CASE "reasons"."rank_1"
        WHEN 1
        THEN 'tie'
        WHEN 2
        THEN 'taken'
        WHEN 3
        THEN 'already_linked'
        WHEN 4
        THEN 'forbidden'
        WHEN 5
        THEN 'out_of_tolerance'
        WHEN 6
        THEN 'when_false'
        WHEN 7
        THEN 'no_candidate'
        WHEN 8
        THEN 'null_key'
      END,
      'property_and_customer',
      CASE "reasons"."rank_2"
        WHEN 1
        THEN 'tie'
        WHEN 2
        THEN 'taken'
        WHEN 3
        THEN 'already_linked'
        WHEN 4
        THEN 'forbidden'
        WHEN 5
        THEN 'out_of_tolerance'
        WHEN 6
        THEN 'when_false'
        WHEN 7
        THEN 'no_candidate'
        WHEN 8
        THEN 'null_key'
      END,
      'property_without_customer',
      CASE "reasons"."rank_3"
        WHEN 1
        THEN 'tie'
        WHEN 2
        THEN 'taken'
        WHEN 3
        THEN 'already_linked'
        WHEN 4
        THEN 'forbidden'
        WHEN 5
        THEN 'out_of_tolerance'
        WHEN 6
        THEN 'when_false'
        WHEN 7
        THEN 'no_candidate'
        WHEN 8
        THEN 'null_key'
      END,
      'property_of_another_tenant',
      CASE "reasons"."rank_4"
        WHEN 1
        THEN 'tie'
        WHEN 2
        THEN 'taken'
        WHEN 3
        THEN 'already_linked'
        WHEN 4
        THEN 'forbidden'
        WHEN 5
        THEN 'out_of_tolerance'
        WHEN 6
        THEN 'when_false'
        WHEN 7
        THEN 'no_candidate'
        WHEN 8
        THEN 'null_key'
      END
    ),
    'details',
    JSONB_BUILD_OBJECT(
      'payprop_invoice_id',
      "reasons"."details_1",
      'property_and_customer',
      "reasons"."details_2",
      'property_without_customer',
      "reasons"."details_3",
      'property_of_another_tenant',
      "reasons"."details_4"
    )
  )
)
FROM "reasons"
WHERE
  "decision"."target_key" = "reasons"."target_key"
