//! What a failed activity means for its workflow. Reads the failure's type, never its text.

use temporalio_common::error::IncomingError;
use temporalio_workflow::{ActivityExecutionError, WorkflowTermination};

use crate::contract::{
    activities::{MAXIMUM_ATTEMPTS, RejectedBatch},
    failures,
};

/// Why an activity did not give its result.
#[derive(Debug)]
pub(super) enum Fault {
    /// A dependency is away, or the worker was lost: wait and do it again (R2).
    Outage(String),
    /// The batch cannot be written: dead-letter it (R10).
    Rejected(Box<RejectedBatch>),
    /// The workflow was cancelled.
    Cancelled,
    /// Only somebody's action mends it; the failure's type and text.
    Terminal {
        /// One of `contract::failures`.
        type_name: String,
        /// Class and names (R18).
        message: String,
    },
}

impl From<ActivityExecutionError> for Fault {
    fn from(error: ActivityExecutionError) -> Self {
        if error.as_cancelled().is_some() {
            return Self::Cancelled;
        }
        if let Some(timeout) = error.as_timeout() {
            return Self::Outage(format!("activity timed out ({:?})", timeout.timeout_type()));
        }
        let Some(IncomingError::Application(application)) = error.reason() else {
            return Self::Outage("activity ended without a result".to_owned());
        };
        let message = application.failure().map(|failure| failure.message.clone()).unwrap_or_default();
        match application.type_name() {
            Some(failures::REJECTED) => match application.details::<RejectedBatch>() {
                Ok(Some(batch)) => Self::Rejected(Box::new(batch)),
                _ => Self::Terminal { type_name: failures::REJECTED.to_owned(), message },
            },
            Some(failures::UNAVAILABLE) | None => Self::Outage(message),
            Some(other) => Self::Terminal { type_name: other.to_owned(), message },
        }
    }
}

impl Fault {
    /// How many attempts the activity had. (Of one that ended for good before its third nobody tells: one.)
    pub(super) fn attempts(&self) -> u32 {
        match self {
            Self::Outage(_) | Self::Rejected(_) => MAXIMUM_ATTEMPTS,
            Self::Cancelled | Self::Terminal { .. } => 1,
        }
    }

    /// The text for run row and result.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Outage(message) => message.clone(),
            Self::Rejected(rejected) => rejected.error.clone(),
            Self::Cancelled => "cancelled".to_owned(),
            Self::Terminal { message, .. } => message.clone(),
        }
    }

    /// How the workflow ends with it.
    pub(super) fn termination(self) -> WorkflowTermination {
        let type_name = match &self {
            Self::Cancelled => return WorkflowTermination::cancelled(),
            Self::Outage(_) => failures::UNAVAILABLE.to_owned(),
            Self::Rejected(_) => failures::REJECTED.to_owned(),
            Self::Terminal { type_name, .. } => type_name.clone(),
        };
        super::calls::failure(&type_name, self.text())
    }
}
