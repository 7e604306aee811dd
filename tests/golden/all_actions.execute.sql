-- One batch: guarded changes and ledger in one statement.
WITH "changed" AS (
  UPDATE "public"."stay" AS "target" SET "feed_id" = "staged"."after_1", "status" = "staged"."after_2", "cancelled_at" = "staged"."after_3"
  FROM "recon"."staged_example" AS "staged"
    JOIN "public"."feed" AS "s"
      ON "s"."id" = "staged"."source_key"
  WHERE
    "target"."id" = "staged"."target_key"
    AND "staged"."place" >= CAST($1 AS BIGINT)
    AND "staged"."place" <= CAST($2 AS BIGINT)
    AND "target"."id" >= CAST($3 AS UUID)
    AND "target"."id" <= CAST($4 AS UUID)
    AND "target"."feed_id" IS NOT DISTINCT FROM "staged"."before_1"
    AND (
      CAST("target"."status" AS TEXT)
    ) COLLATE "C" IS NOT DISTINCT FROM (
      CAST("staged"."before_2" AS TEXT)
    ) COLLATE "C"
    AND "target"."cancelled_at" IS NOT DISTINCT FROM "staged"."before_3"
    AND HASH_RECORD_EXTENDED(ROW("target"."code", "target"."ends", "target"."id", "target"."org"), 0) = "staged"."target_digest"
    AND HASH_RECORD_EXTENDED(ROW("s"."code", "s"."ends", "s"."id", "s"."org", "s"."status"), 0) = "staged"."source_digest"
    AND (
      NOT "staged"."action" = 'link'
      OR NOT EXISTS(
        SELECT
          1
        FROM "public"."stay" AS "holder"
        WHERE
          "holder"."feed_id" = "staged"."source_key"
      )
    )
  RETURNING "staged"."place", "staged"."action", "staged"."target_key", "staged"."before_1", "target"."feed_id" AS "after_1", "staged"."before_2", "target"."status" AS "after_2", "staged"."before_3", "target"."cancelled_at" AS "after_3"
), "ended" AS (
  UPDATE "public"."stay" AS "target" SET "status" = "staged"."after_2", "cancelled_at" = "staged"."after_3"
  FROM "recon"."staged_example" AS "staged"
  WHERE
    "target"."id" = "staged"."target_key"
    AND "staged"."place" >= CAST($1 AS BIGINT)
    AND "staged"."place" <= CAST($2 AS BIGINT)
    AND "target"."id" >= CAST($3 AS UUID)
    AND "target"."id" <= CAST($4 AS UUID)
    AND "staged"."action" = 'set'
    AND (
      CAST("target"."status" AS TEXT)
    ) COLLATE "C" IS NOT DISTINCT FROM (
      CAST("staged"."before_2" AS TEXT)
    ) COLLATE "C"
    AND "target"."cancelled_at" IS NOT DISTINCT FROM "staged"."before_3"
    AND HASH_RECORD_EXTENDED(ROW("target"."code", "target"."ends", "target"."id", "target"."org"), 0) = "staged"."target_digest"
    AND NOT EXISTS(
      SELECT
        1
      FROM "public"."feed" AS "s"
      WHERE
        "target"."org" COLLATE "C" = "s"."org" COLLATE "C"
        AND "target"."code" COLLATE "C" = "s"."code" COLLATE "C"
    )
  RETURNING "staged"."place", "staged"."action", "staged"."target_key", "staged"."before_2", "target"."status" AS "after_2", "staged"."before_3", "target"."cancelled_at" AS "after_3"
), "fresh" AS MATERIALIZED (
  SELECT
    "staged"."place",
    "staged"."after_4",
    "staged"."after_5",
    "staged"."after_1",
    "staged"."after_2",
    "staged"."after_6",
    "staged"."after_3"
  FROM "recon"."staged_example" AS "staged"
  JOIN "public"."feed" AS "s"
    ON "s"."id" = "staged"."source_key"
  WHERE
    "staged"."place" >= CAST($1 AS BIGINT)
    AND "staged"."place" <= CAST($2 AS BIGINT)
    AND "staged"."action" = 'insert'
    AND HASH_RECORD_EXTENDED(ROW("s"."code", "s"."ends", "s"."id", "s"."org", "s"."status"), 0) = "staged"."source_digest"
    AND NOT EXISTS(
      SELECT
        1
      FROM "public"."stay" AS "existing"
      WHERE
        "existing"."org" = "staged"."after_4" AND "existing"."code" = "staged"."after_5"
    )
    AND NOT EXISTS(
      SELECT
        1
      FROM "public"."stay" AS "holder"
      WHERE
        "holder"."feed_id" = "staged"."source_key"
    )
    AND NOT EXISTS(
      SELECT
        1
      FROM "recon"."ledger_example" AS "ledger"
      WHERE
        "ledger"."place" = "staged"."place"
    )
), "inserted" AS (
  INSERT INTO "public"."stay" AS "target" (
    "org",
    "code",
    "feed_id",
    "status",
    "ends",
    "cancelled_at"
  )
  SELECT
    "fresh"."after_4",
    "fresh"."after_5",
    "fresh"."after_1",
    "fresh"."after_2",
    "fresh"."after_6",
    "fresh"."after_3"
  FROM "fresh"
  ORDER BY
    "fresh"."place" ON CONFLICT DO NOTHING
  RETURNING "target"."id" AS "target_key", "target"."org" AS "after_4", "target"."code" AS "after_5", "target"."feed_id" AS "after_1", "target"."status" AS "after_2", "target"."ends" AS "after_6", "target"."cancelled_at" AS "after_3", SHA256(CONVERT_TO(CAST(ROW("target".*) AS TEXT), 'UTF8')) AS "row_digest"
)
INSERT INTO "recon"."ledger_example" (
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
  "after_4",
  "before_5",
  "after_5",
  "before_6",
  "after_6",
  "row_digest"
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
  CAST(NULL AS TEXT),
  CAST(NULL AS TEXT),
  CAST(NULL AS TEXT),
  CAST(NULL AS TEXT),
  CAST(NULL AS TIMESTAMPTZ),
  CAST(NULL AS TIMESTAMPTZ),
  CAST(NULL AS BYTEA)
FROM "changed"
UNION ALL
SELECT
  "ended"."place",
  "ended"."action",
  "ended"."target_key",
  CAST(NULL AS INT),
  CAST(NULL AS INT),
  "ended"."before_2",
  "ended"."after_2",
  "ended"."before_3",
  "ended"."after_3",
  CAST(NULL AS TEXT),
  CAST(NULL AS TEXT),
  CAST(NULL AS TEXT),
  CAST(NULL AS TEXT),
  CAST(NULL AS TIMESTAMPTZ),
  CAST(NULL AS TIMESTAMPTZ),
  CAST(NULL AS BYTEA)
FROM "ended"
UNION ALL
SELECT
  COALESCE("fresh"."place", 0),
  'insert',
  "inserted"."target_key",
  CAST(NULL AS INT),
  "inserted"."after_1",
  CAST(NULL AS TEXT),
  "inserted"."after_2",
  CAST(NULL AS TIMESTAMPTZ),
  "inserted"."after_3",
  CAST(NULL AS TEXT),
  "inserted"."after_4",
  CAST(NULL AS TEXT),
  "inserted"."after_5",
  CAST(NULL AS TIMESTAMPTZ),
  "inserted"."after_6",
  "inserted"."row_digest"
FROM "inserted"
LEFT JOIN "fresh"
  ON "fresh"."after_4" = "inserted"."after_4"
  AND "fresh"."after_5" = "inserted"."after_5"
