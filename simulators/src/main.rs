//! `gtm-simulators`: a simulated vendor as a process, and the checker as a command, for the demo and for scripts.

use std::{io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use simulators::{
    checker::{Report, Source, Target, check},
    hubspot::{Limits, OauthOptions, Options, Simulator},
};

/// Simulated vendors' clouds, and the checker that compares them with the store.
#[derive(Debug, Parser)]
#[command(name = "gtm-simulators", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a seeded HubSpot account until interrupted.
    Hubspot(HubspotArgs),
    /// Compare a simulator with a store at rest; exits 1 when something is wrong, 2 when it cannot compare.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Base URL of the simulator, http://host:port.
    #[arg(long)]
    simulator: String,
    /// The store: postgres://user@host/database (without TLS) or sqlite:PATH.
    #[arg(long, env = "GTM_DATABASE_URL", hide_env_values = true)]
    database: String,
    /// Whose rows.
    #[arg(long)]
    tenant: String,
    /// Whose rows: the Connector's name.
    #[arg(long)]
    connector: String,
    /// Compare only these streams, e.g. `contacts,deals`.
    #[arg(long, value_delimiter = ',')]
    streams: Vec<String>,
    /// How to print the report.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs: one JSON document.
    Json,
}

#[derive(Debug, Args)]
struct HubspotArgs {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// CRM objects to seed, 10 to 4,000,000; owners and pipelines come on top.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=4_000_000))]
    records: u32,
    /// Seed of the records: the same seed and count give the same records.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The private app's token.
    #[arg(long, default_value = "pat-simulated", conflicts_with = "token_file")]
    token: String,
    /// Read the private app's token from this file.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Write the port listened on to this file, once it answers.
    #[arg(long)]
    port_file: Option<PathBuf>,
    /// The account's id.
    #[arg(long, default_value_t = 62_515)]
    portal_id: u64,
    /// Requests allowed in any ten seconds.
    #[arg(long, default_value_t = Limits::default().per_ten_seconds)]
    per_ten_seconds: u32,
    /// Searches allowed in any second.
    #[arg(long, default_value_t = Limits::default().search_per_second)]
    search_per_second: u32,
    /// Requests allowed a day (UTC).
    #[arg(long, default_value_t = Limits::default().daily)]
    daily: u32,
    /// Client id of an OAuth app, with --oauth-client-secret and --oauth-refresh-token.
    #[arg(long, requires_all = ["oauth_client_secret", "oauth_refresh_token"])]
    oauth_client_id: Option<String>,
    /// Its secret.
    #[arg(long)]
    oauth_client_secret: Option<String>,
    /// Its first refresh token.
    #[arg(long)]
    oauth_refresh_token: Option<String>,
    /// How long an OAuth access token lives.
    #[arg(long, default_value_t = 1_800)]
    oauth_access_token_seconds: u32,
    /// Each refresh gives a new refresh token; reuse of an old one revokes the grant.
    #[arg(long)]
    oauth_rotate: bool,
    /// Render every page of a list once and serve it again unchanged, without credential and limits: for benchmarks.
    #[arg(long)]
    keep_pages: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let ended = match Cli::parse().command {
        Command::Hubspot(args) => serve_hubspot(args).await.map(|()| ExitCode::SUCCESS),
        Command::Check(args) => compare(args).await,
    };
    ended.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::from(2)
    })
}

async fn compare(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let target =
        Target { database: args.database, tenant: args.tenant, connector: args.connector, streams: args.streams };
    let report = check(&Source::Url(args.simulator), &target).await?;
    print(&report, args.output).context("cannot print the report")?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &Report, output: Output) -> anyhow::Result<()> {
    let text = match output {
        Output::Text => report.to_string(),
        Output::Json => serde_json::to_string_pretty(report)?,
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

async fn serve_hubspot(args: HubspotArgs) -> anyhow::Result<()> {
    let port_file = args.port_file.clone();
    let simulator = Simulator::start(args.options()?).await?;
    let (url, info) = (simulator.base_url(), simulator.state().info());
    tracing::info!(%url, portal = info.portal_id, records = ?info.records, "simulated HubSpot is listening");
    if let Some(file) = port_file {
        // Under another name first: a reader never sees half of it.
        let draft = file.with_extension("draft");
        let written = std::fs::write(&draft, simulator.address().port().to_string());
        written
            .and_then(|()| std::fs::rename(&draft, &file))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    interrupted().await?;
    simulator.shutdown().await
}

/// Ends on Ctrl-C and on SIGTERM.
async fn interrupted() -> anyhow::Result<()> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("cannot listen for SIGTERM")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for Ctrl-C"),
        _ = terminated.recv() => Ok(()),
    }
}

impl HubspotArgs {
    fn options(self) -> anyhow::Result<Options> {
        let token = match &self.token_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
                text.trim().to_owned()
            }
            None => self.token,
        };
        let app = self.oauth_client_id.zip(self.oauth_client_secret).zip(self.oauth_refresh_token);
        let oauth = app.map(|((client_id, client_secret), refresh_token)| OauthOptions {
            client_id,
            client_secret,
            refresh_token,
            access_token_seconds: self.oauth_access_token_seconds,
            rotate: self.oauth_rotate,
        });
        let limits = Limits {
            per_ten_seconds: self.per_ten_seconds,
            search_per_second: self.search_per_second,
            daily: self.daily,
        };
        Ok(Options {
            listen: self.listen,
            seed: self.seed,
            records: self.records,
            token,
            oauth,
            portal_id: self.portal_id,
            limits,
            keep_pages: self.keep_pages,
            ..Options::default()
        })
    }
}
