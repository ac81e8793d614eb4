//! gtm-sync: keeps many tenants' CRM data in sync, declared in YAML, run by Temporal on Kubernetes.
//! The modules stand in dependency order; `tests/it/module_edges.rs` checks who may use whom (ARCHITECTURE.md).

#[cfg(test)]
extern crate self as gtm_sync;

// base
pub mod clock;
pub mod error_class;
pub mod health;
pub mod ids;
pub mod key_files;
pub mod metrics;
pub mod settings;
pub mod telemetry;
pub mod tls;

pub mod crd;

pub mod model;

pub mod contract;

pub mod workflows;

pub mod credentials;

pub mod connectors;

pub mod store;

pub mod temporal;

pub mod activities;

pub mod operator;

pub mod worker;

pub mod admin;
