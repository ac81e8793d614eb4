//! Refreshes against a token endpoint on this machine that rotates its refresh token, as strict vendors do.

use std::sync::{
    Mutex as StdMutex,
    atomic::{AtomicU32, Ordering},
};

use axum::{Form, Json, Router, http::StatusCode as Status, response::IntoResponse as _, routing::post};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::{
    connectors::http::{AllowedHosts, HttpSettings},
    credentials::{MemoryTokens, seal::generate_identity},
};

/// A vendor whose refresh tokens work once: `r0`, then `r1`, …
#[derive(Default)]
struct Vendor {
    issued: AtomicU32,
    /// Holds every answer back until it is opened.
    gate: StdMutex<Option<tokio::sync::watch::Receiver<bool>>>,
}

impl Vendor {
    async fn start(self: Arc<Self>) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/token", listener.local_addr().expect("address")).parse().expect("url");
        let app = Router::new().route(
            "/token",
            post(move |Form(form): Form<std::collections::HashMap<String, String>>| {
                let vendor = Arc::clone(&self);
                async move { vendor.answer(&form).await }
            }),
        );
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    }

    async fn answer(&self, form: &std::collections::HashMap<String, String>) -> axum::response::Response {
        let expected = format!("r{}", self.issued.load(Ordering::SeqCst));
        let good = form["refresh_token"] == expected && form["client_secret"] == "secret";
        if !good {
            return (Status::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response();
        }
        let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        let gate = self.gate.lock().expect("lock").clone();
        if let Some(mut gate) = gate {
            gate.wait_for(|open| *open).await.expect("the test holds the sender");
        }
        let answer =
            json!({"access_token": format!("a{number}"), "refresh_token": format!("r{number}"), "expires_in": 1800});
        Json(answer).into_response()
    }
}

struct Fixture {
    vendor: Arc<Vendor>,
    url: Url,
    tokens: Arc<MemoryTokens>,
    opener: Opener,
}

impl Fixture {
    async fn new() -> Self {
        let vendor = Arc::new(Vendor::default());
        let opener = Opener::new(&generate_identity().0).expect("identity");
        Self { url: Arc::clone(&vendor).start().await, vendor, tokens: Arc::default(), opener }
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.url.port().expect("port"))
    }

    fn envelope(&self, fields: &[(&str, &str)]) -> Envelope {
        let fields = fields.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Envelope {
            tenant_id: "acme".parse().expect("id"),
            connector_id: "hubspot".parse().expect("id"),
            allowed_hosts: vec![self.host()],
            key_id: String::new(),
            fields: SecretFields(fields),
        }
    }

    fn refreshing(&self) -> Envelope {
        self.envelope(&[("clientId", "app"), ("clientSecret", "secret"), ("refreshToken", "r0")])
    }

    fn open(&self, envelope: &Envelope, credential_revision: i64) -> Result<AccessTokens, Error> {
        let identity = Identity {
            tenant: "acme".parse().expect("id"),
            connector: "hubspot".parse().expect("id"),
            host: self.host(),
            system: "hubspot",
            token_url: self.url.clone(),
            credential_revision,
        };
        let settings = HttpSettings {
            allowed_private_hosts: AllowedHosts::parse(&["127.0.0.1"]).expect("entry"),
            ..HttpSettings::default()
        };
        let http = HttpClient::new(settings).expect("settings");
        AccessTokens::new(identity, envelope, self.tokens.clone(), self.opener.clone(), http)
    }
}

fn unauthorised(code: &str) -> Result<Secret, Error> {
    Err(Error::Unauthorised { system: "hubspot", code: code.to_owned() })
}

#[tokio::test]
async fn a_static_token_is_used_as_it_is_and_its_refusal_is_final() {
    let fixture = Fixture::new().await;
    let tokens = fixture.open(&fixture.envelope(&[("accessToken", "pat")]), 1).expect("complete");
    let token = tokens.token().await.expect("static");
    assert_eq!(token, Secret::new("pat"));
    assert_eq!(tokens.replace(&token).await, unauthorised("HTTP 401"));
}

#[tokio::test]
async fn a_credential_for_something_else_or_without_a_grant_is_refused() {
    let fixture = Fixture::new().await;
    let detail = |envelope: &Envelope| match fixture.open(envelope, 1) {
        Err(Error::Configuration { detail, .. }) => detail,
        other => panic!("not refused: {other:?}"),
    };
    let elsewhere = Envelope { allowed_hosts: vec!["api.hubapi.com".to_owned()], ..fixture.refreshing() };
    assert!(detail(&elsewhere).contains("another host"));
    let stolen = Envelope { tenant_id: "evil".parse().expect("id"), ..fixture.refreshing() };
    assert!(detail(&stolen).contains("another tenant"));
    assert!(
        detail(&fixture.envelope(&[("refreshToken", "r0"), ("clientId", "app")])).contains("clientSecret is missing")
    );
    assert!(detail(&fixture.envelope(&[])).contains("both are missing"));
}

#[tokio::test]
async fn racing_clients_refresh_once_and_share_the_stored_token() {
    let fixture = Fixture::new().await;
    let clients: Vec<_> = (0..8).map(|_| fixture.open(&fixture.refreshing(), 1).expect("complete")).collect();
    let tokens = futures::future::join_all(clients.iter().map(AccessTokens::token)).await;
    assert!(tokens.iter().all(|token| token == &Ok(Secret::new("a1"))), "{tokens:?}");
    assert_eq!(fixture.vendor.issued.load(Ordering::SeqCst), 1);

    let refused = Secret::new("a1");
    let replaced = futures::future::join_all(clients.iter().map(|client| client.replace(&refused))).await;
    assert!(replaced.iter().all(|token| token == &Ok(Secret::new("a2"))), "{replaced:?}");
    assert_eq!(fixture.vendor.issued.load(Ordering::SeqCst), 2, "the rotated token was used, once");
}

#[tokio::test]
async fn a_dropped_refresh_goes_on_until_its_token_is_stored() {
    let fixture = Fixture::new().await;
    let (open_gate, gate) = tokio::sync::watch::channel(false);
    *fixture.vendor.gate.lock().expect("lock") = Some(gate);
    let client = fixture.open(&fixture.refreshing(), 1).expect("complete");
    let cancelled = tokio::time::timeout(Duration::from_millis(200), client.token()).await;
    assert!(cancelled.is_err() && fixture.vendor.issued.load(Ordering::SeqCst) == 1, "cut off while it was answered");
    let other = fixture.open(&fixture.refreshing(), 1).expect("complete");
    let waiting = tokio::spawn(async move { other.token().await });
    open_gate.send_replace(true);
    assert_eq!(waiting.await.expect("no panic"), Ok(Secret::new("a1")), "nothing was lost");
    assert_eq!((fixture.vendor.issued.load(Ordering::SeqCst), fixture.tokens.locks_given()), (1, 1));
}

#[tokio::test]
async fn a_refused_grant_is_unauthorised_and_gives_the_lock_back() {
    let fixture = Fixture::new().await;
    let used = fixture.envelope(&[("clientId", "app"), ("clientSecret", "secret"), ("refreshToken", "long-dead")]);
    let client = fixture.open(&used, 1).expect("complete");
    assert_eq!(client.token().await, unauthorised("invalid_grant"));
    assert_eq!(client.token().await, unauthorised("invalid_grant"), "at once: the lock is free");
}

#[tokio::test]
async fn a_new_base_credential_voids_the_overlay_of_the_old_one() {
    let fixture = Fixture::new().await;
    let first = fixture.open(&fixture.refreshing(), 1).expect("complete");
    assert_eq!(first.token().await, Ok(Secret::new("a1")));
    let renewed = fixture.envelope(&[("clientId", "app"), ("clientSecret", "secret"), ("refreshToken", "r1")]);
    let second = fixture.open(&renewed, 2).expect("complete");
    assert_eq!(second.token().await, Ok(Secret::new("a2")));
}

#[tokio::test]
async fn while_somebody_else_refreshes_for_long_that_is_the_result() {
    let fixture = Fixture::new().await;
    let (tenant, connector) = ("acme".parse().expect("id"), "hubspot".parse().expect("id"));
    let lock = fixture.tokens.lock_refresh(&tenant, &connector).await.expect("in memory");
    let client = fixture.open(&fixture.refreshing(), 1).expect("complete");
    assert_eq!(client.token().await, Err(Error::RefreshInProgress));
    drop(lock);
}
