//! One runner with a managed identity, from nothing to settled, and then a round over it in health: calls by service,
//! and wall time against the longest chain of simulated latencies.

#[path = "support/figures.rs"]
mod figures;
#[path = "support/scene.rs"]
#[expect(dead_code, reason = "another bench turns the clock")]
mod scene;

use figures::{percentile, table};
use forerunner::sandbox::wire::{Call, Service};
use scene::{Round, Scene};
use std::{cmp::max, time::Duration};

/// How many runners are made by a process that is warm, and before them by processes that know nothing yet.
const RUNNERS: usize = 11;
const COLD: usize = 5;
/// More rounds than any provisioning takes.
const ROUNDS_MAX: usize = 20;

const GITLAB: Duration = Duration::from_millis(40);
const ARM: Duration = Duration::from_millis(50);
const KUBERNETES: Duration = Duration::from_millis(20);
const KEY_VAULT: Duration = Duration::from_millis(20);
const SERVICE_BUS: Duration = Duration::from_millis(20);
const IDENTITY: Duration = Duration::from_millis(20);

const LATENCIES: [(Service, Duration); 6] = [
    (Service::Gitlab, GITLAB),
    (Service::Arm, ARM),
    (Service::Kubernetes, KUBERNETES),
    (Service::KeyVault, KEY_VAULT),
    (Service::ServiceBus, SERVICE_BUS),
    (Service::Identity, IDENTITY),
];

/// Two roles, so that *3 + roles* says something.
const FLEET: &str = r#"
version: 1
fleet: nonprod
gitlab: { url: https://gitlab.example.com, token: { keyVault: kv-fleet, secret: gitlab-token } }
azure: { subscription: 00000000-0000-4000-8000-00000000f00d, resourceGroup: rg-runner-identities, location: westeurope }
cluster:
  resourceId: /subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-aks/providers/Microsoft.ContainerService/managedClusters/aks
  images: { runner: 19.4.0 }
anchors: { platform: 42 }
rules:
  - { match: { groups: "platform/*" }, profiles: [plan] }
profiles:
  plan:
    runner: { tags: [azure-plan] }
    identity:
      managed:
        roles:
          - { role: Reader, scope: /subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/app }
          - { role: Reader, scope: /subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/data }
guardrails:
  roles: [Reader]
  scopes:
    - /subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/app
    - /subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/data
  never: [/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-forerunner]
  runners: 500
  creations: { perHour: 500 }
"#;
const ROLES: usize = 2;

/// Tokens and the cluster's address, for a process that has made no call yet. To the API server: a token for ARM, the
/// cluster's credentials, a token for the cluster. To GitLab: a token for Key Vault, then GitLab's own from there. The
/// two run beside each other.
#[derive(Clone, Copy)]
enum Process {
    Warm,
    Cold,
}

/// The longest chain of the round that makes everything. Of what runs at once only the slowest counts.
fn provisioning_chain(process: Process) -> Duration {
    let (cluster, gitlab, queue) = match process {
        Process::Warm => (Duration::ZERO, Duration::ZERO, Duration::ZERO),
        Process::Cold => (IDENTITY + ARM + IDENTITY, IDENTITY + KEY_VAULT, IDENTITY),
    };
    // The installation (the managers' namespace), beside the group and then the one group above it.
    let look = max(cluster + KUBERNETES, gitlab + 2 * GITLAB);
    // GitLab's list beside the Secret; as there is no Secret, then how many managers there are. Beside that, the
    // identity, which is not there. A cold process asks for the cluster's issuer before the identity's answer counts;
    // the two run at once.
    let observe = max(max(GITLAB, KUBERNETES) + KUBERNETES, ARM);
    // Ledger beside the rehearsal of the Secret (is there one? then a dry run); entity; Secret; is the token good?
    // Then the Deployment, which mounts it.
    let runner = 2 * KUBERNETES + GITLAB + KUBERNETES + GITLAB + KUBERNETES;
    // Identity; then roles beside the credential and the tags that tell of it; beside those, the job account.
    let identity = ARM + max(2 * ARM, KUBERNETES);
    let act = max(runner, identity);
    // Status, and the message that asks for the next look.
    look + observe + act + KUBERNETES + queue + SERVICE_BUS
}

/// The longest chain of a round that finds everything as it should be.
fn healthy_chain() -> Duration {
    let look = max(KUBERNETES, 2 * GITLAB);
    // The list beside the Secret, then the entity beside its managers; the identity, then its credentials beside its
    // roles.
    let observe = max(max(GITLAB, KUBERNETES) + GITLAB, 2 * ARM);
    look + observe
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("this process may have threads").block_on(measure());
}

async fn measure() {
    let scene = Scene::new(FLEET, &LATENCIES).await;
    let warm = scene.rounds();
    let (mut calls, mut healthy_calls) = (Vec::new(), Vec::new());
    let (mut cold_times, mut warm_times, mut healthy_times) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..RUNNERS + COLD {
        let group = scene.world.gitlab.create_group(Some(42), &format!("team-{number}"));
        let unit = format!("runner/g{group}-plan");
        scene.pass(1).await;
        let mut all = scene.round(&warm, &format!("target/g{group}")).await.calls;
        let first = if number < COLD {
            let first = scene.round(&scene.rounds(), &unit).await;
            cold_times.push(first.took);
            first
        } else {
            let first = scene.round(&warm, &unit).await;
            warm_times.push(first.took);
            first
        };
        all.extend(first.calls);
        for _ in 0..ROUNDS_MAX {
            if scene.is_ready(&unit) {
                break;
            }
            scene.pass_until_next(&unit).await;
            all.extend(scene.round(&warm, &unit).await.calls);
        }
        assert!(scene.is_ready(&unit), "{unit} does not settle: {}", scene.status(&unit));
        if number >= COLD {
            calls.push(all);
        }
        scene.pass(60).await;
        let Round { took, calls } = scene.round(&warm, &unit).await;
        healthy_times.push(took);
        healthy_calls.push(calls);
    }
    table(
        &format!(
            "Provisioning one runner with a managed identity and {ROLES} roles, hook to settled, median of {RUNNERS}"
        ),
        &call_rows(&calls, |service| match service {
            Service::Gitlab => "goal 4 writes".to_owned(),
            Service::Arm => format!("goal {} writes", 3 + ROLES),
            Service::Kubernetes => "goal 16 writes".to_owned(),
            Service::Identity
            | Service::Entra
            | Service::KeyVault
            | Service::ServiceBus
            | Service::Host => String::new(),
        }),
    );
    let latencies: Vec<String> = LATENCIES
        .iter()
        .map(|(service, latency)| format!("{service:?} {} ms", latency.as_millis()))
        .collect();
    table(
        &format!("Wall time of one round, medians ({})", latencies.join(", ")),
        &[
            time_row(
                "the round that makes everything, warm",
                &warm_times,
                provisioning_chain(Process::Warm),
            ),
            time_row(
                "the round that makes everything, cold",
                &cold_times,
                provisioning_chain(Process::Cold),
            ),
            time_row("a round over a healthy runner", &healthy_times, healthy_chain()),
        ],
    );
    table(
        "A round over a healthy runner",
        &call_rows(&healthy_calls, |_| "goal 0 writes".to_owned()),
    );
}

fn time_row(what: &str, times: &[Duration], chain: Duration) -> [String; 3] {
    let times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
    let (median, chain) = (percentile(&times, 0.5), chain.as_secs_f64() * 1000.0);
    [
        what.to_owned(),
        format!("{median:.0} ms = {:.2} × {chain:.0} ms", median / chain),
        "goal 1.15 × the longest chain".to_owned(),
    ]
}

/// Reads and writes of each service, medians over runs.
fn call_rows(runs: &[Vec<Call>], goal: impl Fn(Service) -> String) -> Vec<[String; 3]> {
    let services = [
        Service::Gitlab,
        Service::Arm,
        Service::Kubernetes,
        Service::KeyVault,
        Service::Identity,
        Service::ServiceBus,
    ];
    let count = |service: Service, write: bool| {
        let of_run = |run: &Vec<Call>| {
            run.iter().filter(|call| call.service == service && is_write(call) == write).count()
        };
        percentile(&runs.iter().map(|run| of_run(run) as f64).collect::<Vec<f64>>(), 0.5)
    };
    let row = |service: Service| {
        let figure = format!("{} writes, {} reads", count(service, true), count(service, false));
        [format!("{service:?}"), figure, goal(service)]
    };
    services.map(row).to_vec()
}

/// The cluster's credentials are read by POST.
fn is_write(call: &Call) -> bool {
    call.is_write() && !call.path.contains("listClusterUserCredential")
}
