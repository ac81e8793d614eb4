//! The workers' pods, build by build (docs/workers.md): a `pool` has one Deployment for each build; `rollout` decides, round by
//! round, which one takes new runs, how many pods each has (`scaling`), and when `former` ones leave; `keep` goes round;
//! `status` is what tenants are told. `dedicated` makes a pool of a tenant's own from the shared one, and `leave` takes one away.

pub mod dedicated;
mod former;
pub mod keep;
pub mod leave;
pub(super) mod live;
pub mod pool;
pub mod requests;
pub mod rollout;
pub mod scaling;
mod seen;
pub mod status;
#[cfg(test)]
mod tests;
