-- The data path: where each connector stands, runs, staged and applied batches, dead letters, budgets.
CREATE TABLE IF NOT EXISTS gtm.sync_state (
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    account_id text NOT NULL,
    epoch text,
    workflow_id text,
    connector_uid text,
    run_no bigint NOT NULL,
    next_seq bigint NOT NULL,
    load jsonb,
    cursor jsonb NOT NULL,
    generation bigint NOT NULL,
    dead_letters bigint NOT NULL,
    losses jsonb,
    findings jsonb NOT NULL DEFAULT '{}',
    resync jsonb,
    last_success_at timestamptz,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, account_id)
);
CREATE INDEX IF NOT EXISTS sync_state_updated_at ON gtm.sync_state (updated_at);

CREATE TABLE IF NOT EXISTS gtm.run (
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    workflow_id text NOT NULL,
    run_no bigint NOT NULL,
    full_sync boolean NOT NULL,
    first_seq bigint NOT NULL,
    end_seq bigint,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    finished_epoch text,
    outcome text,
    error text,
    entity_type text NOT NULL,
    stats jsonb NOT NULL,
    parked jsonb,
    failed_streams jsonb NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, workflow_id)
);
CREATE INDEX IF NOT EXISTS run_newest ON gtm.run (tenant_id, connector_id, run_no);

CREATE TABLE IF NOT EXISTS gtm.staged_batch (
    staged_id text NOT NULL PRIMARY KEY,
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    epoch text NOT NULL,
    seq bigint NOT NULL,
    next_load jsonb NOT NULL,
    entity_type text NOT NULL,
    record_count bigint NOT NULL,
    payload bytea NOT NULL,
    staged_at timestamptz NOT NULL
);
-- Staged bytes are compressed already (R38).
ALTER TABLE gtm.staged_batch ALTER COLUMN payload SET STORAGE EXTERNAL;
CREATE INDEX IF NOT EXISTS staged_batch_connector ON gtm.staged_batch (tenant_id, connector_id);
CREATE INDEX IF NOT EXISTS staged_batch_staged_at ON gtm.staged_batch (staged_at);

CREATE TABLE IF NOT EXISTS gtm.applied_batch (
    staged_id text NOT NULL PRIMARY KEY,
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    seq bigint NOT NULL,
    result jsonb NOT NULL,
    applied_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS applied_batch_connector ON gtm.applied_batch (tenant_id, connector_id, applied_at);

CREATE TABLE IF NOT EXISTS gtm.dead_letter (
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    observed_seq bigint NOT NULL,
    account_id text NOT NULL,
    workflow_id text NOT NULL,
    batch_index bigint NOT NULL,
    entity text,
    source_id text,
    source_updated_at timestamptz,
    code text NOT NULL,
    field text,
    payload bytea NOT NULL,
    payload_form text NOT NULL,
    recorded_at timestamptz NOT NULL,
    replay_requested_at timestamptz,
    PRIMARY KEY (tenant_id, connector_id, observed_seq)
);

CREATE TABLE IF NOT EXISTS gtm.failed_record (
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    workflow_id text NOT NULL,
    batch_index bigint NOT NULL,
    error text NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, workflow_id, batch_index)
);

-- Unlogged: a crash forgets what was granted, and the vendor's own limit still stands (R35).
CREATE UNLOGGED TABLE IF NOT EXISTS gtm.budget (
    system text NOT NULL,
    account_id text NOT NULL,
    class text NOT NULL,
    grants jsonb NOT NULL,
    parked_until timestamptz,
    parked_reason text,
    PRIMARY KEY (system, account_id, class)
);

-- Which ids the load in progress has seen of streams that it reads whole, a row for each commit and entity (R6): never a mark on the rows themselves.
CREATE TABLE IF NOT EXISTS gtm.seen_batch (
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    seq bigint NOT NULL,
    entity text NOT NULL,
    ids bytea NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, seq, entity)
);
-- Ids are compressed already (R38).
ALTER TABLE gtm.seen_batch ALTER COLUMN ids SET STORAGE EXTERNAL;

-- Live rows that the load in progress did not see; read back by id before any is tombstoned (R6).
CREATE TABLE IF NOT EXISTS gtm.sweep_candidate (
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    entity text NOT NULL,
    source_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, entity, source_id)
);

-- What replay and ageing look for.
CREATE INDEX IF NOT EXISTS dead_letter_record ON gtm.dead_letter (tenant_id, connector_id, entity, source_id);
CREATE INDEX IF NOT EXISTS dead_letter_replay ON gtm.dead_letter (tenant_id, connector_id, observed_seq)
    WHERE replay_requested_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS dead_letter_recorded_at ON gtm.dead_letter (recorded_at) WHERE payload_form IN ('served', 'staged');
CREATE INDEX IF NOT EXISTS run_finished_at ON gtm.run (finished_at);

-- The line in which a tenant's syncs wait for one of its places (R42), a row a connector.
CREATE TABLE IF NOT EXISTS gtm.waiting (
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    workflow_id text NOT NULL,
    asked_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, connector_id)
);

-- What a day's failures are counted by.
CREATE INDEX IF NOT EXISTS run_failed ON gtm.run (tenant_id, connector_id, finished_at)
    WHERE outcome IN ('failed', 'terminated');
