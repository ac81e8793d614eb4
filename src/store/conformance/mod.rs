//! What every store must do, as tests against the trait; `tests/it/stores.rs` runs each on SQLite and on PostgreSQL.
//! Compiled into that test binary only (hence `gtm_sync::`, not `crate::`); knows no database but through `Probe`.

pub(crate) mod budgets;
pub(crate) mod commits;
pub(crate) mod credentials;
pub(crate) mod endings;
pub(crate) mod leaders;
pub(crate) mod leases;
pub(crate) mod letters;
pub(crate) mod life;
pub(crate) mod losses;
pub(crate) mod pools;
pub(crate) mod purges;
pub(crate) mod registry;
pub(crate) mod rejections;
pub(crate) mod shares;
pub(crate) mod statuses;
pub(crate) mod sweeps;
pub(crate) mod versions;
pub(crate) mod wishes;
pub(crate) mod world;
