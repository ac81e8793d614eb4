-- The read contract (docs/canonical-schema.md): columns are only ever added, at the end.
CREATE SCHEMA IF NOT EXISTS canonical;

CREATE OR REPLACE VIEW canonical.account AS
SELECT
    tenant_id, connector_id, source_id, source_type, account_id, canonical_id, source_created_at, source_updated_at,
    deleted_at, merged_into_source_id, schema_version, first_seen_at, synced_at, run, name, domain, website,
    industry, employees, annual_revenue, phone, street, city, state, postal_code, country, account_type,
    parent_source_id, owner_source_id, last_activity_at, custom
FROM gtm.account;

CREATE OR REPLACE VIEW canonical.contact AS
SELECT
    tenant_id, connector_id, source_id, source_type, account_id, canonical_id, source_created_at, source_updated_at,
    deleted_at, merged_into_source_id, schema_version, first_seen_at, synced_at, run, email, first_name, last_name,
    title, phone, mobile, account_source_id, owner_source_id, lead_source, lifecycle, opted_out, last_activity_at,
    custom
FROM gtm.contact;

CREATE OR REPLACE VIEW canonical.lead AS
SELECT
    tenant_id, connector_id, source_id, source_type, account_id, canonical_id, source_created_at, source_updated_at,
    deleted_at, merged_into_source_id, schema_version, first_seen_at, synced_at, run, email, first_name, last_name,
    company, title, phone, status, lead_source, owner_source_id, converted_at, converted_contact_source_id,
    converted_account_source_id, converted_opportunity_source_id, custom
FROM gtm.lead;

CREATE OR REPLACE VIEW canonical.opportunity AS
SELECT
    tenant_id, connector_id, source_id, source_type, account_id, canonical_id, source_created_at, source_updated_at,
    deleted_at, merged_into_source_id, schema_version, first_seen_at, synced_at, run, name, amount, currency,
    close_date, stage, pipeline, probability, status, account_source_id, contact_source_ids, owner_source_id,
    opportunity_type, lead_source, forecast, custom
FROM gtm.opportunity;

CREATE OR REPLACE VIEW canonical.activity AS
SELECT
    tenant_id, connector_id, source_id, source_type, account_id, canonical_id, source_created_at, source_updated_at,
    deleted_at, merged_into_source_id, schema_version, first_seen_at, synced_at, run, kind, subject, body,
    occurred_at, ended_at, direction, duration_seconds, status, owner_source_id, links, custom
FROM gtm.activity;

CREATE OR REPLACE VIEW canonical.owner AS
SELECT
    tenant_id, connector_id, source_id, source_type, account_id, canonical_id, source_created_at, source_updated_at,
    deleted_at, merged_into_source_id, schema_version, first_seen_at, synced_at, run, first_name, last_name, email,
    active, manager_source_id, teams, custom
FROM gtm.owner;

CREATE OR REPLACE VIEW canonical.stage AS
SELECT
    tenant_id, connector_id, source_id, source_type, account_id, canonical_id, source_created_at, source_updated_at,
    deleted_at, merged_into_source_id, schema_version, first_seen_at, synced_at, run, name, pipeline, pipeline_name,
    position, probability, status, custom
FROM gtm.stage;

-- One row for each record that an activity is linked to.
CREATE OR REPLACE VIEW canonical.activity_link AS
SELECT
    activity.tenant_id,
    activity.connector_id,
    activity.source_id AS activity_source_id,
    link ->> 'entity' AS entity,
    link ->> 'sourceId' AS source_id,
    activity.deleted_at
FROM gtm.activity AS activity
CROSS JOIN LATERAL jsonb_array_elements(
    CASE WHEN jsonb_typeof(activity.links) = 'array' THEN activity.links ELSE '[]'::jsonb END
) AS link;

-- A role to grant to readers. Roles belong to the whole server: without CREATEROLE it is left to whoever runs it, and
-- the one that another database of the server made is used.
DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = 'gtm_reader') THEN
        CREATE ROLE gtm_reader NOLOGIN;
    END IF;
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
    NULL;
END
$$;

DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = 'gtm_reader') THEN
        GRANT USAGE ON SCHEMA canonical TO gtm_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA canonical TO gtm_reader;
    END IF;
END
$$;
