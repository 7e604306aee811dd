-- Gives no row when every planned change is there and right.
SELECT
  "checked"."target_key",
  "checked"."source_key",
  "checked"."problem"
FROM (
  SELECT
    "staged"."place",
    COALESCE("staged"."target_key", "ledger"."target_key") AS "target_key",
    "staged"."source_key",
    CASE
      WHEN "staged"."action" = 'insert' AND "ledger"."place" IS NULL
      THEN 'the record was never inserted'
      WHEN "target"."id" IS NULL
      THEN 'the row is gone'
      WHEN "ledger"."place" IS NULL
      THEN 'the change was never written'
      WHEN "staged"."action" IN ('link', 'update')
      AND NOT (
        "target"."feed_id" IS NOT DISTINCT FROM "staged"."after_1"
        AND (
          CAST("target"."status" AS TEXT)
        ) COLLATE "C" IS NOT DISTINCT FROM (
          CAST("staged"."after_2" AS TEXT)
        ) COLLATE "C"
        AND "target"."cancelled_at" IS NOT DISTINCT FROM "staged"."after_3"
      )
      THEN 'the row holds another value'
      WHEN "staged"."action" = 'set'
      AND NOT (
        (
          CAST("target"."status" AS TEXT)
        ) COLLATE "C" IS NOT DISTINCT FROM (
          CAST("staged"."after_2" AS TEXT)
        ) COLLATE "C"
        AND "target"."cancelled_at" IS NOT DISTINCT FROM "staged"."after_3"
      )
      THEN 'the row holds another value'
      WHEN "staged"."action" = 'insert'
      AND NOT (
        (
          CAST("target"."org" AS TEXT)
        ) COLLATE "C" IS NOT DISTINCT FROM (
          CAST("staged"."after_4" AS TEXT)
        ) COLLATE "C"
        AND (
          CAST("target"."code" AS TEXT)
        ) COLLATE "C" IS NOT DISTINCT FROM (
          CAST("staged"."after_5" AS TEXT)
        ) COLLATE "C"
        AND "target"."feed_id" IS NOT DISTINCT FROM "staged"."after_1"
        AND (
          CAST("target"."status" AS TEXT)
        ) COLLATE "C" IS NOT DISTINCT FROM (
          CAST("staged"."after_2" AS TEXT)
        ) COLLATE "C"
        AND "target"."ends" IS NOT DISTINCT FROM "staged"."after_6"
        AND "target"."cancelled_at" IS NOT DISTINCT FROM "staged"."after_3"
      )
      THEN 'the row holds another value'
      WHEN NOT "staged"."action" = 'set' AND "s"."id" IS NULL
      THEN 'the source row does not exist'
      WHEN NOT "twice"."held" IS NULL
      THEN 'another row holds the same source row'
    END AS "problem"
  FROM "recon"."staged_example" AS "staged"
  LEFT JOIN "recon"."ledger_example" AS "ledger"
    ON "ledger"."place" = "staged"."place" AND "ledger"."reverted_at" IS NULL
  LEFT JOIN "public"."stay" AS "target"
    ON "target"."id" = COALESCE("staged"."target_key", "ledger"."target_key")
  LEFT JOIN "public"."feed" AS "s"
    ON "s"."id" = "staged"."source_key"
  LEFT JOIN (
    SELECT
      "holder"."feed_id" AS "held"
    FROM "public"."stay" AS "holder"
    WHERE
      NOT "holder"."feed_id" IS NULL
    GROUP BY
      "holder"."feed_id"
    HAVING
      COUNT(*) > 1
  ) AS "twice"
    ON "twice"."held" = "staged"."source_key"
) AS "checked"
WHERE
  NOT "checked"."problem" IS NULL
ORDER BY
  "checked"."place"
