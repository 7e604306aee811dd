WITH "known_1" AS (
  SELECT
    "s"."org" COLLATE "C" AS "key_1",
    "s"."customer" AS "key_2",
    BOOL_OR(TRUE) AS "holds"
  FROM "public"."jobs" AS "s"
  WHERE
    NOT "s"."org" COLLATE "C" IS NULL AND NOT "s"."customer" IS NULL
  GROUP BY
    1,
    2
), "seen_1" AS (
  SELECT
    "decision"."target_key",
    BOOL_OR(TRUE) AS "met",
    BOOL_OR(TRUE) AS "holds",
    BOOL_OR(TRUE) AS "candidate",
    BOOL_OR(TRUE) AS "allowed",
    BOOL_OR(TRUE AND NOT "taken"."decided" IS NULL) AS "taken",
    (
      ARRAY_AGG(
        JSONB_BUILD_OBJECT(
          'taken_by',
          JSONB_BUILD_ARRAY(CAST("taken"."target_key" AS TEXT)),
          'taken_in',
          CAST(CASE "taken"."decided" WHEN 1 THEN 'same' WHEN 2 THEN 'near' ELSE 'override' END AS TEXT)
        ) ORDER BY "taken"."decided", "taken"."target_key"
      ) FILTER(WHERE
        TRUE AND NOT "taken"."decided" IS NULL)
    )[1] AS "taken_by"
  FROM "recon"."decisions_example" AS "decision"
  JOIN "public"."stays" AS "t"
    ON "t"."id" = "decision"."target_key"
  JOIN "public"."jobs" AS "s"
    ON "t"."org" COLLATE "C" = "s"."org" COLLATE "C" AND "t"."customer" = "s"."customer"
  LEFT JOIN "pg_temp"."recon_decided" AS "taken"
    ON "s"."org" = "taken"."source_key_1" AND "s"."id" = "taken"."source_key_2"
  WHERE
    "decision"."outcome" IN ('unmatched', 'orphan')
  GROUP BY
    "decision"."target_key"
), "known_2" AS (
  SELECT
    "s"."org" COLLATE "C" AS "key_1",
    "s"."customer" AS "key_2",
    BOOL_OR(TRUE) AS "holds"
  FROM "public"."jobs" AS "s"
  WHERE
    NOT "s"."org" COLLATE "C" IS NULL AND NOT "s"."customer" IS NULL
  GROUP BY
    1,
    2
), "seen_2" AS (
  SELECT
    "decision"."target_key",
    BOOL_OR(TRUE) AS "met",
    BOOL_OR(TRUE) AS "holds",
    BOOL_OR(
      "s"."starts" BETWEEN "t"."ends" - INTERVAL '1 HOUR' AND "t"."ends" + INTERVAL '1 HOUR'
      AND TRUE
    ) AS "candidate",
    BOOL_OR(
      "s"."starts" BETWEEN "t"."ends" - INTERVAL '1 HOUR' AND "t"."ends" + INTERVAL '1 HOUR'
      AND TRUE
    ) AS "allowed",
    MIN(
      CASE
        WHEN ISFINITE("t"."ends") AND ISFINITE("s"."starts")
        THEN CASE
          WHEN "s"."starts" > "t"."ends" + INTERVAL '1 HOUR'
          THEN "s"."starts" - (
            "t"."ends" + INTERVAL '1 HOUR'
          )
          WHEN "s"."starts" < "t"."ends" - INTERVAL '1 HOUR'
          THEN (
            "t"."ends" - INTERVAL '1 HOUR'
          ) - "s"."starts"
          WHEN "s"."starts" BETWEEN "t"."ends" - INTERVAL '1 HOUR' AND "t"."ends" + INTERVAL '1 HOUR'
          THEN INTERVAL '0 SECOND'
        END
      END
    ) FILTER(WHERE
      TRUE) AS "missed_1",
    BOOL_OR(
      (
        "s"."starts" BETWEEN "t"."ends" - INTERVAL '1 HOUR' AND "t"."ends" + INTERVAL '1 HOUR'
        AND TRUE
      )
      AND NOT "taken"."decided" IS NULL
    ) AS "taken",
    (
      ARRAY_AGG(
        JSONB_BUILD_OBJECT(
          'taken_by',
          JSONB_BUILD_ARRAY(CAST("taken"."target_key" AS TEXT)),
          'taken_in',
          CAST(CASE "taken"."decided" WHEN 1 THEN 'same' WHEN 2 THEN 'near' ELSE 'override' END AS TEXT)
        ) ORDER BY "taken"."decided", "taken"."target_key"
      ) FILTER(WHERE
        (
          "s"."starts" BETWEEN "t"."ends" - INTERVAL '1 HOUR' AND "t"."ends" + INTERVAL '1 HOUR'
          AND TRUE
        )
        AND NOT "taken"."decided" IS NULL)
    )[1] AS "taken_by"
  FROM "recon"."decisions_example" AS "decision"
  JOIN "public"."stays" AS "t"
    ON "t"."id" = "decision"."target_key"
  JOIN "public"."jobs" AS "s"
    ON "t"."org" COLLATE "C" = "s"."org" COLLATE "C" AND "t"."customer" = "s"."customer"
  LEFT JOIN "pg_temp"."recon_decided" AS "taken"
    ON "s"."org" = "taken"."source_key_1" AND "s"."id" = "taken"."source_key_2"
  WHERE
    "decision"."outcome" IN ('unmatched', 'orphan')
  GROUP BY
    "decision"."target_key"
), "reasons" AS (
  SELECT
    "decision"."target_key",
    CASE
      WHEN "t"."org" COLLATE "C" IS NULL OR "t"."customer" IS NULL
      THEN 8
      WHEN "known_1"."key_1" IS NULL
      THEN 7
      WHEN NOT "tied_1"."target_key" IS NULL
      THEN 1
      WHEN "seen_1"."taken"
      THEN 2
      WHEN "seen_1"."candidate"
      THEN 4
      ELSE 6
    END AS "rank_1",
    CASE
      WHEN "t"."org" COLLATE "C" IS NULL
      THEN JSONB_BUILD_OBJECT('null', CAST('"org"' AS TEXT))
      WHEN "t"."customer" IS NULL
      THEN JSONB_BUILD_OBJECT('null', CAST('"customer"' AS TEXT))
      WHEN NOT "seen_1"."taken_by" IS NULL
      THEN "seen_1"."taken_by"
    END AS "details_1",
    CASE
      WHEN "t"."org" COLLATE "C" IS NULL OR "t"."customer" IS NULL
      THEN 8
      WHEN "known_2"."key_1" IS NULL
      THEN 7
      WHEN "seen_2"."taken"
      THEN 2
      WHEN "seen_2"."candidate"
      THEN 4
      WHEN "seen_2"."holds"
      THEN 5
      ELSE 6
    END AS "rank_2",
    CASE
      WHEN "t"."org" COLLATE "C" IS NULL
      THEN JSONB_BUILD_OBJECT('null', CAST('"org"' AS TEXT))
      WHEN "t"."customer" IS NULL
      THEN JSONB_BUILD_OBJECT('null', CAST('"customer"' AS TEXT))
      WHEN NOT "seen_2"."taken_by" IS NULL
      THEN "seen_2"."taken_by"
      WHEN "seen_2"."holds" AND NOT (
        "seen_2"."candidate"
      )
      THEN JSONB_BUILD_OBJECT(
        'missed_by',
        JSONB_BUILD_OBJECT('ends and starts', CAST("seen_2"."missed_1" AS TEXT))
      )
    END AS "details_2"
  FROM "recon"."decisions_example" AS "decision"
  JOIN "public"."stays" AS "t"
    ON "t"."id" = "decision"."target_key"
  LEFT JOIN "known_1"
    ON "t"."org" COLLATE "C" = "known_1"."key_1" AND "t"."customer" = "known_1"."key_2"
  LEFT JOIN "seen_1"
    ON "decision"."target_key" = "seen_1"."target_key"
  LEFT JOIN "pg_temp"."recon_tied" AS "tied_1"
    ON "decision"."target_key" = "tied_1"."target_key" AND "tied_1"."decided" = 1
  LEFT JOIN "known_2"
    ON "t"."org" COLLATE "C" = "known_2"."key_1" AND "t"."customer" = "known_2"."key_2"
  LEFT JOIN "seen_2"
    ON "decision"."target_key" = "seen_2"."target_key"
  WHERE
    "decision"."outcome" IN ('unmatched', 'orphan')
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
  THEN 'same'
  WHEN "reasons"."rank_2" = LEAST("reasons"."rank_1", "reasons"."rank_2")
  THEN 'near'
END, "evidence" = JSONB_STRIP_NULLS(
  JSONB_BUILD_OBJECT(
    'passes',
    JSONB_BUILD_OBJECT(
      'same',
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
    JSONB_BUILD_OBJECT('same', "reasons"."details_1", 'near', "reasons"."details_2")
  )
)
FROM "reasons"
WHERE
  "decision"."target_key" = "reasons"."target_key"
