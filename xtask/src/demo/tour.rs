//! What the user sees when the first syncs are done, and the file that makes the user's own tools work.

use super::{Demo, Stage, accounts::Accounts, objects::ACCOUNTS, rows};
use crate::{console, run::Run, services::EnvironmentFile, tools::Toolbox};

/// Writes `target/demo/env`, with the tools of the demo first in PATH.
pub(super) fn environment(
    demo: &Demo<'_>,
    run: &Run,
    tools: &Toolbox,
    stage: &Stage,
    accounts: &Accounts,
) -> anyhow::Result<EnvironmentFile> {
    let programs = run.directory.join("bin");
    tools.link_into(&programs)?;
    let path = demo.machine.search_path_with(&programs).to_string_lossy().into_owned();
    let mut variables = vec![
        ("KUBECONFIG", stage.kubernetes.kubeconfig.display().to_string()),
        ("TEMPORAL_ADDRESS", stage.temporal.clone()),
        ("GTM_DATABASE_URL", stage.database_url.clone()),
        ("HUBSPOT_URL", accounts.url(&ACCOUNTS[0])),
        ("HUBSPOT_TOKEN", accounts.token(&ACCOUNTS[0])),
        ("PATH", path),
    ];
    variables.extend(stage.web_ui.clone().map(|it| ("TEMPORAL_UI", it)));
    EnvironmentFile::write(&demo.directory, &variables)
}

/// Shows objects, rows, links and what to try.
pub(super) async fn show(stage: &Stage, file: &EnvironmentFile) -> anyhow::Result<()> {
    for resource in ["tenantschedules", "connectors"] {
        console::line(format_args!("\n$ kubectl get {resource} --all-namespaces"));
        console::line(stage.kubernetes.kubectl(&["get", resource, "--all-namespaces"]).await?.trim_end());
    }
    console::line(format_args!("\n{}", rows::table(&stage.database_url).await?));
    console::line(format_args!("\n{}", stage.remark));
    if let Some(url) = &stage.web_ui {
        console::line(format_args!("Temporal Web UI: {url}"));
    }
    console::line(format_args!("\nin another terminal: . {}\nthen try:", file.path.display()));
    let count = if stage.database_url.starts_with("sqlite:") {
        "sqlite3 \"${GTM_DATABASE_URL#sqlite:}\" 'SELECT tenant_id, count(*) FROM canonical_contact GROUP BY 1'"
    } else {
        "psql \"$GTM_DATABASE_URL\" -c 'SELECT tenant_id, count(*) FROM canonical.contact GROUP BY 1'"
    };
    for command in [
        "temporal workflow start --type connectorSyncWorkflow --task-queue connector-sync \\\n      \
         --workflow-id sync-acme-hubspot-manual \\\n      \
         --input '{\"tenantId\":\"acme\",\"connectorId\":\"hubspot\",\"fullSync\":true}'",
        "temporal workflow query --workflow-id sync-acme-hubspot-manual --type getSyncProgress",
        "kubectl -n tenant-globex annotate connector hubspot sync.gtmclarity.io/requested-at=\"$(date +%s)\" --overwrite",
        "kubectl -n tenant-acme patch tenantschedule acme --type merge -p '{\"spec\":{\"schedules\":[\"0 6 * * *\"]}}' &&\n      \
         temporal schedule describe --schedule-id scheduled-sync-acme",
        count,
    ] {
        console::line(format_args!("  $ {command}"));
    }
    Ok(())
}
