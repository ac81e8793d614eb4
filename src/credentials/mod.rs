//! Credentials: sealed by the operator to the workers' recipient, opened by workers only, refreshed by single flight.
//! Does not talk to Kubernetes or to any vendor; the store keeps what this module seals.

pub mod memory;
pub mod seal;
pub mod token;

pub use memory::MemoryTokens;
pub use seal::{Envelope, Opener, Sealed, Sealer, recipient_name};
pub use token::{RefreshLock, TokenStore};
