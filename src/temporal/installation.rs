//! The installation marker: one store per Temporal namespace (R17). A paused schedule that never fires carries the store's
//! installation id; a different one refuses, a missing one does not (R51).

use std::time::Duration;

use super::{
    Error, Temporal,
    schedules::{Overlap, ScheduleOwner, WantedSchedule},
};

/// Id of the marker, never prefixed with a cluster id: clusters that share a namespace share the store.
pub const MARKER_SCHEDULE: &str = "gtm-sync-installation";
/// Attempts to read back a marker that somebody else wrote or removed meanwhile.
const ATTEMPTS: usize = 3;

/// What a worker finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installation {
    /// The marker names our store.
    Ours,
    /// No marker: wait for the operator to write it, without refusing (Temporal may have been restarted empty).
    Unmarked,
}

impl Temporal {
    /// Compares the marker with the store's installation id, before polling.
    ///
    /// # Errors
    /// `AnotherInstallation` when it names another store; `Unavailable` and others when it cannot be read.
    pub async fn check_installation(&self, installation_id: &str) -> Result<Installation, Error> {
        let Some(seen) = self.describe_schedule(MARKER_SCHEDULE).await? else {
            return Ok(Installation::Unmarked);
        };
        match seen.owner {
            Some(owner) if owner.installation_id == installation_id => Ok(Installation::Ours),
            Some(owner) => Err(another(owner.installation_id, installation_id)),
            None => Err(another("unknown".to_owned(), installation_id)),
        }
    }

    /// Writes the marker where it is missing; whether it was. For the leading operator only.
    ///
    /// # Errors
    /// As `check_installation`.
    ///
    /// # Idempotency
    /// By the schedule's id: of two first operators, the one that comes second reads the first one's marker.
    pub async fn ensure_installation(&self, installation_id: &str) -> Result<bool, Error> {
        for attempt in 0..ATTEMPTS {
            if self.check_installation(installation_id).await? == Installation::Ours {
                return Ok(attempt > 0);
            }
            self.create_schedule(&marker(installation_id)).await?;
        }
        Err(Error::Unreadable { what: "the installation marker that was just written" })
    }
}

fn another(found: String, ours: &str) -> Error {
    Error::AnotherInstallation { found, ours: ours.to_owned() }
}

/// Paused for good, with a tick a year: a schedule without any further tick would be deleted by the server.
fn marker(installation_id: &str) -> WantedSchedule {
    WantedSchedule {
        id: MARKER_SCHEDULE.to_owned(),
        owner: ScheduleOwner {
            installation_id: installation_id.to_owned(),
            cluster_id: String::new(),
            kind: "Installation".to_owned(),
            namespace: String::new(),
            name: MARKER_SCHEDULE.to_owned(),
        },
        crons: vec!["0 0 1 1 *".to_owned()],
        time_zone: "UTC".to_owned(),
        jitter: Duration::ZERO,
        overlap: Overlap::Skip,
        catch_up_window: Duration::from_secs(60),
        pause_on_failure: false,
        suspended: Some("gtm-sync: marks the installation"),
        workflow_type: "gtmSyncInstallationMarker".to_owned(),
        workflow_id: MARKER_SCHEDULE.to_owned(),
        input: serde_json::Value::Null,
        start_at: None,
        end_at: None,
        excluded: Vec::new(),
    }
}
