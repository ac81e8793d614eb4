//! `gtm-sync dead-letters`: list, show, and the wishes about them, as `kubectl` commands.

use std::io::Write;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Common, Format, Whose, entity, known,
    kubectl::{self, Verb},
    open, payload, print_json, remark, table,
};
use crate::{
    clock,
    model::entity::Entity,
    store::{DeadLetterRow, LetterSelection, Store},
};

/// Letters fetched at once to count a selection …
const COUNTED_AT_ONCE: usize = 1_000;
/// … of which not more than this are counted.
const COUNTED: usize = 100_000;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List dead letters, the oldest first, without payloads.
    List {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        selection: Selection,
        /// At most this many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Only those after this number (column SEQ), to page on.
        #[arg(long)]
        after: Option<i64>,
        #[command(flatten)]
        common: Common,
    },
    /// Show one dead letter.
    Show {
        /// Its number (column SEQ of `list`).
        observed_seq: i64,
        #[command(flatten)]
        whose: Whose,
        /// Show the record, too: it may hold personal data.
        #[arg(long)]
        payload: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Print the kubectl command that asks for a replay: the records are read back from the source. Writes nothing itself.
    Replay {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        common: Common,
    },
    /// Print the kubectl command that deletes dead letters for good. Writes nothing itself.
    Discard {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        selection: Selection,
        /// All dead letters of the connector.
        #[arg(long, conflicts_with_all = ["run", "entity"])]
        all: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// Which dead letters; none of these = all of the connector.
#[derive(Debug, Args)]
pub struct Selection {
    /// Those of this run, by its workflow id.
    #[arg(long)]
    run: Option<String>,
    /// Those of this batch of the run.
    #[arg(long, requires = "run")]
    batch: Option<u32>,
    /// Those of this entity: account, contact, lead, opportunity, activity, owner or stage.
    #[arg(long, value_parser = entity)]
    entity: Option<Entity>,
    /// Those of this record of the entity, by the source's id.
    #[arg(long, requires = "entity")]
    record: Option<String>,
}

impl From<Selection> for LetterSelection {
    fn from(selection: Selection) -> Self {
        Self {
            workflow_id: selection.run,
            batch_index: selection.batch.map(u64::from),
            entity: selection.entity,
            source_id: selection.record,
        }
    }
}

impl Command {
    /// Runs it.
    pub(super) async fn run(self, output: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::List { whose, selection, limit, after, common } => {
                list(&whose, &selection.into(), limit as usize, after, &common, output).await
            }
            Self::Show { observed_seq, whose, payload, common } => {
                show(&whose, observed_seq, payload, &common, output).await
            }
            Self::Replay { whose, selection, common } => {
                wish(Verb::Replay, &whose, &selection.into(), &common, output).await
            }
            Self::Discard { whose, selection, all, common } => {
                let letters = selection.into();
                ensure!(
                    all || letters != LetterSelection::default(),
                    "discard deletes for good: say which with --run, --batch, --entity, --record, or --all"
                );
                wish(Verb::Discard, &whose, &letters, &common, output).await
            }
        }
    }
}

async fn list(
    whose: &Whose,
    letters: &LetterSelection,
    limit: usize,
    after: Option<i64>,
    common: &Common,
    output: &mut dyn Write,
) -> anyhow::Result<()> {
    let store = open(&common.store).await?;
    known(store.as_ref(), whose).await?;
    let mut found = store.dead_letters(&whose.tenant, &whose.connector, letters, after, limit + 1).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    match common.output {
        Format::Json => print_json(output, &found.iter().map(described).collect())?,
        Format::Table if found.is_empty() => remark("no dead letters"),
        Format::Table => {
            let head = ["SEQ", "RECORDED", "ACCOUNT", "ENTITY", "RECORD", "CODE", "FIELD", "BATCH", "REPLAY", "RUN"];
            table::print(output, &head, &found.iter().map(row).collect::<Vec<_>>())?;
        }
    }
    if let Some(last) = found.last().filter(|_| more) {
        remark(&format!("there are more: --after {} goes on", last.observed_seq));
    }
    Ok(())
}

fn row(letter: &DeadLetterRow) -> Vec<String> {
    let optional = |text: Option<&str>| text.unwrap_or("-").to_owned();
    vec![
        letter.observed_seq.to_string(),
        format!("{:.0}", letter.recorded_at),
        letter.account_id.clone(),
        optional(letter.entity.map(|entity| entity.table())),
        optional(letter.source_id.as_deref()),
        letter.code.clone(),
        optional(letter.field.as_deref()),
        letter.batch_index.to_string(),
        letter.replay_requested_at.map_or_else(|| "-".to_owned(), |_| "asked".to_owned()),
        letter.workflow_id.clone(),
    ]
}

/// Everything but the payload.
fn described(letter: &DeadLetterRow) -> Value {
    json!({
        "observedSeq": letter.observed_seq,
        "recordedAt": letter.recorded_at,
        "account": letter.account_id,
        "entity": letter.entity.map(|entity| entity.table()),
        "record": letter.source_id,
        "code": letter.code,
        "field": letter.field,
        "run": letter.workflow_id,
        "batch": letter.batch_index,
        "replayRequestedAt": letter.replay_requested_at,
        "payloadForm": letter.payload_form,
    })
}

async fn show(
    whose: &Whose,
    observed_seq: i64,
    with_payload: bool,
    common: &Common,
    output: &mut dyn Write,
) -> anyhow::Result<()> {
    let store = open(&common.store).await?;
    known(store.as_ref(), whose).await?;
    let (all, before) = (LetterSelection::default(), Some(observed_seq.saturating_sub(1)));
    let found = store.dead_letters(&whose.tenant, &whose.connector, &all, before, 1).await?;
    let found = found.into_iter().find(|letter| letter.observed_seq == observed_seq);
    let letter = found.with_context(|| {
        format!("there is no dead letter {observed_seq}: it may be resolved; `gtm-sync dead-letters list` shows what there is")
    })?;
    let mut described = described(&letter);
    if with_payload {
        match payload::payload(&letter) {
            Ok(payload) => described["payload"] = payload,
            Err(why) => remark(&why),
        }
    }
    if common.output == Format::Json {
        return print_json(output, &described);
    }
    let payload = described.as_object_mut().and_then(|fields| fields.remove("payload"));
    let fields = described.as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows: Vec<_> = fields.map(|(name, value)| vec![name.clone(), text(value)]).collect();
    table::print(output, &["FIELD", "VALUE"], &rows)?;
    if let Some(payload) = payload {
        // serde_json escapes control characters itself.
        print_json(output, &payload)?;
    }
    Ok(())
}

async fn wish(
    verb: Verb,
    whose: &Whose,
    letters: &LetterSelection,
    common: &Common,
    output: &mut dyn Write,
) -> anyhow::Result<()> {
    let store = open(&common.store).await?;
    let account = known(store.as_ref(), whose).await?.account_id;
    let claim = store.tenant_claim(&whose.tenant).await?;
    let claim = claim.with_context(|| format!("no TenantSchedule holds tenant {}", whose.tenant))?;
    let Counted { all, without_id, former } = count(store.as_ref(), whose, letters, account.as_deref()).await?;
    remark(&format!("selects {all} dead letters now; run this to {} them:", verb.name()));
    if verb == Verb::Replay && without_id > 0 {
        remark(&format!("({without_id} of them have no id and cannot be read back: a full sync resolves those)"));
    }
    if verb == Verb::Replay && former > 0 {
        remark(&format!("({former} of them are of a former account and cannot be read back: discard those)"));
    }
    let token = format!("{}-{}", verb.name(), clock::now().strftime("%Y%m%dT%H%M%SZ"));
    let patch = kubectl::patch(verb, &token, letters);
    match common.output {
        Format::Json => print_json(output, &patch)?,
        Format::Table => {
            writeln!(output, "{}", kubectl::command(&claim.owner.namespace, whose.connector.as_str(), &patch))?;
            remark("where the Connector comes from Git, put spec.requests there instead");
        }
    }
    Ok(())
}

/// How many letters are selected.
#[derive(Debug, Default)]
struct Counted {
    /// All of them.
    all: usize,
    /// Those of the present account that have no id.
    without_id: usize,
    /// Those of a former account.
    former: usize,
}

async fn count(
    store: &dyn Store,
    whose: &Whose,
    letters: &LetterSelection,
    account: Option<&str>,
) -> anyhow::Result<Counted> {
    let (mut counted, mut after) = (Counted::default(), None);
    while counted.all < COUNTED {
        let page = store.dead_letters(&whose.tenant, &whose.connector, letters, after, COUNTED_AT_ONCE).await?;
        counted.all += page.len();
        for letter in &page {
            if account.is_some_and(|account| account != letter.account_id) {
                counted.former += 1;
            } else if letter.entity.is_none() || letter.source_id.is_none() {
                counted.without_id += 1;
            }
        }
        match page.last() {
            Some(last) if page.len() == COUNTED_AT_ONCE => after = Some(last.observed_seq),
            _ => break,
        }
    }
    Ok(counted)
}
