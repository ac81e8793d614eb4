//! `cargo xtask demo`: from a clean clone to synced rows, as a user would get there: cluster, chart, custom resources.
//! Three stages lead to the same play: `pods` (a node of our own), `local` (operator and worker as processes) and
//! `own_cluster` (the cluster the user names).

mod accounts;
mod kubernetes;
mod local;
mod objects;
mod own_cluster;
mod pods;
mod progress;
mod rows;
mod tour;

use std::{
    fs::{self, File},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use tokio::time::Instant;

use self::{accounts::Accounts, kubernetes::Kubernetes, objects::ACCOUNTS, progress::Watcher};
use crate::{console, control_plane, machine::Machine, run::Run, services::EnvironmentFile, tools::Toolbox};

/// Enough for a loaded machine; on an idle one the whole demo takes less than a minute.
const CONNECTED: Duration = Duration::from_secs(180);
const SYNCED: Duration = Duration::from_secs(900);

/// Options of `cargo xtask demo`.
#[derive(Args)]
pub(crate) struct Options {
    /// End after the first syncs, with 0 when all went well.
    #[arg(long)]
    exit: bool,
    /// CRM objects in each simulated account.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    records: u32,
    /// Run operator and worker as processes on SQLite, as it is done without root.
    #[arg(long, conflicts_with = "context")]
    processes: bool,
    /// Use this context of your kubeconfig instead of a cluster of our own. Your cluster gets namespaces gtm-sync,
    /// tenant-acme and tenant-globex, which are removed again at the end.
    #[arg(long)]
    context: Option<String>,
    /// With --context: an image your cluster can pull. Not needed for kind and k3d, which get the one built here.
    #[arg(long, requires = "context")]
    image: Option<String>,
    /// With --context: the address under which pods of your cluster reach this machine.
    #[arg(long, requires = "context")]
    host_address: Option<IpAddr>,
}

/// Where the play takes place: what every stage has.
struct Stage {
    kubernetes: Kubernetes,
    /// Temporal's frontend.
    temporal: String,
    web_ui: Option<String>,
    /// URL of the store.
    database_url: String,
    /// Address on which the accounts are served.
    host: IpAddr,
    /// What the user should know about this stage.
    remark: &'static str,
}

/// Runs the demo until Ctrl-C, or with `--exit` until the first syncs have ended.
///
/// # Errors
/// When a step fails; the message names the logs.
pub(crate) async fn run(machine: &Machine, yes: bool, options: &Options) -> anyhow::Result<()> {
    let (directory, _lock) = own_directory(machine)?;
    let demo = Demo { machine, options, yes, directory, start: Instant::now() };
    // What a killed demo left would be taken for this one's.
    let _absent = fs::remove_file(demo.directory.join("env"));
    match &options.context {
        Some(context) => own_cluster::play(&demo, context).await,
        None if machine.root && !options.processes => pods::play(&demo).await,
        None => local::play(&demo).await,
    }
}

/// `target/demo`, or while another demo of this checkout is up, `target/demo-2` and so on.
fn own_directory(machine: &Machine) -> anyhow::Result<(PathBuf, File)> {
    let mut directory = machine.target.join("demo");
    let mut number = 1;
    loop {
        fs::create_dir_all(&directory)?;
        let lock = File::create(directory.join(".lock"))?;
        if lock.try_lock().is_ok() {
            return Ok((directory, lock));
        }
        number += 1;
        directory = machine.target.join(format!("demo-{number}"));
    }
}

/// One demo, whatever its stage.
struct Demo<'a> {
    machine: &'a Machine,
    options: &'a Options,
    yes: bool,
    /// What the user may look at.
    directory: PathBuf,
    start: Instant,
}

impl Demo<'_> {
    /// The accounts that the connectors will read.
    async fn accounts(&self, run: &Run, host: IpAddr) -> anyhow::Result<Accounts> {
        let step = console::step("starting three simulated HubSpot accounts");
        let accounts = Accounts::start(self.machine, run, host, self.options.records).await?;
        step.done(format_args!("{} objects each", self.options.records));
        Ok(accounts)
    }

    /// Declares the tenants, shows their first syncs, and leaves the stage to the user.
    async fn play(&self, run: &Run, tools: &Toolbox, stage: &Stage, accounts: &Accounts) -> anyhow::Result<()> {
        self.declare(stage, accounts).await?;
        let watcher = Watcher::new(control_plane::client(&stage.kubernetes.kubeconfig).await?);
        let step = console::step("waiting for schedules in Temporal and a worker signed in to each account");
        watcher.connected(CONNECTED).await?;
        step.done("");
        self.sync_now(stage).await?;
        let first = watcher.first_syncs(u64::from(self.options.records), SYNCED).await?;
        let (first, all) = (first.duration_since(self.start), self.start.elapsed());
        console::line(format_args!(
            "first rows after {}, all after {}",
            console::seconds(first),
            console::seconds(all)
        ));
        let file = tour::environment(self, run, tools, stage, accounts)?;
        tour::show(stage, &file).await?;
        self.stay(run, file).await
    }

    async fn declare(&self, stage: &Stage, accounts: &Accounts) -> anyhow::Result<()> {
        let step = console::step("applying two tenants with three connectors");
        let mut files = Vec::new();
        for (tenant, schedule) in objects::TENANTS {
            let yaml = objects::tenant(tenant, schedule, |it| accounts.url(it), |it| accounts.token(it));
            stage.kubernetes.apply(&yaml).await?;
            let file = self.directory.join(format!("{tenant}.yaml"));
            crate::certs::write_private(&file, &yaml)?;
            files.push(file.display().to_string());
        }
        step.done(files.join(", "));
        Ok(())
    }

    /// Asks for the first syncs at once instead of waiting for the schedules, in the way every user can.
    async fn sync_now(&self, stage: &Stage) -> anyhow::Result<()> {
        console::line("asked for a sync of each connector (annotation sync.gtmclarity.io/requested-at):");
        for account in &ACCOUNTS {
            let annotation = "sync.gtmclarity.io/requested-at=demo";
            let (namespace, name) = (account.namespace(), account.connector);
            stage.kubernetes.kubectl(&["--namespace", &namespace, "annotate", "connector", name, annotation]).await?;
        }
        Ok(())
    }

    async fn stay(&self, run: &Run, file: EnvironmentFile) -> anyhow::Result<()> {
        if self.options.exit {
            drop(file);
            return Ok(());
        }
        console::line(format_args!("\nlogs: {}\nCtrl-C ends the demo and removes all of it", run.logs.display()));
        std::future::pending().await
    }
}
