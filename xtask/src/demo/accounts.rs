//! The simulated HubSpot accounts of the demo: one process each, with a token of its own.

use std::{collections::BTreeMap, fs, net::IpAddr, time::Duration};

use anyhow::Context as _;

use super::objects::{ACCOUNTS, Account};
use crate::{
    certs::write_private,
    machine::Machine,
    process::{self, Service},
    random,
    run::Run,
};

const START: Duration = Duration::from_secs(60);

/// The running accounts; dropping them ends them.
pub(crate) struct Accounts {
    urls: BTreeMap<u64, String>,
    tokens: BTreeMap<u64, String>,
    _simulators: Vec<Service>,
}

impl Accounts {
    /// Starts every account on `address` with `records` objects each.
    pub(crate) async fn start(machine: &Machine, run: &Run, address: IpAddr, records: u32) -> anyhow::Result<Self> {
        let mut accounts = Self { urls: BTreeMap::new(), tokens: BTreeMap::new(), _simulators: Vec::new() };
        for account in &ACCOUNTS {
            let name = format!("hubspot-{}", account.portal);
            let (token_file, port_file) = (run.scratch.join(format!("{name}.token")), run.scratch.join(&name));
            let token = format!("pat-{}", random::hexadecimal(12)?);
            write_private(&token_file, &token)?;
            let mut command = process::command(machine.target.join("debug/gtm-simulators"));
            command.args(["hubspot", "--listen", &format!("{address}:0"), "--records", &records.to_string()]);
            let portal = account.portal.to_string();
            command.args(["--seed", &portal, "--portal-id", &portal]);
            command.arg("--token-file").arg(&token_file).arg("--port-file").arg(&port_file);
            let mut service = Service::start(&name, command, &run.logs)?;
            let listens = || async { fs::metadata(&port_file).map(drop).context("it does not listen yet") };
            process::ready(&mut service, START, listens).await?;
            accounts.urls.insert(account.portal, format!("http://{address}:{}", fs::read_to_string(&port_file)?));
            accounts.tokens.insert(account.portal, token);
            accounts._simulators.push(service);
        }
        Ok(accounts)
    }

    /// Where an account is served.
    pub(crate) fn url(&self, account: &Account) -> String {
        self.urls[&account.portal].clone()
    }

    /// What opens it.
    pub(crate) fn token(&self, account: &Account) -> String {
        self.tokens[&account.portal].clone()
    }
}
