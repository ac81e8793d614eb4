//! The HubSpot connector: reads a portal's CRM by the dated API into canonical rows.
//! `open` wires, `source` pages, `read_back` reads by id, `client` talks, `mapping` and `directory` translate.

mod client;
pub mod config;
mod directory;
mod mapping;
mod open;
mod position;
mod read_back;
mod record;
mod source;
#[cfg(test)]
mod tests;
mod values;

pub use source::HubSpot;
