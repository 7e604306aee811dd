-- One batch: only where a row still holds what was written.
WITH "restored" AS (
  UPDATE "public"."stay" AS "target" SET "feed_id" = "ledger"."before_1", "status" = "ledger"."before_2", "cancelled_at" = "ledger"."before_3"
  FROM "recon"."ledger_example" AS "ledger"
  WHERE
    "target"."id" = "ledger"."target_key"
    AND "ledger"."place" >= CAST($1 AS BIGINT)
    AND "ledger"."place" <= CAST($2 AS BIGINT)
    AND "target"."id" >= CAST($3 AS UUID)
    AND "target"."id" <= CAST($4 AS UUID)
    AND "ledger"."action" IN ('link', 'update')
    AND "target"."feed_id" IS NOT DISTINCT FROM "ledger"."after_1"
    AND (
      CAST("target"."status" AS TEXT)
    ) COLLATE "C" IS NOT DISTINCT FROM (
      CAST("ledger"."after_2" AS TEXT)
    ) COLLATE "C"
    AND "target"."cancelled_at" IS NOT DISTINCT FROM "ledger"."after_3"
    AND "ledger"."reverted_at" IS NULL
  RETURNING "ledger"."place", (
    "target"."feed_id" IS NOT DISTINCT FROM "ledger"."before_1"
    AND (
      CAST("target"."status" AS TEXT)
    ) COLLATE "C" IS NOT DISTINCT FROM (
      CAST("ledger"."before_2" AS TEXT)
    ) COLLATE "C"
    AND "target"."cancelled_at" IS NOT DISTINCT FROM "ledger"."before_3"
  ) AS "holds"
), "reopened" AS (
  UPDATE "public"."stay" AS "target" SET "status" = "ledger"."before_2", "cancelled_at" = "ledger"."before_3"
  FROM "recon"."ledger_example" AS "ledger"
  WHERE
    "target"."id" = "ledger"."target_key"
    AND "ledger"."place" >= CAST($1 AS BIGINT)
    AND "ledger"."place" <= CAST($2 AS BIGINT)
    AND "target"."id" >= CAST($3 AS UUID)
    AND "target"."id" <= CAST($4 AS UUID)
    AND "ledger"."action" = 'set'
    AND (
      CAST("target"."status" AS TEXT)
    ) COLLATE "C" IS NOT DISTINCT FROM (
      CAST("ledger"."after_2" AS TEXT)
    ) COLLATE "C"
    AND "target"."cancelled_at" IS NOT DISTINCT FROM "ledger"."after_3"
    AND "ledger"."reverted_at" IS NULL
  RETURNING "ledger"."place", (
    (
      CAST("target"."status" AS TEXT)
    ) COLLATE "C" IS NOT DISTINCT FROM (
      CAST("ledger"."before_2" AS TEXT)
    ) COLLATE "C"
    AND "target"."cancelled_at" IS NOT DISTINCT FROM "ledger"."before_3"
  ) AS "holds"
), "deleted" AS (
  DELETE FROM "public"."stay" AS "target" USING   "recon"."ledger_example" AS "ledger"
  WHERE
    "target"."id" = "ledger"."target_key"
    AND "ledger"."place" >= CAST($1 AS BIGINT)
    AND "ledger"."place" <= CAST($2 AS BIGINT)
    AND "target"."id" >= CAST($3 AS UUID)
    AND "target"."id" <= CAST($4 AS UUID)
    AND "ledger"."action" = 'insert'
    AND SHA256(CONVERT_TO(CAST(ROW("target".*) AS TEXT), 'UTF8')) = "ledger"."row_digest"
    AND "ledger"."reverted_at" IS NULL
  RETURNING "ledger"."place", TRUE AS "holds"
), "undone" AS (
  SELECT
    "restored"."place",
    "restored"."holds"
  FROM "restored"
  UNION ALL
  SELECT
    "reopened"."place",
    "reopened"."holds"
  FROM "reopened"
  UNION ALL
  SELECT
    "deleted"."place",
    "deleted"."holds"
  FROM "deleted"
)
UPDATE "recon"."ledger_example" AS "ledger" SET "reverted_at" = CLOCK_TIMESTAMP()
FROM "undone"
WHERE
  "ledger"."place" = "undone"."place" AND "undone"."holds"
