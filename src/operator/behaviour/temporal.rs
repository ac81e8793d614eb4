//! Temporal: schedules with conflict token, and workflows by id.

use std::time::Duration;

use gtm_sync::{
    contract::{CHECK_CONNECTION_WORKFLOW, SCHEDULED_SYNC_WORKFLOW},
    error_class::Class,
    ids::TenantId,
    operator::world::{Answer, Request, StartWorkflow},
    temporal::{
        StartOutcome,
        client::IdReuse,
        cron_workflows::CronWorkflow,
        schedules::{Backfill, Overlap, ScheduleOwner, ScheduleState, ScheduleUpdate, SeenSchedule, WantedSchedule},
    },
};
use serde_json::json;

use super::{Servers, ask, refused};

/// Moments until a server must have applied an update.
const PATIENCE: usize = 100;

fn wanted(id: &str) -> WantedSchedule {
    WantedSchedule {
        id: id.to_owned(),
        owner: ScheduleOwner {
            installation_id: "i".to_owned(),
            cluster_id: String::new(),
            kind: "TenantSchedule".to_owned(),
            namespace: "acme".to_owned(),
            name: "acme".to_owned(),
        },
        crons: vec!["0 */4 * * *".to_owned()],
        time_zone: "UTC".to_owned(),
        jitter: Duration::from_secs(60),
        overlap: Overlap::Skip,
        catch_up_window: Duration::from_secs(3_600),
        pause_on_failure: false,
        suspended: None,
        workflow_type: SCHEDULED_SYNC_WORKFLOW.to_owned(),
        workflow_id: id.to_owned(),
        input: json!({"tenantId": "acme"}),
        start_at: None,
        end_at: None,
        excluded: Vec::new(),
    }
}

async fn create(servers: &dyn Servers, wanted: &WantedSchedule) -> Answer {
    ask(servers, Request::CreateSchedule(Box::new(wanted.clone()))).await
}

async fn describe(servers: &dyn Servers, id: &str) -> Option<SeenSchedule> {
    match ask(servers, Request::DescribeSchedule(id.to_owned())).await {
        Answer::Schedule(seen) => seen.map(|seen| *seen),
        other => panic!("{other:?}"),
    }
}

/// As it is described at last.
async fn seen(servers: &dyn Servers, id: &str, expected: impl Fn(&SeenSchedule) -> bool) -> SeenSchedule {
    for _ in 0..PATIENCE {
        if let Some(seen) = describe(servers, id).await.filter(&expected) {
            return seen;
        }
        servers.moment().await;
    }
    panic!("never: {:?}", describe(servers, id).await)
}

/// Created and described.
async fn standing(servers: &dyn Servers, wanted: &WantedSchedule) -> SeenSchedule {
    assert_eq!(create(servers, wanted).await, Answer::Started(StartOutcome::Started));
    seen(servers, &wanted.id, |_| true).await
}

fn update(content: Option<&WantedSchedule>, id: &str, state: ScheduleState, conflict_token: &[u8]) -> Request {
    let (content, conflict_token) = (content.cloned(), conflict_token.to_vec());
    Request::UpdateSchedule(Box::new(ScheduleUpdate { id: id.to_owned(), content, state, conflict_token }))
}

fn daily(wanted: &WantedSchedule) -> WantedSchedule {
    WantedSchedule { crons: vec!["@daily".to_owned()], ..wanted.clone() }
}

pub(crate) async fn what_is_not_there_is_described_as_none_and_deleted_twice(servers: &dyn Servers) {
    let id = "never-made";
    assert_eq!(describe(servers, id).await, None);
    for _ in 0..2 {
        assert_eq!(ask(servers, Request::DeleteSchedule(id.to_owned())).await, Answer::Done);
    }
    for content in [Some(&wanted(id)), None] {
        let token = 1_u64.to_be_bytes();
        assert_eq!(refused(servers, update(content, id, ScheduleState::default(), &token)).await, Class::Conflict);
    }
    let left = Request::LeaveSchedule(id.to_owned(), 1_u64.to_be_bytes().to_vec());
    assert_eq!(refused(servers, left).await, Class::Conflict);
    assert_eq!(refused(servers, backfill(id)).await, Class::Conflict);
}

fn backfill(id: &str) -> Request {
    let time = |text: &str| text.parse().expect("a time");
    Request::BackfillSchedule(Box::new(Backfill {
        schedule_id: id.to_owned(),
        from: time("2026-11-22T00:00:00Z"),
        to: time("2026-11-22T12:00:00Z"),
        overlap: None,
        request_id: "asked-once".to_owned(),
    }))
}

pub(crate) async fn a_schedule_is_created_once_and_paused_in_the_same_request(servers: &dyn Servers) {
    let paused = WantedSchedule { suspended: Some("a note"), ..wanted("made-once") };
    let created = standing(servers, &paused).await;
    assert_eq!((created.owner.as_ref(), created.wanted_hash.as_ref()), (Some(&paused.owner), Some(&paused.hash())));
    assert_eq!((created.state.paused, created.state.note.as_str()), (true, "a note"));
    assert!(created.next_run.is_some() && created.last_run.is_none());
    assert_eq!(create(servers, &daily(&paused)).await, Answer::Started(StartOutcome::AlreadyStarted));
    assert_eq!(seen(servers, &paused.id, |_| true).await.wanted_hash, Some(paused.hash()), "it stays as it was");
}

pub(crate) async fn an_update_keeps_what_it_says_and_moves_the_token(servers: &dyn Servers) {
    let first = wanted("updated");
    let before = standing(servers, &first).await;
    let state = ScheduleState { paused: true, note: "Kim".to_owned(), ..before.state.clone() };
    let second = daily(&first);
    let written = update(Some(&second), &first.id, state.clone(), &before.conflict_token);
    assert_eq!(ask(servers, written).await, Answer::Done);
    let after = seen(servers, &first.id, |seen| seen.wanted_hash == Some(second.hash())).await;
    assert_eq!((after.state, after.owner), (state, Some(first.owner)));
    assert_ne!(after.conflict_token, before.conflict_token);
    assert_ne!(after.echo, before.echo);
}

pub(crate) async fn an_update_with_an_old_token_changes_nothing_and_one_without_a_token_all(servers: &dyn Servers) {
    let first = wanted("raced");
    let before = standing(servers, &first).await;
    let winner = daily(&first);
    ask(servers, update(Some(&winner), &first.id, ScheduleState::default(), &before.conflict_token)).await;
    seen(servers, &first.id, |seen| seen.wanted_hash == Some(winner.hash())).await;
    let loser = WantedSchedule { crons: vec!["@weekly".to_owned()], ..first.clone() };
    let late = update(Some(&loser), &first.id, ScheduleState::default(), &before.conflict_token);
    // Servers differ: the race is refused as a conflict, or lost without a word.
    match servers.world().call(late).await {
        Ok(Answer::Done) => {}
        Err(error) => assert_eq!(error.class(), Class::Conflict),
        other => panic!("{other:?}"),
    }
    for _ in 0..10 {
        servers.moment().await;
    }
    assert_eq!(describe(servers, &first.id).await.expect("there").wanted_hash, Some(winner.hash()));
    let state_alone = update(None, &first.id, ScheduleState::default(), &before.conflict_token);
    assert_eq!(refused(servers, state_alone).await, Class::Conflict);
    ask(servers, update(Some(&loser), &first.id, ScheduleState::default(), &[])).await;
    seen(servers, &first.id, |seen| seen.wanted_hash == Some(loser.hash())).await;
}

pub(crate) async fn an_update_of_the_state_alone_leaves_the_rest_word_for_word(servers: &dyn Servers) {
    let wanted = wanted("paused");
    let before = standing(servers, &wanted).await;
    let state = ScheduleState { paused: true, note: "why".to_owned(), ..before.state.clone() };
    ask(servers, update(None, &wanted.id, state.clone(), &before.conflict_token)).await;
    let after = seen(servers, &wanted.id, |seen| seen.state.paused).await;
    assert_eq!((&after.echo, &after.wanted_hash, &after.owner), (&before.echo, &before.wanted_hash, &before.owner));
    assert_eq!(after.state, state);
    assert_ne!(after.conflict_token, before.conflict_token);
}

pub(crate) async fn a_schedule_is_left_with_a_mark_that_goes_with_the_next_content(servers: &dyn Servers) {
    let wanted = wanted("left");
    let before = standing(servers, &wanted).await;
    let leave = |token: &[u8]| Request::LeaveSchedule(wanted.id.clone(), token.to_vec());
    ask(servers, leave(&before.conflict_token)).await;
    let left = seen(servers, &wanted.id, |seen| seen.left).await;
    assert_eq!((&left.owner, &left.wanted_hash, &left.state), (&before.owner, &before.wanted_hash, &before.state));
    assert_eq!(refused(servers, leave(&before.conflict_token)).await, Class::Conflict, "an old token");
    let paused = ScheduleState { paused: true, note: "why".to_owned(), ..left.state.clone() };
    ask(servers, update(None, &wanted.id, paused, &left.conflict_token)).await;
    let paused = seen(servers, &wanted.id, |seen| seen.state.paused).await;
    assert!(paused.left, "a write of the state alone leaves it");
    ask(servers, update(Some(&wanted), &wanted.id, paused.state.clone(), &paused.conflict_token)).await;
    seen(servers, &wanted.id, |seen| !seen.left).await;
}

pub(crate) async fn schedules_are_listed_with_their_owners_and_what_comes_next(servers: &dyn Servers) {
    let (one, paused) = (wanted("one"), WantedSchedule { suspended: Some("a note"), ..wanted("paused-one") });
    standing(servers, &one).await;
    standing(servers, &paused).await;
    for _ in 0..PATIENCE {
        let Answer::Schedules(listed) = ask(servers, Request::ListSchedules).await else { panic!("another answer") };
        let of = |id: &str| listed.iter().find(|listed| listed.id == id).cloned();
        if let (Some(first), Some(second)) = (of(&one.id), of(&paused.id)) {
            assert_eq!((first.owner, second.owner), (Some(one.owner), Some(paused.owner)));
            assert!(!first.upcoming.is_empty() && second.upcoming.is_empty());
            return;
        }
        servers.moment().await;
    }
    panic!("never listed");
}

pub(crate) async fn a_tenant_without_a_cron_workflow_has_none_to_end(servers: &dyn Servers) {
    let tenant_id: TenantId = "acme".parse().expect("an id");
    assert_eq!(ask(servers, Request::FindCronWorkflow(tenant_id.clone())).await, Answer::CronWorkflow(None));
    let first_run_id = "00000000-0000-4000-8000-000000000000".to_owned();
    let gone = CronWorkflow { workflow_id: "gone".to_owned(), first_run_id, tenant_id };
    assert_eq!(ask(servers, Request::TerminateCron(Box::new(gone))).await, Answer::Ended(false));
}

pub(crate) async fn a_cron_workflow_is_found_for_its_tenant_and_ended_by_its_first_run_once(servers: &dyn Servers) {
    servers.start_cron("nightly").await;
    let find = async |tenant: &str| match ask(servers, Request::FindCronWorkflow(tenant.parse().expect("an id"))).await
    {
        Answer::CronWorkflow(found) => found,
        other => panic!("{other:?}"),
    };
    let found = find("acme").await.expect("it ticks");
    assert_eq!((found.workflow_id.as_str(), found.tenant_id.as_str()), ("nightly", "acme"));
    assert_eq!(find("beta").await, None, "another tenant's");
    let end = async |cron| ask(servers, Request::TerminateCron(cron)).await;
    let first_run_id = "00000000-0000-4000-8000-000000000000".to_owned();
    let namesake = Box::new(CronWorkflow { first_run_id, ..*found.clone() });
    assert_eq!(end(namesake).await, Answer::Ended(false), "another workflow had the name");
    assert_eq!(find("acme").await.as_ref(), Some(&found));
    assert_eq!(end(found.clone()).await, Answer::Ended(true));
    assert_eq!(find("acme").await, None);
    assert_eq!(end(found).await, Answer::Ended(false));
}

pub(crate) async fn a_backfill_starts_a_tick_of_its_range_and_is_seen_to_have(servers: &dyn Servers) {
    // Suspended, it makes up for ticks all the same.
    let wanted = WantedSchedule { suspended: Some("a note"), ..wanted("made-up-for") };
    let before = standing(servers, &wanted).await;
    let Request::BackfillSchedule(asked) = backfill(&wanted.id) else { panic!("another request") };
    let range = asked.from..asked.to;
    let of = |seen: &SeenSchedule| seen.recent.iter().filter(|run| range.contains(&run.tick)).count();
    assert_eq!(of(&before), 0);
    assert_eq!(ask(servers, backfill(&wanted.id)).await, Answer::Done);
    let after = seen(servers, &wanted.id, |seen| of(seen) > 0).await;
    assert_eq!(of(&after), 1, "the second tick met the first, which overlap Skip leaves out");
    assert_eq!((after.state, after.wanted_hash), (before.state, before.wanted_hash), "it is no edit");
}

pub(crate) async fn a_deleted_schedule_can_be_created_again(servers: &dyn Servers) {
    let first = wanted("made-again");
    standing(servers, &first).await;
    for _ in 0..2 {
        assert_eq!(ask(servers, Request::DeleteSchedule(first.id.clone())).await, Answer::Done);
        assert_eq!(describe(servers, &first.id).await, None);
    }
    let second = standing(servers, &daily(&first)).await;
    assert_eq!(second.wanted_hash, Some(daily(&first).hash()));
}

pub(crate) async fn what_the_server_cannot_read_is_refused_as_invalid(servers: &dyn Servers) {
    let of = |crons: &str, time_zone: &str| WantedSchedule {
        crons: vec![crons.to_owned()],
        time_zone: time_zone.to_owned(),
        ..wanted("unreadable")
    };
    for unreadable in [of("no cron", "UTC"), of("61 * * * *", "UTC"), of("0 * * * *", "Nowhere/Else")] {
        let request = Request::CreateSchedule(Box::new(unreadable));
        assert_eq!(refused(servers, request).await, Class::Invalid);
    }
    assert_eq!(describe(servers, "unreadable").await, None);
    let stands = standing(servers, &wanted("readable")).await;
    let unreadable = WantedSchedule { id: "readable".to_owned(), ..of("no cron", "UTC") };
    let request = update(Some(&unreadable), "readable", ScheduleState::default(), &stands.conflict_token);
    assert_eq!(refused(servers, request).await, Class::Invalid);
}

fn start(id: &str, reuse: IdReuse) -> Request {
    Request::StartWorkflow(StartWorkflow {
        workflow_type: CHECK_CONNECTION_WORKFLOW,
        workflow_id: id.to_owned(),
        input: json!({"tenantId": "acme", "connectorId": "hubspot"}),
        reuse,
    })
}

pub(crate) async fn a_run_by_a_name_for_good_starts_once(servers: &dyn Servers) {
    let again = || ask(servers, start("for-good", IdReuse::Once));
    assert_eq!(again().await, Answer::Started(StartOutcome::Started));
    assert_eq!(again().await, Answer::Started(StartOutcome::AlreadyStarted));
    servers.end_workflow("for-good").await;
    assert_eq!(again().await, Answer::Started(StartOutcome::AlreadyStarted), "its end frees no name");
}

pub(crate) async fn a_run_that_follows_another_is_repeated_if_it_did_not_complete(servers: &dyn Servers) {
    let again = || ask(servers, start("follows", IdReuse::UntilCompleted));
    assert_eq!(again().await, Answer::Started(StartOutcome::Started));
    assert_eq!(again().await, Answer::Started(StartOutcome::AlreadyStarted));
    servers.end_workflow("follows").await;
    assert_eq!(again().await, Answer::Started(StartOutcome::Started), "it was ended before it could say anything");
}

pub(crate) async fn a_check_runs_one_at_a_time(servers: &dyn Servers) {
    let again = || ask(servers, start("one-at-a-time", IdReuse::OneAtATime));
    assert_eq!(again().await, Answer::Started(StartOutcome::Started));
    assert_eq!(again().await, Answer::Started(StartOutcome::AlreadyStarted));
    servers.end_workflow("one-at-a-time").await;
    assert_eq!(again().await, Answer::Started(StartOutcome::Started));
}
