//! The operator on a real API server, a real Temporal and a SQLite store: what it makes of objects, and of bad days.
//! What the API server refuses by itself is in `crds.rs`; what workers do is in `workflows.rs`.

mod behaviours;
mod connectors;
mod gate;
mod guards;
mod harness;
mod leaders;
mod outages;
mod samples;
mod schedules;
mod tenants;
mod workers;
