-- Ready to use on the mirror of Stays (SYN-07): its latest runs, newest first, with what each did, and what it says of each
-- organization.

SELECT
    run.id,
    run.cause,
    run.status,
    run.started_at,
    run.duration_ms,
    (run.stats ->> 'fetched')::bigint AS fetched,
    (run.stats ->> 'created')::bigint AS created,
    (run.stats ->> 'updated')::bigint AS updated,
    (run.stats ->> 'orphaned')::bigint AS orphaned,
    (run.stats ->> 'deleted')::bigint AS deleted,
    (run.stats ->> 'errors')::bigint AS errors,
    run.error,
    run.parts
FROM recon.sync_runs AS run
WHERE run.reconciliation = 'stays_reservations'
ORDER BY run.created_at DESC, run.id
LIMIT 100;
