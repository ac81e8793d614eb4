//! The part of the workers, played in SQL: what their activities leave in the store when a connection was checked, when a run
//! begins, commits a batch and ends. Real workers for a thousand syncs would leave no core to the operator that is measured.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, interval};
use tokio_postgres::Client;

use super::watched::clock;

/// A worker commits a batch every so often, in each of its runs …
const BETWEEN_COMMITS: Duration = Duration::from_secs(2);
/// … and the runs do so one slice after another.
const SLICES: i64 = 10;
/// Records of a batch.
const BATCH: i64 = 1_000;
/// Connections a second that are refused, or accepted again.
const TURNS_A_SECOND: i64 = 10;

/// As `checkConnectionWorkflow` records a good credential.
const CONNECT: &str = "UPDATE gtm.connector SET connection_status = 'connected', connection_reason = '',
        connection_checked_at = now(), account_id = '1', updated_at = clock_timestamp()
    WHERE connection_status <> 'connected' AND removed_at IS NULL";
/// Numbers the connectors that take part.
const CHOOSE: &str = "CREATE TABLE bench_run AS
    SELECT row_number() OVER (ORDER BY connector_id) - 1 AS number, tenant_id, connector_id, namespace, uid,
        'sync-' || tenant_id || '-' || connector_id || '-bench' AS workflow_id
    FROM gtm.connector WHERE removed_at IS NULL ORDER BY connector_id LIMIT $1";
/// As `authenticate` takes the lease.
const BEGIN_STATE: &str = "INSERT INTO gtm.sync_state (tenant_id, connector_id, account_id, epoch, workflow_id, connector_uid,
        run_no, next_seq, cursor, generation, dead_letters, updated_at)
    SELECT tenant_id, connector_id, '1', md5(workflow_id), workflow_id, uid, 1, 0, '{\"streams\": {}}', 0, 0, clock_timestamp()
    FROM bench_run";
const BEGIN_RUN: &str = "INSERT INTO gtm.run (tenant_id, connector_id, workflow_id, run_no, full_sync, first_seq, started_at,
        entity_type, stats, failed_streams)
    SELECT tenant_id, connector_id, workflow_id, 1, false, 0, now(), 'contacts', '{\"batches\": 0, \"recordsProcessed\": 0,
        \"recordsWritten\": 0, \"recordsUnchanged\": 0, \"errorsCount\": 0, \"failedBatches\": 0}', '[]'
    FROM bench_run";
/// As `writeRecords` ends a batch.
const COUNT: &str = "UPDATE gtm.run AS r SET stats = r.stats || jsonb_build_object('batches', $3::bigint / 1000,
        'recordsProcessed', $3::bigint, 'recordsWritten', $3::bigint)
    FROM bench_run AS b WHERE b.number % $1 = $2
        AND r.tenant_id = b.tenant_id AND r.connector_id = b.connector_id AND r.workflow_id = b.workflow_id";
const FENCE: &str = "UPDATE gtm.sync_state AS s SET next_seq = s.next_seq + 1, updated_at = clock_timestamp()
    FROM bench_run AS b WHERE b.number % $1 = $2
        AND s.tenant_id = b.tenant_id AND s.connector_id = b.connector_id";
/// As a check records a refused credential, and the one after it a good one.
const TURN: &str =
    "UPDATE gtm.connector AS c SET connection_status = $3, connection_checked_at = now(), connection_reason = '',
        updated_at = clock_timestamp()
    FROM bench_run AS b WHERE b.number >= $1 AND b.number < $2
        AND c.tenant_id = b.tenant_id AND c.connector_id = b.connector_id
    RETURNING c.namespace || '/' || c.connector_id";
/// As `updateSyncState` ends a run.
const END_RUN: &str = "UPDATE gtm.run AS r SET finished_at = now(), outcome = 'complete'
    FROM bench_run AS b WHERE r.tenant_id = b.tenant_id AND r.connector_id = b.connector_id
        AND r.workflow_id = b.workflow_id";
const END_STATE: &str = "UPDATE gtm.sync_state AS s SET epoch = NULL, workflow_id = NULL, last_success_at = now(),
        updated_at = clock_timestamp()
    FROM bench_run AS b WHERE s.tenant_id = b.tenant_id AND s.connector_id = b.connector_id";

/// A change of a condition that was committed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn {
    /// `namespace/name`.
    pub(super) name: String,
    /// `Connected` must become this.
    pub(super) connected: &'static str,
    /// When the commit was answered.
    pub(super) at: f64,
}

/// A count that was committed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Count {
    /// Records processed so far.
    pub(super) processed: i64,
    /// When the commit was answered.
    pub(super) at: f64,
}

/// What was committed while the runs were at work.
#[derive(Debug, Clone, Default)]
pub(super) struct Committed {
    pub(super) turns: Vec<Turn>,
    /// Of each slice of runs.
    pub(super) counts: Vec<Vec<Count>>,
    /// Which slice a run, by `namespace/name`, belongs to.
    pub(super) slice_of: Vec<(String, usize)>,
}

/// Every connection that was waiting for its check turns out to be good.
pub(super) async fn connect_all(store: &Client) -> anyhow::Result<u64> {
    store.execute(CONNECT, &[]).await.context("could not connect the connectors")
}

/// So many runs begin, commit batches all at once for some time, and end; now and then a connection is refused.
pub(super) async fn sync(store: &mut Client, runs: usize, lasts: Duration) -> anyhow::Result<Committed> {
    let wanted = i64::try_from(runs)?;
    let begun = store.transaction().await?;
    begun.execute(CHOOSE, &[&wanted]).await?;
    begun.execute(BEGIN_STATE, &[]).await?;
    begun.execute(BEGIN_RUN, &[]).await.context("could not begin runs")?;
    begun.commit().await?;
    let rows = store.query("SELECT namespace || '/' || connector_id, number FROM bench_run", &[]).await?;
    ensure!(rows.len() == runs, "{} of {runs} runs began", rows.len());
    let mut committed = Committed { counts: vec![vec![]; usize::try_from(SLICES)?], ..Committed::default() };
    for row in rows {
        let slice = usize::try_from(row.try_get::<_, i64>(1)? % SLICES)?;
        committed.slice_of.push((row.try_get(0)?, slice));
    }
    let mut slots = interval(BETWEEN_COMMITS / u32::try_from(SLICES)?);
    let start = Instant::now();
    let mut turned = 0;
    for slot in 0.. {
        slots.tick().await;
        if start.elapsed() > lasts {
            break;
        }
        commit(store, slot, &mut committed).await?;
        let due = i64::try_from(start.elapsed().as_secs())? * TURNS_A_SECOND;
        if due > turned {
            turn(store, turned, due, wanted, &mut committed).await?;
            turned = due;
        }
    }
    Ok(committed)
}

/// The runs come to their end, and refused connections are good again.
pub(super) async fn end(store: &mut Client) -> anyhow::Result<()> {
    let ended = store.transaction().await?;
    ended.execute(CONNECT, &[]).await?;
    ended.execute(END_RUN, &[]).await?;
    ended.execute(END_STATE, &[]).await?;
    ended.commit().await.context("could not end runs")
}

async fn commit(store: &mut Client, slot: i64, committed: &mut Committed) -> anyhow::Result<()> {
    let (slice, processed) = (slot % SLICES, (slot / SLICES + 1) * BATCH);
    let batch = store.transaction().await?;
    batch.execute(COUNT, &[&SLICES, &slice, &processed]).await?;
    batch.execute(FENCE, &[&SLICES, &slice]).await?;
    batch.commit().await?;
    committed.counts[usize::try_from(slice)?].push(Count { processed, at: clock() });
    Ok(())
}

/// Connections `from..to`, counted on and on over all runs: refused in every other round, accepted in the next.
async fn turn(store: &Client, from: i64, to: i64, runs: i64, committed: &mut Committed) -> anyhow::Result<()> {
    let refused = (from / runs) % 2 == 0;
    let (status, connected) = if refused { ("disconnected", "False") } else { ("connected", "True") };
    let rows = store.query(TURN, &[&(from % runs), &(from % runs + to - from), &status]).await?;
    let at = clock();
    for row in rows {
        committed.turns.push(Turn { name: row.try_get(0)?, connected, at });
    }
    Ok(())
}
