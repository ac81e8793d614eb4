//! The HubSpot source against the simulator: everything that a run does but the store and Temporal.

mod driver;
mod replica;

use std::time::Duration;

use gtm_sync::{
    connectors::{Error, Fetch, Source, conformance},
    model::{
        batch::{Batch, BatchWriter, Record},
        config::{FieldRules, SchemaContract},
        pseudonym::PseudonymKey,
    },
};
use simulators::hubspot::{Edits, Kind, Limits, OauthOptions, Options, Properties, Simulator, Visibility};

use driver::{Account, SimulatorDriver};
use replica::Replica;

use crate::support::eventually;

const PAST_THE_LAG: Duration = Duration::from_secs(360);

fn options(records: u32) -> Options {
    Options {
        records,
        limits: Limits::unlimited(),
        visibility: Visibility { late_records: 0, ..Visibility::default() },
        ..Options::default()
    }
}

fn properties(pairs: &[(&str, &str)]) -> Properties {
    pairs.iter().map(|&(name, value)| (name.to_owned(), Some(value.to_owned()))).collect()
}

/// Every record of a batch: a row's named cells, or the rejection.
fn records(into: BatchWriter, column: &str) -> Vec<String> {
    let batch = Batch::open(&into.finish()).expect("own format");
    let text = |record| match record {
        Record::Row(row, _) if row.deleted_at.is_some() => {
            let merged = row.merged_into_source_id.map(|id| format!(" into {id}")).unwrap_or_default();
            format!("{} gone{merged}", row.source_id)
        }
        Record::Row(row, _) => {
            let index = row.entity.column_index(column).expect("a column");
            format!("{} {:?}", row.source_id, row.cells[index])
        }
        Record::Rejected(rejected) => format!(
            "{} {} {} ({} bytes)",
            rejected.source_id.unwrap_or_default(),
            rejected.code,
            rejected.field.unwrap_or_default(),
            rejected.payload.len()
        ),
    };
    batch.records().map(|record| text(record.expect("undamaged"))).collect()
}

/// One record of contacts by id, as `column`.
async fn read_one(source: &dyn Source, id: &str, column: &str) -> Result<Vec<String>, Error> {
    let mut into = BatchWriter::default();
    source.read("contacts", &[id.to_owned()], &mut into).await?;
    Ok(records(into, column))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let simulator = Simulator::start(options(1_100)).await.expect("simulator");
    conformance::all(&SimulatorDriver::new(&simulator)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_load_brings_every_record_owner_and_stage() {
    let simulator = Simulator::start(options(2_000)).await.expect("simulator");
    let source = Account::of(&simulator).source();
    let account = source.account().await.expect("account");
    assert_eq!(account.id, "62515");
    assert!(simulator.state().now().duration_since(account.clock).as_secs() < 60, "the source's clock");

    let mut replica = Replica::default();
    replica.sync(&*source, true).await;
    replica.assert_equals(&simulator.state());
    assert_eq!(replica.rejected, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn increments_bring_edits_archived_restored_and_merged_records() {
    let simulator = Simulator::start(options(1_000)).await.expect("simulator");
    let state = simulator.state();
    let source = Account::of(&simulator).source();
    let mut replica = Replica::default();
    replica.sync(&*source, true).await;

    let (archived, kept) = (state.live_ids(Kind::Deals).remove(3), state.live_ids(Kind::Contacts).remove(5));
    for round in 0..3 {
        state.edit_random(Edits { seed: round, create: 20, update: 40, archive: 10, merge: 2 });
        state.update(Kind::Contacts, &kept, properties(&[("firstname", &format!("round {round}"))]));
        if round == 0 {
            assert!(state.archive(Kind::Deals, &archived));
        } else if round == 1 {
            state.restore(Kind::Deals, &archived);
        }
        state.advance_clock(PAST_THE_LAG);
        let read_before = state.stats().records_served.values().sum::<u64>();
        replica.sync(&*source, false).await;
        replica.assert_equals(&state);
        let read = state.stats().records_served.values().sum::<u64>() - read_before;
        assert!(read < 400, "an increment reads what changed and what is archived, not everything: {read}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_visible_late_is_found_by_the_lookback() {
    let simulator = Simulator::start(options(300)).await.expect("simulator");
    let state = simulator.state();
    let source = Account::of(&simulator).source();
    let mut replica = Replica::default();
    replica.sync(&*source, true).await;

    let id = state.live_ids(Kind::Contacts).remove(0);
    assert!(state.hold(Kind::Contacts, &id));
    assert!(state.update(Kind::Contacts, &id, properties(&[("email", "late@example.com")])));
    state.advance_clock(PAST_THE_LAG);
    replica.sync(&*source, false).await;
    assert_ne!(replica.cell("contacts", &id, "email").as_deref(), Some("late@example.com"));

    assert!(state.release(Kind::Contacts, &id));
    state.advance_clock(PAST_THE_LAG);
    replica.sync(&*source, false).await;
    assert_eq!(replica.cell("contacts", &id, "email").as_deref(), Some("late@example.com"));
}

#[tokio::test(flavor = "multi_thread")]
async fn associations_arrive_by_list_and_by_search_alike() {
    let simulator = Simulator::start(options(600)).await.expect("simulator");
    let state = simulator.state();
    let source = Account::of(&simulator).source();
    let mut listed = Replica::default();
    listed.sync(&*source, true).await;
    let mut searched = Replica::default();
    searched.sync_since_for_ever(&*source).await;
    assert_eq!(listed.rows.len(), searched.rows.len());
    for (key, row) in &listed.rows {
        assert_eq!(Some(row), searched.rows.get(key), "{key:?}");
    }

    let first = |kind| state.live_ids(kind).remove(0);
    let (contact, company, deal, call) =
        (first(Kind::Contacts), first(Kind::Companies), first(Kind::Deals), first(Kind::Calls));
    assert!(state.associate((Kind::Contacts, &contact), (Kind::Companies, &company), true));
    assert!(state.associate((Kind::Deals, &deal), (Kind::Contacts, &contact), false));
    assert!(state.associate((Kind::Calls, &call), (Kind::Deals, &deal), false));
    state.advance_clock(PAST_THE_LAG);
    listed.sync(&*source, false).await;
    assert_eq!(listed.cell("contacts", &contact, "account_source_id"), Some(company));
    let contacts = listed.cell("deals", &deal, "contact_source_ids").expect("contacts");
    assert!(contacts.contains(&format!("\"{contact}\"")), "{contacts}");
    let links = listed.cell("calls", &format!("call:{call}"), "links").expect("links");
    assert!(links.contains(&format!(r#"{{"entity":"opportunity","sourceId":"{deal}"}}"#)), "{links}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_increment_of_more_than_ten_thousand_records_never_meets_the_search_cap() {
    let simulator = Simulator::start(options(25_500)).await.expect("simulator");
    let live = simulator.state().live_ids(Kind::Contacts).len();
    assert!(live > 10_000, "{live}");
    let source = Account::of(&simulator).streams(&["contacts"]).source();
    let mut replica = Replica::default();
    replica.sync_since_for_ever(&*source).await;
    assert_eq!(replica.live_count("contacts"), live);
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_beyond_every_limit_of_a_request_are_read_apart() {
    let simulator = Simulator::start(options(300)).await.expect("simulator");
    let state = simulator.state();
    let id = state.live_ids(Kind::Contacts).remove(0);
    state.update(Kind::Contacts, &id, properties(&[("hs_lead_status", "a \"quoted\" \\ status\n")]));
    state.advance_clock(PAST_THE_LAG);
    let unknown = (0..400).map(|number| format!("a_property_that_this_account_does_not_have_{number}"));
    let wanted: Vec<_> = unknown.chain(["hs_lead_status".to_owned()]).collect();
    let source = Account::of(&simulator).properties("contacts", wanted).source();
    for full in [true, false] {
        let mut replica = Replica::default();
        if full {
            replica.sync(&*source, true).await;
        } else {
            replica.sync_since_for_ever(&*source).await;
        }
        let custom = replica.cell("contacts", &id, "custom");
        assert_eq!(custom.as_deref(), Some(r#"{"hs_lead_status":"a \"quoted\" \\ status\n"}"#), "full: {full}");
        assert_eq!(replica.live_count("contacts"), state.live_ids(Kind::Contacts).len());
    }
    let refused = state.stats().requests.values().flat_map(|statuses| statuses.keys()).any(|&status| status >= 400);
    assert!(!refused, "no 414 and no 400: {:?}", state.stats().requests);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_one_rotating_grant_through_expiries() {
    let oauth = OauthOptions {
        client_id: "app".to_owned(),
        client_secret: "secret".to_owned(),
        refresh_token: "first".to_owned(),
        access_token_seconds: 1_800,
        rotate: true,
    };
    let simulator = Simulator::start(Options { oauth: Some(oauth), ..options(2_000) }).await.expect("simulator");
    let state = simulator.state();
    let account = Account::of(&simulator).oauth("app", "secret", "first");
    let workers = [account.source(), account.source()];
    let expiries = async {
        for _ in 1..=3 {
            // Counted from the expiry before, so that no request meets three of them, however slowly it is sent.
            let before = state.stats().request_count();
            let enough = || async { (state.stats().request_count() >= before + 15).then_some(()) };
            eventually("fifteen more requests", Duration::from_secs(60), enough).await;
            state.expire_tokens(false);
        }
    };
    let load = |source| async move {
        let mut replica = Replica::default();
        replica.sync(source, true).await;
        replica
    };
    let (one, other, ()) = futures::join!(load(&*workers[0]), load(&*workers[1]), expiries);
    one.assert_equals(&state);
    other.assert_equals(&state);
    let token_requests = &state.stats().requests["POST /oauth/2026-03/token"];
    assert_eq!(token_requests.keys().collect::<Vec<_>>(), [&200], "no grant was refused: {token_requests:?}");
    assert!((2..=6).contains(&token_requests[&200]), "tokens ended, and single flight: {token_requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_window_is_a_wait_and_the_place_is_kept() {
    let limits = Limits { per_ten_seconds: 4, ..Limits::unlimited() };
    let simulator = Simulator::start(Options { limits, ..options(1_500) }).await.expect("simulator");
    let account = Account::of(&simulator);
    let upper = simulator.state().now();
    let (mut after, mut waits, mut into) = (None, 0, BatchWriter::default());
    loop {
        // A new source each time, as a run has after it was parked: the wait ends by the vendor's clock.
        let request = Fetch { stream: "contacts", lower: None, upper, after: after.as_ref() };
        match account.source().fetch(request, &mut into).await {
            Ok(fetched) if fetched.next.is_none() => break,
            Ok(fetched) => after = fetched.next,
            Err(Error::Throttled { after, reason, .. }) => {
                assert_eq!((after, &*reason), (Duration::from_secs(10), "RateLimited: TEN_SECONDLY_ROLLING"));
                simulator.state().advance_clock(after);
                waits += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(waits >= 1, "the limit was met");
    let contacts = simulator.state().count(Kind::Contacts);
    assert!(into.row_count() >= contacts - contacts / 100 && into.rejected_count() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reserve_of_the_daily_quota_is_left_to_others() {
    let limits = Limits { daily: 20, ..Limits::unlimited() };
    let simulator = Simulator::start(Options { limits, ..options(3_000) }).await.expect("simulator");
    let source = Account::of(&simulator).reserve_percent(50).source();
    let upper = simulator.state().now();
    let result = conformance::read(&*source, "contacts", None, upper, None).await;
    let Err(Error::Throttled { reason, after, .. }) = result else { panic!("{result:?}") };
    assert!(reason.starts_with("QuotaExhausted") && after > Duration::from_secs(3_000), "{reason} {after:?}");
    assert_eq!(simulator.state().stats().request_count(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_edit_must_mend_is_said_before_anything_is_sent() {
    let simulator = Simulator::start(options(10)).await.expect("simulator");
    let detail = |account: Account| match account.open() {
        Err(Error::Configuration { detail, .. }) => detail,
        _ => panic!("not refused"),
    };
    let account = || Account::of(&simulator);
    let unknown = detail(account().streams(&["contacts", "tickets"]));
    assert!(unknown.contains("\"tickets\"") && unknown.contains("owners, pipelines, companies"), "{unknown}");
    assert!(detail(account().properties("contacts", vec!["a,b".to_owned()])).contains("no property name"));
    assert!(detail(account().properties("owners", vec!["x".to_owned()])).contains("fixed set"));
    assert!(detail(account().for_host("api.hubapi.com")).contains("another host"));
    assert_eq!(simulator.state().stats().request_count(), 0);

    let result = account().allowed_private_hosts(&[]).source().account().await;
    let Err(Error::Configuration { detail, .. }) = result else { panic!("{result:?}") };
    assert!(detail.contains("127.0.0.1") && detail.contains("--allowed-private-hosts"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_names_the_scope_it_needs() {
    use simulators::hubspot::{Effect, Fault};
    let simulator = Simulator::start(options(100)).await.expect("simulator");
    simulator.state().add_fault(Fault::always("", Effect::MissingScope { object: Kind::Deals }));
    let source = Account::of(&simulator).source();
    let result = conformance::read(&*source, "deals", None, simulator.state().now(), None).await;
    let Err(Error::Configuration { detail, .. }) = result else { panic!("{result:?}") };
    assert_eq!(detail, "list of deals: HTTP 403 MISSING_SCOPES; the token needs the scope crm.objects.deals.read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merged_record_reads_back_with_its_survivor() {
    let simulator = Simulator::start(options(300)).await.expect("simulator");
    let state = simulator.state();
    let live = state.live_ids(Kind::Contacts);
    let (winner, loser) = (&live[0], &live[1]);
    assert!(state.merge(Kind::Contacts, winner, loser));
    let source = Account::of(&simulator).source();
    let read = read_one(&*source, loser, "email").await.expect("read");
    assert!(read[0].starts_with(winner) && read[1] == format!("{loser} gone into {winner}"), "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_and_stages_read_back_and_cannot_be_counted() {
    let simulator = Simulator::start(options(2_000)).await.expect("simulator");
    let source = Account::of(&simulator).source();
    let upper = source.account().await.expect("account").clock;
    for stream in ["owners", "pipelines"] {
        let whole = conformance::read(&*source, stream, None, upper, None).await.expect("a list");
        let gone = ["1".to_owned(), "default:gone".to_owned()];
        let ids: Vec<_> = whole.rows.keys().chain(&gone).cloned().collect();
        let mut into = BatchWriter::default();
        source.read(stream, &ids, &mut into).await.expect("read");
        let read = records(into, "custom");
        assert_eq!(
            (read.len(), read.iter().filter(|text| text.ends_with(" gone")).count()),
            (ids.len(), 2),
            "{read:?}"
        );
        assert_eq!(source.count(stream, upper).await, Ok(None), "{stream}");
    }
    let unopened = Account::of(&simulator).streams(&["deals"]).source().count("contacts", upper).await;
    assert!(matches!(unopened, Err(Error::Configuration { .. })), "{unopened:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_type_is_counted_by_its_own_time_of_creation() {
    let simulator = Simulator::start(options(1_000)).await.expect("simulator");
    let state = simulator.state();
    let source = Account::of(&simulator).source();
    let before = source.account().await.expect("account").clock;
    state.advance_clock(PAST_THE_LAG);
    for (kind, stream) in [(Kind::Companies, "companies"), (Kind::Deals, "deals"), (Kind::Notes, "notes")] {
        let live = state.live_ids(kind);
        state.create(kind, properties(&[]));
        assert!(state.archive(kind, &live[0]));
        state.advance_clock(PAST_THE_LAG);
        let now = state.now();
        assert_eq!(source.count(stream, before).await, Ok(Some(live.len() as u64 - 1)), "{stream}");
        assert_eq!(source.count(stream, now).await, Ok(Some(live.len() as u64)), "{stream}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_stream_stops_naming_its_field_and_an_evolving_one_keeps_the_value() {
    let simulator = Simulator::start(options(300)).await.expect("simulator");
    let state = simulator.state();
    let id = state.live_ids(Kind::Contacts).remove(0);
    state.update(Kind::Contacts, &id, properties(&[("hs_email_optout", "perhaps")]));
    state.advance_clock(PAST_THE_LAG);
    let under = |contract| Account::of(&simulator).policy("contacts", contract, FieldRules::default()).source();
    let custom = |contract| {
        let (source, id) = (under(contract), id.clone());
        async move { read_one(&*source, &id, "custom").await }
    };
    let frozen = custom(SchemaContract::Freeze).await.expect_err("frozen");
    assert_eq!(
        frozen.to_string(),
        "hubspot configuration: contacts: a value of hs_email_optout does not fit its column and schemaContract is Freeze"
    );
    let upper = state.now();
    let result = conformance::read(&*under(SchemaContract::Freeze), "contacts", None, upper, None).await;
    assert_eq!(result.expect_err("frozen").class(), gtm_sync::error_class::Class::Invalid, "later streams go on");
    let evolved = custom(SchemaContract::Evolve).await.expect("read");
    assert_eq!(evolved, [format!(r#"{id} Json("{{\"hs_email_optout\":\"perhaps\"}}")"#)]);
    assert_eq!(custom(SchemaContract::DiscardValue).await.expect("read"), [format!("{id} Null")]);
    let discarded = custom(SchemaContract::DiscardRow).await.expect("read");
    assert!(discarded[0].starts_with(&format!("{id} UnparsableValue hs_email_optout (")), "{discarded:?}");
    assert!(!discarded[0].ends_with("(0 bytes)"), "{discarded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn personal_data_is_dropped_or_hashed_before_it_leaves_the_connector() {
    let simulator = Simulator::start(options(300)).await.expect("simulator");
    let state = simulator.state();
    let id = state.live_ids(Kind::Contacts).remove(0);
    let values = [("email", "Ada@Example.com"), ("phone", "+41 44"), ("hs_email_optout", "perhaps")];
    state.update(Kind::Contacts, &id, properties(&values));
    state.advance_clock(PAST_THE_LAG);
    let list = |name: &str| vec![name.to_owned()];
    let fields = FieldRules { allow: Vec::new(), drop: list("phone"), hash: list("email") };
    let under = |contract| Account::of(&simulator).policy("contacts", contract, fields.clone()).source();

    let source = under(SchemaContract::DiscardValue);
    let pseudonym = PseudonymKey::of("installation", &"acme".parse().expect("id")).pseudonym("ada@example.com");
    assert_eq!(read_one(&*source, &id, "email").await.expect("read"), [format!("{id} Text({pseudonym:?})")]);
    assert_eq!(read_one(&*source, &id, "phone").await.expect("read"), [format!("{id} Null")]);
    let rejected = read_one(&*under(SchemaContract::DiscardRow), &id, "email").await.expect("read");
    assert_eq!(rejected, [format!("{id} UnparsableValue hs_email_optout (0 bytes)")], "nothing of it is kept");

    let wrong = FieldRules { drop: list("emial"), ..FieldRules::default() };
    let Err(Error::Configuration { detail, .. }) =
        Account::of(&simulator).policy("contacts", SchemaContract::default(), wrong).open()
    else {
        panic!("not refused")
    };
    assert!(detail.starts_with("contacts: fields names \"emial\""), "{detail}");
}
