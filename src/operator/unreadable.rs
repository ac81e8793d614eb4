//! Objects that this build cannot read: shown as such on the object itself, everybody else goes on.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::error_boundary::InvalidObject;
use serde_json::json;

use super::{
    context::Context,
    controller::settle,
    outcome::{Again, Outcome},
    status_part::{CONNECTOR_CONTROL, Ownership, TENANT_CONTROL, Wish},
    world::{Kind, ObjectKey, Request, StatusPart},
};
use crate::crd::{
    FORCE_DELETE_ANNOTATION,
    conditions::{READY, STALLED, reason},
};

/// Says so in the object's status, then waits for an edit. Its deletion waits too, since nobody can tell which schedule
/// goes with it, until the annotation ends that; the sweep then finds the schedule.
pub(super) async fn report(kind: Kind, invalid: &InvalidObject, context: &Context) -> Option<Duration> {
    let meta = &invalid.metadata;
    let key = ObjectKey {
        kind,
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    };
    tracing::warn!(object = %key, "this build cannot read the object; apply its CRDs and check the spec");
    let annotation = meta.annotations.as_ref().and_then(|all| all.get(FORCE_DELETE_ANNOTATION));
    let deleting = meta.deletion_timestamp.is_some();
    let request = if deleting && annotation.is_some_and(|value| value == "true") {
        Request::RemoveFinalizer(key.clone())
    } else {
        Request::ApplyStatus(key.clone(), status(kind, meta.generation, context.world.now()))
    };
    let outcome = match context.world.call(request).await {
        Ok(_) => Outcome { again: Again::Never, notes: Vec::new(), failed: None },
        Err(error) => Outcome::failed(error),
    };
    settle(&key, outcome, context)
}

/// What the status of such an object says.
pub(super) fn status(kind: Kind, generation: Option<i64>, now: Timestamp) -> StatusPart {
    let ownership: &Ownership = match kind {
        Kind::TenantSchedule => &TENANT_CONTROL,
        Kind::Connector => &CONNECTOR_CONTROL,
    };
    let message = "this operator cannot read the spec: its CRDs are of another version, or were applied without rules";
    let wishes =
        vec![Wish::no(READY, reason::INVALID_SPEC, message), Wish::yes(STALLED, reason::INVALID_SPEC, message)];
    let conditions: Vec<Condition> = ownership.conditions(&[], wishes, generation, now);
    let fields = json!({"observedGeneration": generation, "conditions": conditions});
    StatusPart { manager: ownership.manager, fields }
}
