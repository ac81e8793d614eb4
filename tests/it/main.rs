//! One binary for all tests below the cluster: rules, stores, sources, workflows, CRDs, operator, generated files, module edges.
//! Tests that need a service are ignored here and run by `cargo xtask test`, which starts it.
#![allow(missing_docs, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod chart;
mod crds;
mod faults;
mod generated;
mod gitops;
mod hubspot;
mod links;
mod module_edges;
mod operator;
mod policies;
mod proofs;
mod replays;
mod simulators;
mod stores;
mod workflows;
