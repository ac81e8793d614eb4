//! A pool of workers as it should be: from its template to the Deployment of one build. Pure.
//! The shared pool is one of them, made of the chart's template; whoever makes another one comes here with the same value.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Container, EnvVar},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};
use kube::ResourceExt as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{contract::TASK_QUEUE, operator::names::Installation, temporal::WorkerVersion};

/// Label of everything of one pool.
pub const POOL_LABEL: &str = "sync.gtmclarity.io/pool";
/// Label of everything of one build.
pub const BUILD_LABEL: &str = "sync.gtmclarity.io/build";
/// Annotation with the digest of what was applied, so that an equal wish costs no write.
pub const APPLIED_ANNOTATION: &str = "sync.gtmclarity.io/applied";
/// Annotation of a template whose builds get a PodDisruptionBudget, with the value `true`.
pub const BUDGET_ANNOTATION: &str = "sync.gtmclarity.io/disruption-budget";
/// Name of the pool that serves every tenant.
pub const SHARED: &str = "shared";
/// Kubernetes cuts the names of pods made from longer names than 58 (apiserver names/generate.go); a dash and a build are 11.
pub(super) const NAME_LENGTH: usize = 47;
/// As much of a digest as tells builds apart and people can read.
const DIGEST_BYTES: usize = 5;
/// Kubernetes' own default.
const PROGRESS_DEADLINE_SECONDS: i32 = 600;
/// The worker's own default (seed: 10).
const ACTIVITY_SLOTS: u64 = 10;

/// Workers of one queue, all from one template.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Unique in the installation; a label's value.
    pub name: String,
    /// The queue whose activities they do.
    pub queue: String,
    /// Their Deployment, without what tells one build from another.
    pub template: Deployment,
    /// How many.
    pub replicas: Replicas,
}

/// How many pods a build that takes work has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replicas {
    /// As many as its work needs, within bounds; equal bounds are a fixed number.
    Between {
        /// At least; 0 = none while nothing is to be done, and queries are unanswered meanwhile (R20).
        least: i32,
        /// At most.
        most: i32,
    },
    /// An autoscaler of the user's decides.
    External,
}

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not one Deployment in YAML.
    #[error("the worker template is not a Deployment in YAML")]
    Template,
    /// A part is missing.
    #[error("the worker template lacks {0}")]
    Lacks(&'static str),
    /// Pods' names would be too long.
    #[error("the worker template's name is longer than {NAME_LENGTH} characters")]
    Name,
    /// R34.
    #[error(
        "workers cannot be deployed on SQLite: pods cannot share its file. Use PostgreSQL, or run the worker beside the operator and set no worker template"
    )]
    Sqlite,
}

impl Pool {
    /// The pool that serves every tenant, in the operator's namespace. The template says how many pods there are at least;
    /// without a number an autoscaler of the user's decides.
    ///
    /// # Errors
    /// `Template` and `Lacks` when it is not a Deployment; `Sqlite` when the store is a file.
    pub fn shared(template: &str, namespace: &str, on_sqlite: bool, most: Option<i32>) -> Result<Self, Error> {
        if on_sqlite {
            return Err(Error::Sqlite);
        }
        let mut template: Deployment = serde_saphyr::from_str(template).map_err(|_| Error::Template)?;
        template.metadata.namespace = Some(namespace.to_owned());
        let replicas = match template.spec.as_ref().and_then(|spec| spec.replicas) {
            Some(least) => Replicas::Between { least, most: most.unwrap_or(least).max(least) },
            None => Replicas::External,
        };
        Ok(Self { name: SHARED.to_owned(), queue: TASK_QUEUE.to_owned(), template, replicas })
    }
}

/// One build of a pool, as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The pool's name.
    pub pool: String,
    /// The pool's queue.
    pub queue: String,
    /// How it is called in Temporal.
    pub version: WorkerVersion,
    /// How many pods.
    pub replicas: Replicas,
    /// What to apply, but for the number of pods.
    pub deployment: Deployment,
    /// What the pool's Deployments have in common, to find them by.
    pub selector: BTreeMap<String, String>,
    /// Name of the one Deployment that earlier charts had, whose workers have no version.
    pub unversioned: String,
}

impl Wanted {
    /// The build that a pool's template makes.
    ///
    /// # Errors
    /// When the template is not a Deployment that can run.
    pub fn of(pool: &Pool, installation: &Installation) -> Result<Self, Error> {
        let template = &pool.template;
        let name = template.metadata.name.clone().filter(|name| !name.is_empty());
        let unversioned = name.ok_or(Error::Lacks("metadata.name"))?;
        if unversioned.len() > NAME_LENGTH {
            return Err(Error::Name);
        }
        let spec = template.spec.as_ref().ok_or(Error::Lacks("spec"))?;
        let selector = spec.selector.match_labels.clone().unwrap_or_default();
        // Whatever makes one pod differ from another is in its template, the queue and the pool's name in its environment.
        let build = digest(&(&spec.template, &pool.name, &pool.queue));
        let version = WorkerVersion { deployment: worker_deployment(&pool.name, installation), build };
        let deployment = build_of(pool, &unversioned, &version)?;
        Ok(Self {
            pool: pool.name.clone(),
            queue: pool.queue.clone(),
            version,
            replicas: pool.replicas,
            deployment,
            selector,
            unversioned,
        })
    }

    /// Name of its Deployment.
    #[must_use]
    pub fn name(&self) -> String {
        self.deployment.name_any()
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> String {
        self.deployment.namespace().unwrap_or_default()
    }

    /// What was last applied has this in its annotation if it is as wanted.
    #[must_use]
    pub fn digest(&self) -> &str {
        self.deployment.annotations().get(APPLIED_ANNOTATION).map_or("", String::as_str)
    }

    /// How long its pods may take to get ready before people are told.
    #[must_use]
    pub fn progress_deadline_seconds(&self) -> i32 {
        let seconds = self.deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds);
        seconds.unwrap_or(PROGRESS_DEADLINE_SECONDS)
    }

    /// How many activities one of its pods does at once.
    #[must_use]
    pub fn activity_slots(&self) -> u64 {
        let pod = self.deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let variables = pod.into_iter().flat_map(|pod| &pod.containers).flat_map(|container| &container.env).flatten();
        let mut slots = variables.filter(|variable| variable.name == "GTM_MAX_CONCURRENT_ACTIVITIES");
        slots.next().and_then(|slots| slots.value.as_ref()?.parse().ok()).unwrap_or(ACTIVITY_SLOTS).max(1)
    }
}

/// A pool's name in Temporal: carries the installation (R17), and the cluster where several share one.
/// No dot or colon: the server joins deployment and build by them.
pub(super) fn worker_deployment(pool: &str, installation: &Installation) -> String {
    let cluster =
        if installation.cluster_id.is_empty() { String::new() } else { format!("-{}", installation.cluster_id) };
    format!("gtm-sync-{pool}{cluster}-{}", installation.id)
}

fn build_of(pool: &Pool, name: &str, version: &WorkerVersion) -> Result<Deployment, Error> {
    let mut deployment = pool.template.clone();
    let labels = [(POOL_LABEL, &pool.name), (BUILD_LABEL, &version.build)];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.clone()));
    deployment.metadata.name = Some(format!("{name}-{}", version.build));
    let spec = deployment.spec.as_mut().ok_or(Error::Lacks("spec"))?;
    spec.replicas = None;
    let selector = spec.selector.match_labels.get_or_insert_default();
    let found_by = selector.clone();
    selector.extend(labels.clone());
    let of_pods = spec.template.metadata.get_or_insert_default();
    of_pods.labels.get_or_insert_default().extend(labels.clone());
    let pod = spec.template.spec.as_mut().ok_or(Error::Lacks("a pod"))?;
    let environment = worker_container(&mut pod.containers)?.env.get_or_insert_default();
    for (name, value) in [("GTM_WORKER_DEPLOYMENT", &version.deployment), ("GTM_BUILD_ID", &version.build)] {
        environment.retain(|variable| variable.name != name);
        environment.push(EnvVar { name: name.to_owned(), value: Some(value.clone()), value_from: None });
    }
    deployment.labels_mut().extend(found_by.into_iter().chain(labels));
    let managed_by = deployment.labels_mut().entry("app.kubernetes.io/managed-by".to_owned());
    managed_by.or_insert_with(|| "gtmclarity-operator".to_owned());
    let applied = digest(&deployment);
    deployment.annotations_mut().insert(APPLIED_ANNOTATION.to_owned(), applied);
    Ok(deployment)
}

/// The worker's among a pod's containers: a user's template may put others beside it.
pub(super) fn worker_container(containers: &mut [Container]) -> Result<&mut Container, Error> {
    let worker = containers.iter().position(|container| container.name == "worker").unwrap_or_default();
    containers.get_mut(worker).ok_or(Error::Lacks("a container"))
}

/// The budget of a build's pods, where its template asks for one: one pod at a time leaves for the sake of a node. Each build has
/// its own, since of a common one the pods of a bad build use up what the good one needs to leave a node; it goes with its
/// Deployment.
#[must_use]
pub fn disruption_budget(applied: &Deployment) -> Option<PodDisruptionBudget> {
    applied.annotations().get(BUDGET_ANNOTATION).filter(|wish| *wish == "true")?;
    let owner = OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: applied.name_any(),
        uid: applied.uid()?,
        ..OwnerReference::default()
    };
    let metadata = ObjectMeta {
        name: Some(applied.name_any()),
        namespace: applied.namespace(),
        labels: Some(applied.labels().clone()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    let spec = PodDisruptionBudgetSpec {
        max_unavailable: Some(IntOrString::Int(1)),
        selector: Some(applied.spec.as_ref()?.selector.clone()),
        // A pod that is not ready does no work.
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        ..PodDisruptionBudgetSpec::default()
    };
    Some(PodDisruptionBudget { metadata, spec: Some(spec), status: None })
}

/// Short and stable: fields are written in their declared order, and maps are sorted.
fn digest(of: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(of).expect("texts, numbers and JSON values serialise");
    Sha256::digest(bytes).iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::operator::worker_deployment) const TEMPLATE: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: gtm-sync-worker}
spec:
  replicas: 1
  selector: {matchLabels: {app: w}}
  template:
    metadata: {labels: {app: w}}
    spec: {containers: [{name: worker, image: x, env: [{name: GTM_MAX_CONCURRENT_ACTIVITIES, value: '4'}]}]}
";

    pub(in crate::operator::worker_deployment) fn wanted(template: &str, most: Option<i32>) -> Wanted {
        let pool = Pool::shared(template, "gtm-sync", false, most).expect("a pool");
        Wanted::of(&pool, &Installation::new("i".to_owned(), None)).expect("a build")
    }

    #[test]
    fn a_build_has_a_deployment_of_its_own_that_says_which_it_is_to_people_selectors_and_workers() {
        let wanted = wanted(TEMPLATE, None);
        let build = wanted.version.build.clone();
        assert_eq!((wanted.name(), wanted.namespace()), (format!("gtm-sync-worker-{build}"), "gtm-sync".to_owned()));
        assert_eq!(wanted.version.deployment, "gtm-sync-shared-i");
        let spec = wanted.deployment.spec.clone().expect("a spec");
        let selector = spec.selector.match_labels.expect("labels");
        assert_eq!((selector["app"].as_str(), &selector[BUILD_LABEL]), ("w", &build));
        assert_eq!(spec.template.metadata.and_then(|metadata| metadata.labels), Some(selector.clone()));
        assert!(selector.iter().all(|(name, value)| wanted.deployment.labels().get(name) == Some(value)));
        let environment = spec.template.spec.expect("a pod").containers[0].env.clone().expect("variables");
        assert_eq!(environment.last().and_then(|variable| variable.value.clone()), Some(build));
        assert_eq!(spec.replicas, None, "the number of pods is not of the build");
        assert_eq!((wanted.activity_slots(), wanted.progress_deadline_seconds()), (4, 600));
    }

    #[test]
    fn a_build_is_what_makes_its_pods_differ_and_nothing_else() {
        let build = |template: &str| wanted(template, None).version.build;
        let before = build(TEMPLATE);
        assert_eq!(build(TEMPLATE), before, "stable");
        assert_eq!(build(&TEMPLATE.replace("replicas: 1", "replicas: 7")), before);
        let image = TEMPLATE.replace("image: x", "image: y");
        assert_ne!(build(&image), before);
        assert_ne!(build(&TEMPLATE.replace("'4'", "'5'")), before);
        let strategy = TEMPLATE.replace("replicas: 1", "progressDeadlineSeconds: 7");
        assert_eq!(build(&strategy), before);
        assert_ne!(wanted(&strategy, None).digest(), wanted(TEMPLATE, None).digest(), "but it is applied again");
    }

    #[test]
    fn a_build_has_a_disruption_budget_of_its_own_that_goes_with_it_where_the_template_asks_for_one() {
        let template = TEMPLATE.replace(
            "gtm-sync-worker}",
            "gtm-sync-worker, annotations: {sync.gtmclarity.io/disruption-budget: 'true'}}",
        );
        let mut applied = wanted(&template, None).deployment;
        applied.metadata.uid = Some("u".to_owned());
        let budget = disruption_budget(&applied).expect("a budget");
        assert_eq!(budget.metadata.owner_references.clone().unwrap_or_default()[0].uid, "u");
        assert_eq!(budget.name_any(), applied.name_any());
        let selector = budget.spec.and_then(|spec| spec.selector);
        assert_eq!(selector, applied.spec.map(|spec| spec.selector));
        assert_eq!(disruption_budget(&wanted(TEMPLATE, None).deployment), None);
    }

    #[test]
    fn the_template_says_how_many_pods_there_are_and_one_without_a_number_leaves_it_to_others() {
        let of = |template: &str, most| wanted(template, most).replicas;
        assert_eq!(of(TEMPLATE, None), Replicas::Between { least: 1, most: 1 });
        assert_eq!(of(TEMPLATE, Some(5)), Replicas::Between { least: 1, most: 5 });
        assert_eq!(of(&TEMPLATE.replace("replicas: 1", "paused: false"), Some(5)), Replicas::External);
    }

    #[test]
    fn pods_never_get_a_sqlite_file_and_a_broken_template_is_named() {
        let of = |template: &str, on_sqlite: bool| {
            let pool = Pool::shared(template, "x", on_sqlite, None)?;
            Wanted::of(&pool, &Installation::new("i".to_owned(), None)).map(|_| ())
        };
        assert_eq!(of(TEMPLATE, true), Err(Error::Sqlite));
        assert_eq!(of("[", false), Err(Error::Template));
        assert_eq!(of("metadata: {}", false), Err(Error::Lacks("metadata.name")));
        assert_eq!(of(&TEMPLATE.replace("gtm-sync-worker", &"n".repeat(48)), false), Err(Error::Name));
    }
}
