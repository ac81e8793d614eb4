//! The benchmark's PostgreSQL: Debian's defaults, durable, and what every contender needs of it between two measurements.

use std::net::IpAddr;

use anyhow::Context as _;
use tokio_postgres::Client;

use crate::{
    machine::Machine,
    postgres::{self, Postgres},
    run::Run,
};

/// What a default installation has, named so that nobody has to look them up; all other settings are defaults, too.
const SETTINGS: [&str; 5] =
    ["fsync=on", "synchronous_commit=on", "full_page_writes=on", "shared_buffers=128MB", "max_wal_size=1GB"];

/// One server with one database for all contenders.
pub(super) struct Database {
    server: Postgres,
    /// With the superuser's name and password.
    pub(super) url: String,
    /// As the server tells it.
    pub(super) version: String,
}

impl Database {
    /// Starts a fresh server.
    pub(super) async fn start(machine: &Machine, run: &Run, address: IpAddr) -> anyhow::Result<Self> {
        let server = Postgres::start_with(machine, run, address, &SETTINGS).await?;
        let url = server.create_database("bench").await?;
        let version = postgres::connect(&url).await?.query_one("SHOW server_version", &[]).await?.get(0);
        Ok(Self { server, url, version })
    }

    /// The server's process.
    pub(super) fn id(&self) -> u32 {
        self.server.id()
    }

    /// What all contenders have in common, for the report.
    pub(super) fn settings() -> String {
        SETTINGS.join(", ")
    }

    /// A connection.
    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        postgres::connect(&self.url).await
    }

    /// Removes what a contender left and writes out what is dirty, so that nobody pays for somebody else's pages.
    pub(super) async fn clean(&self, statement: &str) -> anyhow::Result<()> {
        let client = self.connect().await?;
        client.batch_execute(statement).await.context("could not empty the tables")?;
        client.batch_execute("CHECKPOINT").await.context("could not write out dirty pages")
    }

    /// The one number that a query gives.
    pub(super) async fn number(&self, query: &str) -> anyhow::Result<u64> {
        let number: i64 = self.connect().await?.query_one(query, &[]).await.context("could not count rows")?.get(0);
        Ok(u64::try_from(number)?)
    }
}
