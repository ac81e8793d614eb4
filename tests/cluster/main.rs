//! Tests with real pods on a real node: the end-to-end run by the chart. Needs root and what `cargo xtask test` starts.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "tests; the harness's variables are their settings"
)]

#[path = "../support/mod.rs"]
mod support;

mod end_to_end;
mod installation;
