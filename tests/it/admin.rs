//! The commands for people on call, as the built program runs them on a SQLite store: what they print, and what they refuse.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use gtm_sync::store;
use serde_json::{Value, json};

/// What a payload holds; shown only where it was asked for.
const CANARY: &str = "canary@example.com";

/// A store with tenant `acme` in namespace `tenant-acme`, connector `hubspot`, two dead letters, a run, and a contact.
struct Stored {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Stored {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store.sqlite");
        let stored = Self { path, _directory: directory };
        store::open(&stored.url()).await.expect("opens").migrate().await.expect("migrates");
        let config = json!({"source": {"type": "hubspot"}, "batchSize": 100, "quotaReservePercent": 20, "maxRejectedPercent": 50});
        stored.execute(&format!(
            "INSERT INTO tenant (tenant_id, cluster_id, namespace, name, uid, updated_at)
                VALUES ('acme', '', 'tenant-acme', 'acme', 'u', '2026-11-23T00:00:00.000000Z');
            INSERT INTO connector (tenant_id, connector_id, joined_name, cluster_id, namespace, name, uid, generation,
                    desired_state, config, own_schedule, revision, connection_status, connection_reason, updated_at)
                VALUES ('acme', 'hubspot', 'acme-hubspot', '', 'tenant-acme', 'hubspot', 'u', 1, 'running', '{config}', 0,
                    1, 'connected', '', '2026-11-23T00:00:00.000000Z');
            INSERT INTO dead_letter (tenant_id, connector_id, observed_seq, account_id, workflow_id, batch_index, entity,
                    source_id, code, field, payload, payload_form, recorded_at)
                VALUES ('acme', 'hubspot', 7, 'portal-1', 'run-1', 3, 'contact', 'o''brien', 'UnstorableValue', 'phone',
                    CAST('{{\"email\":\"{CANARY}\"}}' AS BLOB), 'served', '2026-11-23T01:00:00.000000Z'),
                ('acme', 'hubspot', 8, 'portal-1', 'run-2', 0, NULL, NULL, 'BatchFailed', NULL, x'', 'expired',
                    '2026-11-23T02:00:00.000000Z');
            INSERT INTO run (tenant_id, connector_id, workflow_id, run_no, full_sync, first_seq, started_at, finished_at,
                    outcome, error, entity_type, stats, failed_streams)
                VALUES ('acme', 'hubspot', 'run-1', 1, 1, 0, '2026-11-23T00:00:00.000000Z',
                    '2026-11-23T00:10:00.000000Z', 'failed', 'Unauthorised', 'contacts',
                    '{}', '[]')",
            serde_json::to_string(&gtm_sync::contract::workflows::SyncStats::default()).expect("JSON")
        ));
        stored
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    fn execute(&self, sql: &str) {
        rusqlite::Connection::open(&self.path).expect("opens").execute_batch(sql).expect("executes");
    }

    fn letters(&self) -> i64 {
        let connection = rusqlite::Connection::open(&self.path).expect("opens");
        connection.query_row("SELECT count(*) FROM dead_letter", [], |row| row.get(0)).expect("counts")
    }

    /// Runs the program; arguments are separated by blanks.
    fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gtm-sync"));
        command.args(arguments.split(' ')).env("GTM_DATABASE_URL", self.url()).stdin(std::process::Stdio::null());
        command.output().expect("the program runs")
    }

    /// Its output, if it succeeds.
    fn answer(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.answer(&format!("{arguments} -o json"))).expect("JSON")
    }

    /// What it says when it fails.
    fn refusal(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).expect("text")
    }
}

#[tokio::test]
async fn a_tenant_is_released_only_by_the_namespace_that_holds_it_and_once_it_is_deleted_or_given_up_for_lost() {
    let stored = Stored::new().await;
    let shown = stored.answer("tenants show --tenant acme");
    assert!(shown.starts_with("TENANT") && shown.contains("Held") && shown.contains("tenant-acme"), "{shown}");
    for (arguments, told) in [
        ("tenants release --tenant acme --namespace other --yes", "is held from namespace tenant-acme"),
        ("tenants release --tenant acme --namespace tenant-acme --yes", "--even-if-held"),
        ("tenants release --tenant acme --namespace tenant-acme --even-if-held", "say --yes"),
        ("tenants release --tenant acne --namespace tenant-acme --yes", "no tenant acne"),
    ] {
        let refusal = stored.refusal(arguments);
        assert!(refusal.contains(told), "{arguments}: {refusal}");
    }
    assert_eq!(stored.json("tenants show --tenant acme")["state"], "Held", "nothing was released");
    let released = stored.json("tenants release --tenant acme --namespace tenant-acme --even-if-held --yes");
    assert_eq!((&released["state"], &released["namespace"]), (&json!("Free"), &json!("")));
    assert!(stored.refusal("tenants release --tenant acme --namespace tenant-acme --yes").contains("free already"));
}

const OF_HUBSPOT: &str = "--tenant acme --connector hubspot";

#[tokio::test]
async fn dead_letters_are_listed_and_selected_and_payloads_are_shown_only_when_asked_for() {
    let stored = Stored::new().await;
    let table = stored.answer(&format!("dead-letters list {OF_HUBSPOT}"));
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with("SEQ") && !table.contains('\u{1b}'), "no colours into a pipe: {table}");
    for told in ["7", "2026-11-23T01:00:00Z", "portal-1", "contact", "o'brien", "UnstorableValue", "phone", "run-1"] {
        assert!(lines[1].contains(told), "{told}: {}", lines[1]);
    }
    let selected = stored.json(&format!("dead-letters list {OF_HUBSPOT} --run run-2 --batch 0"));
    assert_eq!((selected.as_array().map(Vec::len), &selected[0]["observedSeq"]), (Some(1), &json!(8)));
    assert_eq!(stored.json(&format!("dead-letters list {OF_HUBSPOT} --entity lead")), json!([]));
    assert_eq!(stored.json(&format!("dead-letters list {OF_HUBSPOT} --limit 1 --after 7"))[0]["observedSeq"], 8);

    let without = stored.answer(&format!("dead-letters show 7 {OF_HUBSPOT}"));
    assert!(!(table + &without).contains(CANARY) && without.contains("UnstorableValue"), "{without}");
    assert!(stored.answer(&format!("dead-letters show 7 {OF_HUBSPOT} --payload")).contains(CANARY));
    assert_eq!(stored.json(&format!("dead-letters show 7 {OF_HUBSPOT} --payload"))["payload"]["email"], CANARY);
    let gone = stored.run(&format!("dead-letters show 8 {OF_HUBSPOT} --payload"));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("retention"));
}

#[tokio::test]
async fn replay_and_discard_print_the_wish_and_write_nothing() {
    let stored = Stored::new().await;
    let command = stored.answer(&format!("dead-letters replay {OF_HUBSPOT} --entity contact --record o'brien"));
    let start = "kubectl -n tenant-acme patch connector hubspot --type merge -p '{";
    assert!(command.starts_with(start) && command.contains(r"o'\''brien"), "{command}");
    let patch = stored.json(&format!("dead-letters replay {OF_HUBSPOT}"));
    let token = patch["spec"]["requests"]["replay"]["token"].as_str().expect("a token");
    assert!(token.starts_with("replay-20") && token.ends_with('Z'), "{token}");
    let said = stored.run(&format!("dead-letters replay {OF_HUBSPOT}"));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("selects 2 dead letters") && said.contains("1 of them have no id"), "{said}");
    stored.execute("UPDATE connector SET account_id = 'another'");
    let said = stored.run(&format!("dead-letters replay {OF_HUBSPOT}"));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("2 of them are of a former account") && said.contains("discard"), "{said}");
    assert_eq!(
        stored.json(&format!("dead-letters discard {OF_HUBSPOT} --all"))["spec"]["requests"]["discard"]["all"],
        true
    );
    assert_eq!(stored.letters(), 2);
    let refusal = stored.refusal(&format!("dead-letters discard {OF_HUBSPOT}"));
    assert!(refusal.contains("discard deletes for good") && refusal.contains("--all"), "{refusal}");
    assert!(
        stored.refusal(&format!("dead-letters discard {OF_HUBSPOT} --all --run x")).contains("cannot be used with")
    );
}

#[tokio::test]
async fn runs_are_listed_with_their_end() {
    let stored = Stored::new().await;
    let table = stored.answer(&format!("runs list {OF_HUBSPOT}"));
    for told in ["run-1", "full", "failed", "Unauthorised", "2026-11-23T00:10:00Z"] {
        assert!(table.contains(told), "{told}: {table}");
    }
    assert_eq!(stored.json(&format!("runs list {OF_HUBSPOT}"))[0]["outcome"], "failed");
}

#[tokio::test]
async fn erasing_asks_first_and_tells_what_it_did_and_what_remains_to_be_done() {
    let stored = Stored::new().await;
    let erase = format!("erase --tenant acme --email {}", CANARY.to_uppercase());
    let refusal = stored.refusal(&erase);
    assert!(refusal.contains("nobody to ask: say --yes") && refusal.contains("cannot be undone"), "{refusal}");
    assert_eq!(stored.letters(), 2, "nothing was erased");
    let erased = stored.run(&format!("{erase} --yes -o json"));
    let counts: Value = serde_json::from_slice(&erased.stdout).expect("JSON");
    assert_eq!((&counts["deadLetters"], &counts["records"]), (&json!(1), &json!(0)));
    assert!(String::from_utf8_lossy(&erased.stderr).contains("delete it there"));
    assert_eq!(stored.letters(), 1);
    let one = stored.answer("erase --tenant acme --connector hubspot --entity lead --record 1 --yes");
    assert!(one.starts_with("ERASED"), "{one}");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_the_way_out() {
    let stored = Stored::new().await;
    for (arguments, expected) in [
        ("dead-letters list --tenant acme --connector other", "kubectl get connectors -A"),
        ("dead-letters show 9 --tenant acme --connector hubspot", "there is no dead letter 9"),
        ("dead-letters list --tenant acme --connector hubspot --batch 1", "--run <RUN>"),
        ("dead-letters list --tenant acme --connector hubspot --entity deals", "one of account, contact"),
        ("runs list --tenant Acme --connector hubspot", "--tenant"),
        ("erase --tenant acme --yes", "--email <EMAIL>"),
        ("erase --tenant acme --email brien --yes", "a whole address"),
        ("erase --tenant acme --connector hubspot --entity stage --record 1 --yes", "one of contact, lead, owner"),
        ("erase --tenant acme --connector hubspot --record 1 --yes", "--entity <ENTITY>"),
        ("erase --tenant nobody --email a@example.com --yes", "kubectl get tenantschedules -A"),
    ] {
        let refusal = stored.refusal(arguments);
        assert!(refusal.contains(expected), "{arguments}: {refusal}");
    }
    let empty = tempfile::tempdir().expect("a directory");
    let empty = Stored { path: empty.path().join("none.sqlite"), _directory: empty };
    assert!(empty.refusal("runs list --tenant acme --connector hubspot").contains("the store is empty"));
}
