//! A stream of a source, and which canonical rows are its own.

use super::entity::Entity;

/// A stream that a source can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// Its name in specs, progress and cursors, e.g. `companies`.
    pub name: &'static str,
    /// The entity its rows become.
    pub entity: Entity,
    /// What the `source_id` of its rows begins with, where several streams share an entity (`call:` among activities);
    /// empty where the entity is its own. No prefix of a source begins another of the same entity.
    pub id_prefix: &'static str,
}

impl Stream {
    /// Whether a row of this entity and id is this stream's.
    #[must_use]
    pub fn owns(&self, entity: Entity, source_id: &str) -> bool {
        self.entity == entity && source_id.starts_with(self.id_prefix)
    }
}
