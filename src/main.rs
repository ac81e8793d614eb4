//! `gtm-sync`: operator, worker, and the small commands around them. Parses arguments and hands over; holds no logic.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use gtm_sync::{
    admin, crd,
    credentials::{Envelope, Sealer, seal::generate_identity},
    ids::{ConnectorId, TenantId},
    key_files::KeyFiles,
    model::config::SecretFields,
    operator,
    settings::{LogSettings, OperatorSettings, StoreSettings, WorkerSettings},
    store, telemetry, worker,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Keeps many tenants' CRM data in sync: declared in YAML, run by Temporal, on Kubernetes.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    log: LogSettings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reconcile Connector and TenantSchedule resources into Temporal schedules, the store and worker Deployments.
    Operator(Box<OperatorSettings>),
    /// Run sync workflows and their activities from the queue `connector-sync`.
    Worker(Box<WorkerSettings>),
    /// Bring the store's schema to this build's version, then exit.
    Migrate(StoreSettings),
    #[command(flatten)]
    OnCall(admin::Command),
    /// Write CRDs, the chart's copies and docs/crd-reference.md (called by `cargo xtask generate`).
    Crds {
        /// The repository's root.
        #[arg(long, default_value = ".")]
        directory: PathBuf,
        /// Write nothing; fail when a file is stale.
        #[arg(long)]
        check: bool,
    },
    /// Print a new age identity file for the workers; its recipient stands in the comment.
    Keygen,
    /// Seal a credential for `spec.credentials.sealed`: reads `field=value` lines from standard input, prints one line that is
    /// safe in Git. Only the workers can open it, and only for this tenant, connector and host.
    Seal {
        /// The workers' recipient (`age1…`): `kubectl get configmap gtm-sync-recipient -o jsonpath={.data.recipient}`.
        #[arg(long, env = "GTM_RECIPIENT")]
        recipient: String,
        /// The tenant's id.
        #[arg(long)]
        tenant: TenantId,
        /// The Connector's name.
        #[arg(long)]
        connector: ConnectorId,
        /// Host the credential may be sent to, `host` or `host:port`; that of the Connector's `baseUrl` where one is set.
        #[arg(long, default_value = "api.hubapi.com")]
        host: String,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    telemetry::start(&arguments.log)?;
    rustls::crypto::ring::default_provider().install_default().ok();
    match arguments.command {
        Command::Operator(settings) => operator::run(*settings, stop_signal()?).await,
        Command::Worker(settings) => worker::run(*settings, stop_signal()?).await,
        Command::Migrate(settings) => Ok(store::open_with(&settings, &KeyFiles::default()).await?.migrate().await?),
        Command::OnCall(command) => command.run(&mut std::io::stdout()).await,
        Command::Crds { directory, check } => generate(&directory, check),
        Command::Keygen => {
            let (identity, recipient) = generate_identity();
            print(&format!("# public key: {recipient}\n{identity}"));
            Ok(())
        }
        Command::Seal { recipient, tenant, connector, host } => {
            let fields = SecretFields::parse_lines(&std::io::read_to_string(std::io::stdin())?)?;
            let envelope = Envelope {
                tenant_id: tenant,
                connector_id: connector,
                allowed_hosts: vec![host],
                key_id: String::new(),
                fields,
            };
            print(&Sealer::new(&recipient)?.seal(envelope).to_text());
            Ok(())
        }
    }
}

#[expect(clippy::print_stdout, reason = "the command's output")]
fn print(output: &str) {
    println!("{output}");
}

fn generate(directory: &Path, check: bool) -> anyhow::Result<()> {
    if !check {
        for path in crd::generate::write(directory)? {
            print(&path.display().to_string());
        }
        return Ok(());
    }
    let stale = crd::generate::stale(directory);
    anyhow::ensure!(stale.is_empty(), "stale: {stale:?}; run `cargo xtask generate`");
    Ok(())
}

/// Becomes true at the first SIGTERM or SIGINT.
fn stop_signal() -> std::io::Result<watch::Receiver<bool>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
    });
    Ok(receiver)
}
