//! /livez, /readyz and /metrics on one small HTTP server. Live = this process runs; ready = its dependencies answer.
//! Decides nothing: whoever talks to a dependency says so here.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use prometheus_client::registry::Registry;

use crate::metrics::{Dependency, Metrics, render};

/// What this process waits for. Ready when every named dependency is up; nothing named yet = not ready.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    states: Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>,
    metrics: Metrics,
}

impl Readiness {
    /// Reports into these metrics, too.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { states: Arc::default(), metrics }
    }

    /// A dependency answers, or why not (class and names, no values). Returns whether that changed.
    pub fn set(&self, dependency: &'static str, state: Result<(), String>) -> bool {
        self.metrics.dependency_up.get_or_create(&Dependency { dependency }).set(i64::from(state.is_ok()));
        let mut states = self.states.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let up = state.is_ok();
        states.insert(dependency, state).is_none_or(|before| before.is_ok() != up)
    }

    /// One line a dependency, and whether all are up.
    #[must_use]
    pub fn report(&self) -> (bool, String) {
        let states = self.states.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let ready = !states.is_empty() && states.values().all(Result::is_ok);
        let lines = states.iter().map(|(dependency, state)| match state {
            Ok(()) => format!("{dependency}: ok\n"),
            Err(why) => format!("{dependency}: {why}\n"),
        });
        (ready, lines.collect())
    }
}

/// Serves until the process ends.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(address: SocketAddr, readiness: Readiness, registry: Arc<Registry>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let routes = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(readiness)
        .route("/metrics", get(async move || render(&registry)));
    axum::serve(listener, routes).await
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let (ready, report) = readiness.report();
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_dependency_answers_and_changes_are_told_once() {
        let readiness = Readiness::new(Metrics::default());
        assert!(!readiness.report().0, "nothing known yet");
        assert!(readiness.set("store", Ok(())) && readiness.report().0);
        assert!(readiness.set("temporal", Err("refused".into())));
        assert!(!readiness.set("temporal", Err("refused again".into())), "no change");
        assert_eq!(readiness.report(), (false, "store: ok\ntemporal: refused again\n".into()));
    }
}
