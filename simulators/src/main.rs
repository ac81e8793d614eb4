//! `gtm-simulators`: a simulated vendor as a process, for the demo and for scripts.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use simulators::hubspot::{Limits, OauthOptions, Options, Simulator};

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
}

#[derive(Debug, Args)]
struct HubspotArgs {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// CRM objects to seed, 10 to 1,000,000; owners and pipelines come on top.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
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
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match Cli::parse().command {
        Command::Hubspot(args) => serve_hubspot(args).await,
    }
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
            ..Options::default()
        })
    }
}
