//! The data path: staging, the fenced commit of staged batches, and the dead letter of a whole one.

use std::collections::BTreeMap;

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use tokio_postgres::types::Json;

use super::{
    copy::CopyBuffer,
    fault::Fault,
    lease::{held, lease_key, running},
    merge::{Origin, Refused, merge},
    query,
};
use crate::{
    contract::activities::{Lease, StagedRef},
    model::cursor::Load,
    store::{
        Applied, Error, NewStaged, RecordKey,
        held::{Held, Recorded},
        incoming::{DeadLetter, Incoming, Item, Numbers, StagedRow, whole_batch},
        record_ids::{self, RecordIds},
        tally::Tally,
    },
};

const STAGE: &str =
    "INSERT INTO gtm.staged_batch (staged_id, tenant_id, connector_id, epoch, seq, next_load, entity_type,
        record_count, payload, staged_at)
    SELECT $4, tenant_id, connector_id, epoch, $5, $6, $7, $8, $9, now() FROM gtm.sync_state
    WHERE tenant_id = $1 AND connector_id = $2 AND epoch = $3";

/// `Store::stage`.
pub(super) async fn stage(transaction: &Transaction<'_>, lease: &Lease, batch: &NewStaged) -> Result<String, Fault> {
    let staged_id = uuid::Uuid::new_v4().simple().to_string();
    let [tenant, connector, epoch] = lease_key(lease);
    let (next, record_count) = (Json(&batch.next), i64::from(batch.record_count));
    let values: query::Values<'_> = &[
        &tenant,
        &connector,
        &epoch,
        &staged_id,
        &batch.seq,
        &next,
        &batch.entity_type,
        &record_count,
        &batch.payload,
    ];
    let staged = query::execute(transaction, STAGE, values).await?;
    if staged == 0 { Err(Error::StaleRun { attempted: "stage a batch" }.into()) } else { Ok(staged_id) }
}

/// `Store::staged_next`.
pub(super) async fn staged_next(
    client: &impl GenericClient,
    lease: &Lease,
    staged_id: &str,
) -> Result<Option<Load>, Fault> {
    const NEXT: &str = "SELECT b.next_load FROM gtm.staged_batch AS b
        JOIN gtm.sync_state AS s ON s.tenant_id = b.tenant_id AND s.connector_id = b.connector_id AND s.epoch = b.epoch
        WHERE b.tenant_id = $1 AND b.connector_id = $2 AND b.epoch = $3 AND b.staged_id = $4";
    let [tenant, connector, epoch] = lease_key(lease);
    let row = query::row(client, NEXT, &[&tenant, &connector, &epoch, &staged_id]).await?;
    row.map(|row| Ok(row.try_get::<_, Json<_>>(0)?.0)).transpose()
}

/// `Store::apply`, one attempt.
pub(super) async fn apply(
    transaction: &Transaction<'_>,
    lease: &Lease,
    batches: &[StagedRef],
) -> Result<Applied, Fault> {
    const ATTEMPTED: &str = "apply staged batches";
    let recorded = recorded(transaction, lease, batches).await?;
    if let Some(answer) = recorded.answer() {
        return Ok(answer);
    }
    let held = held(transaction, lease, ATTEMPTED).await?;
    held.check(ATTEMPTED, &recorded.open)?;
    let staged = read_staged(transaction, lease, &recorded.open, ATTEMPTED).await?;
    let numbers = Numbers::new(lease.run_no, held.first_seq);
    let incoming = Incoming::open(numbers, &staged)?.without(&held.losses.left_out);
    let mut commit = Commit::new(transaction, lease, held, &staged).await?;
    commit.write(&incoming, &staged).await?;
    if commit.held.judges_rejections(&staged) {
        commit.tally.check_ceiling(commit.held.config.max_rejected_percent)?;
    }
    Ok(recorded.before(commit.fence(&staged, ATTEMPTED).await?))
}

/// `Store::staged_records`.
pub(super) async fn staged_records(
    client: &impl GenericClient,
    lease: &Lease,
    batch: &StagedRef,
) -> Result<Vec<RecordKey>, Fault> {
    let staged = read_staged(client, lease, std::slice::from_ref(batch), "list staged records").await?;
    Ok(Incoming::open(Numbers::new(lease.run_no, batch.seq), &staged)?.keys()?)
}

/// `Store::probe`.
pub(super) async fn probe(
    transaction: &Transaction<'_>,
    lease: &Lease,
    batch: &StagedRef,
    record: &RecordKey,
) -> Result<(), Fault> {
    const ATTEMPTED: &str = "probe a record";
    let batches = std::slice::from_ref(batch);
    let held = held(transaction, lease, ATTEMPTED).await?;
    held.check(ATTEMPTED, batches)?;
    let staged = read_staged(transaction, lease, batches, ATTEMPTED).await?;
    let incoming = Incoming::open(Numbers::new(lease.run_no, held.first_seq), &staged)?.only(record);
    transaction.batch_execute("SAVEPOINT probe").await?;
    Commit::new(transaction, lease, held, &staged).await?.write(&incoming, &staged).await?;
    transaction.batch_execute("ROLLBACK TO SAVEPOINT probe").await?;
    Ok(())
}

/// `Store::dead_letter`, one attempt.
pub(super) async fn dead_letter(
    transaction: &Transaction<'_>,
    lease: &Lease,
    batch: &StagedRef,
    error: &str,
) -> Result<Applied, Fault> {
    const ATTEMPTED: &str = "dead-letter a batch";
    let batches = std::slice::from_ref(batch);
    if let Some(answer) = recorded(transaction, lease, batches).await?.answer() {
        return Ok(answer);
    }
    let held = held(transaction, lease, ATTEMPTED).await?;
    held.check(ATTEMPTED, batches)?;
    let staged = read_staged(transaction, lease, batches, ATTEMPTED).await?;
    let numbers = Numbers::new(lease.run_no, held.first_seq);
    let opened = Incoming::open(numbers, &staged);
    let mut commit = Commit::new(transaction, lease, held, &staged).await?;
    let letters = whole_batch(&opened, &staged[0], numbers)?;
    let mut ids = RecordIds::default();
    for letter in &letters {
        letter.record().into_iter().for_each(|(entity, id)| ids.add(entity, id, letter.observed_seq));
    }
    commit.keep(&letters).await?;
    commit.note(&ids, &staged).await?;
    commit.tally.give_up(u64::try_from(staged[0].record_count).unwrap_or(0), error);
    commit.fence(&staged, ATTEMPTED).await
}

/// What is recorded of these batches. A commit that the fence refused asks again: a twin may have been faster.
pub(super) async fn recorded(
    client: &impl GenericClient,
    lease: &Lease,
    batches: &[StagedRef],
) -> Result<Recorded, Fault> {
    const RECORDED: &str = "SELECT staged_id, result FROM gtm.applied_batch
        WHERE staged_id = ANY($1) AND tenant_id = $2 AND connector_id = $3";
    let ids: Vec<_> = batches.iter().map(|batch| batch.staged_id.as_str()).collect();
    let [tenant, connector, _] = lease_key(lease);
    let mut results = BTreeMap::new();
    for row in query::rows(client, RECORDED, &[&ids, &tenant, &connector]).await? {
        results.insert(row.try_get::<_, String>(0)?, row.try_get::<_, Json<Applied>>(1)?.0);
    }
    let mut recorded = Recorded::default();
    for batch in batches {
        recorded.sort(batch, results.remove(&batch.staged_id));
    }
    Ok(recorded)
}

const READ_STAGED: &str = "SELECT staged_id, seq, next_load, entity_type, payload, record_count FROM gtm.staged_batch
    WHERE tenant_id = $1 AND connector_id = $2 AND epoch = $3 AND staged_id = ANY($4) ORDER BY seq";

/// A staged batch that is missing is another run's doing: never success, never a dead letter (R13).
async fn read_staged(
    client: &impl GenericClient,
    lease: &Lease,
    batches: &[StagedRef],
    attempted: &'static str,
) -> Result<Vec<StagedRow>, Fault> {
    if batches.is_empty() {
        return Err(Error::Refused { attempted, code: "NoBatches".to_owned() }.into());
    }
    let ids: Vec<_> = batches.iter().map(|batch| batch.staged_id.as_str()).collect();
    let [tenant, connector, epoch] = lease_key(lease);
    let mut staged = Vec::with_capacity(batches.len());
    for row in query::rows(client, READ_STAGED, &[&tenant, &connector, &epoch, &ids]).await? {
        staged.push(StagedRow {
            staged_id: row.try_get(0)?,
            seq: row.try_get(1)?,
            next: row.try_get::<_, Json<_>>(2)?.0,
            entity_type: row.try_get(3)?,
            payload: row.try_get(4)?,
            record_count: row.try_get(5)?,
        });
    }
    let found = staged.iter().map(|row| (&row.staged_id, row.seq));
    if found.eq(batches.iter().map(|batch| (&batch.staged_id, batch.seq))) {
        Ok(staged)
    } else {
        Err(Error::StaleRun { attempted }.into())
    }
}

/// The records of a commit, sorted.
struct Sorted<'b> {
    /// Rows and tombstones by entity.
    buffers: Vec<CopyBuffer<'b>>,
    /// Rejected ones.
    letters: Vec<DeadLetter<'b>>,
    /// Everybody's ids.
    ids: RecordIds<'b>,
}

/// A commit in the making: what was counted and kept so far.
struct Commit<'a> {
    transaction: &'a Transaction<'a>,
    lease: &'a Lease,
    held: Held,
    now: Timestamp,
    tally: Tally,
    letters: i64,
}

const KEEP: &str = "INSERT INTO gtm.dead_letter (tenant_id, connector_id, account_id, workflow_id, recorded_at,
        observed_seq, batch_index, entity, source_id, source_updated_at, code, field, payload, payload_form)
    SELECT $1, $2, $3, $4, $5, * FROM unnest($6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::timestamptz[],
        $11::text[], $12::text[], $13::bytea[], $14::text[])
    ON CONFLICT (tenant_id, connector_id, observed_seq) DO NOTHING";
/// Records encoded, about 5 µs each, before other tasks of the thread (heartbeats) get their turn.
const RECORDS_A_TURN: usize = 1_000;
/// Dead letters in one statement.
const LETTERS_AT_ONCE: usize = 1_000;

const FENCE: &str = concat!(
    "UPDATE gtm.sync_state AS s SET next_seq = $5, load = $6, dead_letters = dead_letters + $7,
        losses = NULL, updated_at = clock_timestamp()
     FROM gtm.connector AS c
     WHERE s.tenant_id = $1 AND s.connector_id = $2 AND s.epoch = $3 AND s.next_seq = $4
         AND c.tenant_id = s.tenant_id AND c.connector_id = s.connector_id AND ",
    running!()
);

impl<'a> Commit<'a> {
    async fn new(
        transaction: &'a Transaction<'a>,
        lease: &'a Lease,
        held: Held,
        staged: &[StagedRow],
    ) -> Result<Self, Fault> {
        let tally = Tally::new(held.stats, held.indexes(staged));
        let now = query::row(transaction, "SELECT now()", &[]).await?;
        let now = now.ok_or(Error::Unreadable { what: "time" })?.try_get(0)?;
        Ok(Self { transaction, lease, held, now, tally, letters: 0 })
    }

    fn origin(&self) -> Origin<'_> {
        Origin {
            tenant_id: self.lease.tenant_id.as_str(),
            connector_id: self.lease.connector_id.as_str(),
            source_type: self.held.config.source.source_type(),
            account_id: &self.held.account_id,
            run: &self.held.workflow_id,
        }
    }

    /// Writes every record, or keeps it as a dead letter; what the database refuses, too.
    async fn write(&mut self, incoming: &Incoming, staged: &[StagedRow]) -> Result<(), Fault> {
        let Sorted { buffers, mut letters, ids } = self.sort(incoming).await?;
        let merged = merge(self.transaction, &self.origin(), &buffers).await?;
        self.tally.written(merged.written);
        let refused =
            merged.refused.into_iter().map(|Refused { observed_seq, code, field }| (observed_seq, (code, field)));
        letters.extend(incoming.refused(refused.collect())?);
        self.keep(&letters).await?;
        self.note(&ids, staged).await
    }

    /// Counts every record and sorts it into the buffer of its entity or among the dead letters.
    async fn sort<'b>(&mut self, incoming: &'b Incoming) -> Result<Sorted<'b>, Fault> {
        let (mut buffers, mut letters, mut ids) = (BTreeMap::new(), Vec::new(), RecordIds::default());
        for (count, item) in (1_usize..).zip(incoming.records()) {
            if count.is_multiple_of(RECORDS_A_TURN) {
                tokio::task::yield_now().await;
            }
            let item = item?;
            item.record().into_iter().for_each(|(entity, id)| ids.add(entity, id, item.observed_seq()));
            match item {
                Item::Change(change) => {
                    self.tally.record(change.batch);
                    let entity = change.row.entity;
                    buffers.entry(entity).or_insert_with(|| CopyBuffer::new(entity)).push(change);
                }
                Item::DeadLetter(letter) => {
                    self.tally.record(letter.batch);
                    letters.push(letter);
                }
            }
        }
        Ok(Sorted { buffers: buffers.into_values().collect(), letters, ids })
    }

    /// Keeps the ids for the load's sweep, and resolves older dead letters of these records, those of this commit too: what
    /// was served later has landed, or has a newer letter.
    async fn note(&mut self, ids: &RecordIds<'_>, staged: &[StagedRow]) -> Result<(), Fault> {
        const SEEN: &str = "INSERT INTO gtm.seen_batch (tenant_id, connector_id, seq, entity, ids)
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant_id, connector_id, seq, entity) DO NOTHING";
        const RESOLVE: &str =
            "DELETE FROM gtm.dead_letter AS d USING unnest($4::text[], $5::bigint[]) AS n (source_id, seq)
            WHERE d.tenant_id = $1 AND d.connector_id = $2 AND d.entity = $3 AND d.account_id = $6
                AND d.source_id = n.source_id AND d.observed_seq < n.seq";
        let [tenant, connector, _] = lease_key(self.lease);
        let first = staged.first().map_or(0, |row| row.seq);
        for (entity, some) in ids.iter() {
            let seen = self.held.seen(entity, some);
            if !seen.is_empty() {
                let packed = record_ids::pack(&seen);
                query::execute(self.transaction, SEEN, &[&tenant, &connector, &first, &entity.table(), &packed])
                    .await?;
            }
            if self.held.dead_letters + self.letters > 0 {
                let observed: Vec<_> = some.iter().map(|record| record.observed_seq).collect();
                let some: Vec<_> = some.iter().map(|record| &*record.source_id).collect();
                let values: query::Values<'_> =
                    &[&tenant, &connector, &entity.table(), &some, &observed, &self.held.account_id];
                let resolved = query::execute(self.transaction, RESOLVE, values).await?;
                self.letters -= i64::try_from(resolved).unwrap_or(i64::MAX);
            }
        }
        Ok(())
    }

    async fn keep(&mut self, letters: &[DeadLetter<'_>]) -> Result<(), Fault> {
        let [tenant, connector, _] = lease_key(self.lease);
        for some in letters.chunks(LETTERS_AT_ONCE) {
            let index = |letter: &DeadLetter<'_>| i64::try_from(self.tally.index(letter.batch)).unwrap_or(i64::MAX);
            let observed_seqs: Vec<_> = some.iter().map(|letter| letter.observed_seq).collect();
            let indexes: Vec<_> = some.iter().map(index).collect();
            let entities: Vec<_> = some.iter().map(|letter| letter.entity.map(|entity| entity.table())).collect();
            let source_ids: Vec<_> = some.iter().map(|letter| letter.source_id.as_deref()).collect();
            let times: Vec<_> = some.iter().map(|letter| letter.source_updated_at).collect();
            let codes: Vec<_> = some.iter().map(|letter| &*letter.code).collect();
            let fields: Vec<_> = some.iter().map(|letter| letter.field.as_deref()).collect();
            let payloads: Vec<_> = some.iter().map(|letter| &*letter.payload).collect();
            let forms: Vec<_> = some.iter().map(|letter| letter.payload_form).collect();
            let values: query::Values<'_> = &[
                &tenant,
                &connector,
                &self.held.account_id,
                &self.held.workflow_id,
                &self.now,
                &observed_seqs,
                &indexes,
                &entities,
                &source_ids,
                &times,
                &codes,
                &fields,
                &payloads,
                &forms,
            ];
            let kept = query::execute(self.transaction, KEEP, values).await?;
            self.letters += i64::try_from(kept).unwrap_or(i64::MAX);
        }
        letters.iter().for_each(|letter| self.tally.reject(letter));
        Ok(())
    }

    /// Counts, entries, results, the end of the staged batches; the fence is the last statement (R19).
    async fn fence(self, staged: &[StagedRow], attempted: &'static str) -> Result<Applied, Fault> {
        let [tenant, connector, epoch] = lease_key(self.lease);
        let last = staged.last().ok_or(Error::StaleRun { attempted })?;
        let next_seq = last.seq + 1;
        let applied = self.tally.applied(next_seq, self.now);
        self.count(&applied, &last.entity_type).await?;
        self.record(staged, &applied, attempted).await?;
        let values: query::Values<'_> =
            &[&tenant, &connector, &epoch, &self.held.next_seq, &next_seq, &Json(&last.next), &self.letters];
        if query::execute(self.transaction, FENCE, values).await? > 0 {
            return Ok(applied);
        }
        // Paused, stopped or removed since the check at the beginning, or not ours any more.
        held(self.transaction, self.lease, attempted).await?.check(attempted, &[])?;
        Err(Error::StaleRun { attempted }.into())
    }

    async fn count(&self, applied: &Applied, entity_type: &str) -> Result<(), Fault> {
        const COUNT: &str = "UPDATE gtm.run SET stats = $4, entity_type = $5, parked = NULL
            WHERE tenant_id = $1 AND connector_id = $2 AND workflow_id = $3";
        const ENTER: &str = "INSERT INTO gtm.failed_record (tenant_id, connector_id, workflow_id, recorded_at,
                batch_index, error)
            SELECT $1, $2, $3, $4, * FROM unnest($5::bigint[], $6::text[])
            ON CONFLICT (tenant_id, connector_id, workflow_id, batch_index) DO NOTHING";
        let [tenant, connector, _] = lease_key(self.lease);
        let workflow_id = &self.held.workflow_id;
        let values: query::Values<'_> = &[&tenant, &connector, workflow_id, &Json(&applied.stats), &entity_type];
        query::execute(self.transaction, COUNT, values).await?;
        let entries: Vec<_> = applied.failed.iter().take(self.tally.array_room()).collect();
        if entries.is_empty() {
            return Ok(());
        }
        let indexes: Vec<_> =
            entries.iter().map(|entry| i64::try_from(entry.batch_index).unwrap_or(i64::MAX)).collect();
        let errors: Vec<_> = entries.iter().map(|entry| entry.error.as_str()).collect();
        let values: query::Values<'_> = &[&tenant, &connector, workflow_id, &self.now, &indexes, &errors];
        query::execute(self.transaction, ENTER, values).await?;
        Ok(())
    }

    async fn record(&self, staged: &[StagedRow], applied: &Applied, attempted: &'static str) -> Result<(), Fault> {
        const DROP: &str = "DELETE FROM gtm.staged_batch WHERE staged_id = ANY($1)";
        const RECORD: &str =
            "INSERT INTO gtm.applied_batch (tenant_id, connector_id, applied_at, staged_id, seq, result)
            SELECT $1, $2, $3, * FROM unnest($4::text[], $5::bigint[], $6::jsonb[])
            ON CONFLICT (staged_id) DO NOTHING";
        let [tenant, connector, _] = lease_key(self.lease);
        let ids: Vec<_> = staged.iter().map(|row| row.staged_id.as_str()).collect();
        let seqs: Vec<_> = staged.iter().map(|row| row.seq).collect();
        let entries = self.tally.entries(self.now).into_iter();
        let results: Vec<_> =
            entries.map(|entry| Json(Applied { failed: entry.into_iter().collect(), ..applied.clone() })).collect();
        // Gone since it was read: applied by a twin, or erased with a person that is in it.
        if query::execute(self.transaction, DROP, &[&ids]).await? < ids.len() as u64 {
            return Err(Error::StaleRun { attempted }.into());
        }
        let values: query::Values<'_> = &[&tenant, &connector, &self.now, &ids, &seqs, &results];
        query::execute(self.transaction, RECORD, values).await?;
        Ok(())
    }
}
