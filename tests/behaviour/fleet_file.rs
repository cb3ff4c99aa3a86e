//! `fleet.yaml`: each rule of the design's *Desired* is a case here.

use forerunner::domain::{
    azure::ResourceId,
    fleet::{Fleet, Problem, Severity, TargetFacts, WantedState},
    ids::{GroupId, ProfileName, ProjectId, TargetId},
    names,
    spec::{IdentitySpec, Isolation, Mode, Pods, RunnerSpec},
};
use jiff::Timestamp;
use proptest::prelude::*;

const NOW: &str = "2026-11-24T08:00:00Z";

/// A fleet with two anchors; a test changes what it is about.
const BASE: &str = r#"
version: 1
fleet: nonprod
gitlab: { url: "https://gitlab.example.com", token: { keyVault: kv-fleet, secret: gitlab-token } }
azure: { subscription: 00000000-0000-4000-8000-000000000001, resourceGroup: rg-ids, location: westeurope }
cluster: { kubeconfig: kubeconfig.yaml }
anchors: { platform: 42, infra: 77 }
groups:
  platform/network: { values: { subscription: 1111-net } }
rules:
  - { match: { groups: "platform/*", except: [platform/sandbox] }, profiles: [plan, apply] }
  - { match: { projects: "infra/images/*" }, profiles: [images] }
  - { match: { instance: true }, profiles: [default] }
profiles:
  plan:
    runner: { tags: [azure-plan], protected: false }
    identity: { managed: { roles: [{ role: Reader, scope: "/subscriptions/{subscription}" }] } }
  apply:
    runner: { tags: [azure-apply] }
    identity: { managed: { roles: [{ role: Contributor, scope: "/subscriptions/{subscription}/resourceGroups/app" }] } }
  images:
    runner: { tags: [image] }
    identity: { managed: { roles: [{ role: AcrPush, scope: "/subscriptions/3333/resourceGroups/acr" }] } }
    kubernetes: { pods: image-build }
  default: { runner: { tags: [], runUntagged: true }, identity: none }
guardrails:
  roles: [Reader, Contributor, AcrPush]
  scopes: [/subscriptions/1111-net, /subscriptions/2222-pay, /subscriptions/3333/resourceGroups/acr]
  never: [/subscriptions/1111-net/resourceGroups/rg-forerunner]
"#;

/// The base with some texts replaced; each must be there.
fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(BASE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the base has no `{from}`");
        text.replacen(from, to, 1)
    })
}

fn parse(text: &str) -> Result<(Fleet, Vec<Problem>), Vec<Problem>> {
    Fleet::parse(text, None, NOW.parse().expect("a time"))
}

fn fleet(changes: &[(&str, &str)]) -> Fleet {
    match parse(&changed(changes)) {
        Ok((fleet, _)) => fleet,
        Err(problems) => panic!("{}", told(&problems)),
    }
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn problems(text: &str) -> Vec<Problem> {
    match parse(text) {
        Ok((_, problems)) => problems,
        Err(problems) => problems,
    }
}

/// The file has a problem of this severity at `path` whose text or hint holds `words`.
fn check(severity: Severity, changes: &[(&str, &str)], path: &str, words: &str) {
    let found = problems(&changed(changes));
    let fits = |problem: &Problem| {
        problem.severity == severity && problem.path == path && problem.to_string().contains(words)
    };
    assert!(
        found.iter().any(fits),
        "no {severity:?} at {path} with `{words}` in:\n{}",
        told(&found)
    );
}

fn refused(changes: &[(&str, &str)], path: &str, words: &str) {
    check(Severity::Error, changes, path, words);
}

fn blocked(changes: &[(&str, &str)], path: &str, words: &str) {
    check(Severity::Blocked, changes, path, words);
}

fn warned(changes: &[(&str, &str)], path: &str, words: &str) {
    check(Severity::Warning, changes, path, words);
}

fn group(id: u64, path: &str, ancestors: &[(u64, &str)]) -> TargetFacts {
    target(TargetId::Group(GroupId(id)), path, ancestors)
}

fn project(id: u64, path: &str, ancestors: &[(u64, &str)]) -> TargetFacts {
    target(TargetId::Project(ProjectId(id)), path, ancestors)
}

fn target(id: TargetId, path: &str, ancestors: &[(u64, &str)]) -> TargetFacts {
    let ancestors = ancestors.iter().map(|(id, path)| (GroupId(*id), (*path).to_owned())).collect();
    TargetFacts { id, path: path.to_owned(), ancestors, personal: false }
}

fn network() -> TargetFacts {
    group(5, "platform/network", &[(42, "platform")])
}

/// `profile: what`, for every profile that the target is given.
fn states(fleet: &Fleet, target: &TargetFacts) -> Vec<String> {
    let states = fleet.wanted(target).into_iter().map(|wanted| {
        let state = match wanted.state {
            WantedState::Runner(spec) => spec.key.to_string(),
            WantedState::NeedsValue { placeholder } => format!("needs {placeholder}"),
            WantedState::Withdrawn { reason } => format!("withdrawn {reason}"),
            WantedState::OutsideGuardrails { problems, .. } => {
                format!("outside: {}", problems.join("; "))
            }
            WantedState::ExceptionEnded { exception, .. } => format!("ended {exception}"),
            WantedState::AnchorMoved { expected, found, .. } => format!("{expected} is {found}"),
        };
        format!("{}: {state}", wanted.profile)
    });
    states.collect()
}

fn spec(fleet: &Fleet, target: &TargetFacts, profile: &str) -> RunnerSpec {
    let found = fleet.wanted(target).into_iter().find(|wanted| wanted.profile.as_str() == profile);
    match found.map(|wanted| wanted.state) {
        Some(WantedState::Runner(spec)) => *spec,
        Some(
            other @ (WantedState::NeedsValue { .. }
            | WantedState::Withdrawn { .. }
            | WantedState::OutsideGuardrails { .. }
            | WantedState::ExceptionEnded { .. }
            | WantedState::AnchorMoved { .. }),
        ) => panic!("{profile}: {other:?}"),
        None => panic!("{profile} is not given"),
    }
}

#[test]
fn the_base_is_without_fault() {
    let (fleet, problems) = parse(BASE).unwrap();
    assert_eq!(told(&problems), "");
    assert_eq!(states(&fleet, &network()), ["apply: g5-apply", "plan: g5-plan"]);
}

// Strictness.

#[test]
fn an_unknown_key_has_its_line_column_and_the_nearest_known_key() {
    let found =
        problems(&changed(&[("tags: [azure-plan], protected", "tags: [azure-plan], protcted")]));
    let problem = &found[0];
    assert_eq!(problem.path, "profiles.plan.runner.protcted");
    assert_eq!((problem.line, problem.column), (16, 35));
    assert!(problem.remedy.contains("`protected`"), "{problem}");
}

#[test]
fn many_problems_are_told_at_once() {
    let found = problems(&changed(&[
        ("version: 1", "version: 1\nrulez: []"),
        ("fleet: nonprod", "fleet: 7"),
        ("location: westeurope", "location:"),
        ("pods: image-build", "pods: image-bild"),
        ("runUntagged: true", "runUntagged: maybe"),
    ]));
    assert_eq!(found.len(), 5, "{}", told(&found));
}

#[test]
fn the_wrong_kind_of_value_is_told_kindly() {
    for (from, to, path, words) in [
        ("fleet: nonprod", "fleet: 7", "fleet", "put it in quotes"),
        ("location: westeurope", "location:", "azure.location", "leave the key out"),
        (
            "pods: image-build",
            "pods: image-bild",
            "profiles.images.kubernetes.pods",
            "`image-build`",
        ),
        ("identity: none", "identity: nune", "profiles.default.identity", "`none`"),
        ("identity: none", "identity: []", "profiles.default.identity", "a list"),
        ("tags: [image]", "tags: image", "profiles.images.runner.tags", "a list"),
        ("tags: [image]", "tags: [7]", "profiles.images.runner.tags[0]", "quotes"),
        (
            "tags: [image]",
            "tags: [image], concurrent: -1",
            "profiles.images.runner.concurrent",
            "at least 0",
        ),
        (
            "tags: [image]",
            "tags: [image], concurrent: 4294967296",
            "profiles.images.runner.concurrent",
            "at most",
        ),
        ("version: 1", "version: 2", "version", "reads 1"),
    ] {
        refused(&[(from, to)], path, words);
    }
}

#[test]
fn a_missing_key_is_named() {
    refused(&[("fleet: nonprod", "")], "", "`fleet` is missing");
    refused(
        &[("    runner: { tags: [azure-plan], protected: false }\n", "")],
        "profiles.plan",
        "`runner` is missing",
    );
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (from, to, path, words) in [
        ("https://gitlab", "http://gitlab", "gitlab.url", "not https"),
        ("https://gitlab.example.com", "https://u:p@gitlab.example.com", "gitlab.url", "more than"),
        ("https://gitlab.example.com", "gitlab.example.com", "gitlab.url", "write such as"),
        ("keyVault: kv-fleet", "keyVault: kv_fleet", "gitlab.token.keyVault", "no name"),
        ("fleet: nonprod", "fleet: Nonprod", "fleet", "a fleet name"),
        ("rg-ids", "rg/ids", "azure.resourceGroup", "no name"),
        (
            "subscription: 00000000-0000-4000-8000-000000000001",
            "subscription: mine",
            "azure.subscription",
            "no id",
        ),
        ("kubeconfig: kubeconfig.yaml", "labels: {}", "cluster", "either"),
        (
            "kubeconfig: kubeconfig.yaml",
            "resourceId: /subscriptions/1/resourceGroups/a",
            "cluster.resourceId",
            "managedClusters",
        ),
        (
            "kubeconfig: kubeconfig.yaml",
            "kubeconfig: k, labels: { forerunner.dev/x: z }",
            "cluster.labels.forerunner.dev/x",
            "sets itself",
        ),
        (
            "kubeconfig: kubeconfig.yaml",
            "kubeconfig: k, network: { clusterRanges: [10.0.0.1/8] }",
            "cluster.network.clusterRanges[0]",
            "beyond /8",
        ),
        (
            "kubeconfig: kubeconfig.yaml",
            "kubeconfig: k, images: { runner: latest }",
            "cluster.images.runner",
            "no version",
        ),
        (
            "platform: 42, infra: 77",
            "platform: 42, infra: 42",
            "anchors.platform",
            "another anchor",
        ),
    ] {
        refused(&[(from, to)], path, words);
    }
}

#[test]
fn a_managed_identity_needs_a_place_to_be_made() {
    let azure = "azure: { subscription: 00000000-0000-4000-8000-000000000001, resourceGroup: rg-ids, location: westeurope }\n";
    refused(&[(azure, "")], "profiles.plan.identity.managed", "nowhere");
}

// Rules.

#[test]
fn a_target_gets_the_union_of_all_rules_that_match_whatever_their_order() {
    let more = "rules:\n  - { match: { groups: platform/network }, profiles: [images, plan] }";
    let first = fleet(&[("rules:", more)]);
    assert_eq!(
        states(&first, &network()),
        ["apply: g5-apply", "images: g5-images", "plan: g5-plan"]
    );
    let last = "  - { match: { instance: true }, profiles: [default] }\n";
    let added = format!(
        "{last}  - {{ match: {{ groups: platform/network }}, profiles: [images, plan] }}\n"
    );
    assert_eq!(states(&fleet(&[(last, &added)]), &network()), states(&first, &network()));
}

#[test]
fn except_beats_match_and_withdrawn_beats_all() {
    let base = fleet(&[]);
    let sandbox = group(6, "Platform/Sandbox", &[(42, "Platform")]);
    assert_eq!(states(&base, &sandbox), [""; 0]);
    let withdrawn = "withdrawn: [{ group: 5, path: platform/network, reason: SEC-1 }]\nprofiles:";
    let fleet = fleet(&[("profiles:\n", &format!("{withdrawn}\n"))]);
    assert_eq!(states(&fleet, &network()), ["apply: withdrawn SEC-1", "plan: withdrawn SEC-1"]);
}

#[test]
fn a_rule_takes_its_own_kind_of_target_only() {
    let fleet = fleet(&[]);
    for (target, expected) in [
        (project(9, "platform/network", &[(42, "platform")]), vec![]),
        (group(9, "infra/images/base", &[(77, "infra")]), vec![]),
        (
            project(9, "infra/images/base", &[(77, "infra"), (78, "infra/images")]),
            vec!["images: p9-images"],
        ),
        (project(9, "infra/images/base/x", &[(77, "infra")]), vec![]),
        (group(42, "platform", &[]), vec![]),
        (target(TargetId::Instance, "", &[]), vec!["default: i-default"]),
        (
            group(7, "PLATFORM/Other", &[(42, "PLATFORM")]),
            vec!["apply: needs subscription", "plan: needs subscription"],
        ),
    ] {
        assert_eq!(states(&fleet, &target), expected, "{target:?}");
    }
}

#[test]
fn a_personal_namespace_never_matches() {
    let star = [(
        "projects: \"infra/images/*\" }, profiles: [images]",
        "projects: \"*/*\" }, profiles: [default]",
    )];
    let fleet = fleet(&star);
    let mut mine = project(9, "ada/tools", &[]);
    assert_eq!(states(&fleet, &mine), ["default: p9-default"]);
    mine.personal = true;
    assert_eq!(states(&fleet, &mine), [""; 0]);
}

#[test]
fn another_group_that_takes_the_anchors_name_matches_nothing() {
    let taken = group(5, "platform/network", &[(4711, "platform")]);
    assert_eq!(states(&fleet(&[]), &taken), [""; 0]);
}

#[test]
fn an_anchor_with_another_path_gives_nothing_new_and_takes_nothing_away() {
    let fleet = fleet(&[]);
    let moved = group(5, "core/network", &[(42, "core")]);
    assert_eq!(states(&fleet, &moved), ["apply: platform is core", "plan: platform is core"]);
    let excepted = group(6, "core/sandbox", &[(42, "core")]);
    assert_eq!(states(&fleet, &excepted), [""; 0]);
}

#[test]
fn a_rule_whose_profile_has_an_identity_lies_under_an_anchor() {
    let path = "rules[0].match.groups";
    refused(&[("\"platform/*\"", "\"*/network\"")], path, "anchor");
    refused(&[("\"platform/*\"", "\"other/*\"")], path, "other: 42");
    refused(&[("\"platform/*\"", "\"platforms/*\"")], path, "anchor");
    let plain = "{ match: { groups: \"other/*\" }, profiles: [default] }\n  - { match: { instance";
    fleet(&[("{ match: { instance", plain)]);
}

#[test]
fn an_exclusion_below_a_matched_group_is_refused() {
    let at = "rules[0].match.except[0]";
    for (groups, except, bad) in [
        ("platform/*", "platform/sandbox", false),
        ("platform/*", "platform/network/dns", true),
        ("platform/*", "platform/*/dns", true),
        ("platform/**", "platform/sandbox", false),
        ("platform/**", "platform/sandbox/**", true),
        ("platform/**", "platform/**/dns", true),
    ] {
        let text = changed(&[(
            "groups: \"platform/*\", except: [platform/sandbox]",
            &format!("groups: \"{groups}\", except: [\"{except}\"]"),
        )]);
        let found = problems(&text);
        let is = |problem: &Problem| problem.path == at && problem.severity == Severity::Error;
        assert_eq!(found.iter().any(is), bad, "{groups} except {except}:\n{}", told(&found));
    }
}

#[test]
fn an_exclusion_together_with_the_group_above_it_is_fine() {
    let both = "groups: \"platform/**\", except: [platform/sandbox, \"platform/sandbox/**\"]";
    let text = changed(&[("groups: \"platform/*\", except: [platform/sandbox]", both)]);
    assert!(parse(&text).is_ok(), "{}", told(&problems(&text)));
}

#[test]
fn an_exclusion_below_a_group_that_another_rule_matches_is_refused_too() {
    let other = "rules:\n  - { match: { groups: infra/images }, profiles: [images] }";
    let except = "projects: \"infra/images/*\", except: [infra/images/old]";
    refused(
        &[("rules:", other), ("projects: \"infra/images/*\"", except)],
        "rules[2].match.except[0]",
        "rules[0]",
    );
}

#[test]
fn an_exclusion_from_what_the_instances_runner_serves_is_refused() {
    let except = "instance: true, except: [infra/x]";
    refused(&[("instance: true", except)], "rules[2].match.except[0]", "serves everything");
}

#[test]
fn an_administrators_namespace_is_one_trust_domain() {
    let at = "profiles.images.kubernetes.namespace";
    let pods = "kubernetes: { pods: image-build";
    let named = |name: &str| format!("kubernetes: {{ namespace: \"{name}\", pods: image-build");
    refused(&[(pods, &named("ci-images"))], at, "isolation: profile");
    refused(&[(pods, &named("CI"))], at, "no name");
    refused(&[(pods, &named("forerunner-nonprod"))], at, "namespace of the managers");
    refused(&[(pods, &named("ci-nonprod--g5-plan"))], at, "another trust domain");
    refused(
        &[
            (pods, &named("ci-x")),
            (
                "runner: { tags: [azure-apply] }",
                "runner: { tags: [azure-apply] }\n    kubernetes: { namespace: ci-x }",
            ),
        ],
        at,
        "share their identities",
    );
    let one = [
        (pods, &*named("ci-images")),
        ("projects: \"infra/images/*\"", "projects: infra/images/base"),
    ];
    let fleet = fleet(&one);
    let base = project(9, "infra/images/base", &[(77, "infra")]);
    assert_eq!(spec(&fleet, &base, "images").kubernetes.namespace.as_deref(), Some("ci-images"));
}

#[test]
fn a_namespace_is_judged_by_what_its_placeholders_are_filled_with() {
    let plan = "runner: { tags: [azure-plan], protected: false }";
    let named = |name: &str| format!("{plan}\n    kubernetes: {{ namespace: \"{name}\" }}");
    let values = "platform/network: { values: { subscription: 1111-net } }";
    let at = "groups.platform/network.values";
    let check = |name: &str, subscription: &str, words: &str| {
        let (named, filled) = (named(name), values.replace("1111-net", subscription));
        refused(&[(plan, &named), (values, &filled)], at, words);
    };
    check("jobs-{subscription}", "Net", "no name that Kubernetes takes");
    check("jobs-{subscription}", "net_1", "no name that Kubernetes takes");
    check("jobs-{subscription}", &"n".repeat(60), "no name that Kubernetes takes");
    check("forerunner-{subscription}", "nonprod", "namespace of the managers");
    check("ci-{subscription}--g5-x", "nonprod", "another trust domain");
    let named = named("jobs-{subscription}");
    let two = format!("{values}\n  platform/payments: {{ values: {{ subscription: 1111-net }} }}");
    let at = "groups.platform/payments.values";
    refused(&[(plan, &named), (values, &two)], at, "share their identities");
}

#[test]
fn the_managers_namespace_and_role_are_nobody_elses() {
    let named = |key: &str, name: &str| format!("kubeconfig.yaml, {key}: {name}");
    let check = |key: &str, name: &str, words: &str| {
        let changed = named(key, name);
        refused(&[("kubeconfig.yaml", &changed)], &format!("cluster.{key}"), words);
    };
    check("managersNamespace", "ci-nonprod--g5-plan", "named like a job namespace");
    check("managersNamespace", "-runners", "no name");
    check("managersNamespace", "runners-", "no name");
    check("managerClusterRole", "forerunner-nonprod", "role of this fleet's forerunner");
    // The default for managers is what a fleet of this name would call its own.
    let manager = [("fleet: nonprod", "fleet: manager")];
    refused(&manager, "cluster.managerClusterRole", "role of this fleet's forerunner");
}

#[test]
fn names_with_two_hyphens_in_a_row_are_kept_for_us() {
    refused(&[("fleet: nonprod", "fleet: non--prod")], "fleet", "single inner hyphens");
}

#[test]
fn a_profile_that_no_rule_gives_is_worth_knowing() {
    warned(
        &[("profiles: [plan, apply]", "profiles: [apply]")],
        "profiles.plan",
        "no rule gives it",
    );
}

#[test]
fn what_a_rule_cannot_mean_is_refused() {
    for (from, to, path, words) in [
        ("\"platform/*\"", "\"platform/net*\"", "rules[0].match.groups", "whole segment"),
        ("instance: true", "instance: false", "rules[2].match", "matches nothing"),
        ("profiles: [default]", "profiles: [defalt]", "rules[2].profiles[0]", "`default`"),
        ("profiles: [default]", "profiles: []", "rules[2].profiles", "gives nothing"),
    ] {
        refused(&[(from, to)], path, words);
    }
    warned(
        &[("except: [platform/sandbox]", "except: [infra/x]")],
        "rules[0].match.except[0]",
        "leaves out nothing",
    );
}

#[test]
fn withdrawn_names_one_target_by_id_and_says_why() {
    for (entry, path, words) in [
        ("{ reason: x }", "withdrawn[0]", "no single"),
        ("{ group: 1, project: 2, reason: x }", "withdrawn[0]", "no single"),
        ("{ group: 1, reason: \" \" }", "withdrawn[0].reason", "empty"),
    ] {
        refused(&[("profiles:\n", &format!("withdrawn: [{entry}]\nprofiles:\n"))], path, words);
    }
    let served = "withdrawn: [{ project: 3, path: platform/network/dns, reason: x }]\nprofiles:\n";
    warned(&[("profiles:\n", served)], "withdrawn[0]", "serves it all the same");
}

#[test]
fn the_hint_lets_through_what_could_match_and_drops_the_rest() {
    let fleet = fleet(&[]);
    let [group, project] = [TargetId::Group(GroupId(9)), TargetId::Project(ProjectId(9))];
    for (target, path, expected) in [
        (group, "platform/network", true),
        (group, "PLATFORM/network", true),
        (group, "platform", true), // a change here moves what lies below
        (group, "infra", true),
        (group, "infra/images", true),
        (group, "elsewhere", false),
        (group, "platform/network/dns", false),
        (TargetId::Group(GroupId(42)), "core", true), // an anchor that moved
        (project, "infra/images/base", true),
        (project, "infra/other", false),
        (project, "platform/network", false),
        (TargetId::Instance, "", true),
    ] {
        assert_eq!(fleet.could_match(target, path), expected, "{target} {path}");
    }
}

// Placeholders and `set`.

#[test]
fn placeholders_are_filled_from_the_file_alone() {
    let fleet = fleet(&[("tags: [azure-plan]", "tags: [\"plan-{subscription}\"]")]);
    let plan = spec(&fleet, &network(), "plan");
    assert_eq!(plan.runner.tags, ["plan-1111-net"]);
    let IdentitySpec::Managed { roles, name, .. } = &plan.identity else { panic!("managed") };
    assert_eq!(roles[0].scope.as_str(), "/subscriptions/1111-net");
    assert_eq!(name, "id-nonprod--g5-plan");
}

#[test]
fn a_target_without_the_value_waits_and_check_says_so() {
    let change = [("values: { subscription: 1111-net }", "values: { other: x }")];
    assert_eq!(states(&fleet(&change), &network())[0], "apply: needs subscription");
    warned(&change, "groups.platform/network.values", "needs `subscription`");
}

#[test]
fn a_value_cannot_lead_a_scope_elsewhere() {
    for value in ["a/b", "..", "", "a b", "{x}"] {
        let text = format!("values: {{ subscription: \"{value}\" }}");
        refused(
            &[("values: { subscription: 1111-net }", &text)],
            "groups.platform/network.values.subscription",
            "cannot fill",
        );
    }
    refused(
        &[("/subscriptions/{subscription}\"", "/subscriptions/{subscription\"")],
        "profiles.plan.identity.managed.roles[0].scope",
        "brace",
    );
}

#[test]
fn set_changes_load_resources_placement_timeout_and_quota() {
    let set = "values: { subscription: 1111-net }, set: { apply: { runner: { concurrent: 2, maximumTimeout: 2h }, \
               kubernetes: { memory: 4096Mi, nodeSelector: { pool: big }, quota: { pods: \"9\" } } } }";
    let apply = spec(&fleet(&[("values: { subscription: 1111-net }", set)]), &network(), "apply");
    assert_eq!((apply.runner.concurrent, apply.runner.request_concurrency), (2, 2));
    assert_eq!(apply.runner.maximum_timeout, 7_200);
    assert_eq!(apply.kubernetes.memory.limit.as_deref(), Some("4Gi"));
    assert_eq!(apply.kubernetes.node_selector.get("pool").map(String::as_str), Some("big"));
    assert_eq!(apply.kubernetes.quota.get("pods").map(String::as_str), Some("9"));
    assert_eq!(apply.kubernetes.cpu.request.as_deref(), Some("500m"), "the rest stays");
}

#[test]
fn a_target_is_protected_by_its_id_alone() {
    let values = "values: { subscription: 1111-net }";
    let with = |more: &str| fleet(&[(values, &format!("{values}, {more}"))]);
    let key = |text: &str| text.parse().unwrap();
    let one = with("id: 4711, protect: true");
    assert!(one.protects(&key("g4711-plan")) && one.protects(&key("g4711-gone")));
    assert!(!one.protects(&key("p4711-plan")) && !one.protects(&key("g4712-plan")));
    assert!(!with("id: 4711").protects(&key("g4711-plan")));
    refused(
        &[(values, &format!("{values}, protect: true"))],
        "groups.platform/network.protect",
        "numeric `id`",
    );
}

#[test]
fn set_never_changes_tags_protection_identity_or_isolation() {
    for (key, path) in [
        ("runner: { tags: [x] }", "runner.tags"),
        ("runner: { protected: false }", "runner.protected"),
        ("identity: none", "identity"),
        ("isolation: profile", "isolation"),
        ("kubernetes: { pods: privileged }", "kubernetes.pods"),
    ] {
        let set = format!("values: {{ subscription: 1111-net }}, set: {{ apply: {{ {key} }} }}");
        let path = format!("groups.platform/network.set.apply.{path}");
        refused(&[("values: { subscription: 1111-net }", &set)], &path, "`set` may change");
    }
    let set = "values: { subscription: 1111-net }, set: { aply: {} }";
    refused(
        &[("values: { subscription: 1111-net }", set)],
        "groups.platform/network.set.aply",
        "`apply`",
    );
}

#[test]
fn a_shared_domain_has_no_placeholder_in_a_scope_and_no_quota_of_one_target() {
    let shared = (
        "runner: { tags: [azure-plan], protected: false }",
        "runner: { tags: [azure-plan], protected: false }\n    isolation: profile",
    );
    refused(&[shared], "profiles.plan.identity.managed.roles[0].scope", "isolation: target");
    let fixed = [shared, ("/subscriptions/{subscription}\"", "/subscriptions/1111-net\"")];
    let one = fleet(&fixed);
    let domain = one.shared_domain(&ProfileName::new("plan").unwrap()).unwrap();
    assert_eq!(domain.namespace, "ci-nonprod--domain-plan");
    let IdentitySpec::Managed { name, .. } = &domain.identity else { panic!("managed") };
    assert_eq!(name, "id-nonprod--domain-plan");
    assert_eq!(spec(&one, &network(), "plan").identity, domain.identity);
    assert_eq!(one.shared_domain(&ProfileName::new("apply").unwrap()), None);
    let quota = "values: { subscription: 1111-net }, set: { plan: { kubernetes: { quota: { pods: \"9\" } } } }";
    refused(
        &[shared, fixed[1], ("values: { subscription: 1111-net }", quota)],
        "groups.platform/network.set.plan.kubernetes.quota",
        "one quota",
    );
}

#[test]
fn a_renamed_profile_keeps_the_name_it_has_outside() {
    let renamed = fleet(&[
        ("profiles: [plan, apply]", "profiles: [reading, apply]"),
        ("  plan:\n", "  reading:\n    was: plan\n"),
    ]);
    assert_eq!(states(&renamed, &network()), states(&fleet(&[]), &network()));
    assert_eq!(spec(&renamed, &network(), "plan"), spec(&fleet(&[]), &network(), "plan"));
    refused(&[("  plan:\n", "  plan:\n    was: apply\n")], "profiles.plan.was", "two profiles");
}

// Defaults that protect.

#[test]
fn the_defaults_protect_what_has_an_identity() {
    let fleet = fleet(&[("tags: [azure-plan], protected: false", "tags: [azure-plan]")]);
    let apply = spec(&fleet, &network(), "apply");
    assert!(apply.runner.protected && !apply.runner.run_untagged && !apply.kubernetes.services);
    assert_eq!((apply.pods, apply.isolation), (Pods::Hardened, Isolation::Target));
    assert!(!apply.runner.locked, "only a project's runner can be locked");
    assert!(!spec(&fleet, &network(), "plan").runner.protected, "it only reads");
    let images = spec(&fleet, &project(9, "infra/images/base", &[(77, "infra")]), "images");
    assert!(images.runner.locked);
    let default = spec(&fleet, &target(TargetId::Instance, "", &[]), "default");
    assert!(default.kubernetes.services && default.pods == Pods::Standard);
    assert!(default.identity_settle.is_zero(), "nothing to settle without an identity");
}

#[test]
fn leaving_a_protection_needs_a_named_exception_with_an_end() {
    for (change, path, allow) in [
        (
            (
                "runner: { tags: [azure-apply] }",
                "runner: { tags: [azure-apply], protected: false }",
            ),
            "profiles.apply.runner.protected",
            "unprotectedWriter",
        ),
        (
            (
                "runner: { tags: [azure-apply] }",
                "runner: { tags: [azure-apply], runUntagged: true }",
            ),
            "profiles.apply.runner.runUntagged",
            "identityOnUntagged",
        ),
        (
            (
                "runner: { tags: [azure-apply] }",
                "runner: { tags: [azure-apply] }\n    kubernetes: { pods: privileged }",
            ),
            "profiles.apply.kubernetes.pods",
            "identityOnPrivileged",
        ),
        (
            (
                "instance: true }, profiles: [default]",
                "instance: true }, profiles: [default, apply]",
            ),
            "rules[2].match.instance",
            "identityOnInstance",
        ),
    ] {
        refused(&[change], path, allow);
        let excuse = format!(
            "  apply:\n    exceptions: [{{ allow: {allow}, exception: CHG1, until: 2027-12-31 }}]\n"
        );
        let excused = problems(&changed(&[change, ("  apply:\n", &excuse)]));
        assert!(
            excused
                .iter()
                .all(|problem| problem.severity != Severity::Error || problem.path != path),
            "{}",
            told(&excused)
        );
    }
}

#[test]
fn a_writing_role_on_a_whole_subscription_needs_an_exception() {
    let at = "profiles.apply.identity.managed.roles[0]";
    let wide = |more: &str| format!("role: Contributor, scope: \"/subscriptions/2222-pay\"{more} ");
    let from = "role: Contributor, scope: \"/subscriptions/{subscription}/resourceGroups/app\" ";
    refused(&[(from, &wide(""))], at, "narrower");
    refused(&[(from, &wide(", exception: CHG1"))], &format!("{at}.exception"), "no end");
    refused(&[(from, &wide(", until: 2027-01-01"))], &format!("{at}.until"), "who allowed");
    refused(&[(from, &wide(", exception: CHG1, until: soon"))], &format!("{at}.until"), "no date");
    let fleet = fleet(&[(from, &wide(", exception: CHG1, until: 2027-01-01"))]);
    assert_eq!(spec(&fleet, &network(), "apply").mode, Mode::Enforce);
}

#[test]
fn the_end_of_an_exception_parks_its_profile_and_never_stops_the_rest() {
    let from = "role: Contributor, scope: \"/subscriptions/{subscription}/resourceGroups/app\" ";
    let to = |until: &str| {
        format!(
            "role: Contributor, scope: \"/subscriptions/2222-pay\", exception: CHG1, until: {until} "
        )
    };
    let ended = fleet(&[(from, &to("2026-11-23"))]);
    assert_eq!(states(&ended, &network()), ["apply: ended CHG1", "plan: g5-plan"]);
    for (until, words) in [
        ("2026-11-23", "is parked"),
        ("2026-11-24", "within 1 day;"), // its last day still counts
        ("2026-11-25", "within 1 day;"),
        ("2026-11-26", "within 7 days"),
        ("2026-12-24", "within 30 days"),
    ] {
        warned(&[(from, &to(until))], "profiles.apply", words);
    }
    let later = fleet(&[(from, &to("2026-12-24"))]);
    let day_after = "2026-12-25T00:00:00Z".parse::<Timestamp>().unwrap();
    let parked = |at| {
        let wanted = later.wanted_at(&network(), at);
        wanted.iter().any(|wanted| matches!(wanted.state, WantedState::ExceptionEnded { .. }))
    };
    assert!(parked(day_after) && !parked("2026-12-24T23:59:59Z".parse().unwrap()));
    let far = problems(&changed(&[(from, &to("2026-12-26"))]));
    assert_eq!(told(&far), "");
}

// Guardrails.

#[test]
fn a_role_or_scope_outside_fails_check_but_concerns_its_profile_alone() {
    for (from, to, path, words) in [
        (
            "roles: [Reader, Contributor, AcrPush]",
            "roles: [Reader, AcrPush]",
            "groups.platform/network.values",
            "Contributor is not among",
        ),
        (
            "scopes: [/subscriptions/1111-net,",
            "scopes: [/subscriptions/1111,",
            "groups.platform/network.values",
            "not within",
        ),
        ("acr]\n", "acr2]\n", "profiles.images.identity.managed.roles[0]", "not within"),
        ("rg-forerunner]", "app]", "groups.platform/network.values", "never"),
    ] {
        blocked(&[(from, to)], path, words);
    }
    let fleet = fleet(&[("roles: [Reader, Contributor, AcrPush]", "roles: [Reader, AcrPush]")]);
    let states = states(&fleet, &network());
    assert!(states[0].starts_with("apply: outside: the role Contributor"), "{states:?}");
    assert_eq!(states[1], "plan: g5-plan");
}

#[test]
fn without_guardrails_no_role_is_given() {
    let (text, _) = BASE.split_once("guardrails:").unwrap();
    let (fleet, problems) = parse(text).unwrap();
    assert!(problems.iter().any(|problem| problem.severity == Severity::Blocked));
    let wanted = fleet.wanted(&network());
    assert!(
        wanted.iter().all(|wanted| matches!(wanted.state, WantedState::OutsideGuardrails { .. }))
    );
}

#[test]
fn a_role_that_gives_rights_on_is_never_assigned() {
    for role in [
        "Owner",
        "User Access Administrator",
        "Role Based Access Control Administrator",
        "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
    ] {
        refused(
            &[("roles: [Reader,", &format!("roles: [{role}, Reader,"))],
            "guardrails.roles[0]",
            "above every guardrail",
        );
        blocked(
            &[("role: AcrPush", &format!("role: {role}"))],
            "profiles.images.identity.managed.roles[0]",
            "never assigns",
        );
    }
    refused(
        &[("role: AcrPush", "role: AcrPusch")],
        "profiles.images.identity.managed.roles[0].role",
        "`AcrPush`",
    );
}

#[test]
fn the_identities_group_and_the_cluster_are_always_kept_out() {
    let cluster = "/subscriptions/1111-net/resourceGroups/app/providers/Microsoft.ContainerService/managedClusters/aks";
    let change = [("kubeconfig: kubeconfig.yaml", &*format!("resourceId: {cluster}"))];
    blocked(&change, "groups.platform/network.values", "managedClusters/aks");
    let never = &fleet(&change).guardrails().never.clone();
    let own = ResourceId::new(
        "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-ids",
    )
    .unwrap();
    assert!(never.contains(&own) && never.contains(&ResourceId::new(cluster).unwrap()));
}

const EXISTING: &str = "/subscriptions/3333/resourceGroups/ids/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-tf";

fn existing(expect: &str) -> (String, String) {
    let from = "identity: { managed: { roles: [{ role: AcrPush, scope: \"/subscriptions/3333/resourceGroups/acr\" }] } }";
    (from.to_owned(), format!("identity: {{ existing: [{EXISTING}]{expect} }}"))
}

#[test]
fn what_is_expected_of_an_existing_identity_is_not_held_against_the_guardrails() {
    let (from, to) = existing(
        ", expect: [{ role: Owner, scope: /subscriptions/4444, exception: CHG1, until: 2027-12-31 }]",
    );
    let fleet = fleet(&[(&from, &to)]);
    let images = spec(&fleet, &project(9, "infra/images/base", &[(77, "infra")]), "images");
    assert!(images.runner.protected);
    let IdentitySpec::Existing { candidates, expect } = &images.identity else {
        panic!("existing")
    };
    assert_eq!((candidates.len(), expect[0].role_name.as_str()), (1, "Owner"));
    let id = ResourceId::new(EXISTING).unwrap();
    let identities = fleet.existing_identities();
    let (found, profiles) = &identities[&names::identity_unit(&id)];
    assert_eq!((found, profiles.len()), (&id, 1));
}

#[test]
fn an_identity_is_managed_or_existing_and_existing_ones_are_ids() {
    let at = "profiles.images.identity";
    let (from, to) = existing("");
    refused(
        &[(&from, &to.replace("userAssignedIdentities", "identities"))],
        &format!("{at}.existing[0]"),
        "userAssignedIdentities",
    );
    refused(&[(&from, &to.replace("existing: [", "managed: {}, existing: ["))], at, "both");
    refused(&[(&from, "identity: { settle: 1m }")], at, "neither");
    refused(&[(&from, "identity: { existing: [] }")], &format!("{at}.existing"), "is empty");
    refused(
        &[(&from, "identity: { managed: {}, expect: [] }")],
        &format!("{at}.expect"),
        "belongs to `existing`",
    );
}

#[test]
fn an_existing_identity_of_unknown_rights_counts_as_writing() {
    let (from, to) = existing("");
    let unprotected = ("runner: { tags: [image] }", "runner: { tags: [image], protected: false }");
    refused(&[(&from, &to), unprotected], "profiles.images.runner.protected", "unprotectedWriter");
}

#[test]
fn guardrails_live_in_one_place() {
    let problems = Fleet::parse(BASE, Some("roles: [Reader]"), NOW.parse().unwrap()).unwrap_err();
    assert!(told(&problems).contains("stands here and in guardrails.yaml"), "{}", told(&problems));
    let (text, own) = BASE.split_once("guardrails:\n").unwrap();
    let own: String = own.lines().map(|line| format!("{}\n", line.trim())).collect();
    let (apart, found) = Fleet::parse(text, Some(&own), NOW.parse().unwrap()).unwrap();
    assert_eq!((told(&found).as_str(), apart.guardrails()), ("", fleet(&[]).guardrails()));
    let problems = Fleet::parse(text, Some("rolls: []"), NOW.parse().unwrap()).unwrap_err();
    assert_eq!((problems[0].file, problems[0].line), ("guardrails.yaml", 1), "{}", told(&problems));
}

#[test]
fn the_brake_and_the_freeze_have_sensible_values() {
    let never = "  never:";
    for (line, path, words) in [
        ("  deletions: { percent: 101 }", "guardrails.deletions.percent", "more than 100"),
        ("  grace: soon", "guardrails.grace", "no duration"),
        ("  freeze: [{ from: 2027-01-04, to: 2026-12-18 }]", "guardrails.freeze[0].to", "before"),
        ("  freeze: [{ from: 2027-01-04, to: 2027-02-30 }]", "guardrails.freeze[0].to", "no date"),
        (
            "  freeze: [{ from: 2027-01-04, to: 2027-01-05, allow: [everything] }]",
            "guardrails.freeze[0].allow[0]",
            "restore",
        ),
    ] {
        refused(&[(never, &format!("{line}\n{never}"))], path, words);
    }
    let guardrails = fleet(&[]).guardrails().clone();
    assert_eq!((guardrails.runners, guardrails.creations_per_hour), (500, 50));
    assert_eq!((guardrails.deletions.max, guardrails.deletions.percent), (10, 20));
    assert_eq!(guardrails.grace.as_hours(), 7 * 24);
}

// Overlaps.

#[test]
fn two_runners_that_could_take_one_job_as_different_identities_are_an_error() {
    for (changes, path, words) in [
        // Two profiles of one target, one tag.
        (&[("tags: [azure-plan]", "tags: [x, azure-apply]")][..], "rules[0]", "`azure-apply`"),
        // Groups below each other, one profile.
        (
            &[("groups: \"platform/*\", except: [platform/sandbox]", "groups: \"platform/**\"")][..],
            "rules[0]",
            "one below the other",
        ),
        (
            &[(
                "groups: \"platform/*\", except: [platform/sandbox]",
                "groups: [\"platform/*\", platform]",
            )][..],
            "rules[0]",
            "either",
        ),
        // A project below a group, by another rule.
        (
            &[
                ("projects: \"infra/images/*\" }", "projects: \"platform/*/images\" }"),
                ("tags: [image]", "tags: [Azure-Plan]"),
            ][..],
            "rules[0]",
            "`azure-plan`",
        ),
        // The instance's runner and another one, by tag.
        (&[("tags: [], runUntagged", "tags: [image], runUntagged")][..], "rules[1]", "`image`"),
    ] {
        let changes: Vec<(&str, &str)> = changes.to_vec();
        let found = problems(&changed(&changes));
        let fits = |problem: &Problem| {
            problem.severity == Severity::Blocked
                && problem.path == path
                && problem.reason.contains(words)
        };
        assert!(found.iter().any(fits), "{changes:?}:\n{}", told(&found));
    }
}

#[test]
fn runners_that_no_job_can_confuse_are_no_overlap() {
    for changes in [
        &[][..],
        // Excluded there.
        &[
            ("rules:", "rules:\n  - { match: { groups: platform/sandbox }, profiles: [images] }"),
            ("tags: [image]", "tags: [azure-plan]"),
        ][..],
        // Elsewhere.
        &[("tags: [image]", "tags: [azure-plan]")][..],
        // One runs untagged jobs, the other only tagged ones.
        &[("tags: [], runUntagged", "tags: [shell], runUntagged")][..],
    ] {
        assert_eq!(fleet(changes).overlaps(), [], "{changes:?}");
    }
}

#[test]
fn without_an_identity_an_overlap_is_only_worth_knowing() {
    let more = "{ match: { groups: \"other/*\" }, profiles: [default] }\n  - { match: { instance";
    warned(&[("{ match: { instance", more)], "rules[2]", "");
    let (_, found) = parse(&changed(&[("{ match: { instance", more)])).unwrap();
    assert!(found.iter().all(|problem| problem.severity == Severity::Warning), "{}", told(&found));
}

// Pods, `extra`, sizes.

#[test]
fn extra_holds_only_what_has_no_key_of_its_own() {
    let extra = |text: &str| format!("kubernetes: {{ pods: image-build, extra: \"{text}\" }}");
    let at = "profiles.images.kubernetes.extra";
    let from = "kubernetes: { pods: image-build }";
    for (text, words) in [
        ("[kubernetes]\\nnamespace = 'x'", "kubernetes.namespace"),
        ("[kubernetes]\\npod_labels_overwrite_allowed = '.*'", "stays empty"),
        ("token = 'x'", "forerunner writes it"),
        ("output_limitt = 3", "`output_limit`"),
        ("= 3", "no TOML"),
    ] {
        refused(&[(from, &extra(text))], at, words);
    }
    let fleet = fleet(&[(from, &extra("output_limit = 3"))]);
    let images = spec(&fleet, &project(9, "infra/images/base", &[(77, "infra")]), "images");
    assert_eq!(images.kubernetes.extra["output_limit"].as_integer(), Some(3));
}

#[test]
fn what_kubernetes_or_gitlab_would_refuse_is_refused_here() {
    for (from, to, path, words) in [
        ("pods: image-build", "cpu: 1x", "kubernetes.cpu", "no quantity"),
        (
            "pods: image-build",
            "memory: { request: 2Gi, limit: 1Gi }",
            "kubernetes.memory",
            "above the limit",
        ),
        (
            "pods: image-build",
            "tolerations: { a=b: Never }",
            "kubernetes.tolerations.a=b",
            "no effect",
        ),
        (
            "pods: image-build",
            "environment: { FF_X: \"1\" }",
            "kubernetes.environment.FF_X",
            "steers",
        ),
        ("pods: image-build", "serviceAccount: job", "kubernetes.serviceAccount", "namespace"),
        ("tags: [image]", "tags: [image, image]", "runner.tags[1]", "twice"),
        ("tags: [image]", "tags: [\"a,b\"]", "runner.tags[0]", "no tag"),
        ("tags: [image]", "tags: []", "runner.tags", "no job could reach"),
        ("tags: [image]", "tags: [image], maximumTimeout: 5m", "runner.maximumTimeout", "10m"),
        ("tags: [image]", "tags: [image], concurrent: 0", "runner.concurrent", "is 0"),
        (
            "tags: [image]",
            "tags: [image], concurrent: 2, requestConcurrency: 3",
            "runner.requestConcurrency",
            "from 1",
        ),
    ] {
        refused(&[(from, to)], &format!("profiles.images.{path}"), words);
    }
}

// Rotation, drift and what else is for later.

#[test]
fn what_is_for_later_is_checked_now_and_named() {
    for (text, path, words) in [
        ("rotation: { every: often }", "rotation.every", "no duration"),
        ("rotation: { window: \"0 2 * * SUN\" }", "rotation.window", "six fields"),
        ("rotation: { timeZone: Amsterdam }", "rotation.timeZone", "IANA"),
        ("rotation: { patience: 1y }", "rotation.patience", "no duration"),
        ("identityRotation: sometimes", "identityRotation", "no duration"),
        ("drift: { foreignRights: keep }", "drift.foreignRights", "report"),
        ("drift: { paused: stay }", "drift.paused", "keep"),
        ("drift: { foreignManager: ignore }", "drift.foreignManager", "alarm"),
    ] {
        let with = format!("  images:\n    {text}\n");
        refused(&[("  images:\n", &with)], &format!("profiles.images.{path}"), words);
    }
    let later = "  images:\n    rotation: { every: 30d }\n    drift: { foreignManager: alarm }\n    protect: true\n";
    assert_eq!(fleet(&[("  images:\n", later)]).not_acted_on(), ["rotation"]);
    assert_eq!(fleet(&[]).not_acted_on(), [""; 0]);
}

#[test]
fn observing_anywhere_is_observing() {
    let all = fleet(&[("fleet: nonprod", "fleet: nonprod\nmode: observe")]);
    assert_eq!(spec(&all, &network(), "plan").mode, Mode::Observe);
    let one = fleet(&[("  plan:\n", "  plan:\n    mode: observe\n")]);
    assert_eq!(spec(&one, &network(), "plan").mode, Mode::Observe);
    assert_eq!(spec(&one, &network(), "apply").mode, Mode::Enforce);
}

#[test]
fn the_digest_follows_both_files() {
    let digest = |fleet: &Fleet| fleet.settings().digest.clone();
    let one = digest(&fleet(&[]));
    assert!(one.starts_with("sha256:") && one.len() == 71);
    assert_ne!(one, digest(&fleet(&[("version: 1", "version: 1 # changed")])));
    assert_eq!(one, digest(&fleet(&[])));
}

// Any file.

#[test]
fn aliases_and_what_yaml_1_1_called_booleans_are_read_as_yaml_1_2_has_them() {
    let aliased = fleet(&[
        (
            "runner: { tags: [azure-plan], protected: false }",
            "runner: &runner { tags: [azure-plan], protected: false }",
        ),
        ("rules:", "rules:\n  - { match: { groups: infra/tools }, profiles: [tools] }"),
        ("  default: {", "  tools: { runner: *runner, identity: none }\n  default: {"),
    ]);
    let tools = spec(&aliased, &group(8, "infra/tools", &[(77, "infra")]), "tools");
    assert_eq!(tools.runner.tags, ["azure-plan"]);
    refused(&[("instance: true", "instance: yes")], "rules[2].match.instance", "should be `true`");
    let on = fleet(&[("tags: [image]", "tags: [on]")]);
    let base = project(9, "infra/images/base", &[(77, "infra")]);
    assert_eq!(spec(&on, &base, "images").runner.tags, ["on"]);
}

#[test]
fn more_targets_than_an_existing_identity_has_room_for_are_named() {
    let (from, to) = existing("");
    let groups: Vec<String> = (0..21).map(|number| format!("infra/images/p{number}")).collect();
    let rule = format!("projects: [{}]", groups.join(", "));
    warned(
        &[(&from, &to), ("projects: \"infra/images/*\"", &rule)],
        "profiles.images.identity.existing",
        "20",
    );
}

proptest! {
    /// A file that was cut, doubled or mistyped anywhere is read or refused, with its reasons; never more.
    #[test]
    fn a_broken_file_is_refused_with_a_reason(
        line in 0_usize..40,
        column in 0_usize..80,
        how in 0_u8..4,
        letter in proptest::sample::select("{}[]:,-*&!|>'\"%@# \tx0~é".chars().collect::<Vec<_>>()),
    ) {
        let mut lines: Vec<String> = BASE.lines().map(str::to_owned).collect();
        let line = line % lines.len();
        let place = lines[line].char_indices().map(|(at, _)| at).nth(column).unwrap_or(lines[line].len());
        match how {
            0 => drop(lines.remove(line)),
            1 => lines.insert(line, lines[line].clone()),
            2 => lines[line].truncate(place),
            _ => lines[line].insert(place, letter),
        }
        match parse(&lines.join("\n")) {
            Ok((fleet, problems)) => {
                prop_assert!(problems.iter().all(|problem| problem.severity != Severity::Error));
                let _ = fleet.wanted(&network());
            }
            Err(problems) => {
                prop_assert!(problems.iter().any(|problem| problem.severity == Severity::Error));
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))] // twice the orders there are

    /// The order of rules means nothing.
    #[test]
    fn order_means_nothing(order in Just(vec![0, 1, 2, 3]).prop_shuffle(), path in "(platform|infra)/(network|sandbox|images|a)") {
        let rules = [
            "{ match: { groups: \"platform/*\", except: [platform/sandbox] }, profiles: [plan, apply] }",
            "{ match: { groups: [infra/a, platform/sandbox] }, profiles: [images] }",
            "{ match: { groups: platform/network }, profiles: [apply] }",
            "{ match: { groups: \"*/images\" }, profiles: [default] }",
        ];
        let (head, tail) = BASE.split_once("rules:").unwrap();
        let (_, tail) = tail.split_once("profiles:\n").unwrap();
        let file = |order: &[usize]| {
            let listed: String = order.iter().map(|rule| format!("  - {}\n", rules[*rule])).collect();
            parse(&format!("{head}rules:\n{listed}profiles:\n{tail}")).unwrap().0
        };
        let (top, _) = path.split_once('/').unwrap();
        let anchor = if top == "platform" { 42 } else { 77 };
        let target = group(5, &path, &[(anchor, top)]);
        let wanted = file(&order).wanted(&target);
        prop_assert_eq!(wanted, file(&[0, 1, 2, 3]).wanted(&target));
    }
}
