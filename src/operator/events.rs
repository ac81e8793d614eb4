//! Kubernetes Events, sent beside the reconcile: one that fails twice is dropped, never waited for.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use super::{outcome::Note, world::ObjectKey};
use crate::crd::{GROUP, VERSION};

/// Events that may wait; more are dropped.
const QUEUE: usize = 256;
/// One Event's deadline.
const DEADLINE: Duration = Duration::from_secs(5);
/// `reportingController` of every Event.
const CONTROLLER: &str = "gtmclarity-operator";

/// Takes Events for sending; cheap to clone.
#[derive(Clone)]
pub struct Announcer {
    queue: mpsc::Sender<(ObjectReference, Note)>,
    operator_namespace: String,
}

impl Announcer {
    /// An announcer, and the task that sends.
    pub fn new(client: kube::Client, operator_namespace: &str) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let recorder = Recorder::new(client, Reporter { controller: CONTROLLER.to_owned(), instance: None });
        (Self { queue, operator_namespace: operator_namespace.to_owned() }, send(recorder, waiting))
    }

    /// An announcer whose Events nobody sends: they can be counted.
    #[cfg(test)]
    pub(super) fn unsent() -> (Self, mpsc::Receiver<(ObjectReference, Note)>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self { queue, operator_namespace: "gtm-sync".to_owned() }, waiting)
    }

    /// An Event about one of our objects.
    pub fn about(&self, key: &ObjectKey, note: Note) {
        let reference = ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some(key.kind.name().to_owned()),
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            uid: Some(key.uid.clone()),
            ..ObjectReference::default()
        };
        self.enqueue(reference, note);
    }

    /// An Event about the operator as a whole; shown on its Namespace.
    pub fn about_operator(&self, note: Note) {
        let reference = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Namespace".to_owned()),
            namespace: Some(self.operator_namespace.clone()),
            name: Some(self.operator_namespace.clone()),
            ..ObjectReference::default()
        };
        self.enqueue(reference, note);
    }

    fn enqueue(&self, reference: ObjectReference, note: Note) {
        if self.queue.try_send((reference, note)).is_err() {
            tracing::debug!("an Event was dropped: too many wait");
        }
    }
}

async fn send(recorder: Recorder, mut waiting: mpsc::Receiver<(ObjectReference, Note)>) {
    while let Some((reference, note)) = waiting.recv().await {
        let event = Event {
            type_: if note.warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason.to_owned(),
            note: Some(note.message),
            action: note.action.to_owned(),
            secondary: None,
        };
        let send = async || {
            let sent = tokio::time::timeout(DEADLINE, recorder.publish(&event, &reference)).await;
            matches!(sent, Ok(Ok(())))
        };
        if !send().await && !send().await {
            tracing::debug!(reason = event.reason, "an Event could not be sent");
        }
    }
}
