//! HTTP: turns requests into `Request`, answers into responses, and carries out the faults of the transport.
//! Judges nothing about the API.

use std::time::Duration;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, DefaultBodyLimit, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::Response,
};
use futures::{StreamExt as _, stream};
use tokio::sync::watch;

use super::{
    account::Served,
    admin,
    answer::Answer,
    connection::Switch,
    faults::Effect,
    pages::KeptPages,
    request::{Request, decode_pairs},
    state::StateHandle,
};

/// Larger than any batch of the API, small enough to protect a test machine.
const MAX_BODY_BYTES: usize = 32 << 20;
const JSON: &str = "application/json;charset=utf-8";

/// What each request can reach.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) state: StateHandle,
    /// True once the simulator stops: hanging requests end.
    pub(super) stopping: watch::Receiver<bool>,
    /// Set when pages are rendered once only.
    pub(super) pages: Option<KeptPages>,
}

pub(super) fn router(context: Context) -> Router {
    Router::new()
        .nest("/__simulator", admin::router())
        .route("/__simulator/", axum::routing::get(admin::info))
        .fallback(serve)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(context)
}

async fn serve(
    State(context): State<Context>,
    ConnectInfo(switch): ConnectInfo<Switch>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = to_request(&method, &uri, &headers, body);
    let kept = context.pages.as_ref().and_then(|pages| pages.get(&request));
    if let Some(page) = kept {
        return build(StatusCode::OK, JSON, Vec::new(), Body::from(page));
    }
    let (served, now_ms) = context.state.with(|account| (account.serve(&request), account.now_ms()));
    if let Some(pages) = &context.pages {
        pages.keep(&request, &served);
    }
    let mut response = carry_out(served, &context, &switch).await;
    // hyper would send the system's time; ours may be ahead of it.
    if let Ok(date) = HeaderValue::from_str(&http_date(now_ms)) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

fn to_request(method: &Method, uri: &Uri, headers: &HeaderMap, body: Bytes) -> Request {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    Request {
        method: method.as_str().to_owned(),
        path: uri.path().to_owned(),
        query: decode_pairs(uri.query().unwrap_or_default()),
        url_bytes: uri.path_and_query().map_or(0, |target| target.as_str().len()),
        bearer: authorization.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned),
        body: body.to_vec(),
    }
}

async fn carry_out(served: Served, context: &Context, switch: &Switch) -> Response {
    match served.transport {
        None => respond(served.answer),
        Some(Effect::Delay { milliseconds }) => {
            wait(context, Duration::from_millis(milliseconds)).await;
            respond(served.answer)
        }
        Some(Effect::Hang) => {
            wait(context, Duration::from_secs(86_400)).await;
            switch.reset();
            respond(served.answer)
        }
        Some(Effect::Reset) => {
            switch.reset();
            respond(served.answer)
        }
        Some(Effect::Html) => {
            let page = "<!DOCTYPE html><html><body><h1>We'll be right back</h1></body></html>";
            build(StatusCode::OK, "text/html;charset=utf-8", Vec::new(), Body::from(page))
        }
        Some(Effect::TruncatedBody) => truncate(served.answer),
        Some(_) => respond(served.answer),
    }
}

/// Waits, but not beyond the simulator's end.
async fn wait(context: &Context, time: Duration) {
    let mut stopping = context.stopping.clone();
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        // An error means that the simulator is gone: that ends the wait, too.
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
}

fn respond(answer: Answer) -> Response {
    let body = answer.body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    build(answer.status, JSON, answer.headers, body)
}

/// Sends half of the body under the full length, then closes.
fn truncate(answer: Answer) -> Response {
    let text = answer.body.map(|body| body.to_string()).unwrap_or_default();
    let length = text.len().to_string();
    let half = Bytes::from(text).slice(..length.parse::<usize>().unwrap_or(0) / 2);
    let chunks = stream::once(async { Ok(half) }).chain(stream::once(async {
        // The half must have left before the connection breaks.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
    }));
    let body = Body::from_stream(chunks);
    let mut headers = answer.headers;
    headers.push(("content-length", length));
    build(answer.status, JSON, headers, body)
}

fn build(status: StatusCode, content_type: &str, headers: Vec<(&'static str, String)>, body: Body) -> Response {
    let mut response = Response::builder().status(status);
    if status != StatusCode::NO_CONTENT {
        response = response.header(header::CONTENT_TYPE, content_type);
    }
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(body).expect("status and headers are made from constants and numbers")
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
fn http_date(now_ms: i64) -> String {
    let now = jiff::Timestamp::from_millisecond(now_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Serves until told to stop.
pub(super) async fn run(
    listener: super::connection::Listener,
    context: Context,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let service = router(context).into_make_service_with_connect_info::<Switch>();
    axum::serve(listener, service)
        .with_graceful_shutdown(async move {
            // An error means that the simulator was dropped: stop as well.
            drop(stop.wait_for(|stop| *stop).await);
        })
        .await
}
