//! module_edges.
