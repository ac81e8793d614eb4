//! Settings, parsed once at the edge from flags and environment and passed in; nobody else reads the environment.
//! Every flag has its variable, so that a Deployment needs no arguments.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

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

/// The store.
#[derive(Clone, Args)]
pub struct StoreSettings {
    /// `postgres://user:password@host/database` or `sqlite:<path>`. May hold a password: never logged.
    #[arg(long, env = "GTM_DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
}

impl std::fmt::Debug for StoreSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("StoreSettings(..)")
    }
}

/// Temporal.
#[derive(Debug, Clone, Args)]
pub struct TemporalSettings {
    /// Frontend of the Temporal server, `host:port` or a URL.
    #[arg(long, env = "TEMPORAL_ADDRESS", default_value = "localhost:7233")]
    pub temporal_address: String,
    /// Temporal namespace; exactly one store belongs to it.
    #[arg(long, env = "TEMPORAL_NAMESPACE", default_value = "default")]
    pub temporal_namespace: String,
    /// Put `{clusterId}.` in front of every schedule and workflow id: for several clusters on one Temporal namespace and store.
    #[arg(long, env = "GTM_CLUSTER_ID")]
    pub cluster_id: Option<String>,
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
    #[arg(long, env = "GTM_WORKER_TEMPLATE")]
    pub worker_template: Option<PathBuf>,
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
    /// Private addresses that connectors may dial, `host`, `host:port` or CIDR, comma-separated. Default: none.
    #[arg(long, env = "GTM_ALLOWED_PRIVATE_HOSTS", value_delimiter = ',')]
    pub allowed_private_hosts: Vec<String>,
    /// Extra CA certificates (PEM file) for sources, beside Mozilla's, which are built in.
    #[arg(long, env = "GTM_SOURCE_CA_FILE")]
    pub source_ca_file: Option<PathBuf>,
    /// How long activities may go on after SIGTERM, in seconds; below the pod's grace period.
    #[arg(long, env = "GTM_DRAIN_SECONDS", default_value_t = 25)]
    pub drain_seconds: u64,
}
