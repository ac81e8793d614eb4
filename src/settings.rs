//! Settings, parsed once at the edge from flags and environment and passed in; nobody else reads the environment.
//! Every flag has its variable, so that a Deployment needs no arguments.

mod connections;

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

pub use self::connections::{StoreSettings, TemporalSettings, TemporalTlsSettings};
use crate::ids::TenantId;

/// Logging.
#[derive(Debug, Clone, Args)]
pub struct LogSettings {
    /// Filter in the syntax of `RUST_LOG`, e.g. `info,gtm_sync=debug`.
    #[arg(long, env = "GTM_LOG", default_value = "info,temporalio_sdk_core=warn", global = true)]
    pub log: String,
    /// `text` for people, `json` for machines.
    #[arg(long, env = "GTM_LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where /livez, /readyz and /metrics are served.
#[derive(Debug, Clone, Args)]
pub struct HealthSettings {
    /// Address of the health and metrics server.
    #[arg(long, env = "GTM_HEALTH_ADDRESS", default_value = "0.0.0.0:8080")]
    pub health_address: SocketAddr,
}

/// `gtm-sync operator`.
#[derive(Debug, Clone, Args)]
pub struct OperatorSettings {
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flattened struct documents itself")]
    pub store: StoreSettings,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flattened struct documents itself")]
    pub temporal: TemporalSettings,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flattened struct documents itself")]
    pub health: HealthSettings,
    /// The operator's own namespace: Lease, workers, recipient, identity.
    #[arg(long, env = "GTM_NAMESPACE", default_value = "gtm-sync")]
    pub namespace: String,
    /// Watch these namespaces only, comma-separated; default: all.
    #[arg(long, env = "GTM_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// File with the Deployment of the shared worker pool, as the chart renders it; without it workers run elsewhere.
    /// Its `replicas` are the least that there are; without them an autoscaler of yours decides.
    #[arg(long, env = "GTM_WORKER_TEMPLATE")]
    pub worker_template: Option<PathBuf>,
    /// The most pods that the shared worker pool gets by its load. Default: as many as the least, a fixed number.
    #[arg(long, env = "GTM_WORKER_MAX_REPLICAS")]
    pub worker_max_replicas: Option<u16>,
    /// Seal credentials to this age recipient. Default: the one in ConfigMap `gtm-sync-recipient`, made on first start.
    #[arg(long, env = "GTM_RECIPIENT")]
    pub recipient: Option<String>,
    /// Seconds that a tenant's own workers stay after it left them; below a quarter of an hour, what they had begun starts late elsewhere.
    #[arg(long, env = "GTM_POOL_GRACE_SECONDS", default_value_t = 3_600)]
    pub pool_grace_seconds: u64,
    /// Take no Lease: for a single operator process outside a cluster. Of two, the one that started last goes on.
    #[arg(long, env = "GTM_NO_LEADER_ELECTION")]
    pub no_leader_election: bool,
    /// How long a leader that is silent keeps the Lease, in seconds; it stops acting after two thirds of that.
    #[arg(long, env = "GTM_LEASE_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..=300))]
    pub lease_seconds: u64,
    /// Requests to Temporal a second, of the whole operator; edits go before second looks.
    #[arg(long, env = "GTM_TEMPORAL_REQUESTS_PER_SECOND", default_value_t = 200)]
    pub temporal_requests_per_second: u32,
    /// Requests to Temporal at once, after a pause.
    #[arg(long, env = "GTM_TEMPORAL_REQUEST_BURST", default_value_t = 400)]
    pub temporal_request_burst: u32,
    /// How long between two full compares of CRs, store and Temporal, in seconds (R27, R29).
    #[arg(long, env = "GTM_RESYNC_SECONDS", default_value_t = 600)]
    pub resync_seconds: u64,
    /// Seconds that a tick may start late, beyond its spread, before its object says Overdue.
    #[arg(long, env = "GTM_OVERDUE_SECONDS", default_value_t = 600)]
    pub overdue_seconds: u64,
    /// Seconds that a schedule in Temporal whose object is gone stays there, from when this process first saw it so.
    #[arg(long, env = "GTM_ORPHAN_GRACE_SECONDS", default_value_t = 3_600)]
    pub orphan_grace_seconds: u64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flattened struct documents itself")]
    pub retention: RetentionSettings,
}

/// How long what is only of use for a while is kept.
#[derive(Debug, Clone, Copy, Args)]
pub struct RetentionSettings {
    /// Days that ended runs and their entries are kept; a connector's newest run always stays. 0 = for ever.
    #[arg(long = "retention-runs-days", env = "GTM_RETENTION_RUNS_DAYS", default_value_t = 90)]
    pub runs_days: u32,
    /// Days that payloads of dead letters are kept; the letters stay until they are resolved or discarded. 0 = for ever.
    #[arg(
        long = "retention-dead-letter-payloads-days",
        env = "GTM_RETENTION_DEAD_LETTER_PAYLOADS_DAYS",
        default_value_t = 30
    )]
    pub dead_letter_payloads_days: u32,
    /// Days that rows are kept after their record was deleted at the source. 0 = for ever.
    #[arg(long = "retention-tombstones-days", env = "GTM_RETENTION_TOMBSTONES_DAYS", default_value_t = 0)]
    pub tombstones_days: u32,
    /// Seconds between the deletion of a Connector with dataPolicy Delete and that of its rows.
    #[arg(long, env = "GTM_PURGE_GRACE_SECONDS", default_value_t = 86_400)]
    pub purge_grace_seconds: u64,
}

/// `gtm-sync worker`.
#[derive(Debug, Clone, Args)]
pub struct WorkerSettings {
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flattened struct documents itself")]
    pub store: StoreSettings,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flattened struct documents itself")]
    pub temporal: TemporalSettings,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flattened struct documents itself")]
    pub health: HealthSettings,
    /// Serve this tenant only: its activities, from the queue `connector-sync-{tenant}`. Default: the workflows of all
    /// tenants, and the activities of those that have no workers of their own.
    #[arg(long, env = "GTM_POOL")]
    pub pool: Option<TenantId>,
    /// File with the age identities that open credentials, one a line.
    #[arg(long, env = "GTM_IDENTITY_FILE")]
    pub identity_file: PathBuf,
    /// Directory with the recipients of all pools, as ConfigMap `gtm-sync-recipient` is mounted: refreshed tokens of a tenant
    /// that moves between pools are sealed to them.
    #[arg(long, env = "GTM_RECIPIENTS_DIRECTORY")]
    pub recipients_directory: Option<PathBuf>,
    /// Activities at work at once (seed: 10).
    #[arg(long, env = "GTM_MAX_CONCURRENT_ACTIVITIES", default_value_t = 10)]
    pub max_concurrent_activities: usize,
    /// Workflow tasks at work at once, not cached runs (seed: 5; R41).
    #[arg(long, env = "GTM_MAX_CONCURRENT_WORKFLOWS", default_value_t = 5)]
    pub max_concurrent_workflows: usize,
    /// Syncs of one tenant that may be at work at once, the others wait in line; parked ones are not counted. The same on
    /// every worker of a pool. Default: half of a worker's activities, at two a sync, between 1 and 4. 0 = any number.
    #[arg(long, env = "GTM_TENANT_SYNCS")]
    pub tenant_syncs: Option<u32>,
    /// Private addresses that connectors may dial, `host`, `host:port` or CIDR, comma-separated. Default: none.
    #[arg(long, env = "GTM_ALLOWED_PRIVATE_HOSTS", value_delimiter = ',')]
    pub allowed_private_hosts: Vec<String>,
    /// Extra CA certificates (PEM file) for sources, beside Mozilla's, which are built in.
    #[arg(long, env = "GTM_SOURCE_CA_FILE")]
    pub source_ca_file: Option<PathBuf>,
    /// Name of the Worker Deployment in Temporal that this worker belongs to; set by the operator, with the build id.
    #[arg(long, env = "GTM_WORKER_DEPLOYMENT", requires = "build_id")]
    pub worker_deployment: Option<String>,
    /// Poll as this build of the Worker Deployment: runs that it begins stay with it. Without one, any worker takes any run.
    #[arg(long, env = "GTM_BUILD_ID", requires = "worker_deployment")]
    pub build_id: Option<String>,
    /// Drain and end after so many activities, for whoever started this process to start it again: the SDK keeps a little
    /// memory of each (docs/workers.md). 0 = never.
    #[arg(long, env = "GTM_RECYCLE_AFTER_ACTIVITIES", default_value_t = 0)]
    pub recycle_after_activities: u64,
    /// How long activities may go on after SIGTERM, in seconds; below the pod's grace period.
    #[arg(long, env = "GTM_DRAIN_SECONDS", default_value_t = 25)]
    pub drain_seconds: u64,
}

impl WorkerSettings {
    /// Syncs of one tenant that may be at work at once; `None` = any number. A sync has two activities at work: it fetches
    /// and writes (R39); half of the slots are left to the other tenants (R42).
    #[must_use]
    pub fn tenant_share(&self) -> Option<u32> {
        let half = u32::try_from(self.max_concurrent_activities / 2 / 2).unwrap_or(u32::MAX);
        Some(self.tenant_syncs.unwrap_or(half.clamp(1, 4))).filter(|share| *share > 0)
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn share(of: &[&str]) -> Option<u32> {
        let needed = ["worker", "--identity-file", "identity", "--database-url", "sqlite:x"];
        let command = WorkerSettings::augment_args(Command::new("worker"));
        let matches = command.try_get_matches_from(needed.iter().chain(of)).expect("arguments");
        WorkerSettings::from_arg_matches(&matches).expect("settings").tenant_share()
    }

    #[test]
    fn a_tenants_syncs_take_half_of_a_workers_activities_at_two_a_sync_and_one_to_four_are_at_work() {
        assert_eq!(share(&[]), Some(2), "of ten slots five, at two a sync");
        let of_slots = ["1", "3", "8", "16", "100"].map(|slots| share(&["--max-concurrent-activities", slots]));
        assert_eq!(of_slots, [Some(1), Some(1), Some(2), Some(4), Some(4)]);
        assert_eq!(share(&["--tenant-syncs", "9"]), Some(9));
        assert_eq!(share(&["--tenant-syncs", "0"]), None, "any number");
    }
}
