//! What a process may do next, and what it is at: futures that are polled by hand, from one request to the next.

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::SignedDuration;

use crate::operator::{
    census::Census,
    connector::remove::Gone,
    run_status::Shown,
    sweep::Missing,
    world::{Kind, ObjectKey},
    world_fake::{FakeWorld, block_on},
};

/// What happens to one watch event, by its number since the servers began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delay {
    /// It comes late: until then the cache is one version behind.
    Stale(SignedDuration),
    /// It never comes: only a list brings what it told.
    Missed,
}

/// What a process may do next. The order is that of an undisturbed run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The watch shows the next change.
    Watch,
    /// A kind is listed, or listed anew.
    List(Kind),
    /// An object is reconciled.
    Reconcile(Kind, String, String),
    /// A deletion is followed.
    Follow(usize),
    /// A check of a connection is started.
    Check(usize),
    /// Deletions that nobody saw are looked for.
    Sweep,
    /// All that stands in Temporal is looked at.
    Census,
    /// Observed status is written.
    Round,
}

/// What goes on inside, and what its end means.
pub(super) enum Work {
    Reconcile((Kind, String, String), BoxFuture<'static, Option<Duration>>),
    Follow(Gone, u32, BoxFuture<'static, bool>),
    Check(ObjectKey, BoxFuture<'static, Duration>),
    Sweep(BoxFuture<'static, (Missing, bool)>),
    Census(BoxFuture<'static, Census>),
    Round(BoxFuture<'static, Shown>),
}

/// How something at work ended.
pub(super) enum Ended {
    Rest(Option<Duration>),
    Followed(bool),
    Checked(Duration),
    Swept(Missing, bool),
    Counted(Box<Census>),
    Shown(Box<Shown>),
}

/// Polls until the end; `None` = it stopped before a request, or will never go on, or, where it `waits`, not yet.
pub(super) fn until<T>(future: &mut BoxFuture<'static, T>, world: &FakeWorld, waits: bool) -> Option<T> {
    block_on(std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(end) => std::task::Poll::Ready(Some(end)),
        std::task::Poll::Pending if waits || world.has_stopped() || world.has_died() => std::task::Poll::Ready(None),
        std::task::Poll::Pending => std::task::Poll::Pending,
    }))
}
