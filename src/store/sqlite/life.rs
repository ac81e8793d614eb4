//! The life of the data: what ages, and erasing one person (`Store::age`, `Store::erase`).

use jiff::SignedDuration;
use rusqlite::{Transaction, params};

use super::{
    fault::Fault,
    letters,
    values::{At, Name},
};
use crate::{
    ids::TenantId,
    model::{entity::Entity, pseudonym::PseudonymKey},
    store::{
        Aged, Erased, Person, Retention, RunOutcome, quotes,
        stored::{KEPT_HOURS, PEOPLE},
    },
};

/// Rows of one kind that one call removes at most: each call is one short transaction.
const AT_ONCE: i64 = 10_000;

/// `Store::age`.
pub(super) fn age(transaction: &Transaction<'_>, retention: &Retention) -> Result<Aged, Fault> {
    const RUNS: &str = "DELETE FROM run WHERE (tenant_id, connector_id, workflow_id) IN (
        SELECT r.tenant_id, r.connector_id, r.workflow_id FROM run AS r WHERE r.finished_at < ?1 AND EXISTS (SELECT 1 FROM run AS newer WHERE newer.tenant_id = r.tenant_id
            AND newer.connector_id = r.connector_id AND newer.run_no > r.run_no) LIMIT ?2)";
    const ENTRIES: &str = "DELETE FROM failed_record WHERE NOT EXISTS (SELECT 1 FROM run AS r
        WHERE r.tenant_id = failed_record.tenant_id AND r.connector_id = failed_record.connector_id
            AND r.workflow_id = failed_record.workflow_id)";
    const PAYLOADS: &str = "UPDATE dead_letter SET payload = x'', payload_form = 'expired'
        WHERE (tenant_id, connector_id, observed_seq) IN (SELECT tenant_id, connector_id, observed_seq
            FROM dead_letter WHERE recorded_at < ?1 AND payload_form IN ('served', 'staged') LIMIT ?2)";
    let execute = |sql: &str, before: At| -> rusqlite::Result<u64> {
        let changed = transaction.prepare_cached(sql)?.execute(params![before, AT_ONCE])?;
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    };
    let mut aged = Aged::default();
    for (table, column) in [("staged_batch", "staged_at"), ("applied_batch", "applied_at")] {
        let delete = format!(
            "DELETE FROM {table} WHERE staged_id IN (SELECT staged_id FROM {table} WHERE {column} < ?1 LIMIT ?2)"
        );
        aged.batches += execute(&delete, ago(KEPT_HOURS))?;
    }
    if let Some(days) = retention.runs_days {
        aged.runs = execute(RUNS, days_ago(days))?;
        transaction.execute_batch(ENTRIES)?;
    }
    if let Some(days) = retention.dead_letter_payloads_days {
        aged.payloads = execute(PAYLOADS, days_ago(days))?;
    }
    if let Some(days) = retention.tombstones_days {
        for entity in Entity::ALL {
            let table = entity.table();
            let delete = format!(
                "DELETE FROM {table} WHERE (tenant_id, connector_id, source_id) IN (
                     SELECT tenant_id, connector_id, source_id FROM {table} WHERE deleted_at < ?1 LIMIT ?2)"
            );
            aged.tombstones += execute(&delete, days_ago(days))?;
        }
    }
    Ok(aged)
}

fn days_ago(days: u32) -> At {
    ago(i64::from(days) * 24)
}

fn ago(hours: i64) -> At {
    let now = At::now();
    At(now.0.checked_sub(SignedDuration::from_hours(hours)).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

/// `Store::erase`.
pub(super) fn erase(transaction: &Transaction<'_>, tenant: &TenantId, person: &Person) -> Result<Erased, Fault> {
    const LETTERS: &str =
        "DELETE FROM dead_letter WHERE tenant_id = ?1 AND connector_id = ?2 AND entity = ?3 AND source_id = ?4";
    // The address in a payload as it was served: the letter may have no id, or be another record that quotes it.
    const QUOTED: &str = "DELETE FROM dead_letter
        WHERE tenant_id = ?1 AND payload_form = 'served' AND instr(lower(CAST(payload AS TEXT)), lower(?2)) > 0";
    let execute = |sql: &str, values: &[&str]| -> rusqlite::Result<u64> {
        let changed = transaction.prepare_cached(sql)?.execute(rusqlite::params_from_iter(values))?;
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    };
    let tenant_id = tenant.as_str();
    let staged_batches = execute("DELETE FROM staged_batch WHERE tenant_id = ?1", &[tenant_id])?;
    let mut erased = Erased { staged_batches, ..Erased::default() };
    for (entity, connector, source_id) in erase_records(transaction, tenant, person)? {
        erased.records += 1;
        erased.activities += empty_activities(transaction, tenant, &connector, entity, &source_id)?;
        erased.dead_letters += execute(LETTERS, &[tenant_id, &connector, entity.table(), &source_id])?;
    }
    erased.dead_letters += match person {
        Person::Email(address) => {
            execute(QUOTED, &[tenant_id, address])? + erase_staged_letters(transaction, tenant_id, address)?
        }
        Person::Record { connector_id, entity, source_id } => {
            // Its row may be gone already, the texts of its activities are not.
            erased.activities += empty_activities(transaction, tenant, connector_id.as_str(), *entity, source_id)?;
            execute(LETTERS, &[tenant_id, connector_id.as_str(), entity.table(), source_id])?
        }
    };
    letters::recount(transaction, tenant)?;
    end_runs(transaction, tenant)?;
    Ok(erased)
}

/// Takes the leases of the tenant's runs: what they have fetched and not yet staged may be about the person. So may be the
/// record that workers were lost with.
fn end_runs(transaction: &Transaction<'_>, tenant: &TenantId) -> rusqlite::Result<()> {
    let now = At::now();
    transaction
        .prepare_cached(
            "UPDATE run SET finished_at = ?2, outcome = ?3, error = 'PersonErased', parked = NULL
             WHERE tenant_id = ?1 AND finished_at IS NULL",
        )?
        .execute(params![tenant.as_str(), now, Name(RunOutcome::Failed)])?;
    transaction
        .prepare_cached(
            "UPDATE sync_state SET epoch = NULL, workflow_id = NULL, losses = NULL, updated_at = ?2
             WHERE tenant_id = ?1 AND (epoch IS NOT NULL OR losses IS NOT NULL)",
        )?
        .execute(params![tenant.as_str(), now])?;
    Ok(())
}

/// Deletes the tenant's dead letters of rows that quote the address: their payloads are compressed.
fn erase_staged_letters(transaction: &Transaction<'_>, tenant: &str, address: &str) -> rusqlite::Result<u64> {
    let mut page = transaction.prepare_cached(
        "SELECT rowid, payload FROM dead_letter
         WHERE tenant_id = ?1 AND payload_form = 'staged' AND rowid > ?2 ORDER BY rowid LIMIT ?3",
    )?;
    let mut delete = transaction.prepare_cached("DELETE FROM dead_letter WHERE rowid = ?1")?;
    let (mut after, mut erased) = (i64::MIN, 0);
    loop {
        let rows = page.query_map(params![tenant, after, quotes::AT_ONCE], |row| {
            Ok((row.get::<_, i64>(0)?, quotes::staged(row.get_ref(1)?.as_blob()?, address)))
        })?;
        let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        let Some(&(last, _)) = rows.last() else { return Ok(erased) };
        after = last;
        for (rowid, _) in rows.iter().filter(|(_, quoting)| *quoting) {
            delete.execute([rowid])?;
            erased += 1;
        }
    }
}

/// Deletes the person's rows and answers where they stood.
fn erase_records(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    person: &Person,
) -> Result<Vec<(Entity, String, String)>, Fault> {
    let mut erased = Vec::new();
    let installation_id = super::migrate::installation_id(transaction)?;
    let hashed = |address| PseudonymKey::of(&installation_id, tenant).pseudonym(address);
    for entity in PEOPLE {
        let (condition, values) = match person {
            Person::Email(address) => {
                let values = vec![tenant.to_string(), address.clone(), hashed(address)];
                ("(lower(email) = lower(?2) OR email = ?3)", values)
            }
            Person::Record { connector_id, entity: wanted, source_id } if *wanted == entity => (
                "connector_id = ?2 AND source_id = ?3",
                vec![tenant.to_string(), connector_id.to_string(), source_id.clone()],
            ),
            Person::Record { .. } => continue,
        };
        let table = entity.table();
        let delete =
            format!("DELETE FROM {table} WHERE tenant_id = ?1 AND {condition} RETURNING connector_id, source_id");
        let mut statement = transaction.prepare_cached(&delete)?;
        let rows =
            statement.query_map(rusqlite::params_from_iter(values), |row| Ok((entity, row.get(0)?, row.get(1)?)))?;
        for row in rows {
            erased.push(row?);
        }
    }
    Ok(erased)
}

/// Empties the texts of activities that are linked to the record: what was said with a person is about the person.
fn empty_activities(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    connector: &str,
    entity: Entity,
    source_id: &str,
) -> rusqlite::Result<u64> {
    let changed = transaction
        .prepare_cached(
            "UPDATE activity SET subject = NULL, body = NULL, custom = NULL
             WHERE tenant_id = ?1 AND connector_id = ?2
                 AND (subject IS NOT NULL OR body IS NOT NULL OR custom IS NOT NULL)
                 AND EXISTS (SELECT 1 FROM json_each(links) AS l
                 WHERE l.value ->> 'entity' = ?3 AND l.value ->> 'sourceId' = ?4)",
        )?
        .execute([tenant.as_str(), connector, entity.table(), source_id])?;
    Ok(u64::try_from(changed).unwrap_or(u64::MAX))
}
