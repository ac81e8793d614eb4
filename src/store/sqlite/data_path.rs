//! The data path: staging, the fenced commit of staged batches, and the dead letter of a whole one.

use std::borrow::Cow;

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::{
    canonical::{self, NotWritten, Origin},
    fault::Fault,
    lease::{held, lease_key, running},
    values::{At, Document},
};
use crate::{
    contract::activities::{Lease, StagedRef},
    model::cursor::Load,
    store::{
        Applied, Error, NewStaged, RecordKey,
        held::{Held, Recorded},
        incoming::{Change, DeadLetter, Incoming, Item, Numbers, StagedRow, whole_batch},
        record_ids::{self, RecordId, RecordIds},
        tally::Tally,
    },
};

/// `Store::stage`.
pub(super) fn stage(transaction: &Transaction<'_>, lease: &Lease, batch: &NewStaged) -> Result<String, Fault> {
    let staged_id = uuid::Uuid::new_v4().simple().to_string();
    let staged = transaction
        .prepare_cached(
            "INSERT INTO staged_batch (staged_id, tenant_id, connector_id, epoch, seq, next_load, entity_type,
                 record_count, payload, staged_at)
             SELECT ?4, tenant_id, connector_id, epoch, ?5, ?6, ?7, ?8, ?9, ?10 FROM sync_state
             WHERE tenant_id = ?1 AND connector_id = ?2 AND epoch = ?3",
        )?
        .execute(params![
            lease.tenant_id.as_str(),
            lease.connector_id.as_str(),
            lease.epoch,
            staged_id,
            batch.seq,
            Document(&batch.next),
            batch.entity_type,
            batch.record_count,
            batch.payload,
            At::now()
        ])?;
    if staged == 0 { Err(Error::StaleRun { attempted: "stage a batch" }.into()) } else { Ok(staged_id) }
}

/// `Store::staged_next`.
pub(super) fn staged_next(
    transaction: &Transaction<'_>,
    lease: &Lease,
    staged_id: &str,
) -> Result<Option<Load>, Fault> {
    let [tenant, connector, epoch] = lease_key(lease);
    Ok(transaction
        .prepare_cached(
            "SELECT b.next_load FROM staged_batch AS b
             JOIN sync_state AS s ON s.tenant_id = b.tenant_id AND s.connector_id = b.connector_id AND s.epoch = b.epoch
             WHERE b.tenant_id = ?1 AND b.connector_id = ?2 AND b.epoch = ?3 AND b.staged_id = ?4",
        )?
        .query_row([tenant, connector, epoch, staged_id], |row| Ok(row.get::<_, Document<_>>(0)?.0))
        .optional()?)
}

/// `Store::apply`.
pub(super) fn apply(transaction: &Transaction<'_>, lease: &Lease, batches: &[StagedRef]) -> Result<Applied, Fault> {
    const ATTEMPTED: &str = "apply staged batches";
    let recorded = recorded(transaction, lease, batches)?;
    if let Some(answer) = recorded.answer() {
        return Ok(answer);
    }
    let held = held(transaction, lease, ATTEMPTED)?;
    held.check(ATTEMPTED, &recorded.open)?;
    let staged = read_staged(transaction, lease, &recorded.open, ATTEMPTED)?;
    let numbers = Numbers::new(lease.run_no, held.first_seq);
    let incoming = Incoming::open(numbers, &staged)?.without(&held.losses.left_out);
    let mut commit = Commit::new(transaction, lease, held, &staged);
    commit.write_all(&incoming, &staged)?;
    if commit.held.judges_rejections(&staged) {
        commit.tally.check_ceiling(commit.held.config.max_rejected_percent)?;
    }
    Ok(recorded.before(commit.fence(&staged, ATTEMPTED)?))
}

/// `Store::staged_records`.
pub(super) fn staged_records(
    transaction: &Transaction<'_>,
    lease: &Lease,
    batch: &StagedRef,
) -> Result<Vec<RecordKey>, Fault> {
    let staged = read_staged(transaction, lease, std::slice::from_ref(batch), "list staged records")?;
    Ok(Incoming::open(Numbers::new(lease.run_no, batch.seq), &staged)?.keys()?)
}

/// `Store::probe`.
pub(super) fn probe(
    transaction: &Transaction<'_>,
    lease: &Lease,
    batch: &StagedRef,
    record: &RecordKey,
) -> Result<(), Fault> {
    const ATTEMPTED: &str = "probe a record";
    let batches = std::slice::from_ref(batch);
    let held = held(transaction, lease, ATTEMPTED)?;
    held.check(ATTEMPTED, batches)?;
    let staged = read_staged(transaction, lease, batches, ATTEMPTED)?;
    let incoming = Incoming::open(Numbers::new(lease.run_no, held.first_seq), &staged)?.only(record);
    transaction.execute_batch("SAVEPOINT probe")?;
    Commit::new(transaction, lease, held, &staged).write_all(&incoming, &staged)?;
    transaction.execute_batch("ROLLBACK TO probe; RELEASE probe")?;
    Ok(())
}

/// `Store::dead_letter`.
pub(super) fn dead_letter(
    transaction: &Transaction<'_>,
    lease: &Lease,
    batch: &StagedRef,
    error: &str,
) -> Result<Applied, Fault> {
    const ATTEMPTED: &str = "dead-letter a batch";
    let batches = std::slice::from_ref(batch);
    if let Some(answer) = recorded(transaction, lease, batches)?.answer() {
        return Ok(answer);
    }
    let held = held(transaction, lease, ATTEMPTED)?;
    held.check(ATTEMPTED, batches)?;
    let staged = read_staged(transaction, lease, batches, ATTEMPTED)?;
    let numbers = Numbers::new(lease.run_no, held.first_seq);
    let opened = Incoming::open(numbers, &staged);
    let mut commit = Commit::new(transaction, lease, held, &staged);
    let mut ids = RecordIds::default();
    for letter in whole_batch(&opened, &staged[0], numbers)? {
        let seq = letter.observed_seq;
        letter.record().into_iter().for_each(|(entity, id)| ids.add(entity, Cow::Owned(id.into_owned()), seq));
        commit.keep(&letter)?;
    }
    commit.note(&ids, &staged)?;
    commit.tally.give_up(u64::try_from(staged[0].record_count).unwrap_or(0), error);
    commit.fence(&staged, ATTEMPTED)
}

fn recorded(transaction: &Transaction<'_>, lease: &Lease, batches: &[StagedRef]) -> rusqlite::Result<Recorded> {
    let mut statement = transaction.prepare_cached(
        "SELECT result FROM applied_batch WHERE staged_id = ?1 AND tenant_id = ?2 AND connector_id = ?3",
    )?;
    let mut recorded = Recorded::default();
    for batch in batches {
        let key = [&*batch.staged_id, lease.tenant_id.as_str(), lease.connector_id.as_str()];
        let result = statement.query_row(key, |row| Ok(row.get::<_, Document<_>>(0)?.0)).optional()?;
        recorded.sort(batch, result);
    }
    Ok(recorded)
}

/// A staged batch that is missing is another run's doing: never success, never a dead letter (R13).
fn read_staged(
    transaction: &Transaction<'_>,
    lease: &Lease,
    batches: &[StagedRef],
    attempted: &'static str,
) -> Result<Vec<StagedRow>, Fault> {
    let mut statement = transaction.prepare_cached(
        "SELECT staged_id, seq, next_load, entity_type, payload, record_count FROM staged_batch
         WHERE tenant_id = ?1 AND connector_id = ?2 AND epoch = ?3 AND staged_id = ?4 AND seq = ?5",
    )?;
    let read = |row: &Row<'_>| {
        Ok(StagedRow {
            staged_id: row.get(0)?,
            seq: row.get(1)?,
            next: row.get::<_, Document<_>>(2)?.0,
            entity_type: row.get(3)?,
            payload: row.get(4)?,
            record_count: row.get(5)?,
        })
    };
    let mut staged = Vec::with_capacity(batches.len());
    for batch in batches {
        let [tenant, connector, epoch] = lease_key(lease);
        let found =
            statement.query_row(params![tenant, connector, epoch, batch.staged_id, batch.seq], read).optional()?;
        staged.push(found.ok_or(Error::StaleRun { attempted })?);
    }
    if staged.is_empty() { Err(Error::Refused { attempted, code: "NoBatches".to_owned() }.into()) } else { Ok(staged) }
}

/// A commit in the making: what was counted and kept so far.
struct Commit<'a> {
    transaction: &'a Transaction<'a>,
    lease: &'a Lease,
    held: Held,
    now: At,
    tally: Tally,
    letters: i64,
}

const KEEP: &str =
    "INSERT INTO dead_letter (tenant_id, connector_id, observed_seq, account_id, workflow_id, batch_index,
        entity, source_id, source_updated_at, code, field, payload, payload_form, recorded_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

const FENCE: &str = concat!(
    "UPDATE sync_state AS s SET next_seq = ?5, load = ?6, dead_letters = dead_letters + ?7, losses = NULL,
        updated_at = ?8
     FROM connector AS c
     WHERE s.tenant_id = ?1 AND s.connector_id = ?2 AND s.epoch = ?3 AND s.next_seq = ?4
         AND c.tenant_id = s.tenant_id AND c.connector_id = s.connector_id AND ",
    running!()
);

impl<'a> Commit<'a> {
    fn new(transaction: &'a Transaction<'a>, lease: &'a Lease, held: Held, staged: &[StagedRow]) -> Self {
        let tally = Tally::new(held.stats, held.indexes(staged));
        Self { transaction, lease, held, now: At::now(), tally, letters: 0 }
    }

    /// Writes every record, or keeps it as a dead letter. Tombstones last: one that came before an older version of its
    /// record must not cost that version's values.
    fn write_all(&mut self, incoming: &Incoming, staged: &[StagedRow]) -> Result<(), Fault> {
        let (mut tombstones, mut ids) = (Vec::new(), RecordIds::default());
        for item in incoming.records() {
            let item = item?;
            item.record().into_iter().for_each(|(entity, id)| ids.add(entity, id, item.observed_seq()));
            match item {
                Item::Change(change) if change.is_tombstone() => tombstones.push(change),
                Item::Change(change) => self.write(change)?,
                Item::DeadLetter(letter) => {
                    self.tally.record(letter.batch);
                    self.keep(&letter)?;
                }
            }
        }
        for change in tombstones {
            self.write(change)?;
        }
        Ok(self.note(&ids, staged)?)
    }

    fn write(&mut self, change: Change<'_>) -> Result<(), Fault> {
        self.tally.record(change.batch);
        let origin = Origin {
            tenant_id: self.lease.tenant_id.as_str(),
            connector_id: self.lease.connector_id.as_str(),
            source_type: self.held.config.source.source_type(),
            account_id: &self.held.account_id,
            run: &self.held.workflow_id,
            now: self.now,
        };
        match canonical::write(self.transaction, &origin, &change) {
            Ok(changed) => self.tally.written(u64::from(changed)),
            Err(NotWritten::Refused(code, field)) => self.keep(&change.refused(code, field))?,
            Err(NotWritten::Fault(fault)) => return Err(fault),
        }
        Ok(())
    }

    fn keep(&mut self, letter: &DeadLetter<'_>) -> Result<(), Fault> {
        let index = self.tally.index(letter.batch);
        self.transaction.prepare_cached(KEEP)?.execute(params![
            self.lease.tenant_id.as_str(),
            self.lease.connector_id.as_str(),
            letter.observed_seq,
            self.held.account_id,
            self.held.workflow_id,
            i64::try_from(index).unwrap_or(i64::MAX),
            letter.entity.map(|entity| entity.table()),
            letter.source_id.as_deref(),
            letter.source_updated_at.map(At),
            &*letter.code,
            letter.field.as_deref(),
            &*letter.payload,
            letter.payload_form,
            self.now
        ])?;
        self.letters += 1;
        self.tally.reject(letter);
        Ok(())
    }

    /// Keeps the ids for the load's sweep, and resolves older dead letters of these records, those of this commit too: what
    /// was served later has landed, or has a newer letter.
    fn note(&mut self, ids: &RecordIds<'_>, staged: &[StagedRow]) -> rusqlite::Result<()> {
        let [tenant, connector, _] = lease_key(self.lease);
        let first = staged.first().map_or(0, |row| row.seq);
        let mut resolve = self.transaction.prepare_cached(
            "DELETE FROM dead_letter WHERE tenant_id = ?1 AND connector_id = ?2 AND entity = ?3 AND source_id = ?4
                 AND observed_seq < ?5 AND account_id = ?6",
        )?;
        for (entity, some) in ids.iter() {
            let seen = self.held.seen(entity, some);
            if !seen.is_empty() {
                self.transaction
                    .prepare_cached(
                        "INSERT OR IGNORE INTO seen_batch (tenant_id, connector_id, seq, entity, ids)
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![tenant, connector, first, entity.table(), record_ids::pack(&seen)])?;
            }
            let has_letters = self.held.dead_letters + self.letters > 0;
            for RecordId { source_id, observed_seq } in some.iter().filter(|_| has_letters) {
                let values = params![tenant, connector, entity.table(), source_id, observed_seq, self.held.account_id];
                self.letters -= i64::try_from(resolve.execute(values)?).unwrap_or(i64::MAX);
            }
        }
        Ok(())
    }

    /// Counts, entries, results, the end of the staged batches; the fence is the last statement (R19).
    fn fence(self, staged: &[StagedRow], attempted: &'static str) -> Result<Applied, Fault> {
        let [tenant, connector, epoch] = lease_key(self.lease);
        let workflow_id = &self.held.workflow_id;
        let last = staged.last().expect("read_staged refuses an empty call");
        let next_seq = last.seq + 1;
        let applied = self.tally.applied(next_seq, self.now.0);
        self.transaction
            .prepare_cached(
                "UPDATE run SET stats = ?4, entity_type = ?5, parked = NULL
                 WHERE tenant_id = ?1 AND connector_id = ?2 AND workflow_id = ?3",
            )?
            .execute(params![tenant, connector, workflow_id, Document(&applied.stats), last.entity_type])?;
        for entry in applied.failed.iter().take(self.tally.array_room()) {
            self.transaction
                .prepare_cached(
                    "INSERT INTO failed_record (tenant_id, connector_id, workflow_id, batch_index, error, recorded_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    tenant,
                    connector,
                    workflow_id,
                    i64::try_from(entry.batch_index).unwrap_or(i64::MAX),
                    entry.error,
                    self.now
                ])?;
        }
        for (row, entry) in staged.iter().zip(self.tally.entries(self.now.0)) {
            let result = Applied { failed: entry.into_iter().collect(), ..applied.clone() };
            self.transaction
                .prepare_cached("DELETE FROM staged_batch WHERE staged_id = ?1")?
                .execute([&row.staged_id])?;
            self.transaction
                .prepare_cached(
                    "INSERT INTO applied_batch (staged_id, tenant_id, connector_id, seq, result, applied_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![row.staged_id, tenant, connector, row.seq, Document(result), self.now])?;
        }
        let moved = self.transaction.prepare_cached(FENCE)?.execute(params![
            tenant,
            connector,
            epoch,
            self.held.next_seq,
            next_seq,
            Document(&last.next),
            self.letters,
            At::now()
        ])?;
        if moved == 0 { Err(Error::StaleRun { attempted }.into()) } else { Ok(applied) }
    }
}
