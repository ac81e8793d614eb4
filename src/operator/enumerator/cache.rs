//! The watch cache of one kind, filled by hand: the real reflector store, and what `controller::watch` makes of an event.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
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
    controller::fingerprint,
    fleet::{Trigger, Watched},
    world::Kind,
    world_fake::Object,
};

/// By what an object is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Listed,
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
    known: HashMap<ObjectRef<Watched<K>>, u64>,
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
        (Self { writer, since, listed, known: HashMap::new(), triggered, population: Arc::default() }, store, trigger)
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
        self.writer.apply_watcher_event(&Event::Init);
        let mut wanted = Vec::new();
        for object in objects {
            let place = (object.key.kind, object.key.namespace.clone(), object.key.name.clone());
            wanted.extend(self.show(&object, Told::Listed).then_some(place));
        }
        self.writer.apply_watcher_event(&Event::InitDone);
        self.listed.send_replace(true);
        self.population.fetch_add(1, Ordering::Relaxed);
        wanted
    }

    /// As `controller::watch`: whether the change wants a reconcile.
    pub(super) fn show(&mut self, object: &Object, told: Told) -> bool {
        let object: Watched<K> = serde_json::from_value(object.json()).expect("a guard reads all");
        let reference = ObjectRef::from_obj(&object);
        if told == Told::Deleted {
            self.known.remove(&reference);
            self.population.fetch_add(1, Ordering::Relaxed);
            self.writer.apply_watcher_event(&Event::Delete(object));
            return false;
        }
        let fingerprint = fingerprint(object.meta());
        let event = if told == Told::Listed { Event::InitApply(object) } else { Event::Apply(object) };
        self.writer.apply_watcher_event(&event);
        let before = self.known.insert(reference, fingerprint);
        self.population.fetch_add(u64::from(before.is_none()), Ordering::Relaxed);
        before != Some(fingerprint)
    }
}
