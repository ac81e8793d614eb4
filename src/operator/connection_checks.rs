//! Starts the checks of connections that reconciles ask for, in a budget of their own: a fleet that is new is Ready before all of
//! its connections are checked, and no check delays an edit. Decides nothing: `connector::check` does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;

use super::{
    context::Context,
    outcome::{Again, Outcome},
    world::{ObjectKey, Request},
};
use crate::temporal::{
    Pacer,
    pacer::{Urgency, as_urgent_as},
};

/// Checks started a second: a fleet of 10,000 is checked within four minutes, and a quarter of the requests that Temporal is
/// asked by default goes into it.
const RATE: u32 = 50;
/// Checks started at once after a pause: nobody with a hundred connectors waits.
const BURST: u32 = 100;

/// A check to be started.
#[derive(Debug)]
pub struct Check {
    pub(super) key: ObjectKey,
    request: Request,
}

/// Where to ask for checks.
#[derive(Debug, Clone)]
pub struct Checks {
    queue: mpsc::UnboundedSender<Check>,
    waiting: Arc<AtomicU32>,
}

impl Checks {
    /// With the other end of its queue, for `keep`.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Check>) {
        let (queue, asked) = mpsc::unbounded_channel();
        (Self { queue, waiting: Arc::default() }, asked)
    }

    /// Asks for a check of this object's connection.
    pub fn ask(&self, key: ObjectKey, request: Request) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // A closed queue means that the process is about to end; the next one asks again.
        let _closed = self.queue.send(Check { key, request }).is_err();
    }

    /// One is on its way.
    pub(super) fn taken(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// How long one that is asked for now will wait, about.
    #[must_use]
    pub fn wait(&self) -> Duration {
        Duration::from_secs(u64::from(self.waiting.load(Ordering::Relaxed) / RATE))
    }
}

/// Runs until the process ends. Not watched by `/livez`: it waits for work as long as there is none, and each call for its deadline.
pub async fn keep(asked: mpsc::UnboundedReceiver<Check>, context: Arc<Context>) {
    let budget = Pacer::new(RATE, BURST);
    // In order, each in its turn; one that hangs or failed holds up no other.
    let in_turn = stream::unfold((asked, budget), async |(mut asked, budget)| {
        let check = asked.recv().await?;
        budget.turn().await;
        Some((check, (asked, budget)))
    });
    in_turn
        .for_each_concurrent(None, async |check| {
            context.checks.taken();
            let key = check.key.clone();
            tokio::time::sleep(start(check, &context).await).await;
            context.fleet.trigger(&key);
        })
        .await;
}

/// Starts it; after how long its Connector is looked at again. One that could not be started is asked for again then.
pub(super) async fn start(Check { key, request }: Check, context: &Context) -> Duration {
    let Err(error) = as_urgent_as(Urgency::Look, context.world.call(request)).await else { return Duration::ZERO };
    tracing::debug!(object = %key, %error, "its connection is checked later");
    context.memory.unchecked(&key);
    match Outcome::failed(error).again {
        Again::BackOff(least) => context.back_off.failed(&key, least),
        Again::After(_) | Again::Never => Duration::ZERO,
    }
}
