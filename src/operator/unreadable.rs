//! Objects that this build cannot read: shown as such on the object itself, everybody else goes on.

use std::time::Duration;

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
use crate::crd::conditions::{READY, STALLED, reason};

/// Says so in the object's status, then waits for an edit.
pub(super) async fn report(kind: Kind, invalid: &InvalidObject, context: &Context) -> Option<Duration> {
    let meta = &invalid.metadata;
    let key = ObjectKey {
        kind,
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    };
    tracing::warn!(object = %key, "this build cannot read the object; apply its CRDs and check the spec");
    let ownership: &Ownership = match kind {
        Kind::TenantSchedule => &TENANT_CONTROL,
        Kind::Connector => &CONNECTOR_CONTROL,
    };
    let message = "this operator cannot read the spec: its CRDs are of another version, or were applied without rules";
    let wishes =
        vec![Wish::no(READY, reason::INVALID_SPEC, message), Wish::yes(STALLED, reason::INVALID_SPEC, message)];
    let conditions: Vec<Condition> = ownership.conditions(&[], wishes, meta.generation, context.world.now());
    let fields = json!({"observedGeneration": meta.generation, "conditions": conditions});
    let written =
        context.world.call(Request::ApplyStatus(key.clone(), StatusPart { manager: ownership.manager, fields }));
    let outcome = match written.await {
        Ok(_) => Outcome { again: Again::Never, notes: Vec::new(), failed: None },
        Err(error) => Outcome::failed(error),
    };
    settle(&key, outcome, context)
}
