//! A store filled by hand with what a small simulator holds passes; each kind of defect is found.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::{Defect, Report, Source, Target, check};
use crate::hubspot::{Kind, Options, Properties, Simulator, StateHandle, Truth, Visibility};

/// The read contract, as small as it can be; no keys, so that doubles are possible.
const SCHEMA: &str = "
CREATE TABLE rows (view TEXT, tenant_id TEXT, connector_id TEXT, source_id TEXT, source_updated_at TEXT, deleted_at TEXT,
    kind TEXT, name TEXT, domain TEXT, email TEXT, first_name TEXT, last_name TEXT, amount TEXT, stage TEXT, pipeline TEXT,
    subject TEXT, active INTEGER, account_source_id TEXT, owner_source_id TEXT);
CREATE VIEW canonical_account AS SELECT * FROM rows WHERE view = 'account';
CREATE VIEW canonical_contact AS SELECT * FROM rows WHERE view = 'contact';
CREATE VIEW canonical_opportunity AS SELECT * FROM rows WHERE view = 'opportunity';
CREATE VIEW canonical_activity AS SELECT * FROM rows WHERE view = 'activity';
CREATE VIEW canonical_owner AS SELECT * FROM rows WHERE view = 'owner';
CREATE VIEW canonical_stage AS SELECT * FROM rows WHERE view = 'stage';
CREATE TABLE dead_letter (tenant_id TEXT, connector_id TEXT, entity TEXT, source_id TEXT);
CREATE TABLE sync_state (tenant_id TEXT, connector_id TEXT, account_id TEXT, cursor TEXT);
";

const STREAMS: [&str; 10] =
    ["owners", "pipelines", "companies", "contacts", "deals", "calls", "emails", "meetings", "tasks", "notes"];

/// A simulator and a store that holds what it holds.
struct Bench {
    simulator: Simulator,
    database: Connection,
    file: std::path::PathBuf,
}

impl Drop for Bench {
    fn drop(&mut self) {
        std::fs::remove_file(&self.file).expect("the test's own file");
    }
}

impl Bench {
    async fn new(name: &str) -> Self {
        let visibility = Visibility { late_records: 0, ..Visibility::default() };
        let options = Options { records: 300, portal_id: 7, visibility, ..Options::default() };
        let simulator = Simulator::start(options).await.expect("a free port");
        let file = std::env::temp_dir().join(format!("gtm-checker-{name}-{}.db", std::process::id()));
        if file.exists() {
            std::fs::remove_file(&file).expect("left over by a killed test");
        }
        let database = Connection::open(&file).expect("a writable temporary directory");
        database.execute_batch(SCHEMA).expect("plain SQL");
        let bench = Self { simulator, database, file };
        bench.copy(&bench.state().truth());
        bench.set_cursor(bench.state().now());
        bench
    }

    fn state(&self) -> StateHandle {
        self.simulator.state()
    }

    /// What a right sync stores.
    fn copy(&self, truths: &[Truth]) {
        let transaction = self.database.unchecked_transaction().expect("no other transaction");
        for truth in truths {
            self.store(truth);
        }
        transaction.commit().expect("nothing is in its way");
    }

    fn store(&self, truth: &Truth) {
        let of = |name: &str| truth.properties.get(name).cloned();
        let (view, prefix) = match truth.stream.as_str() {
            "companies" => ("account", ""),
            "contacts" => ("contact", ""),
            "deals" => ("opportunity", ""),
            "owners" => ("owner", ""),
            "pipelines" => ("stage", ""),
            activities => ("activity", activities.trim_end_matches('s')),
        };
        let source_id = if prefix.is_empty() { truth.id.clone() } else { format!("{prefix}:{}", truth.id) };
        let owner = view == "owner";
        let deleted = if owner || truth.is_live() { None } else { Some(truth.updated_at.to_string()) };
        let subject =
            ["hs_call_title", "hs_email_subject", "hs_meeting_title", "hs_task_subject"].into_iter().find_map(of);
        let sql = "INSERT INTO rows VALUES (?, 'acme', 'hubspot', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let inserted = self.database.execute(
            sql,
            params![
                view,
                source_id,
                format!("{:.6}", truth.updated_at),
                deleted,
                Some(prefix).filter(|prefix| !prefix.is_empty()),
                of("name").or(of("dealname")).or(of("label")),
                of("domain"),
                of("email"),
                of("firstname").or(of("firstName")),
                of("lastname").or(of("lastName")),
                of("amount").filter(|amount| !amount.is_empty()),
                of("dealstage"),
                of("pipeline"),
                subject,
                owner.then_some(truth.archived_at.is_none()),
                truth.company.as_ref().filter(|_| truth.company_is_live),
                of("hubspot_owner_id"),
            ],
        );
        assert_eq!(inserted.expect("a row that fits"), 1);
    }

    fn set_cursor(&self, at: Timestamp) {
        let streams: serde_json::Map<_, _> =
            STREAMS.iter().map(|name| ((*name).to_owned(), at.to_string().into())).collect();
        let cursor = serde_json::json!({"streams": streams}).to_string();
        self.sql("DELETE FROM sync_state");
        let added = self.database.execute("INSERT INTO sync_state VALUES ('acme', 'hubspot', '7', ?)", [cursor]);
        assert_eq!(added.expect("a row that fits"), 1);
    }

    /// Runs a statement and returns how many rows it changed.
    fn sql(&self, statement: &str) -> usize {
        self.database.execute(statement, []).expect("plain SQL")
    }

    /// The id of a live record that is not the newest of its type.
    fn some_live(&self, kind: Kind) -> String {
        let mut live: Vec<_> = self.state().truth();
        live.retain(|truth| truth.stream == kind.plural() && truth.is_live());
        live.sort_by_key(|truth| truth.updated_at);
        live.first().expect("300 records hold every type").id.clone()
    }

    async fn report(&self) -> Report {
        self.report_of(&[]).await
    }

    async fn report_of(&self, streams: &[&str]) -> Report {
        let target = Target {
            database: format!("sqlite:{}", self.file.display()),
            tenant: "acme".to_owned(),
            connector: "hubspot".to_owned(),
            streams: streams.iter().map(|&name| name.to_owned()).collect(),
        };
        check(&Source::InProcess(self.state()), &target).await.expect("both can be read")
    }

    /// Asserts that exactly these findings are made.
    async fn expect(&self, wanted: &[(Defect, u64)]) -> Report {
        let report = self.report().await;
        assert_eq!(
            report.counts.iter().map(|(&defect, &count)| (defect, count)).collect::<Vec<_>>(),
            wanted,
            "{report}"
        );
        report
    }
}

fn named(name: &str, value: &str) -> Properties {
    [(name.to_owned(), Some(value.to_owned()))].into()
}

#[tokio::test]
async fn a_store_that_holds_what_the_source_holds_is_clean() {
    let bench = Bench::new("clean").await;
    let report = bench.expect(&[]).await;
    assert!(report.is_clean());
    assert_eq!(report.streams.len(), STREAMS.len());
    assert!(report.to_string().contains("nothing lost"), "{report}");
    let by_url = Source::Url(bench.simulator.base_url());
    let target = Target {
        database: format!("sqlite:{}", bench.file.display()),
        tenant: "acme".to_owned(),
        connector: "hubspot".to_owned(),
        streams: Vec::new(),
    };
    assert_eq!(check(&by_url, &target).await.expect("reachable"), report, "the same by URL as in process");
}

#[tokio::test]
async fn a_missing_row_is_lost_unless_it_is_a_dead_letter() {
    let bench = Bench::new("lost").await;
    let id = bench.some_live(Kind::Deals);
    assert_eq!(bench.sql(&format!("DELETE FROM rows WHERE view = 'opportunity' AND source_id = '{id}'")), 1);
    let report = bench.expect(&[(Defect::Lost, 1)]).await;
    assert_eq!((&*report.findings[0].stream, &report.findings[0].source_id), ("deals", &id));
    bench.sql(&format!("INSERT INTO dead_letter VALUES ('acme', 'hubspot', 'opportunity', '{id}')"));
    assert_eq!(bench.expect(&[]).await.streams["deals"].dead_letters, 1);
}

#[tokio::test]
async fn a_dead_letter_without_an_id_stands_for_one_record() {
    let bench = Bench::new("nameless").await;
    assert!(
        bench.sql("DELETE FROM rows WHERE kind = 'call' AND source_id IN ('call:1001', 'call:1008', 'call:1015')") >= 2
    );
    bench.sql("INSERT INTO dead_letter VALUES ('acme', 'hubspot', 'activity', NULL)");
    let report = bench.report().await;
    assert_eq!(report.streams["calls"].dead_letters, 1);
    assert!(report.count(Defect::Lost) >= 1, "{report}");
}

#[tokio::test]
async fn ids_of_other_types_do_not_hide_a_loss() {
    let bench = Bench::new("kinds").await;
    let id = bench.some_live(Kind::Notes);
    assert_eq!(bench.sql(&format!("DELETE FROM rows WHERE source_id = 'note:{id}'")), 1);
    bench.expect(&[(Defect::Lost, 1)]).await;
}

#[tokio::test]
async fn an_older_version_is_stale_once_it_is_due() {
    let bench = Bench::new("stale").await;
    bench.state().advance_clock(Duration::from_secs(60));
    let id = bench.some_live(Kind::Companies);
    assert!(bench.state().update(Kind::Companies, &id, named("name", "New name")));
    assert_eq!(bench.expect(&[]).await.streams["companies"].not_due, 1, "changed after the watermark");
    bench.state().advance_clock(Duration::from_secs(60));
    bench.set_cursor(bench.state().now());
    bench.expect(&[(Defect::Stale, 1)]).await;
}

#[tokio::test]
async fn a_record_shown_late_is_not_due_before_a_source_could_see_it() {
    let bench = Bench::new("late").await;
    let state = bench.state();
    let id = state.create(Kind::Contacts, named("email", "late@mail.example"));
    assert!(state.hold(Kind::Contacts, &id));
    state.advance_clock(Duration::from_secs(3_600));
    bench.set_cursor(state.now());
    assert_eq!(bench.expect(&[]).await.streams["contacts"].not_due, 1);
    assert!(state.release(Kind::Contacts, &id));
    state.advance_clock(Duration::from_secs(3_600));
    bench.set_cursor(state.now());
    bench.expect(&[(Defect::CursorAhead, 1)]).await;
}

#[tokio::test]
async fn archived_and_merged_records_must_be_tombstones() {
    let bench = Bench::new("archived").await;
    let state = bench.state();
    let archived = bench.some_live(Kind::Tasks);
    assert!(state.archive(Kind::Tasks, &archived));
    let contacts = state.live_ids(Kind::Contacts);
    assert!(state.merge(Kind::Contacts, &contacts[0], &contacts[1]));
    state.advance_clock(Duration::from_secs(60));
    bench.set_cursor(state.now());
    // The winner of a merge has changed: its row is stale.
    bench.expect(&[(Defect::Stale, 1), (Defect::NotDeleted, 2)]).await;
    bench.sql(&format!("UPDATE rows SET deleted_at = source_updated_at WHERE source_id IN ('task:{archived}')"));
    bench.sql(&format!("DELETE FROM rows WHERE view = 'contact' AND source_id = '{}'", contacts[1]));
    bench.expect(&[(Defect::Stale, 1)]).await;
}

#[tokio::test]
async fn a_tombstone_of_a_live_record_is_wrongly_deleted() {
    let bench = Bench::new("tombstone").await;
    let id = bench.some_live(Kind::Emails);
    bench.sql(&format!("UPDATE rows SET deleted_at = source_updated_at WHERE source_id = 'email:{id}'"));
    bench.expect(&[(Defect::WronglyDeleted, 1)]).await;
}

#[tokio::test]
async fn doubles_and_strangers_are_found() {
    let bench = Bench::new("doubles").await;
    let id = bench.some_live(Kind::Contacts);
    bench.sql(&format!("INSERT INTO rows SELECT * FROM rows WHERE view = 'contact' AND source_id = '{id}'"));
    bench.sql("INSERT INTO rows (view, tenant_id, connector_id, source_id) VALUES ('account', 'acme', 'hubspot', '5')");
    bench.sql(
        "INSERT INTO rows (view, tenant_id, connector_id, source_id) VALUES ('activity', 'acme', 'hubspot', '1001')",
    );
    bench
        .sql("INSERT INTO rows (view, tenant_id, connector_id, source_id) VALUES ('account', 'other', 'hubspot', '5')");
    bench.expect(&[(Defect::Duplicated, 1), (Defect::Extra, 2)]).await;
}

#[tokio::test]
async fn a_cursor_above_what_is_stored_is_found() {
    let bench = Bench::new("ahead").await;
    let state = bench.state();
    state.create(Kind::Deals, named("dealname", "never read"));
    state.advance_clock(Duration::from_secs(60));
    bench.set_cursor(state.now());
    bench.expect(&[(Defect::CursorAhead, 1)]).await;
    bench.set_cursor(state.now() + jiff::SignedDuration::from_hours(1));
    let every_stream_and_the_deal = STREAMS.len() as u64 + 1;
    bench.expect(&[(Defect::CursorAhead, every_stream_and_the_deal)]).await;
}

#[tokio::test]
async fn a_stream_without_a_cursor_is_found_unless_it_is_not_asked_for() {
    let bench = Bench::new("cursor").await;
    bench.sql("UPDATE sync_state SET cursor = json_remove(cursor, '$.streams.notes')");
    bench.expect(&[(Defect::NoCursor, 1)]).await;
    assert!(bench.report_of(&["contacts", "calls"]).await.is_clean());
    bench.sql("UPDATE sync_state SET account_id = '8'");
    bench.expect(&[(Defect::NoCursor, STREAMS.len() as u64)]).await;
}

#[tokio::test]
async fn other_content_under_the_same_version_is_found_by_column() {
    let bench = Bench::new("content").await;
    let id = bench.some_live(Kind::Deals);
    let equal = "UPDATE rows SET amount = CASE WHEN amount = '1e3' THEN '1000.00' ELSE amount || CASE WHEN instr(amount, '.') THEN '0' ELSE '.0' END END WHERE amount IS NOT NULL";
    assert!(bench.sql(equal) > 10);
    bench.expect(&[]).await;
    for column in ["stage", "amount"] {
        bench
            .sql(&format!("UPDATE rows SET {column} = '12345.6789' WHERE view = 'opportunity' AND source_id = '{id}'"));
        let report = bench.expect(&[(Defect::Differs, 1)]).await;
        assert!(report.findings[0].detail.contains(column), "{report}");
    }
}

#[tokio::test]
async fn a_version_that_the_source_never_had_is_found_even_above_the_cursor() {
    let bench = Bench::new("newer").await;
    let id = bench.some_live(Kind::Meetings);
    bench.sql(&format!("UPDATE rows SET source_updated_at = '2050-01-01T00:00:00Z' WHERE source_id = 'meeting:{id}'"));
    bench.expect(&[(Defect::NewerThanSource, 1)]).await;
}

#[tokio::test]
async fn findings_beyond_twenty_are_counted_only() {
    let bench = Bench::new("many").await;
    let lost = bench.sql("DELETE FROM rows WHERE view = 'contact' AND deleted_at IS NULL");
    let report = bench.report().await;
    assert_eq!((report.total(), report.findings.len()), (lost as u64, 20));
    assert!(report.to_string().contains(&format!("and {} more", lost - 20)), "{report}");
    let read: Report =
        serde_json::from_str(&serde_json::to_string(&report).expect("plain values")).expect("its own form");
    assert_eq!(read, report);
}
