//! The operator on a real API server, a real Temporal and a SQLite store: what it makes of objects, and of bad days.
//! What the API server refuses by itself is in `crds.rs`; what workers do is in `workflows.rs`.

mod behaviours;
mod connectors;
mod cron_workflows;
mod echoes;
mod gate;
mod guards;
mod harness;
mod house;
mod identities;
mod kubelet;
mod leaders;
mod orphans;
mod outages;
mod punctual;
mod requests;
mod lives;
mod own_temporal;
mod rebuild;
mod rights;
mod rollouts;
mod restarts;
mod samples;
mod schedules;
mod secrets;
mod tenants;
mod workers;
