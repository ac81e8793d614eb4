//! Condition types and reasons of both kinds, each spelled once: GitOps tools, alerts and people match on them.
//! Which condition holds when is the operator's; nothing here decides.

/// The control plane did what the spec asks. Never depends on pods or on a source being well.
pub const READY: &str = "Ready";
/// The source accepts the credential. On a Connector only.
pub const CONNECTED: &str = "Connected";
/// The last syncs went as the seed's thresholds ask.
pub const HEALTHY: &str = "Healthy";
/// A run is at work. On a Connector only.
pub const SYNCING: &str = "Syncing";
/// Pods of the tenant's worker pool poll. On a TenantSchedule, only where the operator deploys the workers.
pub const WORKERS_AVAILABLE: &str = "WorkersAvailable";
/// kstatus: the operator is still at it. Present only while true, never together with `STALLED`.
pub const RECONCILING: &str = "Reconciling";
/// kstatus: nothing will change until somebody edits something. Present only while true.
pub const STALLED: &str = "Stalled";

/// Reasons: one CamelCase word each, the same in conditions and Events.
pub mod reason {
    /// Ready: the schedule stands in Temporal as the spec asks.
    pub const SCHEDULED: &str = "Scheduled";
    /// Ready: the Connector is projected into the store.
    pub const CONFIGURED: &str = "Configured";
    /// Ready: the tenant's schedules are paused by `spec.suspend`.
    pub const SUSPENDED: &str = "Suspended";
    /// Ready: the Connector is paused by `spec.state`.
    pub const PAUSED: &str = "Paused";
    /// Ready: the Connector is stopped by `spec.state`.
    pub const STOPPED: &str = "Stopped";

    /// Not ready: the spec cannot be carried out as it is.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// Not ready: another TenantSchedule holds this tenant (R5).
    pub const TENANT_CONFLICT: &str = "TenantConflict";
    /// Not ready: no TenantSchedule of this tenant is ready in the Connector's namespace.
    pub const TENANT_SCHEDULE_NOT_FOUND: &str = "TenantScheduleNotFound";
    /// Not ready: another Connector has the same joined name `sync-{tenant}-{connector}`.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// Not ready: the referenced Secret is not there.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// Not ready: the operator may not read the referenced Secret.
    pub const SECRET_FORBIDDEN: &str = "SecretForbidden";
    /// Not ready: the Secret lacks the key.
    pub const SECRET_KEY_MISSING: &str = "SecretKeyMissing";
    /// Not ready: the Secret's value or the sealed string is no usable credential.
    pub const INVALID_CREDENTIALS: &str = "InvalidCredentials";
    /// Not ready: a schedule with our id exists in Temporal and belongs to somebody else.
    pub const SCHEDULE_CONFLICT: &str = "ScheduleConflict";
    /// Not ready: a cron workflow started by hand already runs for this tenant.
    pub const LEGACY_CRON: &str = "LegacyCron";
    /// Not ready: Temporal found no time at which the schedule would ever fire.
    pub const NEVER_FIRES: &str = "NeverFires";
    /// Not ready: Temporal refused the schedule.
    pub const SCHEDULE_REFUSED: &str = "ScheduleRefused";
    /// Not ready: deletion waits, because Temporal or the store cannot be reached.
    pub const CLEANUP_BLOCKED: &str = "CleanupBlocked";
    /// Not ready: Temporal is away and this object's desired state is not applied yet.
    pub const TEMPORAL_UNAVAILABLE: &str = "TemporalUnavailable";
    /// Not ready: the store is away and this object's desired state is not applied yet.
    pub const STORE_UNAVAILABLE: &str = "StoreUnavailable";
    /// Not ready: a step of ours failed in a way nobody foresaw; it is tried again.
    pub const INTERNAL_ERROR: &str = "InternalError";

    /// Connected: the last check or sync authenticated.
    pub const AUTHENTICATED: &str = "Authenticated";
    /// Connected unknown: not yet checked with this credential.
    pub const CHECK_PENDING: &str = "CheckPending";
    /// Not connected: the source refused the credential.
    pub const CREDENTIALS_REFUSED: &str = "CredentialsRefused";
    /// Connected unknown: the source could not be reached.
    pub const SOURCE_UNREACHABLE: &str = "SourceUnreachable";

    /// Healthy: the last sync completed within the thresholds.
    pub const LAST_SYNC_SUCCEEDED: &str = "LastSyncSucceeded";
    /// Healthy unknown: there was no sync yet.
    pub const NO_SYNC_YET: &str = "NoSyncYet";
    /// Not healthy: the last sync failed.
    pub const LAST_SYNC_FAILED: &str = "LastSyncFailed";
    /// Not healthy: at least one stream could not be read.
    pub const STREAM_FAILED: &str = "StreamFailed";
    /// Not healthy: more than 10 batches of the last sync had rejected records (the seed's threshold).
    pub const TOO_MANY_FAILED_BATCHES: &str = "TooManyFailedBatches";
    /// Not healthy: the sync is at work for more than 30 minutes (the seed's threshold).
    pub const SYNC_SLOW: &str = "SyncSlow";
    /// Not healthy: at least one of the tenant's Connectors is not.
    pub const CONNECTORS_FAILING: &str = "ConnectorsFailing";

    /// Workers: enough pods are ready.
    pub const PODS_READY: &str = "PodsReady";
    /// No workers: their Deployment has no ready pod.
    pub const NO_PODS_READY: &str = "NoPodsReady";
    /// Workers unknown: their Deployment was not seen yet.
    pub const DEPLOYMENT_PENDING: &str = "DeploymentPending";

    /// Syncing: a run is at work.
    pub const RUNNING: &str = "Running";
    /// Syncing: the run waits for a quota or an outage to end.
    pub const PARKED: &str = "Parked";
    /// Not syncing.
    pub const IDLE: &str = "Idle";

    /// Reconciling: first steps.
    pub const PROGRESSING: &str = "Progressing";
    /// Reconciling: a step failed and is tried again.
    pub const PROGRESSING_WITH_RETRY: &str = "ProgressingWithRetry";
}
