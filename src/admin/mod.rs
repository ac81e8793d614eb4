//! Commands for people on call: look at dead letters and runs, ask for a replay or a discard, erase a person, release a tenant.
//! They read the store and, but for `erase` and `tenants release`, write nothing: a wish is recorded with its effect by the operator (R8), so
//! `replay` and `discard` print the `kubectl` command that makes it. docs/operations.md is the manual.

mod dead_letters;
mod erase;
mod kubectl;
mod payload;
mod runs;
mod table;
mod tenants;

use std::{
    io::{BufRead as _, IsTerminal as _, Write},
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand, ValueEnum};

use crate::{
    ids::{ConnectorId, TenantId},
    key_files::KeyFiles,
    model::entity::Entity,
    settings::StoreSettings,
    store::{self, ConnectorRecord, SCHEMA_VERSIONS, Store},
};

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at records that could not be written, and ask for their replay or discard.
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Look at a connector's runs.
    #[command(subcommand)]
    Runs(runs::Command),
    /// Look at who holds a tenant, and give it up.
    #[command(subcommand)]
    Tenants(tenants::Command),
    /// Erase one person of a tenant: rows, texts of linked activities, dead letters, staged batches. Cannot be undone.
    Erase(erase::Arguments),
}

impl Command {
    /// Runs it; its result goes to `output`, what is said about it to stderr.
    ///
    /// # Errors
    /// Names the way out.
    pub async fn run(self, output: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::DeadLetters(command) => command.run(output).await,
            Self::Runs(command) => command.run(output).await,
            Self::Tenants(command) => command.run(output).await,
            Self::Erase(arguments) => arguments.run(output).await,
        }
    }
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns, for people.
    Table,
    /// One JSON document, for machines.
    Json,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Common {
    #[command(flatten)]
    store: StoreSettings,
    /// `table` for people, `json` for machines.
    #[arg(short, long, default_value = "table")]
    output: Format,
}

/// One connector.
#[derive(Debug, Args)]
pub struct Whose {
    /// The tenant's id.
    #[arg(long)]
    tenant: TenantId,
    /// The Connector's name.
    #[arg(long)]
    connector: ConnectorId,
}

/// Opens the store, as an operator or worker of this build has left it.
async fn open(settings: &StoreSettings) -> anyhow::Result<Arc<dyn Store>> {
    let opened = store::open_with(settings, &KeyFiles::default()).await;
    let store = opened.context("open the store named by --database-url (GTM_DATABASE_URL) or --database-url-file")?;
    let version = store.schema_version().await?;
    ensure!(version > 0, "the store is empty: check --database-url; the operator (or `gtm-sync migrate`) fills it");
    ensure!(
        SCHEMA_VERSIONS.contains(&version),
        "the store has schema {version}, this build knows {} to {}: use the gtm-sync of the operator's image, e.g. `kubectl -n gtm-sync exec deploy/gtm-sync-operator -- gtm-sync …`",
        SCHEMA_VERSIONS.start(),
        SCHEMA_VERSIONS.end()
    );
    Ok(store)
}

/// The connector; fails for one that the store does not know.
async fn known(store: &dyn Store, whose: &Whose) -> anyhow::Result<ConnectorRecord> {
    let found = store.connector(&whose.tenant, &whose.connector).await?;
    found.with_context(|| {
        format!(
            "the store knows no connector {} of tenant {}, or it is deleted: `kubectl get connectors -A` lists what there is",
            whose.connector, whose.tenant
        )
    })
}

/// An entity by the name of its table.
fn entity(name: &str) -> Result<Entity, String> {
    let found = Entity::ALL.into_iter().find(|entity| entity.table() == name);
    found.ok_or_else(|| format!("one of {}", Entity::ALL.map(Entity::table).join(", ")))
}

/// Something about the result that is not the result.
#[expect(clippy::print_stderr, reason = "the command's remarks, beside its output")]
fn remark(text: &str) {
    eprintln!("{text}");
}

/// Asks on a terminal; without one `--yes` must be said.
fn confirm(tenant: &TenantId, otherwise: &'static str) -> anyhow::Result<()> {
    ensure!(std::io::stdin().is_terminal(), "nobody to ask: say --yes where this is no terminal");
    remark("Type the tenant's id to go on:");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    ensure!(answer.trim() == tenant.as_str(), otherwise);
    Ok(())
}

fn print_json(output: &mut dyn Write, value: &serde_json::Value) -> anyhow::Result<()> {
    writeln!(output, "{value:#}")?;
    Ok(())
}
