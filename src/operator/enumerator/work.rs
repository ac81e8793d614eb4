//! What a process is at: futures that are polled by hand, from one request to the next.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::operator::{
    census::Census,
    connector::remove::Gone,
    run_status::Shown,
    world::Kind,
    world_fake::{FakeWorld, block_on},
};

/// What goes on inside, and what its end means.
pub(super) enum Work {
    Reconcile((Kind, String, String), BoxFuture<'static, Option<Duration>>),
    Follow(Gone, u32, BoxFuture<'static, bool>),
    Sweep(BoxFuture<'static, bool>),
    Census(BoxFuture<'static, Census>),
    Round(BoxFuture<'static, Shown>),
}

/// How something at work ended.
pub(super) enum Ended {
    Rest(Option<Duration>),
    Followed(bool),
    Swept(bool),
    Counted(Box<Census>),
    Shown(Box<Shown>),
}

/// Polls until the end; `None` = it stopped before a request, or will never go on.
pub(super) fn until<T>(future: &mut BoxFuture<'static, T>, world: &FakeWorld) -> Option<T> {
    block_on(std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(end) => std::task::Poll::Ready(Some(end)),
        std::task::Poll::Pending if world.has_stopped() || world.has_died() => std::task::Poll::Ready(None),
        std::task::Poll::Pending => std::task::Poll::Pending,
    }))
}
