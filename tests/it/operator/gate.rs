//! A gate of plain HTTP in front of the real API server, for one operator: it can shut, hold some requests, answer as a
//! server without our CRDs, or garble what passes. Nobody else's requests are touched.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::support;

/// What the gate does now.
#[derive(Debug, Clone, Default)]
struct Doing {
    shut: bool,
    /// Requests of this method (any, if none) whose path and query hold this text get no answer.
    held: Option<(Option<Method>, &'static str)>,
    /// Paths with this text are unknown to the server.
    missing: Option<&'static str>,
    /// This text arrives as that one.
    garbled: Option<(&'static str, &'static str)>,
}

impl Doing {
    fn holds(&self, method: &Method, target: &str) -> bool {
        self.held.as_ref().is_some_and(|(of, part)| of.as_ref().is_none_or(|of| of == method) && target.contains(part))
    }
}

struct Shared {
    client: Client,
    /// What was answered, oldest first.
    passed: Mutex<Vec<String>>,
    doing: watch::Sender<Doing>,
    held: watch::Sender<u32>,
}

/// Lets requests through until it is dropped.
pub(super) struct Gate {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

/// The configuration that leads to the API server itself.
pub(super) async fn direct() -> kube::Config {
    let kubeconfig = Kubeconfig::read_from(support::kubeconfig()).expect("a kubeconfig");
    let cluster = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    cluster.expect("a usable kubeconfig")
}

/// The same configuration with the rights of somebody else.
pub(super) fn impersonating(mut config: kube::Config, user: &str) -> kube::Config {
    let user = header::HeaderValue::from_str(user).expect("a header");
    config.headers.push((header::HeaderName::from_static("impersonate-user"), user));
    config
}

impl Gate {
    pub(super) async fn open() -> Self {
        Self::to(direct().await).await
    }

    /// In front of this API server. What passes has the rights of this configuration.
    pub(super) async fn to(mut config: kube::Config) -> Self {
        config.default_retry = false;
        let client = Client::try_from(config).expect("a client");
        let (doing, held) = (watch::channel(Doing::default()).0, watch::channel(0).0);
        let shared = Arc::new(Shared { client, passed: Mutex::default(), doing, held });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let routes = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.expect("serves") });
        Self { address, shared, serving }
    }

    /// Leads through the gate.
    pub(super) fn config(&self) -> kube::Config {
        kube::Config::new(format!("http://{}", self.address).parse().expect("a URL"))
    }

    /// Every request that was answered: `STATUS METHOD path?query`.
    pub(super) fn passed(&self) -> Vec<String> {
        self.shared.passed.lock().expect("no panic").clone()
    }

    /// Ends every watch and refuses every request.
    pub(super) fn shut(&self) {
        self.shared.doing.send_modify(|doing| doing.shut = true);
    }

    /// Requests of this method (any, if none) whose path and query hold `part` get no answer.
    pub(super) fn hold(&self, method: Option<Method>, part: &'static str) {
        self.shared.doing.send_modify(|doing| doing.held = Some((method, part)));
    }

    /// The server does not know paths with this text.
    pub(super) fn hide(&self, part: &'static str) {
        self.shared.doing.send_modify(|doing| doing.missing = Some(part));
    }

    /// Lets everything through, and `text` arrives as `other`; watches begin anew.
    pub(super) fn garble(&self, text: &'static str, other: &'static str) {
        self.shared.doing.send_replace(Doing { garbled: Some((text, other)), ..Doing::default() });
    }

    /// Lets everything through again; requests that were held are lost.
    pub(super) fn reopen(&self) {
        self.shared.doing.send_replace(Doing::default());
    }

    /// Waits until a request is held.
    pub(super) async fn holds_one(&self) {
        let mut held = self.shared.held.subscribe();
        let waited = tokio::time::timeout(super::harness::SOON, held.wait_for(|held| *held > 0)).await;
        waited.expect("a request is held in time").expect("the gate lives");
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let away = || (StatusCode::SERVICE_UNAVAILABLE, "away").into_response();
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().expect("a path").to_string();
    let mut doing = shared.doing.subscribe();
    let now = doing.borrow_and_update().clone();
    if now.shut {
        return away();
    }
    if now.missing.is_some_and(|part| parts.uri.path().contains(part)) {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    }
    if now.holds(&parts.method, &target) {
        shared.held.send_modify(|held| *held += 1);
        let released = doing.wait_for(|doing| doing.shut || !doing.holds(&parts.method, &target)).await.is_ok();
        assert!(released, "the gate lives as long as its state");
        return away();
    }
    let body = to_bytes(body, usize::MAX).await.expect("a whole request").to_vec();
    let what = format!("{} {target}", parts.method);
    let mut forwarded = axum::http::Request::builder().method(parts.method).uri(&target);
    for name in [header::ACCEPT, header::CONTENT_TYPE] {
        if let Some(value) = parts.headers.get(&name) {
            forwarded = forwarded.header(name, value);
        }
    }
    let forwarded = forwarded.body(kube::client::Body::from(body)).expect("a request");
    let Ok(answer) = shared.client.send(forwarded).await else { return away() };
    let (parts, body) = answer.into_parts();
    shared.passed.lock().expect("no panic").push(format!("{} {what}", parts.status.as_u16()));
    let garbled = now.garbled;
    let chunks = Body::new(body).into_data_stream().map(move |chunk| match (garbled, chunk) {
        (Some((text, other)), Ok(chunk)) => {
            Ok(String::from_utf8_lossy(&chunk).replace(text, other).into_bytes().into())
        }
        (_, chunk) => chunk,
    });
    let until_shut = async move { drop(doing.wait_for(|doing| doing.shut || doing.garbled != garbled).await) };
    let mut response = Response::new(Body::from_stream(chunks.take_until(Box::pin(until_shut))));
    *response.status_mut() = parts.status;
    if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    response
}
