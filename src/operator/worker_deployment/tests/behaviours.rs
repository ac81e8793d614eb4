//! Holds the fleet in memory to the answers of the real server: the scenarios of `behaviour/workers.rs`.

use async_trait::async_trait;

use super::*;
use crate::{
    operator::{
        behaviour::workers::{self, Pool, every_behaviour_of_workers},
        worker_deployment::pool::SHARED,
        world::World,
    },
    temporal::WorkerVersion,
};

#[async_trait]
impl Pool for Fleet {
    fn world(&self) -> &dyn World {
        self
    }

    fn deployment(&self) -> String {
        "shared".to_owned()
    }

    async fn moment(&self) {
        self.pass(SignedDuration::from_secs(1));
    }

    async fn poll(&self, version: &WorkerVersion) {
        let build = Build { build: Some(version.build.clone()), ..unversioned(Some(SHARED), &version.build) };
        self.state().deployments.push(build);
        self.moment().await;
    }
}

macro_rules! on_the_fleet {
    ($($scenario:ident,)*) => { $(
        #[test]
        fn $scenario() {
            futures::executor::block_on(workers::$scenario(&Fleet::new()));
        }
    )* };
}
every_behaviour_of_workers!(on_the_fleet);
