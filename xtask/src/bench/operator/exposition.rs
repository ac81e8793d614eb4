//! Text of a Prometheus endpoint: read over plain HTTP or handed in, and its counters summed by some of their labels. Counts
//! are only ever compared with earlier ones of the same server.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Sums of one counter by the values of the labels that were asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counts(BTreeMap<Vec<String>, f64>);

impl Counts {
    /// Sums the counter `name` by `labels`, in their order; a series without one of them has it empty.
    pub(super) fn read(text: &str, name: &str, labels: &[&str]) -> Self {
        let mut sums = BTreeMap::<_, f64>::new();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix(name) else { continue };
            let Some((found, value)) = split(rest) else { continue };
            let key: Vec<_> = labels.iter().map(|of| label(found, of).unwrap_or_default().to_owned()).collect();
            *sums.entry(key).or_default() += value;
        }
        Self(sums)
    }

    /// What was added since.
    pub(super) fn since(&self, before: &Self) -> Self {
        let added = |(key, now): (&Vec<String>, &f64)| {
            let more = now - before.0.get(key).copied().unwrap_or_default();
            (more > 0.0).then(|| (key.clone(), more))
        };
        Self(self.0.iter().filter_map(added).collect())
    }

    /// Sums anew by other labels; `None` leaves a count out.
    pub(super) fn map<'a, const N: usize>(&'a self, to: impl Fn(&[&'a str]) -> Option<[&'a str; N]>) -> Self {
        let mut sums = BTreeMap::<_, f64>::new();
        for (key, value) in &self.0 {
            let key: Vec<_> = key.iter().map(String::as_str).collect();
            if let Some(key) = to(&key) {
                *sums.entry(key.map(str::to_owned).to_vec()).or_default() += value;
            }
        }
        Self(sums)
    }

    /// The sum of all whose labels `fits` accepts.
    pub(super) fn sum(&self, fits: impl Fn(&[&str]) -> bool) -> f64 {
        let all = self.0.iter().map(|(key, value)| (key.iter().map(String::as_str).collect::<Vec<_>>(), value));
        // Not `sum`, whose nothing is -0.
        all.filter(|(key, _)| fits(key)).fold(0.0, |sum, (_, value)| sum + value)
    }

    /// Each with its labels, joined.
    pub(super) fn each(&self) -> impl Iterator<Item = (String, f64)> {
        self.0.iter().map(|(key, value)| (key.join(" "), *value))
    }
}

/// Labels and value of what stands behind a metric's name; `None` when the name goes on.
fn split(rest: &str) -> Option<(&str, f64)> {
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.rsplit_once("} ")?,
        None => ("", rest.strip_prefix(' ')?),
    };
    Some((labels, value.split(' ').next()?.parse().ok()?))
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let at = labels.match_indices(name).find(|(at, _)| {
        (*at == 0 || labels.as_bytes()[at - 1] == b',') && labels[at + name.len()..].starts_with("=\"")
    })?;
    labels[at.0 + name.len() + 2..].split('"').next()
}

/// The text that a server on this machine shows under `/metrics`.
pub(super) async fn fetch(address: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await.context("nobody serves metrics")?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.split(' ').nth(1) == Some("200"), "{}", head.lines().next().unwrap_or_default());
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE requests_total counter
requests_total{code=\"200\",resource=\"connectors\",subresource=\"status\",verb=\"APPLY\"} 7
requests_total{code=\"409\",resource=\"connectors\",subresource=\"status\",verb=\"APPLY\"} 2
requests_total{code=\"200\",resource=\"leases\",subresource=\"\",verb=\"PUT\"} 3 1700000000
requests_total_more{resource=\"connectors\"} 99
plain 4.5
";

    #[test]
    fn series_are_summed_by_the_labels_that_were_asked_for() {
        let counts = Counts::read(TEXT, "requests_total", &["verb", "resource"]);
        assert_eq!(counts.sum(|of| of == ["APPLY", "connectors"]), 9.0);
        assert_eq!(counts.sum(|of| of[1] == "leases"), 3.0);
        assert_eq!(counts.sum(|_| true), 12.0, "a longer name is another metric");
        assert_eq!(Counts::read(TEXT, "plain", &[]).sum(|_| true), 4.5);
        assert_eq!(
            Counts::read(TEXT, "requests_total", &["source"]).sum(|of| of == [""]),
            12.0,
            "no suffix of a label"
        );
    }

    #[test]
    fn only_what_was_added_is_told() {
        let before = Counts::read(TEXT, "requests_total", &["verb", "resource"]);
        let later = TEXT.replace("} 3 ", "} 5 ");
        let added = Counts::read(&later, "requests_total", &["verb", "resource"]).since(&before);
        assert_eq!((added.sum(|_| true), added.sum(|of| of == ["PUT", "leases"])), (2.0, 2.0));
    }
}
