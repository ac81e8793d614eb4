//! Opens HubSpot sources on a simulator, and breaks it for the conformance suite.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use gtm_sync::{
    connectors::{
        Error, Source,
        budget::Unlimited,
        conformance::{Driver, Fault, Times},
        http::{AllowedHosts, HttpClient, HttpSettings},
        registry::{self, Opening},
    },
    credentials::{Envelope, MemoryTokens, Opener, seal::generate_identity},
    model::{
        config::{ConnectorConfig, DataPolicy, FieldRules, SchemaContract, SecretFields, SourceConfig, StreamConfig},
        pseudonym::PseudonymKey,
    },
};
use simulators::hubspot::{self, Defect, Effect, Kind, Simulator, StateHandle};

/// A Connector on a simulated account.
pub(crate) struct Account {
    config: ConnectorConfig,
    host: String,
    fields: Vec<(&'static str, String)>,
    allowed: Vec<String>,
    tokens: Arc<MemoryTokens>,
    opener: Opener,
}

impl Account {
    pub(crate) fn of(simulator: &Simulator) -> Self {
        let source = SourceConfig::Hubspot { base_url: Some(simulator.base_url()) };
        Self {
            host: registry::host(&source),
            config: ConnectorConfig {
                source,
                streams: Vec::new(),
                batch_size: 1_000,
                requests_per_second: None,
                quota_reserve_percent: 10,
                max_rejected_percent: 10,
                max_swept_percent: 10,
                data_policy: DataPolicy::Retain,
            },
            fields: vec![("accessToken", "pat-simulated".to_owned())],
            allowed: vec!["127.0.0.1".to_owned()],
            tokens: Arc::default(),
            opener: Opener::new(&generate_identity().0).expect("identity"),
        }
    }

    pub(crate) fn streams(mut self, names: &[&str]) -> Self {
        let stream = |name: &&str| StreamConfig { name: (*name).to_owned(), ..StreamConfig::default() };
        self.config.streams = names.iter().map(stream).collect();
        self
    }

    pub(crate) fn properties(mut self, stream: &str, properties: Vec<String>) -> Self {
        self.config.streams = vec![StreamConfig { name: stream.to_owned(), properties, ..StreamConfig::default() }];
        self
    }

    /// One stream, with a contract and field rules.
    pub(crate) fn policy(mut self, stream: &str, schema_contract: SchemaContract, fields: FieldRules) -> Self {
        self.config.streams =
            vec![StreamConfig { schema_contract, fields, name: stream.to_owned(), properties: Vec::new() }];
        self
    }

    pub(crate) fn token(mut self, token: &str) -> Self {
        self.fields = vec![("accessToken", token.to_owned())];
        self
    }

    pub(crate) fn oauth(mut self, client_id: &str, client_secret: &str, refresh_token: &str) -> Self {
        self.fields = vec![
            ("clientId", client_id.to_owned()),
            ("clientSecret", client_secret.to_owned()),
            ("refreshToken", refresh_token.to_owned()),
        ];
        self
    }

    pub(crate) fn reserve_percent(mut self, percent: u8) -> Self {
        self.config.quota_reserve_percent = percent;
        self
    }

    pub(crate) fn for_host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    pub(crate) fn allowed_private_hosts(mut self, hosts: &[&str]) -> Self {
        self.allowed = hosts.iter().map(|host| (*host).to_owned()).collect();
        self
    }

    pub(crate) fn open(&self) -> Result<Box<dyn Source>, Error> {
        let settings = HttpSettings {
            allowed_private_hosts: AllowedHosts::parse(&self.allowed).expect("entries"),
            request_timeout: Duration::from_secs(1),
            retry_base: Duration::from_millis(5),
            attempts: 2,
            ..HttpSettings::default()
        };
        let fields = self.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        registry::open(Opening {
            tenant: "acme".parse().expect("id"),
            connector: "hubspot".parse().expect("id"),
            config: self.config.clone(),
            account_id: None,
            envelope: Envelope {
                tenant_id: "acme".parse().expect("id"),
                connector_id: "hubspot".parse().expect("id"),
                allowed_hosts: vec![self.host.clone()],
                key_id: String::new(),
                fields: SecretFields(fields),
            },
            credential_revision: 1,
            tokens: self.tokens.clone(),
            budget: Arc::new(Unlimited),
            http: HttpClient::new(settings).expect("settings"),
            opener: self.opener.clone(),
            pseudonym_key: PseudonymKey::of("installation", &"acme".parse().expect("id")),
        })
    }

    pub(crate) fn source(&self) -> Box<dyn Source> {
        self.open().expect("a complete Connector")
    }
}

/// Drives the conformance suite over contacts.
pub(crate) struct SimulatorDriver {
    good: Account,
    unknown: Account,
    state: StateHandle,
}

impl SimulatorDriver {
    pub(crate) fn new(simulator: &Simulator) -> Self {
        let unknown = Account::of(simulator).token("pat-nobody");
        Self { good: Account::of(simulator), unknown, state: simulator.state() }
    }
}

#[async_trait]
impl Driver for SimulatorDriver {
    fn source(&self) -> Box<dyn Source> {
        self.good.source()
    }

    fn source_with_unknown_credential(&self) -> Box<dyn Source> {
        self.unknown.source()
    }

    fn stream(&self) -> &'static str {
        "contacts"
    }

    fn other_stream(&self) -> &'static str {
        "companies"
    }

    fn unknown_id(&self) -> String {
        "987654321987".to_owned()
    }

    async fn break_with(&self, fault: Fault, times: Times) {
        let effect = match fault {
            Fault::RateLimited(retry_after_seconds) => {
                Effect::RateLimited { policy: "TEN_SECONDLY_ROLLING".to_owned(), retry_after_seconds }
            }
            Fault::ServerError => Effect::Status { status: 503 },
            Fault::Hang => Effect::Hang,
            Fault::NotTheFormat => Effect::Html,
            Fault::CutOff => Effect::TruncatedBody,
            Fault::MalformedRecord => Effect::MalformedRecord { defect: Defect::MissingId },
            Fault::NulCharacter => Effect::MalformedRecord { defect: Defect::NulCharacter },
            Fault::DuplicatePage => Effect::DuplicatePage,
            Fault::EndlessCursor => Effect::EndlessCursor,
            Fault::MissingScope => Effect::MissingScope { object: Kind::Contacts },
        };
        let path = "/crm/objects/2026-03/contacts";
        self.state.add_fault(match times {
            Times::Once => hubspot::Fault::new(path, 1, effect),
            Times::Always => hubspot::Fault::always(path, effect),
        });
    }

    async fn heal(&self) {
        self.state.clear_faults();
    }
}
