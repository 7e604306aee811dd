WITH "known_1" AS (
  SELECT
    "s"."place" AS "key_1",
    "s"."amount" AS "key_2",
    BOOL_OR(TRUE) AS "holds"
  FROM "public"."lease" AS "s"
  WHERE
    "s"."kind" <> 'draft' AND NOT "s"."place" IS NULL AND NOT "s"."amount" IS NULL
  GROUP BY
    1,
    2
), "known_2" AS (
  SELECT
    "s"."place" AS "key_1",
    BOOL_OR("s"."kind" = 'rent') AS "holds"
  FROM "public"."lease" AS "s"
  WHERE
    "s"."kind" <> 'draft' AND NOT "s"."place" IS NULL
  GROUP BY
    1
), "seen_2" AS (
  SELECT
    "decision"."target_key_1",
    "decision"."target_key_2",
    BOOL_OR(TRUE) AS "met",
    BOOL_OR("s"."kind" = 'rent' AND ABS("t"."amount" - "s"."amount") < 5) AS "holds",
    BOOL_OR("s"."kind" = 'rent' AND ABS("t"."amount" - "s"."amount") < 5) AS "candidate",
    BOOL_OR("s"."kind" = 'rent' AND ABS("t"."amount" - "s"."amount") < 5) AS "allowed"
  FROM "recon"."decisions_example" AS "decision"
  JOIN "public"."pay" AS "t"
    ON "t"."org" = "decision"."target_key_1" AND "t"."id" = "decision"."target_key_2"
  JOIN "public"."lease" AS "s"
    ON "t"."place" = "s"."place"
  WHERE
    "decision"."outcome" IN ('unmatched') AND "s"."kind" <> 'draft'
  GROUP BY
    "decision"."target_key_1",
    "decision"."target_key_2"
), "reasons" AS (
  SELECT
    "decision"."target_key_1",
    "decision"."target_key_2",
    CASE
      WHEN "t"."place" IS NULL OR "t"."amount" IS NULL
      THEN 8
      WHEN "known_1"."key_1" IS NULL
      THEN 7
      WHEN "known_1"."holds"
      THEN 1
      ELSE 6
    END AS "rank_1",
    CASE
      WHEN "t"."place" IS NULL
      THEN JSONB_BUILD_OBJECT('null', CAST('place' AS TEXT))
      WHEN "t"."amount" IS NULL
      THEN JSONB_BUILD_OBJECT('null', CAST('amount' AS TEXT))
    END AS "details_1",
    CASE
      WHEN "t"."place" IS NULL
      THEN 8
      WHEN "known_2"."key_1" IS NULL
      THEN 7
      WHEN "seen_2"."allowed"
      THEN 1
      WHEN "seen_2"."candidate"
      THEN 4
      ELSE 6
    END AS "rank_2",
    CASE
      WHEN "t"."place" IS NULL
      THEN JSONB_BUILD_OBJECT('null', CAST('place' AS TEXT))
    END AS "details_2"
  FROM "recon"."decisions_example" AS "decision"
  JOIN "public"."pay" AS "t"
    ON "t"."org" = "decision"."target_key_1" AND "t"."id" = "decision"."target_key_2"
  LEFT JOIN "known_1"
    ON "t"."place" = "known_1"."key_1" AND "t"."amount" = "known_1"."key_2"
  LEFT JOIN "known_2"
    ON "t"."place" = "known_2"."key_1"
  LEFT JOIN "seen_2"
    ON "decision"."target_key_1" = "seen_2"."target_key_1"
    AND "decision"."target_key_2" = "seen_2"."target_key_2"
  WHERE
    "decision"."outcome" IN ('unmatched')
)
UPDATE "recon"."decisions_example" AS "decision" SET "reason" = CASE LEAST("reasons"."rank_1", "reasons"."rank_2")
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
  WHEN "reasons"."rank_1" = LEAST("reasons"."rank_1", "reasons"."rank_2")
  THEN 'exact'
  WHEN "reasons"."rank_2" = LEAST("reasons"."rank_1", "reasons"."rank_2")
  THEN 'near'
END, "evidence" = JSONB_STRIP_NULLS(
  JSONB_BUILD_OBJECT(
    'passes',
    JSONB_BUILD_OBJECT(
      'exact',
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
      'near',
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
      END
    ),
    'details',
    JSONB_BUILD_OBJECT('exact', "reasons"."details_1", 'near', "reasons"."details_2")
  )
)
FROM "reasons"
WHERE
  "decision"."target_key_1" = "reasons"."target_key_1"
  AND "decision"."target_key_2" = "reasons"."target_key_2"
