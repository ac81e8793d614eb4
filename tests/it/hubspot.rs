//! hubspot.
