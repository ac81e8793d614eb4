-- Registry: whose installation this is, tenants and connectors as projected, credentials, handled verbs.
-- Every name is qualified: nothing here depends on search_path.
CREATE SCHEMA IF NOT EXISTS gtm;

CREATE TABLE IF NOT EXISTS gtm.meta (
    only_row integer NOT NULL PRIMARY KEY CHECK (only_row = 1),
    installation_id text NOT NULL,
    schema_version integer NOT NULL
);

-- How often a leadership was taken: a write of an operator that has a successor is refused.
CREATE TABLE IF NOT EXISTS gtm.leader (
    leadership text NOT NULL PRIMARY KEY,
    epoch bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS gtm.tenant (
    tenant_id text NOT NULL PRIMARY KEY,
    cluster_id text NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    uid text NOT NULL,
    wait_seconds bigint,
    pool text NOT NULL DEFAULT 'shared',
    removed_at timestamptz,
    updated_at timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS gtm.connector (
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    joined_name text NOT NULL,
    cluster_id text NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    uid text NOT NULL,
    generation bigint NOT NULL,
    desired_state text NOT NULL,
    config jsonb NOT NULL,
    own_schedule boolean NOT NULL,
    revision bigint NOT NULL,
    connection_status text NOT NULL,
    connection_reason text NOT NULL,
    connection_checked_at timestamptz,
    account_id text,
    removed_at timestamptz,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, connector_id)
);
CREATE UNIQUE INDEX IF NOT EXISTS connector_joined_name ON gtm.connector (joined_name);
CREATE INDEX IF NOT EXISTS connector_updated_at ON gtm.connector (updated_at);

CREATE TABLE IF NOT EXISTS gtm.credential (
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    revision bigint NOT NULL,
    key_id text NOT NULL,
    ciphertext bytea NOT NULL,
    digest text NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, connector_id)
);

CREATE TABLE IF NOT EXISTS gtm.credential_overlay (
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    credential_revision bigint NOT NULL,
    revision bigint NOT NULL,
    key_id text NOT NULL,
    ciphertext bytea NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, connector_id)
);

CREATE TABLE IF NOT EXISTS gtm.refresh_lock (
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    holder text NOT NULL,
    locked_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, connector_id)
);

-- What tenants asked for in Temporal, the last token of each verb: recorded before it is done, by which life of the object.
CREATE TABLE IF NOT EXISTS gtm.tenant_token (
    tenant_id text NOT NULL,
    verb text NOT NULL,
    token text NOT NULL,
    uid text NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, verb)
);

CREATE TABLE IF NOT EXISTS gtm.handled_token (
    tenant_id text NOT NULL,
    connector_id text NOT NULL,
    verb text NOT NULL,
    token text NOT NULL,
    handled_at timestamptz NOT NULL,
    outcome text,
    PRIMARY KEY (tenant_id, connector_id, verb)
);
