CREATE TEMPORARY TABLE "recon_decided" ON COMMIT DROP AS
SELECT
  CAST(NULL AS INT) AS "target_key",
  CAST(NULL AS TEXT) AS "source_key_1",
  CAST(NULL AS UUID) AS "source_key_2",
  0 AS "decided"
WHERE
  FALSE;

CREATE TEMPORARY TABLE "recon_tied" ON COMMIT DROP AS
SELECT
  CAST(NULL AS INT) AS "target_key",
  0 AS "decided"
WHERE
  FALSE;

CREATE TEMPORARY TABLE "recon_other_tied" ON COMMIT DROP AS
SELECT
  CAST(NULL AS TEXT) AS "source_key_1",
  CAST(NULL AS UUID) AS "source_key_2"
WHERE
  FALSE;

CREATE TEMPORARY TABLE "recon_met" ON COMMIT DROP AS
SELECT
  "counted"."target_key",
  "counted"."source_key_1",
  "counted"."source_key_2",
  "counted"."only_1",
  "counted"."only_2",
  "counted"."records_t" = 1 AND "counted"."records_s" = 1 AS "alone"
FROM (
  SELECT
    "heap"."target_key",
    "heap"."source_key_1",
    "heap"."source_key_2",
    COUNT("heap"."target_key") OVER (PARTITION BY "heap"."key_1", "heap"."key_2") AS "records_t",
    COUNT("heap"."source_key_1") OVER (PARTITION BY "heap"."key_1", "heap"."key_2") AS "records_s",
    MIN("heap"."source_key_1") OVER (PARTITION BY "heap"."key_1", "heap"."key_2") AS "only_1",
    CAST(MIN(CAST("heap"."source_key_2" AS TEXT)) OVER (PARTITION BY "heap"."key_1", "heap"."key_2") AS UUID) AS "only_2"
  FROM (
    SELECT
      "t"."org" COLLATE "C" AS "key_1",
      "t"."customer" AS "key_2",
      "t"."id" AS "target_key",
      CAST(NULL AS TEXT) AS "source_key_1",
      CAST(NULL AS UUID) AS "source_key_2"
    FROM "public"."stays" AS "t"
    WHERE
      NOT "t"."org" COLLATE "C" IS NULL AND NOT "t"."customer" IS NULL
    UNION ALL
    SELECT
      "s"."org" COLLATE "C" AS "key_1",
      "s"."customer" AS "key_2",
      CAST(NULL AS INT) AS "target_key",
      "s"."org" AS "source_key_1",
      "s"."id" AS "source_key_2"
    FROM "public"."jobs" AS "s"
    WHERE
      NOT "s"."org" COLLATE "C" IS NULL AND NOT "s"."customer" IS NULL
  ) AS "heap"
) AS "counted"
WHERE
  "counted"."records_t" > 0
  AND "counted"."records_s" > 0
  AND (
    NOT "counted"."target_key" IS NULL
    OR NOT (
      "counted"."records_t" = 1 AND "counted"."records_s" = 1
    )
  );

INSERT INTO "pg_temp"."recon_decided"
SELECT
  "met"."target_key",
  "met"."only_1",
  "met"."only_2",
  1
FROM "pg_temp"."recon_met" AS "met"
WHERE
  "met"."alone" AND NOT "met"."target_key" IS NULL;

INSERT INTO "pg_temp"."recon_tied"
SELECT
  "met"."target_key",
  1
FROM "pg_temp"."recon_met" AS "met"
WHERE
  NOT "met"."alone" AND NOT "met"."target_key" IS NULL;

DROP TABLE pg_temp.recon_met;

ANALYZE pg_temp.recon_decided;

CREATE TEMPORARY TABLE "recon_numbered_sources" ON COMMIT DROP AS
SELECT
  "s"."org" AS "source_key_1",
  "s"."id" AS "source_key_2",
  ROW_NUMBER() OVER () AS "number"
FROM "public"."jobs" AS "s"
WHERE
  NOT EXISTS(
    SELECT
      1
    FROM "pg_temp"."recon_decided" AS "listed"
    WHERE
      "listed"."source_key_1" = "s"."org" AND "listed"."source_key_2" = "s"."id"
  )
  AND NOT "s"."org" COLLATE "C" IS NULL
  AND NOT "s"."customer" IS NULL;

CREATE TEMPORARY TABLE "recon_pairs" ON COMMIT DROP AS
SELECT
  "t"."id" AS "t",
  "numbered_s"."number" AS "s",
  CASE
    WHEN NOT (
      ISFINITE("t"."ends") AND ISFINITE("s"."starts")
    )
    AND "s"."starts" <> "t"."ends"
    THEN NULL
    WHEN "s"."starts" > "t"."ends"
    THEN "s"."starts" - "t"."ends"
    WHEN "s"."starts" < "t"."ends"
    THEN "t"."ends" - "s"."starts"
    WHEN "s"."starts" = "t"."ends"
    THEN INTERVAL '0 SECOND'
  END AS "r"
FROM "public"."stays" AS "t"
JOIN "public"."jobs" AS "s"
  ON "t"."org" COLLATE "C" = "s"."org" COLLATE "C"
  AND "t"."customer" = "s"."customer"
  AND "s"."starts" BETWEEN "t"."ends" - INTERVAL '1 HOUR' AND "t"."ends" + INTERVAL '1 HOUR'
JOIN "pg_temp"."recon_numbered_sources" AS "numbered_s"
  ON "s"."org" = "numbered_s"."source_key_1"
  AND "s"."id" = "numbered_s"."source_key_2"
WHERE
  NOT EXISTS(
    SELECT
      1
    FROM "pg_temp"."recon_decided" AS "listed"
    WHERE
      "listed"."target_key" = "t"."id"
  )
  AND NOT EXISTS(
    SELECT
      1
    FROM "pg_temp"."recon_tied" AS "listed"
    WHERE
      "listed"."target_key" = "t"."id" AND "listed"."decided" IN (2)
  )
  AND NOT EXISTS(
    SELECT
      1
    FROM "pg_temp"."recon_decided" AS "listed"
    WHERE
      "listed"."source_key_1" = "s"."org" AND "listed"."source_key_2" = "s"."id"
  );

ANALYZE pg_temp.recon_pairs;

-- One pass of one_to_one: repeated mutual best over pg_temp.recon_pairs(t, s, r), where a smaller r is a better pair.
--
-- Accepted pairs go to pg_temp.recon_accepted(t, s). What is left in pg_temp.recon_pairs are ties: pairs of records
-- that both still hold candidates and have no single best one.
--
-- Rounds over whole sets come first: in each, every pair that is the one best of both its records is accepted, and all
-- pairs of the accepted records leave. While most of what is left goes in a round, nothing is faster. A chain, in which
-- each pair waits for the one before it, would need as many rounds as it has pairs; so once a round settles little, the
-- rest is walked once, class by class of equal r, best class first. Both give the same result: r orders the pairs of
-- targets and of sources alike, so whatever is accepted or tied in a class depends on the better classes only.
DO $rounds$
DECLARE
    slow_share constant float := 0.05;  -- of what was left at the round's start; below this the walk costs less
    at_start bigint;
    left_over bigint;
    pair record;
    now_class bigint := 0;
    target_count int;
    source_count int;
    -- Of each record, by its number: 0 free, 1 taken, 2 tied.
    target_state int[];
    source_state int[];
    -- In which class a record was last met, and in how many of that class's open pairs it stands.
    target_class bigint[];
    source_class bigint[];
    target_pairs int[];
    source_pairs int[];
    -- The open pairs of the class at hand.
    class_targets int[] := '{}';
    class_sources int[] := '{}';
    class_size int := 0;
    taken_targets int[] := '{}';
    taken_sources int[] := '{}';
    taken int := 0;
BEGIN
    CREATE TEMPORARY TABLE recon_accepted ON COMMIT DROP AS SELECT t, s FROM pg_temp.recon_pairs LIMIT 0;
    SELECT count(*) INTO left_over FROM pg_temp.recon_pairs;
    LOOP
        EXIT WHEN left_over = 0;
        at_start := left_over;
        CREATE TEMPORARY TABLE recon_best ON COMMIT DROP AS
        SELECT t, s FROM (
            SELECT t, s,
                -- No pair of the record stands before this one, and the next one is worse.
                lag(t) OVER of_target IS NULL AND (lead(r) OVER of_target > r) IS NOT FALSE AS best_of_target,
                lag(s) OVER of_source IS NULL AND (lead(r) OVER of_source > r) IS NOT FALSE AS best_of_source
            FROM pg_temp.recon_pairs
            WINDOW of_target AS (PARTITION BY t ORDER BY r), of_source AS (PARTITION BY s ORDER BY r)
        ) AS placed
        WHERE best_of_target AND best_of_source;
        INSERT INTO pg_temp.recon_accepted SELECT t, s FROM pg_temp.recon_best;
        CREATE TEMPORARY TABLE recon_left ON COMMIT DROP AS
        SELECT pairs.* FROM pg_temp.recon_pairs AS pairs
        WHERE NOT EXISTS (SELECT FROM pg_temp.recon_best AS best WHERE best.t = pairs.t)
          AND NOT EXISTS (SELECT FROM pg_temp.recon_best AS best WHERE best.s = pairs.s);
        GET DIAGNOSTICS left_over = ROW_COUNT;
        DROP TABLE pg_temp.recon_pairs, pg_temp.recon_best;
        ALTER TABLE pg_temp.recon_left RENAME TO recon_pairs;
        IF left_over = at_start THEN
            RETURN;  -- only ties are left
        END IF;
        EXIT WHEN at_start - left_over < slow_share * at_start;
    END LOOP;
    IF left_over = 0 THEN
        RETURN;
    END IF;

    CREATE TEMPORARY TABLE recon_numbered ON COMMIT DROP AS
    SELECT t, s, dense_rank() OVER (ORDER BY t)::int AS target, dense_rank() OVER (ORDER BY s)::int AS source,
        dense_rank() OVER (ORDER BY r) AS class
    FROM pg_temp.recon_pairs;
    SELECT max(target), max(source) INTO target_count, source_count FROM pg_temp.recon_numbered;
    target_state := array_fill(0, ARRAY[target_count]);
    source_state := array_fill(0, ARRAY[source_count]);
    target_class := array_fill(0::bigint, ARRAY[target_count]);
    source_class := array_fill(0::bigint, ARRAY[source_count]);
    target_pairs := array_fill(0, ARRAY[target_count]);
    source_pairs := array_fill(0, ARRAY[source_count]);
    FOR pair IN
        SELECT target, source, class FROM pg_temp.recon_numbered
        UNION ALL SELECT 0, 0, NULL  -- closes the last class
        ORDER BY class NULLS LAST
    LOOP
        IF pair.class IS DISTINCT FROM now_class THEN
            FOR number IN 1 .. class_size LOOP
                -- Both free, and neither stands in another open pair of the class: the one best of both.
                IF target_state[class_targets[number]] = 0 AND source_state[class_sources[number]] = 0
                    AND target_pairs[class_targets[number]] = 1 AND source_pairs[class_sources[number]] = 1 THEN
                    target_state[class_targets[number]] := 1;
                    source_state[class_sources[number]] := 1;
                    taken := taken + 1;
                    taken_targets[taken] := class_targets[number];
                    taken_sources[taken] := class_sources[number];
                ELSE
                    -- Its best pairs stay, and it has no single best one: nothing of a worse class can be its best.
                    IF target_state[class_targets[number]] = 0 THEN
                        target_state[class_targets[number]] := 2;
                    END IF;
                    IF source_state[class_sources[number]] = 0 THEN
                        source_state[class_sources[number]] := 2;
                    END IF;
                END IF;
            END LOOP;
            class_size := 0;
            now_class := pair.class;
        END IF;
        IF pair.class IS NOT NULL AND target_state[pair.target] <> 1 AND source_state[pair.source] <> 1 THEN
            class_size := class_size + 1;
            class_targets[class_size] := pair.target;
            class_sources[class_size] := pair.source;
            IF target_class[pair.target] = now_class THEN
                target_pairs[pair.target] := target_pairs[pair.target] + 1;
            ELSE
                target_class[pair.target] := now_class;
                target_pairs[pair.target] := 1;
            END IF;
            IF source_class[pair.source] = now_class THEN
                source_pairs[pair.source] := source_pairs[pair.source] + 1;
            ELSE
                source_class[pair.source] := now_class;
                source_pairs[pair.source] := 1;
            END IF;
        END IF;
    END LOOP;

    CREATE TEMPORARY TABLE recon_walked ON COMMIT DROP AS
    SELECT numbered.t, numbered.s
    FROM unnest(taken_targets[1:taken], taken_sources[1:taken]) AS accepted(target, source)
    JOIN pg_temp.recon_numbered AS numbered USING (target, source);
    INSERT INTO pg_temp.recon_accepted SELECT t, s FROM pg_temp.recon_walked;
    CREATE TEMPORARY TABLE recon_left ON COMMIT DROP AS
    SELECT pairs.* FROM pg_temp.recon_pairs AS pairs
    WHERE NOT EXISTS (SELECT FROM pg_temp.recon_walked AS walked WHERE walked.t = pairs.t)
      AND NOT EXISTS (SELECT FROM pg_temp.recon_walked AS walked WHERE walked.s = pairs.s);
    DROP TABLE pg_temp.recon_pairs, pg_temp.recon_walked, pg_temp.recon_numbered;
    ALTER TABLE pg_temp.recon_left RENAME TO recon_pairs;
END
$rounds$
;

INSERT INTO "pg_temp"."recon_decided"
SELECT
  "accepted"."t" AS "target_key",
  "numbered_s"."source_key_1",
  "numbered_s"."source_key_2",
  2
FROM "pg_temp"."recon_accepted" AS "accepted"
JOIN "pg_temp"."recon_numbered_sources" AS "numbered_s"
  ON "numbered_s"."number" = "accepted"."s";

INSERT INTO "pg_temp"."recon_tied"
SELECT DISTINCT
  "pairs"."t" AS "target_key",
  2
FROM "pg_temp"."recon_pairs" AS "pairs";

INSERT INTO "pg_temp"."recon_other_tied"
SELECT DISTINCT
  "numbered_s"."source_key_1",
  "numbered_s"."source_key_2"
FROM "pg_temp"."recon_pairs" AS "pairs"
JOIN "pg_temp"."recon_numbered_sources" AS "numbered_s"
  ON "numbered_s"."number" = "pairs"."s";

DROP TABLE pg_temp.recon_pairs;

DROP TABLE pg_temp.recon_accepted;

DROP TABLE pg_temp.recon_numbered_sources;

ANALYZE pg_temp.recon_decided;

CREATE TABLE "recon"."decisions_of_the_run" AS
SELECT
  "decided"."target_key",
  "decided"."source_key_1",
  "decided"."source_key_2",
  CASE
    WHEN "decided"."outcome" IN ('matched', 'proposed', 'linked')
    AND NOT "s"."org" IS NULL
    AND NOT (
      (
        "s"."starts" IS NOT NULL
      ) IS TRUE
    )
    THEN 'invalid'
    WHEN "decided"."outcome" IN ('matched', 'linked')
    AND NOT "t"."id" IS NULL
    AND NOT "s"."org" IS NULL
    THEN CASE
      WHEN (
        "t"."ends" IS NOT DISTINCT FROM "s"."starts"
        OR "s"."starts" BETWEEN "t"."ends" AND "t"."ends" + INTERVAL '5 MINUTE'
      ) IS NOT TRUE
      THEN 'changed'
      ELSE 'same'
    END
    WHEN "decided"."outcome" IN ('unmatched')
    THEN 'orphan'
    ELSE "decided"."outcome"
  END AS "outcome",
  CASE
    WHEN NOT (
      (
        "decided"."outcome" IN ('matched', 'proposed', 'linked')
        AND NOT "s"."org" IS NULL
        AND NOT (
          (
            "s"."starts" IS NOT NULL
          ) IS TRUE
        )
      )
      AND "decided"."source_key_1" IS NULL
    )
    THEN "decided"."pass"
  END AS "pass",
  CAST(CASE
    WHEN NOT (
      "decided"."outcome" IN ('matched', 'proposed', 'linked')
      AND NOT "s"."org" IS NULL
      AND NOT (
        (
          "s"."starts" IS NOT NULL
        ) IS TRUE
      )
    )
    THEN "decided"."confidence"
  END AS DECIMAL(4, 3)) AS "confidence",
  CAST(NULL AS TEXT) AS "reason",
  CASE
    WHEN "decided"."outcome" IN ('matched', 'proposed', 'linked')
    AND NOT "s"."org" IS NULL
    AND NOT (
      (
        "s"."starts" IS NOT NULL
      ) IS TRUE
    )
    THEN JSONB_BUILD_OBJECT(
      'issues',
      ARRAY_REMOVE(
        ARRAY[
          CASE
            WHEN NOT (
              "s"."starts" IS NOT NULL
            ) IS TRUE
            THEN CAST('no start' AS TEXT)
          END
        ],
        NULL
      )
    )
    WHEN (
      "decided"."outcome" IN ('matched', 'linked')
      AND NOT "t"."id" IS NULL
      AND NOT "s"."org" IS NULL
    )
    AND (
      "t"."ends" IS NOT DISTINCT FROM "s"."starts"
      OR "s"."starts" BETWEEN "t"."ends" AND "t"."ends" + INTERVAL '5 MINUTE'
    ) IS NOT TRUE
    THEN JSONB_BUILD_OBJECT(
      'changes',
      (
        CASE
          WHEN (
            "t"."ends" IS NOT DISTINCT FROM "s"."starts"
            OR "s"."starts" BETWEEN "t"."ends" AND "t"."ends" + INTERVAL '5 MINUTE'
          ) IS NOT TRUE
          THEN JSONB_BUILD_OBJECT('ends', JSONB_BUILD_OBJECT('before', "t"."ends", 'after', "s"."starts"))
          ELSE JSONB_BUILD_OBJECT()
        END
      )
    )
  END AS "evidence"
FROM (
  SELECT
    "t"."id" AS "target_key",
    "decided"."source_key_1" AS "source_key_1",
    "decided"."source_key_2" AS "source_key_2",
    CASE
      WHEN "decided"."decided" = 0
      THEN 'matched'
      ELSE CASE COALESCE("decided"."decided", -(
          "tied"."decided"
        ))
        WHEN 1
        THEN 'matched'
        WHEN 2
        THEN 'matched'
        WHEN -2
        THEN 'ambiguous'
        ELSE 'unmatched'
      END
    END AS "outcome",
    CASE
      WHEN "decided"."decided" = 0
      THEN 'override'
      ELSE CASE COALESCE("decided"."decided", -(
          "tied"."decided"
        ))
        WHEN 1
        THEN 'same'
        WHEN -1
        THEN 'same'
        WHEN 2
        THEN 'near'
        WHEN -2
        THEN 'near'
      END
    END AS "pass",
    CAST(CASE
      WHEN "decided"."decided" = 0
      THEN 1
      ELSE CASE COALESCE("decided"."decided", -(
          "tied"."decided"
        ))
        WHEN 1
        THEN 1
        WHEN 2
        THEN 1
      END
    END AS DECIMAL(4, 3)) AS "confidence"
  FROM "public"."stays" AS "t"
  LEFT JOIN "pg_temp"."recon_decided" AS "decided"
    ON "t"."id" = "decided"."target_key"
  LEFT JOIN "pg_temp"."recon_tied" AS "tied"
    ON "t"."id" = "tied"."target_key" AND "tied"."decided" IN (2)
) AS "decided"
LEFT JOIN "public"."stays" AS "t"
  ON "t"."id" = "decided"."target_key"
LEFT JOIN "public"."jobs" AS "s"
  ON "s"."org" = "decided"."source_key_1" AND "s"."id" = "decided"."source_key_2";

INSERT INTO "recon"."decisions_of_the_run"
SELECT
  CAST(NULL AS INT) AS "target_key",
  "s"."org" AS "source_key_1",
  "s"."id" AS "source_key_2",
  'missing' AS "outcome",
  CAST(NULL AS TEXT) AS "pass",
  CAST(NULL AS DECIMAL(4, 3)) AS "confidence"
FROM "public"."jobs" AS "s"
WHERE
  NOT EXISTS(
    SELECT
      1
    FROM "recon"."decisions_of_the_run" AS "decision"
    WHERE
      "s"."org" = "decision"."source_key_1" AND "s"."id" = "decision"."source_key_2"
  )
  AND NOT EXISTS(
    SELECT
      1
    FROM "pg_temp"."recon_other_tied" AS "listed"
    WHERE
      "listed"."source_key_1" = "s"."org" AND "listed"."source_key_2" = "s"."id"
  )
  AND (
    "s"."starts" IS NOT NULL
  ) IS TRUE;
