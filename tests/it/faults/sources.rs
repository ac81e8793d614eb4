//! A source that answers wrongly, met by a whole run: pages that break, pages that are no pages, pages without end. What
//! the connector makes of each answer is its own suite's (`connectors::conformance`).

use std::time::Duration;

use serde_json::json;
use simulators::hubspot::{Effect, Fault};

use super::{assert_clean, connect, crm};
use crate::support::stack::Stack;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn broken_answers_are_asked_for_again_and_nothing_is_lost_or_doubled() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(31, 1_500).await);
    let _worker = stack.worker();
    connect(&stack, "acme", &crm, 200).await;
    let effects = [
        Effect::TruncatedBody,
        Effect::Html,
        Effect::Reset,
        Effect::DuplicatePage,
        Effect::Status { status: 500 },
        Effect::Status { status: 503 },
    ];
    for (place, effect) in (0..).zip(effects) {
        crm.state().add_fault(Fault::new("objects/2026-03", 2, effect).after(3 * place));
    }
    let done = stack.sync("broken", "acme", "hubspot", true).await.completed();
    assert_eq!((&done["outcome"], &done["stats"]["errorsCount"]), (&json!("complete"), &json!(0)), "{done}");
    assert!(done["failedStreams"].is_null(), "{done}");
    assert!(crm.state().faults().is_empty(), "each was met: {:?}", crm.state().faults());
    assert_clean(&stack, "acme", &crm).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs temporal"]
async fn a_cursor_that_never_ends_leaves_its_stream_and_no_other_and_heals_with_the_source() {
    let (stack, crm) = (Stack::on_sqlite().await, crm(32, 600).await);
    let _worker = stack.worker();
    connect(&stack, "acme", &crm, 200).await;
    crm.state().add_fault(Fault::always("objects/2026-03/contacts", Effect::EndlessCursor));
    let done = stack.sync("endless", "acme", "hubspot", true).await.completed();
    assert_eq!((&done["outcome"], &done["failedStreams"]), (&json!("complete"), &json!(["contacts"])), "{done}");
    crm.state().clear_faults();
    crm.state().advance_clock(Duration::from_secs(900));
    let healed = stack.sync("healed", "acme", "hubspot", false).await.completed();
    assert!(healed["failedStreams"].is_null(), "{healed}");
    assert_clean(&stack, "acme", &crm).await;
}
