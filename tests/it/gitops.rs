//! What `deploy/argocd` and `deploy/flux` tell GitOps tools, run by the Lua that Argo CD has. That the operator's own
//! statuses deserve it is `operator/kstatus_table.rs`'; that nothing it writes is fought is `operator::samples`'.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::support::{
    kstatus::{self, Outcome},
    service,
};

const KINDS: [&str; 2] = ["TenantSchedule", "Connector"];

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("readable")
}

/// A key of the shipped ConfigMap.
fn customization(of: &str, kind: &str) -> String {
    let map: Value = serde_saphyr::from_str(&file("deploy/argocd/argocd-cm.yaml")).expect("YAML");
    let key = format!("resource.customizations.{of}.sync.gtmclarity.io_{kind}");
    map["data"][&key].as_str().unwrap_or_else(|| panic!("{key} is there")).to_owned()
}

/// A JSON value as Lua writes it.
fn lua(value: &Value) -> String {
    let listed = |items: Vec<String>| format!("{{{}}}", items.join(", "));
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(items) => listed(items.iter().map(lua).collect()),
        Value::Object(members) => {
            let pairs = members.iter().filter(|(_, member)| !member.is_null());
            listed(pairs.map(|(name, member)| format!("[{name:?}] = {}", lua(member))).collect())
        }
        plain => plain.to_string(),
    }
}

/// Runs a script once for each object, without the libraries that Argo CD withholds (argo-cd, `util/lua`), and gives
/// what `tell`, a Lua expression about its `answer`, evaluates to.
fn run(script: &str, objects: &[Value], tell: &str) -> Vec<String> {
    let directory = tempfile::tempdir().expect("temporary directory");
    let (subject, driver) = (directory.path().join("subject.lua"), directory.path().join("driver.lua"));
    fs::write(&subject, script).expect("written");
    let objects: Vec<_> = objects.iter().map(lua).collect();
    let text = format!(
        "local subject = assert(loadfile([[{}]]))\nlocal objects = {{{}}}\n\
         io, string, math, debug, coroutine, channel = nil, nil, nil, nil, nil, nil\n\
         os = {{date = os.date, time = os.time}}\n\
         for _, each in ipairs(objects) do\n  obj = each\n  local answer = subject()\n  print({tell})\nend\n",
        subject.display(),
        objects.join(",\n")
    );
    fs::write(&driver, text).expect("written");
    let output = Command::new(service("GTM_TEST_LUA")).arg(&driver).output().expect("the interpreter starts");
    let told = |bytes| String::from_utf8(bytes).expect("UTF-8");
    assert!(output.status.success(), "{}{}", told(output.stdout), told(output.stderr));
    told(output.stdout).lines().map(str::to_owned).collect()
}

/// Every combination of what kstatus looks at.
fn objects() -> Vec<Value> {
    let mut objects = vec![json!({"metadata": {"generation": 1}})];
    for observed in [json!(null), json!(-1), json!(1), json!(2)] {
        for ready in [None, Some("True"), Some("False"), Some("Unknown")] {
            for abnormal in [None, Some("Reconciling"), Some("Stalled")] {
                let condition = |of: &str, status: &str| json!({"type": of, "status": status, "reason": "Why", "message": "because"});
                let conditions: Vec<_> = ready
                    .map(|status| condition("Ready", status))
                    .into_iter()
                    .chain(abnormal.map(|of| condition(of, "True")))
                    .collect();
                objects.push(json!({"metadata": {"generation": 2},
                    "status": {"observedGeneration": observed, "conditions": conditions}}));
            }
        }
    }
    objects
}

#[test]
#[ignore = "needs lua"]
fn argo_cd_says_what_kstatus_says_and_waits_where_kstatus_trusts_an_object_without_a_status() {
    let objects = objects();
    for kind in KINDS {
        let told = run(&customization("health", kind), &objects, "answer.status");
        assert_eq!(told.len(), objects.len());
        for (object, told) in objects.iter().zip(told) {
            let status = &object["status"];
            let never_looked_at = status["observedGeneration"].is_null()
                || !status["conditions"].as_array().is_some_and(|all| all.iter().any(|of| of["type"] == "Ready"));
            let expected = match kstatus::outcome(object) {
                Outcome::Failed if !status["observedGeneration"].is_null() => "Degraded",
                Outcome::Current if !never_looked_at => "Healthy",
                _ => "Progressing",
            };
            assert_eq!(told, expected, "{kind} {object}");
        }
    }
}

#[test]
#[ignore = "needs lua"]
fn in_argo_cd_a_failing_source_degrades_an_object_only_where_somebody_wants_it() {
    let object = |healthy: &str| {
        let condition = |of: &str, status: &str| json!({"type": of, "status": status, "reason": "LastSyncFailed", "message": "why"});
        json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 2,
            "conditions": [condition("Ready", "True"), condition("Healthy", healthy)]}})
    };
    let objects = [object("True"), object("False"), object("Unknown")];
    let script = customization("health", "Connector");
    let tell = "answer.status .. ' ' .. answer.message";
    let healthy = "Healthy LastSyncFailed: why";
    assert_eq!(run(&script, &objects, tell), [healthy; 3], "with the reason in its message");
    let strict = script.replace("failing_is_degraded = false", "failing_is_degraded = true");
    assert_eq!(run(&strict, &objects, tell), [healthy, "Degraded LastSyncFailed: why", healthy]);
}

#[test]
#[ignore = "needs lua"]
fn argo_cds_actions_change_what_they_say_and_are_offered_where_they_would_change_something() {
    let tenant =
        |suspend: Value| json!({"metadata": {"name": "acme"}, "spec": {"tenantId": "acme", "suspend": suspend}});
    let connector = |state: Value| json!({"metadata": {"annotations": {"kept": "yes"}}, "spec": {"state": state}});
    let cases = [
        ("TenantSchedule", [tenant(json!(null)), tenant(json!(false)), tenant(json!(true))], "obj.spec.suspend"),
        (
            "Connector",
            [connector(json!(null)), connector(json!("Running")), connector(json!("Stopped"))],
            "obj.spec.state",
        ),
    ];
    for (kind, objects, field) in cases {
        let actions: Value = serde_saphyr::from_str(&customization("actions", kind)).expect("YAML");
        let script = |name: &str| {
            let definitions = actions["definitions"].as_array().expect("definitions");
            let found = definitions.iter().find(|definition| definition["name"] == name).expect("a definition");
            found["action.lua"].as_str().expect("a script").to_owned()
        };
        let offered = "tostring(answer['suspend'].disabled) .. tostring(answer['resume'].disabled)";
        let discovery = actions["discovery.lua"].as_str().expect("a script");
        assert_eq!(run(discovery, &objects, offered), ["falsetrue", "falsetrue", "truefalse"], "{kind}");
        let (suspended, resumed) = if kind == "Connector" { ("Paused", "Running") } else { ("true", "false") };
        let tell = format!("tostring({field})");
        assert_eq!(run(&script("suspend"), &objects, &tell), [suspended; 3], "{kind}");
        assert_eq!(run(&script("resume"), &objects, &tell), [resumed; 3], "{kind}");
        let token = "answer.metadata.annotations['sync.gtmclarity.io/requested-at']";
        for token in run(&script("sync-now"), &objects, token) {
            assert!(token.parse::<jiff::Timestamp>().is_ok(), "{kind}: {token}");
        }
        let kept = "tostring((answer.metadata.annotations or {}).kept)";
        let expected = if kind == "Connector" { "yes" } else { "nil" };
        assert_eq!(run(&script("sync-now"), &objects, kept), [expected; 3]);
    }
}

#[test]
fn fluxs_sample_waits_for_our_status_and_names_folders_that_are_there() {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&file("deploy/flux/tenants.yaml")).expect("YAML");
    let kustomizations: Vec<_> = documents.iter().filter(|of| of["kind"] == "Kustomization").collect();
    assert_eq!(kustomizations.len(), 2);
    for kustomization in kustomizations {
        let spec = &kustomization["spec"];
        assert_eq!(spec["wait"], true, "{kustomization}");
        assert_eq!(spec.get("healthChecks"), None, "kstatus needs no help");
        let folder = spec["path"].as_str().expect("a path").trim_start_matches("./");
        assert!(!file(&format!("{folder}/kustomization.yaml")).is_empty());
    }
}
