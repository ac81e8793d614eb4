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
use tokio::sync::mpsc;

use crate::operator::{controller::fingerprint, fleet::Watched, world_fake::Change};

/// A watched kind.
pub(super) struct Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + 'static,
{
    pub(super) writer: Writer<Watched<K>>,
    known: HashMap<ObjectRef<Watched<K>>, u64>,
    pub(super) triggered: mpsc::UnboundedReceiver<ObjectRef<Watched<K>>>,
    pub(super) population: Arc<AtomicU64>,
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + 'static,
{
    /// An empty one, as others read it, and where they ask for a reconcile.
    pub(super) fn new() -> (Self, reflector::Store<Watched<K>>, mpsc::UnboundedSender<ObjectRef<Watched<K>>>) {
        let (store, writer) = reflector::store();
        let (trigger, triggered) = mpsc::unbounded_channel();
        (Self { writer, known: HashMap::new(), triggered, population: Arc::default() }, store, trigger)
    }

    /// As `controller::watch`: whether the change wants a reconcile.
    pub(super) fn show(&mut self, change: &Change, in_a_list: bool) -> bool {
        let object: Watched<K> = serde_json::from_value(change.object.json()).expect("a guard reads all");
        self.population.fetch_add(1, Ordering::Relaxed);
        let reference = ObjectRef::from_obj(&object);
        if change.deleted {
            self.known.remove(&reference);
            self.writer.apply_watcher_event(&Event::Delete(object));
            return false;
        }
        let fingerprint = fingerprint(object.meta());
        let event = if in_a_list { Event::InitApply(object) } else { Event::Apply(object) };
        self.writer.apply_watcher_event(&event);
        self.known.insert(reference, fingerprint) != Some(fingerprint)
    }
}
