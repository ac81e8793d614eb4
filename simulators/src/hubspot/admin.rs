//! The endpoints under `/__simulator`: the state handle over HTTP, for the demo, scripts and the checker's command.
//! Not part of the vendor's API; needs no credential, so the simulator must not be reachable by strangers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    http::header,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    account::Stats,
    faults::Fault,
    kind::Kind,
    server::Context,
    state::{Edited, Edits, StateHandle},
    truth::Served,
};

/// Records a chunk of a stream holds: the lock is let go between chunks.
const CHUNK: u32 = 1_000;

pub(super) fn router() -> Router<Context> {
    Router::new()
        .route("/", get(info))
        .route("/faults", get(list_faults).post(add_faults).delete(clear_faults))
        .route("/edit", post(edit))
        .route("/clock", post(advance))
        .route("/release", post(release))
        .route("/stats", get(stats))
        .route("/log", get(log))
        .route("/state", get(truths))
}

/// What `GET /__simulator/` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// The simulated time.
    pub now: Timestamp,
    /// The account's id.
    pub portal_id: u64,
    /// Records ever made, by type.
    pub records: BTreeMap<String, u32>,
}

pub(super) async fn info(State(context): State<Context>) -> Json<Info> {
    Json(context.state.info())
}

async fn list_faults(State(context): State<Context>) -> Json<Vec<Fault>> {
    Json(context.state.faults())
}

async fn add_faults(State(context): State<Context>, Json(faults): Json<Vec<Fault>>) -> Json<Vec<Fault>> {
    faults.into_iter().for_each(|fault| context.state.add_fault(fault));
    Json(context.state.faults())
}

async fn clear_faults(State(context): State<Context>) -> Json<Vec<Fault>> {
    context.state.clear_faults();
    Json(context.state.faults())
}

async fn edit(State(context): State<Context>, Json(edits): Json<Edits>) -> Json<Edited> {
    Json(context.state.edit_random(edits))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Advance {
    advance_seconds: u64,
}

async fn advance(State(context): State<Context>, Json(advance): Json<Advance>) -> Json<Info> {
    context.state.advance_clock(Duration::from_secs(advance.advance_seconds));
    Json(context.state.info())
}

#[derive(Debug, Deserialize)]
struct Release {
    object: Kind,
    id: String,
}

async fn release(State(context): State<Context>, Json(release): Json<Release>) -> Json<bool> {
    Json(context.state.release(release.object, &release.id))
}

async fn stats(State(context): State<Context>) -> Json<Stats> {
    Json(context.state.stats())
}

#[derive(Debug, Default, Deserialize)]
struct Asked {
    /// Comma-separated names; empty = all properties.
    #[serde(default)]
    properties: String,
}

async fn truths(State(context): State<Context>, Query(asked): Query<Asked>) -> Response {
    json_lines(context.state, move |state, kind, from, count| {
        let names: Vec<&str> = asked.properties.split(',').filter(|name| !name.is_empty()).collect();
        state.truths_of(kind, from, count, &names)
    })
}

async fn log(State(context): State<Context>) -> Response {
    json_lines(context.state, |state, kind, from, count| {
        let truths = state.truths_of(kind, from, count, &["hs_object_id"]);
        truths.iter().filter_map(Served::of).collect::<Vec<_>>()
    })
}

/// Streams a line for each item of each type. Owners and stages come with the first chunk.
fn json_lines<T: Serialize + 'static>(
    state: StateHandle,
    chunk: impl Fn(&StateHandle, Kind, u32, u32) -> Vec<T> + Send + Sync + 'static,
) -> Response {
    let chunk = Arc::new(chunk);
    let kinds = Kind::ALL.into_iter();
    let parts = kinds.flat_map(move |kind| {
        let count = state.count(kind);
        let (state, chunk) = (state.clone(), chunk.clone());
        (0..=count / CHUNK).map(move |part| {
            let items = chunk(&state, kind, part * CHUNK, CHUNK);
            let mut lines = Vec::new();
            for item in &items {
                serde_json::to_writer(&mut lines, item)?;
                lines.push(b'\n');
            }
            Ok::<_, serde_json::Error>(lines)
        })
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream::iter(parts))).into_response()
}
