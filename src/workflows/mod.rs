//! The workflows: deterministic decisions only. No clock, no randomness, no I/O, no records; activities do all work.
//! Their code is kept trivial because the SDK runs every workflow of a process on one thread.
#![expect(missing_docs, reason = "the SDK's macros generate undocumented constants beside the documented methods")]

mod batches;
mod calls;
mod check_connection;
mod connector_sync;
mod fault;
mod pool;
mod scheduled_sync;

pub use check_connection::CheckConnection;
pub use connector_sync::ConnectorSync;
pub use scheduled_sync::ScheduledSync;
