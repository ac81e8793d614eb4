//! A group of runs on one set of servers that are killed again and again, beside the same lives undisturbed.
//!
//! A run here is the life of one connector: a first load, an increment, and an increment after deletions and merges. Ten
//! lives of a group share the kills, because a lost worker is only noticed after the 30 s of the contract's heartbeat
//! timeout: alone, each would mostly wait. Every kill finds each of them at another place: they differ in records, batch
//! size, start and work. The same account is read by a calm installation too, which nobody kills; its rows are what the
//! disturbed ones must equal.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures::future::join_all;
use gtm_sync::{
    contract::workflows::SyncStats,
    temporal::client::{CloseStatus, IdReuse, WorkflowState},
};
use serde::Serialize;
use serde_json::json;
use simulators::hubspot::{Edits, Kind, Properties, Simulator, StateHandle};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    connect, crm,
    equal::{Compared, compare, try_client},
    kills::{self, Hits, Processes},
    verdict,
};
use crate::support::{
    databases::fresh_database,
    random::Random,
    servers::{PostgresServer, TemporalServer},
    stack::{Stack, Worker},
};

/// Longer than any chain of heartbeat timeouts that the plans lead to.
const AT_REST: Duration = Duration::from_secs(420);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Beyond visibility lag and lookback: what changed before is old news to the next increment.
const HOUR: Duration = Duration::from_secs(3_600);
/// What the rounds are: the first load (edits meanwhile), the increment that brings those edits, and one that brings
/// deletions and merges.
const ROUNDS: usize = 3;

/// One life, as it is reported.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// `group/run`: the group's seed reproduces it.
    seed: String,
    records: u32,
    batch_size: u32,
    started_by: &'static str,
    kills: Hits,
    worker_left_by_itself: u32,
    seconds: u64,
    rows: usize,
    dead_letters: usize,
    processed: u64,
    /// What is wrong; empty when nothing is.
    pub(super) wrong: Vec<String>,
}

/// A life's account at the source, and who edits it.
struct Account {
    state: StateHandle,
    poisoned: Vec<(Kind, String)>,
    random: Random,
}

impl Account {
    /// Values that the source has and no table can: two kinds that the connector finds out, and one that only the
    /// database refuses.
    fn poison(&mut self) {
        for (kind, property, value) in [
            (Kind::Contacts, "firstname", "nul \0 byte"),
            (Kind::Deals, "amount", "not a number"),
            (Kind::Deals, "closedate", "-000042-06-01T00:00:00Z"),
        ] {
            let id = self.random.pick(&self.state.live_ids(kind)).clone();
            let values = Properties::from([(property.to_owned(), Some(value.to_owned()))]);
            assert!(self.state.update(kind, &id, values), "live");
            self.poisoned.push((kind, id));
        }
    }

    /// Edits while it is being read: changes and new records. Deletions would make the tombstones' last values depend on
    /// the moment; they come at rest.
    fn edit_meanwhile(&mut self) {
        for (kind, property) in [(Kind::Contacts, "lastname"), (Kind::Companies, "name"), (Kind::Deals, "dealname")] {
            let id = self.random.pick(&self.state.live_ids(kind)).clone();
            let value = format!("edited {}", self.random.within(0..=999_999));
            let values = Properties::from([(property.to_owned(), Some(value))]);
            if self.random.within(0..=3) == 0 {
                self.state.create(kind, values);
            } else if !self.poisoned.contains(&(kind, id.clone())) {
                self.state.update(kind, &id, values);
            }
        }
    }

    fn edit_at_rest(&mut self) {
        let edits = Edits { seed: self.random.next(), create: 60, update: 300, archive: 60, merge: 4 };
        self.state.edit_random(edits);
        self.poison();
    }
}

/// One connector.
struct Life {
    seed: String,
    tenant: String,
    crm: Simulator,
    records: u32,
    batch_size: u32,
    by_tick: bool,
    processed: u64,
    wrong: Vec<String>,
}

impl Life {
    async fn begin(group: u64, number: usize) -> (Self, Account) {
        let mut random = Random::of(&[group, number as u64]);
        let records = u32::try_from(random.within(2_000..=5_000)).expect("small");
        let crm = crm(random.next(), records).await;
        let life = Self {
            seed: format!("{group}/{number}"),
            tenant: format!("tenant-{number}"),
            records,
            batch_size: *random.pick(&[100, 250, 500, 1_000]),
            by_tick: random.within(0..=1) == 1,
            processed: 0,
            wrong: Vec::new(),
            crm,
        };
        let mut account = Account { state: life.crm.state(), poisoned: Vec::new(), random };
        account.poison();
        account.state.advance_clock(HOUR);
        (life, account)
    }

    /// Runs one round's sync to its end, on servers that may be away at any moment.
    async fn sync(&self, stack: &Stack, round: usize) -> Result<SyncStats, String> {
        let id = format!("{}-{}-round-{round}", if self.by_tick { "tick" } else { "sync" }, self.tenant);
        let (workflow, input) = if self.by_tick {
            ("scheduledSyncWorkflow", json!({"tenantId": self.tenant}))
        } else {
            let full = round == 0;
            ("connectorSyncWorkflow", json!({"tenantId": self.tenant, "connectorId": "hubspot", "fullSync": full}))
        };
        let end = Instant::now() + AT_REST;
        let closed = loop {
            match stack.temporal.workflow_state(&id).await {
                Ok(WorkflowState::Closed(how)) => break how,
                Ok(WorkflowState::NotFound) => {
                    // An answer that was lost is asked for again; the id starts once.
                    drop(stack.temporal.start_workflow(workflow, &id, &input, IdReuse::Once).await);
                }
                Ok(WorkflowState::Running) | Err(_) => sleep(LOOK_AGAIN).await,
            }
            if Instant::now() > end {
                return Err(format!("round {round}: {id} was not at rest within {AT_REST:?}\n{}", stack.log_tail()));
            }
        };
        let (outcome, stats) = self.last_run(&stack.database_url).await?;
        if closed != CloseStatus::Completed || outcome != "complete" {
            return Err(format!("round {round}: {id} ended as {closed:?}, its run as {outcome}"));
        }
        let parts = stats.records_written + stats.records_unchanged + stats.errors_count;
        if stats.records_processed != parts {
            return Err(format!("round {round}: the counts do not add up: {stats:?}"));
        }
        Ok(stats)
    }

    async fn last_run(&self, url: &str) -> Result<(String, SyncStats), String> {
        const LAST: &str =
            "SELECT coalesce(outcome, 'unfinished') || coalesce(': ' || error, ''), stats::text FROM gtm.run
            WHERE tenant_id = $1 ORDER BY run_no DESC LIMIT 1";
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let asked = async { try_client(url).await?.query_opt(LAST, &[&self.tenant]).await.ok() };
            match asked.await {
                Some(Some(row)) => {
                    let stats = serde_json::from_str(row.get(1)).map_err(|error| error.to_string())?;
                    return Ok((row.get(0), stats));
                }
                Some(None) => return Err("no run was ever recorded".to_owned()),
                None if Instant::now() > end => return Err("the database does not come back".to_owned()),
                None => sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Notes what a round gave, disturbed and calm.
    fn judge(&mut self, round: usize, disturbed: Result<SyncStats, String>, calm: Result<SyncStats, String>) {
        let (disturbed, calm) = match (disturbed, calm) {
            (Ok(disturbed), Ok(calm)) => (disturbed, calm),
            (disturbed, calm) => {
                self.wrong.extend(disturbed.err());
                self.wrong.extend(calm.err().map(|error| format!("undisturbed {error}")));
                return;
            }
        };
        self.processed += disturbed.records_processed;
        let counts = |stats: SyncStats| match round {
            // Which of the edits made meanwhile a first load sees depends on the moment.
            0 => (0, 0, stats.errors_count),
            1 => (stats.records_processed, 0, stats.errors_count),
            _ => (stats.records_processed, stats.records_written, stats.errors_count),
        };
        if counts(disturbed) != counts(calm) {
            self.wrong.push(format!("round {round}: counted {disturbed:?}, undisturbed {calm:?}"));
        }
    }

    /// The last judgement: the checker, equality, and nothing left behind.
    async fn close(&self, stack: &Stack, calm: &Stack, kills: Hits, left: u32, seconds: u64) -> Report {
        let mut wrong = self.wrong.clone();
        let report = verdict(&stack.database_url, &self.tenant, &self.crm).await;
        if !report.is_clean() {
            wrong.push(report.to_string());
        }
        let Compared { rows, dead_letters, differences } =
            compare(&stack.database_url, &calm.database_url, &self.tenant).await;
        wrong.extend(differences);
        if dead_letters == 0 {
            wrong.push("poisoned records left no dead letter".to_owned());
        }
        const LEFT: &str = "SELECT (SELECT count(*) FROM gtm.staged_batch WHERE tenant_id = $1)
            + (SELECT count(*) FROM gtm.sync_state WHERE tenant_id = $1 AND (epoch IS NOT NULL OR load IS NOT NULL))";
        let client = try_client(&stack.database_url).await.expect("at rest");
        let unfinished: i64 = client.query_one(LEFT, &[&self.tenant]).await.expect("counts").get(0);
        if unfinished != 0 {
            wrong.push(format!("{unfinished} staged batches or leases are left at rest"));
        }
        Report {
            seed: self.seed.clone(),
            records: self.records,
            batch_size: self.batch_size,
            started_by: if self.by_tick { "tick" } else { "start" },
            kills,
            worker_left_by_itself: left,
            seconds,
            rows,
            dead_letters,
            processed: self.processed,
            wrong,
        }
    }
}

/// Runs a group of lives under the kills of its seed.
pub(super) async fn run(seed: u64, count: usize) -> Vec<Report> {
    let began = Instant::now();
    let mut group = Group::begin(seed, count).await;
    for round in 0..ROUNDS {
        group.prepare(round);
        group.round(round).await;
    }
    group.close(began).await
}

struct Group {
    lives: Vec<Life>,
    accounts: Vec<Account>,
    hits: Vec<Hits>,
    left: u32,
    random: Random,
    stack: Stack,
    processes: Processes,
    calm: Stack,
    _calm_worker: Worker,
}

impl Group {
    async fn begin(seed: u64, count: usize) -> Self {
        let begun = join_all((0..count).map(|number| Life::begin(seed, number))).await;
        let (lives, accounts): (Vec<_>, Vec<_>) = begun.into_iter().unzip();
        let (postgres, temporal) = tokio::join!(PostgresServer::start(), TemporalServer::start());
        let url = fresh_database(&postgres.url).await;
        let stack = Stack::at(&temporal.address, &url, tempfile::tempdir().expect("directory")).await;
        let calm = Stack::on_postgres().await;
        let (worker, calm_worker) = (stack.worker(), calm.worker());
        for stack in [&stack, &calm] {
            join_all(lives.iter().map(|life| connect(stack, &life.tenant, &life.crm, life.batch_size))).await;
        }
        Self {
            hits: vec![Hits::default(); lives.len()],
            lives,
            accounts,
            left: 0,
            random: Random::of(&[seed]),
            stack,
            processes: Processes { postgres, temporal, worker },
            calm,
            _calm_worker: calm_worker,
        }
    }

    /// What happens to the accounts between two rounds.
    fn prepare(&mut self, round: usize) {
        for account in self.accounts.iter_mut().filter(|_| round > 0) {
            account.state.advance_clock(HOUR);
            if round == ROUNDS - 1 {
                account.edit_at_rest();
                account.state.advance_clock(HOUR);
            }
        }
    }

    /// One sync of every life under one plan of kills, and the same undisturbed once the plan is over: the calm ones
    /// then see the accounts as all edits left them.
    async fn round(&mut self, round: usize) {
        let plan = kills::plan(&mut self.random);
        let delays: Vec<_> = self.lives.iter().map(|_| Duration::from_millis(self.random.within(0..=3_000))).collect();
        let at_work: Vec<_> = self.lives.iter().map(|_| AtomicBool::new(false)).collect();
        let (over, mut seen) = watch::channel(false);
        let Self { lives, accounts, hits, left, stack, processes, calm, .. } = self;
        let killing = async {
            kills::execute(&plan, processes, stack, &at_work, hits).await;
            over.send_replace(true);
            loop {
                *left += u32::from(processes.replace_worker_that_left(stack));
                sleep(LOOK_AGAIN).await;
            }
        };
        let disturbed = join_all(lives.iter().zip(&delays).zip(&at_work).map(|((life, delay), at_work)| async {
            sleep(*delay).await;
            at_work.store(true, Ordering::SeqCst);
            let ended = life.sync(stack, round).await;
            at_work.store(false, Ordering::SeqCst);
            ended
        }));
        let undisturbed = async {
            while !*seen.borrow_and_update() {
                tokio::select! {
                    changed = seen.changed() => changed.expect("the sender lives as long"),
                    () = sleep(LOOK_AGAIN), if round == 0 => accounts.iter_mut().for_each(Account::edit_meanwhile),
                }
            }
            join_all(lives.iter().map(|life| life.sync(calm, round))).await
        };
        let (disturbed, undisturbed) = tokio::select! {
            ended = async { tokio::join!(disturbed, undisturbed) } => ended,
            () = killing => unreachable!("it goes on looking after the worker"),
        };
        for ((life, disturbed), undisturbed) in self.lives.iter_mut().zip(disturbed).zip(undisturbed) {
            life.judge(round, disturbed, undisturbed);
        }
    }

    async fn close(self, began: Instant) -> Vec<Report> {
        let Self { lives, hits, left, stack, calm, .. } = &self;
        let mut reports = Vec::new();
        for (life, hits) in lives.iter().zip(hits) {
            reports.push(life.close(stack, calm, *hits, *left, began.elapsed().as_secs()).await);
        }
        reports
    }
}
