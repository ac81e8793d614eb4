//! Schedules in Temporal whose object is gone: which ones of a list that may be, what is remembered of them, and the step that
//! looks at one and, once its grace is over, deletes it (R11, R45). Pure; `census` does the calls.

use std::{collections::HashMap, mem, time::Duration};

use jiff::Timestamp;

use super::{
    error::Error,
    names::Installation,
    sweep::is_too_many,
    world::{Answer, Kind, Reply, Request, Step},
};
use crate::{
    store::Owner,
    temporal::schedules::{ListedSchedule, ScheduleOwner, SeenSchedule},
};

/// A schedule for which no object is in view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// Its id.
    pub id: String,
    /// Who made it.
    pub owner: ScheduleOwner,
    /// The owner's kind.
    pub kind: Kind,
}

/// What a list holds of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// How many schedules are ours.
    pub ours: usize,
    /// Those without an object.
    pub suspects: Vec<Suspect>,
}

/// Not one object of a suspect's kind is in view: more likely the view is wrong than all were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NothingInView;

/// The schedules of a list that this operator made, in namespaces that it watches, and for which there is no object:
/// none of the owner's name, or one that is another tenant's by now.
///
/// # Errors
/// `NothingInView`.
pub fn suspects(
    listed: &[ListedSchedule],
    installation: &Installation,
    watches: impl Fn(&str) -> bool,
    tenant_of: impl Fn(Kind, &str, &str) -> Option<String>,
    in_view: impl Fn(Kind) -> usize,
) -> Result<Found, NothingInView> {
    let mut found = Found::default();
    for schedule in listed {
        let Some(owner) = &schedule.owner else { continue };
        let kinds = [Kind::TenantSchedule, Kind::Connector];
        let Some(kind) = kinds.into_iter().find(|kind| kind.name() == owner.kind) else { continue };
        let made_here = owner.installation_id == installation.id && owner.cluster_id == installation.cluster_id;
        if !made_here || !watches(&owner.namespace) {
            continue;
        }
        found.ours += 1;
        let suspect = Suspect { id: schedule.id.clone(), owner: owner.clone(), kind };
        if !accounts_for(&suspect, tenant_of(kind, &owner.namespace, &owner.name).as_deref(), installation) {
            found.suspects.push(suspect);
        }
    }
    let blind = found.suspects.iter().any(|suspect| in_view(suspect.kind) == 0);
    if blind { Err(NothingInView) } else { Ok(found) }
}

/// Whether the owner's object, of this tenant, wants a schedule of this id; one that cannot be read may want any.
fn accounts_for(suspect: &Suspect, tenant: Option<&str>, installation: &Installation) -> bool {
    let Some(tenant) = tenant else { return false };
    let Ok(tenant) = tenant.parse() else { return true };
    match suspect.kind {
        Kind::TenantSchedule => installation.names.tenant_schedule(&tenant) == suspect.id,
        Kind::Connector => suspect
            .owner
            .name
            .parse()
            .map_or(true, |connector| installation.names.connector_schedule(&tenant, &connector) == suspect.id),
    }
}

/// What a process remembers of suspects: when it first saw them, and what they were. A restart begins every grace anew.
#[derive(Debug, Default)]
pub struct Sightings(HashMap<String, Sighting>);

#[derive(Debug, Clone, Copy)]
struct Sighting {
    at: Timestamp,
    is_orphan: bool,
}

/// What a pass does.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whom to look at, and whether to delete it if it is an orphan still.
    pub looks: Vec<(Suspect, bool)>,
    /// Nothing is deleted, because more are gone at once than may be without a question.
    pub too_many: bool,
}

impl Sightings {
    /// The pass over what was found now. Those that were looked at and are no orphans (left on purpose, taken over by
    /// somebody) count for nothing, and are looked at again after the grace.
    pub fn plan(&mut self, found: Found, grace: Duration, now: Timestamp) -> Plan {
        self.0.retain(|id, _| found.suspects.iter().any(|suspect| suspect.id == *id));
        let open = found.suspects.iter().filter(|suspect| self.0.get(&suspect.id).is_none_or(|of| of.is_orphan));
        let too_many = is_too_many(open.count(), found.ours);
        let looks = found.suspects.into_iter().filter_map(|suspect| {
            let Some(sighting) = self.0.get(&suspect.id) else { return Some((suspect, false)) };
            let age = Duration::try_from(now.duration_since(sighting.at)).unwrap_or_default();
            let due = age >= grace && !(sighting.is_orphan && too_many);
            due.then_some((suspect, sighting.is_orphan))
        });
        Plan { looks: looks.collect(), too_many }
    }

    /// Notes what a suspect was found to be; whether that is news: a new orphan.
    pub fn note(&mut self, suspect: &Suspect, verdict: Verdict, now: Timestamp) -> bool {
        let before = self.0.get(&suspect.id).copied();
        match verdict {
            Verdict::Deleted => {
                self.0.remove(&suspect.id);
            }
            Verdict::Orphan if before.is_some_and(|before| before.is_orphan) => {}
            Verdict::Orphan | Verdict::NoOrphan => {
                let sighting = Sighting { at: now, is_orphan: verdict == Verdict::Orphan };
                self.0.insert(suspect.id.clone(), sighting);
                return sighting.is_orphan;
            }
        }
        false
    }

    /// How many orphans there are.
    #[must_use]
    pub fn orphans(&self) -> usize {
        self.0.values().filter(|sighting| sighting.is_orphan).count()
    }
}

/// What a suspect is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is gone, left on purpose, not ours any more, edited by somebody, or its object is there.
    NoOrphan,
    /// It is one.
    Orphan,
    /// It was one.
    Deleted,
}

/// The step that looks at one suspect. The list knows who made a schedule, not whose it is; the watch may be behind: both are
/// asked again, right before the deletion.
#[derive(Debug)]
pub struct Examine {
    suspect: Suspect,
    delete: bool,
    installation: Installation,
    seen: Option<Box<SeenSchedule>>,
    phase: Phase,
    verdict: Result<Verdict, Error>,
}

#[derive(Debug)]
enum Phase {
    Begin,
    Describing,
    GettingObject,
    Unprojecting,
    Deleting,
    End,
}

impl Examine {
    /// Of one suspect.
    #[must_use]
    pub fn new(suspect: Suspect, delete: bool, installation: Installation) -> Self {
        Self { suspect, delete, installation, seen: None, phase: Phase::Begin, verdict: Ok(Verdict::NoOrphan) }
    }

    fn described(&mut self, seen: Option<Box<SeenSchedule>>) -> Option<Request> {
        let seen = seen?;
        // Our marks on the action go when somebody edits it by hand: such a schedule is somebody's.
        let is_ours = seen.owner.as_ref() == Some(&self.suspect.owner) && seen.wanted_hash.is_some();
        if !is_ours || seen.left {
            return None;
        }
        self.seen = Some(seen);
        self.phase = Phase::GettingObject;
        let ScheduleOwner { namespace, name, .. } = self.suspect.owner.clone();
        Some(Request::TenantOf(self.suspect.kind, namespace, name))
    }

    fn looked_up(&mut self, tenant: Option<&str>) -> Option<Request> {
        if accounts_for(&self.suspect, tenant, &self.installation) {
            return None;
        }
        self.verdict = Ok(Verdict::Orphan);
        if !self.delete {
            return None;
        }
        // The claim goes first: without the schedule nothing would lead to it any more.
        let tenant = self.seen.take().and_then(|seen| seen.tenant_id);
        let tenant = tenant.filter(|tenant| self.installation.names.tenant_schedule(tenant) == self.suspect.id);
        match tenant {
            Some(tenant) if self.suspect.kind == Kind::TenantSchedule => {
                self.phase = Phase::Unprojecting;
                let ScheduleOwner { cluster_id, namespace, name, .. } = self.suspect.owner.clone();
                Some(Request::RemoveTenant(tenant, Owner { cluster_id, namespace, name }))
            }
            _ => self.delete(),
        }
    }

    fn delete(&mut self) -> Option<Request> {
        self.phase = Phase::Deleting;
        Some(Request::DeleteSchedule(self.suspect.id.clone()))
    }
}

impl Step for Examine {
    type Outcome = Result<Verdict, Error>;

    fn next(&mut self, reply: Option<Reply>) -> Option<Request> {
        match (mem::replace(&mut self.phase, Phase::End), reply) {
            (Phase::Begin, _) => {
                self.phase = Phase::Describing;
                Some(Request::DescribeSchedule(self.suspect.id.clone()))
            }
            (Phase::Describing, Some(Ok(Answer::Schedule(seen)))) => self.described(seen),
            (Phase::GettingObject, Some(Ok(Answer::Tenant(tenant)))) => self.looked_up(tenant.as_deref()),
            (Phase::Unprojecting, Some(Ok(_))) => self.delete(),
            (Phase::Deleting, Some(Ok(_))) => {
                self.verdict = Ok(Verdict::Deleted);
                None
            }
            (_, Some(Err(error))) => {
                self.verdict = Err(error);
                None
            }
            _ => {
                self.verdict = Err(Error::Unsettled("an answer to another question while a schedule was examined"));
                None
            }
        }
    }

    fn outcome(self) -> Self::Outcome {
        self.verdict
    }
}

#[cfg(test)]
mod tests;
