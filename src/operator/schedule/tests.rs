//! The machine that ensures a schedule, a reply at a time.

use std::time::Duration;

use super::*;
use crate::{
    crd::PausePolicy,
    operator::schedule_pause::BY_SUSPEND,
    temporal::{
        self, StartOutcome,
        schedules::{Overlap, ScheduleOwner},
    },
};

pub(in crate::operator) fn wanted() -> WantedSchedule {
    WantedSchedule {
        id: "scheduled-sync-acme".to_owned(),
        owner: ScheduleOwner {
            installation_id: "i".to_owned(),
            cluster_id: String::new(),
            kind: "TenantSchedule".to_owned(),
            namespace: "acme".to_owned(),
            name: "acme".to_owned(),
        },
        crons: vec!["0 */4 * * *".to_owned()],
        time_zone: "UTC".to_owned(),
        jitter: Duration::ZERO,
        overlap: Overlap::Skip,
        catch_up_window: Duration::from_secs(60),
        pause_on_failure: false,
        suspended: None,
        workflow_type: "scheduledSyncWorkflow".to_owned(),
        workflow_id: "scheduled-sync-acme".to_owned(),
        input: serde_json::json!({"tenantId": "acme"}),
        start_at: None,
        end_at: None,
        excluded: Vec::new(),
    }
}

/// What a server would describe of `wanted`, just created.
pub(in crate::operator) fn seen(wanted: &WantedSchedule) -> SeenSchedule {
    let note = wanted.suspended.unwrap_or_default().to_owned();
    SeenSchedule {
        owner: Some(wanted.owner.clone()),
        wanted_hash: Some(wanted.hash()),
        left: false,
        tenant_id: wanted.input["tenantId"].as_str().and_then(|tenant| tenant.parse().ok()),
        echo: format!("echo of {}", wanted.hash()),
        conflict_token: vec![1],
        state: ScheduleState { paused: wanted.suspended.is_some(), note, ..ScheduleState::default() },
        next_run: Some("2026-11-23T04:00:00Z".parse().expect("timestamp")),
        last_run: None,
        recent: Vec::new(),
        running: Vec::new(),
        missed_catch_up: 0,
        overlap_skipped: 0,
        buffer_dropped: 0,
        buffered: 0,
    }
}

fn now() -> Timestamp {
    "2026-11-23T01:00:00Z".parse().expect("timestamp")
}

fn known(echo: &str) -> ScheduleStatus {
    ScheduleStatus { id: wanted().id, spec_hash: wanted().hash(), echo_hash: Some(echo.to_owned()) }
}

/// A machine that has asked for the description.
fn machine(wanted: WantedSchedule, policies: Policies, status: Option<&ScheduleStatus>) -> EnsureSchedule {
    let mut machine = EnsureSchedule::new(wanted, policies, status, now());
    asks(&machine.next(None), "DescribeSchedule");
    machine
}

fn described(seen: SeenSchedule) -> Option<Reply> {
    Some(Ok(Answer::Schedule(Some(Box::new(seen)))))
}

fn asks(progress: &Progress, expected: &str) {
    match progress {
        Progress::Ask(request) => assert!(format!("{request:?}").starts_with(expected), "{request:?}"),
        Progress::Finished(end) => panic!("finished with {end:?}, expected {expected}"),
    }
}

fn update(progress: Progress) -> ScheduleUpdate {
    match progress {
        Progress::Ask(Request::UpdateSchedule(update)) => *update,
        Progress::Ask(request) => panic!("asks {request:?}"),
        Progress::Finished(end) => panic!("finished with {end:?}"),
    }
}

fn ensured(progress: Progress) -> Ensured {
    match progress {
        Progress::Finished(Ok(ensured)) => *ensured,
        Progress::Finished(Err(problem)) => panic!("{problem:?}"),
        Progress::Ask(request) => panic!("asks {request:?}"),
    }
}

#[test]
fn a_schedule_that_was_left_is_written_when_its_object_is_back() {
    let left = SeenSchedule { left: true, ..seen(&wanted()) };
    for status in [None, Some(known(&left.echo))] {
        let mut machine = machine(wanted(), Policies::default(), status.as_ref());
        assert_eq!(update(machine.next(described(left.clone()))).content, Some(wanted()));
        asks(&machine.next(Some(Ok(Answer::Done))), "DescribeSchedule");
        assert_eq!(ensured(machine.next(described(seen(&wanted())))).change, Change::Updated);
    }
}

#[test]
fn a_missing_schedule_is_created_and_described_once() {
    let mut machine = machine(wanted(), Policies::default(), None);
    asks(&machine.next(Some(Ok(Answer::Schedule(None)))), "CreateSchedule");
    asks(&machine.next(Some(Ok(Answer::Started(StartOutcome::Started)))), "DescribeSchedule");
    assert_eq!(ensured(machine.next(described(seen(&wanted())))).change, Change::Created);
}

#[test]
fn a_schedule_whose_end_has_passed_is_not_made_again() {
    let over = WantedSchedule { end_at: Some(now()), ..wanted() };
    let ended = ensured(machine(over, Policies::default(), None).next(Some(Ok(Answer::Schedule(None)))));
    assert_eq!((ended.seen, ended.change), (None, Change::None));
    let lives = WantedSchedule { end_at: "2026-11-23T01:00:01Z".parse().ok(), ..wanted() };
    asks(&machine(lives, Policies::default(), None).next(Some(Ok(Answer::Schedule(None)))), "CreateSchedule");
}

#[test]
fn nothing_is_written_when_hash_and_echo_are_known() {
    let mut machine = machine(wanted(), Policies::default(), Some(&known(&seen(&wanted()).echo)));
    assert_eq!(ensured(machine.next(described(seen(&wanted())))).change, Change::None);
}

#[test]
fn an_edit_by_hand_shows_as_another_echo_and_is_put_right_with_the_conflict_token() {
    let mut machine = machine(wanted(), Policies::default(), Some(&known("as it was")));
    let written = update(machine.next(described(seen(&wanted()))));
    assert_eq!((written.conflict_token, written.content), (vec![1], Some(wanted())));
    asks(&machine.next(Some(Ok(Answer::Done))), "DescribeSchedule");
    let not_yet = update(machine.next(described(seen(&wanted()))));
    assert_eq!(not_yet.conflict_token, [1], "the edit that is still there is no echo of its correction");
    asks(&machine.next(Some(Ok(Answer::Done))), "DescribeSchedule");
    let corrected = SeenSchedule { conflict_token: vec![2], ..seen(&wanted()) };
    let ensured = ensured(machine.next(described(corrected)));
    assert_eq!((ensured.change, ensured.status.echo_hash), (Change::DriftCorrected, Some(seen(&wanted()).echo)));
}

#[test]
fn an_edit_is_reported_again_and_again_and_only_the_state_is_written() {
    let policies = Policies { drift: DriftPolicy::Report, ..Policies::default() };
    let mut edited = seen(&wanted());
    for wanted_hash in [Some(wanted().hash()), None] {
        edited.wanted_hash = wanted_hash;
        let mut status = known("as it was");
        for _ in 0..2 {
            let reported = ensured(machine(wanted(), policies, Some(&status)).next(described(edited.clone())));
            assert!(!reported.drift.is_empty() && reported.change == Change::None);
            status = reported.status;
        }
        let suspended = WantedSchedule { suspended: Some(BY_SUSPEND), ..wanted() };
        let mut machine = machine(suspended, policies, Some(&status));
        let written = update(machine.next(described(edited.clone())));
        assert_eq!((written.content, written.state.paused), (None, true), "the edit stays word for word");
        let _ = machine.next(Some(Ok(Answer::Done)));
        let mut paused = edited.clone();
        paused.state = written.state;
        assert!(!ensured(machine.next(described(paused))).drift.is_empty(), "our own write hides no edit");
    }
}

#[test]
fn a_write_of_our_own_that_status_does_not_know_is_no_edit_by_hand() {
    let policies = Policies { drift: DriftPolicy::Report, ..Policies::default() };
    let mut other = seen(&wanted());
    other.wanted_hash = Some("of a spec whose status was lost".to_owned());
    other.echo = "another".to_owned();
    let written = update(machine(wanted(), policies, Some(&known("as it was"))).next(described(other)));
    assert_eq!(written.content, Some(wanted()));
}

#[test]
fn every_write_leaves_a_persons_pause_and_the_runs_that_are_left_as_they_are() {
    let state =
        ScheduleState { paused: true, note: "Kim: importing".to_owned(), limited_actions: true, remaining_actions: 3 };
    let paused = SeenSchedule { state: state.clone(), ..seen(&wanted()) };
    let old = SeenSchedule { wanted_hash: Some("old".to_owned()), ..paused.clone() };
    let foreign = SeenSchedule { owner: None, ..paused.clone() };
    let adopt = Policies { conflict: ConflictPolicy::Adopt, ..Policies::default() };
    for (seen, echo, policies) in
        [(old, "", Policies::default()), (paused.clone(), "as it was", Policies::default()), (foreign, "", adopt)]
    {
        let written = update(machine(wanted(), policies, Some(&known(echo))).next(described(seen)));
        assert_eq!((written.state, written.content.is_some()), (state.clone(), true));
    }
    let rests = ensured(machine(wanted(), Policies::default(), None).next(described(paused.clone())));
    assert_eq!(rests.change, Change::None, "after a lost status, too");
    let authoritative = Policies { pause: PausePolicy::Authoritative, ..Policies::default() };
    let written = update(machine(wanted(), authoritative, None).next(described(paused)));
    assert_eq!((written.content, written.state.paused, written.state.remaining_actions), (None, false, 3));
}

#[test]
fn a_suspension_is_one_write_of_the_state_and_its_end_another() {
    let suspended = WantedSchedule { suspended: Some(BY_SUSPEND), ..wanted() };
    let status = known(&seen(&wanted()).echo);
    let written =
        update(machine(suspended.clone(), Policies::default(), Some(&status)).next(described(seen(&wanted()))));
    assert_eq!((written.content, written.state.note.as_str()), (None, BY_SUSPEND));
    let paused = seen(&suspended);
    let written = update(machine(wanted(), Policies::default(), Some(&status)).next(described(paused)));
    assert_eq!((written.content, written.state), (None, ScheduleState::default()));
}

#[test]
fn after_a_lost_status_an_equal_hash_is_adopted_without_a_write() {
    let mut machine = machine(wanted(), Policies::default(), None);
    assert_eq!(ensured(machine.next(described(seen(&wanted())))).change, Change::None);
}

#[test]
fn a_foreign_schedule_is_touched_only_on_request() {
    for owner in [None, Some(ScheduleOwner { installation_id: "another".to_owned(), ..wanted().owner })] {
        let foreign = SeenSchedule { owner, wanted_hash: None, ..seen(&wanted()) };
        let refused = machine(wanted(), Policies::default(), None).next(described(foreign.clone()));
        assert!(matches!(refused, Progress::Finished(Err(Problem::Foreign))));
        let adopt = Policies { conflict: ConflictPolicy::Adopt, ..Policies::default() };
        let mut machine = machine(wanted(), adopt, None);
        assert_eq!(update(machine.next(described(foreign))).content, Some(wanted()));
        asks(&machine.next(Some(Ok(Answer::Done))), "DescribeSchedule");
        assert_eq!(ensured(machine.next(described(seen(&wanted())))).change, Change::Adopted);
    }
}

#[test]
fn an_update_that_the_server_drops_is_repeated_a_few_times_only() {
    let old = SeenSchedule { wanted_hash: Some("old".to_owned()), ..seen(&wanted()) };
    let mut machine = machine(wanted(), Policies::default(), None);
    for _ in 0..MAX_WRITES {
        asks(&machine.next(described(old.clone())), "UpdateSchedule");
        let conflict = temporal::Error::Conflict { attempted: "update a schedule", code: String::new() };
        asks(&machine.next(Some(Err(Error::Temporal(conflict)))), "DescribeSchedule");
    }
    assert!(matches!(machine.next(described(old)), Progress::Finished(Err(Problem::Later(_)))));
}
