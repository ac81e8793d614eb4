//! Services that tests need, as `cargo xtask test` starts and names them; a fresh namespace, schema or file for each test.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "shared by several test binaries"
)]

pub mod api_server;
pub mod authority;
pub mod databases;
pub mod frontend;
pub mod interrupting;
pub mod kstatus;
pub mod proxy;
pub mod random;
pub mod resume_point;
pub mod servers;
pub mod stack;

use std::{future::Future, time::Duration};

/// The value of a variable that `cargo xtask test` sets.
///
/// # Panics
/// With the way out, when it is not set.
#[must_use]
pub fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run these tests by `cargo xtask test`"))
}

/// The value of a variable that a person or another command of xtask may set.
#[must_use]
pub fn wish(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

/// URL of a PostgreSQL superuser connection, e.g. `postgres://postgres@127.0.0.1:5433/postgres`; make a database of your own from it.
#[must_use]
pub fn postgres_url() -> String {
    service("GTM_TEST_POSTGRES_URL")
}

/// `host:port` of the Temporal dev server; register a namespace of your own.
#[must_use]
pub fn temporal_address() -> String {
    service("GTM_TEST_TEMPORAL_ADDRESS")
}

/// Path of an admin kubeconfig for the real API server (no node); use a Kubernetes namespace of your own.
#[must_use]
pub fn kubeconfig() -> String {
    service("GTM_TEST_KUBECONFIG")
}

/// A name nobody else uses: `{prefix}-{random}`.
#[must_use]
pub fn fresh(prefix: &str) -> String {
    format!("{prefix}-{}", &uuid::Uuid::new_v4().simple().to_string()[..10])
}

/// Waits for a state (never an edge), asking every 100 ms; the deadline is a deadline, not a measurement.
///
/// # Panics
/// When the deadline passes, with `what`.
pub async fn eventually<T, F>(what: &str, deadline: Duration, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = tokio::time::Instant::now() + deadline;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < end, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
