//! What a watch of the API server shows, as the driver's watcher writes it down: one line a state of an object, with the time
//! at which it came. Reads and waits; decides nothing.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use crate::{
    console,
    process::{Farewell, Service},
    run::Run,
};

/// Between two looks at the log; the times in it are the watcher's.
const LOOK: Duration = Duration::from_millis(100);
/// Between two lines about a long wait.
const TELL: Duration = Duration::from_secs(15);
const NAME: &str = "watch";

/// Seconds on the clock that all processes of this machine share.
pub(super) fn clock() -> f64 {
    #[expect(clippy::disallowed_methods, reason = "other processes' times are compared with ours")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |it| it.as_secs_f64())
}

/// A state of an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    /// When it was seen.
    pub(super) at: f64,
    /// `T` or `C` for TenantSchedule or Connector.
    pub(super) is_tenant: bool,
    /// `namespace/name`.
    pub(super) name: String,
    pub(super) generation: i64,
    /// `Ready=True`, about this generation.
    pub(super) is_ready: bool,
    /// `status` of `Connected`.
    pub(super) connected: String,
    /// `status.progress.recordsProcessed`.
    pub(super) processed: i64,
}

impl Seen {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[at, kind, name, generation, observed, ready, connected, processed] = fields.as_slice() else {
            return None;
        };
        let nanoseconds: u64 = at.parse().ok()?;
        Some(Self {
            at: Duration::from_nanos(nanoseconds).as_secs_f64(),
            is_tenant: kind == "T",
            name: name.to_owned(),
            generation: generation.parse().ok()?,
            is_ready: ready == "True" && observed == generation,
            connected: connected.to_owned(),
            processed: processed.parse().ok()?,
        })
    }
}

/// The watcher and what it has shown so far.
pub(super) struct Watched {
    service: Service,
    log: PathBuf,
    read: u64,
    /// A line that is not whole yet.
    begun: Vec<u8>,
    objects: HashMap<(bool, String), Seen>,
    ready: usize,
    last_ready_at: f64,
}

impl Watched {
    /// Starts the watcher.
    pub(super) fn start(command: Command, run: &Run) -> anyhow::Result<Self> {
        Ok(Self {
            service: Service::start(NAME, command, &run.logs)?.with_farewell(Farewell::Kill),
            log: run.logs.join(format!("{NAME}.log")),
            read: 0,
            begun: Vec::new(),
            objects: HashMap::new(),
            ready: 0,
            last_ready_at: 0.0,
        })
    }

    /// What came since the last call, oldest first.
    pub(super) fn news(&mut self) -> anyhow::Result<Vec<Seen>> {
        self.service.check()?;
        let mut file = File::open(&self.log).context("could not open the watcher's log")?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = std::mem::take(&mut self.begun);
        self.read += file.read_to_end(&mut bytes)? as u64;
        let whole = bytes.iter().rposition(|it| *it == b'\n').map_or(0, |it| it + 1);
        self.begun = bytes.split_off(whole);
        let news: Vec<_> = String::from_utf8_lossy(&bytes).lines().filter_map(Seen::parse).collect();
        for seen in &news {
            self.note(seen.clone());
        }
        Ok(news)
    }

    fn note(&mut self, seen: Seen) {
        let (at, is_ready) = (seen.at, seen.is_ready);
        let before = self.objects.insert((seen.is_tenant, seen.name.clone()), seen);
        match (before.is_some_and(|it| it.is_ready), is_ready) {
            (false, true) => {
                self.ready += 1;
                self.last_ready_at = self.last_ready_at.max(at);
            }
            (true, false) => self.ready -= 1,
            _ => {}
        }
    }

    /// How many objects there are, and how many are ready.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.objects.len(), self.ready)
    }

    /// Waits until so many objects are seen.
    pub(super) async fn objects(&mut self, count: usize, within: Duration) -> anyhow::Result<()> {
        self.wait(within, |it| (it.objects.len() >= count).then_some(()), &format!("{count} objects in view")).await
    }

    /// Waits until so many are ready; returns when the last of them became so.
    pub(super) async fn ready(&mut self, count: usize, within: Duration) -> anyhow::Result<f64> {
        let ready = |it: &Self| (it.ready >= count).then_some(it.last_ready_at);
        self.wait(within, ready, &format!("{count} objects ready")).await
    }

    /// Waits until so many Connectors are shown connected.
    pub(super) async fn connected(&mut self, count: usize, within: Duration) -> anyhow::Result<()> {
        let connected = |it: &Self| {
            let shown = it.objects.values().filter(|it| !it.is_tenant && it.connected == "True").count();
            (shown >= count).then_some(())
        };
        self.wait(within, connected, &format!("{count} connected")).await
    }

    /// Waits until an object is ready with this generation; returns when it was seen so.
    pub(super) async fn caught_up(
        &mut self,
        is_tenant: bool,
        name: &str,
        generation: i64,
        within: Duration,
    ) -> anyhow::Result<f64> {
        let key = (is_tenant, name.to_owned());
        let caught_up =
            |it: &Self| it.objects.get(&key).filter(|it| it.is_ready && it.generation >= generation).map(|it| it.at);
        self.wait(within, caught_up, &format!("{name} at generation {generation}")).await
    }

    async fn wait<T>(&mut self, within: Duration, found: impl Fn(&Self) -> Option<T>, what: &str) -> anyhow::Result<T> {
        let (end, mut tell) = (Instant::now() + within, Instant::now() + TELL);
        loop {
            self.news()?;
            if Instant::now() > tell {
                tell += TELL;
                let (all, ready) = self.count();
                console::line(format_args!("  ...  waiting for {what}: {ready} of {all} are ready"));
            }
            if let Some(found) = found(self) {
                return Ok(found);
            }
            if Instant::now() > end {
                let (all, ready) = self.count();
                bail!("not within {} s: {what}; {ready} of {all} are ready", within.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_watcher_is_read_and_anything_else_is_not() {
        let line = "1700000000500000000\tC\ttenant-1/crm-1\t2\t2\tTrue\tFalse\t4000";
        let seen = Seen::parse(line).unwrap();
        assert_eq!((seen.at, seen.is_tenant, seen.generation), (1_700_000_000.5, false, 2));
        assert_eq!((seen.is_ready, seen.processed, seen.connected.as_str()), (true, 4_000, "False"));
        assert!(!Seen::parse(&line.replace("\t2\t2\t", "\t3\t2\t")).unwrap().is_ready, "about an old generation");
        assert_eq!(Seen::parse("T the API server answered 503"), None);
    }
}
