//! The life of the data: what ages, and erasing one person (`Store::age`, `Store::erase`).

use deadpool_postgres::Transaction;

use super::{fault::Fault, letters, query};
use crate::{
    ids::TenantId,
    model::{entity::Entity, pseudonym::PseudonymKey},
    store::{
        Aged, Erased, Person, Retention, RunOutcome, quotes,
        stored::{KEPT_HOURS, PEOPLE, name},
    },
};

/// Rows of one kind that one call removes at most: each call is one short transaction.
const AT_ONCE: i64 = 10_000;

/// `Store::age`.
pub(super) async fn age(transaction: &Transaction<'_>, retention: &Retention) -> Result<Aged, Fault> {
    const RUNS: &str = "WITH aged AS (DELETE FROM gtm.run WHERE (tenant_id, connector_id, workflow_id) IN (
            SELECT tenant_id, connector_id, workflow_id FROM gtm.run AS r
            WHERE finished_at < now() - make_interval(days => $1) AND EXISTS (SELECT 1 FROM gtm.run AS newer
                WHERE newer.tenant_id = r.tenant_id AND newer.connector_id = r.connector_id AND newer.run_no > r.run_no)
            LIMIT $2) RETURNING tenant_id, connector_id, workflow_id),
        entries AS (DELETE FROM gtm.failed_record AS f USING aged AS a WHERE f.tenant_id = a.tenant_id
            AND f.connector_id = a.connector_id AND f.workflow_id = a.workflow_id)
        SELECT count(*) FROM aged";
    const PAYLOADS: &str = "UPDATE gtm.dead_letter SET payload = '', payload_form = 'expired'
        WHERE (tenant_id, connector_id, observed_seq) IN (SELECT tenant_id, connector_id, observed_seq
            FROM gtm.dead_letter WHERE recorded_at < now() - make_interval(days => $1)
                AND payload_form IN ('served', 'staged') LIMIT $2)";
    let mut aged = Aged { batches: age_batches(transaction).await?, ..Aged::default() };
    if let Some(days) = days(retention.runs_days) {
        let row = query::row(transaction, RUNS, &[&days, &AT_ONCE]).await?;
        let count: i64 = row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
        aged.runs = u64::try_from(count).unwrap_or(0);
    }
    if let Some(days) = days(retention.dead_letter_payloads_days) {
        aged.payloads = query::execute(transaction, PAYLOADS, &[&days, &AT_ONCE]).await?;
    }
    if let Some(days) = days(retention.tombstones_days) {
        for entity in Entity::ALL {
            let table = entity.table();
            let delete = format!(
                "DELETE FROM gtm.{table} WHERE (tenant_id, connector_id, source_id) IN (
                     SELECT tenant_id, connector_id, source_id FROM gtm.{table}
                     WHERE deleted_at < now() - make_interval(days => $1) LIMIT $2)"
            );
            aged.tombstones += query::execute(transaction, &delete, &[&days, &AT_ONCE]).await?;
        }
    }
    Ok(aged)
}

/// Staged batches that nobody will apply, and records of applied ones, are kept for hours, whatever the retention (R13).
async fn age_batches(transaction: &Transaction<'_>) -> Result<u64, Fault> {
    let mut removed = 0;
    for (table, column) in [("staged_batch", "staged_at"), ("applied_batch", "applied_at")] {
        let delete = format!(
            "DELETE FROM gtm.{table} WHERE staged_id IN (
                 SELECT staged_id FROM gtm.{table} WHERE {column} < now() - make_interval(hours => $1)
                 LIMIT $2 FOR UPDATE SKIP LOCKED)"
        );
        let hours = i32::try_from(KEPT_HOURS).unwrap_or(i32::MAX);
        removed += query::execute(transaction, &delete, &[&hours, &AT_ONCE]).await?;
    }
    Ok(removed)
}

fn days(days: Option<u32>) -> Option<i32> {
    days.map(|days| i32::try_from(days).unwrap_or(i32::MAX))
}

/// `Store::erase`.
pub(super) async fn erase(transaction: &Transaction<'_>, tenant: &TenantId, person: &Person) -> Result<Erased, Fault> {
    const STAGED: &str = "DELETE FROM gtm.staged_batch WHERE tenant_id = $1";
    const LETTERS: &str = "DELETE FROM gtm.dead_letter
        WHERE tenant_id = $1 AND connector_id = $2 AND entity = $3 AND source_id = $4";
    // The address in a payload as it was served: the letter may have no id, or be another record that quotes it.
    const QUOTED: &str = "DELETE FROM gtm.dead_letter
        WHERE tenant_id = $1 AND payload_form = 'served'
            AND position(lower(encode(convert_to($2, 'UTF8'), 'escape')) IN lower(encode(payload, 'escape'))) > 0";
    let mut erased =
        Erased { staged_batches: query::execute(transaction, STAGED, &[&tenant.as_str()]).await?, ..Erased::default() };
    for (entity, connector, source_id) in erase_records(transaction, tenant, person).await? {
        erased.records += 1;
        erased.activities += empty_activities(transaction, tenant, &connector, entity, &source_id).await?;
        let values: query::Values<'_> = &[&tenant.as_str(), &connector, &entity.table(), &source_id];
        erased.dead_letters += query::execute(transaction, LETTERS, values).await?;
    }
    match person {
        Person::Email(address) => {
            erased.dead_letters += query::execute(transaction, QUOTED, &[&tenant.as_str(), address]).await?;
            erased.dead_letters += erase_staged_letters(transaction, tenant, address).await?;
        }
        Person::Record { connector_id, entity, source_id } => {
            // Its row may be gone already, the texts of its activities are not.
            erased.activities +=
                empty_activities(transaction, tenant, connector_id.as_str(), *entity, source_id).await?;
            let values: query::Values<'_> = &[&tenant.as_str(), &connector_id.as_str(), &entity.table(), source_id];
            erased.dead_letters += query::execute(transaction, LETTERS, values).await?;
        }
    }
    letters::recount(transaction, tenant).await?;
    end_runs(transaction, tenant).await?;
    Ok(erased)
}

/// Takes the leases of the tenant's runs: what they have fetched and not yet staged may be about the person. So may be the
/// record that workers were lost with.
async fn end_runs(transaction: &Transaction<'_>, tenant: &TenantId) -> Result<(), Fault> {
    const END: &str = "UPDATE gtm.run SET finished_at = now(), outcome = $2, error = 'PersonErased', parked = NULL
        WHERE tenant_id = $1 AND finished_at IS NULL";
    const RELEASE: &str = "UPDATE gtm.sync_state SET epoch = NULL, workflow_id = NULL, losses = NULL,
            updated_at = clock_timestamp()
        WHERE tenant_id = $1 AND (epoch IS NOT NULL OR losses IS NOT NULL)";
    query::execute(transaction, END, &[&tenant.as_str(), &name(&RunOutcome::Failed)]).await?;
    query::execute(transaction, RELEASE, &[&tenant.as_str()]).await?;
    Ok(())
}

/// Deletes the tenant's dead letters of rows that quote the address: their payloads are compressed.
async fn erase_staged_letters(transaction: &Transaction<'_>, tenant: &TenantId, address: &str) -> Result<u64, Fault> {
    const PAGE: &str = "SELECT connector_id, observed_seq, payload FROM gtm.dead_letter
        WHERE tenant_id = $1 AND payload_form = 'staged' AND (connector_id, observed_seq) > ($2, $3)
        ORDER BY connector_id, observed_seq LIMIT $4";
    const DELETE: &str = "DELETE FROM gtm.dead_letter WHERE tenant_id = $1 AND connector_id = $2 AND observed_seq = $3";
    let (tenant, mut after, mut erased) = (tenant.as_str(), (String::new(), i64::MIN), 0);
    loop {
        let values: query::Values<'_> = &[&tenant, &after.0, &after.1, &quotes::AT_ONCE];
        let page = query::rows(transaction, PAGE, values).await?;
        let Some(last) = page.last() else { return Ok(erased) };
        after = (last.try_get(0)?, last.try_get(1)?);
        for row in page.iter() {
            if quotes::staged(row.try_get(2)?, address) {
                let (connector, observed_seq): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
                erased += query::execute(transaction, DELETE, &[&tenant, &connector, &observed_seq]).await?;
            }
        }
    }
}

/// Deletes the person's rows and answers where they stood.
async fn erase_records(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    person: &Person,
) -> Result<Vec<(Entity, String, String)>, Fault> {
    let mut erased = Vec::new();
    for entity in PEOPLE {
        let delete = |condition: &str| {
            let table = entity.table();
            format!("DELETE FROM gtm.{table} WHERE tenant_id = $1 AND {condition} RETURNING connector_id, source_id")
        };
        let rows = match person {
            Person::Email(address) => {
                let hashed = pseudonym(transaction, tenant, address).await?;
                let values: query::Values<'_> = &[&tenant.as_str(), address, &hashed];
                query::rows(transaction, &delete("(lower(email) = lower($2) OR email = $3)"), values).await?
            }
            Person::Record { connector_id, entity: wanted, source_id } if *wanted == entity => {
                let values: query::Values<'_> = &[&tenant.as_str(), &connector_id.as_str(), source_id];
                query::rows(transaction, &delete("connector_id = $2 AND source_id = $3"), values).await?
            }
            Person::Record { .. } => Vec::new(),
        };
        for row in rows {
            erased.push((entity, row.try_get(0)?, row.try_get(1)?));
        }
    }
    Ok(erased)
}

/// What stands in the place of the address where a stream hashes it.
async fn pseudonym(transaction: &Transaction<'_>, tenant: &TenantId, address: &str) -> Result<String, Fault> {
    let installation_id = super::migrate::installation_id(transaction).await?;
    Ok(PseudonymKey::of(&installation_id, tenant).pseudonym(address))
}

/// Empties the texts of activities that are linked to the record: what was said with a person is about the person.
async fn empty_activities(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &str,
    entity: Entity,
    source_id: &str,
) -> Result<u64, Fault> {
    const EMPTY: &str = "UPDATE gtm.activity SET subject = NULL, body = NULL, custom = NULL
        WHERE tenant_id = $1 AND connector_id = $2
            AND (subject IS NOT NULL OR body IS NOT NULL OR custom IS NOT NULL) AND links @> jsonb_build_array(jsonb_build_object('entity', $3::text, 'sourceId', $4::text))";
    let values: query::Values<'_> = &[&tenant.as_str(), &connector, &entity.table(), &source_id];
    query::execute(transaction, EMPTY, values).await
}
