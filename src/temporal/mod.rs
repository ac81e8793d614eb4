//! Typed calls to Temporal: connecting, schedules, starting, listing and looking up workflows, worker deployments, the installation marker.
//! Raw gRPC where the SDK is thin (no memo, no catch-up window, no conflict token). Decides nothing: callers do.

pub mod access;
pub mod client;
pub mod closed;
pub mod cron_workflows;
pub mod error;
pub mod installation;
pub mod pacer;
pub mod schedules;
pub mod worker_deployments;

pub use access::Plan;
pub use client::{CloseStatus, StartOutcome, Temporal, WorkflowState};
pub use error::Error;
pub use installation::Installation;
pub use pacer::Pacer;
pub use worker_deployments::WorkerVersion;
