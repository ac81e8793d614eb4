//! Ends the worker after so many activities, as SIGTERM would: the SDK keeps a little memory of each for good (docs/workers.md
//! has the numbers). Whoever started the process starts it again.

use std::sync::atomic::{AtomicU64, Ordering};

use temporalio_sdk::interceptors::{ActivityInboundInterceptor, ExecuteActivityInput, ExecuteActivityOutput, Next};
use tokio::sync::watch;

/// Counts activities down.
pub(super) struct Recycling {
    left: AtomicU64,
    drain: watch::Sender<bool>,
}

impl Recycling {
    /// Drains after so many activities; 0 = never.
    pub(super) fn after(activities: u64, drain: watch::Sender<bool>) -> Self {
        let left = if activities == 0 { u64::MAX } else { activities };
        Self { left: AtomicU64::new(left), drain }
    }
}

impl ActivityInboundInterceptor for Recycling {
    fn execute_activity<'a>(
        &'a self,
        input: ExecuteActivityInput,
        next: Next<'a, ExecuteActivityInput, ExecuteActivityOutput<'a>>,
    ) -> ExecuteActivityOutput<'a> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            tracing::info!("this process has done its number of activities; it ends to give its memory back");
            self.drain.send_replace(true);
        }
        next.run(input)
    }
}
