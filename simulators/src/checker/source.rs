//! Where the truth comes from: a simulator in this process, or one reached by URL.
//! The HTTP here is just enough for our own simulator: one plain GET, read to its end.

use std::collections::VecDeque;

use anyhow::Context as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
};

use super::mapping::property_names;
use crate::hubspot::{Info, Kind, StateHandle, Truth};

/// Records fetched from a simulator in process at a time.
const CHUNK: u32 = 1_000;

/// Where the truth is.
#[derive(Debug, Clone)]
pub enum Source {
    /// A simulator in this process.
    InProcess(StateHandle),
    /// The base URL of a simulator, `http://host:port`.
    Url(String),
}

impl Source {
    pub(super) async fn info(&self) -> anyhow::Result<Info> {
        match self {
            Self::InProcess(state) => Ok(state.info()),
            Self::Url(url) => {
                let line = get(url, "/__simulator/").await?.next_line().await?;
                serde_json::from_str(&line.unwrap_or_default())
                    .context("the simulator's answer is not what it should be")
            }
        }
    }

    pub(super) async fn truths(&self) -> anyhow::Result<Truths> {
        match self {
            Self::InProcess(state) => {
                let parts = Kind::ALL
                    .into_iter()
                    .flat_map(|kind| (0..=state.count(kind) / CHUNK).map(move |part| (kind, part * CHUNK)));
                Ok(Truths::InProcess { state: state.clone(), parts: parts.collect(), ready: VecDeque::new() })
            }
            Self::Url(url) => Ok(Truths::Lines(Box::new(
                get(url, &format!("/__simulator/state?properties={}", property_names().join(","))).await?,
            ))),
        }
    }
}

/// The truth, record by record, in the order of the streams.
pub(super) enum Truths {
    InProcess { state: StateHandle, parts: VecDeque<(Kind, u32)>, ready: VecDeque<Truth> },
    Lines(Box<Lines<BufReader<TcpStream>>>),
}

impl Truths {
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Truth>> {
        match self {
            Self::InProcess { state, parts, ready } => {
                while ready.is_empty() {
                    let Some((kind, from)) = parts.pop_front() else { return Ok(None) };
                    *ready = state.truths_of(kind, from, CHUNK, &property_names()).into();
                }
                Ok(ready.pop_front())
            }
            Self::Lines(lines) => {
                let line = lines.next_line().await.context("the simulator's state was cut off")?;
                line.map(|line| serde_json::from_str(&line).context("the simulator's state was cut off")).transpose()
            }
        }
    }
}

/// The lines of the body of a GET. HTTP/1.0: the body is what comes until the connection ends.
async fn get(base_url: &str, path: &str) -> anyhow::Result<Lines<BufReader<TcpStream>>> {
    let host = base_url.trim_end_matches('/').strip_prefix("http://").context("the simulator's URL must be http://")?;
    anyhow::ensure!(!host.contains('/'), "the simulator's URL must have no path");
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut stream =
        TcpStream::connect(&address).await.with_context(|| format!("cannot connect to the simulator at {address}"))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    let mut lines = BufReader::new(stream).lines();
    let status = lines.next_line().await?.unwrap_or_default();
    anyhow::ensure!(status.split(' ').nth(1) == Some("200"), "the simulator at {address} answered {status:?}");
    while lines.next_line().await?.is_some_and(|header| !header.is_empty()) {}
    Ok(lines)
}
