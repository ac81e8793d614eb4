-- Registry: whose installation this is, tenants and connectors as projected, credentials, handled verbs.
-- Times are text, RFC 3339 UTC with six decimals, so that text order is time order.
CREATE TABLE IF NOT EXISTS meta (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    installation_id TEXT NOT NULL,
    schema_version INTEGER NOT NULL
) STRICT;

-- How often a leadership was taken: a write of an operator that has a successor is refused.
CREATE TABLE IF NOT EXISTS leader (
    leadership TEXT NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS tenant (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    cluster_id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    wait_seconds INTEGER,
    pool TEXT NOT NULL DEFAULT 'shared',
    removed_at TEXT,
    updated_at TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS connector (
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    joined_name TEXT NOT NULL,
    cluster_id TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    generation INTEGER NOT NULL,
    desired_state TEXT NOT NULL,
    config TEXT NOT NULL,
    own_schedule INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    connection_status TEXT NOT NULL,
    connection_reason TEXT NOT NULL,
    connection_checked_at TEXT,
    account_id TEXT,
    removed_at TEXT,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, connector_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS connector_joined_name ON connector (joined_name);
CREATE INDEX IF NOT EXISTS connector_updated_at ON connector (updated_at);

CREATE TABLE IF NOT EXISTS credential (
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    ciphertext BLOB NOT NULL,
    digest TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, connector_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS credential_overlay (
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    credential_revision INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    ciphertext BLOB NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, connector_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS refresh_lock (
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    holder TEXT NOT NULL,
    locked_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, connector_id)
) STRICT, WITHOUT ROWID;

-- What tenants asked for in Temporal, the last token of each verb: recorded before it is done, by which life of the object.
CREATE TABLE IF NOT EXISTS tenant_token (
    tenant_id TEXT NOT NULL,
    verb TEXT NOT NULL,
    token TEXT NOT NULL,
    uid TEXT NOT NULL,
    recorded_at TEXT NOT NULL,
    PRIMARY KEY (tenant_id, verb)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS handled_token (
    tenant_id TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    verb TEXT NOT NULL,
    token TEXT NOT NULL,
    handled_at TEXT NOT NULL,
    outcome TEXT,
    PRIMARY KEY (tenant_id, connector_id, verb)
) STRICT, WITHOUT ROWID;
