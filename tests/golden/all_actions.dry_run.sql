-- What would change, row by row. Reads only.
SELECT
  "staged"."target_key",
  "staged"."source_key",
  "staged"."action",
  "staged"."before_1",
  "staged"."after_1",
  "target"."feed_id" AS "now_1",
  "staged"."before_2",
  "staged"."after_2",
  "target"."status" AS "now_2",
  "staged"."before_3",
  "staged"."after_3",
  "target"."cancelled_at" AS "now_3",
  "staged"."before_4",
  "staged"."after_4",
  "target"."org" AS "now_4",
  "staged"."before_5",
  "staged"."after_5",
  "target"."code" AS "now_5",
  "staged"."before_6",
  "staged"."after_6",
  "target"."ends" AS "now_6",
  "staged"."pass",
  "staged"."confidence",
  "staged"."interpretation",
  CASE
    WHEN NOT "ledger"."place" IS NULL
    THEN 'applied'
    WHEN "staged"."action" = 'insert' AND "s"."id" IS NULL
    THEN 'source gone'
    WHEN "staged"."action" = 'insert'
    AND (
      HASH_RECORD_EXTENDED(ROW("s"."code", "s"."ends", "s"."id", "s"."org", "s"."status"), 0) = "staged"."source_digest"
    ) IS NOT TRUE
    THEN 'source changed'
    WHEN "staged"."action" = 'insert'
    AND EXISTS(
      SELECT
        1
      FROM "public"."stay" AS "holder"
      WHERE
        "holder"."feed_id" = "staged"."source_key"
    )
    THEN 'source taken'
    WHEN "staged"."action" = 'insert'
    AND EXISTS(
      SELECT
        1
      FROM "public"."stay" AS "existing"
      WHERE
        "existing"."org" = "staged"."after_4" AND "existing"."code" = "staged"."after_5"
    )
    THEN 'target exists'
    WHEN "staged"."action" = 'insert'
    THEN 'as planned'
    WHEN "target"."id" IS NULL
    THEN 'target gone'
    WHEN "staged"."action" = 'set'
    AND (
      (
        CAST("target"."status" AS TEXT)
      ) COLLATE "C" IS NOT DISTINCT FROM (
        CAST("staged"."before_2" AS TEXT)
      ) COLLATE "C"
      AND "target"."cancelled_at" IS NOT DISTINCT FROM "staged"."before_3"
      AND HASH_RECORD_EXTENDED(ROW("target"."code", "target"."ends", "target"."id", "target"."org"), 0) = "staged"."target_digest"
    ) IS NOT TRUE
    THEN 'target changed'
    WHEN "staged"."action" = 'set'
    AND EXISTS(
      SELECT
        1
      FROM "public"."feed" AS "s"
      WHERE
        "target"."org" COLLATE "C" = "s"."org" COLLATE "C"
        AND "target"."code" COLLATE "C" = "s"."code" COLLATE "C"
    )
    THEN 'source found'
    WHEN "staged"."action" = 'set'
    THEN 'as planned'
    WHEN (
      "target"."feed_id" IS NOT DISTINCT FROM "staged"."before_1"
      AND (
        CAST("target"."status" AS TEXT)
      ) COLLATE "C" IS NOT DISTINCT FROM (
        CAST("staged"."before_2" AS TEXT)
      ) COLLATE "C"
      AND "target"."cancelled_at" IS NOT DISTINCT FROM "staged"."before_3"
      AND HASH_RECORD_EXTENDED(ROW("target"."code", "target"."ends", "target"."id", "target"."org"), 0) = "staged"."target_digest"
    ) IS NOT TRUE
    THEN 'target changed'
    WHEN "s"."id" IS NULL
    THEN 'source gone'
    WHEN (
      HASH_RECORD_EXTENDED(ROW("s"."code", "s"."ends", "s"."id", "s"."org", "s"."status"), 0) = "staged"."source_digest"
    ) IS NOT TRUE
    THEN 'source changed'
    WHEN "staged"."action" = 'link'
    AND EXISTS(
      SELECT
        1
      FROM "public"."stay" AS "holder"
      WHERE
        "holder"."feed_id" = "staged"."source_key"
    )
    THEN 'source taken'
    ELSE 'as planned'
  END AS "status"
FROM "recon"."staged_example" AS "staged"
LEFT JOIN "public"."stay" AS "target"
  ON "target"."id" = "staged"."target_key"
LEFT JOIN "public"."feed" AS "s"
  ON "s"."id" = "staged"."source_key"
LEFT JOIN "recon"."ledger_example" AS "ledger"
  ON "ledger"."place" = "staged"."place" AND "ledger"."reverted_at" IS NULL
ORDER BY
  "staged"."place"
