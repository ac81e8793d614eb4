//! What a watch has shown of a kind: whose change matters to a reconcile, and from when on the cache shows it. Pure.

use std::{collections::HashMap, mem};

use kube::{
    Resource,
    core::ObjectMeta,
    runtime::{reflector::ObjectRef, watcher::Event},
};

/// Objects as last shown, and those of a list that has not ended.
#[derive(Debug)]
pub(super) struct Seen<K: Resource<DynamicType = ()>> {
    known: HashMap<ObjectRef<K>, u64>,
    listing: HashMap<ObjectRef<K>, u64>,
}

/// What an event means.
#[derive(Debug)]
pub(super) struct Change<K: Resource<DynamicType = ()>> {
    /// To be reconciled.
    pub(super) objects: Vec<ObjectRef<K>>,
    /// Objects came or went, or may have.
    pub(super) population: bool,
}

impl<K: Resource<DynamicType = ()>> Default for Seen<K> {
    fn default() -> Self {
        Self { known: HashMap::new(), listing: HashMap::new() }
    }
}

impl<K: Resource<DynamicType = ()>> Seen<K> {
    /// Takes an event that the cache has taken. A list is told at its end, however many pages it has: before that the cache
    /// still shows what was (kube-runtime 5.0.0, `reflector/store.rs`), and a reconcile would find an object of the first
    /// page missing, or as it was, with nothing to look again for.
    pub(super) fn take(&mut self, event: &Event<K>) -> Change<K> {
        let nothing = Change { objects: Vec::new(), population: false };
        match event {
            Event::Init => {
                self.listing.clear();
                nothing
            }
            Event::InitApply(object) => {
                self.listing.insert(ObjectRef::from_obj(object), fingerprint(object.meta()));
                nothing
            }
            Event::InitDone => {
                let before = mem::replace(&mut self.known, mem::take(&mut self.listing));
                let changed = self.known.iter().filter(|(object, now)| before.get(object) != Some(now));
                Change { objects: changed.map(|(object, _)| object.clone()).collect(), population: true }
            }
            Event::Apply(object) => {
                let (object, now) = (ObjectRef::from_obj(object), fingerprint(object.meta()));
                let before = self.known.insert(object.clone(), now);
                let objects = if before == Some(now) { Vec::new() } else { vec![object] };
                Change { objects, population: before.is_none() }
            }
            Event::Delete(object) => {
                self.known.remove(&ObjectRef::from_obj(object));
                Change { population: true, ..nothing }
            }
        }
    }
}

/// What a reconcile depends on of an object's metadata: not its status, which we write ourselves.
fn fingerprint(meta: &ObjectMeta) -> u64 {
    let relevant = (&meta.uid, meta.generation, &meta.annotations, &meta.finalizers, meta.deletion_timestamp.is_some());
    xxhash_rust::xxh3::xxh3_64(&serde_json::to_vec(&relevant).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;

    use super::*;

    fn object(name: &str, generation: i64) -> Secret {
        let mut object = Secret::default();
        (object.metadata.name, object.metadata.generation) = (Some(name.to_owned()), Some(generation));
        object
    }

    fn names(seen: &mut Seen<Secret>, events: impl IntoIterator<Item = Event<Secret>>) -> Vec<String> {
        let objects = events.into_iter().flat_map(|event| seen.take(&event).objects);
        let mut names: Vec<_> = objects.map(|object| object.name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_list_is_told_when_the_cache_shows_it_and_only_what_is_new_in_it() {
        let mut seen = Seen::default();
        let first = [Event::Init, Event::InitApply(object("a", 1)), Event::InitApply(object("b", 1))];
        assert!(names(&mut seen, first).is_empty(), "the cache is empty still");
        assert_eq!(names(&mut seen, [Event::InitDone]), ["a", "b"]);
        // A relist that fails after its first page, then a whole one.
        assert!(names(&mut seen, [Event::Init, Event::InitApply(object("new", 1))]).is_empty());
        let again = [("a", 2), ("b", 1), ("new", 1)].map(|(name, of)| Event::InitApply(object(name, of)));
        assert!(names(&mut seen, [Event::Init].into_iter().chain(again)).is_empty());
        assert_eq!(names(&mut seen, [Event::InitDone]), ["a", "new"], "one edited, one made while nobody watched");
    }

    #[test]
    fn a_status_of_ours_is_no_news_and_a_name_that_comes_back_is() {
        let mut seen = Seen::default();
        assert_eq!(names(&mut seen, [Event::Apply(object("a", 1)), Event::Apply(object("a", 1))]), ["a"]);
        assert_eq!(names(&mut seen, [Event::Apply(object("a", 2))]), ["a"]);
        assert!(names(&mut seen, [Event::Delete(object("a", 2))]).is_empty());
        assert_eq!(names(&mut seen, [Event::Apply(object("a", 2))]), ["a"]);
        assert!(names(&mut seen, [Event::Init, Event::InitDone]).is_empty());
        assert_eq!(names(&mut seen, [Event::Apply(object("a", 2))]), ["a"], "it was gone when all were listed");
    }
}
