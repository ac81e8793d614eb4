//! Cron workflows that still tick for tenants, as last listed. One list serves everybody who asks within a while, and a run is
//! looked at once: no object costs a call of its own.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    contract::SCHEDULED_SYNC_WORKFLOW,
    ids::TenantId,
    temporal::{
        self, Temporal,
        client::WorkflowState,
        cron_workflows::{CronWorkflow, RunKey},
    },
};

/// How old a list may be for a schedule that is about to be made.
const FRESH: Duration = Duration::from_secs(10);

/// What is known.
#[derive(Default)]
pub struct CronWorkflows {
    listed: tokio::sync::Mutex<Listed>,
    tenants: Mutex<HashSet<TenantId>>,
}

#[derive(Default)]
struct Listed {
    at: Option<Instant>,
    runs: HashMap<RunKey, Option<CronWorkflow>>,
}

impl CronWorkflows {
    /// Whether one was listed for this tenant.
    #[must_use]
    pub fn suspects(&self, tenant: &TenantId) -> bool {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).contains(tenant)
    }

    /// Lists anew.
    ///
    /// # Errors
    /// Temporal's.
    pub async fn list(&self, temporal: &Temporal) -> Result<(), temporal::Error> {
        self.listed.lock().await.refresh(temporal, &self.tenants).await
    }

    /// The cron workflow that ticks for a tenant. Lists show what has ended for a while, so what is found is asked for.
    ///
    /// # Errors
    /// Temporal's.
    pub async fn find(&self, temporal: &Temporal, tenant: &TenantId) -> Result<Option<CronWorkflow>, temporal::Error> {
        let mut listed = self.listed.lock().await;
        if listed.at.is_none_or(|at| at.elapsed() > FRESH) {
            listed.refresh(temporal, &self.tenants).await?;
        }
        let found: Vec<_> = listed.runs.values().flatten().filter(|cron| cron.tenant_id == *tenant).cloned().collect();
        drop(listed);
        for cron in found {
            if temporal.workflow_state(&cron.workflow_id).await? == WorkflowState::Running {
                return Ok(Some(cron));
            }
        }
        Ok(None)
    }
}

impl Listed {
    async fn refresh(
        &mut self,
        temporal: &Temporal,
        tenants: &Mutex<HashSet<TenantId>>,
    ) -> Result<(), temporal::Error> {
        let open = temporal.unscheduled_runs(SCHEDULED_SYNC_WORKFLOW).await?;
        let mut runs = HashMap::new();
        for run in open {
            let known = match self.runs.remove(&run) {
                Some(known) => known,
                None => temporal.cron_workflow(&run).await?,
            };
            runs.insert(run, known);
        }
        let ticking = runs.values().flatten().map(|cron| cron.tenant_id.clone()).collect();
        *tenants.lock().unwrap_or_else(PoisonError::into_inner) = ticking;
        *self = Self { at: Some(Instant::now()), runs };
        Ok(())
    }
}
