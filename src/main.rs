//! `gtm-sync`: operator, worker, and the small commands around them. Parses arguments and hands over; holds no logic.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use gtm_sync::{
    credentials::seal::generate_identity,
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
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    telemetry::start(&arguments.log)?;
    rustls::crypto::ring::default_provider().install_default().ok();
    match arguments.command {
        Command::Operator(settings) => operator::run(*settings, stop_signal()?).await,
        Command::Worker(settings) => worker::run(*settings, stop_signal()?).await,
        Command::Migrate(settings) => Ok(store::open(&settings.database_url).await?.migrate().await?),
        Command::Crds { directory, check } => gtm_sync::crd::generate::run(&directory, check),
        Command::Keygen => {
            print_identity();
            Ok(())
        }
    }
}

#[expect(clippy::print_stdout, reason = "the command's output")]
fn print_identity() {
    let (identity, recipient) = generate_identity();
    println!("# public key: {recipient}\n{identity}");
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
