//! Sets up `tracing` once, at the start of a process. Never logs settings: they may hold secrets.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::settings::{LogFormat, LogSettings};

/// Their debug lines hold headers (an API key) and parameters of statements (records): never shown, whatever the filter says (R18).
const TOO_TALKATIVE: [&str; 6] = ["h2", "hyper", "reqwest", "rustls", "tokio_postgres", "tonic"];

/// Logs go to stderr: stdout belongs to commands' output.
///
/// # Errors
/// When the filter does not parse, or a subscriber is already set.
pub fn start(settings: &LogSettings) -> anyhow::Result<()> {
    let mut filter = EnvFilter::try_new(&settings.log)?;
    for target in TOO_TALKATIVE {
        filter = filter.add_directive(format!("{target}=info").parse()?);
    }
    let registry = tracing_subscriber::registry().with(filter);
    match settings.log_format {
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal();
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(colour)).try_init()?;
        }
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init()?,
    }
    Ok(())
}
