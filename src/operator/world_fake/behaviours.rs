//! Holds the fake world to the answers of the real servers: the scenarios of `behaviour/`.

use async_trait::async_trait;

use super::{FakeWorld, block_on};
use crate::{
    model::config::SecretFields,
    operator::{
        behaviour::{self, FOREIGN_FINALIZER, Found, Servers, every_behaviour},
        world::{Kind, ObjectKey, World},
    },
};

#[async_trait]
impl Servers for FakeWorld {
    fn world(&self) -> &dyn World {
        self
    }

    fn namespace(&self) -> &str {
        "acme"
    }

    async fn moment(&self) {
        self.state().apply_updates();
    }

    async fn create(&self, kind: Kind, name: &str) -> ObjectKey {
        self.state().apply(kind, "acme", name, serde_json::json!({"tenantId": "acme"}))
    }

    async fn delete(&self, key: &ObjectKey) {
        self.state().delete(key);
    }

    async fn hold(&self, key: &ObjectKey, held: bool) {
        let place = (key.kind, key.namespace.clone(), key.name.clone());
        self.state().edit(&place, |object| {
            object.finalizers.retain(|of| of != FOREIGN_FINALIZER);
            object.finalizers.extend(held.then(|| FOREIGN_FINALIZER.to_owned()));
        });
    }

    async fn object(&self, key: &ObjectKey) -> Option<Found> {
        let object = self.state().object(key)?.clone();
        Some(Found {
            generation: object.generation,
            resource_version: object.resource_version.to_string(),
            finalizers: object.finalizers.clone(),
            deleting: object.deleting,
            status: object.json()["status"].clone(),
        })
    }

    async fn put_secret(&self, name: &str, key: &str, value: &str) {
        let fields = SecretFields([(key.to_owned(), value.to_owned())].into());
        self.state().secrets.insert(("acme".to_owned(), name.to_owned()), fields);
    }

    async fn end_workflow(&self, id: &str) {
        self.state().open.remove(id);
    }

    async fn start_cron(&self, id: &str) {
        self.start_cron_named(id);
    }
}

/// Updates apply at once, or after they were described twice as they were.
macro_rules! on_the_fake {
    ($($part:ident::$scenario:ident,)*) => { $(
        #[test]
        fn $scenario() {
            for lag in [0, 2] {
                let world = FakeWorld::default();
                world.state().update_lag = lag;
                block_on(behaviour::$part::$scenario(&world));
            }
        }
    )* };
}
every_behaviour!(on_the_fake);
