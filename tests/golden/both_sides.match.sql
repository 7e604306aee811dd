CREATE TABLE "recon"."decisions_of_the_run" AS
WITH "best_1" AS (
  SELECT
    "s"."place" AS "key_1",
    "s"."amount" AS "key_2",
    MIN("s"."id") AS "source_key",
    COUNT(*) AS "equals"
  FROM "public"."lease" AS "s"
  WHERE
    "s"."kind" <> 'draft' AND NOT "s"."place" IS NULL AND NOT "s"."amount" IS NULL
  GROUP BY
    1,
    2
), "best_2" AS (
  SELECT
    "ranked"."target_key_1",
    "ranked"."target_key_2",
    "ranked"."source_key",
    "ranked"."equals"
  FROM (
    SELECT
      "t"."org" AS "target_key_1",
      "t"."id" AS "target_key_2",
      "s"."id" AS "source_key",
      ROW_NUMBER() OVER (
        PARTITION BY "t"."org", "t"."id"
        ORDER BY ABS("t"."amount" - "s"."amount") ASC, "s"."kind" COLLATE "C" DESC NULLS LAST
      ) AS "position",
      COUNT(*) OVER (
        PARTITION BY "t"."org", "t"."id"
        ORDER BY ABS("t"."amount" - "s"."amount") ASC, "s"."kind" COLLATE "C" DESC NULLS LAST
      ) AS "equals"
    FROM "public"."pay" AS "t"
    JOIN "public"."lease" AS "s"
      ON "t"."place" = "s"."place"
      AND "s"."kind" = 'rent'
      AND ABS("t"."amount" - "s"."amount") < 5
    WHERE
      "t"."lease_id" IS NULL AND "s"."kind" <> 'draft'
  ) AS "ranked"
  WHERE
    "ranked"."position" = 1
), "pool" AS (
  SELECT
    "t"."org" AS "target_key_1",
    "t"."id" AS "target_key_2",
    CASE WHEN "best_1"."equals" = 1 THEN 1 WHEN "best_2"."equals" = 1 THEN 2 END AS "decided",
    "best_1"."source_key" AS "source_key_of_1",
    "best_2"."source_key" AS "source_key_of_2"
  FROM "public"."pay" AS "t"
  LEFT JOIN "best_1"
    ON "t"."place" = "best_1"."key_1" AND "t"."amount" = "best_1"."key_2"
  LEFT JOIN "best_2"
    ON "t"."org" = "best_2"."target_key_1" AND "t"."id" = "best_2"."target_key_2"
  WHERE
    "t"."lease_id" IS NULL
)
SELECT
  "t"."org" AS "target_key_1",
  "t"."id" AS "target_key_2",
  "t"."lease_id" AS "source_key",
  'linked' AS "outcome",
  CAST(NULL AS TEXT) AS "pass",
  CAST(NULL AS DECIMAL(4, 3)) AS "confidence"
FROM "public"."pay" AS "t"
WHERE
  NOT "t"."lease_id" IS NULL
UNION ALL
SELECT
  "pool"."target_key_1",
  "pool"."target_key_2",
  CASE "pool"."decided"
    WHEN 1
    THEN "pool"."source_key_of_1"
    WHEN 2
    THEN "pool"."source_key_of_2"
  END AS "source_key",
  CASE "pool"."decided"
    WHEN 1
    THEN 'matched'
    WHEN 2
    THEN 'proposed'
    ELSE 'unmatched'
  END AS "outcome",
  CASE "pool"."decided"
    WHEN 1
    THEN 'exact'
    WHEN -1
    THEN 'exact'
    WHEN 2
    THEN 'near'
    WHEN -2
    THEN 'near'
  END AS "pass",
  CAST(CASE "pool"."decided" WHEN 1 THEN 1 WHEN 2 THEN 1 END AS DECIMAL(4, 3)) AS "confidence"
FROM "pool";

ALTER TABLE "recon"."decisions_of_the_run" ADD COLUMN "reason" text, ADD COLUMN "evidence" jsonb;
