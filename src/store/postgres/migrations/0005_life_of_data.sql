-- Replay, sweep, counts and the life of the data.
ALTER TABLE gtm.dead_letter ADD COLUMN IF NOT EXISTS replay_requested_at timestamptz;
CREATE INDEX IF NOT EXISTS dead_letter_record ON gtm.dead_letter (tenant_id, connector_id, entity, source_id);
CREATE INDEX IF NOT EXISTS dead_letter_replay ON gtm.dead_letter (tenant_id, connector_id, observed_seq)
    WHERE replay_requested_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS dead_letter_recorded_at ON gtm.dead_letter (recorded_at) WHERE payload_form IN ('served', 'staged');
CREATE INDEX IF NOT EXISTS run_finished_at ON gtm.run (finished_at);

ALTER TABLE gtm.sync_state ADD COLUMN IF NOT EXISTS resync jsonb;
ALTER TABLE gtm.sync_state ADD COLUMN IF NOT EXISTS sweep_confirmed boolean NOT NULL DEFAULT false;
ALTER TABLE gtm.sync_state ADD COLUMN IF NOT EXISTS findings jsonb NOT NULL DEFAULT '{}';
ALTER TABLE gtm.handled_token ADD COLUMN IF NOT EXISTS outcome text;

-- Which ids the full load in progress has seen, a row for each commit and entity (R6): never a mark on the rows themselves.
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

-- Live rows that the full load in progress did not see; read back by id before any is tombstoned (R6).
CREATE TABLE IF NOT EXISTS gtm.sweep_candidate (
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    entity text NOT NULL,
    source_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, entity, source_id)
);
