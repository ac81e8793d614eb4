//! The API server of the fake world: objects with uid, generation and resource version, finalizers, deletion, a status whose
//! parts are applied by their managers, Secrets. Admits everything: what is refused at apply is tested on a real one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{State, faults::status};
use crate::{
    crd::{GROUP, SCHEDULE_FINALIZER, VERSION},
    error_class::Class,
    model::config::SecretFields,
    operator::{
        error::Error,
        world::{Answer, Kind, ObjectKey, Reply, StatusPart},
    },
};

/// An object as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::operator) struct Object {
    pub(in crate::operator) key: ObjectKey,
    pub(in crate::operator) generation: i64,
    pub(in crate::operator) resource_version: u64,
    pub(in crate::operator) annotations: BTreeMap<String, String>,
    pub(in crate::operator) finalizers: Vec<String>,
    pub(in crate::operator) deleting: bool,
    pub(in crate::operator) spec: Value,
    /// By field manager.
    pub(in crate::operator) parts: BTreeMap<&'static str, Value>,
}

/// What those who watch are told.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::operator) struct Change {
    pub(in crate::operator) at: Timestamp,
    pub(in crate::operator) object: Object,
    pub(in crate::operator) deleted: bool,
}

impl Object {
    /// The status, all managers' parts together: they own different fields and different conditions.
    pub(in crate::operator) fn status(&self) -> Value {
        let mut whole = Map::new();
        let mut conditions = Vec::new();
        for part in self.parts.values().filter_map(Value::as_object) {
            for (field, value) in part {
                match (field.as_str(), value) {
                    ("conditions", Value::Array(of)) => conditions.extend(of.iter().cloned()),
                    _ => drop(whole.insert(field.clone(), value.clone())),
                }
            }
        }
        if !conditions.is_empty() {
            whole.insert("conditions".to_owned(), Value::Array(conditions));
        }
        Value::Object(whole)
    }

    /// As a watch shows it.
    pub(in crate::operator) fn json(&self) -> Value {
        let ObjectKey { kind, namespace, name, uid } = &self.key;
        let mut metadata = json!({
            "namespace": namespace, "name": name, "uid": uid, "generation": self.generation,
            "resourceVersion": self.resource_version.to_string(), "annotations": self.annotations,
            "finalizers": self.finalizers,
        });
        if self.deleting {
            metadata["deletionTimestamp"] = json!("2026-11-23T01:00:00Z");
        }
        let mut whole = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind.name(), "metadata": metadata,
            "spec": self.spec});
        if !self.parts.is_empty() {
            whole["status"] = self.status();
        }
        whole
    }
}

impl State {
    /// Creates an object or edits its spec; its key.
    pub(in crate::operator) fn apply(&mut self, kind: Kind, namespace: &str, name: &str, spec: Value) -> ObjectKey {
        let place = (kind, namespace.to_owned(), name.to_owned());
        if !self.objects.contains_key(&place) {
            self.uids += 1;
            let uid = format!("uid-{}", self.uids);
            self.create(ObjectKey { kind, namespace: namespace.to_owned(), name: name.to_owned(), uid }, spec);
        } else {
            self.edit(&place, |object| {
                if object.spec != spec {
                    object.generation += 1;
                    object.spec = spec;
                }
            });
        }
        self.objects[&place].key.clone()
    }

    /// An object of this very key is there.
    pub(in crate::operator) fn exists(&mut self, key: &ObjectKey) {
        let found = self.objects.get(&place(key));
        if found.is_none_or(|found| found.key != *key) {
            self.create(key.clone(), json!({}));
        }
    }

    fn create(&mut self, key: ObjectKey, spec: Value) {
        let created = Object {
            key,
            generation: 1,
            resource_version: 0,
            annotations: BTreeMap::new(),
            finalizers: Vec::new(),
            deleting: false,
            spec,
            parts: BTreeMap::new(),
        };
        let place = place(&created.key);
        self.objects.insert(place.clone(), created);
        self.changed(&place, false);
    }

    /// Sets an annotation.
    pub(in crate::operator) fn annotate(&mut self, key: &ObjectKey, name: &str, value: &str) {
        self.edit(&place(key), |object| drop(object.annotations.insert(name.to_owned(), value.to_owned())));
    }

    /// Deletes an object; one with finalizers waits for them.
    pub(in crate::operator) fn delete(&mut self, key: &ObjectKey) {
        self.edit(&place(key), |object| {
            if !object.deleting {
                object.generation += 1;
                object.deleting = true;
            }
        });
    }

    /// Edits an object. What changes nothing is told to nobody, and what nothing holds any more goes.
    pub(in crate::operator) fn edit(&mut self, place: &(Kind, String, String), edit: impl FnOnce(&mut Object)) {
        let Some(object) = self.objects.get_mut(place) else { return };
        let before = object.clone();
        edit(object);
        let gone = object.deleting && object.finalizers.is_empty();
        if gone || *object != before {
            self.changed(place, gone);
        }
    }

    fn changed(&mut self, place: &(Kind, String, String), deleted: bool) {
        self.versions += 1;
        let Some(object) = self.objects.get_mut(place) else { return };
        object.resource_version = self.versions;
        self.changes.push(Change { at: self.now, object: object.clone(), deleted });
        if deleted {
            self.objects.remove(place);
        }
    }

    /// The object of this uid.
    pub(in crate::operator) fn object(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(&place(key)).filter(|object| object.key.uid == key.uid)
    }

    /// Whether our finalizer is on it.
    pub(in crate::operator) fn has_finalizer(&self, key: &ObjectKey) -> bool {
        self.object(key).is_some_and(|object| object.finalizers.iter().any(|of| of == SCHEDULE_FINALIZER))
    }

    pub(super) fn tenant_of(&self, kind: Kind, namespace: &str, name: &str) -> Option<String> {
        let object = self.objects.get(&(kind, namespace.to_owned(), name.to_owned()))?;
        Some(object.spec["tenantId"].as_str().unwrap_or_default().to_owned())
    }

    pub(super) fn secret(&self, namespace: &str, name: &str) -> Option<SecretFields> {
        self.secrets.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn finalizer(&mut self, key: &ObjectKey, wanted: bool) -> Reply {
        let Some(object) = self.object(key) else {
            return if wanted { Err(Error::gone("add a finalizer")) } else { Ok(Answer::Done) };
        };
        if self.has_finalizer(key) == wanted {
            return Ok(Answer::Done);
        }
        if wanted && object.deleting {
            return Err(status("422 Invalid", Class::Invalid));
        }
        self.edit(&place(key), |object| {
            if wanted {
                object.finalizers.push(SCHEDULE_FINALIZER.to_owned());
            } else {
                object.finalizers.retain(|of| of != SCHEDULE_FINALIZER);
            }
        });
        Ok(Answer::Done)
    }

    pub(super) fn apply_status(&mut self, key: &ObjectKey, part: StatusPart) -> Reply {
        let Some(object) = self.objects.get(&place(key)) else {
            return Err(Error::gone("apply status"));
        };
        self.needless_statuses += usize::from(object.parts.get(part.manager) == Some(&part.fields));
        self.statuses.push(part.fields.clone());
        self.edit(&place(key), |object| drop(object.parts.insert(part.manager, part.fields)));
        Ok(Answer::Done)
    }
}

fn place(key: &ObjectKey) -> (Kind, String, String) {
    (key.kind, key.namespace.clone(), key.name.clone())
}
