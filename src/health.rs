//! /livez, /readyz and /metrics on one small HTTP server. Live = its endless loops go round; ready = its dependencies answer.
//! Decides nothing: whoever talks to a dependency, or goes round, says so here.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::metrics::{Dependency, Metrics, render};

/// What this process waits for. Ready when every named dependency is up; nothing named yet = not ready.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    states: Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>,
    notes: Arc<Mutex<BTreeMap<&'static str, String>>>,
    metrics: Metrics,
}

impl Readiness {
    /// Reports into these metrics, too.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { states: Arc::default(), notes: Arc::default(), metrics }
    }

    /// A dependency answers, or why not (class and names, no values). Returns whether that changed.
    pub fn set(&self, dependency: &'static str, state: Result<(), String>) -> bool {
        self.metrics.dependency_up.get_or_create(&Dependency { dependency }).set(i64::from(state.is_ok()));
        let mut states = self.states.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let up = state.is_ok();
        states.insert(dependency, state).is_none_or(|before| before.is_ok() != up)
    }

    /// Something that somebody should know before it becomes an outage; decides nothing. `None` takes it back.
    /// Returns whether that changed.
    pub fn note(&self, about: &'static str, text: Option<String>) -> bool {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let is = text.is_some();
        let was = match text {
            Some(text) => notes.insert(about, text),
            None => notes.remove(about),
        };
        was.is_some() != is
    }

    /// One line a dependency, and whether all are up; then the notes.
    #[must_use]
    pub fn report(&self) -> (bool, String) {
        let states = self.states.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let ready = !states.is_empty() && states.values().all(Result::is_ok);
        let lines = states.iter().map(|(dependency, state)| match state {
            Ok(()) => format!("{dependency}: ok\n"),
            Err(why) => format!("{dependency}: {why}\n"),
        });
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let notes = notes.iter().map(|(about, text)| format!("note: {about}: {text}\n"));
        (ready, lines.chain(notes).collect())
    }
}

/// A loop is hung that has not gone round for this many of its periods.
const MISSED_PERIODS: u32 = 3;

/// The endless loops of this process. Live while each goes round; none yet = live.
#[derive(Debug, Clone, Default)]
pub struct Liveness {
    beats: Arc<Mutex<BTreeMap<String, Beat>>>,
}

#[derive(Debug, Clone, Copy)]
struct Beat {
    at: Instant,
    period: Duration,
}

/// Of one loop, which is watched from here on until this is dropped.
#[derive(Debug)]
pub struct Pulse {
    name: String,
    period: Duration,
    liveness: Liveness,
}

impl Liveness {
    /// Watches a loop that beats at least once a `period`, however its dependencies are: each call that it makes has a
    /// deadline below that.
    #[must_use]
    pub fn pulse(&self, name: impl Into<String>, period: Duration) -> Pulse {
        let pulse = Pulse { name: name.into(), period, liveness: self.clone() };
        pulse.beat();
        pulse
    }

    /// One line for each loop that is hung at `now`, and whether none is.
    #[must_use]
    pub fn report(&self, now: Instant) -> (bool, String) {
        let beats = self.lock();
        let silent = |beat: &Beat| now.saturating_duration_since(beat.at);
        let hung: String = beats
            .iter()
            .filter(|(_, beat)| silent(beat) > beat.period * MISSED_PERIODS)
            .map(|(name, beat)| format!("{name}: silent for {} s\n", silent(beat).as_secs()))
            .collect();
        if hung.is_empty() { (true, "ok\n".to_owned()) } else { (false, hung) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Beat>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulse {
    /// The loop goes round.
    pub fn beat(&self) {
        self.liveness.lock().insert(self.name.clone(), Beat { at: Instant::now(), period: self.period });
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.liveness.lock().remove(&self.name);
    }
}

/// Serves until the process ends.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    liveness: Liveness,
    readiness: Readiness,
    registry: Arc<Registry>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let routes = Router::new()
        .route("/livez", get(live))
        .with_state(liveness)
        .route("/readyz", get(ready))
        .with_state(readiness)
        .route("/metrics", get(async move || render(&registry)));
    axum::serve(listener, routes).await
}

async fn live(State(liveness): State<Liveness>) -> (StatusCode, String) {
    let (live, report) = liveness.report(Instant::now());
    if !live {
        tracing::error!(report = report.trim_end(), "a loop of this process is hung; a bug, please report it");
    }
    (if live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, report)
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let (ready, report) = readiness.report();
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_until_a_loop_misses_three_of_its_periods() {
        let liveness = Liveness::default();
        assert_eq!(liveness.report(Instant::now()), (true, "ok\n".into()), "no loop yet");
        let slow = liveness.pulse("sweep", Duration::from_secs(600));
        let fast = liveness.pulse("status", Duration::from_secs(20));
        let after = |seconds| liveness.report(Instant::now() + Duration::from_secs(seconds));
        assert!(after(59).0);
        let (live, report) = after(62);
        assert!(!live && report.starts_with("status: silent for 6"), "{report}");
        fast.beat();
        assert!(after(59).0);
        drop(fast);
        assert!(after(1_799).0, "a loop that has ended is not hung");
        assert!(!after(1_802).0);
        drop(slow);
    }

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
