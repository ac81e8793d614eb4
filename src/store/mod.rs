//! The store: registry, credentials, staging, canonical rows, cursors, runs, dead letters. One trait, two implementations
//! (`postgres/`, `sqlite/`), one conformance suite (`conformance/`, compiled into tests only). Knows no Temporal, no Kubernetes, no vendor.
//!
//! Promises every implementation keeps:
//! - A batch's rows, rejections, counts and position commit in one transaction whose last statement is the fence:
//!   `UPDATE sync_state … WHERE epoch = $e AND next_seq = $n` and the connector's uid and desired state as they were leased (R1, R19, R30).
//! - A staged batch is immutable, attempt-unique and deleted by the commit that applies it (R13).
//! - Unchanged rows are not rewritten; an older version never overwrites a newer one (R9, R37).
//! - Error texts hold SQLSTATE and names, never values (R18).

pub mod error;
mod findings;
mod grants;
mod held;
mod incoming;
mod leader;
mod losses;
pub mod postgres;
mod projection;
mod purge;
mod quotes;
mod record_ids;
mod share;
pub mod sqlite;
mod stored;
mod tally;
pub mod types;
mod wish_outcome;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;

pub use error::Error;
pub use losses::{Losses, RecordKey, Writing};
pub use types::*;

use crate::{
    contract::{
        activities::{Effort, Lease, Parked, StagedRef},
        workflows::{ConnectionStatus, FailedRecord},
    },
    credentials::TokenStore,
    ids::{ConnectorId, TenantId},
    key_files::KeyFiles,
    model::entity::Entity,
    settings::StoreSettings,
};

/// Lowest and highest schema version this build works with (R25: a release only expands).
pub const SCHEMA_VERSIONS: std::ops::RangeInclusive<i32> = 4..=4;

/// The store. Every method is one transaction unless it says otherwise; `now` is the database's own clock.
#[async_trait]
pub trait Store: TokenStore + Send + Sync {
    // --- whole database -------------------------------------------------------------------------------------------

    /// Brings the schema to this build's version under an advisory lock. Operator and `gtm-sync migrate` only (R25).
    ///
    /// # Idempotency
    /// Every migration is safe to run twice; two callers wait for each other.
    async fn migrate(&self) -> Result<(), Error>;

    /// The schema's version; `0` for an empty database.
    async fn schema_version(&self) -> Result<i32, Error>;

    /// The installation id, drawn once per database (R17).
    async fn installation_id(&self) -> Result<String, Error>;

    /// Takes the leadership of operators that compete for the same thing, `of`. The handle returned is the new leader's.
    /// From now on whatever an operator writes through the handle of a former one, and its look at claims with which it
    /// begins, is refused with `NotLeader` (R26). Handles of no leader, as `open` gives them, are never refused.
    async fn take_leadership(&self, of: &str) -> Result<Arc<dyn Store>, Error>;

    // --- operator: projection -------------------------------------------------------------------------------------

    /// Writes a tenant's projection if (cluster id, namespace) holds or may take its claim (R5):
    /// the first insert wins for good, the same (cluster id, namespace, name) may write again whatever its uid (R45).
    /// Another name of the same namespace takes the claim over once its holder is removed.
    /// Of those that want workers of their own the first `MAX_DEDICATED_POOLS` get them, and keep them until they leave or are removed.
    ///
    /// # Idempotency
    /// By content; an equal projection writes nothing.
    async fn put_tenant(&self, tenant: &TenantProjection) -> Result<ClaimOutcome, Error>;

    /// Marks the tenant removed: ticks list nothing, its runs stop at the next batch. The claim stays with its
    /// namespace (R5), rows stay. Does nothing unless (cluster id, namespace, name) is the claim's.
    async fn remove_tenant(&self, tenant: &TenantId, owner: &Owner) -> Result<(), Error>;

    /// Gives a tenant's claim up, for whoever asks next, in another namespace or cluster, too (R5); marks its Connectors removed,
    /// as their next projection undoes. For people: an operator whose TenantSchedule is there takes it again. Whether `owner` held it.
    async fn release_tenant(&self, tenant: &TenantId, owner: &Owner) -> Result<bool, Error>;

    /// Who holds a tenant's claim, removed or not.
    async fn tenant_claim(&self, tenant: &TenantId) -> Result<Option<TenantClaim>, Error>;

    /// The tenants of a cluster id that have or had workers of their own, by tenant id.
    async fn dedicated_pools(&self, cluster_id: &str) -> Result<Vec<DedicatedPool>, Error>;

    /// Records tokens of a tenant, before what they ask for is done in Temporal (R8), where they differ from the last
    /// recorded ones of their verbs. Answers those that the life `uid` of the object recorded, with the time: they are
    /// done, or to be done under a name made of the token. Tokens of a former life are nobody's to do any more; so are those
    /// recorded under an empty `uid`, at first sight.
    ///
    /// # Idempotency
    /// By token: a repeated call answers the same.
    async fn record_tenant_tokens(
        &self,
        tenant: &TenantId,
        uid: &str,
        tokens: &BTreeMap<TenantVerb, String>,
    ) -> Result<BTreeMap<TenantVerb, Timestamp>, Error>;

    /// Writes a connector's projection, its base credential and the handling of its tokens as one revision in one
    /// transaction (R29). The base credential is rewritten only when `digest` differs from the stored one, which drops
    /// the overlay, increments the credential's revision and sets `connection_status` to pending (R7). The same content sealed
    /// with another key replaces the ciphertext and no more: the overlay stays, for `reseal` to follow.
    /// Tokens present at the first sight of a uid are recorded as handled, not executed (R8): a CR restored from a
    /// backup repeats no verb. What a fresh wish changes in the store takes effect here: `ResetCursor` forgets cursors,
    /// load and account binding and takes the lease from a run at work, which ends as failed; `Replay` marks dead letters
    /// of the present account, `Discard` deletes any; `Resync` notes the range, and `ConfirmSweep` how many rows the sweeps may delete that were refused.
    ///
    /// # Errors
    /// `Refused` (`TenantClaimedElsewhere`) when the tenant's claim is another namespace's (R5).
    ///
    /// # Idempotency
    /// By content; an equal projection writes nothing and returns the same answer, without the fresh tokens:
    /// `handled` goes on telling them with the time of their recording.
    async fn put_connector(&self, connector: &ConnectorProjection) -> Result<ConnectorAnswer, Error>;

    /// Marks a connector removed: not listed any more, its runs are refused at the next batch; rows stay. Does nothing
    /// unless `uid` is that of its CR as last projected: a removal that comes late is not of the CR's next life (R45).
    async fn remove_connector(&self, tenant: &TenantId, connector: &ConnectorId, uid: &str) -> Result<(), Error>;

    /// All projected connectors of a cluster id (removed ones too), for the full compare and the sweep (R29, R11).
    async fn projected_connectors(&self, cluster_id: &str) -> Result<Vec<ProjectedConnector>, Error>;

    /// Status rows of connectors whose state or run changed at or after `since` (`None` = all). The caller overlaps by
    /// 60 s, because a transaction may commit after a later one was read (R27).
    async fn connector_statuses(&self, since: Option<Timestamp>) -> Result<StatusPage, Error>;

    // --- workers: tick and lease ----------------------------------------------------------------------------------

    /// The tenant's running, connected connectors and how long a tick may wait for them; empty for an unknown or
    /// removed tenant. (Suspension pauses schedules, not this: a manual start still works.)
    async fn list_connected(&self, tenant: &TenantId) -> Result<TenantListing, Error>;

    /// Which workers serve a connector, and with which keys its credential is sealed; the shared ones for an unknown tenant.
    async fn route(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Route, Error>;

    /// Everything a worker needs to run a connector; `None` if unknown or removed.
    async fn connector(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Option<ConnectorRecord>, Error>;

    /// Records what a check or an `authenticate` found, if `credential_revision` is still the stored one (R23).
    /// A first `account_id` is kept; a different one is refused with `Error::AccountChanged` until it is reset (R4).
    async fn set_connection(
        &self,
        tenant: &TenantId,
        connector: &ConnectorId,
        credential_revision: i64,
        found: &ConnectionFound,
    ) -> Result<(), Error>;

    /// Asks for one of the tenant's places (R42). Whoever asks stands in a line by the time of its first question, a run that
    /// was parked by its start, and keeps its place there until it takes its lease; the places of those ahead are theirs. Who
    /// has a place already is not asked to wait.
    ///
    /// # Idempotency
    /// Asking again keeps the place in the line.
    async fn ask_for_turn(&self, request: &TurnRequest) -> Result<Turn, Error>;

    /// Closes the run of somebody who ended without a word, and frees its lease (R12); its load stays, what it staged dies
    /// with the next lease. The caller has seen in Temporal that it is closed, after it had read this epoch.
    ///
    /// # Errors
    /// `StaleRun` when it is not the holder any more.
    async fn close_run(&self, dead: &DeadRun) -> Result<(), Error>;

    /// Who holds the lease, if anybody.
    async fn lease_holder(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Option<LeaseHolder>, Error>;

    /// Takes the lease (R12): new random epoch, `run_no + 1`; drops staged batches of the connector; closes the former
    /// holder's run row as `former_outcome` unless it is the same workflow id, whose counts go on; inserts or reopens
    /// the run row; begins `request.load` where none is in progress. A compare on `request.expected_epoch`.
    /// A workflow id whose run ended by `finish_run` starts a new run: a manual start used twice counts from zero.
    ///
    /// # Errors
    /// `StaleRun` when the holder is not `expected_epoch` any more, or the connector not of that revision; `Stopped` when the
    /// connector is not Running, not of that uid, or its tenant is removed; `AccountChanged` when its rows are another
    /// account's; `NoPlace` when `request.tenant_syncs` others of the tenant are at work.
    async fn take_lease(&self, request: &LeaseRequest) -> Result<LeaseGranted, Error>;

    /// The resume point and cursor as committed, checked against the lease.
    ///
    /// # Errors
    /// `StaleRun` when the lease is another's.
    async fn sync_state(&self, lease: &Lease) -> Result<SyncState, Error>;

    // --- workers: the data path -----------------------------------------------------------------------------------

    /// Stages a batch under a fresh id.
    ///
    /// # Errors
    /// `StaleRun` when the lease is another's.
    async fn stage(&self, lease: &Lease, batch: &NewStaged) -> Result<String, Error>;

    /// The next position of a staged batch that waits under this lease; `None` if it is gone (applied, or its lease lost).
    async fn staged_next(&self, lease: &Lease, staged_id: &str) -> Result<Option<crate::model::cursor::Load>, Error>;

    /// Applies staged batches in order as one fenced commit: rows and tombstones by version and hash, rejections into
    /// dead letters with one entry a batch, counts, position; deletes the staged batches. Rows that the database refuses
    /// are isolated and become dead letters too, so that the good ones land. Older dead letters of the batches' records
    /// are resolved: the record has landed, or a newer letter stands for it. Ids of streams
    /// that the load reads whole are kept for its sweep.
    ///
    /// # Errors
    /// `StaleRun` (fence, or a staged batch that is missing and not recorded as applied), `Stopped`, `TooManyRejected`
    /// when this call rejects records, holds no replayed ones, and the run's share of rejected records is above the
    /// connector's ceiling (from 100 records on),
    /// `Unreadable` for a batch that another format or a fault left.
    ///
    /// # Idempotency
    /// By staged id: one that is recorded as applied returns its recorded result (R1), for a day; the others of the call
    /// are applied.
    async fn apply(&self, lease: &Lease, batches: &[StagedRef]) -> Result<Applied, Error>;

    /// Dead-letters a whole staged batch: every record into dead letters, one entry, counts, position (R10).
    ///
    /// # Errors
    /// `StaleRun`, `Stopped`. The ceiling is not judged here: a batch that failed three times is stepped past (seed).
    ///
    /// # Idempotency
    /// By staged id, also after an `apply` of it.
    async fn dead_letter(&self, lease: &Lease, batch: &StagedRef, error: &str) -> Result<Applied, Error>;

    /// Workers lost at this position (R44); none when the lease stands elsewhere or is another's.
    async fn losses(&self, lease: &Lease, seq: i64) -> Result<Losses, Error>;

    /// Notes them. The commit that moves the position forgets them; at another position, or under another's lease,
    /// nothing is noted. `apply` makes those left out dead letters (`WorkerLost`) without their payload.
    async fn note_losses(&self, lease: &Lease, seq: i64, losses: &Losses) -> Result<(), Error>;

    /// The records of a staged batch that have an id, each once.
    ///
    /// # Errors
    /// `StaleRun`, `Unreadable`.
    async fn staged_records(&self, lease: &Lease, batch: &StagedRef) -> Result<Vec<RecordKey>, Error>;

    /// Does to one record of a staged batch whatever `apply` does to it, and takes it back: nothing is stored.
    ///
    /// # Errors
    /// `StaleRun`, `Stopped`, `Unreadable`.
    async fn probe(&self, lease: &Lease, batch: &StagedRef, record: &RecordKey) -> Result<(), Error>;

    /// Ends the run: on `Complete` of a finished load moves the cursor to the load's watermark, records its findings and
    /// forgets the load; when it read everything, dead letters from before it are resolved. On `More` and `Failed` the
    /// load stays. Closes the run row, with what the run's activities took, and releases the lease.
    ///
    /// A stopped connector's run can end too.
    ///
    /// # Errors
    /// `StaleRun`; `Refused` (`LoadUnfinished`) for `Complete` of a load that is not at its end: the cursor never jumps.
    ///
    /// # Idempotency
    /// By (lease epoch): a second call returns the recorded end.
    async fn finish_run(&self, lease: &Lease, end: &RunEnd, effort: Effort) -> Result<RunSummary, Error>;

    /// Shows in the run row that the run waits (or goes on, with `None`).
    async fn park(&self, lease: &Lease, parked: Option<&Parked>) -> Result<(), Error>;

    /// The run's dead-letter array: its first `limit` entries; also after the run's end.
    async fn failed_records(&self, lease: &Lease, limit: usize) -> Result<Vec<FailedRecord>, Error>;

    // --- workers: replay and sweep --------------------------------------------------------------------------------

    /// Dead letters above `after` for which a replay is asked, by version number, at most `limit`; only those with an id.
    ///
    /// # Errors
    /// `StaleRun` when the lease is another's.
    async fn replays(&self, lease: &Lease, after: i64, limit: usize) -> Result<Vec<Replay>, Error>;

    /// Begins the sweep of a stream that the load has read whole and whose batches are all applied: notes which of
    /// its live rows the load did not see (R6).
    ///
    /// # Errors
    /// `StaleRun` when the lease is another's.
    ///
    /// # Idempotency
    /// Notes them anew each time.
    async fn begin_sweep(&self, lease: &Lease, entity: Entity, id_prefix: &str) -> Result<SweepScope, Error>;

    /// The noted rows' ids above `after`, by id, at most `limit`.
    ///
    /// # Errors
    /// `StaleRun` when the lease is another's.
    async fn unseen(
        &self,
        lease: &Lease,
        entity: Entity,
        id_prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Error>;

    // --- dead letters, life of the data ---------------------------------------------------------------------------

    /// Dead letters of a connector above `after`, of all its accounts, by version number, at most `limit`.
    async fn dead_letters(
        &self,
        tenant: &TenantId,
        connector: &ConnectorId,
        selection: &LetterSelection,
        after: Option<i64>,
        limit: usize,
    ) -> Result<Vec<DeadLetterRow>, Error>;

    /// Removes what was kept long enough, a bounded number of rows a call.
    ///
    /// # Idempotency
    /// By age; call it again until nothing is removed.
    async fn age(&self, retention: &Retention) -> Result<Aged, Error>;

    /// Erases a person of a tenant: rows with their tombstones, texts of linked activities, dead letters, staged batches.
    /// Runs of the tenant that are at work end as failed; the next ones read again what was not applied.
    /// A record that the source still has comes back with its next change or the next full sync.
    ///
    /// # Idempotency
    /// A second call finds nothing.
    async fn erase(&self, tenant: &TenantId, person: &Person) -> Result<Erased, Error>;

    /// Deletes what is stored of a removed connector whose data policy is Delete, a bounded number of rows a call: first its
    /// credential and where it stands, so that one which comes back meanwhile reads everything again, its registry row last.
    ///
    /// # Errors
    /// `Refused` (`DataRetained`) for a connector that is not removed, or whose data stays.
    ///
    /// # Idempotency
    /// Call it again until it is done; an unknown connector is.
    async fn purge_connector(&self, tenant: &TenantId, connector: &ConnectorId) -> Result<Purged, Error>;

    // --- people on call -------------------------------------------------------------------------------------------

    /// A connector's runs, the newest first, at most `limit`.
    async fn runs(&self, tenant: &TenantId, connector: &ConnectorId, limit: usize) -> Result<Vec<RunRow>, Error>;

    // --- quotas ---------------------------------------------------------------------------------------------------

    /// Takes a grant of up to `want` requests from the budget shared by everybody on one vendor account (R35).
    async fn take_budget(&self, key: &BudgetKey, limit: &BudgetLimit, want: u32) -> Result<BudgetGrant, Error>;

    /// The vendor asked everybody on this account to wait until then.
    async fn park_budget(&self, key: &BudgetKey, until: Timestamp, reason: &str) -> Result<(), Error>;
}

/// What `authenticate` and checks found about a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionFound {
    /// The new status; `None` leaves it as it was (a transient failure, R23).
    pub status: Option<ConnectionStatus>,
    /// Class and names, shown in the CR's condition; empty when connected.
    pub reason: String,
    /// The vendor's account id, when it answered.
    pub account_id: Option<String>,
}

/// Opens `postgres://…` (or `postgresql://…`) or `sqlite:<path>`.
///
/// # Errors
/// For another scheme, or when the database cannot be reached.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, Error> {
    open_with(&StoreSettings::of(url), &KeyFiles::default()).await
}

/// Opens the store that settings name. Its key files are watched as long as it is in use.
///
/// # Errors
/// As `open`; `Refused` for settings that contradict each other, `Unavailable` for files that cannot be used (yet).
pub async fn open_with(settings: &StoreSettings, files: &KeyFiles) -> Result<Arc<dyn Store>, Error> {
    let url = url(settings).await?;
    match url.split_once(':') {
        Some(("sqlite", path)) => Ok(Arc::new(sqlite::SqliteStore::open(path).await?)),
        Some(("postgres" | "postgresql", _)) => {
            Ok(Arc::new(postgres::PostgresStore::open_with(settings, &url, files).await?))
        }
        _ => Err(Error::Url),
    }
}

/// The URL that settings name, by itself or in a file. Holds a password.
///
/// # Errors
/// `Unavailable` when the file cannot be read.
pub async fn url(settings: &StoreSettings) -> Result<String, Error> {
    let Some(path) = &settings.database_url_file else { return Ok(settings.database_url.clone().unwrap_or_default()) };
    let text = tokio::fs::read_to_string(path).await.map_err(|error| Error::Unavailable {
        attempted: "connect",
        code: format!("cannot read {}: {}", path.display(), error.kind()),
    })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}
