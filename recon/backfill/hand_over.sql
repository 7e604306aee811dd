CREATE OR REPLACE FUNCTION recon.hand_over(plan text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $hand_over$
DECLARE
    kind text;
    owned oid;
    fresh boolean;
    filled boolean;
BEGIN
    FOREACH kind IN ARRAY ARRAY['staged', 'ledger'] LOOP
        SELECT oid, relowner <> {owner}::regrole INTO STRICT owned, fresh FROM pg_class
        WHERE relname = kind || '_' || plan AND relnamespace = 'recon'::regnamespace;
        -- It waits for whoever uses the table, and lets nobody in until the transaction ends.
        EXECUTE format('ALTER TABLE recon.%I OWNER TO %I', kind || '_' || plan, {owner});
        -- Whatever runs a function when the table is read or written would run it with the apply role's rights.
        IF EXISTS (SELECT FROM pg_class WHERE oid = owned AND (relkind <> 'r' OR relrowsecurity OR relpersistence <> 'p'))
            OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = owned)
            OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = owned)
            OR EXISTS (SELECT FROM pg_policy WHERE polrelid = owned)
            OR EXISTS (SELECT FROM pg_inherits WHERE owned IN (inhrelid, inhparent))
            OR EXISTS (
                SELECT FROM pg_constraint WHERE conrelid = owned AND contype NOT IN ('p', 'u', 'n')
                -- As this search path shows it, an operator of anybody else's would have its schema.
                  AND pg_get_constraintdef(oid) <> 'CHECK ((place > 0))'
            )
            OR EXISTS (SELECT FROM pg_index WHERE indrelid = owned AND (indexprs IS NOT NULL OR indpred IS NOT NULL))
            OR EXISTS (SELECT FROM pg_attrdef WHERE adrelid = owned AND pg_get_expr(adbin, adrelid) <> 'clock_timestamp()')
            OR EXISTS (
                SELECT FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
                WHERE attrelid = owned AND attnum > 0 AND NOT attisdropped
                  AND (typnamespace = 'recon'::regnamespace OR typnamespace::regnamespace::text LIKE 'pg_%temp%')
            )
        THEN
            RAISE EXCEPTION 'table % of plan % is not as recon makes it', kind, plan;
        END IF;
        EXECUTE format('SELECT EXISTS (SELECT FROM recon.%I)', kind || '_' || plan) INTO filled;
        IF fresh AND filled AND kind = 'ledger' THEN
            RAISE EXCEPTION 'the ledger of plan % is not empty', plan;
        END IF;
        EXECUTE format('REVOKE ALL ON recon.%I FROM PUBLIC, %I, %I, %I', kind || '_' || plan, {plan}, {review}, {apply});
        EXECUTE format('GRANT SELECT ON recon.%I TO %I, %I, %I', kind || '_' || plan, {plan}, {review}, {apply});
    END LOOP;
    EXECUTE format('GRANT INSERT, UPDATE (reverted_at) ON recon.%I TO %I', 'ledger_' || plan, {apply});
END
$hand_over$;
