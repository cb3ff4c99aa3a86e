//! What an administrator applies once.

use super::example::{default_profile, hardened, image_build};
use forerunner::domain::{
    ids::FleetName,
    render::{
        administrator::{AdministratorInput, administrator},
        manager_cluster_role,
    },
    spec::RunnerSpec,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Every file of `deploy/kubernetes`, in the order of their names.
const FILES: [&str; 4] = [
    include_str!("../../../deploy/kubernetes/10-managers-namespace.yaml"),
    include_str!("../../../deploy/kubernetes/20-managers-role.yaml"),
    include_str!("../../../deploy/kubernetes/30-forerunner-rights.yaml"),
    include_str!("../../../deploy/kubernetes/40-admission-policy.yaml"),
];

fn example() -> Vec<Value> {
    let fleet = FleetName::new("nonprod").unwrap();
    let input = AdministratorInput {
        fleet: &fleet,
        managers_namespace: "forerunner-nonprod",
        manager_cluster_role: "forerunner-manager",
        forerunner_user: "00000000-0000-0000-0000-0000000000f0",
        privileged_namespaces: &[],
    };
    administrator(&input, &[hardened(), image_build(), default_profile()])
}

#[test]
fn the_files_are_what_is_rendered_for_the_example_fleet() {
    let mut files: Vec<Value> = Vec::new();
    for file in FILES {
        files.extend(serde_saphyr::from_multiple::<Value>(file).unwrap());
    }
    for (file, rendered) in files.iter().zip(example()) {
        assert_eq!(*file, rendered);
    }
    assert_eq!(files.len(), example().len());
}

/// The rules of a role as `group/resource: verbs`.
fn rules(role: &Value) -> Vec<String> {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let rules = role["rules"].as_array().unwrap().iter();
    rules
        .map(|rule| {
            let [groups, resources, verbs] =
                ["apiGroups", "resources", "verbs"].map(|key| list(&rule[key]).join(","));
            format!("{groups}/{resources}: {verbs}")
        })
        .collect()
}

#[test]
fn managers_get_the_verbs_their_profiles_need_and_no_more() {
    let base = [
        "/pods: create,delete,get,list,watch",
        "/pods/attach: create",
        "/pods/exec: create",
        "/secrets: create,delete,get,update",
        "/serviceaccounts: get",
        "/events: list,watch",
    ];
    let check = |specs: &[RunnerSpec], more: &[&str], less: &[&str]| {
        let expected: BTreeSet<_> =
            base.iter().chain(more).filter(|rule| !less.contains(rule)).copied().collect();
        let role = manager_cluster_role("forerunner-manager", specs);
        let found = rules(&role.body);
        assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected);
        assert_eq!(found.len(), expected.len(), "no rule twice");
    };
    let with = |extra: &str| {
        let mut spec = image_build();
        Arc::make_mut(&mut spec.kubernetes).extra = extra.parse().unwrap();
        spec
    };
    check(&[], &[], &[]);
    check(&[image_build()], &[], &[]);
    check(&[hardened()], &["policy/poddisruptionbudgets: create,get"], &[]);
    check(&[default_profile()], &["/pods/log: get"], &[]);
    check(&[with("feature_flags.FF_KUBERNETES_HONOR_ENTRYPOINT = true")], &["/pods/log: get"], &[]);
    check(
        &[with("kubernetes.autoscaler.max_pause_pods = 2")],
        &["apps/deployments: create,delete,get,list,update"],
        &[],
    );
    let legacy = with("feature_flags.FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY = true");
    check(std::slice::from_ref(&legacy), &[], &["/pods/attach: create"]);
    check(&[legacy, image_build()], &[], &[]);
}

#[test]
fn forerunner_can_give_one_role_and_holds_no_managers_right() {
    let objects = example();
    let of = |kind: &str| objects.iter().rfind(|object| object["kind"] == kind).unwrap();
    let cluster = rules(of("ClusterRole"));
    // Pods it may count, whether a job still runs, and nothing else.
    assert!(cluster.contains(&"/pods: list".to_owned()), "{cluster:?}");
    let too_much =
        ["escalate", "impersonate", "secrets", "token", "exec", "*", "deployments", "pods/"];
    for forbidden in too_much {
        assert!(!cluster.iter().any(|rule| rule.contains(forbidden)), "{forbidden}: {cluster:?}");
    }
    let shipped = of("ClusterRole")["rules"].as_array().unwrap().iter();
    let bound: Vec<_> = shipped.filter(|rule| rule["resources"][0] == "clusterroles").collect();
    assert_eq!(bound.len(), 1);
    assert_eq!(bound[0]["resourceNames"], json!(["forerunner-manager"]));
    let managers = of("Role");
    assert_eq!(managers["metadata"]["namespace"], "forerunner-nonprod");
    assert!(rules(managers).iter().any(|rule| rule.starts_with("/secrets:")));
}

#[test]
fn names_that_an_administrator_lists_may_be_privileged_and_no_other() {
    let fleet = FleetName::new("nonprod").unwrap();
    let names = ["ci-nonprod--g1-dind".to_owned()];
    let input = AdministratorInput {
        fleet: &fleet,
        managers_namespace: "forerunner-nonprod",
        manager_cluster_role: "forerunner-manager",
        forerunner_user: "it's",
        privileged_namespaces: &names,
    };
    let objects = administrator(&input, &[]);
    let spec = &objects[6]["spec"];
    let level = spec["variables"].as_array().unwrap().iter().find(|v| v["name"] == "levelIsSafe");
    let level = level.unwrap()["expression"].as_str().unwrap();
    assert!(level.ends_with("object.metadata.name in ['ci-nonprod--g1-dind'])"), "{level}");
    let user = spec["matchConditions"][0]["expression"].as_str().unwrap();
    assert_eq!(user, r"request.userInfo.username == 'it\'s'");
}
