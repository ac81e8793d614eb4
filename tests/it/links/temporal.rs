//! Temporal behind a front that demands TLS, a client certificate and an API key.

use std::time::Duration;

use gtm_sync::{
    error_class::Class,
    health::Readiness,
    key_files::KeyFiles,
    metrics::Metrics,
    settings::{TemporalSettings, TemporalTlsSettings},
    temporal::{Error, Temporal, WorkflowState},
};
use simulators::{
    checker,
    hubspot::{Effect, Fault, Limits, Options, Simulator},
};

use crate::support::{
    authority::{Authority, Mounted},
    eventually,
    frontend::{Demands, Frontend},
    stack::{CANARY, Stack},
    temporal_address,
};

const NAME: &str = "temporal.example";
const SOON: Duration = Duration::from_secs(60);

/// A front with an authority for its own certificate and one for its clients'.
pub(crate) struct House {
    servers: Authority,
    clients: Authority,
    pub(crate) front: Frontend,
}

impl House {
    pub(crate) async fn new(api_key: Option<&str>) -> Self {
        let (servers, clients) = (Authority::new(), Authority::new());
        let demands = Self::demands(&servers, &clients, api_key);
        let front = Frontend::of(&temporal_address(), demands).await;
        Self { servers, clients, front }
    }

    fn demands(servers: &Authority, clients: &Authority, api_key: Option<&str>) -> Demands {
        Demands { tls: servers.server_config(NAME, Some(clients)), api_key: api_key.map(str::to_owned) }
    }

    /// What fits the front, in a mounted Secret.
    pub(crate) fn keys(&self, api_key: &str) -> Mounted {
        let keys = Mounted::of(&["ca.crt", "tls.crt", "tls.key", "api-key"].map(|name| (name, "")));
        self.renew(&keys, api_key);
        keys
    }

    /// What fits the front now, in place of what did.
    pub(crate) fn renew(&self, keys: &Mounted, api_key: &str) {
        let (ca, pair) = (self.servers.pem(), self.clients.client("worker"));
        keys.swap(&[("ca.crt", &ca), ("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("api-key", api_key)]);
    }

    /// Other authorities, certificate and key from now on; everybody is sent away.
    pub(crate) fn replace(&mut self, api_key: &str) {
        (self.servers, self.clients) = (Authority::new(), Authority::new());
        self.front.demand(Self::demands(&self.servers, &self.clients, Some(api_key)));
    }

    pub(crate) fn settings(&self, keys: &Mounted, edit: impl FnOnce(&mut TemporalTlsSettings)) -> TemporalSettings {
        let mut tls = TemporalTlsSettings {
            temporal_tls_server_ca_cert_path: Some(keys.path("ca.crt")),
            temporal_tls_server_name: Some(NAME.to_owned()),
            temporal_tls_client_cert_path: Some(keys.path("tls.crt")),
            temporal_tls_client_key_path: Some(keys.path("tls.key")),
            ..TemporalTlsSettings::default()
        };
        edit(&mut tls);
        TemporalSettings {
            temporal_address: self.front.address.to_string(),
            temporal_namespace: "default".to_owned(),
            cluster_id: None,
            tls,
        }
    }
}

async fn connect(settings: &TemporalSettings) -> Result<Temporal, Error> {
    Temporal::connect(settings, "tests", &KeyFiles::default()).await
}

async fn refused(settings: &TemporalSettings) -> String {
    let error = connect(settings).await.expect_err("refused");
    assert_eq!(error.class(), Class::Transient, "waited for: {error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_front_that_demands_certificates_is_reached_with_the_right_ones_and_says_what_is_wrong_with_others() {
    let house = House::new(None).await;
    let keys = house.keys("");
    let temporal = connect(&house.settings(&keys, |_| {})).await.expect("let in");
    assert_eq!(temporal.workflow_state("none").await, Ok(WorkflowState::NotFound));

    let none = house.settings(&keys, |tls| {
        tls.temporal_tls_client_cert_path = None;
        tls.temporal_tls_client_key_path = None;
    });
    let none = refused(&none).await;
    assert!(none.contains("--temporal-tls-client-cert-path"), "{none}");

    let name = refused(&house.settings(&keys, |tls| tls.temporal_tls_server_name = None)).await;
    assert!(name.contains("for another name"), "{name}");

    let stranger = Authority::new();
    let (pair, own) = (stranger.client("worker"), house.clients.client("worker"));
    let foreign = |ca: &str| Mounted::of(&[("ca.crt", ca), ("tls.crt", &pair.certificate), ("tls.key", &pair.key)]);
    let client = foreign(&house.servers.pem());
    let client = refused(&house.settings(&client, |_| {})).await;
    assert!(client.contains("our client certificate"), "{client}");
    let server = foreign(&stranger.pem());
    let server = refused(&house.settings(&server, |_| {})).await;
    assert!(server.contains("an authority that we do not trust"), "{server}");

    let half = Mounted::of(&[("ca.crt", &house.servers.pem()), ("tls.crt", &own.certificate), ("tls.key", &pair.key)]);
    let half = refused(&house.settings(&half, |_| {})).await;
    assert!(half.contains("do not belong together"), "{half}");

    let plain = TemporalSettings { tls: TemporalTlsSettings::default(), ..house.settings(&keys, |_| {}) };
    refused(&plain).await;
    let clear = TemporalSettings { temporal_address: temporal_address(), ..house.settings(&keys, |_| {}) };
    let clear = refused(&clear).await;
    assert!(clear.contains("does not speak TLS"), "{clear}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn an_api_key_is_shown_with_its_namespace_and_a_new_one_as_soon_as_its_file_has_it() {
    let house = House::new(Some("key-1")).await;
    let keys = house.keys("key-1\n");
    let with_key = |tls: &mut TemporalTlsSettings| tls.temporal_api_key_file = Some(keys.path("api-key"));
    let denied = connect(&house.settings(&keys, |_| {})).await.expect_err("no key");
    assert!(matches!(denied, Error::Denied { .. }), "{denied}");

    let files = KeyFiles::default();
    let settings =
        TemporalSettings { temporal_namespace: "name.account".to_owned(), ..house.settings(&keys, with_key) };
    let temporal = Temporal::connect(&settings, "tests", &files).await.expect("let in");
    let unknown = temporal.workflow_state("none").await.expect_err("no such namespace here");
    assert!(matches!(unknown, Error::NamespaceNotFound { .. }), "{unknown}");
    assert!(house.front.namespaces().contains("name.account"));
    assert_eq!(house.front.authorizations(), ["Bearer key-1".to_owned()].into());

    let watch = tokio::spawn(files.keep());
    keys.swap(&[("ca.crt", &house.servers.pem()), ("api-key", "key-2")]);
    house.front.demand(House::demands(&house.servers, &house.clients, Some("key-2")));
    eventually("the new key is shown", SOON, || async {
        let answer = temporal.workflow_state("none").await;
        matches!(answer, Err(Error::NamespaceNotFound { .. })).then_some(())
    })
    .await;
    assert_eq!(house.front.authorizations(), ["Bearer key-2".to_owned()].into());
    watch.abort();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn an_expired_certificate_is_named_before_anybody_must_ask() {
    let house = House::new(None).await;
    let (keys, old) = (house.keys(""), house.clients.client_until("worker", 2024));
    let readiness = Readiness::default();
    let files = KeyFiles::new(readiness.clone(), Metrics::default());
    let _temporal = Temporal::connect(&house.settings(&keys, |_| {}), "tests", &files).await.expect("let in");
    let watch = tokio::spawn(files.keep());
    keys.swap(&[("ca.crt", &house.servers.pem()), ("tls.crt", &old.certificate), ("tls.key", &old.key)]);
    eventually("it is told", SOON, || async {
        let told = "note: Temporal TLS: our certificate expired at 2024-01-01T00:00:00Z";
        readiness.report().1.contains(told).then_some(())
    })
    .await;
    watch.abort();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_sync_goes_on_while_authorities_certificate_and_api_key_are_replaced() {
    let (first, second) = (format!("first-{CANARY}"), format!("second-{CANARY}"));
    let house = House::new(Some(&first)).await;
    let keys = house.keys(&first);
    let stack = Stack::on_sqlite().await;
    let options =
        Options { records: 3_000, token: format!("pat-{CANARY}"), limits: Limits::unlimited(), ..Options::default() };
    let crm = Simulator::start(options).await.expect("simulator");
    crm.state().add_fault(Fault::new("objects/2026-03", 24, Effect::Delay { milliseconds: 400 }));
    let address = house.front.address.to_string();
    let (ca, certificate, key, api_key) =
        (keys.text("ca.crt"), keys.text("tls.crt"), keys.text("tls.key"), keys.text("api-key"));
    let mut worker = stack.worker_with(&[
        ("TEMPORAL_ADDRESS", &address),
        ("TEMPORAL_TLS_SERVER_NAME", NAME),
        ("TEMPORAL_TLS_SERVER_CA_CERT_PATH", &ca),
        ("TEMPORAL_TLS_CLIENT_CERT_PATH", &certificate),
        ("TEMPORAL_TLS_CLIENT_KEY_PATH", &key),
        ("GTM_TEMPORAL_API_KEY_FILE", &api_key),
        ("GTM_LOG", "debug"),
    ]);
    stack.tenant("acme", None).await;
    stack
        .connector("acme", "hubspot", &crm.base_url(), &format!("pat-{CANARY}"), |of| of.config.batch_size = 100)
        .await;
    stack.start_sync("sync-acme-hubspot-full", "acme", "hubspot", true).await;
    let written = || async {
        let progress = stack.progress("sync-acme-hubspot-full").await?;
        progress["recordsProcessed"].as_u64().filter(|count| *count > 0)
    };
    let before = eventually("the sync writes", SOON, written).await;

    // Half of a pair first, as a rotation that is not atomic leaves it: nothing of it is used.
    let (servers, clients) = (Authority::new(), Authority::new());
    let pair = clients.client("worker");
    let swap = |key: &str| {
        let files =
            [("ca.crt", &*servers.pem()), ("tls.crt", &pair.certificate), ("tls.key", key), ("api-key", &second)];
        keys.swap(&files);
    };
    swap("half");
    house.front.demand(House::demands(&servers, &clients, Some(&second)));
    swap(&pair.key);

    let end = stack.end("sync-acme-hubspot-full").await.completed();
    assert_eq!(end["outcome"], "complete", "after {before} records: {end}");
    assert!(worker.exited().is_none(), "the same process");
    assert!(house.front.authorizations().contains(&format!("Bearer {second}")));
    let target = checker::Target {
        database: stack.database_url.clone(),
        tenant: "acme".to_owned(),
        connector: "hubspot".to_owned(),
        streams: Vec::new(),
    };
    let report = checker::check(&checker::Source::InProcess(crm.state()), &target).await.expect("checks");
    assert!(report.is_clean(), "{report}");
    let log = std::fs::read_to_string(stack.log_path()).expect("worker log");
    assert!(!log.contains(CANARY) && !log.contains("PRIVATE KEY"), "a secret in the worker's log, even at debug");
    assert!(!stack.history("sync-acme-hubspot-full").await.0.contains(CANARY), "a secret in the history");
}
