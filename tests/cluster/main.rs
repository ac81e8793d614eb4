//! Tests with real pods on a real node: the end-to-end run by the chart. Needs root and what `cargo xtask test` starts.
#![allow(missing_docs, reason = "tests")]
