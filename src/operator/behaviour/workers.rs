//! Worker Deployments in Temporal, by the requests of rollouts: what the server refuses keeps a rollout from taking work from a
//! build that has none to follow it.

use async_trait::async_trait;
use gtm_sync::{
    error_class::Class,
    operator::{
        worker_deployment::requests::{WorkerAnswer, WorkerRequest},
        world::{Answer, Request, World},
    },
    temporal::{
        WorkerVersion,
        worker_deployments::{SeenDeployment, VersionState},
    },
};

/// Temporal behind a world, and who polls.
#[async_trait]
pub(crate) trait Pool: Send + Sync {
    /// The way of rollouts to it.
    fn world(&self) -> &dyn World;

    /// The Worker Deployment, of this test alone.
    fn deployment(&self) -> String;

    /// A moment passes.
    async fn moment(&self);

    /// A worker of this build polls from now on.
    async fn poll(&self, version: &WorkerVersion);
}

/// Moments until the server knows what polls.
const PATIENCE: usize = 100;

async fn asked(pool: &dyn Pool, request: WorkerRequest) -> Result<WorkerAnswer, Class> {
    match pool.world().call(Request::Workers(request)).await {
        Ok(Answer::Workers(answer)) => Ok(answer),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.class()),
    }
}

fn version(pool: &dyn Pool, build: &str) -> WorkerVersion {
    WorkerVersion { deployment: pool.deployment(), build: build.to_owned() }
}

/// As it is described at last.
async fn seen(pool: &dyn Pool, expected: impl Fn(&SeenDeployment) -> bool) -> SeenDeployment {
    for _ in 0..PATIENCE {
        match asked(pool, WorkerRequest::Describe(pool.deployment())).await {
            Ok(WorkerAnswer::Versions(Some(seen))) if expected(&seen) => return seen,
            // A server that registers a build may ask to slow down.
            Ok(WorkerAnswer::Versions(_)) | Err(_) => pool.moment().await,
            Ok(other) => panic!("{other:?}"),
        }
    }
    panic!("never: {:?}", asked(pool, WorkerRequest::Describe(pool.deployment())).await)
}

fn state(seen: &SeenDeployment, build: &str) -> Option<VersionState> {
    seen.versions.iter().find(|version| version.build == build).map(|version| version.state)
}

/// Workers of both builds poll.
async fn with_two_builds(pool: &dyn Pool) -> SeenDeployment {
    for build in ["one", "two"] {
        pool.poll(&version(pool, build)).await;
    }
    seen(pool, |seen| ["one", "two"].iter().all(|build| state(seen, build).is_some())).await
}

pub(crate) async fn what_never_polled_is_unknown_and_its_removal_done(pool: &dyn Pool) {
    let describe = || asked(pool, WorkerRequest::Describe(pool.deployment()));
    assert_eq!(describe().await, Ok(WorkerAnswer::Versions(None)));
    assert_eq!(asked(pool, WorkerRequest::RemoveDeployment(pool.deployment())).await, Ok(WorkerAnswer::Done));
    assert_eq!(asked(pool, WorkerRequest::RemoveVersion(version(pool, "one"))).await, Ok(WorkerAnswer::Done));
    assert_eq!(describe().await, Ok(WorkerAnswer::Versions(None)));
}

pub(crate) async fn a_build_takes_the_work_by_the_latest_conflict_token_only(pool: &dyn Pool) {
    let before = with_two_builds(pool).await;
    assert_eq!((&before.current, state(&before, "one")), (&None, Some(VersionState::Inactive)));
    let take = |build: &str, token: &[u8]| WorkerRequest::SetCurrent(version(pool, build), token.to_vec());
    assert_eq!(asked(pool, take("one", &before.conflict_token)).await, Ok(WorkerAnswer::Done));
    let after = seen(pool, |seen| seen.current.as_deref() == Some("one")).await;
    assert_eq!(state(&after, "one"), Some(VersionState::Current));
    assert_eq!(asked(pool, take("two", &before.conflict_token)).await, Err(Class::Conflict), "an old token");
    let unset = WorkerRequest::UnsetCurrent(pool.deployment(), before.conflict_token);
    assert_eq!(asked(pool, unset).await, Err(Class::Conflict), "an old token");
    assert_eq!(seen(pool, |_| true).await.current.as_deref(), Some("one"));
    assert_eq!(asked(pool, take("two", &after.conflict_token)).await, Ok(WorkerAnswer::Done));
    let last = seen(pool, |seen| seen.current.as_deref() == Some("two")).await;
    assert_eq!(state(&last, "one"), Some(VersionState::Draining));
}

pub(crate) async fn a_build_that_polls_or_takes_the_work_is_not_removed(pool: &dyn Pool) {
    let before = with_two_builds(pool).await;
    let take = WorkerRequest::SetCurrent(version(pool, "one"), before.conflict_token);
    assert_eq!(asked(pool, take).await, Ok(WorkerAnswer::Done));
    seen(pool, |seen| seen.current.is_some()).await;
    for build in ["one", "two"] {
        let removed = asked(pool, WorkerRequest::RemoveVersion(version(pool, build))).await;
        assert_eq!(removed, Err(Class::Conflict), "{build}");
    }
    assert_eq!(seen(pool, |_| true).await.versions.len(), 2);
}

pub(crate) async fn a_worker_deployment_that_has_builds_is_not_removed(pool: &dyn Pool) {
    with_two_builds(pool).await;
    // The server calls it an internal error.
    assert_eq!(asked(pool, WorkerRequest::RemoveDeployment(pool.deployment())).await, Err(Class::Transient));
    assert_eq!(seen(pool, |_| true).await.versions.len(), 2);
}

/// Runs a macro on every scenario.
macro_rules! every_behaviour_of_workers {
    ($run:ident) => {
        $run! {
            what_never_polled_is_unknown_and_its_removal_done,
            a_build_takes_the_work_by_the_latest_conflict_token_only,
            a_build_that_polls_or_takes_the_work_is_not_removed,
            a_worker_deployment_that_has_builds_is_not_removed,
        }
    };
}
pub(crate) use every_behaviour_of_workers;
