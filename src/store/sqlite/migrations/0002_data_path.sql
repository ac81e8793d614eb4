-- The data path: where each connector stands, runs, staged and applied batches, dead letters, budgets.
CREATE TABLE IF NOT EXISTS sync_state (
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    epoch TEXT,
    workflow_id TEXT,
    connector_uid TEXT,
    run_no INTEGER NOT NULL,
    next_seq INTEGER NOT NULL,
    load TEXT,
    cursor TEXT NOT NULL,
    generation INTEGER NOT NULL,
    dead_letters INTEGER NOT NULL,
    losses TEXT,
    findings TEXT NOT NULL DEFAULT '{}',
    resync TEXT,
    last_success_at TEXT,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, account_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sync_state_updated_at ON sync_state (updated_at);

CREATE TABLE IF NOT EXISTS run (
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    run_no INTEGER NOT NULL,
    full_sync INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    end_seq INTEGER,
    started_at TEXT NOT NULL,
    finished_at TEXT,
    finished_epoch TEXT,
    outcome TEXT,
    error TEXT,
    entity_type TEXT NOT NULL,
    stats TEXT NOT NULL,
    parked TEXT,
    failed_streams TEXT NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, workflow_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS run_newest ON run (tenant_id, connector_id, run_no);

CREATE TABLE IF NOT EXISTS staged_batch (
    staged_id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    epoch TEXT NOT NULL,
    seq INTEGER NOT NULL,
    next_load TEXT NOT NULL,
    entity_type TEXT NOT NULL,
    record_count INTEGER NOT NULL,
    payload BLOB NOT NULL,
    staged_at TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS staged_batch_connector ON staged_batch (tenant_id, connector_id);
CREATE INDEX IF NOT EXISTS staged_batch_staged_at ON staged_batch (staged_at);

CREATE TABLE IF NOT EXISTS applied_batch (
    staged_id TEXT NOT NULL PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    result TEXT NOT NULL,
    applied_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS applied_batch_connector ON applied_batch (tenant_id, connector_id, applied_at);

CREATE TABLE IF NOT EXISTS dead_letter (
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    observed_seq INTEGER NOT NULL,
    account_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    batch_index INTEGER NOT NULL,
    entity TEXT,
    source_id TEXT,
    source_updated_at TEXT,
    code TEXT NOT NULL,
    field TEXT,
    payload BLOB NOT NULL,
    payload_form TEXT NOT NULL,
    recorded_at TEXT NOT NULL,
    replay_requested_at TEXT,
    PRIMARY KEY (tenant_id, connector_id, observed_seq)
) STRICT;

CREATE TABLE IF NOT EXISTS failed_record (
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    batch_index INTEGER NOT NULL,
    error TEXT NOT NULL,
    recorded_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, workflow_id, batch_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS budget (
    system TEXT NOT NULL,
    account_id TEXT NOT NULL,
    class TEXT NOT NULL,
    grants TEXT NOT NULL,
    parked_until TEXT,
    parked_reason TEXT,
    PRIMARY KEY (system, account_id, class)
) STRICT, WITHOUT ROWID;

-- Which ids the load in progress has seen of streams that it reads whole, a row for each commit and entity (R6): never a mark on the rows themselves.
CREATE TABLE IF NOT EXISTS seen_batch (
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    entity TEXT NOT NULL,
    ids BLOB NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, seq, entity)
) STRICT;

-- Live rows that the load in progress did not see; read back by id before any is tombstoned (R6).
CREATE TABLE IF NOT EXISTS sweep_candidate (
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    entity TEXT NOT NULL,
    source_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, entity, source_id)
) STRICT, WITHOUT ROWID;

-- What replay and ageing look for.
CREATE INDEX IF NOT EXISTS dead_letter_record ON dead_letter (tenant_id, connector_id, entity, source_id);
CREATE INDEX IF NOT EXISTS dead_letter_replay ON dead_letter (tenant_id, connector_id, observed_seq)
    WHERE replay_requested_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS dead_letter_recorded_at ON dead_letter (recorded_at) WHERE payload_form IN ('served', 'staged');
CREATE INDEX IF NOT EXISTS run_finished_at ON run (finished_at);

-- The line in which a tenant's syncs wait for one of its places (R42), a row a connector.
CREATE TABLE IF NOT EXISTS waiting (
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    asked_at TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, connector_id)
) STRICT, WITHOUT ROWID;

-- What a day's failures are counted by.
CREATE INDEX IF NOT EXISTS run_failed ON run (tenant_id, connector_id, finished_at)
    WHERE outcome IN ('failed', 'terminated');
