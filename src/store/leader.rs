//! Who leads, as the store knows it: a handle of the store may belong to a leader, and is refused once there is a later one (R26).
//! No SQL.

/// The leader that a handle of the store belongs to.
#[derive(Debug, Clone)]
pub(super) struct Leader {
    /// What is led: those that compete for one leadership name it alike.
    pub(super) of: String,
    /// How often it had been taken by then.
    pub(super) epoch: i64,
}
