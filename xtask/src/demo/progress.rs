//! Waits for the first sync of each connector and shows what its status says: bars on a terminal, lines elsewhere.
//! It reads nothing but the custom resources, as any user would.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use kube::{
    Api,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
};
use serde::Deserialize;
use tokio::time::Instant;

use super::objects::{ACCOUNTS, Account};
use crate::console;

const POLL: Duration = Duration::from_millis(300);

/// The part of a Connector's status that is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    progress: Option<Progress>,
    last_sync: Option<LastSync>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Progress {
    phase: String,
    entity_type: String,
    records_processed: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LastSync {
    outcome: String,
    records_processed: u64,
    errors_count: u64,
    error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

impl Status {
    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|it| it.kind == kind)
    }

    fn is(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|it| it.status == "True")
    }

    fn records(&self) -> u64 {
        let ended = self.last_sync.as_ref().map_or(0, |it| it.records_processed);
        self.progress.as_ref().map_or(ended, |it| it.records_processed)
    }

    /// What a person wants to know in half a line.
    fn told(&self) -> String {
        if let Some(last) = &self.last_sync {
            return format!("{} with {} errors", last.outcome.to_lowercase(), last.errors_count);
        }
        if let Some(progress) = &self.progress {
            return format!("{} {}", progress.phase, progress.entity_type).trim_end().to_owned();
        }
        for kind in ["Ready", "Connected"] {
            match self.condition(kind) {
                Some(it) if it.status == "True" => {}
                Some(it) => return format!("{kind}={} {}: {}", it.status, it.reason, it.message),
                None => return format!("waiting to be {}", kind.to_lowercase()),
            }
        }
        "connected".to_owned()
    }
}

/// Reads the connectors' status.
pub(crate) struct Watcher {
    client: kube::Client,
    kind: ApiResource,
}

impl Watcher {
    /// A watcher on one cluster.
    pub(crate) fn new(client: kube::Client) -> Self {
        let kind = GroupVersionKind::gvk("sync.gtmclarity.io", "v1alpha1", "Connector");
        Self { client, kind: ApiResource::from_gvk(&kind) }
    }

    async fn status(&self, account: &Account) -> anyhow::Result<Status> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &account.namespace(), &self.kind);
        let object = api.get(account.connector).await.with_context(|| format!("could not get {}", account.label()))?;
        Ok(serde_json::from_value(object.data["status"].clone()).unwrap_or_default())
    }

    /// Waits until every connector is ready and its credential accepted.
    pub(crate) async fn connected(&self, deadline: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + deadline;
        let mut told: BTreeMap<String, String> = BTreeMap::new();
        loop {
            let mut waiting = 0;
            for account in &ACCOUNTS {
                let status = self.status(account).await?;
                waiting += usize::from(!(status.is("Ready") && status.is("Connected")));
                told.insert(account.label(), status.told());
            }
            if waiting == 0 {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("not connected within {}: {told:?}", console::seconds(deadline));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Shows the first sync of every connector until all have ended well; gives the time at which the first records
    /// were reported.
    pub(crate) async fn first_syncs(&self, expected: u64, deadline: Duration) -> anyhow::Result<Instant> {
        let end = Instant::now() + deadline;
        let mut display = Display::new(expected);
        let mut first = None;
        loop {
            let mut waiting = 0;
            for (index, account) in ACCOUNTS.iter().enumerate() {
                let status = self.status(account).await?;
                if let Some(LastSync { outcome, error: Some(error), .. }) = &status.last_sync
                    && outcome != "Complete"
                {
                    bail!("the sync of {} ended {outcome}: {error}", account.label());
                }
                let done = status.last_sync.as_ref().is_some_and(|it| it.outcome == "Complete");
                waiting += usize::from(!done);
                if status.records() > 0 {
                    first.get_or_insert_with(Instant::now);
                }
                display.show(index, &account.label(), &status, done);
            }
            if waiting == 0 {
                return Ok(first.unwrap_or_else(Instant::now));
            }
            if Instant::now() > end {
                bail!("{waiting} first syncs did not end within {}", console::seconds(deadline));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Bars, or lines where there is no terminal.
struct Display {
    bars: Option<Vec<ProgressBar>>,
    lines: BTreeMap<usize, (String, Instant)>,
}

impl Display {
    fn new(expected: u64) -> Self {
        let style = ProgressStyle::with_template("  {prefix:18} [{bar:30}] {pos:>7} records  {msg}");
        let style = style.expect("the template is a constant").progress_chars("=> ");
        let bars = console::is_terminal().then(|| {
            let bar = |it: &Account| ProgressBar::new(expected).with_style(style.clone()).with_prefix(it.label());
            ACCOUNTS.iter().map(|it| console::show(bar(it))).collect()
        });
        Self { bars, lines: BTreeMap::new() }
    }

    fn show(&mut self, index: usize, label: &str, status: &Status, done: bool) {
        let (records, told) = (status.records(), status.told());
        if let Some(bars) = &self.bars {
            let bar = &bars[index];
            bar.set_length(bar.length().unwrap_or(0).max(records));
            bar.set_position(if done { bar.length().unwrap_or(records) } else { records });
            bar.set_message(told);
            if done && !bar.is_finished() {
                bar.set_length(records);
                bar.abandon();
            }
            return;
        }
        let text = format!("  {label:18} {records:>7} records  {told}");
        let quiet = Duration::from_secs(if done { 0 } else { 2 });
        let news = self.lines.get(&index).is_none_or(|(last, at)| *last != text && at.elapsed() >= quiet);
        if news {
            console::line(&text);
            self.lines.insert(index, (text, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(status: serde_json::Value) -> String {
        serde_json::from_value::<Status>(status).unwrap().told()
    }

    #[test]
    fn the_first_thing_that_is_not_as_it_should_be_is_told() {
        let ready = json!({"type": "Ready", "status": "True", "reason": "Applied", "message": ""});
        let refused = json!({"type": "Connected", "status": "False", "reason": "CredentialsRefused", "message": "no"});
        assert_eq!(told(json!({})), "waiting to be ready");
        assert_eq!(told(json!({"conditions": [ready]})), "waiting to be connected");
        assert_eq!(told(json!({"conditions": [ready, refused]})), "Connected=False CredentialsRefused: no");
    }

    #[test]
    fn a_run_is_told_before_conditions_and_its_end_before_both() {
        let progress = json!({"phase": "syncing", "entityType": "contacts", "recordsProcessed": 7});
        assert_eq!(told(json!({"progress": progress})), "syncing contacts");
        let last = json!({"outcome": "Complete", "recordsProcessed": 9, "errorsCount": 0});
        assert_eq!(told(json!({"progress": progress, "lastSync": last})), "complete with 0 errors");
    }
}
