//! Stateful stand-ins for the vendors' clouds, and the checker that compares what they hold with the store.
//! For tests and the demo only: nothing here is linked into `gtm-sync`, and nothing here knows its code.

pub mod checker;
pub mod clock;
pub mod hubspot;
mod random;
