-- Replay, sweep, counts and the life of the data.
ALTER TABLE dead_letter ADD COLUMN replay_requested_at TEXT;
CREATE INDEX IF NOT EXISTS dead_letter_record ON dead_letter (tenant_id, connector_id, entity, source_id);
CREATE INDEX IF NOT EXISTS dead_letter_replay ON dead_letter (tenant_id, connector_id, observed_seq)
    WHERE replay_requested_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS dead_letter_recorded_at ON dead_letter (recorded_at) WHERE payload_form IN ('served', 'staged');
CREATE INDEX IF NOT EXISTS run_finished_at ON run (finished_at);

ALTER TABLE sync_state ADD COLUMN resync TEXT;
ALTER TABLE sync_state ADD COLUMN sweep_confirmed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sync_state ADD COLUMN findings TEXT NOT NULL DEFAULT '{}';
ALTER TABLE handled_token ADD COLUMN outcome TEXT;

-- Which ids the full load in progress has seen, a row for each commit and entity (R6): never a mark on the rows themselves.
CREATE TABLE IF NOT EXISTS seen_batch (
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    entity TEXT NOT NULL,
    ids BLOB NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, seq, entity)
) STRICT;

-- Live rows that the full load in progress did not see; read back by id before any is tombstoned (R6).
CREATE TABLE IF NOT EXISTS sweep_candidate (
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    entity TEXT NOT NULL,
    source_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, entity, source_id)
) STRICT, WITHOUT ROWID;
