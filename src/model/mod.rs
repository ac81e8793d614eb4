//! Values that pass between connectors and the store: canonical entities, staged rows, positions and cursors.
//! Pure: no I/O, no clock, no SQL, no HTTP.

pub mod batch;
pub mod budget;
pub mod config;
pub mod cursor;
pub mod custom;
pub mod entity;
pub mod page;
pub mod policy;
pub mod pseudonym;
pub mod record;
pub mod stream;
