//! Condition types and reasons of both kinds, each spelled once: GitOps tools, alerts and people match on them.
//! Which condition holds when is the operator's; nothing here decides.
//! The thresholds are those of the seed's "Key Metrics to Watch".

/// Declares each constant and lists it with its documentation, for docs/crd-reference.md.
macro_rules! documented {
    ($(#[doc = $all:literal])* $list:ident; $($(#[doc = $doc:literal])+ $name:ident = $value:literal,)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $value;)+

        $(#[doc = $all])*
        pub const $list: &[(&str, &str)] = &[$(($value, concat!($($doc),+))),+];
    };
}

documented! {
    /// Every condition type and what it means.
    TYPES;

    /// The control plane did what the spec asks. Never depends on pods or on a source being well.
    READY = "Ready",
    /// The schedule in Temporal is what the spec asks for. Says nothing about pauses. On a Connector only with a schedule of its own.
    SYNCED = "Synced",
    /// The source accepts the credential. On a Connector only.
    CONNECTED = "Connected",
    /// The last sync completed, within 30 minutes and with at most 10 failed batches, what is stored is all there is and not older than `spec.freshnessTarget`; at most 3 syncs failed within a day, and at most a fifth of its activities' attempts were retries.
    HEALTHY = "Healthy",
    /// A run is at work. On a Connector only.
    SYNCING = "Syncing",
    /// The workers' pods are ready. On a TenantSchedule only, and only where the operator deploys the workers.
    WORKERS_AVAILABLE = "WorkersAvailable",
    /// kstatus: the operator is still at it. Present only while true, never together with `Stalled`.
    RECONCILING = "Reconciling",
    /// kstatus: nothing will change until somebody edits something. Present only while true.
    STALLED = "Stalled",
}

/// Reasons: one CamelCase word each, the same in conditions and Events.
pub mod reason {
    documented! {
        /// Every reason and what it means.
        REASONS;

        /// Ready: the schedule stands in Temporal as the spec asks.
        SCHEDULED = "Scheduled",
        /// Ready: the Connector is projected into the store.
        CONFIGURED = "Configured",
        /// Ready: the tenant's schedules are paused by `spec.suspend`.
        SUSPENDED = "Suspended",
        /// Ready: somebody paused the schedule in Temporal, and `spec.pausePolicy` lets it be.
        PAUSED_BY_PERSON = "PausedByPerson",
        /// Ready, but not healthy: Temporal paused the schedule because a run failed (`spec.pauseOnFailure`).
        PAUSED_BY_FAILURE = "PausedByFailure",
        /// Ready: `spec.endAt` has passed, or the runs that somebody limited in Temporal are used up; no tick comes any more.
        COMPLETED = "Completed",
        /// Ready: the Connector is paused by `spec.state`.
        PAUSED = "Paused",
        /// Ready: the Connector is stopped by `spec.state`.
        STOPPED = "Stopped",

        /// Not ready: the spec cannot be carried out as it is.
        INVALID_SPEC = "InvalidSpec",
        /// Not ready: another TenantSchedule holds this tenant.
        TENANT_CONFLICT = "TenantConflict",
        /// Not ready: as many tenants as may have workers of their own have them; it goes on as before until one leaves them.
        TOO_MANY_POOLS = "TooManyPools",
        /// Not ready: no TenantSchedule of this tenant is ready in the Connector's namespace.
        TENANT_SCHEDULE_NOT_FOUND = "TenantScheduleNotFound",
        /// Not ready: another Connector has the same joined name `sync-{tenant}-{connector}`.
        NAME_TAKEN = "NameTaken",
        /// Not ready: the referenced Secret is not there.
        SECRET_NOT_FOUND = "SecretNotFound",
        /// Not ready: the operator may not read the referenced Secret.
        SECRET_FORBIDDEN = "SecretForbidden",
        /// Not ready: the Secret lacks the key.
        SECRET_KEY_MISSING = "SecretKeyMissing",
        /// Not ready: the Secret's value or the sealed string is no usable credential.
        INVALID_CREDENTIALS = "InvalidCredentials",
        /// Not ready: a schedule with our id exists in Temporal and belongs to somebody else.
        SCHEDULE_CONFLICT = "ScheduleConflict",
        /// Not ready: a cron workflow started by hand already runs for this tenant.
        LEGACY_CRON = "LegacyCron",
        /// Not ready: Temporal found no time at which the schedule would ever fire.
        NEVER_FIRES = "NeverFires",
        /// Not ready: Temporal refused the schedule.
        SCHEDULE_REFUSED = "ScheduleRefused",
        /// Not ready: deletion waits, because Temporal or the store cannot be reached.
        CLEANUP_BLOCKED = "CleanupBlocked",
        /// Not ready: Temporal is away and this object's desired state is not applied yet.
        TEMPORAL_UNAVAILABLE = "TemporalUnavailable",
        /// Not ready: the store is away and this object's desired state is not applied yet.
        STORE_UNAVAILABLE = "StoreUnavailable",
        /// Not ready: a step of ours failed in a way nobody foresaw; it is tried again.
        INTERNAL_ERROR = "InternalError",

        /// Synced: the schedule is as the spec asks.
        IN_SYNC = "InSync",
        /// Synced: the schedule was edited in Temporal, and the edit was undone.
        DRIFT_CORRECTED = "DriftCorrected",
        /// Not synced: the schedule was edited in Temporal, and `spec.driftPolicy` leaves it so.
        DRIFT_REPORTED = "DriftReported",

        /// Connected: the last check or sync authenticated.
        AUTHENTICATED = "Authenticated",
        /// Connected unknown: not yet checked with this credential.
        CHECK_PENDING = "CheckPending",
        /// Not connected: the source refused the credential.
        CREDENTIALS_REFUSED = "CredentialsRefused",
        /// Connected unknown: the source could not be reached.
        SOURCE_UNREACHABLE = "SourceUnreachable",

        /// Healthy: the last sync completed within the thresholds.
        LAST_SYNC_SUCCEEDED = "LastSyncSucceeded",
        /// Healthy unknown: there was no sync yet.
        NO_SYNC_YET = "NoSyncYet",
        /// Not healthy: the last sync failed.
        LAST_SYNC_FAILED = "LastSyncFailed",
        /// Not healthy: the last sync failed, and so did all restarts of `spec.autoRestart`; the next tick tries again.
        RESTARTS_EXHAUSTED = "RestartsExhausted",
        /// Not healthy: more than 3 syncs failed within 24 hours.
        TOO_MANY_FAILURES = "TooManyFailures",
        /// Not healthy: more than 20 % of the activity attempts of the newest syncs of the last 24 hours were retries.
        TOO_MANY_RETRIES = "TooManyRetries",
        /// Not healthy: no sync has completed within `spec.freshnessTarget`; the message says what else is wrong.
        STALE = "Stale",
        /// Not healthy: at least one stream could not be read.
        STREAM_FAILED = "StreamFailed",
        /// Not healthy: more than 10 batches of the last sync had rejected records.
        TOO_MANY_FAILED_BATCHES = "TooManyFailedBatches",
        /// Not healthy: a sync did not find a suspicious share of a stream's rows at the source and deleted none of them; `spec.requests.confirmSweep` deletes them.
        SWEEP_SUSPICIOUS = "SweepSuspicious",
        /// Not healthy: what a source counts and what is here did not agree twice in a row.
        COUNT_MISMATCH = "CountMismatch",
        /// Not healthy: the sync is at work for more than 30 minutes.
        SYNC_SLOW = "SyncSlow",
        /// Not healthy: a tick should have started a sync and did not, though Temporal answers: `status.overdueSince`.
        OVERDUE = "Overdue",
        /// Not healthy: at least one of the tenant's Connectors is not.
        CONNECTORS_FAILING = "ConnectorsFailing",

        /// Workers available: at least one pod is ready.
        PODS_READY = "PodsReady",
        /// Workers available: their pods come when there is something to do, and leave afterwards.
        ON_DEMAND = "OnDemand",
        /// Workers available: pods are ready, but those of a newer build do not get ready, and take no work.
        ROLLOUT_STALLED = "RolloutStalled",
        /// Workers not available: no pod of the build that takes new runs is ready.
        NO_PODS_READY = "NoPodsReady",
        /// Workers not available: the API server refuses their Deployment: check `spec.workers`.
        DEPLOYMENT_REFUSED = "DeploymentRefused",
        /// Workers unknown: their Deployment was not seen yet.
        DEPLOYMENT_PENDING = "DeploymentPending",

        /// Syncing: a run is at work.
        RUNNING = "Running",
        /// Syncing: the run waits for a quota or an outage to end.
        PARKED = "Parked",
        /// Not syncing.
        IDLE = "Idle",

        /// Reconciling: first steps.
        PROGRESSING = "Progressing",
        /// Reconciling: a step failed and is tried again.
        PROGRESSING_WITH_RETRY = "ProgressingWithRetry",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn types_and_reasons_are_one_camel_case_word_each_and_spelled_once() {
        let all: Vec<&str> = TYPES.iter().chain(reason::REASONS).map(|(name, _)| *name).collect();
        for name in &all {
            assert!(name.starts_with(|first: char| first.is_ascii_uppercase()), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{name}");
        }
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }
}
