//! generated.
