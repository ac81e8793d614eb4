//! The operators that are measured, each as one process: the product's release build on PostgreSQL, and the peer in two settings.
//! Starts and stops them and reads their own counters; what happens meanwhile is measured elsewhere.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::Signal;

use super::{
    Bench,
    exposition::{self, Counts},
    stage::Stage,
};
use crate::{
    bench::{database::Database, usage},
    process::{self, Farewell, Service},
};

/// For a process that gives its Lease back and ends.
const FAREWELL: Farewell = Farewell::Ask(Signal::TERM, Duration::from_secs(15));
/// Reconciles at once of each kind: the product's own number, given to the tuned peer and to the writers of the floor, too.
pub(super) const CONCURRENCY: usize = 16;

/// One of the operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contender {
    /// gtm-sync.
    Product,
    /// The operator on controller-runtime.
    Peer {
        /// Not as scaffolded.
        tuned: bool,
    },
}

impl Contender {
    /// In tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Product => "gtm-sync",
            Self::Peer { tuned: false } => "controller-runtime, default",
            Self::Peer { tuned: true } => "controller-runtime, tuned",
        }
    }

    fn log(self) -> &'static str {
        match self {
            Self::Product => "operator",
            Self::Peer { tuned: false } => "peer-default",
            Self::Peer { tuned: true } => "peer-tuned",
        }
    }
}

/// What an operator needs beside the stage.
pub(super) struct Operators {
    contender: Contender,
    /// The product's store.
    pub(super) database: Option<Database>,
    recipient: String,
}

/// A running operator; dropping it ends it well.
pub(super) struct Running {
    contender: Contender,
    service: Service,
    metrics: SocketAddr,
}

impl Operators {
    /// Prepares what outlives a restart.
    pub(super) async fn new(bench: &Bench<'_>, contender: Contender) -> anyhow::Result<Self> {
        if contender != Contender::Product {
            return Ok(Self { contender, database: None, recipient: String::new() });
        }
        let database = Database::start(bench.machine, bench.run, Ipv4Addr::LOCALHOST.into()).await?;
        let mut keygen = process::command(&bench.product);
        keygen.arg("keygen");
        let identity = process::capture(keygen).await?;
        let recipient = identity.lines().find_map(|it| it.strip_prefix("# public key: "));
        let recipient = recipient.context("keygen told no key")?.to_owned();
        Ok(Self { contender, database: Some(database), recipient })
    }

    /// Starts the operator.
    pub(super) fn start(&self, bench: &Bench<'_>, stage: &Stage) -> anyhow::Result<Running> {
        let host = Ipv4Addr::LOCALHOST.into();
        let metrics = SocketAddr::new(host, process::free_port(host)?);
        let command = match (self.contender, &self.database) {
            (Contender::Peer { tuned }, _) => peer(bench, stage, tuned, metrics),
            (Contender::Product, database) => {
                let url = database.as_ref().map_or("", |it| it.url.as_str());
                let mut command = process::command(&bench.product);
                command.arg("operator").env("KUBECONFIG", &stage.control_plane.kubeconfig);
                command.env("TEMPORAL_ADDRESS", &stage.temporal.address).env("GTM_DATABASE_URL", url);
                command.env("GTM_NAMESPACE", "gtm-sync").env("GTM_RECIPIENT", &self.recipient);
                command.env("GTM_HEALTH_ADDRESS", metrics.to_string());
                command
            }
        };
        let service = Service::start(self.contender.log(), command, &bench.run.logs)?.with_farewell(FAREWELL);
        Ok(Running { contender: self.contender, service, metrics })
    }
}

fn peer(bench: &Bench<'_>, stage: &Stage, tuned: bool, metrics: SocketAddr) -> Command {
    let mut command = bench.driver("operate", &stage.control_plane);
    command.args(["--temporal", &stage.temporal.address, "--metrics", &metrics.to_string()]);
    if tuned {
        command.arg("--tuned");
    }
    command
}

impl Running {
    /// Reconciles that ended well, of TenantSchedules and of Connectors.
    pub(super) async fn reconciles(&mut self) -> anyhow::Result<[f64; 2]> {
        self.service.check()?;
        let text = exposition::fetch(self.metrics).await?;
        let (name, label, kinds, well) = match self.contender {
            Contender::Product => ("gtm_sync_reconciles_total", "kind", ["TenantSchedule", "Connector"], "Success"),
            Contender::Peer { .. } => {
                ("controller_runtime_reconcile_total", "controller", ["tenantschedule", "connector"], "success")
            }
        };
        let counts = Counts::read(&text, name, &[label, "result"]);
        Ok(kinds.map(|kind| counts.sum(|of| of == [kind, well])))
    }

    /// The product's status writes by whose part of the status they wrote: what a reconcile applied, and what was observed of
    /// connections and runs. The API server cannot tell them apart.
    pub(super) async fn status_writes(&self) -> anyhow::Result<[f64; 2]> {
        let text = exposition::fetch(self.metrics).await?;
        let counts = Counts::read(&text, "gtm_sync_status_writes_total", &["manager"]);
        let observed = counts.sum(|of| of[0].ends_with("observation"));
        Ok([counts.sum(|_| true) - observed, observed])
    }

    /// CPU-seconds so far.
    pub(super) fn cpu(&self) -> f64 {
        usage::of_process(self.service.id()).as_secs_f64()
    }

    /// Resident memory now and at its peak, in MiB.
    pub(super) fn memory(&self) -> [f64; 2] {
        let id = self.service.id();
        [usage::resident_kib(id), usage::peak_kib(id)].map(crate::bench::figures::mib)
    }

    /// Fails when it has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.service.check()
    }
}
