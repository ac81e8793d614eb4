//! The operator: CRs in, schedules, projection and status out. One active process by Lease.
//! Reconcilers are pure steps (`world`); shells and loops are here and in the files named below.

pub mod connector;
pub mod cron;
pub mod error;
pub mod names;
pub mod outcome;
pub mod schedule;
pub mod schedule_removal;
pub mod status_part;
pub mod tenant_schedule;
pub mod world;
