//! PostgreSQL that demands TLS, a certificate that names the role, and a password.

use std::time::Duration;

use gtm_sync::{
    error_class::Class,
    key_files::KeyFiles,
    settings::StoreSettings,
    store::{self, Error},
};
use simulators::{
    checker,
    hubspot::{Effect, Fault, Limits, Options, Simulator},
};

use crate::support::{
    authority::{Authority, Mounted},
    databases::fresh_database,
    eventually,
    servers::PostgresServer,
    stack::{CANARY, Stack},
};

const ROLE: &str = "syncer";
const SOON: Duration = Duration::from_secs(60);

/// A server, a database of its own, and the role by which workers come.
pub(crate) struct House {
    servers: Authority,
    clients: Authority,
    server: PostgresServer,
    /// For the test itself, by the socket.
    socket_url: String,
}

impl House {
    pub(crate) async fn new(password: &str) -> Self {
        let (servers, clients) = (Authority::new(), Authority::new());
        let server = PostgresServer::demanding(&servers, &clients).await;
        server.execute(&format!("CREATE ROLE {ROLE} LOGIN SUPERUSER PASSWORD '{password}'")).await;
        let socket_url = fresh_database(&server.socket_url).await;
        Self { servers, clients, server, socket_url }
    }

    fn url(&self, password: &str) -> String {
        let mut url: url::Url = self.server.url.parse().expect("URL");
        url.set_username(ROLE).expect("a role");
        url.set_password(Some(password)).expect("a password");
        url.set_path(self.socket_url.parse::<url::Url>().expect("URL").path());
        url.into()
    }

    /// What fits the server, in a mounted Secret.
    pub(crate) fn keys(&self, password: &str) -> Mounted {
        let keys = Mounted::of(&["url", "ca.crt", "tls.crt", "tls.key"].map(|name| (name, "")));
        self.renew(&keys, password);
        keys
    }

    /// What fits the server now, in place of what did.
    pub(crate) fn renew(&self, keys: &Mounted, password: &str) {
        let (url, ca, pair) = (self.url(password), self.servers.pem(), self.clients.client(ROLE));
        keys.swap(&[("url", &url), ("ca.crt", &ca), ("tls.crt", &pair.certificate), ("tls.key", &pair.key)]);
    }

    /// Other authorities, certificates and password from now on; who is connected is sent away.
    pub(crate) async fn replace(&mut self, password: &str) {
        (self.servers, self.clients) = (Authority::new(), Authority::new());
        self.server.execute(&format!("ALTER ROLE {ROLE} PASSWORD '{password}'")).await;
        self.server.replace_certificates(&self.servers, &self.clients).await;
        let of_role = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'");
        self.server.execute(&of_role).await;
    }
}

pub(crate) fn settings(keys: &Mounted) -> StoreSettings {
    StoreSettings {
        database_url_file: Some(keys.path("url")),
        database_ssl_root_cert: Some(keys.path("ca.crt")),
        database_ssl_cert: Some(keys.path("tls.crt")),
        database_ssl_key: Some(keys.path("tls.key")),
        ..StoreSettings::default()
    }
}

async fn refused(settings: &StoreSettings) -> String {
    let error = store::open_with(settings, &KeyFiles::default()).await.err().expect("refused");
    assert_eq!(error.class(), Class::Transient, "waited for: {error}");
    let text = error.to_string();
    assert!(!text.contains(CANARY), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres"]
async fn a_server_that_demands_certificates_is_reached_with_the_right_ones_and_says_what_is_wrong_with_others() {
    let password = format!("password-{CANARY}");
    let house = House::new(&password).await;
    let keys = house.keys(&password);
    let store = store::open_with(&settings(&keys), &KeyFiles::default()).await.expect("let in");
    assert_eq!(store.schema_version().await, Ok(0));

    let url = house.url(&password);
    let plain = refused(&StoreSettings::of(&url)).await;
    assert!(plain.contains("28000"), "no certificate: {plain}");
    let clear = refused(&StoreSettings::of(format!("{url}?sslmode=disable"))).await;
    assert!(clear.contains("28000"), "no TLS: {clear}");

    let mozilla = StoreSettings { database_ssl_root_cert: None, ..settings(&keys) };
    let mozilla = refused(&mozilla).await;
    assert!(mozilla.contains("an authority that we do not trust"), "{mozilla}");
    let elsewhere = StoreSettings {
        database_url: Some(url.replace("127.0.0.1", "localhost")),
        database_url_file: None,
        ..settings(&keys)
    };
    let elsewhere = refused(&elsewhere).await;
    assert!(elsewhere.contains("for another name"), "{elsewhere}");

    for (client, expected) in [
        (Authority::new().client(ROLE), "TLS: the server refuses our client certificate"),
        (house.clients.client("another"), "28P01, the server refuses the password, or our certificate for this role"),
        (house.clients.client_until(ROLE, 2024), "our client certificate has expired"),
    ] {
        let (ca, url) = (house.servers.pem(), house.url(&password));
        keys.swap(&[("url", &url), ("ca.crt", &ca), ("tls.crt", &client.certificate), ("tls.key", &client.key)]);
        let text = refused(&settings(&keys)).await;
        assert!(text.contains(expected), "{text}");
    }
    let wrong = refused(&settings(&house.keys("wrong"))).await;
    assert!(wrong.contains("28P01, the server refuses the password"), "{wrong}");
    let keys = house.keys(&password);
    let unknown = StoreSettings { database_ssl_mode: Some("verify-ca".to_owned()), ..settings(&keys) };
    let unknown = store::open_with(&unknown, &KeyFiles::default()).await.err().expect("refused");
    assert!(matches!(unknown, Error::Refused { .. }), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres and temporal"]
async fn a_sync_goes_on_while_authorities_certificate_and_password_are_replaced() {
    let (first, second) = (format!("first-{CANARY}"), format!("second-{CANARY}"));
    let mut house = House::new(&first).await;
    let keys = house.keys(&first);
    let stack = Stack::on(&house.socket_url, tempfile::tempdir().expect("directory")).await;
    let options =
        Options { records: 3_000, token: format!("pat-{CANARY}"), limits: Limits::unlimited(), ..Options::default() };
    let crm = Simulator::start(options).await.expect("simulator");
    crm.state().add_fault(Fault::new("objects/2026-03", 24, Effect::Delay { milliseconds: 400 }));
    let files = ["url", "ca.crt", "tls.crt", "tls.key"].map(|name| keys.text(name));
    let mut worker = stack.worker_with(&[
        ("GTM_DATABASE_URL_FILE", &files[0]),
        ("PGSSLROOTCERT", &files[1]),
        ("PGSSLCERT", &files[2]),
        ("PGSSLKEY", &files[3]),
        ("GTM_LOG", "debug"),
    ]);
    stack.tenant("acme", None).await;
    stack
        .connector("acme", "hubspot", &crm.base_url(), &format!("pat-{CANARY}"), |of| of.config.batch_size = 100)
        .await;
    stack.start_sync("sync-acme-hubspot-full", "acme", "hubspot", true).await;
    let before = eventually("the sync writes", SOON, || async {
        let progress = stack.progress("sync-acme-hubspot-full").await?;
        progress["recordsProcessed"].as_u64().filter(|count| *count > 0)
    })
    .await;

    // The server first: nobody is let in until the files follow.
    house.replace(&second).await;
    house.renew(&keys, &second);

    let end = stack.end("sync-acme-hubspot-full").await.completed();
    assert_eq!(end["outcome"], "complete", "after {before} records: {end}");
    assert!(worker.exited().is_none(), "the same process");
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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres"]
async fn connections_made_with_the_former_password_are_not_used_again() {
    let house = House::new("first").await;
    let keys = house.keys("first");
    let files = KeyFiles::default();
    let store = store::open_with(&settings(&keys), &files).await.expect("let in");
    let former = backends(&house).await;
    assert_eq!(former.len(), 1);
    let watch = tokio::spawn(files.keep());
    house.renew(&keys, "first");
    eventually("another connection takes over", SOON, || async {
        store.schema_version().await.expect("answers");
        let now = backends(&house).await;
        (now.len() == 1 && now != former).then_some(())
    })
    .await;
    watch.abort();
}

/// Process ids of the role's connections.
async fn backends(house: &House) -> Vec<i32> {
    let (client, connection) =
        tokio_postgres::connect(&house.server.socket_url, tokio_postgres::NoTls).await.expect("the socket");
    tokio::spawn(connection);
    let rows = client.query("SELECT pid FROM pg_stat_activity WHERE usename = $1", &[&ROLE]).await.expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}
