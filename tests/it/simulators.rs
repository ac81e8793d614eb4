//! The simulator over real HTTP: the vendor's own client unchanged, and the faults that only a connection shows;
//! and the checker on stores as the product migrates them. All else is tested in the simulators' own crate.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use simulators::{
    checker::{Defect, Report, Source, Target, check},
    hubspot::{Effect, Fault, Kind, Limits, Options, Simulator, Truth},
};

use crate::support;

const PATH: &str = "/crm/objects/2026-03/contacts?limit=100";

async fn simulator() -> Simulator {
    let options =
        Options { records: 2_000, token: "token".to_owned(), limits: Limits::unlimited(), ..Options::default() };
    Simulator::start(options).await.expect("a free port")
}

fn client() -> reqwest::Client {
    // Another test of this binary may have installed it before: that is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().timeout(Duration::from_secs(5)).build().expect("no special settings")
}

async fn get(simulator: &Simulator, path: &str) -> reqwest::Result<reqwest::Response> {
    client().get(format!("{}{path}", simulator.base_url())).bearer_auth("token").send().await
}

#[tokio::test]
#[ignore = "needs python"]
async fn the_vendors_client_lists_searches_reads_writes_and_archives_unchanged() {
    let simulator = simulator().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulators/tests/vendor_client.py");
    let run = tokio::process::Command::new(support::service("GTM_TEST_PYTHON"))
        .arg(script)
        .args([simulator.base_url().as_str(), "token"])
        .output()
        .await
        .expect("the interpreter named by GTM_TEST_PYTHON starts");
    let (printed, complaints) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{printed}{complaints}");
    assert!(printed.lines().count() > 20 && printed.lines().all(|line| line.starts_with("ok: ")), "{printed}");
    simulator.shutdown().await.expect("it served until now");
}

#[tokio::test]
async fn faults_of_the_transport_reach_the_client() {
    let simulator = simulator().await;
    let state = simulator.state();
    let whole = get(&simulator, PATH).await.expect("an answer").text().await.expect("a body");

    state.add_fault(Fault::new("contacts", 1, Effect::Reset));
    let error = get(&simulator, PATH).await.expect_err("no answer comes");
    assert!(error.is_request() && !error.is_timeout(), "{error:?}");

    state.add_fault(Fault::new("contacts", 1, Effect::TruncatedBody));
    let cut = get(&simulator, PATH).await.expect("the head comes");
    assert_eq!((cut.status().as_u16(), cut.content_length()), (200, Some(whole.len() as u64)));
    assert!(cut.text().await.is_err(), "the body ends too early");

    state.add_fault(Fault::new("contacts", 1, Effect::Html));
    let page = get(&simulator, PATH).await.expect("an answer");
    assert!(page.headers()["content-type"].to_str().is_ok_and(|kind| kind.starts_with("text/html")));
    assert!(page.json::<Value>().await.is_err());

    state.add_fault(Fault::new("contacts", 1, Effect::Hang));
    let hung = client().get(format!("{}{PATH}", simulator.base_url())).bearer_auth("token");
    let error = hung.timeout(Duration::from_millis(300)).send().await.expect_err("no answer in time");
    assert!(error.is_timeout(), "{error:?}");

    state.add_fault(Fault::new("contacts", 1, Effect::Status { status: 503 }));
    assert_eq!(get(&simulator, PATH).await.expect("an answer").status(), 503);
    state.add_fault(Fault::new("contacts", 1, Effect::Delay { milliseconds: 1 }));
    assert_eq!(get(&simulator, PATH).await.expect("an answer").text().await.expect("a body"), whole);
    assert_eq!(state.stats().faults, 6);
}

#[tokio::test]
async fn a_hanging_request_does_not_keep_the_simulator_from_stopping() {
    let simulator = simulator().await;
    simulator.state().add_fault(Fault::always("", Effect::Hang));
    let hanging = tokio::spawn(client().get(format!("{}{PATH}", simulator.base_url())).bearer_auth("token").send());
    let state = simulator.state();
    support::eventually("the request arrives", Duration::from_secs(5), || {
        let arrived = state.stats().request_count() > 0;
        async move { arrived.then_some(()) }
    })
    .await;
    simulator.shutdown().await.expect("it served until now");
    assert!(hanging.await.expect("no panic").is_err(), "the connection ends without an answer");
}

#[tokio::test]
async fn the_date_header_is_the_simulators_clock() {
    let simulator = simulator().await;
    simulator.state().advance_clock(Duration::from_secs(86_400));
    let answer = get(&simulator, PATH).await.expect("an answer");
    let date = answer.headers()["date"].to_str().expect("text");
    let date = jiff::fmt::rfc2822::parse(date).expect("a date as HTTP writes it").timestamp();
    let behind = simulator.state().now().duration_since(date).as_secs();
    assert!((0..5).contains(&behind), "{behind} s behind");
}

#[tokio::test]
async fn everything_a_test_can_do_in_process_can_be_done_by_http() {
    let simulator = simulator().await;
    let admin = |path: &str| format!("{}/__simulator/{path}", simulator.base_url());
    let post = async |path: &str, body: Value| {
        let answer = client().post(admin(path)).json(&body).send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        answer.json::<Value>().await.expect("JSON")
    };
    let read =
        async |path: &str| client().get(admin(path)).send().await.expect("an answer").text().await.expect("text");

    let edited = post("edit", json!({"seed": 3, "create": 2, "update": 3, "archive": 1})).await;
    assert_eq!(edited["updated"].as_array().map(Vec::len), Some(3));
    let before = simulator.state().now();
    post("clock", json!({"advanceSeconds": 600})).await;
    assert!(simulator.state().now().duration_since(before).as_secs() >= 600);
    let faults = post("faults", json!([{"path": "contacts", "times": 2, "type": "status", "status": 500}])).await;
    assert_eq!(faults.as_array().map(Vec::len), Some(1));
    assert_eq!(get(&simulator, PATH).await.expect("an answer").status(), 500);
    client().delete(admin("faults")).send().await.expect("an answer");
    let page: Value = get(&simulator, PATH).await.expect("an answer").json().await.expect("JSON");
    let shown = page["results"].as_array().expect("a page").len();

    let truths = read("state").await;
    let truths: Vec<Truth> = truths.lines().map(|line| serde_json::from_str(line).expect("a truth")).collect();
    assert_eq!(truths, simulator.state().truth());
    assert_eq!(read("log").await.lines().count(), shown, "a line for each record that was shown");
    let stats: Value = serde_json::from_str(&read("stats").await).expect("JSON");
    assert_eq!(stats["recordsServed"]["contacts"], shown);
    let info: Value = serde_json::from_str(&read("").await).expect("JSON");
    assert_eq!(info["records"]["contacts"], simulator.state().count(Kind::Contacts));
}

/// A store as the product migrates it, with the few statements that differ.
struct Migrated {
    url: String,
    /// Before a table's name.
    schema: &'static str,
    blob: &'static str,
}

impl Migrated {
    async fn open(url: String) -> Self {
        gtm_sync::store::open(&url).await.expect("opens").migrate().await.expect("migrates");
        let sqlite = url.starts_with("sqlite:");
        Self { url, schema: if sqlite { "" } else { "gtm." }, blob: if sqlite { "x'00'" } else { r"'\x00'" } }
    }

    async fn execute(&self, sql: &str) {
        match self.url.strip_prefix("sqlite:") {
            Some(path) => rusqlite::Connection::open(path).expect("opens").execute_batch(sql).expect("executes"),
            None => {
                let (client, connection) = connect(&self.url).await;
                client.batch_execute(sql).await.expect("executes");
                drop(client);
                connection.await.expect("no panic").expect("closes");
            }
        }
    }

    async fn insert_deal(&self, deal: &Truth) {
        let text = |name: &str| {
            let value = deal.properties.get(name).filter(|value| !value.is_empty());
            value.map_or("NULL".to_owned(), |value| format!("'{}'", value.replace('\'', "''")))
        };
        let company = deal.company.as_ref().map_or("NULL".to_owned(), |id| format!("'{id}'"));
        let (id, at, schema, blob) = (&deal.id, format!("{:.6}", deal.updated_at), self.schema, self.blob);
        let (name, stage, pipeline) = (text("dealname"), text("dealstage"), text("pipeline"));
        let owner = text("hubspot_owner_id");
        self.execute(&format!(
            "INSERT INTO {schema}opportunity (tenant_id, connector_id, source_id, source_type, account_id, canonical_id,
                source_updated_at, observed_seq, payload_hash, schema_version, first_seen_at, synced_at, run,
                name, amount, stage, pipeline, account_source_id, owner_source_id)
            VALUES ('acme', 'hubspot', '{id}', 'hubspot', '62515', '00000000-0000-0000-0000-000000000001',
                '{at}', 1, {blob}, 1, '{at}', '{at}', 'run', {name}, '1000.50', {stage}, {pipeline}, {company}, {owner})"
        ))
        .await;
    }

    async fn report(&self, simulator: &Simulator) -> Report {
        let target = Target {
            database: self.url.clone(),
            tenant: "acme".to_owned(),
            connector: "hubspot".to_owned(),
            streams: vec!["deals".to_owned()],
        };
        check(&Source::Url(simulator.base_url()), &target).await.expect("both can be read")
    }

    /// The checker's way from an empty store to a right one, and to a wrong one.
    async fn is_understood_by_the_checker(&self) {
        let simulator = simulator().await;
        let state = simulator.state();
        for id in &state.live_ids(Kind::Deals)[1..] {
            assert!(state.archive(Kind::Deals, id));
        }
        let id = state.live_ids(Kind::Deals).remove(0);
        assert!(state.update(Kind::Deals, &id, [("amount".to_owned(), Some("1.0005e3".to_owned()))].into()));
        let deal = state.truth().into_iter().find(|truth| truth.stream == "deals" && truth.id == id);
        let deal = deal.expect("the one that lives");
        let counts = async || self.report(&simulator).await.counts.into_iter().collect::<Vec<_>>();

        assert_eq!(counts().await, [(Defect::NoCursor, 1)], "an empty store");
        state.advance_clock(Duration::from_secs(60));
        let (now, schema) = (state.now(), self.schema);
        self.execute(&format!(
            "INSERT INTO {schema}sync_state (tenant_id, connector_id, account_id, run_no, next_seq, cursor, generation,
                dead_letters, updated_at)
            VALUES ('acme', 'hubspot', '62515', 1, 1, '{{\"streams\": {{\"deals\": \"{now}\"}}}}', 1, 0, '{now}')"
        ))
        .await;
        assert_eq!(counts().await, [(Defect::CursorAhead, 1)], "a cursor and no row");
        self.execute(&format!(
            "INSERT INTO {schema}dead_letter (tenant_id, connector_id, observed_seq, account_id, workflow_id, batch_index,
                entity, source_id, code, payload, payload_form, recorded_at)
            VALUES ('acme', 'hubspot', 1, '62515', 'run', 0, 'opportunity', '{id}', 'Test', {}, 'json', '{now}')",
            self.blob
        ))
        .await;
        assert_eq!(counts().await, [], "a dead letter is not lost");
        self.execute(&format!("DELETE FROM {schema}dead_letter")).await;
        self.insert_deal(&deal).await;
        assert_eq!(counts().await, [], "the right row");
        self.execute(&format!("UPDATE {schema}opportunity SET amount = '1000.51'")).await;
        assert_eq!(counts().await, [(Defect::Differs, 1)]);
        self.execute(&format!("UPDATE {schema}opportunity SET source_updated_at = '2020-01-01T00:00:00.000000Z'"))
            .await;
        assert_eq!(counts().await, [(Defect::Stale, 1)]);
        self.execute(&format!("UPDATE {schema}opportunity SET deleted_at = source_updated_at")).await;
        assert_eq!(counts().await, [(Defect::WronglyDeleted, 1)]);
    }
}

#[tokio::test]
async fn the_checker_understands_the_sqlite_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", directory.path().join("store.sqlite").display());
    Migrated::open(url).await.is_understood_by_the_checker().await;
}

type Connection = tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>;

async fn connect(url: &str) -> (tokio_postgres::Client, Connection) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("connects");
    (client, tokio::spawn(connection))
}

#[tokio::test]
#[ignore = "needs postgres"]
async fn the_checker_understands_the_postgres_store() {
    let name = support::fresh("checker").replace('-', "_");
    let (server, _connection) = connect(&support::postgres_url()).await;
    server.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("creates");
    let mut url = url::Url::parse(&support::postgres_url()).expect("a URL");
    url.set_path(&name);
    Migrated::open(url.to_string()).await.is_understood_by_the_checker().await;
    server.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.expect("drops");
}
