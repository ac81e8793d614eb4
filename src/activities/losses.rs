//! What an activity does about workers that were lost at its position (R44, ADR 6): it counts its start before it works and
//! takes that back when it ends by itself, well or not; it works alone in its process where too many were lost; and it
//! finds the record that kills by trying each one alone. On the good path, a first attempt at a position where nothing
//! happened, it does nothing at all.

use std::sync::Arc;

use tokio::{
    runtime::Handle,
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::attempt::Attempt;
use crate::{
    contract::activities::{Lease, StagedRef},
    store::{self, Applied, Losses, RecordKey, Store, Writing},
};

/// Work at a position, from before its start to its end.
pub(super) struct Work<'a> {
    noted: Noted,
    /// As they stand in the store now.
    losses: Losses,
    _company: Company<'a>,
}

/// Who else is at work in this process; only held.
enum Company<'a> {
    Any { _guard: RwLockReadGuard<'a, ()> },
    Nobody { _guard: RwLockWriteGuard<'a, ()> },
}

/// Where starts are noted, and what is to be noted when the work has ended.
struct Noted {
    store: Arc<dyn Store>,
    attempt: Attempt,
    lease: Lease,
    seq: i64,
    /// `None`: nothing was counted.
    at_end: Option<Losses>,
}

impl Noted {
    async fn note(&self, losses: &Losses) -> Result<(), store::Error> {
        self.attempt.patiently(|| self.store.note_losses(&self.lease, self.seq, losses)).await
    }
}

impl Drop for Noted {
    /// A cancelled activity is dropped in its middle: that is an end, too.
    fn drop(&mut self) {
        let Some(at_end) = self.at_end.take() else { return };
        let (store, attempt, lease, seq) = (Arc::clone(&self.store), self.attempt, self.lease.clone(), self.seq);
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { attempt.patiently(|| store.note_losses(&lease, seq, &at_end)).await });
        }
    }
}

impl<'a> Work<'a> {
    /// Looks at what was lost at this position, and waits until nobody else is at work if it must be alone.
    pub(super) async fn at(
        (store, company): (&Arc<dyn Store>, &'a RwLock<()>),
        attempt: Attempt,
        lease: &Lease,
        seq: i64,
    ) -> Result<Self, store::Error> {
        let noted = Noted { store: Arc::clone(store), attempt, lease: lease.clone(), seq, at_end: None };
        let suspicious = attempt.number > 1 || lease.careful;
        let losses = match suspicious {
            true => attempt.patiently(|| store.losses(lease, seq)).await?,
            false => Losses::default(),
        };
        let company = match losses.alone() {
            true => Company::Nobody { _guard: company.write().await },
            false => Company::Any { _guard: company.read().await },
        };
        let mut work = Self { noted, losses, _company: company };
        work.noted.at_end = suspicious.then(|| work.losses.clone());
        Ok(work)
    }

    /// Before a fetch: whether to leave what is at the position, because it killed too often.
    pub(super) async fn begin_reading(&mut self) -> Result<bool, store::Error> {
        let give_up = self.losses.reading_given_up();
        self.start(|losses| losses.reads += 1).await?;
        Ok(give_up)
    }

    /// After it: an answer that came back proves the position readable.
    pub(super) async fn end_reading(mut self, well: bool) {
        if let Some(at_end) = self.noted.at_end.as_mut().filter(|_| well) {
            at_end.reads = 0;
        }
        self.end().await;
    }

    /// Writes a commit; where workers were lost, of one batch.
    pub(super) async fn write(mut self, commit: &[StagedRef]) -> Result<Applied, Unwritten> {
        let applied = self.try_to_write(commit).await;
        self.end().await;
        applied
    }

    async fn try_to_write(&mut self, commit: &[StagedRef]) -> Result<Applied, Unwritten> {
        match self.losses.writing() {
            Writing::Whole => {}
            Writing::OneByOne => self.find_killer(&commit[0]).await?,
            Writing::WithoutRecords => self.losses.left_out = self.records(&commit[0]).await?,
            Writing::Refused => return Err(Unwritten::KillsWorkers),
        }
        self.start(|losses| losses.writes += 1).await?;
        Ok(self.noted.attempt.patiently(|| self.noted.store.apply(&self.noted.lease, commit)).await?)
    }

    /// Tries each record alone, the one that killed before first; what comes back from all of them may be written.
    async fn find_killer(&mut self, batch: &StagedRef) -> Result<(), store::Error> {
        self.losses.leave_out_killer();
        let mut records = self.records(batch).await?;
        records.retain(|record| !self.losses.left_out.contains(record));
        let suspect = self.losses.record.as_ref().map(|(record, _)| record.clone());
        records.sort_by_key(|record| Some(record) != suspect.as_ref());
        // Whatever becomes of the rest: the killer stays found, and who was suspected in vain is tried again.
        self.noted.at_end = Some(self.losses.clone());
        for record in &records {
            self.start(|losses| losses.start_record(record)).await?;
            let probe = || self.noted.store.probe(&self.noted.lease, batch, record);
            self.noted.attempt.patiently(probe).await?;
        }
        self.losses.record = None;
        self.noted.at_end = Some(self.losses.clone());
        Ok(())
    }

    /// The batch's records; opening it may kill, too, so it counts until it has come back.
    async fn records(&mut self, batch: &StagedRef) -> Result<Vec<RecordKey>, store::Error> {
        self.start(|losses| losses.writes += 1).await?;
        let records = || self.noted.store.staged_records(&self.noted.lease, batch);
        let records = self.noted.attempt.patiently(records).await?;
        self.losses.writes -= 1;
        Ok(records)
    }

    /// Counts a start where starts are counted, before anything is done.
    async fn start(&mut self, count: impl FnOnce(&mut Losses)) -> Result<(), store::Error> {
        if self.noted.at_end.is_none() {
            return Ok(());
        }
        count(&mut self.losses);
        self.noted.note(&self.losses).await
    }

    /// The work came back, whatever it says. After a commit the position is another one and nothing is noted.
    async fn end(mut self) {
        if let Some(at_end) = self.noted.at_end.take() {
            // A count too many, if the store is away now: it takes several at one position to matter.
            drop(self.noted.note(&at_end).await);
        }
    }
}

/// Why a commit was not written.
pub(super) enum Unwritten {
    /// The store's reason.
    Store(store::Error),
    /// Workers die of this batch even without its records: it is not begun any more.
    KillsWorkers,
}

impl From<store::Error> for Unwritten {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::{
        model::{
            batch::BatchWriter,
            config::{ConnectorConfig, DataPolicy, SourceConfig},
            cursor::{Cursor, Load},
            entity::Entity,
            record::{Cell, Row},
            stream::Stream,
        },
        store::{
            ConnectorProjection, DesiredState, LeaseRequest, LetterSelection, NewStaged, Owner, RunOutcome,
            TenantProjection,
        },
    };

    /// A connector with a batch of three contacts staged at its position.
    struct World {
        store: Arc<dyn Store>,
        company: RwLock<()>,
        lease: Lease,
        batch: StagedRef,
        _directory: tempfile::TempDir,
    }

    fn load() -> Load {
        let stream = Stream { name: "contacts", entity: Entity::Contact, id_prefix: "" };
        Load::begin(&Cursor::default(), 0, true, &[stream], jiff::Timestamp::UNIX_EPOCH)
    }

    fn projection() -> ConnectorProjection {
        ConnectorProjection {
            tenant_id: "acme".parse().expect("id"),
            connector_id: "hubspot".parse().expect("id"),
            owner: owner(),
            uid: "uid".to_owned(),
            generation: 1,
            desired_state: DesiredState::Running,
            config: ConnectorConfig {
                source: SourceConfig::Hubspot { base_url: None },
                streams: Vec::new(),
                batch_size: 100,
                requests_per_second: None,
                quota_reserve_percent: 0,
                max_rejected_percent: 100,
                max_swept_percent: 10,
                data_policy: DataPolicy::Retain,
            },
            credential: None,
            own_schedule: false,
            wishes: std::collections::BTreeMap::new(),
        }
    }

    fn owner() -> Owner {
        Owner { cluster_id: String::new(), namespace: "team".to_owned(), name: "acme".to_owned() }
    }

    fn contacts() -> NewStaged {
        let mut writer = BatchWriter::default();
        for id in ["1", "2", "3"] {
            writer.push(
                &Row {
                    entity: Entity::Contact,
                    source_id: id.into(),
                    source_created_at: None,
                    source_updated_at: None,
                    deleted_at: None,
                    merged_into_source_id: None,
                    cells: vec![Cell::Null; Entity::Contact.columns().len()],
                },
                b"{}",
            );
        }
        NewStaged { seq: 0, next: load(), entity_type: String::new(), payload: writer.finish(), record_count: 3 }
    }

    async fn world() -> World {
        let directory = tempfile::tempdir().expect("directory");
        let url = format!("sqlite:{}", directory.path().join("store").display());
        let store = store::open(&url).await.expect("opens");
        store.migrate().await.expect("migrates");
        let projection = projection();
        let (tenant_id, connector_id) = (projection.tenant_id.clone(), projection.connector_id.clone());
        let tenant = TenantProjection {
            tenant_id: tenant_id.clone(),
            owner: owner(),
            uid: "t".to_owned(),
            wait_seconds: None,
            dedicated: false,
        };
        store.put_tenant(&tenant).await.expect("projects");
        store.put_connector(&projection).await.expect("projects");
        let request = LeaseRequest {
            tenant_id,
            connector_id,
            uid: projection.uid,
            revision: 1,
            account_id: "account".to_owned(),
            workflow_id: "run".to_owned(),
            full_sync: true,
            expected_epoch: None,
            former_outcome: RunOutcome::Terminated,
            load: load(),
            restart_load: false,
            tenant_syncs: None,
        };
        let lease = store.take_lease(&request).await.expect("a free lease").lease;
        let staged_id = store.stage(&lease, &contacts()).await.expect("stages");
        let batch = StagedRef { staged_id, seq: 0 };
        World { store, company: RwLock::default(), lease, batch, _directory: directory }
    }

    impl World {
        async fn work(&self, attempt: u32) -> Work<'_> {
            let attempt = Attempt::numbered(attempt);
            Work::at((&self.store, &self.company), attempt, &self.lease, 0).await.expect("the store is up")
        }

        async fn losses(&self) -> Losses {
            self.store.losses(&self.lease, 0).await.expect("reads")
        }

        /// A worker is lost while it writes: while it tries this record alone, or with the whole batch.
        async fn die_writing(&self, record: Option<&str>) {
            let mut work = self.work(2).await;
            if work.losses.writing() == Writing::OneByOne {
                work.losses.leave_out_killer();
                if let Some(id) = record.filter(|id| work.losses.left_out.iter().all(|key| key.source_id != **id)) {
                    work.start(|losses| losses.start_record(&key(id))).await.expect("counts");
                    return work.die();
                }
                work.losses.record = None;
            }
            work.start(|losses| losses.writes += 1).await.expect("counts");
            work.die();
        }

        async fn letters(&self) -> Vec<String> {
            let all = LetterSelection::default();
            let (tenant, connector) = (&self.lease.tenant_id, &self.lease.connector_id);
            let letters = self.store.dead_letters(tenant, connector, &all, None, 10).await.expect("lists");
            letters.into_iter().filter_map(|letter| letter.source_id).collect()
        }
    }

    impl Work<'_> {
        /// Nothing of a lost worker goes on, and a new process has new locks.
        fn die(mut self) {
            self.noted.at_end = None;
        }
    }

    fn key(id: &str) -> RecordKey {
        RecordKey { entity: Entity::Contact, source_id: id.to_owned() }
    }

    #[tokio::test]
    async fn what_ends_by_itself_counts_nothing_and_what_dies_counts() {
        let world = world().await;
        let mut first = world.work(1).await;
        assert!(!first.begin_reading().await.expect("begins"));
        first.die();
        assert_eq!(world.losses().await, Losses::default(), "a first attempt costs nothing");
        let mut second = world.work(2).await;
        second.begin_reading().await.expect("begins");
        assert_eq!(world.losses().await.reads, 1, "counted before it works");
        second.end_reading(false).await;
        assert_eq!(world.losses().await, Losses::default(), "a source that is away kills nobody");
        for died in 1..=5 {
            let mut work = world.work(2).await;
            assert!(!work.begin_reading().await.expect("begins"));
            work.die();
            assert_eq!(world.losses().await.reads, died);
        }
        let mut work = world.work(1 + 1).await;
        assert!(work.begin_reading().await.expect("begins"), "six starts without an end are enough");
        work.end_reading(true).await;
        assert_eq!(world.losses().await, Losses::default());
    }

    #[tokio::test]
    async fn a_cancelled_activity_has_ended() {
        let world = world().await;
        let mut work = world.work(2).await;
        work.begin_reading().await.expect("begins");
        drop(work);
        let taken_back = async {
            while !world.losses().await.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), taken_back).await.expect("the start is taken back");
    }

    #[tokio::test]
    async fn after_three_starts_work_waits_until_nobody_else_is_at_work() {
        let world = world().await;
        let neighbour = world.work(1).await;
        for _ in 0..2 {
            world.die_writing(None).await;
        }
        let alone = world.work(2);
        let mut alone = std::pin::pin!(alone);
        assert!(timeout(Duration::from_millis(200), &mut alone).await.is_err(), "a neighbour is at work");
        drop(neighbour);
        let alone = timeout(Duration::from_secs(30), alone).await.expect("now it is alone");
        assert!(timeout(Duration::from_millis(200), world.work(1)).await.is_err(), "and stays so");
        alone.die();
        timeout(Duration::from_secs(30), world.work(1)).await.expect("until it has ended");
    }

    #[tokio::test]
    async fn the_record_that_kills_is_left_out_and_the_others_are_written() {
        let world = world().await;
        let mut deaths = 0;
        while world.losses().await.record.is_none_or(|(_, starts)| starts < 3) {
            world.die_writing(Some("2")).await;
            deaths += 1;
        }
        assert_eq!(deaths, 5, "two that are counted, three alone");
        let written = world.work(2).await.write(std::slice::from_ref(&world.batch)).await;
        let applied = written.unwrap_or_else(|_| panic!("written"));
        assert_eq!((applied.stats.records_written, applied.stats.errors_count), (2, 1));
        assert_eq!(world.letters().await, ["2"]);
    }

    #[tokio::test]
    async fn a_suspect_that_survives_is_cleared() {
        let world = world().await;
        for _ in 0..4 {
            world.die_writing(Some("2")).await;
        }
        let written = world.work(2).await.write(std::slice::from_ref(&world.batch)).await;
        assert_eq!(written.unwrap_or_else(|_| panic!("written")).stats.records_written, 3);
        assert_eq!(world.letters().await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_batch_that_kills_without_a_guilty_record_is_written_without_any_and_at_last_refused() {
        for (deaths, letters) in [(4, 0), (5, 3)] {
            let world = world().await;
            for _ in 0..deaths {
                world.die_writing(None).await;
            }
            let written = world.work(2).await.write(std::slice::from_ref(&world.batch)).await;
            assert_eq!(written.unwrap_or_else(|_| panic!("written")).stats.errors_count, letters);
        }
        let world = world().await;
        for _ in 0..8 {
            world.die_writing(None).await;
        }
        let refused = world.work(2).await.write(std::slice::from_ref(&world.batch)).await;
        assert!(matches!(refused, Err(Unwritten::KillsWorkers)));
    }
}
