CREATE TEMPORARY TABLE "recon_draft" ON COMMIT DROP AS
SELECT
  CAST(NULL AS TEXT) AS "action",
  "d"."target_key",
  "d"."source_key",
  "target"."feed_id" AS "before_1",
  "target"."feed_id" AS "after_1",
  "target"."status" AS "before_2",
  "target"."status" AS "after_2",
  "target"."cancelled_at" AS "before_3",
  "target"."cancelled_at" AS "after_3",
  "target"."org" AS "before_4",
  "target"."org" AS "after_4",
  "target"."code" AS "before_5",
  "target"."code" AS "after_5",
  "target"."ends" AS "before_6",
  "target"."ends" AS "after_6",
  "d"."pass",
  "d"."confidence",
  CAST(NULL AS TEXT) AS "interpretation",
  CAST(NULL AS BIGINT) AS "target_digest",
  CAST(NULL AS BIGINT) AS "source_digest",
  CAST(NULL AS BOOLEAN) AS "exact",
  CAST(NULL AS TEXT) AS "skipped"
FROM "recon"."decisions_example" AS "d"
CROSS JOIN "public"."stay" AS "target"
LIMIT 0;

INSERT INTO "pg_temp"."recon_draft" (
  "action",
  "target_key",
  "source_key",
  "before_1",
  "after_1",
  "before_2",
  "after_2",
  "before_3",
  "after_3",
  "before_4",
  "after_4",
  "before_5",
  "after_5",
  "before_6",
  "after_6",
  "pass",
  "confidence",
  "interpretation",
  "target_digest",
  "source_digest",
  "exact",
  "skipped"
)
SELECT
  CASE WHEN "t"."feed_id" IS NULL THEN 'link' ELSE 'update' END AS "action",
  "d"."target_key",
  "s"."id" AS "source_key",
  "t"."feed_id" AS "before_1",
  CASE WHEN "t"."feed_id" IS NULL THEN CAST("s"."id" AS INT) ELSE "t"."feed_id" END AS "after_1",
  "t"."status" AS "before_2",
  CASE
    WHEN "t"."status" COLLATE "C" IS DISTINCT FROM "s"."status" COLLATE "C"
    THEN CAST("s"."status" AS TEXT)
    ELSE "t"."status"
  END AS "after_2",
  "t"."cancelled_at" AS "before_3",
  CASE
    WHEN "d"."outcome" = 'changed' AND (
      "s"."status" = 'cancelled'
    )
    THEN CAST(NOW() AS TIMESTAMPTZ)
    ELSE "t"."cancelled_at"
  END AS "after_3",
  CAST(NULL AS TEXT) AS "before_4",
  CAST(NULL AS TEXT) AS "after_4",
  CAST(NULL AS TEXT) AS "before_5",
  CAST(NULL AS TEXT) AS "after_5",
  CAST(NULL AS TIMESTAMPTZ) AS "before_6",
  CAST(NULL AS TIMESTAMPTZ) AS "after_6",
  "d"."pass",
  "d"."confidence",
  CAST(NULL AS TEXT) AS "interpretation",
  HASH_RECORD_EXTENDED(ROW("t"."code", "t"."ends", "t"."id", "t"."org"), 0) AS "target_digest",
  HASH_RECORD_EXTENDED(ROW("s"."code", "s"."ends", "s"."id", "s"."org", "s"."status"), 0) AS "source_digest",
  CASE
    WHEN "d"."outcome" = 'changed' AND (
      "s"."status" = 'cancelled'
    )
    THEN CAST(NOW() AS TIMESTAMPTZ) IS NOT DISTINCT FROM NOW()
    ELSE TRUE
  END AS "exact",
  CASE
    WHEN "t"."feed_id" IS NOT DISTINCT FROM CASE WHEN "t"."feed_id" IS NULL THEN CAST("s"."id" AS INT) ELSE "t"."feed_id" END
    AND (
      CAST("t"."status" AS TEXT)
    ) COLLATE "C" IS NOT DISTINCT FROM (
      CAST(CASE
        WHEN "t"."status" COLLATE "C" IS DISTINCT FROM "s"."status" COLLATE "C"
        THEN CAST("s"."status" AS TEXT)
        ELSE "t"."status"
      END AS TEXT)
    ) COLLATE "C"
    AND "t"."cancelled_at" IS NOT DISTINCT FROM CASE
      WHEN "d"."outcome" = 'changed' AND (
        "s"."status" = 'cancelled'
      )
      THEN CAST(NOW() AS TIMESTAMPTZ)
      ELSE "t"."cancelled_at"
    END
    THEN 'unchanged'
  END AS "skipped"
FROM "recon"."decisions_example" AS "d"
JOIN "public"."stay" AS "t"
  ON "t"."id" = "d"."target_key"
JOIN "public"."feed" AS "s"
  ON "s"."id" = "d"."source_key"
JOIN "pg_temp"."recon_now" AS "now"
  ON "now"."target_key" = "d"."target_key"
  AND "now"."source_key" = "d"."source_key"
  AND "now"."outcome" = "d"."outcome"
  AND "now"."pass" IS NOT DISTINCT FROM "d"."pass"
WHERE
  (
    "d"."outcome" = 'same' AND "d"."pass" IN ('code')
  )
  OR (
    "d"."outcome" = 'changed' AND (
      "d"."pass" IN ('code') OR "d"."pass" IS NULL
    )
  );

INSERT INTO "pg_temp"."recon_draft" (
  "action",
  "target_key",
  "source_key",
  "before_1",
  "after_1",
  "before_2",
  "after_2",
  "before_3",
  "after_3",
  "before_4",
  "after_4",
  "before_5",
  "after_5",
  "before_6",
  "after_6",
  "pass",
  "confidence",
  "interpretation",
  "target_digest",
  "source_digest",
  "exact",
  "skipped"
)
SELECT
  'insert' AS "action",
  "d"."target_key",
  "d"."source_key",
  CAST(NULL AS INT) AS "before_1",
  CAST("s"."id" AS INT) AS "after_1",
  CAST(NULL AS TEXT) AS "before_2",
  CAST("s"."status" AS TEXT) AS "after_2",
  CAST(NULL AS TIMESTAMPTZ) AS "before_3",
  CAST(CASE WHEN "s"."status" = 'cancelled' THEN NOW() END AS TIMESTAMPTZ) AS "after_3",
  CAST(NULL AS TEXT) AS "before_4",
  CAST("s"."org" AS TEXT) AS "after_4",
  CAST(NULL AS TEXT) AS "before_5",
  CAST("s"."code" AS TEXT) AS "after_5",
  CAST(NULL AS TIMESTAMPTZ) AS "before_6",
  CAST("s"."ends" AS TIMESTAMPTZ) AS "after_6",
  CAST(NULL AS TEXT),
  NULL,
  CAST(NULL AS TEXT) AS "interpretation",
  CAST(NULL AS BIGINT) AS "target_digest",
  HASH_RECORD_EXTENDED(ROW("s"."code", "s"."ends", "s"."id", "s"."org", "s"."status"), 0) AS "source_digest",
  CAST(CASE WHEN "s"."status" = 'cancelled' THEN NOW() END AS TIMESTAMPTZ) IS NOT DISTINCT FROM CASE WHEN "s"."status" = 'cancelled' THEN NOW() END AS "exact",
  CASE
    WHEN (
      CAST("s"."org" AS TEXT)
    ) IS NULL OR (
      CAST("s"."code" AS TEXT)
    ) IS NULL
    THEN 'no identity'
    WHEN EXISTS(
      SELECT
        1
      FROM "public"."stay" AS "existing"
      WHERE
        "existing"."org" = CAST("s"."org" AS TEXT)
        AND "existing"."code" = CAST("s"."code" AS TEXT)
    )
    THEN 'target exists'
  END AS "skipped"
FROM "recon"."decisions_example" AS "d"
JOIN "public"."feed" AS "s"
  ON "s"."id" = "d"."source_key"
JOIN "pg_temp"."recon_now" AS "now"
  ON "now"."source_key" = "d"."source_key" AND "now"."outcome" = "d"."outcome"
WHERE
  "d"."outcome" = 'missing';

UPDATE "pg_temp"."recon_draft" AS "draft" SET "skipped" = 'same identity'
WHERE
  "draft"."action" = 'insert'
  AND "draft"."skipped" IS NULL
  AND EXISTS(
    SELECT
      1
    FROM "pg_temp"."recon_draft" AS "other"
    WHERE
      "other"."action" = 'insert'
      AND "draft"."after_4" = "other"."after_4"
      AND "draft"."after_5" = "other"."after_5"
      AND (
        "draft"."source_key" IS DISTINCT FROM "other"."source_key"
      )
  );

INSERT INTO "pg_temp"."recon_draft" (
  "action",
  "target_key",
  "source_key",
  "before_1",
  "after_1",
  "before_2",
  "after_2",
  "before_3",
  "after_3",
  "before_4",
  "after_4",
  "before_5",
  "after_5",
  "before_6",
  "after_6",
  "pass",
  "confidence",
  "interpretation",
  "target_digest",
  "source_digest",
  "exact",
  "skipped"
)
SELECT
  'set' AS "action",
  "d"."target_key",
  "d"."source_key",
  CAST(NULL AS INT) AS "before_1",
  CAST(NULL AS INT) AS "after_1",
  "t"."status" AS "before_2",
  CAST('cancelled' AS TEXT) AS "after_2",
  "t"."cancelled_at" AS "before_3",
  CAST(NOW() AS TIMESTAMPTZ) AS "after_3",
  CAST(NULL AS TEXT) AS "before_4",
  CAST(NULL AS TEXT) AS "after_4",
  CAST(NULL AS TEXT) AS "before_5",
  CAST(NULL AS TEXT) AS "after_5",
  CAST(NULL AS TIMESTAMPTZ) AS "before_6",
  CAST(NULL AS TIMESTAMPTZ) AS "after_6",
  CAST(NULL AS TEXT),
  NULL,
  CAST(NULL AS TEXT) AS "interpretation",
  HASH_RECORD_EXTENDED(ROW("t"."code", "t"."ends", "t"."id", "t"."org"), 0) AS "target_digest",
  CAST(NULL AS BIGINT) AS "source_digest",
  (
    CAST('cancelled' AS TEXT)
  ) COLLATE "C" IS NOT DISTINCT FROM (
    CAST('cancelled' AS TEXT)
  ) COLLATE "C"
  AND CAST(NOW() AS TIMESTAMPTZ) IS NOT DISTINCT FROM NOW() AS "exact",
  CASE
    WHEN (
      "t"."status" = 'confirmed'
    ) IS NOT TRUE
    THEN 'not asked'
    WHEN NOT (
      NOT (
        "t"."org" COLLATE "C"
      ) IS NULL
      AND NOT (
        "t"."code" COLLATE "C"
      ) IS NULL
    )
    THEN 'no identity'
    WHEN (
      CAST("t"."status" AS TEXT)
    ) COLLATE "C" IS NOT DISTINCT FROM (
      CAST('cancelled' AS TEXT)
    ) COLLATE "C"
    AND "t"."cancelled_at" IS NOT DISTINCT FROM CAST(NOW() AS TIMESTAMPTZ)
    THEN 'unchanged'
  END AS "skipped"
FROM "recon"."decisions_example" AS "d"
JOIN "public"."stay" AS "t"
  ON "t"."id" = "d"."target_key"
JOIN "pg_temp"."recon_now" AS "now"
  ON "now"."target_key" = "d"."target_key" AND "now"."outcome" = "d"."outcome"
WHERE
  "d"."outcome" = 'orphan';

SELECT
  ROW_NUMBER() OVER (ORDER BY "draft"."action" = 'insert', "draft"."target_key", "draft"."source_key") AS "place",
  "draft"."action",
  "draft"."target_key",
  "draft"."source_key",
  "draft"."before_1" AS "before_1",
  "draft"."after_1" AS "after_1",
  "draft"."before_2" AS "before_2",
  "draft"."after_2" AS "after_2",
  "draft"."before_3" AS "before_3",
  "draft"."after_3" AS "after_3",
  "draft"."before_4" AS "before_4",
  "draft"."after_4" AS "after_4",
  "draft"."before_5" AS "before_5",
  "draft"."after_5" AS "after_5",
  "draft"."before_6" AS "before_6",
  "draft"."after_6" AS "after_6",
  "draft"."pass",
  "draft"."confidence",
  "draft"."interpretation",
  "draft"."target_digest",
  "draft"."source_digest",
  "draft"."exact"
FROM "pg_temp"."recon_draft" AS "draft"
WHERE
  "draft"."skipped" IS NULL
