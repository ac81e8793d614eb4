//! `cargo xtask`: everything a developer does beside editing. This file reads the command line and, on Ctrl-C, drops
//! what runs, which cleans up; the work is in the modules.

mod backends;
mod bench;
mod certs;
mod cluster;
mod console;
mod control_plane;
mod debian;
mod demo;
mod faults;
mod forward;
mod generate;
mod histories;
mod image;
mod kernel;
mod machine;
mod namespaces;
mod network;
mod node;
mod postgres;
mod process;
mod python;
mod random;
mod run;
mod services;
mod temporal;
mod test;
mod test_binaries;
mod test_report;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::machine::Machine;

/// What a shell reports for a program that Ctrl-C ended (128 + SIGINT).
const INTERRUPTED: u8 = 130;

/// Tests, demo, tools and generated files of gtm-sync.
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Install missing Debian packages without asking.
    #[arg(long, short, global = true)]
    yes: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Show the product at work: cluster, chart, two tenants, three connectors; stays up until Ctrl-C.
    ///
    /// As root on Linux with real pods; otherwise, or with --processes, operator and worker are processes of this
    /// machine on SQLite. While it is up, `. target/demo/env` makes kubectl, temporal and psql work.
    Demo(demo::Options),
    /// Find or build kube-apiserver, kubelet, etcd, temporal, helm and the rest, and list where they are.
    Tools,
    /// Start kube-apiserver, Temporal and PostgreSQL for `cargo test`, until Ctrl-C; see target/services/env.
    Services {
        /// With a node that runs pods; needs root on Linux.
        #[arg(long)]
        pods: bool,
    },
    /// Rewrite CRDs, the chart's copies, docs/crd-reference.md and deploy/base.
    Generate {
        /// Write nothing; fail when a file is stale.
        #[arg(long)]
        check: bool,
    },
    /// Build the product and write its container image as an archive, without a container engine.
    Image,
    /// Kill worker, Temporal and PostgreSQL at random moments, hundreds of times, and compare the rows with undisturbed ones.
    Faults(faults::Options),
    /// Record the workflow histories that every release must replay (tests/histories) anew.
    Histories,
    /// Measure the product against its peers; writes docs/benchmarks.md when asked to.
    #[command(subcommand)]
    Bench(bench::Command),
    /// Run every layer of tests with the services it needs; prints times and counts.
    Test(test::Options),
}

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().expect("nothing installed a provider before");
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime needs only threads");
    // The command runs on the main thread: children are bound to the life of the thread that starts them.
    let ended = runtime.block_on(async {
        tokio::select! {
            result = dispatch(arguments) => Some(result),
            () = interrupted() => None,
        }
    });
    match ended {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
        None => {
            console::line("\ncleaned up");
            ExitCode::from(INTERRUPTED)
        }
    }
}

async fn dispatch(arguments: Arguments) -> anyhow::Result<()> {
    let machine = Machine::look();
    match arguments.command {
        Command::Demo(options) => demo::run(&machine, arguments.yes, &options).await,
        Command::Tools => tools::list(&machine).await,
        Command::Services { pods } => services::keep_up(&machine, arguments.yes, pods).await,
        Command::Generate { check } => generate::run(&machine, check).await,
        Command::Image => image::command(&machine).await,
        Command::Faults(options) => faults::run(&machine, arguments.yes, &options).await,
        Command::Histories => histories::run(&machine, arguments.yes).await,
        Command::Bench(command) => bench::run(&machine, arguments.yes, &command).await,
        Command::Test(options) => test::run(&machine, arguments.yes, &options).await,
    }
}

/// Ends when a signal asks us to stop.
async fn interrupted() {
    let listen = |kind| signal(kind).expect("a handler for a catchable signal can be installed");
    let (mut interrupt, mut terminate, mut hang_up) =
        (listen(SignalKind::interrupt()), listen(SignalKind::terminate()), listen(SignalKind::hangup()));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
}
