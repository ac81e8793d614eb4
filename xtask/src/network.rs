//! What a node leaves in the kernel outside its namespaces: one end of a cable and control groups.

/// Removes what run `id` may have left. Safe to repeat.
pub(crate) fn remove_leftovers(_id: &str) {}
