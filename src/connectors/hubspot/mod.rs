//! The HubSpot connector: reads a portal's CRM by the dated API into canonical rows.
//! Opens and wires; `source` pages, `client` talks, `mapping` and `directory` translate.

mod client;
pub mod config;
mod directory;
mod mapping;
mod position;
mod record;
mod source;
#[cfg(test)]
mod tests;
mod values;

pub use source::HubSpot;
