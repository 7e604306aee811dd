DO $existing$ DECLARE
    one text;
BEGIN
    FOR one IN
        SELECT relname FROM pg_class
        WHERE relnamespace = 'recon'::regnamespace AND relkind = 'r' AND relname ~ '^(decisions|staged|ledger)_'
    LOOP
        EXECUTE format(
            'ALTER TABLE recon.%I OWNER TO %I', one, CASE WHEN starts_with(one, 'decisions_') THEN {plan} ELSE {owner} END
        );
    END LOOP;
    FOR one IN
        SELECT plan FROM recon.plans
        WHERE to_regclass(format('recon.%I', 'staged_' || plan)) IS NOT NULL
          AND to_regclass(format('recon.%I', 'ledger_' || plan)) IS NOT NULL
    LOOP
        PERFORM recon.hand_over(one);
    END LOOP;
END $existing$;
