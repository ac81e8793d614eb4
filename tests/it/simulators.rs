//! The simulator over real HTTP: the vendor's own client unchanged, and the faults that only a connection shows.
//! What the API answers is tested in the simulators' own crate.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use simulators::hubspot::{Effect, Fault, Limits, Options, Simulator, Truth};

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
    assert_eq!(info["records"]["contacts"], simulator.state().count(simulators::hubspot::Kind::Contacts));
}
