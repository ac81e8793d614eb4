//! The workers' pods, build by build (docs/workers.md): a `pool` has one Deployment for each build; `rollout` decides, round by
//! round, which one takes new runs, how many pods each has (`scaling`), and when `former` ones leave; `keep` goes round;
//! `status` is what tenants are told.

mod former;
pub mod keep;
pub(super) mod live;
pub mod pool;
pub mod requests;
pub mod rollout;
pub mod scaling;
mod seen;
pub mod status;
#[cfg(test)]
mod tests;
