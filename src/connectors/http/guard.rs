//! Which addresses a connector may dial: a URL from a user is a request into the cluster's network.
//! Does not dial; `http` asks here for every name it resolves and every literal it is given.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// An entry of `--allowed-private-hosts` that is none of host, host:port and CIDR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--allowed-private-hosts: {0:?} is not a host, host:port or CIDR")]
pub struct InvalidEntry(pub String);

/// What `--allowed-private-hosts` says.
#[derive(Debug, Clone, Default)]
pub struct AllowedHosts {
    hosts: Vec<(String, Option<u16>)>,
    networks: Vec<Network>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: u128,
    mask: u128,
}

/// The guard's refusal, found again in the chain of a transport error.
#[derive(Debug, thiserror::Error)]
#[error("address refused")]
pub(super) struct Refused;

/// A name that no resolver knows, or a resolver that is away.
#[derive(Debug, thiserror::Error)]
#[error("name not resolved")]
pub(super) struct NotResolved;

impl AllowedHosts {
    /// Parses the entries of the flag.
    ///
    /// # Errors
    /// Naming the first entry that cannot be read.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, InvalidEntry> {
        let mut allowed = Self::default();
        for entry in entries.iter().map(|entry| entry.as_ref().trim()).filter(|entry| !entry.is_empty()) {
            allowed.add(entry).ok_or_else(|| InvalidEntry(entry.to_owned()))?;
        }
        Ok(allowed)
    }

    fn add(&mut self, entry: &str) -> Option<()> {
        if let Some((address, length)) = entry.split_once('/') {
            self.networks.push(Network::new(address.parse().ok()?, length.parse().ok()?)?);
        } else if let Ok(address) = IpAddr::from_str(entry) {
            self.hosts.push((entry.to_owned(), None));
            self.networks.push(Network::new(address, if address.is_ipv4() { 32 } else { 128 })?);
        } else if let Ok(socket) = SocketAddr::from_str(entry) {
            self.hosts.push((socket.ip().to_string(), Some(socket.port())));
        } else {
            let (host, port) = match entry.rsplit_once(':') {
                Some((host, port)) => (host, Some(port.parse().ok()?)),
                None => (entry, None),
            };
            match Host::parse(host).ok()? {
                Host::Domain(name) => self.hosts.push((name, port)),
                Host::Ipv4(_) | Host::Ipv6(_) => return None,
            }
        }
        Some(())
    }

    /// Whether the operator named this URL's host: any address behind it, and plain http, are then fine.
    #[must_use]
    pub(super) fn names(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        let text = match host {
            Host::Domain(name) => name.trim_end_matches('.').to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let listed = self.hosts.iter().any(|(name, port)| {
            name.eq_ignore_ascii_case(&text) && (port.is_none() || *port == url.port_or_known_default())
        });
        listed || literal(url).is_some_and(|address| self.in_network(address))
    }

    fn in_network(&self, address: IpAddr) -> bool {
        let bits = bits(address);
        self.networks.iter().any(|network| bits & network.mask == network.address)
    }

    /// Whether this address may be dialled for a host that was not named.
    #[must_use]
    pub(super) fn permits(&self, address: IpAddr) -> bool {
        is_public(address) || self.in_network(address)
    }
}

impl Network {
    fn new(address: IpAddr, length: u32) -> Option<Self> {
        let length = if address.is_ipv4() { length.checked_add(96).filter(|_| length <= 32)? } else { length };
        let mask = match length {
            0 => 0,
            1..=128 => u128::MAX << (128 - length),
            _ => return None,
        };
        Some(Self { address: bits(address) & mask, mask })
    }
}

/// Both families in one space: IPv4 as its IPv6-mapped form.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address in a URL whose host is one.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
    }
}

/// IPv4 networks that are not the public internet: IANA special-purpose registry (RFC 6890), multicast (RFC 5771), and the
/// address at which Azure serves each of its machines its metadata and configuration (Azure documentation, "What is IP
/// address 168.63.129.16?"). Other clouds' are in these networks.
const SPECIAL_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// Whether an address belongs to the public internet. IPv6 that carries an IPv4 address is judged by that one.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4
            .iter()
            .any(|&(network, length)| address.to_bits() >> (32 - length) == network.to_bits() >> (32 - length)),
        IpAddr::V6(address) => match carried_v4(address) {
            Some(carried) => is_public(carried.into()),
            // Global unicast is 2000::/3 (RFC 4291); 2001::/23 is protocol assignments, among them Teredo; 2001:db8::/32
            // and 3fff::/20 are documentation.
            None => {
                let [first, second, ..] = address.segments();
                let documentation = first == 0x2001 && second == 0xdb8 || first == 0x3fff && second < 0x1000;
                first & 0xe000 == 0x2000 && !(first == 0x2001 && second < 0x200) && !documentation
            }
        },
    }
}

/// The IPv4 address in an IPv4-mapped, NAT64 (64:ff9b::/96, RFC 6052) or 6to4 (2002::/16) address.
fn carried_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(join(g, h)),
        (0x2002, high, low, ..) => Some(join(high, low)),
        _ => None,
    }
}

/// Resolves by the platform and hands on only the addresses that may be dialled, so that what is checked is what is
/// dialled and a name that resolves differently the second time gains nothing.
#[derive(Debug)]
pub(super) struct GuardedResolver(pub(super) Arc<AllowedHosts>);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_| NotResolved)?.collect();
            Ok(Box::new(permitted(found, &allowed)?.into_iter()) as Addrs)
        })
    }
}

/// Of a name's addresses those that may be dialled.
fn permitted(found: Vec<SocketAddr>, allowed: &AllowedHosts) -> Result<Vec<SocketAddr>, Refused> {
    let permitted: Vec<_> = found.into_iter().filter(|address| allowed.permits(address.ip())).collect();
    if permitted.is_empty() { Err(Refused) } else { Ok(permitted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn url(text: &str) -> Url {
        text.parse().expect("url")
    }

    #[test]
    fn only_the_public_internet_is_dialled_by_default() {
        let nothing = AllowedHosts::default();
        for public in ["104.16.1.1", "8.8.8.8", "2606:4700::1", "64:ff9b::808:808", "::ffff:8.8.8.8"] {
            assert!(nothing.permits(address(public)), "{public}");
        }
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::1",
            "2001:db8::1",
            "2001::1",
            "::127.0.0.1",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "2002:a9fe:a9fe::",
            "168.63.129.16",
            "::ffff:168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "fec0::1",
            "5f00::1",
        ];
        for private in private {
            assert!(!nothing.permits(address(private)), "{private}");
        }
    }

    #[test]
    fn of_a_names_addresses_only_those_that_may_be_dialled_are_handed_on() {
        let sockets = |of: &[&str]| of.iter().map(|ip| SocketAddr::new(address(ip), 0)).collect::<Vec<_>>();
        let nothing = AllowedHosts::default();
        // A name that is public today and private tomorrow is judged at each connection anew.
        let mixed =
            permitted(sockets(&["10.0.0.1", "104.16.1.1", "::1", "::ffff:127.0.0.1", "2606:4700::1"]), &nothing);
        assert_eq!(mixed.ok(), Some(sockets(&["104.16.1.1", "2606:4700::1"])));
        assert!(permitted(sockets(&["169.254.169.254", "fd00:ec2::254"]), &nothing).is_err());
        assert!(permitted(sockets(&[]), &nothing).is_err());
        let networks = AllowedHosts::parse(&["10.0.0.0/8"]).expect("entries");
        assert_eq!(permitted(sockets(&["10.0.0.1", "::1"]), &networks).ok(), Some(sockets(&["10.0.0.1"])));
    }

    #[test]
    fn entries_are_hosts_hosts_with_ports_and_networks() {
        let entries =
            ["sims.default.svc", "crm.test:8443", "10.96.0.0/12", "fd00::/8", "127.0.0.1:9000", "192.168.7.7"];
        let allowed = AllowedHosts::parse(&entries).expect("entries");
        for named in [
            "http://sims.default.svc:1/",
            "http://SIMS.default.svc./",
            "https://crm.test:8443/",
            "http://10.97.1.1/",
            "http://127.0.0.1:9000/",
            "http://192.168.7.7:1/",
            "http://[fd00::7]/",
        ] {
            assert!(allowed.names(&url(named)), "{named}");
        }
        for other in
            ["https://crm.test/", "http://127.0.0.1:9001/", "http://evil.sims.default.svc/", "http://11.0.0.1/"]
        {
            assert!(!allowed.names(&url(other)), "{other}");
        }
        assert!(allowed.permits(address("10.111.0.1")) && allowed.permits(address("::ffff:10.96.0.1")));
        assert!(!allowed.permits(address("10.112.0.1")) && allowed.permits(address("192.168.7.7")));
        for bad in ["10.0.0.0/33", "a b", "host:port", "10.0.0.1/x", "fd00::/129"] {
            assert_eq!(AllowedHosts::parse(&[bad]).expect_err("refused"), InvalidEntry(bad.to_owned()));
        }
    }
}
