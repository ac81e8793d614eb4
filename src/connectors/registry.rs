//! From a Connector's projected spec to a running source: the one place that knows every system.
//! Opens nothing by itself but values; credentials are already decrypted by whoever calls.

use std::sync::Arc;

use super::{Error, Source, Stream, budget::Budget, http::HttpClient, hubspot};
use crate::{
    credentials::{Envelope, Opener, TokenStore},
    ids::{ConnectorId, TenantId},
    model::{
        config::{ConnectorConfig, SourceConfig, StreamConfig},
        policy::Policy,
        pseudonym::PseudonymKey,
    },
};

/// Everything a source is opened with.
pub struct Opening {
    /// Whose connector.
    pub tenant: TenantId,
    /// Which connector.
    pub connector: ConnectorId,
    /// Source, streams and limits.
    pub config: ConnectorConfig,
    /// The vendor account its rows are bound to, once known: the key of the shared budget (R35).
    pub account_id: Option<String>,
    /// The opened base credential.
    pub envelope: Envelope,
    /// Its revision.
    pub credential_revision: i64,
    /// Where refreshed tokens live.
    pub tokens: Arc<dyn TokenStore>,
    /// The budget shared by all pods.
    pub budget: Arc<dyn Budget>,
    /// The HTTP client.
    pub http: HttpClient,
    /// Seals and opens refreshed tokens.
    pub opener: Opener,
    /// Makes pseudonyms of the fields that streams hash; one tenant's connectors share it.
    pub pseudonym_key: PseudonymKey,
}

impl Opening {
    /// How a stream is configured, if the Connector names it.
    pub(super) fn stream_config(&self, stream: &Stream) -> Option<&StreamConfig> {
        self.config.streams.iter().find(|configured| configured.name == stream.name)
    }

    /// What a stream's spec says about its values. `property_names` has the source's name of what feeds each column.
    ///
    /// # Errors
    /// `Configuration` for field rules that cannot be meant.
    pub(super) fn policy(&self, stream: Stream, property_names: Vec<Option<&'static str>>) -> Result<Policy, Error> {
        let configured = self.stream_config(&stream);
        Policy::of(stream, configured, property_names, &self.pseudonym_key).map_err(|invalid| Error::Configuration {
            system: self.config.source.source_type(),
            detail: format!("{}: {invalid}", stream.name),
        })
    }
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Opening");
        shown.field("tenant", &self.tenant).field("connector", &self.connector).field("config", &self.config);
        shown.finish_non_exhaustive()
    }
}

/// Opens a source. Sends nothing.
///
/// # Errors
/// `Configuration` for a base URL, stream, property or credential that cannot be used.
pub fn open(opening: Opening) -> Result<Box<dyn Source>, Error> {
    match opening.config.source {
        SourceConfig::Hubspot { .. } => Ok(Box::new(hubspot::HubSpot::open(opening)?)),
    }
}

/// The host that a credential for this source is sent to, as in an envelope's `allowed_hosts`: `host`, or `host:port`
/// where the URL names a port that is not its scheme's own. A base URL that cannot be read stands for itself; `open` refuses it.
#[must_use]
pub fn host(source: &SourceConfig) -> String {
    match source {
        SourceConfig::Hubspot { base_url } => hubspot::config::host(base_url.as_deref()),
    }
}

/// Every stream that a source has, in the order they are read.
#[must_use]
pub fn streams(source: &SourceConfig) -> &'static [Stream] {
    match source {
        SourceConfig::Hubspot { .. } => hubspot::config::STREAMS,
    }
}

/// The streams that a Connector asks for, in its order; all of them, referenced before referencing, when it names none.
///
/// # Errors
/// `Configuration` for a name that the source does not have, naming those it has.
pub fn chosen_streams(source: &SourceConfig, chosen: &[StreamConfig]) -> Result<Vec<Stream>, Error> {
    let known = streams(source);
    if chosen.is_empty() {
        return Ok(known.to_vec());
    }
    let find = |wanted: &StreamConfig| {
        known.iter().find(|stream| stream.name == wanted.name).copied().ok_or_else(|| {
            let names: Vec<_> = known.iter().map(|stream| stream.name).collect();
            let detail = format!("unknown stream {:?}; known are {}", wanted.name, names.join(", "));
            Error::Configuration { system: source.source_type(), detail }
        })
    };
    chosen.iter().map(find).collect()
}
