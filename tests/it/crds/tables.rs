//! Objects that the API server must refuse, with a fragment of its message, and objects that it must admit.
//! Specs are merged into a valid one; null takes a field away.

use serde_json::{Value, json};

pub(super) fn refused_schedules() -> Vec<(Value, &'static str)> {
    let cron = |expression: &str| json!({ "schedules": [expression] });
    let zone = |name: &str| json!({ "timeZone": name });
    let window =
        |begin: &str, length: &str| json!({ "maintenanceWindows": [{ "schedule": begin, "duration": length }] });
    let backfill =
        |from: &str, to: &str| json!({ "requests": { "backfill": { "token": "a", "from": from, "to": to } } });
    let dedicated = |field: &str, value: Value| json!({ "workers": { "mode": "Dedicated", field: value } });
    const WINDOW: &str = "a window begins at one minute and one hour";
    const FIVE: &str = "a schedule has five fields";
    const ZONE: &str = "timeZone must be a name of the IANA time zone database";
    vec![
        (json!({ "tenantId": null }), "spec.tenantId: Required value"),
        (json!({ "tenantId": "Acme" }), "tenantId must be a DNS label"),
        (json!({ "tenantId": "a\u{202e}b" }), "tenantId must be a DNS label"),
        (json!({ "tenantId": "a".repeat(64) }), "may not be more than 63"),
        (cron("60 * * * *"), "minute: use 0-59"),
        (cron("*/0 * * * *"), "minute: use 0-59"),
        (cron("*/60 * * * *"), "minute: use 0-59"),
        (cron("* 24 * * *"), "hour: use 0-23"),
        (cron("0 0 32 * *"), "day-of-month: use 1-31"),
        (cron("0 0 0 * *"), "day-of-month: use 1-31"),
        (cron("0 0 L * *"), "day-of-month: use 1-31"),
        (cron("0 0 1 13 *"), "month: use 1-12"),
        (cron("0 0 1 foo *"), "month: use 1-12"),
        (cron("0 0 * * 8"), "day-of-week: use 0-7"),
        (cron("0 0 * * mon#2"), "a schedule takes no comment"),
        (cron("0 0 1 * mon"), "set day-of-month or day-of-week and leave the other *"),
        (cron("0 0 */2 * 1-5"), "set day-of-month or day-of-week and leave the other *"),
        (cron("* * * *"), FIVE),
        (cron("0 0 * * * *"), FIVE),
        (cron("@every 1m"), FIVE),
        (cron("@reboot"), FIVE),
        (cron(" 0 * * * *"), FIVE),
        (cron("0 * * * *\n0 * * * *"), FIVE),
        (cron(""), "should be at least 1 chars long"),
        (cron("CRON_TZ=Europe/Berlin 0 * * * *"), "set the time zone in spec.timeZone"),
        (cron("TZ=UTC 0 * * * *"), "set the time zone in spec.timeZone"),
        (cron("0 */4 * * * # nightly"), "a schedule takes no comment"),
        (cron(&"0,".repeat(100)), "may not be more than 100"),
        (json!({ "schedules": [] }), "should have at least 1 items"),
        (json!({ "schedules": vec!["@daily"; 9] }), "must have at most 8 items"),
        (json!({ "schedules": "@daily" }), "expected list"),
        (zone("Local"), ZONE),
        (zone("../etc/passwd"), ZONE),
        (zone("EST5EDT"), ZONE),
        (zone("+02:00"), ZONE),
        (zone("Europe/Atlantis"), ZONE),
        (zone(""), "should be at least 1 chars long"),
        (json!({ "catchUpWindow": "9s" }), "catchUpWindow must be at least 10s"),
        (json!({ "catchUpWindow": "1d" }), "a duration is written like"),
        (json!({ "catchUpWindow": "-5m" }), "a duration is written like"),
        (json!({ "spread": { "window": "5" } }), "should be at least 2 chars long"),
        (json!({ "spread": { "window": "5x" } }), "a duration is written like"),
        (json!({ "overlapPolicy": "Replace" }), "supported values: \"Skip\""),
        (json!({ "deletionPolicy": "Keep" }), "supported values: \"Delete\", \"Orphan\""),
        (json!({ "suspend": "yes" }), "expected boolean"),
        (json!({ "pausePolicy": "Never" }), "supported values: \"Cooperative\", \"Authoritative\""),
        (json!({ "driftPolicy": "Ignore" }), "supported values: \"Correct\", \"Report\""),
        (json!({ "conflictPolicy": "Take" }), "supported values: \"Refuse\", \"Adopt\""),
        (json!({ "startAt": "2026-12-01" }), "should be at least 20 chars long"),
        (json!({ "startAt": "2026-12-01 00:00:00+0000" }), "a time is written as in RFC 3339"),
        (json!({ "startAt": "2026-12-02T00:00:00Z", "endAt": "2026-12-01T00:00:00Z" }), "startAt must be before endAt"),
        (window("*/5 22 * * *", "1h"), WINDOW),
        (window("0 22,23 * * *", "1h"), WINDOW),
        (window("0 22 1 * *", "1h"), WINDOW),
        (window("0 22 * * monday", "1h"), WINDOW),
        (window("0 24 * * *", "1h"), WINDOW),
        (window("0 22 * * *", "25h"), "a maintenance window takes at least 1m and at most 24h"),
        (window("0 22 * * *", "30s"), "a maintenance window takes at least 1m and at most 24h"),
        (window("0 22 * * *", "1d"), "a duration is written like"),
        (
            json!({ "maintenanceWindows": vec![json!({ "schedule": "0 22 * * *", "duration": "1h" }); 9] }),
            "must have at most 8 items",
        ),
        (backfill("2026-11-02T00:00:00Z", "2026-11-01T00:00:00Z"), "backfill.from must be before backfill.to"),
        (backfill("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"), "backfill.from must be before backfill.to"),
        (backfill("2026-10-01T00:00:00Z", "2026-11-01T00:00:01Z"), "a backfill makes up for at most 31 days"),
        (backfill("2026-11-01", "2026-11-02T00:00:00Z"), "at least 20 chars long"),
        (json!({ "requests": { "trigger": {} } }), "spec.requests.trigger.token: Required value"),
        (json!({ "requests": { "trigger": { "token": "-" } } }), "a token is made of letters"),
        (json!({ "requests": { "fullSync": { "token": "a" } } }), "field not declared in schema"),
        (json!({ "workers": { "mode": "Own" } }), "supported values: \"Shared\", \"Dedicated\""),
        (json!({ "workers": { "replicas": 2 } }), "set mode: Dedicated, or leave them out"),
        (
            json!({ "workers": { "mode": "Shared", "nodeSelector": { "a": "b" } } }),
            "set mode: Dedicated, or leave them out",
        ),
        (dedicated("replicas", json!(21)), "should be less than or equal to 20"),
        (dedicated("nodeSelector", json!({ "a b": "c" })), "a key of nodeSelector is that of a label"),
        (dedicated("nodeSelector", json!({ "a": "b c" })), "not the value of a label or taint"),
        (
            dedicated("resources", json!({ "limits": { "memory": "much" } })),
            "an amount is a number with an optional unit",
        ),
        (
            dedicated("resources", json!({ "requests": { "cpu": "2" }, "limits": { "cpu": "1500m" } })),
            "resources.requests.cpu must not be above resources.limits.cpu",
        ),
        (dedicated("resources", json!({ "limits": { "gpu": "1" } })), "field not declared in schema"),
        (dedicated("tolerations", json!([{ "key": "a", "operator": "Exists", "value": "b" }])), "takes no value"),
        (dedicated("tolerations", json!([{ "key": "a", "effect": "Evict" }])), "supported values: \"NoSchedule\""),
        (dedicated("podTemplate", json!({})), "field not declared in schema"),
        (json!({ "shedules": ["@daily"] }), ".spec.shedules: field not declared in schema"),
    ]
}

pub(super) fn refused_connectors() -> Vec<(Value, &'static str)> {
    let url = |url: &str| json!({ "source": { "hubspot": { "baseUrl": url } } });
    const HOST: &str = "baseUrl must be https://host";
    vec![
        (json!({ "source": { "hubspot": null } }), "type HubSpot needs source.hubspot"),
        (json!({ "source": { "type": null } }), "spec.source.type: Required value"),
        (json!({ "source": { "type": "Pipedrive" } }), "supported values: \"HubSpot\""),
        (json!({ "source": null }), "spec.source: Required value"),
        (url("ftp://host"), "baseUrl must begin with https://"),
        (url("//host/path"), "baseUrl must begin with https://"),
        (url("https://user:secret@host"), "must not contain a user or password"),
        (url("https://host?token=abc"), "must not contain a query or fragment"),
        (url("https://host#x"), "must not contain a query or fragment"),
        (url("https://ho st"), "must not contain blanks"),
        (url("https://host\n"), "must not contain blanks"),
        (url("https://hóst"), "letters outside ASCII"),
        (url("https://"), HOST),
        (url("https://host\\evil"), HOST),
        (url("https://host:port"), HOST),
        (url("https:///path"), HOST),
        (url("https://%31%32"), HOST),
        (url(&format!("https://{}", "a".repeat(512))), "may not be more than 512"),
        (json!({ "credentials": { "secretRef": null } }), "exactly one of secretRef and sealed"),
        (
            json!({ "credentials": { "sealed": "gtmseal1:0123456789abcdef:QUJD" } }),
            "exactly one of secretRef and sealed",
        ),
        (json!({ "credentials": { "secretRef": null, "sealed": "pat-na1-secret" } }), "not a sealed credential"),
        (json!({ "credentials": { "secretRef": { "name": "../other" } } }), "not the name of a Secret"),
        (json!({ "credentials": { "secretRef": { "name": "a..b" } } }), "not the name of a Secret"),
        (json!({ "credentials": { "secretRef": { "key": "a/b" } } }), "not a key of a Secret"),
        (json!({ "credentials": { "secretRef": { "namespace": "other" } } }), "field not declared in schema"),
        (json!({ "streams": [{ "name": "tickets" }] }), "supported values: \"owners\""),
        (json!({ "streams": [{ "name": "deals" }, { "name": "deals" }] }), "duplicate entries"),
        (
            json!({ "streams": [{ "name": "deals", "properties": ["a b"] }] }),
            "a property is the source's internal name",
        ),
        (json!({ "streams": [{ "name": "deals", "properties": ["a", "a"] }] }), "duplicate entries"),
        (
            json!({ "streams": [{ "name": "deals", "schemaContract": "evolve" }] }),
            "supported values: \"Evolve\", \"Freeze\"",
        ),
        (
            json!({ "streams": [{ "name": "contacts", "fields": { "allow": ["email"], "drop": ["phone"] } }] }),
            "fields takes allow (only these) or drop (all but these), not both",
        ),
        (
            json!({ "streams": [{ "name": "contacts", "fields": { "hash": ["e-mail"] } }] }),
            "a field is a column of the canonical schema, such as email",
        ),
        (json!({ "streams": [{ "name": "contacts", "fields": { "drop": ["email", "email"] } }] }), "duplicate entries"),
        (
            json!({ "streams": [{ "name": "contacts", "fields": { "mask": ["email"] } }] }),
            "field not declared in schema",
        ),
        (json!({ "sync": { "batchSize": 0 } }), "greater than or equal to 1"),
        (json!({ "sync": { "batchSize": 50_001 } }), "less than or equal to 50000"),
        (json!({ "sync": { "batchSize": 2.5 } }), "must be of type integer"),
        (json!({ "sync": { "schedules": ["60 * * * *"] } }), "minute: use 0-59"),
        (json!({ "limits": { "requestsPerSecond": 0 } }), "greater than or equal to 1"),
        (json!({ "limits": { "requestsPerSecond": 4_294_967_296_i64 } }), "spec.limits.requestsPerSecond"),
        (json!({ "limits": { "quotaReservePercent": 100 } }), "less than or equal to 90"),
        (json!({ "limits": { "maxRejectedPercent": 101 } }), "less than or equal to 100"),
        (json!({ "state": "running" }), "supported values: \"Running\""),
        (json!({ "requests": { "sync": { "token": "now!" } } }), "a token is made of letters"),
    ]
}

/// Wishes that are refused: what is about nothing, and what would be about everything by mistake.
pub(super) fn refused_wishes() -> Vec<(Value, &'static str)> {
    let wish = |verb: &str, wish: Value| json!({ "requests": { verb: wish } });
    let resync = |from: &str, to: &str| wish("resync", json!({ "token": "a", "from": from, "to": to }));
    let (day, next_day) = ("2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z");
    vec![
        (wish("resetCursor", json!({ "token": "a", "expectedPosition": -1 })), "greater than or equal to 0"),
        (wish("resetCursor", json!({ "token": "a", "position": 1 })), "field not declared in schema"),
        (wish("replay", json!({ "run": "x" })), "spec.requests.replay.token"),
        (wish("replay", json!({ "token": "a", "batch": 1 })), "batches are counted within a run: set run, too"),
        (wish("replay", json!({ "token": "a", "record": "1" })), "a record is one of an entity: set entity, too"),
        (wish("replay", json!({ "token": "a", "entity": "deals" })), "supported values: \"account\""),
        (wish("replay", json!({ "token": "a", "run": "x\n" })), "an id is copied as it is shown"),
        (wish("replay", json!({ "token": "a", "entity": "contact", "record": "" })), "at least 1 chars long"),
        (wish("discard", json!({ "token": "a" })), "discard deletes for good: say which"),
        (wish("discard", json!({ "token": "a", "all": false })), "discard deletes for good: say which"),
        (wish("discard", json!({ "token": "a", "all": true, "run": "x" })), "discard deletes for good: say which"),
        (wish("discard", json!({ "token": "a", "all": true, "entity": "lead" })), "or set all: true alone"),
        (wish("discard", json!({ "token": "a", "run": "x", "record": "1" })), "a record is one of an entity"),
        (wish("discard", json!({ "token": "a", "entity": "lead", "batch": 0 })), "batches are counted within a run"),
        (wish("resync", json!({ "token": "a", "from": day })), "spec.requests.resync.to"),
        (resync(next_day, day), "resync.from must be before resync.to"),
        (resync(day, day), "resync.from must be before resync.to"),
        (resync("2026-11-22T01:00:00+01:00", day), "resync.from must be before resync.to"),
        (resync("2026-11-22T00:00:00", next_day), "a time is written as in RFC 3339"),
        (resync("2026-11-22", next_day), "at least 20 chars long"),
        (resync("0001-01-01T00:00:00Z", next_day), "a time is written as in RFC 3339"),
        (resync("2026-02-30T00:00:00Z", next_day), "spec.requests.resync"),
        (json!({ "autoRestart": { "maxRestarts": 0 } }), "greater than or equal to 1"),
        (json!({ "autoRestart": { "initialBackoff": "0s" } }), "must be at least 1s"),
        (json!({ "autoRestart": { "maxBackoff": "1d" } }), "a duration is written like"),
        (json!({ "freshnessTarget": "0h" }), "must be at least 1s"),
        (json!({ "freshnessTarget": "often" }), "a duration is written like"),
        (json!({ "limits": { "maxSweptPercent": 0 } }), "greater than or equal to 1"),
        (json!({ "limits": { "maxSweptPercent": 101 } }), "less than or equal to 100"),
        (json!({ "dataPolicy": "Purge" }), "supported values: \"Retain\""),
    ]
}

/// Wishes that are admitted, by verb.
pub(super) fn accepted_wishes() -> Vec<Value> {
    let record = json!({ "token": "a", "entity": "contact", "record": "17 / ü" });
    let batch = json!({ "token": "a", "run": "sync-acme-hubspot-2026-11-23T00:00:00Z", "batch": 0 });
    let all = json!({ "token": "a", "all": true });
    let window = json!({ "token": "a", "from": "2026-11-22T00:00:00Z", "to": "2026-11-22T00:00:00.5Z" });
    let some = |of: &Value| {
        let mut some = of.clone();
        some["all"] = json!(false);
        some
    };
    vec![
        json!({ "requests": { "resetCursor": { "token": "a", "expectedPosition": 9_007_199_254_740_993_i64 } } }),
        json!({ "requests": { "replay": { "token": "a" }, "confirmSweep": { "token": "a" } } }),
        json!({ "requests": { "replay": record, "discard": some(&batch), "resync": window } }),
        json!({ "requests": { "replay": batch, "discard": some(&record) } }),
        json!({ "requests": { "discard": all } }),
        json!({ "limits": { "maxSweptPercent": 100 }, "dataPolicy": "Delete" }),
        json!({ "autoRestart": {}, "freshnessTarget": "90m" }),
    ]
}

pub(super) fn accepted_schedules() -> Vec<Value> {
    let cron = |expression: &str| json!({ "schedules": [expression] });
    let mut accepted: Vec<Value> = [
        "0 */4 * * *",
        "*/15 8-18 * * mon-fri",
        "0,30 0 1,15 * *",
        "5/10 * * * *",
        "0 0 1 JAN-Jun/2 *",
        "0 0 * * Sunday,3",
        "59 23 31 12 *",
        "00 07 * * 7",
        "0  0  *  *  *",
        "0 0 1 september *",
        "@hourly",
        "@daily",
        "@weekly",
        "@monthly",
        "@yearly",
    ]
    .map(cron)
    .into();
    accepted.extend(
        ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5"].map(|zone| json!({ "timeZone": zone })),
    );
    accepted.extend([
        json!({ "schedules": vec!["*/5 * * * *"; 8] }),
        json!({ "catchUpWindow": "10s" }),
        json!({ "catchUpWindow": "99999h99999m99999s", "spread": { "window": "0s" } }),
        json!({ "requests": { "trigger": { "token": "2026-11-23T10:00:00Z" } } }),
        json!({ "requests": { "backfill": {
            "token": "a", "from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:00Z", "overlapPolicy": "BufferAll",
        } } }),
        json!({ "suspend": true, "deletionPolicy": "Orphan", "overlapPolicy": "BufferOne" }),
        json!({ "tenantId": "0-a" }),
        json!({ "pausePolicy": "Authoritative", "driftPolicy": "Report", "conflictPolicy": "Adopt", "pauseOnFailure": true }),
        json!({ "startAt": "2026-12-01T00:00:00Z" }),
        json!({ "startAt": "2026-12-01T00:00:00Z", "endAt": "2026-12-02T00:00:00Z" }),
        json!({ "maintenanceWindows": [
            { "schedule": "30 22 * * sat,sun", "duration": "24h" }, { "schedule": "0 3 * * *", "duration": "1h30m" },
            { "schedule": "5 04 * * Mon-Fri,7", "duration": "1m" },
        ] }),
    ]);
    accepted
}

pub(super) fn accepted_connectors() -> Vec<Value> {
    let url = |url: &str| json!({ "source": { "hubspot": { "baseUrl": url } } });
    let mut accepted: Vec<Value> = [
        "https://api.hubapi.com",
        "https://api.hubapi.com/crm/",
        "http://hubspot-sim.demo.svc:8090",
        "https://[2001:db8::1]:8443/v1",
        "http://127.0.0.1:1",
    ]
    .map(url)
    .into();
    accepted.extend([
        json!({ "credentials": { "secretRef": { "name": "a.b-c", "key": "access_token" } } }),
        json!({ "credentials": { "secretRef": null, "sealed": "gtmseal1:0123456789abcdef:QUJDRA==" } }),
        json!({ "streams": [] }),
        json!({ "streams": [{ "name": "contacts", "properties": ["lifecyclestage", "hs_lead_status"] }, { "name": "notes" }] }),
        json!({ "streams": [{ "name": "owners", "schemaContract": "Freeze", "fields": { "allow": ["active"], "drop": [] } }] }),
        json!({ "streams": [{ "name": "contacts", "schemaContract": "Evolve", "fields": { "drop": ["phone"], "hash": ["email"] } }] }),
        json!({ "sync": { "batchSize": 50_000, "schedules": ["*/15 * * * *", "@daily"] } }),
        json!({ "limits": { "requestsPerSecond": 1_000, "quotaReservePercent": 0, "maxRejectedPercent": 100 } }),
        json!({ "state": "Stopped", "requests": { "sync": { "token": "a" }, "fullSync": { "token": "b" } } }),
    ]);
    accepted
}
