//! Recorded histories replay on today's workflow code: what runs in production now must not be disturbed by a release.
//! `tests/histories/` holds one history for each way in which a workflow can go; `record` makes them anew.

mod record;

use std::path::{Path, PathBuf};

use gtm_sync::{
    contract::activities::WriteRecords,
    workflows::{CheckConnection, ConnectorSync, ScheduledSync},
};
use prost::Message as _;
use temporalio_client::WorkflowHistory;
use temporalio_common::protos::temporal::api::{
    enums::v1::EventType,
    history::v1::{History, HistoryEvent, history_event::Attributes},
};
use temporalio_sdk::workflow_replayer::{
    WorkflowReplayError, WorkflowReplayFailure, WorkflowReplayer, WorkflowReplayerOptions,
};

/// A history is a list of events in protobuf, compressed: 1,500 of them would be half a megabyte.
const SUFFIX: &str = ".binpb.zst";
const LEVEL: i32 = 19;

/// The ways a workflow can go, as `record` records them; the name of each file.
const SHAPES: [&str; 9] = [
    "cancelled",
    "checked-connection",
    "complete",
    "continued-as-new",
    "continued-from",
    "dead-lettered",
    "failed",
    "parked",
    "tick",
];

fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories")
}

fn read(directory: &Path, shape: &str) -> History {
    let path = directory.join(format!("{shape}{SUFFIX}"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let bytes = zstd::decode_all(&*bytes).expect("compressed");
    History::decode(&*bytes).expect("a history")
}

async fn replay(history: History) -> Result<(), WorkflowReplayError> {
    let options = WorkflowReplayerOptions::new()
        .register_workflow::<ConnectorSync>()
        .and_then(|options| options.register_workflow::<ScheduledSync>())
        .and_then(|options| options.register_workflow::<CheckConnection>())
        .expect("distinct names");
    let replayer = WorkflowReplayer::new(options.build()).expect("a replayer");
    replayer.replay_workflow(WorkflowHistory::from(history)).await
}

/// Replays every shape in a directory and names each that does not fit.
async fn assert_all_replay(directory: &Path) {
    let mut misfits = Vec::new();
    for shape in SHAPES {
        if let Err(error) = replay(read(directory, shape)).await {
            misfits.push(format!("{shape}: {error}"));
        }
    }
    assert!(
        misfits.is_empty(),
        "runs in flight would break; guard the change with `patched(..)`, or record anew before a first release \
         (CONTRIBUTING.md):\n{}",
        misfits.join("\n")
    );
}

#[tokio::test]
async fn every_recorded_history_replays_on_todays_workflows() {
    assert_all_replay(&recorded()).await;
}

#[tokio::test]
async fn the_folder_holds_the_named_histories_and_no_others() {
    let mut found: Vec<String> = std::fs::read_dir(recorded())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(SUFFIX))
        .collect();
    found.sort();
    assert_eq!(found, SHAPES.map(|shape| format!("{shape}{SUFFIX}")));
}

/// The first event of an activity's scheduling, to be changed.
fn scheduled<'a>(history: &'a mut History, activity: &str) -> &'a mut HistoryEvent {
    let is_it = |event: &&mut HistoryEvent| match &event.attributes {
        Some(Attributes::ActivityTaskScheduledEventAttributes(scheduled)) => {
            scheduled.activity_type.as_ref().is_some_and(|kind| kind.name == activity)
        }
        _ => false,
    };
    history.events.iter_mut().find(is_it).unwrap_or_else(|| panic!("no {activity}"))
}

#[tokio::test]
async fn a_history_of_another_shape_is_told_from_ours() {
    let renamed = |history: &mut History| {
        let event = scheduled(history, WriteRecords::NAME);
        let Some(Attributes::ActivityTaskScheduledEventAttributes(scheduled)) = &mut event.attributes else {
            unreachable!("found by its attributes")
        };
        scheduled.activity_type.as_mut().expect("a type").name = "writeRecordsTwice".to_owned();
    };
    let a_timer_instead = |history: &mut History| {
        let event = scheduled(history, WriteRecords::NAME);
        event.event_type = EventType::TimerStarted as i32;
        event.attributes = Some(Attributes::TimerStartedEventAttributes(Default::default()));
    };
    let changes: [&dyn Fn(&mut History); 2] = [&renamed, &a_timer_instead];
    for change in changes {
        let mut history = read(&recorded(), "complete");
        change(&mut history);
        let told = replay(history).await;
        assert!(
            matches!(&told, Err(WorkflowReplayError::Replay(WorkflowReplayFailure::Nondeterminism { .. }))),
            "{told:?}"
        );
    }
}
