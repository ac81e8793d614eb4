//! The source of the benchmark: the simulated HubSpot as a process that renders each page once. It is walked before the
//! first measurement, so that no contender pays for rendering, and walked again to know how fast it can serve at most.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use super::usage;
use crate::{
    process::{self, Service},
    random,
    run::Run,
};

const START: Duration = Duration::from_secs(120);
/// The path all contenders read.
pub(super) const PATH: &str = "/crm/objects/2026-03/contacts";
/// What the product asks for; the others are configured to ask for the same.
pub(super) const PROPERTIES: &str = "email,firstname,lastname,jobtitle,phone,mobilephone,hubspot_owner_id,\
hs_analytics_source,lifecyclestage,hs_email_optout,notes_last_updated,hs_merged_object_ids";
/// Records a page: the most that HubSpot gives.
pub(super) const PAGE: u32 = 100;
/// Of a simulated account's records, contacts are this part (in thousandths); one contact in 55 is archived or merged.
const CONTACTS_PER_MILLE: u64 = 400;

/// The running source.
pub(super) struct Source {
    /// `http://address:port`.
    pub(super) url: String,
    /// What opens it.
    pub(super) token: String,
    /// Contacts a list shows.
    pub(super) records: u64,
    /// Bytes of JSON they take.
    pub(super) bytes: u64,
    /// Records a second it serves to a client that reads and drops.
    pub(super) records_per_second: f64,
    /// The same by its own CPU-seconds.
    pub(super) records_per_cpu_second: f64,
    address: SocketAddr,
    service: Service,
}

impl Source {
    /// Starts the simulator with about `contacts` contacts and walks its pages twice.
    pub(super) async fn start(program: &Path, run: &Run, contacts: u32) -> anyhow::Result<Self> {
        let (token_file, port_file) = (run.scratch.join("source.token"), run.scratch.join("source.port"));
        let token = format!("pat-{}", random::hexadecimal(12)?);
        crate::certs::write_private(&token_file, &token)?;
        let all = u64::from(contacts) * 1_000 / CONTACTS_PER_MILLE;
        let mut command = process::command(program);
        command.args(["hubspot", "--keep-pages", "--records", &all.to_string()]);
        command.args(["--per-ten-seconds", "100000000", "--daily", "1000000000"]);
        command.arg("--token-file").arg(&token_file).arg("--port-file").arg(&port_file);
        let mut service = Service::start("source", command, &run.logs)?;
        let listens = || async { fs::metadata(&port_file).map(drop).context("it does not listen yet") };
        process::ready(&mut service, START, listens).await?;
        let address = format!("127.0.0.1:{}", fs::read_to_string(&port_file)?).parse()?;
        let mut source = Self {
            url: format!("http://{address}"),
            token,
            records: 0,
            bytes: 0,
            records_per_second: 0.0,
            records_per_cpu_second: 0.0,
            address,
            service,
        };
        source.walk(&archive()).await.context("could not read the archive")?;
        let walk = source.walk(&list()).await.context("could not read the list")?;
        (source.records, source.bytes) = (walk.records, walk.bytes);
        let (start, cpu) = (Instant::now(), usage::of_process(source.id()));
        source.read(&walk.targets).await?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let records = source.records as f64;
        source.records_per_second = records / start.elapsed().as_secs_f64();
        source.records_per_cpu_second = records / (usage::of_process(source.id()) - cpu).as_secs_f64().max(0.01);
        Ok(source)
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.service.id()
    }

    /// Reads all pages of a list by following its cursor.
    async fn walk(&self, parameters: &str) -> anyhow::Result<Walk> {
        let mut walk = Walk::default();
        let mut stream = self.connect().await?;
        let mut target = format!("{PATH}?{parameters}");
        loop {
            let body = get(&mut stream, &target, &self.token).await?;
            walk.bytes += body.len() as u64;
            walk.targets.push(target);
            let page: Value = serde_json::from_slice(&body).context("the source served no JSON")?;
            walk.records += page["results"].as_array().map_or(0, Vec::len) as u64;
            match page["paging"]["next"]["after"].as_str() {
                Some(after) => target = format!("{PATH}?{parameters}&after={after}"),
                None => return Ok(walk),
            }
        }
    }

    /// Reads known pages and drops them: what the source can do at most, for one client.
    async fn read(&self, targets: &[String]) -> anyhow::Result<()> {
        let mut stream = self.connect().await?;
        for target in targets {
            get(&mut stream, target, &self.token).await?;
        }
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// What a walk found.
#[derive(Default)]
struct Walk {
    records: u64,
    bytes: u64,
    targets: Vec<String>,
}

/// Parameters of the list of live contacts.
fn list() -> String {
    format!("limit={PAGE}&archived=false&properties={PROPERTIES}&associations=companies")
}

/// Parameters by which the product looks for archived ones after it.
fn archive() -> String {
    format!("limit={PAGE}&archived=true&properties=hs_object_id")
}

/// One request on a connection that stays open; the source always tells the length.
async fn get(stream: &mut TcpStream, target: &str, token: &str) -> anyhow::Result<Vec<u8>> {
    let request = format!("GET {target} HTTP/1.1\r\nhost: source\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(128 << 10);
    let (head, length) = loop {
        ensure!(stream.read_buf(&mut answer).await? > 0, "the source closed the connection");
        if let Some(end) = answer.windows(4).position(|it| it == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|it| it.strip_prefix("content-length: ")?.parse::<usize>().ok());
            ensure!(
                head.starts_with("http/1.1 200 "),
                "the source answered {}",
                head.lines().next().unwrap_or_default()
            );
            break (end + 4, length);
        }
    };
    let Some(length) = length else { bail!("the source told no length") };
    while answer.len() < head + length {
        ensure!(stream.read_buf(&mut answer).await? > 0, "the source closed the connection");
    }
    answer.drain(..head);
    Ok(answer)
}
