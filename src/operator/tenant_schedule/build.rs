//! What a TenantSchedule wants of Temporal and of the store. Pure.

use super::Input;
use crate::{
    contract::{SCHEDULED_SYNC_WORKFLOW, workflows::ScheduledSyncInput},
    crd::OverlapPolicy,
    operator::{
        cron::parent_wait,
        schedule_pause::BY_SUSPEND,
        schedule_terms::Terms,
        world::{Request, StartWorkflow},
    },
    store::TenantProjection,
    temporal::{
        client::IdReuse,
        schedules::{Overlap, WantedSchedule},
    },
};

/// The tenant's row in the store.
#[must_use]
pub fn projection(input: &Input) -> TenantProjection {
    let wait = parent_wait(&input.spec.schedules, input.spec.spread.window.duration());
    TenantProjection {
        tenant_id: input.spec.tenant_id.clone(),
        owner: input.installation.owner(&input.key),
        uid: input.key.uid.clone(),
        wait_seconds: wait.map(|wait| u32::try_from(wait.as_secs()).unwrap_or(u32::MAX)),
        dedicated: input.spec.workers.is_dedicated(),
    }
}

/// The tenant's schedule in Temporal.
#[must_use]
pub fn schedule(input: &Input) -> WantedSchedule {
    let id = input.installation.names.tenant_schedule(&input.spec.tenant_id);
    let Terms { pause_on_failure, start_at, end_at, excluded, .. } = Terms::from(&input.spec);
    WantedSchedule {
        workflow_id: id.clone(),
        id,
        owner: input.installation.schedule_owner(&input.key),
        crons: input.spec.schedules.clone(),
        time_zone: input.spec.time_zone.clone(),
        jitter: input.spec.spread.window.duration(),
        overlap: overlap(input.spec.overlap_policy),
        catch_up_window: input.spec.catch_up_window.duration(),
        pause_on_failure,
        suspended: input.spec.suspend.then_some(BY_SUSPEND),
        workflow_type: SCHEDULED_SYNC_WORKFLOW.to_owned(),
        input: tick_input(input),
        start_at,
        end_at,
        excluded,
    }
}

/// A tick by hand. Its id is made of the token, so that asking twice is one run, whatever became of the first answer.
#[must_use]
pub fn tick_by_token(input: &Input, token: &str) -> Request {
    Request::StartWorkflow(StartWorkflow {
        workflow_type: SCHEDULED_SYNC_WORKFLOW,
        workflow_id: format!("{}-{token}", input.installation.names.tenant_schedule(&input.spec.tenant_id)),
        input: tick_input(input),
        reuse: IdReuse::Once,
    })
}

fn tick_input(input: &Input) -> serde_json::Value {
    let tick = ScheduledSyncInput { tenant_id: input.spec.tenant_id.clone() };
    serde_json::to_value(tick).expect("one text field")
}

/// Temporal's word for a policy.
#[must_use]
pub fn overlap(policy: OverlapPolicy) -> Overlap {
    match policy {
        OverlapPolicy::Skip => Overlap::Skip,
        OverlapPolicy::BufferOne => Overlap::BufferOne,
        OverlapPolicy::BufferAll => Overlap::BufferAll,
        OverlapPolicy::CancelOther => Overlap::CancelOther,
        OverlapPolicy::TerminateOther => Overlap::TerminateOther,
        OverlapPolicy::AllowAll => Overlap::AllowAll,
    }
}
