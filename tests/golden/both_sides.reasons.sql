WITH "known_1" AS (
  SELECT
    "s"."place" AS "key_1",
    "s"."amount" AS "key_2",
    BOOL_OR(TRUE) AS "holds"
  FROM "public"."lease" AS "s"
  WHERE
    NOT "s"."place" IS NULL AND NOT "s"."amount" IS NULL AND "s"."kind" <> 'draft'
  GROUP BY
    "s"."place",
    "s"."amount"
), "known_2" AS (
  SELECT
    "s"."place" AS "key_1",
    BOOL_OR("s"."kind" = 'rent') AS "holds"
  FROM "public"."lease" AS "s"
  WHERE
    NOT "s"."place" IS NULL AND "s"."kind" <> 'draft'
  GROUP BY
    "s"."place"
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
      "s"."kind" <> 'draft' AND "t"."lease_id" IS NULL
  ) AS "ranked"
  WHERE
    "ranked"."position" = 1
), "reasons" AS (
  SELECT
    "decision"."target_key_1",
    "decision"."target_key_2",
    CASE
      WHEN "t"."place" IS NULL OR "t"."amount" IS NULL
      THEN 4
      WHEN "known_1"."key_1" IS NULL
      THEN 3
      WHEN "known_1"."holds"
      THEN 1
      ELSE 2
    END AS "rank_1",
    CASE
      WHEN "t"."place" IS NULL
      THEN 4
      WHEN "known_2"."key_1" IS NULL
      THEN 3
      WHEN NOT "best_2"."equals" IS NULL
      THEN 1
      ELSE 2
    END AS "rank_2"
  FROM "recon"."decisions_example" AS "decision"
  JOIN "public"."pay" AS "t"
    ON "t"."org" = "decision"."target_key_1" AND "t"."id" = "decision"."target_key_2"
  LEFT JOIN "known_1"
    ON "t"."place" = "known_1"."key_1" AND "t"."amount" = "known_1"."key_2"
  LEFT JOIN "known_2"
    ON "t"."place" = "known_2"."key_1"
  LEFT JOIN "best_2"
    ON "t"."org" = "best_2"."target_key_1" AND "t"."id" = "best_2"."target_key_2"
  WHERE
    "decision"."outcome" = 'unmatched'
)
UPDATE "recon"."decisions_example" AS "decision" SET "reason" = CASE LEAST("reasons"."rank_1", "reasons"."rank_2")
  WHEN 1
  THEN 'tie'
  WHEN 2
  THEN 'when_false'
  WHEN 3
  THEN 'no_candidate'
  WHEN 4
  THEN 'null_key'
END, "pass" = CASE
  WHEN "reasons"."rank_1" = LEAST("reasons"."rank_1", "reasons"."rank_2")
  THEN 'exact'
  WHEN "reasons"."rank_2" = LEAST("reasons"."rank_1", "reasons"."rank_2")
  THEN 'near'
END, "evidence" = JSONB_BUILD_OBJECT(
  'exact',
  CASE "reasons"."rank_1"
    WHEN 1
    THEN 'tie'
    WHEN 2
    THEN 'when_false'
    WHEN 3
    THEN 'no_candidate'
    WHEN 4
    THEN 'null_key'
  END,
  'near',
  CASE "reasons"."rank_2"
    WHEN 1
    THEN 'tie'
    WHEN 2
    THEN 'when_false'
    WHEN 3
    THEN 'no_candidate'
    WHEN 4
    THEN 'null_key'
  END
)
FROM "reasons"
WHERE
  "decision"."target_key_1" = "reasons"."target_key_1"
  AND "decision"."target_key_2" = "reasons"."target_key_2"
