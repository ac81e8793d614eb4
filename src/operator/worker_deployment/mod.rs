//! The Deployment of the shared worker pool: applied from the chart's template, its pods counted.
//! One build only; rollout by Temporal's worker versions is a later step.

pub mod apply;
pub mod build;
pub mod dedicated;
pub mod status;
