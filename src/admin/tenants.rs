//! `gtm-sync tenants`: who holds a tenant, and giving up what nobody else can give up.

use std::io::Write;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Common, Format, confirm, open, print_json, remark, table};
use crate::{
    ids::TenantId,
    store::{Owner, Store, TenantClaim},
};

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show which TenantSchedule of which cluster holds a tenant.
    Show {
        #[command(flatten)]
        of: Of,
    },
    /// Give a tenant up, so that a TenantSchedule of another namespace or cluster can hold it.
    /// For one whose TenantSchedule was deleted, or whose cluster is gone for good.
    Release {
        /// The namespace that holds it, as `show` tells: a slip of the tenant's id releases nobody else's.
        #[arg(long)]
        namespace: String,
        /// Although its TenantSchedule was not deleted: its cluster or namespace is gone. An operator that still watches it takes
        /// the tenant again.
        #[arg(long)]
        even_if_held: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        of: Of,
    },
}

/// One tenant.
#[derive(Debug, Args)]
pub struct Of {
    /// The tenant's id.
    #[arg(long)]
    tenant: TenantId,
    #[command(flatten)]
    common: Common,
}

impl Command {
    /// Runs it.
    pub(super) async fn run(self, output: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Show { of } => {
                let store = open(&of.common.store).await?;
                print(&claim(store.as_ref(), &of.tenant).await?, &of, output)
            }
            Self::Release { namespace, even_if_held, yes, of } => {
                let store = open(&of.common.store).await?;
                let held = claim(store.as_ref(), &of.tenant).await?;
                let owner = held.owner;
                ensure!(owner != Owner::nobody(), "nobody holds tenant {}: it is free already", of.tenant);
                ensure!(
                    owner.namespace == namespace,
                    "tenant {} is held from namespace {}, not {namespace}",
                    of.tenant,
                    owner.namespace
                );
                ensure!(
                    held.removed || even_if_held,
                    "TenantSchedule {}/{} holds tenant {} still: delete it; if its cluster or namespace is gone for good, say --even-if-held",
                    owner.namespace,
                    owner.name,
                    of.tenant
                );
                if !yes {
                    remark(&format!(
                        "whoever asks next holds tenant {} with all its rows: its records, cursors and dead letters;",
                        of.tenant
                    ));
                    remark("its Connectors count as deleted until they are applied there.");
                    confirm(&of.tenant, "nothing was released")?;
                }
                ensure!(
                    store.release_tenant(&of.tenant, &owner).await?,
                    "somebody else has taken tenant {} meanwhile: look again",
                    of.tenant
                );
                remark(
                    "released; a schedule of the former holder in Temporal is taken over with conflictPolicy: Adopt",
                );
                print(&claim(store.as_ref(), &of.tenant).await?, &of, output)
            }
        }
    }
}

async fn claim(store: &dyn Store, tenant: &TenantId) -> anyhow::Result<TenantClaim> {
    let found = store.tenant_claim(tenant).await?;
    found.with_context(|| {
        format!("the store knows no tenant {tenant}: `kubectl get tenantschedules -A` lists what there is")
    })
}

fn print(claim: &TenantClaim, of: &Of, output: &mut dyn Write) -> anyhow::Result<()> {
    let Owner { cluster_id, namespace, name } = &claim.owner;
    let state = match (claim.owner == Owner::nobody(), claim.removed) {
        (true, _) => "Free",
        (false, true) => "Deleted",
        (false, false) => "Held",
    };
    match of.common.output {
        Format::Json => print_json(
            output,
            &json!({"tenant": of.tenant, "state": state, "clusterId": cluster_id, "namespace": namespace, "name": name}),
        ),
        Format::Table => {
            let row = [of.tenant.as_str(), state, cluster_id, namespace, name].map(str::to_owned);
            let head = ["TENANT", "STATE", "CLUSTER", "NAMESPACE", "TENANTSCHEDULE"];
            Ok(table::print(output, &head, &[row.to_vec()])?)
        }
    }
}
