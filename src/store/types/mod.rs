//! Rows and arguments of the store, a file a reason; all of them are named as `store::…`.

mod completeness;
mod lease;
mod letters;
mod life;
mod registry;
mod runs;
mod share;
mod wishes;

pub use completeness::*;
pub use lease::*;
pub use letters::*;
pub use life::*;
pub use registry::*;
pub use runs::*;
pub use share::*;
pub use wishes::*;

pub use crate::model::budget::{Grant as BudgetGrant, Key as BudgetKey, Limit as BudgetLimit};
