//! The watch cache of one kind, filled by hand: the real reflector store, and what `controller::watch` makes of an event.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use kube::{
    Resource,
    runtime::{
        reflector::{self, ObjectRef, store::Writer},
        watcher::Event,
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use crate::operator::{
    fleet::{Trigger, Watched},
    seen::Seen,
    world::Kind,
    world_fake::Object,
};

/// By what an object is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Changed,
    Deleted,
}

/// A watched kind.
pub(super) struct Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + 'static,
{
    writer: Writer<Watched<K>>,
    /// Changes before this one were listed; none is shown before the first list.
    since: usize,
    pub(super) listed: watch::Sender<bool>,
    seen: Seen<Watched<K>>,
    pub(super) triggered: mpsc::UnboundedReceiver<ObjectRef<Watched<K>>>,
    pub(super) population: Arc<AtomicU64>,
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + 'static,
{
    /// An empty one, as others read it, and where they ask for a reconcile.
    pub(super) fn new() -> (Self, reflector::Store<Watched<K>>, Trigger<K>) {
        let (store, writer) = reflector::store();
        let (trigger, triggered) = mpsc::unbounded_channel();
        let (since, listed) = (usize::MAX, watch::channel(false).0);
        (Self { writer, since, listed, seen: Seen::default(), triggered, population: Arc::default() }, store, trigger)
    }

    pub(super) fn is_listed(&self) -> bool {
        *self.listed.borrow()
    }

    /// Whether the watch shows the change of this number: not what a list had already.
    pub(super) fn tells(&self, number: usize) -> bool {
        number >= self.since
    }

    /// A list after so many changes shows what is there and tells nothing of what went; those that want a reconcile.
    pub(super) fn list(&mut self, objects: Vec<Object>, changes: usize) -> Vec<(Kind, String, String)> {
        self.since = changes;
        let kind = objects.first().map(|object| object.key.kind);
        self.take(Event::Init);
        for object in objects {
            self.take(Event::InitApply(serde_json::from_value(object.json()).expect("a guard reads all")));
        }
        let wanted = self.take(Event::InitDone);
        self.listed.send_replace(true);
        let place = |of: ObjectRef<Watched<K>>| Some((kind?, of.namespace.unwrap_or_default(), of.name));
        let mut wanted: Vec<_> = wanted.into_iter().filter_map(place).collect();
        wanted.sort();
        wanted
    }

    /// As `controller::watch`: whether the change wants a reconcile.
    pub(super) fn show(&mut self, object: &Object, told: Told) -> bool {
        let object: Watched<K> = serde_json::from_value(object.json()).expect("a guard reads all");
        let event = if told == Told::Deleted { Event::Delete(object) } else { Event::Apply(object) };
        !self.take(event).is_empty()
    }

    fn take(&mut self, event: Event<Watched<K>>) -> Vec<ObjectRef<Watched<K>>> {
        self.writer.apply_watcher_event(&event);
        let change = self.seen.take(&event);
        self.population.fetch_add(u64::from(change.population), Ordering::Relaxed);
        change.objects
    }
}
