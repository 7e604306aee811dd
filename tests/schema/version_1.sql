CREATE SCHEMA recon;

CREATE TABLE recon.meta (
    schema_version SERIAL NOT NULL,
    PRIMARY KEY (schema_version)
);

CREATE TABLE recon.runs (
    run TEXT NOT NULL,
    reconciliation TEXT NOT NULL,
    state TEXT NOT NULL,
    actor TEXT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE,
    spec_digest TEXT NOT NULL,
    limited JSONB,
    population BIGINT,
    outcomes JSONB,
    passes JSONB,
    reasons JSONB,
    seconds JSONB,
    error TEXT,
    kept BOOLEAN DEFAULT true NOT NULL,
    PRIMARY KEY (run),
    CONSTRAINT run_state CHECK (state IN ('pending', 'running', 'success', 'partial', 'failed'))
);

CREATE INDEX ix_recon_runs_reconciliation ON recon.runs (reconciliation);

COMMENT ON COLUMN recon.runs.limited IS 'what --limit, --from and --to left out; NULL: nothing';

COMMENT ON COLUMN recon.runs.seconds IS 'how long each step took';

COMMENT ON COLUMN recon.runs.kept IS 'whether the decisions are still there';

CREATE TABLE recon.plans (
    plan TEXT NOT NULL,
    reconciliation TEXT NOT NULL,
    run TEXT NOT NULL,
    state TEXT NOT NULL,
    digest TEXT NOT NULL,
    document TEXT NOT NULL,
    author TEXT NOT NULL,
    row_count BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (plan)
);

CREATE INDEX ix_recon_plans_reconciliation ON recon.plans (reconciliation);

COMMENT ON COLUMN recon.plans.digest IS 'sha256 of plan.json, hex';

COMMENT ON COLUMN recon.plans.document IS 'plan.json as it was written';

CREATE TABLE recon.plan_log (
    entry BIGINT GENERATED ALWAYS AS IDENTITY,
    plan TEXT NOT NULL,
    from_state TEXT,
    to_state TEXT NOT NULL,
    actor TEXT NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    detail JSONB DEFAULT '{}' NOT NULL,
    PRIMARY KEY (entry),
    FOREIGN KEY(plan) REFERENCES recon.plans (plan)
);

CREATE INDEX ix_recon_plan_log_plan ON recon.plan_log (plan);

CREATE TABLE recon.approvals (
    plan TEXT NOT NULL,
    approver TEXT NOT NULL,
    digest TEXT NOT NULL,
    method TEXT NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (plan, approver),
    FOREIGN KEY(plan) REFERENCES recon.plans (plan)
);

COMMENT ON COLUMN recon.approvals.method IS 'recorded: by name, a record and not a proof';

CREATE TABLE recon.batches (
    plan TEXT NOT NULL,
    batch BIGINT NOT NULL,
    planned BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    milliseconds FLOAT NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    PRIMARY KEY (plan, batch),
    FOREIGN KEY(plan) REFERENCES recon.plans (plan)
);

CREATE TABLE recon.check_results (
    entry BIGINT GENERATED ALWAYS AS IDENTITY,
    reconciliation TEXT NOT NULL,
    plan TEXT,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    success BOOLEAN NOT NULL,
    result JSONB NOT NULL,
    PRIMARY KEY (entry),
    FOREIGN KEY(plan) REFERENCES recon.plans (plan)
);

CREATE INDEX ix_recon_check_results_reconciliation ON recon.check_results (reconciliation);

COMMENT ON COLUMN recon.check_results.plan IS 'the plan that was verified; NULL: none';
