//! A unit's way to *settled* with something going wrong on it, and what must be the same in the end.

use crate::harness::Sandbox;
use base64::{Engine, prelude::BASE64_STANDARD};
use forerunner::sandbox::wire::Call;
use jiff::SignedDuration;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    fmt::Display,
    future::Future,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A fleet, and what somebody does in GitLab so that a runner is due.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) fleet: &'static str,
    /// Answers the runner's unit.
    pub(crate) begin: fn(&Sandbox) -> String,
}

/// An identity of the runner's own, with two roles.
pub(crate) const MANAGED: Scenario = Scenario { fleet: TWO_ROLES, begin: new_group };
/// An identity that an administrator made.
pub(crate) const EXISTING: Scenario = Scenario { fleet: EXISTING_IDENTITY, begin: new_group };
/// A project's runner without an identity.
pub(crate) const PROJECT: Scenario = Scenario { fleet: NO_IDENTITY, begin: new_project };

fn new_group(sandbox: &Sandbox) -> String {
    format!("runner/g{}-plan", sandbox.world.gitlab.create_group(Some(42), "payments"))
}

fn new_project(sandbox: &Sandbox) -> String {
    format!("runner/p{}-plan", sandbox.world.gitlab.create_project(42, "images"))
}

/// A lost hook and a parked unit are found by the next sweeps.
const SWEEPS: usize = 3;

/// Settles the unit, whatever was done to the wire before; answers what there is in the end.
pub(crate) async fn settle(sandbox: &Sandbox, unit: &str) -> Result<Value, String> {
    for sweep in 0..=SWEEPS {
        let settled = sandbox.world.settle(SignedDuration::from_hours(3)).await;
        settled.map_err(|error| format!("{error}\n{}", sandbox.story()))?;
        if sandbox.is_ready(unit) {
            return Ok(inventory(sandbox));
        }
        if sweep < SWEEPS {
            // A lost hook is found at once, what is parked when it is due.
            if sweep > 0 {
                sandbox.pass(SignedDuration::from_mins(11)).await;
            }
            assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
        }
    }
    Err(format!("`{unit}` is not ready: {}\n{}", sandbox.status(unit), sandbox.story()))
}

/// The undisturbed run: what there is in the end, and forerunner's own calls.
pub(crate) async fn calm(scenario: Scenario) -> (Value, Vec<Call>) {
    let sandbox = Sandbox::new(scenario.fleet).await;
    let unit = (scenario.begin)(&sandbox);
    let inventory = settle(&sandbox, &unit).await.unwrap_or_else(|error| panic!("{error}"));
    let calls = sandbox.world.wire.calls().into_iter().filter(Call::is_ours).collect();
    (inventory, calls)
}

/// Says how `found` differs from the undisturbed run, with the story's end.
pub(crate) fn same(sandbox: &Sandbox, found: &Value, calm: &Value) -> Result<(), String> {
    if found == calm {
        return Ok(());
    }
    let keys = calm.as_object().into_iter().flatten();
    let differing = keys.filter(|(key, value)| found[key.as_str()] != **value);
    let differing =
        differing.map(|(key, value)| format!("{key}: {}\n  instead of {value}", found[key]));
    let differing = differing.collect::<Vec<_>>().join("\n");
    Err(format!("{differing}\n{}", sandbox.story()))
}

/// Everything outside, with what tells a live token from a lost one.
pub(crate) fn inventory(sandbox: &Sandbox) -> Value {
    let mut all = sandbox.inventory();
    let (gitlab, azure) = (&sandbox.world.gitlab, &sandbox.world.azure);
    let mut tokens = Vec::new();
    for secret in sandbox.world.kubernetes.list("secrets", "") {
        let name = secret["metadata"]["name"].as_str().unwrap_or_default();
        for (id, token) in entries(&secret) {
            let runner = gitlab.runner(id);
            let digest = hex::encode(Sha256::digest(&token));
            let is_its_own = runner.is_some_and(|runner| runner.token_sha256 == digest);
            let is_good = is_its_own && gitlab.token_is_valid(&token);
            tokens.push(format!("{name}: {}", if is_good { "live" } else { "dead" }));
        }
    }
    tokens.sort();
    let settings = gitlab.runners().into_iter().map(|runner| {
        json!([runner.maintenance_note, runner.tags, runner.ref_protected, runner.locked])
            .to_string()
    });
    let mut settings: Vec<String> = settings.collect();
    settings.sort();
    let tags = azure.identities().into_iter().map(|identity| json!([identity.id, identity.tags]));
    let clients: Vec<String> =
        azure.identities().iter().map(|identity| identity.client_id.to_string()).collect();
    let accounts = sandbox.world.kubernetes.list("serviceaccounts", "").into_iter();
    let signs_in = accounts.filter_map(|account| {
        let annotations = &account["metadata"]["annotations"];
        let client = annotations["azure.workload.identity/client-id"].as_str()?;
        Some(json!([account["metadata"]["namespace"], clients.iter().any(|one| one == client)]))
    });
    let scheduled = sandbox.world.service_bus.depth("rounds");
    let dead = sandbox.world.service_bus.dead_letters("rounds").len();
    all["tokens"] = json!(tokens);
    all["settings"] = json!(settings);
    all["tags"] = tags.collect();
    all["signsIn"] = signs_in.collect();
    all["queue"] = json!({ "messages": scheduled, "dead": dead });
    all
}

/// Ids and tokens in a manager's Secret, as gitlab-runner would read them.
pub(crate) fn entries(secret: &Value) -> Vec<(u64, String)> {
    let Some(data) = secret["data"]["config.toml"].as_str() else { return vec![] };
    let text = String::from_utf8(BASE64_STANDARD.decode(data).unwrap()).unwrap();
    // Somebody may have broken it.
    let Ok(config) = text.parse::<toml::Table>() else { return vec![] };
    let runners = config.get("runners").and_then(|runners| runners.as_array()).into_iter();
    let entry = |runner: &toml::Value| {
        let id = u64::try_from(runner.get("id")?.as_integer()?).ok()?;
        Some((id, runner.get("token")?.as_str()?.to_owned()))
    };
    runners.flatten().filter_map(entry).collect()
}

/// How many sandboxes run at once: more would only wait for each other.
const AT_ONCE: usize = 2;
/// How many failures are shown; the first say enough.
const SHOWN: usize = 2;

/// Checks every case, each in a runtime of its own, and fails with the names of those that do not hold.
pub(crate) fn check_all<C, F>(cases: &[C], check: impl Fn(C) -> F + Sync)
where
    C: Clone + Sync + Display,
    F: Future<Output = Result<(), String>>,
{
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            if let Err(why) = runtime.block_on(check(case.clone())) {
                failures.lock().unwrap().push((case.to_string(), why));
            }
            runtime.shutdown_background();
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let failures = failures.into_inner().unwrap();
    let names: Vec<&str> = failures.iter().map(|(case, _)| case.as_str()).collect();
    let shown = failures.iter().take(SHOWN).map(|(case, why)| format!("=== {case}\n{why}"));
    let shown = shown.collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{shown}\n{} of {}: {names:#?}", failures.len(), cases.len());
}

/// The same, asked of one runtime outside a case.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(future);
    runtime.shutdown_background();
    answer
}

macro_rules! fleet {
    ($rest:literal) => {
        concat!(
            r#"
version: 1
fleet: nonprod
gitlab: { url: https://gitlab.example.com, token: { keyVault: kv-fleet, secret: gitlab-token } }
azure: { subscription: 00000000-0000-4000-8000-00000000f00d, resourceGroup: rg-runner-identities, location: westeurope }
cluster:
  resourceId: /subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-aks/providers/Microsoft.ContainerService/managedClusters/aks
  images: { runner: 19.4.0 }
anchors: { platform: 42 }
"#,
            $rest
        )
    };
}

const TWO_ROLES: &str = fleet!(
    r#"
rules: [{ match: { groups: "platform/*" }, profiles: [plan] }]
profiles:
  plan:
    runner: { tags: [azure-plan] }
    identity:
      settle: 20s
      managed:
        roles:
          - { role: Reader, scope: /subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/app }
          - { role: Contributor, scope: /subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/data }
guardrails:
  roles: [Reader, Contributor]
  scopes:
    - /subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/app
    - /subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/data
  never: [/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-forerunner]
"#
);

const EXISTING_IDENTITY: &str = fleet!(
    r#"
rules: [{ match: { groups: "platform/*" }, profiles: [plan] }]
profiles:
  plan:
    runner: { tags: [azure-plan] }
    identity:
      settle: 20s
      existing:
        - /subscriptions/00000000-0000-4000-8000-000000003333/resourceGroups/rg-identities/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-tf
      expect:
        - { role: Reader, scope: /subscriptions/00000000-0000-4000-8000-000000003333/resourceGroups/app }
"#
);

pub(crate) const NO_IDENTITY: &str = fleet!(
    r#"
rules: [{ match: { projects: "platform/*" }, profiles: [plan] }]
profiles:
  plan:
    runner: { tags: [plain] }
    identity: none
"#
);
