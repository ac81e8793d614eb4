//! The small world of the conformance tests: one tenant, one HubSpot connector, contacts.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use gtm_sync::{
    contract::{
        activities::{Lease, StagedRef},
        workflows::ConnectionStatus,
    },
    credentials::Sealed,
    ids::{ConnectorId, TenantId},
    model::{
        batch::BatchWriter,
        config::{ConnectorConfig, DataPolicy, SourceConfig},
        cursor::{Cursor, Load},
        entity::Entity,
        record::{Cell, Rejected, Row},
        stream::Stream,
    },
    store::{
        Applied, BaseCredential, ConnectionFound, ConnectorAnswer, ConnectorProjection, ConnectorRecord,
        ConnectorStatusRow, DeadLetterRow, DesiredState, LeaseGranted, LeaseRequest, LetterSelection, NewStaged, Owner,
        Pool, RunEnd, RunOutcome, Store, TenantClaim, TenantProjection, Verb, Wish,
    },
};
use jiff::Timestamp;

/// The account of every test that does not change it.
pub(crate) const ACCOUNT: &str = "portal-1";

/// The stream of every test that does not need another.
pub(crate) const CONTACTS: Stream = Stream { name: "contacts", entity: Entity::Contact, id_prefix: "" };

/// A stream that shares its entity with another.
pub(crate) const CALLS: Stream = Stream { name: "calls", entity: Entity::Activity, id_prefix: "call:" };

/// Looks behind the trait, where a promise is about what is stored.
#[async_trait]
pub(crate) trait Probe: Send + Sync {
    /// Rows of a query whose columns are all text; the tables need no schema in front.
    async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>>;
    /// Changes rows behind the store's back.
    async fn execute(&self, sql: &str);
    /// The canonical view of a table.
    fn view(&self, table: &str) -> String;
    /// An expression that changes whenever a row is rewritten, if the database has one.
    fn rewritten(&self) -> &'static str;
    /// The column `payload` as hexadecimal digits.
    fn payload_hex(&self) -> &'static str;
    /// Throws the database away.
    async fn close(self: Box<Self>);
}

/// A fresh, migrated store.
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) probe: Box<dyn Probe>,
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp in a test")
}

pub(crate) fn tenant_id() -> TenantId {
    "acme".parse().expect("id")
}

pub(crate) fn connector_id() -> ConnectorId {
    "hubspot".parse().expect("id")
}

pub(crate) fn owner(namespace: &str, name: &str) -> Owner {
    Owner { cluster_id: "eu1".to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
}

pub(crate) fn tenant() -> TenantProjection {
    TenantProjection {
        tenant_id: tenant_id(),
        owner: owner("team-a", "acme"),
        uid: "tenant-uid-1".to_owned(),
        wait_seconds: Some(3_000),
        dedicated: false,
    }
}

/// The claim of `tenant`.
pub(crate) fn claim() -> TenantClaim {
    TenantClaim { owner: tenant().owner, pool: Pool::Shared, removed: false }
}

pub(crate) fn sealed(text: &str) -> Sealed {
    Sealed { key_id: "key-1".to_owned(), ciphertext: text.as_bytes().to_vec() }
}

pub(crate) fn credential(digest: &str) -> BaseCredential {
    BaseCredential { sealed: sealed(&format!("ciphertext of {digest}")), digest: digest.to_owned() }
}

pub(crate) fn connector() -> ConnectorProjection {
    ConnectorProjection {
        tenant_id: tenant_id(),
        connector_id: connector_id(),
        owner: owner("team-a", "hubspot"),
        uid: "uid-1".to_owned(),
        generation: 1,
        desired_state: DesiredState::Running,
        config: ConnectorConfig {
            source: SourceConfig::Hubspot { base_url: None },
            streams: vec![],
            batch_size: 100,
            requests_per_second: None,
            quota_reserve_percent: 10,
            max_rejected_percent: 20,
            max_swept_percent: 10,
            data_policy: DataPolicy::Retain,
        },
        credential: Some(credential("digest-1")),
        own_schedule: false,
        wishes: BTreeMap::new(),
    }
}

pub(crate) fn wishes(pairs: &[(Verb, &str)]) -> BTreeMap<Verb, Wish> {
    pairs.iter().map(|&(verb, token)| (verb, token.into())).collect()
}

pub(crate) fn found(status: ConnectionStatus, account: Option<&str>) -> ConnectionFound {
    ConnectionFound { status: Some(status), reason: String::new(), account_id: account.map(str::to_owned) }
}

/// A full load of one stream, at its start.
pub(crate) fn load() -> Load {
    Load::begin(&Cursor::default(), 0, true, &[CONTACTS], at("2026-11-22T12:00:00Z"))
}

/// An increment of that stream, at its start.
pub(crate) fn increment() -> Load {
    let cursor = Cursor { streams: [("contacts".to_owned(), at("2026-11-22T11:00:00Z"))].into() };
    Load::begin(&cursor, 1, false, &[CONTACTS], at("2026-11-22T12:00:00Z"))
}

/// The same load, read and swept.
pub(crate) fn load_at_end() -> Load {
    at_end(load())
}

/// A load whose every stream is read and, if it is a full one, swept.
pub(crate) fn at_end(mut load: Load) -> Load {
    while load.stream().is_some() {
        load.finish_stream();
    }
    load
}

/// A load somewhere in the middle.
pub(crate) fn load_at(token: i64) -> Load {
    Load { token: Some(token.into()), ..load() }
}

pub(crate) fn request(workflow_id: &str, expected: Option<&str>) -> LeaseRequest {
    LeaseRequest {
        tenant_id: tenant_id(),
        connector_id: connector_id(),
        uid: "uid-1".to_owned(),
        revision: 1,
        account_id: ACCOUNT.to_owned(),
        workflow_id: workflow_id.to_owned(),
        full_sync: true,
        expected_epoch: expected.map(str::to_owned),
        former_outcome: RunOutcome::Terminated,
        load: load(),
        restart_load: false,
        tenant_syncs: None,
    }
}

/// A contact; `updated` is the first half of its version.
pub(crate) fn contact<'a>(id: &'a str, updated: Option<&str>, email: &'a str) -> Row<'a> {
    let mut cells = vec![Cell::Null; Entity::Contact.columns().len()];
    cells[0] = Cell::Text(email.into());
    cells[Entity::Contact.column_index("opted_out").expect("a column")] = Cell::Boolean(true);
    cells[Entity::Contact.column_index("custom").expect("a column")] = Cell::Json(r#"{"tier":"a\\b\n\"c\""}"#.into());
    Row {
        entity: Entity::Contact,
        source_id: id.into(),
        source_created_at: Some(at("2020-01-01T00:00:00Z")),
        source_updated_at: updated.map(at),
        deleted_at: None,
        merged_into_source_id: None,
        cells,
    }
}

/// An activity that is linked to a contact.
pub(crate) fn activity<'a>(id: &'a str, contact_id: &str, body: &'a str) -> Row<'a> {
    let mut cells = vec![Cell::Null; Entity::Activity.columns().len()];
    let place = |name| Entity::Activity.column_index(name).expect("a column");
    cells[place("body")] = Cell::Text(body.into());
    cells[place("links")] = Cell::Json(format!(r#"[{{"entity":"contact","sourceId":"{contact_id}"}}]"#).into());
    Row { entity: Entity::Activity, cells, ..contact(id, Some("2026-01-01T00:00:00Z"), "") }
}

/// The same contact, deleted.
pub(crate) fn tombstone<'a>(id: &'a str, updated: Option<&str>, deleted: &str) -> Row<'a> {
    Row { deleted_at: Some(at(deleted)), cells: vec![], ..contact(id, updated, "") }
}

/// A contact whose time no store takes.
pub(crate) fn poison(id: &str) -> Row<'_> {
    let mut row = contact(id, Some("2026-01-01T00:00:00Z"), "poison");
    let place = Entity::Contact.column_index("last_activity_at").expect("a column");
    row.cells[place] = Cell::Timestamp(at("-000042-06-01T00:00:00Z"));
    row
}

pub(crate) fn rejected<'a>(id: &'a str, code: &'a str, field: Option<&'a str>) -> Rejected<'a> {
    Rejected {
        entity: Entity::Contact,
        source_id: Some(id.into()),
        code: code.into(),
        field: field.map(Into::into),
        payload: b"{\"as\":\"served\"}".as_slice().into(),
    }
}

pub(crate) fn batch(rows: &[Row<'_>], rejections: &[Rejected<'_>]) -> BatchWriter {
    let mut writer = BatchWriter::default();
    for row in rows {
        writer.push(row, b"{}");
    }
    for rejection in rejections {
        writer.reject(rejection);
    }
    writer
}

pub(crate) fn staged(seq: i64, next: Load, writer: BatchWriter) -> NewStaged {
    let record_count = writer.record_count();
    NewStaged { seq, next, entity_type: "contacts".to_owned(), payload: writer.finish(), record_count }
}

impl World {
    /// Projects tenant and connector, connected.
    pub(crate) async fn projected(&self) -> &Self {
        self.store.put_tenant(&tenant()).await.expect("tenant");
        let answer = self.store.put_connector(&connector()).await.expect("connector");
        self.connect(answer.credential_revision, Some(ACCOUNT)).await;
        self
    }

    pub(crate) async fn connect(&self, credential_revision: i64, account: Option<&str>) {
        let found = found(ConnectionStatus::Connected, account);
        self.store
            .set_connection(&tenant_id(), &connector_id(), credential_revision, &found)
            .await
            .expect("connection");
    }

    /// Takes a free lease.
    pub(crate) async fn lease(&self, workflow_id: &str) -> LeaseGranted {
        self.begin(workflow_id, load()).await
    }

    pub(crate) async fn stage(&self, lease: &Lease, seq: i64, next: Load, writer: BatchWriter) -> StagedRef {
        let staged_id = self.store.stage(lease, &staged(seq, next, writer)).await.expect("stages");
        StagedRef { staged_id, seq }
    }

    /// Stages and applies one batch in the middle of the load.
    pub(crate) async fn write(&self, lease: &Lease, seq: i64, rows: &[Row<'_>]) -> Applied {
        let reference = self.stage(lease, seq, load_at(seq + 1), batch(rows, &[])).await;
        self.store.apply(lease, &[reference]).await.expect("applies")
    }

    /// A whole run: takes the free lease, commits one batch as the load's last, and ends complete.
    pub(crate) async fn run(&self, workflow_id: &str, load: Load, writer: BatchWriter) -> Applied {
        let granted = self.begin(workflow_id, load).await;
        let lease = granted.lease;
        let end = at_end(self.store.sync_state(&lease).await.expect("reads").load);
        let applied = self.commit(&lease, granted.next_seq, end, writer).await;
        self.store.finish_run(&lease, &RunEnd::Complete, Default::default()).await.expect("finishes");
        applied
    }

    /// Takes the free lease for this load, of the connector as it is now.
    pub(crate) async fn begin(&self, workflow_id: &str, load: Load) -> LeaseGranted {
        let read = self.store.connector(&tenant_id(), &connector_id()).await.expect("reads").expect("is there");
        let wish = LeaseRequest { revision: read.revision, full_sync: load.full, load, ..request(workflow_id, None) };
        self.store.take_lease(&wish).await.expect("a free lease")
    }

    /// Stages and applies one batch.
    pub(crate) async fn commit(&self, lease: &Lease, seq: i64, next: Load, writer: BatchWriter) -> Applied {
        let reference = self.stage(lease, seq, next, writer).await;
        self.store.apply(lease, &[reference]).await.expect("applies")
    }

    /// What stands in the connector's spec from now on, under its token.
    pub(crate) async fn wish(&self, verb: Verb, wish: Wish) -> ConnectorAnswer {
        let wishing = ConnectorProjection { wishes: [(verb, wish)].into(), ..connector() };
        self.store.put_connector(&wishing).await.expect("projects")
    }

    /// The connector as a worker reads it.
    pub(crate) async fn record(&self) -> ConnectorRecord {
        self.store.connector(&tenant_id(), &connector_id()).await.expect("reads").expect("known")
    }

    /// The connector as the operator reads it.
    pub(crate) async fn status(&self) -> ConnectorStatusRow {
        let mut rows = self.store.connector_statuses(None).await.expect("reads").rows;
        rows.retain(|row| row.tenant_id == tenant_id());
        rows.remove(0)
    }

    /// The connector's dead letters, after a look at every place that counts them.
    pub(crate) async fn letters(&self) -> Vec<DeadLetterRow> {
        let (tenant, connector) = (tenant_id(), connector_id());
        let all = LetterSelection::default();
        let listed = self.store.dead_letters(&tenant, &connector, &all, None, 1_000).await.expect("lists");
        let counted = i64::try_from(listed.len()).expect("few");
        assert_eq!(self.status().await.dead_letters, counted, "the count in status");
        const STORED: &str = "SELECT CAST(sum(dead_letters) AS TEXT) FROM sync_state WHERE tenant_id = 'acme'";
        assert_eq!(self.text(STORED).await, Some(counted.to_string()), "the count in the state row");
        listed
    }

    /// The records of the connector's dead letters.
    pub(crate) async fn letter_ids(&self) -> Vec<String> {
        let letters = self.letters().await;
        letters.iter().map(|letter| letter.source_id.clone().unwrap_or_default()).collect()
    }

    /// One text of one row.
    pub(crate) async fn text(&self, sql: &str) -> Option<String> {
        let mut rows = self.probe.rows(sql).await;
        assert_eq!(rows.len(), 1, "{sql}");
        rows.remove(0).remove(0)
    }

    /// A column of a contact.
    pub(crate) async fn contact(&self, id: &str, column: &str) -> Option<String> {
        self.text(&format!("SELECT CAST({column} AS TEXT) FROM contact WHERE source_id = '{id}'")).await
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        let text = self.text(&format!("SELECT CAST(count(*) AS TEXT) FROM {table}")).await;
        text.expect("a count").parse().expect("a number")
    }
}
