//! Every write outside is one line of the audit, and every line is a write.

use crate::{deeds::plan_fleet, harness::Sandbox, removal, telemetry_listening::Listening};
use forerunner::{
    sandbox::wire::{Call, Fault, Service, What},
    telemetry::audit,
};
use serde_json::{Value, json};

/// forerunner's calls that changed something that is not only a record of what it did.
fn writes(sandbox: &Sandbox) -> Vec<String> {
    let calls = sandbox.world.wire.calls();
    let outside = |call: &&Call| {
        let asks = ["/api/graphql", "Microsoft.ResourceGraph", "/listClusterUser", "dryRun=All"];
        let records = ["/configmaps/status-", "/configmaps/parked-plan", "/secrets/foreign-"];
        let services = [Service::Gitlab, Service::Arm, Service::KeyVault, Service::Kubernetes];
        call.is_ours()
            && call.is_write()
            && services.contains(&call.service)
            && !asks.iter().any(|part| call.path.contains(part))
            // To take a record away is a step of a removal.
            && (call.method == "DELETE" || !records.iter().any(|part| call.path.contains(part)))
    };
    let told = |call: &Call| {
        let path = call.path.split('?').next().unwrap();
        format!("{} {path} {}", call.method, json!(call.status))
    };
    let mut writes: Vec<String> = calls.iter().filter(outside).map(told).collect();
    writes.sort();
    writes
}

fn told(events: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let line = |event: &Value| {
        let (call, status) = (&event["call"], &event["result"]["status"]);
        format!("{} {} {status}", text(&call["method"]), text(&call["path"]))
    };
    let mut told: Vec<String> = events.iter().map(line).collect();
    told.sort();
    told
}

/// Each fits the schema, says why it is there, and holds nothing that must stay secret.
fn check(listening: &Listening, sandbox: &Sandbox) -> Vec<Value> {
    let events = listening.audit();
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("audit.json", audit::schema()).unwrap();
    let schema = compiler.compile("audit.json", &mut schemas).unwrap();
    for event in &events {
        schemas.validate(event, schema).unwrap_or_else(|error| panic!("{error}: {event:#}"));
        assert_eq!(event["fleet"], "nonprod", "{event:#}");
        assert!(event["cause"].is_string() && event["traceId"].is_string(), "{event:#}");
        assert!(
            event["message"].as_str().is_some_and(|text| !text.starts_with("PUT ")),
            "{event:#}"
        );
    }
    assert_eq!(told(&events), writes(sandbox));
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_from_the_hook_to_the_end_has_one_event_for_each_write() {
    let listening = Listening::begin().await;
    let sandbox = removal::leaving_at(listening.clock.clone(), listening.heard()).await;
    removal::go(&sandbox).await;
    let events = check(&listening, &sandbox);
    assert!(events.len() > 30, "{}", events.len());
    let of = |part: &str| {
        let found = events.iter().find(|event| event["message"].as_str().unwrap().contains(part));
        found.unwrap_or_else(|| panic!("no event of `{part}`: {:#?}", told(&events)))
    };
    let made = of("create runner");
    assert_eq!(made["reason"], "hook");
    assert!(made["rule"].as_str().unwrap().starts_with("rules[0]: `platform/payments` fits"));
    assert_eq!((&made["action"], &made["actor"]), (&json!("create"), &Value::Null));
    assert_eq!(made["result"], json!({ "outcome": "done", "status": 201 }));
    // The permit that let it go, and the deletion that nobody's rule asks back.
    let permit = of("write the ledger");
    assert!(permit["changes"].to_string().contains("unmatched"), "{permit:#}");
    assert_eq!((&permit["reason"], &permit["unit"]), (&json!("sweep"), &Value::Null));
    let gone = of("delete identity");
    assert_eq!((&gone["action"], &gone["rule"]), (&json!("delete"), &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mending_says_what_was_there_and_what_is_put_in_its_place() {
    let (listening, sandbox) = Listening::beside(&plan_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let before = listening.audit().len();
    let name = format!("runner-g{group}-plan");
    sandbox.world.kubernetes.edit("deployments", "forerunner-nonprod", &name, |deployment| {
        deployment["spec"]["replicas"] = 3.into();
    });
    sandbox.sweep().await;
    let events = check(&listening, &sandbox);
    let mended = &events[before];
    let changes = json!([{ "path": "spec.replicas", "old": "3", "new": "1" }]);
    assert_eq!((&mended["changes"], &mended["action"]), (&changes, &json!("change")), "{mended:#}");
    assert_eq!(mended["unit"], format!("runner/g{group}-plan"));
    assert!(mended["cause"].as_str().unwrap().starts_with("sweep-"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_told_as_claimed_and_what_fails_is_told_too() {
    let (listening, sandbox) = Listening::beside(&plan_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let before = listening.audit().len();
    sandbox.world.wire.add_fault(Fault {
        service: Service::Gitlab,
        method: Some("PUT"),
        path: "/runners/".to_owned(),
        times: 1,
        what: What::DropAfterEffect,
    });
    let body = json!({ "command": "pause", "targets": [format!("g{group}")], "by": "jane", "why": "SEC-1" });
    sandbox
        .world
        .service_bus
        .send_as_operator("commands", body.to_string(), Default::default())
        .unwrap();
    sandbox.settle().await;
    let events = check(&listening, &sandbox);
    let paused = &events[before..];
    assert!(!paused.is_empty());
    for event in paused {
        assert_eq!(
            (&event["actor"], &event["cause"]),
            (&json!("jane"), &json!("pause by jane: SEC-1"))
        );
    }
    assert_eq!(paused[0]["result"], json!({ "outcome": "unknown", "status": null }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_somebody_asks_for_writes_in_their_name() {
    let (listening, sandbox) = Listening::beside(&plan_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.leap_to("2026-11-27T08:00:00Z");
    sandbox.sweep().await;
    sandbox.deploy(&plan_fleet().replace("platform/*", "platform/nobody")).await;
    let before = listening.audit().len();
    let body = json!({ "command": "sweep", "by": "jane", "why": "SEC-1" });
    sandbox.order("commands", &body);
    sandbox.settle().await;
    let events = check(&listening, &sandbox);
    let permit = events[before..].iter().find(|event| event["action"] == "note").unwrap();
    let claimed = (json!("jane"), json!("sweep by jane: SEC-1"));
    assert_eq!((&permit["actor"], &permit["cause"]), (&claimed.0, &claimed.1), "{permit:#}");
    // And so does whoever it wakes.
    let unit = json!(format!("runner/g{group}-plan"));
    let leaving = events[before..].iter().find(|event| event["unit"] == unit).unwrap();
    assert_eq!((&leaving["actor"], &leaving["cause"]), (&claimed.0, &claimed.1), "{leaving:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_holds_a_secret() {
    let (listening, sandbox) = Listening::beside(&plan_fleet()).await;
    sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let secrets = sandbox.world.kubernetes.list("secrets", "");
    let tokens: Vec<String> = secrets
        .iter()
        .filter_map(|secret| secret["data"]["config.toml"].as_str())
        .map(|text| {
            use base64::{Engine, prelude::BASE64_STANDARD};
            String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap()
        })
        .flat_map(|config| {
            let lines = config.lines().filter(|line| line.trim_start().starts_with("token ="));
            lines.map(|line| line.split('"').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(tokens.len(), 1);
    let own = sandbox.world.azure.secret("kv-fleet", "gitlab-token").unwrap();
    let said = listening.console.stdout() + &listening.console.stderr();
    assert!(listening.audit().iter().any(|event| event.to_string().contains("(sensitive)")));
    for secret in tokens.iter().chain([&own, &sandbox.world.azure.identity_header()]) {
        assert!(!said.contains(secret.as_str()), "{secret}");
    }
    for word in ["glrt-", "glpat-", "eyJ"] {
        assert!(!said.contains(word), "{word}");
    }
}

#[test]
fn the_schema_on_file_is_the_one_that_events_have() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/audit.schema.json");
    let expected = format!("{:#}\n", audit::schema());
    let found = std::fs::read_to_string(file).unwrap_or_default();
    if found != expected {
        let fresh = concat!(env!("CARGO_TARGET_TMPDIR"), "/audit.schema.json");
        std::fs::write(fresh, expected).unwrap();
        panic!("it differs: look at both, and copy {fresh} over {file}");
    }
}
