//! A store that interrupts its worker: it counts the calls of each *life* (one tenant), and of one of them the work is done
//! and the answer never arrives. Everything else goes on to the real store. Lives do not see each other, so one worker
//! serves many of them at once.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashMap},
    panic,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use gtm_sync::{
    contract::{
        activities::{Effort, Lease, Parked, StagedRef},
        workflows::FailedRecord,
    },
    credentials::{RefreshLock, Sealed, TokenStore, token::Overlay},
    ids::{ConnectorId, TenantId},
    model::{cursor::Load, entity::Entity},
    store::*,
};
use jiff::Timestamp;

/// A lock whose holder died is void after a minute (`TokenStore::lock_refresh`); here after this, so that nobody waits.
const LOCK_ENDS_AFTER: Duration = Duration::from_secs(1);

/// What a method is to the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Changes nothing: one interruption of a kind is enough.
    Reads,
    /// An effect.
    Writes,
    /// Called only where workers or runs were lost; `tests/it/faults/poison.rs` and `tests/it/workflows/shares.rs` lose them.
    AfterLosses,
    /// No activity calls it.
    Operators,
}

/// The `nth` call of a method in a phase of a life, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    pub method: &'static str,
    pub nth: usize,
}

/// What becomes of the call's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// The activity dies with it: the whole activity runs once more.
    ActivityDies,
    /// It is lost as with a connection: the same attempt makes the same call once more.
    AnswerIsLost,
}

/// A phase of a life.
#[derive(Debug, Default)]
pub struct Phase {
    /// Calls that did their work, in their order.
    pub calls: Vec<Call>,
    /// The interruption that is still to come.
    pub awaited: Option<(Call, Interruption)>,
    refuses: Refuses,
}

#[derive(Debug, Default, Clone, Copy)]
enum Refuses {
    #[default]
    Nothing,
    TheNextBatch,
    Batch(i64),
}

/// The store of the lives.
pub struct Interrupting {
    store: Arc<dyn Store>,
    lives: Mutex<Lives>,
}

#[derive(Default)]
struct Lives {
    phases: HashMap<String, Phase>,
    /// Whose vendor account this is.
    accounts: HashMap<String, String>,
    /// Calls that no activity should make.
    strangers: BTreeSet<&'static str>,
}

impl Interrupting {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, lives: Mutex::default() }
    }

    /// This vendor account belongs to this life.
    pub fn owns(&self, life: &str, account: u64) {
        self.lives().accounts.insert(account.to_string(), life.to_owned());
    }

    /// Counts from one, and interrupts this call.
    pub fn begin(&self, life: &str, awaited: Option<(Call, Interruption)>) {
        self.lives().phases.insert(life.to_owned(), Phase { awaited, ..Phase::default() });
    }

    /// The database refuses the data of the batch that this phase applies first, as often as it comes.
    pub fn refuse_first_batch(&self, life: &str) {
        self.lives().phases.get_mut(life).expect("a phase has begun").refuses = Refuses::TheNextBatch;
    }

    /// Ends the phase and tells it.
    pub fn end(&self, life: &str) -> Phase {
        self.lives().phases.remove(life).expect("a phase has begun")
    }

    /// Methods that were called and are said to be no activity's.
    pub fn strangers(&self) -> BTreeSet<&'static str> {
        self.lives().strangers.clone()
    }

    /// Methods that activities call.
    pub fn methods() -> BTreeMap<&'static str, Kind> {
        let called = |kind| matches!(kind, Kind::Reads | Kind::Writes);
        [STORE_METHODS, TOKEN_METHODS].concat().into_iter().filter(|&(_, kind)| called(kind)).collect()
    }

    fn lives(&self) -> MutexGuard<'_, Lives> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn before(&self, life: Option<&str>, method: &'static str, first_batch: Option<i64>) -> Result<(), Error> {
        let mut lives = self.lives();
        let Some(phase) = life.and_then(|life| lives.phases.get_mut(life)) else {
            if life.is_none() {
                lives.strangers.insert(method);
            }
            return Ok(());
        };
        let Some(seq) = first_batch else { return Ok(()) };
        if matches!(phase.refuses, Refuses::TheNextBatch) {
            phase.refuses = Refuses::Batch(seq);
        }
        match phase.refuses {
            Refuses::Batch(refused) if refused == seq => {
                Err(Error::RefusedData { attempted: "write records", code: "22000, on purpose".to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn after<T: 'static>(
        &self,
        life: Option<&str>,
        method: &'static str,
        answer: Result<T, Error>,
    ) -> Result<T, Error> {
        let interruption = match (life, &answer) {
            (Some(life), Ok(_)) => self.counted(life, method),
            _ => None,
        };
        if interruption.is_some()
            && let Some(Ok(Some(lock))) = (&answer as &dyn Any).downcast_ref::<Result<Option<RefreshLock>, Error>>()
        {
            self.end_in_time(lock.clone());
        }
        match interruption {
            None => answer,
            Some(Interruption::AnswerIsLost) => {
                Err(Error::Unavailable { attempted: "answer", code: "lost on purpose".to_owned() })
            }
            // As `panic!`, without its message on stderr.
            Some(Interruption::ActivityDies) => panic::resume_unwind(Box::new("died on purpose")),
        }
    }

    fn counted(&self, life: &str, method: &'static str) -> Option<Interruption> {
        let mut lives = self.lives();
        let phase = lives.phases.get_mut(life)?;
        let call = Call { method, nth: 1 + phase.calls.iter().filter(|call| call.method == method).count() };
        phase.calls.push(call);
        phase.awaited.take_if(|(awaited, _)| *awaited == call).map(|(_, interruption)| interruption)
    }

    fn end_in_time(&self, lock: RefreshLock) {
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            tokio::time::sleep(LOCK_ENDS_AFTER).await;
            store.release_refresh(&lock).await.expect("released");
        });
    }
}

/// Whose life a call belongs to, by its most telling argument.
trait OfLife {
    fn life(&self, store: &Interrupting) -> Option<String>;

    /// Position of the first batch, where the call applies some.
    fn first_batch(&self) -> Option<i64> {
        None
    }
}

/// The calls of an operator.
struct Nobodys;

impl OfLife for Nobodys {
    fn life(&self, _: &Interrupting) -> Option<String> {
        None
    }
}

impl OfLife for &TenantId {
    fn life(&self, _: &Interrupting) -> Option<String> {
        Some(self.to_string())
    }
}

impl OfLife for &Lease {
    fn life(&self, _: &Interrupting) -> Option<String> {
        Some(self.tenant_id.to_string())
    }
}

impl OfLife for (&Lease, &[StagedRef]) {
    fn life(&self, _: &Interrupting) -> Option<String> {
        Some(self.0.tenant_id.to_string())
    }

    fn first_batch(&self) -> Option<i64> {
        self.1.first().map(|batch| batch.seq)
    }
}

impl OfLife for &LeaseRequest {
    fn life(&self, _: &Interrupting) -> Option<String> {
        Some(self.tenant_id.to_string())
    }
}

impl OfLife for &TurnRequest {
    fn life(&self, _: &Interrupting) -> Option<String> {
        Some(self.tenant_id.to_string())
    }
}

impl OfLife for &DeadRun {
    fn life(&self, _: &Interrupting) -> Option<String> {
        Some(self.tenant_id.to_string())
    }
}

impl OfLife for &RefreshLock {
    fn life(&self, _: &Interrupting) -> Option<String> {
        Some(self.tenant.to_string())
    }
}

impl OfLife for &BudgetKey {
    fn life(&self, store: &Interrupting) -> Option<String> {
        // Before the account is known its budget is the connector's own: `{tenant}/{connector}`.
        let own = || self.account_id.split_once('/').map(|(tenant, _)| tenant.to_owned());
        store.lives().accounts.get(&self.account_id).cloned().or_else(own)
    }
}

/// Every method of a trait, with what it is to the workers and whose life it belongs to. A method that is added to the
/// trait has to be added here, and is interrupted then.
macro_rules! every_method {
    ($methods:ident of $trait:ident:
     $($kind:ident($of:expr) $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        const $methods: &[(&str, Kind)] = &[$((stringify!($name), Kind::$kind)),*];

        #[async_trait]
        impl $trait for Interrupting {
            $(
                async fn $name(&self, $($argument: $type),*) -> Result<$answer, Error> {
                    let (life, first_batch) = (OfLife::life(&$of, self), OfLife::first_batch(&$of));
                    self.before(life.as_deref(), stringify!($name), first_batch)?;
                    let answer = self.store.$name($($argument),*).await;
                    self.after(life.as_deref(), stringify!($name), answer)
                }
            )*
        }
    };
}

every_method! { TOKEN_METHODS of TokenStore:
    Reads(tenant) overlay(tenant: &TenantId, connector: &ConnectorId) -> Option<Overlay>;
    Writes(tenant) lock_refresh(tenant: &TenantId, connector: &ConnectorId) -> Option<RefreshLock>;
    Writes(lock) save_overlay(lock: &RefreshLock, credential_revision: i64, sealed: &Sealed) -> ();
    Writes(lock) release_refresh(lock: &RefreshLock) -> ();
}

every_method! { STORE_METHODS of Store:
    Operators(Nobodys) migrate() -> ();
    Operators(Nobodys) schema_version() -> i32;
    Operators(Nobodys) installation_id() -> String;
    Operators(Nobodys) take_leadership(of: &str) -> Arc<dyn Store>;
    Operators(Nobodys) put_tenant(tenant: &TenantProjection) -> ClaimOutcome;
    Operators(Nobodys) remove_tenant(tenant: &TenantId, owner: &Owner) -> ();
    Operators(Nobodys) release_tenant(tenant: &TenantId, owner: &Owner) -> bool;
    Operators(Nobodys) tenant_claim(tenant: &TenantId) -> Option<TenantClaim>;
    Operators(Nobodys) dedicated_pools(cluster_id: &str) -> Vec<DedicatedPool>;
    Operators(Nobodys) record_tenant_tokens(tenant: &TenantId, uid: &str, tokens: &BTreeMap<TenantVerb, String>) -> BTreeMap<TenantVerb, Timestamp>;
    Operators(Nobodys) put_connector(connector: &ConnectorProjection) -> ConnectorAnswer;
    Operators(Nobodys) remove_connector(tenant: &TenantId, connector: &ConnectorId, uid: &str) -> ();
    Operators(Nobodys) projected_connectors(cluster_id: &str) -> Vec<ProjectedConnector>;
    Operators(Nobodys) connector_statuses(since: Option<Timestamp>) -> StatusPage;
    Reads(tenant) list_connected(tenant: &TenantId) -> TenantListing;
    Reads(tenant) route(tenant: &TenantId, connector: &ConnectorId) -> Route;
    Reads(tenant) connector(tenant: &TenantId, connector: &ConnectorId) -> Option<ConnectorRecord>;
    Writes(tenant) set_connection(
        tenant: &TenantId, connector: &ConnectorId, credential_revision: i64, found: &ConnectionFound
    ) -> ();
    Writes(request) ask_for_turn(request: &TurnRequest) -> Turn;
    AfterLosses(dead) close_run(dead: &DeadRun) -> ();
    Reads(tenant) lease_holder(tenant: &TenantId, connector: &ConnectorId) -> Option<LeaseHolder>;
    Writes(request) take_lease(request: &LeaseRequest) -> LeaseGranted;
    Reads(lease) sync_state(lease: &Lease) -> SyncState;
    Writes(lease) stage(lease: &Lease, batch: &NewStaged) -> String;
    Reads(lease) staged_next(lease: &Lease, staged_id: &str) -> Option<Load>;
    Writes((lease, batches)) apply(lease: &Lease, batches: &[StagedRef]) -> Applied;
    Writes(lease) dead_letter(lease: &Lease, batch: &StagedRef, error: &str) -> Applied;
    Writes(lease) finish_run(lease: &Lease, end: &RunEnd, effort: Effort) -> RunSummary;
    Reads(lease) losses(lease: &Lease, seq: i64) -> Losses;
    Writes(lease) note_losses(lease: &Lease, seq: i64, losses: &Losses) -> ();
    AfterLosses(lease) staged_records(lease: &Lease, batch: &StagedRef) -> Vec<RecordKey>;
    AfterLosses(lease) probe(lease: &Lease, batch: &StagedRef, record: &RecordKey) -> ();
    Writes(lease) park(lease: &Lease, parked: Option<&Parked>) -> ();
    Reads(lease) failed_records(lease: &Lease, limit: usize) -> Vec<FailedRecord>;
    Reads(lease) replays(lease: &Lease, after: i64, limit: usize) -> Vec<Replay>;
    Writes(lease) begin_sweep(lease: &Lease, entity: Entity, id_prefix: &str) -> SweepScope;
    Reads(lease) unseen(
        lease: &Lease, entity: Entity, id_prefix: &str, after: Option<&str>, limit: usize
    ) -> Vec<String>;
    Operators(Nobodys) dead_letters(
        tenant: &TenantId, connector: &ConnectorId, selection: &LetterSelection, after: Option<i64>, limit: usize
    ) -> Vec<DeadLetterRow>;
    Operators(Nobodys) age(retention: &Retention) -> Aged;
    Operators(Nobodys) erase(tenant: &TenantId, person: &Person) -> Erased;
    Operators(Nobodys) purge_connector(tenant: &TenantId, connector: &ConnectorId) -> Purged;
    Operators(Nobodys) runs(tenant: &TenantId, connector: &ConnectorId, limit: usize) -> Vec<RunRow>;
    Writes(key) take_budget(key: &BudgetKey, limit: &BudgetLimit, want: u32) -> BudgetGrant;
    Writes(key) park_budget(key: &BudgetKey, until: Timestamp, reason: &str) -> ();
}
