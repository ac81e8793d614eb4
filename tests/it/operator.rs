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
mod links;
mod lives;
mod orphans;
mod outages;
mod own_temporal;
mod pools;
mod punctual;
mod rebuild;
mod requests;
mod restarts;
mod rights;
mod rollouts;
mod samples;
mod schedules;
mod secrets;
mod skew;
mod tenants;
mod ticks;
mod workers;
