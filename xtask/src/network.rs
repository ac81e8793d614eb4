//! The cable between the machine and a node's network namespace, with addresses that no other run has.
//! It vanishes with the namespace; what else a node leaves in the kernel, control groups and settings, is `kernel`'s.

use std::{net::Ipv4Addr, path::PathBuf, process::Command};

use anyhow::{Context as _, bail};

use crate::{machine::Machine, namespaces::Namespaces, process, run::Run};

/// Addresses of one run. Number `k` is claimed by adding the route to its pods, which the kernel refuses a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    number: u8,
}

impl Network {
    /// Lays the cable and claims addresses.
    pub(crate) async fn create(machine: &Machine, run: &Run, namespaces: &Namespaces) -> anyhow::Result<Self> {
        let ip = Ip(machine.program("ip").context("ip (package iproute2) was not found")?);
        let outside = format!("gtm{}", run.id);
        let init = namespaces.init().to_string();
        ip.run(&["link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", &init]).await?;
        ip.run(&["link", "set", &outside, "up"]).await?;
        let network = Self::claim(&ip, &outside).await?;
        let (gateway, node, pods) = (network.gateway().to_string(), network.node().to_string(), network.pods());
        ip.run(&["address", "add", &format!("{gateway}/30"), "dev", &outside]).await?;
        ip.run(&["route", "replace", &pods, "via", &node, "dev", &outside]).await?;
        for arguments in [
            vec!["address", "add", &format!("{node}/30"), "dev", "eth0"],
            vec!["link", "set", "eth0", "up"],
            vec!["route", "add", "default", "via", &gateway],
        ] {
            let mut command = namespaces.command(&ip.0);
            command.args(arguments);
            process::capture(command).await?;
        }
        Ok(network)
    }

    async fn claim(ip: &Ip, outside: &str) -> anyhow::Result<Self> {
        let mut last = None;
        for number in 0..=u8::MAX {
            let network = Self { number };
            match ip.run(&["route", "add", &network.pods(), "dev", outside]).await {
                Ok(()) => return Ok(network),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error.context("no pod network between 10.214.0.0/24 and 10.214.255.0/24 is free")),
            None => bail!("no pod network was tried"),
        }
    }

    /// The machine's address on the cable: what listens there is reached by pods.
    pub(crate) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, 1)
    }

    /// The node's address on the cable.
    pub(crate) fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, 2)
    }

    /// The network of pods' addresses.
    pub(crate) fn pods(self) -> String {
        format!("10.214.{}.0/24", self.number)
    }

    /// The gateway of pods, on the node's bridge.
    pub(crate) fn pod_gateway(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 214, self.number, 1)
    }
}

struct Ip(PathBuf);

impl Ip {
    async fn run(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command: Command = process::command(&self.0);
        command.args(arguments);
        process::capture(command).await.map(drop)
    }
}
