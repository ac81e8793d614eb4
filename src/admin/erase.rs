//! `gtm-sync erase`: one person, everywhere in the store.

use std::io::Write;

use anyhow::ensure;
use clap::Args;

use super::{Common, Format, confirm, entity, open, print_json, remark, table};
use crate::{
    ids::{ConnectorId, TenantId},
    model::entity::Entity,
    store::Person,
};

/// What it takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The tenant's id.
    #[arg(long)]
    tenant: TenantId,
    /// Everybody with this e-mail address: contacts, leads and owners of all connectors of the tenant.
    #[arg(long, required_unless_present = "record", conflicts_with_all = ["connector", "entity", "record"])]
    email: Option<String>,
    /// The Connector by which one record came.
    #[arg(long, requires = "record")]
    connector: Option<ConnectorId>,
    /// Its entity: contact, lead or owner.
    #[arg(long, value_parser = person, requires = "record")]
    entity: Option<Entity>,
    /// Its id at the source.
    #[arg(long, requires = "connector", requires = "entity")]
    record: Option<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

fn person(name: &str) -> Result<Entity, String> {
    match entity(name) {
        Ok(found @ (Entity::Contact | Entity::Lead | Entity::Owner)) => Ok(found),
        _ => Err("one of contact, lead, owner: other entities are no persons".to_owned()),
    }
}

impl Arguments {
    /// Runs it.
    pub(super) async fn run(self, output: &mut dyn Write) -> anyhow::Result<()> {
        let person = match (self.email, self.connector, self.entity, self.record) {
            (Some(address), ..) => {
                // A blank or a part of an address would match what nobody meant.
                ensure!(
                    address.contains('@') && !address.contains(char::is_whitespace),
                    "--email takes a whole address"
                );
                Person::Email(address)
            }
            (None, Some(connector_id), Some(entity), Some(source_id)) => {
                Person::Record { connector_id, entity, source_id }
            }
            _ => anyhow::bail!("say whom: --email, or --connector, --entity and --record"),
        };
        let store = open(&self.common.store).await?;
        ensure!(
            store.tenant_claim(&self.tenant).await?.is_some(),
            "the store knows no tenant {}: `kubectl get tenantschedules -A` lists what there is",
            self.tenant
        );
        if !self.yes {
            ask(&self.tenant, &person)?;
        }
        let erased = store.erase(&self.tenant, &person).await?;
        match self.common.output {
            Format::Json => print_json(output, &serde_json::to_value(erased)?)?,
            Format::Table => {
                let rows = [
                    ("contacts, leads and owners", erased.records),
                    ("activities, their texts", erased.activities),
                    ("dead letters", erased.dead_letters),
                    ("staged batches", erased.staged_batches),
                ];
                let rows: Vec<_> =
                    rows.iter().map(|(what, count)| vec![(*what).to_owned(), count.to_string()]).collect();
                table::print(output, &["ERASED", "COUNT"], &rows)?;
            }
        }
        remark(
            "a record that the CRM still has comes back with its next change or the next full sync: delete it there, then erase again",
        );
        remark("backups of the database, and whatever copied the canonical views, still have it");
        Ok(())
    }
}

/// Says what is about to be done, and asks.
fn ask(tenant: &TenantId, person: &Person) -> anyhow::Result<()> {
    let whom = match person {
        Person::Email(address) => format!("everybody with the address {}", table::harmless(address)),
        Person::Record { connector_id, entity, source_id } => {
            format!("{} {} of connector {connector_id}", entity.table(), table::harmless(source_id))
        }
    };
    remark(&format!(
        "erases {whom} from tenant {tenant}: rows and tombstones, texts of linked activities, dead letters;"
    ));
    remark(
        "staged batches of the tenant are dropped, too: a sync at work reads those pages again. It cannot be undone.",
    );
    confirm(tenant, "nothing was erased")
}
