//! Once a resync: all that stands in Temporal, in one list, beside what should. Schedules without an object are told and, after a
//! grace, deleted (`schedule_orphans`); starts that are planned are added up (`planned_starts`); cron workflows that people
//! started by hand are looked for (`cron_workflows`). Decides nothing itself.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::ResourceExt as _;

use super::{
    context::Context,
    error::Error,
    outcome::Note,
    planned_starts::{LIMIT, PlannedStarts},
    schedule_orphans::{Examine, Plan, Sightings, Suspect, Verdict, suspects},
    sweep::{FIRST_PAUSE, LONGEST_PAUSE},
    tenant_schedule::key_of,
    world::{Answer, Kind, Request, drive},
};
use crate::{
    health::Pulse,
    metrics::PlannedBy,
    temporal::{
        pacer::{Urgency, as_urgent_as},
        schedules::ListedSchedule,
    },
};

/// A census beats between its calls, of which a long list is the longest.
const PASS: Duration = Duration::from_secs(120);

/// What is remembered from one census to the next.
#[derive(Default)]
pub(super) struct Census {
    sightings: Sightings,
    told: Told,
}

/// What a person was told and need not be told again while it lasts.
#[derive(Default)]
struct Told {
    blind: bool,
    too_many: bool,
    starts: bool,
}

/// Takes one at the start and every resync.
pub async fn keep(context: Arc<Context>) {
    context.fleet.ready().await;
    let pulse = context.liveness.pulse("census", context.resync.max(PASS));
    let (mut census, mut pause) = (Census::default(), FIRST_PAUSE);
    loop {
        pulse.beat();
        let mut rest = context.resync;
        match as_urgent_as(Urgency::Look, census.take(&pulse, &context)).await {
            Ok(()) => pause = FIRST_PAUSE,
            Err(error) => {
                tracing::debug!(%error, "census not finished; the next one begins anew");
                rest = rest.min(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        tokio::time::sleep(rest).await;
    }
}

impl Census {
    /// Takes one.
    pub(super) async fn take(&mut self, pulse: &Pulse, context: &Context) -> Result<(), Error> {
        let listed = match context.world.call(Request::ListSchedules).await? {
            Answer::Schedules(listed) => listed,
            _ => return Err(Error::Unsettled("an answer to another question while schedules were listed")),
        };
        context.metrics.schedules_overdue.set(overdue(context));
        self.add_up(&listed, context);
        self.sweep(&listed, pulse, context).await?;
        pulse.beat();
        // Last: a server without visibility still has its orphans swept.
        find_cron_workflows(context).await
    }

    fn add_up(&mut self, listed: &[ListedSchedule], context: &Context) {
        let children = children(context);
        let planned = PlannedStarts::of(listed, |schedule| {
            let owner = schedule.owner.as_ref().filter(|owner| owner.kind == Kind::TenantSchedule.name());
            owner.map_or(0, |owner| children.get(&(owner.namespace.clone(), schedule.id.clone())).copied().unwrap_or(0))
        });
        let gauge = |by| context.metrics.planned_starts.get_or_create(&PlannedBy { by }).clone();
        gauge("schedules").set(planned.by_schedules);
        gauge("ticks").set(planned.by_ticks);
        let message = format!(
            "schedules of this Temporal namespace plan more than 70 % of the {LIMIT} starts a second that a server allows by default; beyond, ticks queue and are lost: spread them, sync more rarely, or raise worker.schedulerNamespaceStartWorkflowRPS"
        );
        tell_once(&mut self.told.starts, planned.is_high(), "PlannedStartsHigh", &message, context);
    }

    async fn sweep(&mut self, listed: &[ListedSchedule], pulse: &Pulse, context: &Context) -> Result<(), Error> {
        let fleet = &context.fleet;
        let found = suspects(
            listed,
            &context.installation,
            |namespace| fleet.watches(namespace),
            |kind, namespace, name| fleet.tenant_of(kind, namespace, name),
            |kind| fleet.count(kind),
        );
        let blind = "Temporal has schedules whose objects are not in view, and no object of their kind is: nothing is deleted; check CRDs, kubeconfig and watched namespaces";
        tell_once(&mut self.told.blind, found.is_err(), "SweepSuspicious", blind, context);
        let Ok(found) = found else { return Ok(()) };
        let Plan { looks, too_many } = self.sightings.plan(found, context.orphan_grace, context.world.now());
        let message = "more schedules in Temporal have lost their object at once than are deleted without a question: nothing is deleted; apply the objects again, or delete the schedules in Temporal (Events ScheduleOrphaned)";
        tell_once(&mut self.told.too_many, too_many, "SweepSuspicious", message, context);
        for (suspect, delete) in looks {
            pulse.beat();
            let verdict = drive(&context.world, Examine::new(suspect.clone(), delete, context.installation.clone()));
            match verdict.await {
                Ok(verdict) => self.judged(&suspect, verdict, context),
                Err(error) if error.is_outage() => return Err(error),
                // One that cannot be judged holds up no other, nor what follows.
                Err(error) => tracing::warn!(schedule = suspect.id, %error, "not looked at; the next census does"),
            }
        }
        context.metrics.schedule_orphans.set(i64::try_from(self.sightings.orphans()).unwrap_or(i64::MAX));
        Ok(())
    }

    fn judged(&mut self, suspect: &Suspect, verdict: Verdict, context: &Context) {
        let Suspect { id, owner, .. } = suspect;
        let whose = format!("schedule {id} of {} {}/{}", owner.kind, owner.namespace, owner.name);
        if self.sightings.note(suspect, verdict, context.world.now()) {
            let message =
                format!("{whose} has lost its object; it is deleted in {:?} if that stays so", context.orphan_grace);
            tracing::warn!("{message}");
            context.announcer.about_operator(Note::warning("ScheduleOrphaned", "Sweep", message));
        }
        if verdict == Verdict::Deleted {
            tracing::info!("{whose} had lost its object; deleted");
            let message = format!("deleted {whose}, which had lost its object");
            context.announcer.about_operator(Note::normal("ScheduleDeleted", "Sweep", message));
        }
    }
}

/// One list of workflows; whose tenant has a cron workflow is reconciled.
async fn find_cron_workflows(context: &Context) -> Result<(), Error> {
    let temporal = context.temporal.borrow().clone().map_err(Error::Temporal)?;
    context.pacer.turn().await;
    context.cron_workflows.list(&temporal).await.map_err(Error::Temporal)?;
    for object in context.fleet.tenants() {
        let Ok(tenant) = &object.0 else { continue };
        if context.cron_workflows.suspects(&tenant.spec.tenant_id) {
            context.fleet.trigger(&key_of(tenant));
        }
    }
    Ok(())
}

/// How many objects tell of a tick that did not start.
fn overdue(context: &Context) -> i64 {
    let tenants = context.fleet.tenants().into_iter().filter(|object| {
        let status = object.0.as_ref().ok().and_then(|object| object.status.as_ref());
        status.is_some_and(|status| status.overdue_since.is_some())
    });
    let connectors = context.fleet.connectors().into_iter().filter(|object| {
        let status = object.0.as_ref().ok().and_then(|object| object.status.as_ref());
        status.is_some_and(|status| status.overdue_since.is_some())
    });
    i64::try_from(tenants.count() + connectors.count()).unwrap_or(i64::MAX)
}

/// How many syncs a tick of a tenant starts, by namespace and id of its schedule.
fn children(context: &Context) -> HashMap<(String, String), usize> {
    let mut children: HashMap<_, usize> = HashMap::new();
    for object in context.fleet.connectors() {
        let (Some(namespace), Ok(connector)) = (object.namespace(), &object.0) else { continue };
        if connector.spec.sync.schedules.is_empty() {
            let schedule = context.installation.names.tenant_schedule(&connector.spec.tenant_id);
            *children.entry((namespace, schedule)).or_default() += 1;
        }
    }
    children
}

/// Tells people when something begins, and not again before it has ended.
fn tell_once(told: &mut bool, now: bool, reason: &'static str, message: &str, context: &Context) {
    if now && !*told {
        tracing::error!(reason, "{message}");
        context.announcer.about_operator(Note::warning(reason, "Census", message));
    }
    *told = now;
}
