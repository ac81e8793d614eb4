//! The step that follows a Connector's deletion: its own schedule gone, then out of the registry: a row that is still there is
//! what the sweep goes on from when Temporal was away. The sweep itself, which saw no deletion, only marks. Rows stay. Pure (R36).

use std::mem;

use crate::{
    ids::{ConnectorId, TenantId},
    operator::{
        error::Error,
        names::Installation,
        outcome::{Again, Outcome},
        schedule_removal::{Progress, RemoveSchedule},
        world::{Answer, ObjectKey, Reply, Request, Step},
    },
    store::TenantClaim,
};

/// What is to be removed.
#[derive(Debug, Clone)]
pub struct Gone {
    /// The object that was.
    pub key: ObjectKey,
    /// Its tenant.
    pub tenant_id: TenantId,
    /// Its id.
    pub connector_id: ConnectorId,
}

/// The step.
#[derive(Debug)]
pub struct Remove {
    gone: Gone,
    installation: Installation,
    with_schedule: bool,
    phase: Phase,
    outcome: Outcome,
}

#[derive(Debug)]
enum Phase {
    Begin,
    AskingClaim,
    Unprojecting,
    RemovingSchedule(RemoveSchedule),
    End,
}

impl Remove {
    /// For an object that was seen to be deleted.
    #[must_use]
    pub fn new(gone: Gone, installation: Installation) -> Self {
        let outcome = Outcome { again: Again::Never, notes: Vec::new(), failed: None };
        Self { gone, installation, with_schedule: true, phase: Phase::Begin, outcome }
    }

    /// For an object that is missing: in a cluster that is being rebuilt it may only come later. The mark goes when it does;
    /// its schedule, with what people and time have left in it, has a grace (`schedule_orphans`).
    #[must_use]
    pub fn mark(missing: Gone, installation: Installation) -> Self {
        Self { with_schedule: false, ..Self::new(missing, installation) }
    }

    fn unproject(&mut self) -> Option<Request> {
        self.phase = Phase::Unprojecting;
        let Gone { key, tenant_id, connector_id } = self.gone.clone();
        Some(Request::RemoveConnector(tenant_id, connector_id, key.uid))
    }

    fn remove_schedule(&mut self, mut machine: RemoveSchedule, reply: Option<Reply>) -> Option<Request> {
        match machine.next(reply) {
            Progress::Ask(request) => {
                self.phase = Phase::RemovingSchedule(machine);
                Some(request)
            }
            Progress::Finished(Ok(_)) => self.unproject(),
            Progress::Finished(Err(error)) => self.failed(error),
        }
    }

    fn failed(&mut self, error: Error) -> Option<Request> {
        self.outcome = Outcome::failed(error);
        None
    }
}

impl Step for Remove {
    type Outcome = Outcome;

    fn next(&mut self, reply: Option<Reply>) -> Option<Request> {
        match (mem::replace(&mut self.phase, Phase::End), reply) {
            (Phase::Begin, _) => {
                self.phase = Phase::AskingClaim;
                Some(Request::TenantClaim(self.gone.tenant_id.clone()))
            }
            (Phase::RemovingSchedule(machine), reply) => self.remove_schedule(machine, reply),
            (_, Some(Err(error))) => self.failed(error),
            // A Connector of another namespace than the claim's was never projected: the row is somebody else's.
            (Phase::AskingClaim, Some(Ok(Answer::Claimant(Some(TenantClaim { owner, .. })))))
                if owner.cluster_id == self.installation.cluster_id && owner.namespace == self.gone.key.namespace =>
            {
                if !self.with_schedule {
                    return self.unproject();
                }
                let id = self.installation.names.connector_schedule(&self.gone.tenant_id, &self.gone.connector_id);
                let owner = self.installation.schedule_owner(&self.gone.key);
                self.remove_schedule(RemoveSchedule::new(id, owner), None)
            }
            _ => None,
        }
    }

    fn outcome(self) -> Outcome {
        self.outcome
    }
}
