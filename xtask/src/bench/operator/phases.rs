//! What is measured of every operator in the same way: a cold start with edits in its middle, a restart, edits at rest, an
//! idle time. Each phase returns its figures; none judges them.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    Bench, Size,
    contender::{Operators, Running},
    stage::{Stage, Tally},
    tick,
    watched::clock,
};
use crate::{
    bench::{figures::Figure, history},
    console,
};

/// Between two looks at the servers' counters.
const LOOK: Duration = Duration::from_secs(4);
/// Looks in a row without a write, after which an operator is at rest.
const QUIET_LOOKS: u32 = 2;
/// How long an operator may write on after all is Ready.
const REST: Duration = Duration::from_secs(240);
/// How long one edit may take, in the storm and at rest.
const EDIT: Duration = Duration::from_secs(120);
/// In minutes: no tick of an edited schedule falls into the benchmark.
const HALF_A_DAY: f64 = 720.0;
/// Edits of each kind at rest.
const EDITS: usize = 5;
/// After the last reconcile of a restart: late writes must not be missed.
const AFTERGLOW: Duration = Duration::from_secs(15);

/// From the start of an operator until all objects are Ready, and then until it rests.
#[derive(Debug, Clone, Default)]
pub(super) struct Cold {
    /// Seconds until all were Ready.
    pub(super) seconds: f64,
    /// CPU-seconds of the operator until then.
    pub(super) cpu: f64,
    /// What the servers did until then.
    pub(super) tally: Tally,
    /// The product's writes until then: applied, observed.
    pub(super) parts: [f64; 2],
    /// Seconds from an edit to its status, of a TenantSchedule and of a Connector, while half of the fleet waits.
    pub(super) edits: [f64; 2],
    /// Seconds from the edit of that TenantSchedule to its schedule's change in Temporal.
    pub(super) schedule_edit: Option<f64>,
    /// Resident memory when all were Ready, and the peak, in MiB.
    pub(super) memory: [f64; 2],
}

/// A second life on the same state.
#[derive(Debug, Clone, Default)]
pub(super) struct Restart {
    /// Seconds until every object was looked at again.
    pub(super) seconds: f64,
    /// What the servers did until some time after that.
    pub(super) tally: Tally,
    /// CPU-seconds of the operator.
    pub(super) cpu: f64,
}

/// Edits of an operator that has nothing else to do; seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Edits {
    pub(super) tenant: Figure,
    pub(super) connector: Figure,
    pub(super) schedule: Figure,
}

/// Nothing happens.
#[derive(Debug, Clone, Default)]
pub(super) struct Idle {
    pub(super) seconds: f64,
    pub(super) tally: Tally,
    pub(super) cpu: f64,
    /// Resident memory, and the peak of this life.
    pub(super) memory: [f64; 2],
}

/// Starts the operator on a fleet it has never seen.
pub(super) async fn cold(
    bench: &Bench<'_>,
    stage: &mut Stage,
    operators: &Operators,
) -> anyhow::Result<(Cold, Running)> {
    let before = stage.tally().await?;
    let start = clock();
    let mut running = operators.start(bench, stage)?;
    let half = bench.size.objects() / 2;
    stage.watched.ready(half, bench.patience).await?;
    running.check()?;
    let tenant = Size::tenant(0);
    let edited = stage.edit(true, &tenant, tenant_edit(0)).await?;
    let connector = bench.size.connector(0);
    let connector_edited = stage.edit(false, &connector, connector_edit(0)).await?;
    let end = stage.watched.ready(bench.size.objects(), bench.patience).await?;
    let at_ready = stage.tally().await?.since(&before);
    let mut cold = Cold {
        seconds: end - start,
        cpu: running.cpu(),
        tally: at_ready,
        parts: running.status_writes().await.unwrap_or_default(),
        memory: running.memory(),
        ..Cold::default()
    };
    cold.edits = [
        stage.watched.caught_up(true, &tenant, edited.1, EDIT).await? - edited.0,
        stage.watched.caught_up(false, &connector, connector_edited.1, EDIT).await? - connector_edited.0,
    ];
    cold.schedule_edit = schedule_changed(stage, &tenant, edited.0).await;
    Ok((cold, running))
}

/// Waits until the operator writes nothing more, the Lease aside; returns the seconds that took.
pub(super) async fn rest(stage: &Stage) -> anyhow::Result<f64> {
    let start = Instant::now();
    let (mut last, mut quiet) = (stage.tally().await?.all_written(), 0);
    while quiet < QUIET_LOOKS && start.elapsed() < REST {
        sleep(LOOK).await;
        let now = stage.tally().await?.all_written();
        quiet = if now > last { 0 } else { quiet + 1 };
        last = now;
    }
    Ok((start.elapsed() - LOOK * quiet).as_secs_f64())
}

/// Ends the operator and starts it again.
pub(super) async fn restart(
    bench: &Bench<'_>,
    stage: &mut Stage,
    operators: &Operators,
    running: Running,
) -> anyhow::Result<(Restart, Running)> {
    drop(running);
    let before = stage.tally().await?;
    let start = Instant::now();
    let mut running = operators.start(bench, stage)?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let wanted = [bench.size.tenants as f64, bench.size.connectors as f64];
    loop {
        let seen = running.reconciles().await.unwrap_or_default();
        if seen.iter().zip(wanted).all(|(seen, wanted)| *seen >= wanted) {
            break;
        }
        running.check()?;
        anyhow::ensure!(start.elapsed() < bench.patience, "a restart came as far as {seen:?} of {wanted:?} objects");
        sleep(Duration::from_millis(200)).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = running.cpu();
    sleep(AFTERGLOW).await;
    Ok((Restart { seconds, cpu, tally: stage.tally().await?.since(&before) }, running))
}

/// Edits objects one after another, each in its turn.
pub(super) async fn edits(bench: &Bench<'_>, stage: &mut Stage) -> anyhow::Result<Edits> {
    let (mut tenants, mut connectors, mut schedules) = (vec![], vec![], vec![]);
    for number in 1..=EDITS.min(bench.size.tenants - 1) {
        let name = Size::tenant(number);
        let (at, generation) = stage.edit(true, &name, tenant_edit(number)).await?;
        tenants.push(stage.watched.caught_up(true, &name, generation, EDIT).await? - at);
        schedules.extend(schedule_changed(stage, &name, at).await);
        let name = bench.size.connector(number);
        let (at, generation) = stage.edit(false, &name, connector_edit(number)).await?;
        connectors.push(stage.watched.caught_up(false, &name, generation, EDIT).await? - at);
    }
    Ok(Edits { tenant: Figure::of(tenants), connector: Figure::of(connectors), schedule: Figure::of(schedules) })
}

/// Lets time pass.
pub(super) async fn idle(stage: &Stage, running: &mut Running, seconds: u64) -> anyhow::Result<Idle> {
    let (before, cpu, start) = (stage.tally().await?, running.cpu(), Instant::now());
    console::line(format_args!("  ...  idle for {seconds} s"));
    sleep(Duration::from_secs(seconds)).await;
    running.check()?;
    Ok(Idle {
        seconds: start.elapsed().as_secs_f64(),
        cpu: running.cpu() - cpu,
        tally: stage.tally().await?.since(&before),
        memory: running.memory(),
    })
}

/// Other minutes, and no tick soon.
fn tenant_edit(number: usize) -> serde_json::Value {
    let minute = HALF_A_DAY.mul_add(60.0, clock()) + 60.0 * f64::from(u32::try_from(number).unwrap_or(0));
    json!({"schedules": [tick::cron(minute)]})
}

fn connector_edit(number: usize) -> serde_json::Value {
    json!({"sync": {"batchSize": 4_000 + number}})
}

/// Seconds from a moment to the last change of a tenant's schedule, by Temporal's clock.
async fn schedule_changed(stage: &Stage, tenant: &str, since: f64) -> Option<f64> {
    let id = format!("scheduled-sync-{}", tenant.split('/').next()?);
    let described = stage.temporal(&["schedule", "describe", "--schedule-id", &id]).await.ok()?;
    let at = history::seconds(described["info"]["updateTime"].as_str()?).ok()?;
    Some(at - since).filter(|it| *it > 0.0)
}
