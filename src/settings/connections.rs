//! Settings of the connections to store and Temporal. What is secret comes from files, which are read again when their content
//! changes (`key_files`); names are Temporal's and libpq's own where they have one.

use std::path::PathBuf;

use clap::{Args, builder::BoolishValueParser};

/// The store.
#[derive(Clone, Default, Args)]
pub struct StoreSettings {
    /// `postgres://user:password@host/database` or `sqlite:<path>`. May hold a password: never logged.
    #[arg(
        long,
        env = "GTM_DATABASE_URL",
        hide_env_values = true,
        required_unless_present = "database_url_file",
        conflicts_with = "database_url_file"
    )]
    pub database_url: Option<String>,
    /// File that holds the URL. User and password may change in it; another host or database needs a restart.
    #[arg(long, env = "GTM_DATABASE_URL_FILE")]
    pub database_url_file: Option<PathBuf>,
    /// File that holds the password; wins over the URL's.
    #[arg(long, env = "GTM_DATABASE_PASSWORD_FILE")]
    pub database_password_file: Option<PathBuf>,
    /// `disable`, `prefer`, `require` or `verify-full`; the URL's `sslmode` wins. Default: `verify-full` where a certificate is
    /// given, else `prefer`, which takes an unencrypted connection if the server offers no other.
    #[arg(long, env = "PGSSLMODE")]
    pub database_ssl_mode: Option<String>,
    /// File with the authorities that the server's certificate must come from; default: Mozilla's, which are built in.
    #[arg(long, env = "PGSSLROOTCERT")]
    pub database_ssl_root_cert: Option<PathBuf>,
    /// File with our certificate, for servers that ask for one.
    #[arg(long, env = "PGSSLCERT")]
    pub database_ssl_cert: Option<PathBuf>,
    /// File with its key.
    #[arg(long, env = "PGSSLKEY")]
    pub database_ssl_key: Option<PathBuf>,
}

impl StoreSettings {
    /// Nothing but a URL.
    #[must_use]
    pub fn of(url: impl Into<String>) -> Self {
        Self { database_url: Some(url.into()), ..Self::default() }
    }
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
    /// Temporal namespace (`name.account` in Temporal Cloud); exactly one store belongs to it.
    #[arg(long, env = "TEMPORAL_NAMESPACE", default_value = "default")]
    pub temporal_namespace: String,
    /// Put `{clusterId}.` in front of every schedule and workflow id: for several clusters on one Temporal namespace and store.
    #[arg(long, env = "GTM_CLUSTER_ID")]
    pub cluster_id: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "the flattened struct documents itself")]
    pub tls: TemporalTlsSettings,
}

/// How Temporal and we know each other.
#[derive(Debug, Clone, Default, Args)]
pub struct TemporalTlsSettings {
    /// Speak TLS. Default: if the address is `https://…` or anything below is set.
    #[arg(
        long,
        env = "TEMPORAL_TLS",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub temporal_tls: Option<bool>,
    /// File with the authorities that the server's certificate must come from; default: Mozilla's, which are built in.
    #[arg(long, env = "TEMPORAL_TLS_SERVER_CA_CERT_PATH")]
    pub temporal_tls_server_ca_cert_path: Option<PathBuf>,
    /// The name that the server's certificate must be for, if it is not the address's.
    #[arg(long, env = "TEMPORAL_TLS_SERVER_NAME")]
    pub temporal_tls_server_name: Option<String>,
    /// File with our certificate (mTLS).
    #[arg(long, env = "TEMPORAL_TLS_CLIENT_CERT_PATH")]
    pub temporal_tls_client_cert_path: Option<PathBuf>,
    /// File with its key.
    #[arg(long, env = "TEMPORAL_TLS_CLIENT_KEY_PATH")]
    pub temporal_tls_client_key_path: Option<PathBuf>,
    /// File with an API key. Never sent without TLS.
    #[arg(long, env = "GTM_TEMPORAL_API_KEY_FILE")]
    pub temporal_api_key_file: Option<PathBuf>,
}
