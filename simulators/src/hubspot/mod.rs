//! A simulated HubSpot account: one seeded state behind the vendor's dated and older API paths.
//! Not a copy of the vendor: what is simulated is what a sync and a writeback meet, its limits and its faults.

mod account;
mod admin;
mod answer;
mod associations;
mod associations_api;
mod connection;
mod definitions;
mod directory;
mod directory_api;
mod faults;
mod kind;
mod limits;
mod oauth;
mod options;
mod pages;
mod properties;
mod read;
mod records;
mod request;
mod search;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod truth;
mod vocabulary;
mod write;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use self::{account::Account, connection::Listener, pages::KeptPages};
pub use self::{
    account::Stats,
    admin::Info,
    faults::{Defect, Effect, Fault},
    kind::Kind,
    options::{Limits, OauthOptions, Options, Visibility},
    state::{Edited, Edits, Properties, StateHandle},
    truth::{Served, Truth},
};
use crate::clock::Clock;

/// Most records that one simulator holds.
pub const MAX_RECORDS: u32 = 4_000_000;

/// A running simulator. Dropped, it stops.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    state: StateHandle,
    stop: watch::Sender<bool>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Simulator {
    /// Seeds the account and starts to serve it.
    ///
    /// # Errors
    /// When more than `MAX_RECORDS` are asked for or the address cannot be listened on.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        anyhow::ensure!(options.records <= MAX_RECORDS, "at most {MAX_RECORDS} records can be simulated");
        let listener =
            TcpListener::bind(options.listen).await.with_context(|| format!("cannot listen on {}", options.listen))?;
        let address = listener.local_addr().context("cannot read the address listened on")?;
        let pages = options.keep_pages.then(KeptPages::default);
        let account = tokio::task::spawn_blocking(move || Account::new(&options, Arc::new(Clock::default())))
            .await
            .context("seeding the records failed")?;
        let state = StateHandle::new(account);
        let (stop, stopping) = watch::channel(false);
        let context = server::Context { state: state.clone(), stopping: stopping.clone(), pages };
        let serving = tokio::spawn(server::run(Listener(listener), context, stopping));
        Ok(Self { address, state, stop, serving })
    }

    /// `http://host:port`, without a trailing slash.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The account, to be changed and looked at.
    #[must_use]
    pub fn state(&self) -> StateHandle {
        self.state.clone()
    }

    /// Stops serving; open requests get two seconds.
    ///
    /// # Errors
    /// When serving had failed before.
    pub async fn shutdown(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(Duration::from_secs(2), &mut self.serving).await;
        if let Ok(Ok(served)) = ended {
            served.context("serving failed")?;
        }
        Ok(())
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.serving.abort();
    }
}
