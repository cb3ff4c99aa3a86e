//! Which targets get which runners, and that every setting of a profile arrives.

use crate::{
    deeds::{APP, fleet},
    harness::Sandbox,
};
use forerunner::sandbox::gitlab::RunnerView;

/// Everything that a rule can say, over instance, groups and projects.
fn everything() -> String {
    fleet(&format!(
        "rules:
  - {{ match: {{ groups: 'platform/*', except: [platform/sandbox] }}, profiles: [plan, deploy] }}
  - {{ match: {{ groups: platform/payments }}, profiles: [plan, audit] }}
  - {{ match: {{ groups: 'tools/**' }}, profiles: [plain] }}
  - {{ match: {{ projects: 'infra/images/*' }}, profiles: [images] }}
  - {{ match: {{ instance: true }}, profiles: [default] }}
withdrawn: [{{ group: 900, path: platform/old, reason: SEC-1182 }}]
profiles:
  plan: {{ runner: {{ tags: [azure-plan] }}, identity: {{ managed: {{ roles: [{{ role: Reader, scope: {APP} }}] }} }} }}
  deploy: {{ runner: {{ tags: [azure-deploy] }}, identity: {{ managed: {{ roles: [{{ role: Contributor, scope: {APP} }}] }} }} }}
  audit: {{ runner: {{ tags: [azure-audit] }}, identity: {{ managed: {{ roles: [{{ role: Reader, scope: {APP} }}] }} }} }}
  plain: {{ runner: {{ tags: [plain] }}, identity: none }}
  images: {{ runner: {{ tags: [image] }}, identity: {{ managed: {{ roles: [{{ role: AcrPush, scope: {APP} }}] }} }} }}
  default: {{ runner: {{ tags: [], runUntagged: true }}, identity: none }}"
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_add_up_over_all_three_scopes() {
    let sandbox = Sandbox::new(&everything()).await;
    let gitlab = &sandbox.world.gitlab;
    let payments = gitlab.create_group(Some(42), "payments");
    let network = gitlab.create_group(Some(42), "network");
    gitlab.create_group(Some(42), "sandbox");
    gitlab.create_group(Some(network), "below-one-segment");
    let tools = gitlab.create_group(None, "tools");
    let linters = gitlab.create_group(Some(tools), "linters");
    let rust = gitlab.create_group(Some(linters), "rust");
    let images = gitlab.create_group(Some(77), "images");
    let base = gitlab.create_project(images, "base");
    gitlab.create_project(tools, "no-rule-for-projects-here");
    gitlab.number_groups_from(900);
    assert_eq!(gitlab.create_group(Some(42), "old"), 900);
    sandbox.settle().await;
    // No hook tells of the instance: the sweep finds it.
    sandbox.sweep().await;
    let mut expected = vec!["i-default".to_owned(), format!("p{base}-images")];
    expected.extend(["plan", "deploy", "audit"].map(|profile| format!("g{payments}-{profile}")));
    expected.extend(["plan", "deploy"].map(|profile| format!("g{network}-{profile}")));
    expected.extend([linters, rust].map(|group| format!("g{group}-plain")));
    assert_eq!(sandbox.keys(), expected.iter().cloned().collect(), "{}", sandbox.story());
    for key in expected {
        sandbox.assert_ready(&format!("runner/{key}"));
    }
    assert_eq!(sandbox.world.gitlab.runners().len(), 9, "no twin");
    for profile in ["plan", "deploy"] {
        let unit = format!("runner/g900-{profile}");
        assert_eq!(sandbox.ready(&unit), ("Withdrawn".into(), "withdrawn: SEC-1182".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_setting_of_the_profile_arrives_in_gitlab() {
    type Expected = fn(&RunnerView) -> bool;
    let cases: [(&str, Expected); 6] = [
        ("tags: [B-tag, a-tag]", |runner| {
            let mut tags = runner.tags.clone();
            tags.sort();
            tags == ["B-tag", "a-tag"] && !runner.run_untagged
        }),
        ("tags: [], runUntagged: true", |runner| runner.tags.is_empty() && runner.run_untagged),
        ("tags: [x], protected: true", |runner| runner.ref_protected),
        ("tags: [x], protected: false", |runner| !runner.ref_protected),
        ("tags: [x], locked: true", |runner| runner.locked),
        ("tags: [x], maximumTimeout: 3h", |runner| runner.maximum_timeout_seconds == Some(10_800)),
    ];
    for (settings, expected) in cases {
        let file = fleet(&format!(
            "rules:\n  - {{ match: {{ projects: 'tools/*' }}, profiles: [special] }}\nprofiles:\n  special: {{ runner: {{ {settings} }}, identity: none }}"
        ));
        let sandbox = Sandbox::new(&file).await;
        let tools = sandbox.world.gitlab.create_group(None, "tools");
        let project = sandbox.world.gitlab.create_project(tools, "fmt");
        sandbox.settle().await;
        let key = format!("p{project}-special");
        sandbox.assert_ready(&format!("runner/{key}"));
        let runner = sandbox.runner(&key);
        assert!(expected(&runner), "{settings}: {runner:?}");
        let managers =
            sandbox.world.kubernetes.get("namespaces", "", "forerunner-nonprod").unwrap();
        let uid = managers["metadata"]["uid"].as_str().unwrap().to_owned();
        let marker = format!("special [forerunner:nonprod:{uid}:{key}:1]");
        assert_eq!(runner.description, marker, "{settings}");
        assert!(!runner.paused && runner.maintenance_note.is_empty(), "{settings}: {runner:?}");
    }
}
