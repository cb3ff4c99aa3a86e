//! `forerunner plan` shows what the next round does, exactly, and does none of it.

use crate::{
    cli_desk::{BUS, run, run_at_terminal},
    deeds::{fleet, plan_fleet, plan_profile},
    harness::{FLEET, Sandbox},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use forerunner::{
    cli::{
        answer::{Answer, Colour},
        plan::{Plan, answer},
    },
    sandbox::{
        gitlab::RunnerEdit,
        wire::{Fault, Service, What},
    },
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const MANAGERS: &str = "forerunner-nonprod";

async fn plan(sandbox: &Sandbox, targets: &[&str], json: bool) -> Answer {
    let arguments = Plan {
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        json,
        detailed_exitcode: true,
        place: Default::default(),
    };
    answer(&arguments, &sandbox.desk(), Colour::default(), async |pause| turn(sandbox, pause)).await
}

/// What a person would wait for.
fn turn(sandbox: &Sandbox, pause: jiff::SignedDuration) {
    let clock = &sandbox.world.clock;
    clock.turn_to(clock.now() + pause);
}

/// A settled world with one runner.
async fn settled() -> (Sandbox, String) {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let key = format!("g{group}-plan");
    sandbox.assert_ready(&format!("runner/{key}"));
    (sandbox, key)
}

struct Damage {
    name: &'static str,
    harm: fn(&Sandbox, &str),
    /// Lines of the plan; `KEY` stands for the runner's key.
    lines: &'static [&'static str],
    /// Created, changed, deleted.
    counts: [u64; 3],
}

fn jobs(key: &str) -> String {
    format!("ci-nonprod--{key}")
}

fn edit_config(sandbox: &Sandbox, key: &str) {
    let edited = sandbox.world.kubernetes.edit(
        "secrets",
        MANAGERS,
        &format!("runner-{key}-config"),
        |secret| {
            let text = BASE64_STANDARD.decode(secret["data"]["config.toml"].as_str().unwrap());
            let text = String::from_utf8(text.unwrap()).unwrap();
            let dsn = "check_interval = 99\nsentry_dsn = \"https://hunter2@sentry.example.com/1\"";
            let text = text.replace("check_interval = 3", dsn);
            assert!(text.contains("hunter2"), "the file has another interval");
            secret["data"]["config.toml"] = json!(BASE64_STANDARD.encode(text));
        },
    );
    assert!(edited);
}

fn damages() -> Vec<Damage> {
    vec![
        Damage {
            name: "Deployment scaled and another image",
            harm: |sandbox, key| {
                let name = format!("runner-{key}");
                assert!(sandbox.world.kubernetes.edit("deployments", MANAGERS, &name, |live| {
                    live["spec"]["replicas"] = json!(3);
                    live["spec"]["template"]["spec"]["containers"][0]["image"] =
                        json!("evil.example.com/runner");
                }));
            },
            lines: &[
                "  ~ Kubernetes apply Deployment forerunner-nonprod/runner-KEY",
                "      spec.replicas: 3 → 1",
                "containers[gitlab-runner].image: \"evil.example.com/runner\" → \"",
            ],
            counts: [0, 1, 0],
        },
        Damage {
            name: "NetworkPolicy gone",
            harm: |sandbox, key| {
                let name = format!("jobs-{key}");
                let kubernetes = &sandbox.world.kubernetes;
                assert!(kubernetes.delete_as_admin("networkpolicies", &jobs(key), &name));
            },
            lines: &["  + Kubernetes apply NetworkPolicy ci-nonprod--KEY/jobs-KEY"],
            counts: [1, 0, 0],
        },
        Damage {
            name: "entity's settings",
            harm: |sandbox, key| {
                let id = sandbox.runner(key).id;
                let edit = RunnerEdit {
                    tags: Some(vec!["everything".to_owned()]),
                    run_untagged: Some(true),
                    ..RunnerEdit::default()
                };
                sandbox.world.gitlab.edit_runner(id, edit);
            },
            lines: &[
                "  ~ GitLab     mend the settings of runner",
                "      tags: [\"everything\"] → [\"azure-plan\"]",
                "      run_untagged: true → false",
            ],
            counts: [0, 1, 0],
        },
        Damage {
            name: "role assignment gone",
            harm: |sandbox, _| {
                let all = sandbox.world.azure.assignments();
                let ours = all.iter().find(|one| {
                    one.description.as_ref().is_some_and(|text| text.starts_with("forerunner:"))
                });
                assert!(sandbox.world.azure.remove_assignment(ours.unwrap().name));
            },
            lines: &["  + Azure      assign Reader on /subscriptions/", "      principal: "],
            counts: [1, 0, 0],
        },
        Damage {
            name: "identity's tags",
            harm: |sandbox, _| {
                let identity = sandbox.world.azure.identities().remove(0);
                let mut tags = identity.tags;
                tags.insert("costCenter".to_owned(), "0".to_owned());
                sandbox.world.azure.edit_identity_tags(&identity.id, tags);
            },
            lines: &["  ~ Azure      tag identity", "      tags.costCenter: \"0\" → \"4711\""],
            counts: [0, 1, 0],
        },
        Damage {
            name: "config.toml edited by hand",
            harm: edit_config,
            lines: &[
                "  ~ Kubernetes bring Secret forerunner-nonprod/runner-KEY-config up to date",
                "      [config.toml].check_interval: 99 → 3",
                "      [config.toml].sentry_dsn: (sensitive) → (gone)",
            ],
            counts: [0, 1, 0],
        },
        Damage {
            name: "account's annotation edited",
            harm: |sandbox, key| {
                let kubernetes = &sandbox.world.kubernetes;
                assert!(kubernetes.edit("serviceaccounts", &jobs(key), "job", |live| {
                    live["metadata"]["annotations"]["azure.workload.identity/client-id"] =
                        json!("00000000-0000-4000-8000-00000000dead");
                }));
            },
            lines: &[
                "  ~ Kubernetes apply ServiceAccount ci-nonprod--KEY/job",
                "metadata.annotations[azure.workload.identity/client-id]: \"00000000-0000-4000-8000-00000000dead\" → \"",
            ],
            counts: [0, 1, 0],
        },
    ]
}

fn counts(shown: &Value) -> [u64; 3] {
    ["create", "change", "delete"].map(|key| shown["counts"][key].as_u64().unwrap())
}

/// A twin with our marker that nobody polls with, as two rounds at once could leave it; answers its id and token.
pub(crate) async fn make_twin(sandbox: &Sandbox, key: &str) -> (u64, String) {
    let runner = sandbox.runner(key);
    let group: u64 = key.trim_start_matches('g').split('-').next().unwrap().parse().unwrap();
    let address = sandbox.world.address("gitlab").unwrap();
    let request = crate::deeds::client()
        .post(format!("http://{address}/api/v4/user/runners"))
        .header("Host", "gitlab.example.com")
        .header("Private-Token", sandbox.world.gitlab.admin_token())
        .json(&json!({ "runner_type": "group_type", "group_id": group, "description": runner.description }));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let made: Value = answer.json().await.unwrap();
    (made["id"].as_u64().unwrap(), made["token"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_what_is_held_and_what_is_lost_each_has_its_line() {
    let (sandbox, key) = settled().await;
    sandbox.lose_hooks();
    let check = async |lines: &[&str]| {
        sandbox.world.wire.forget_calls();
        let shown = plan(&sandbox, &[], false).await;
        assert_eq!(sandbox.written(), Vec::<String>::new());
        for line in lines {
            let line = line.replace("KEY", &key);
            assert!(shown.out.contains(&line), "no `{line}` in\n{}", shown.out);
        }
        shown
    };
    make_twin(&sandbox, &key).await;
    check(&["  - GitLab     delete runner ", "1 to delete"]).await;
    sandbox.wake(&format!("runner/{key}"));
    sandbox.settle().await;
    // A credential that somebody edited keeps its name.
    let identity = sandbox.world.azure.identities().remove(0).id;
    let mut credential = sandbox.world.azure.credentials(&identity).remove(0);
    credential.subject = "system:serviceaccount:kube-system:default".to_owned();
    sandbox.world.azure.edit_credential(&identity, credential);
    check(&[
        "  ~ Azure      let system:serviceaccount:ci-nonprod--KEY:job sign in as id-nonprod--KEY",
        "      subject: \"system:serviceaccount:kube-system:default\" → \"system:serviceaccount:ci-nonprod--KEY:job\"",
    ])
    .await;
    sandbox.wake(&format!("runner/{key}"));
    sandbox.settle().await;
    let group: u64 = key.trim_start_matches('g').split('-').next().unwrap().parse().unwrap();
    sandbox.world.gitlab.archive_group(group);
    check(&[
        "  ~ GitLab     pause runner ",
        "      paused: false → true",
        "  ~ Kubernetes scale Deployment forerunner-nonprod/runner-KEY to zero",
        "      spec.replicas: 1 → 0",
        "  Ready: the target or a group above it is archived (Archived)",
    ])
    .await;
    sandbox.wake(&format!("runner/{key}"));
    sandbox.settle().await;
    check(&["0 to create, 0 to change, 0 to delete, 1 left as they are"]).await;
    sandbox.world.gitlab.unarchive_group(group);
    sandbox.wake(&format!("runner/{key}"));
    sandbox.settle().await;
    // Its Secret is gone, and the manager has polled with the token: nobody may replace it unasked.
    let name = format!("runner-{key}-config");
    assert!(sandbox.world.kubernetes.delete_as_admin("secrets", MANAGERS, &name));
    check(&["  blocked: the token of runner ", "1 blocked"]).await;
}

/// Whatever is left of a unit is taken away by the sweep, so a plan of the whole shows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nothing_but_a_rest_is_left_of_is_shown_too() {
    let shared = plan_fleet().replace("  plan: { ", "  plan: { isolation: profile, ");
    let sandbox = Sandbox::new(&shared).await;
    sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.deploy(&plan_fleet()).await;
    let shown = plan(&sandbox, &[], false).await;
    assert!(shown.out.contains("domain/plan"), "{}", shown.out);
    // Not even told of any more.
    let kubernetes = &sandbox.world.kubernetes;
    assert!(kubernetes.delete_as_admin("configmaps", MANAGERS, "status-domain-plan"));
    let shown = plan(&sandbox, &[], false).await;
    assert!(shown.out.contains("domain/plan"), "{}", shown.out);

    let (sandbox, key) = settled().await;
    sandbox.lose_hooks();
    sandbox.deploy(&plan_fleet().replace("platform/*", "platform/nobody")).await;
    let kubernetes = &sandbox.world.kubernetes;
    let (unit, group) = (format!("runner/{key}"), key.trim_end_matches("-plan"));
    assert!(kubernetes.delete_as_admin("deployments", MANAGERS, &format!("runner-{key}")));
    // By its path, its target, and in the whole; its status is enough, and so are its namespace and its identity.
    let shown = async |targets: &[&str]| {
        let shown = plan(&sandbox, targets, false).await;
        assert!(shown.out.contains(&unit), "{targets:?}\n{}", shown.out);
    };
    for targets in [&[][..], &["platform/*"], &["platform/payments"], &[group]] {
        shown(targets).await;
    }
    assert!(kubernetes.delete_as_admin("configmaps", MANAGERS, &format!("status-runner-{key}")));
    shown(&[]).await;
    assert!(kubernetes.delete_as_admin("namespaces", "", &jobs(&key)));
    sandbox.pass_minutes(1).await;
    shown(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_carried_out_the_plan_says_so() {
    let file = plan_fleet().replace("version: 1\n", "version: 1\nmode: observe\n");
    let sandbox = Sandbox::new(&file).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let shown = plan(&sandbox, &[], false).await;
    let heading =
        format!("runner/g{group}-plan  platform/payments  (observe: nothing is carried out)\n");
    assert!(shown.out.contains(&heading), "{}", shown.out);
    let arguments =
        Plan { targets: vec![], json: false, detailed_exitcode: false, place: Default::default() };
    let colour = Colour { out: true, talk: true };
    let painted =
        answer(&arguments, &sandbox.desk(), colour, async |pause| turn(&sandbox, pause)).await;
    assert_eq!(painted.code, 0, "without the flag, changes are no other end");
    assert!(painted.out.contains("\x1b[32m+\x1b[0m Azure"), "{}", painted.out);
    let plain = painted
        .out
        .replace("\x1b[0m", "")
        .split("\x1b[")
        .map(|part| {
            let code =
                part.find('m').filter(|end| part[..*end].bytes().all(|byte| byte.is_ascii_digit()));
            part[code.map_or(0, |end| end + 1)..].to_owned()
        })
        .collect::<String>();
    assert_eq!(plain, shown.out, "colour adds nothing but colour");
}

/// Every service's calls of a round that write, without the unit's status.
fn by_service(writes: &[String]) -> BTreeMap<&'static str, u64> {
    let mut calls = BTreeMap::new();
    for write in writes.iter().filter(|write| !write.contains("/configmaps/status-")) {
        let service = match write.split(' ').nth(1).unwrap() {
            "Gitlab" => "GitLab",
            "Arm" => "Azure",
            "Kubernetes" => "Kubernetes",
            other => panic!("{other}: {write}"),
        };
        *calls.entry(service).or_default() += 1;
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_shows_exactly_what_was_damaged_and_what_the_next_round_spends() {
    let (sandbox, key) = settled().await;
    for Damage { name, harm, lines, counts: expected } in damages() {
        harm(&sandbox, &key);
        sandbox.world.wire.forget_calls();
        let shown = plan(&sandbox, &[], false).await;
        let document: Value = serde_json::from_str(&plan(&sandbox, &[], true).await.out).unwrap();
        assert_eq!(sandbox.written(), Vec::<String>::new(), "{name}");
        assert_eq!((shown.code, shown.talk.as_str()), (2, ""), "{name}: {}", shown.out);
        for line in lines {
            let line = line.replace("KEY", &key);
            assert!(shown.out.contains(&line), "{name}: no `{line}` in\n{}", shown.out);
        }
        assert_eq!(counts(&document), expected, "{name}: {}", shown.out);
        for text in [&shown.out, &document.to_string()] {
            assert!(!text.contains("glrt-") && !text.contains("hunter2"), "{name}: {text}");
        }
        // The round does what the plan said it would, and spends what it said.
        let calls: BTreeMap<&str, u64> = document["calls"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(service, count)| (service.as_str(), count.as_u64().unwrap()))
            .collect();
        sandbox.wake(&format!("runner/{key}"));
        sandbox.settle().await;
        assert_eq!(by_service(&sandbox.written()), calls, "{name}");
        let healed = plan(&sandbox, &[], false).await;
        let all = "0 to create, 0 to change, 0 to delete, 1 as they should be";
        assert!(healed.code == 0 && healed.out.contains(all), "{name}: {}", healed.out);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_hook_announced_is_shown_by_path_by_id_and_in_the_whole() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    sandbox.lose_hooks();
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.world.gitlab.create_group(Some(42), "other");
    sandbox.settle().await;
    sandbox.world.wire.forget_calls();
    let (id, unit) = (format!("g{group}"), format!("runner/g{group}-plan"));
    let one = plan(&sandbox, &["platform/payments"], false).await;
    for targets in [&[id.as_str()][..], &[&unit], &[&format!("{id}-plan")]] {
        assert_eq!(plan(&sandbox, targets, false).await, one, "{targets:?}");
    }
    assert_eq!(one.code, 2);
    for part in [
        &format!("{unit}  platform/payments\n"),
        "  + Azure      create identity id-nonprod--g",
        "  + GitLab     create runner `plan [forerunner:nonprod:",
        "  + Kubernetes apply Namespace ci-nonprod--g",
        "      principal: (known once the identity is made)",
        "      data[config.toml]: (sensitive)",
        "  . Kubernetes book the creation of runner/g",
    ] {
        assert!(one.out.contains(part), "no `{part}` in\n{}", one.out);
    }
    for targets in [&[][..], &["platform/*"]] {
        let all = plan(&sandbox, targets, false).await;
        assert!(all.out.contains("platform/other") && all.out.contains(&unit), "{}", all.out);
    }
    assert_eq!(sandbox.written(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_cannot_be_read_is_told_and_the_rest_is_shown() {
    let (sandbox, key) = settled().await;
    sandbox.lose_hooks();
    let other = sandbox.world.gitlab.create_group(Some(42), "unreadable");
    sandbox.settle().await;
    sandbox.world.wire.add_fault(Fault {
        service: Service::Gitlab,
        method: Some("GET"),
        path: format!("/groups/{other}/runners"),
        times: 1000,
        what: What::Answer {
            status: 403,
            headers: vec![],
            body: "{\"message\":\"403 Forbidden\"}".into(),
        },
    });
    let shown = plan(&sandbox, &[], false).await;
    assert_eq!(shown.code, 1, "{}", shown.out);
    let parts = [
        format!("runner/g{other}-plan\n  error: it could not be read: "),
        "1 could not be read, 1 as they should be".to_owned(),
    ];
    for part in parts {
        assert!(shown.out.contains(&part), "no `{part}` in\n{}", shown.out);
    }
    // Without GitLab's groups, what has a manager is still shown.
    sandbox.world.wire.add_fault(Fault {
        service: Service::Gitlab,
        method: Some("GET"),
        path: "/api/v4/groups?".into(),
        times: 1000,
        what: What::Answer {
            status: 403,
            headers: vec![],
            body: "{\"message\":\"403 Forbidden\"}".into(),
        },
    });
    let shown = plan(&sandbox, &[], false).await;
    assert_eq!(shown.code, 1);
    assert!(shown.talk.starts_with("error: the targets in GitLab: "), "{}", shown.talk);
    assert!(shown.out.contains("1 as they should be"), "{key}: {}", shown.out);
    let nobody = plan(&sandbox, &["platform/nobody"], false).await;
    assert!(nobody.code == 1 && nobody.talk.contains("no group and no project"), "{}", nobody.talk);
    let misused = plan(&sandbox, &["what is this"], false).await;
    assert!(misused.code == 1 && misused.talk.contains("platform/payments"), "{}", misused.talk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlaps_are_found_where_the_groups_really_are() {
    // As the file alone has it, neither pattern lies below the other.
    let profiles = format!(
        "{}  deep: {{ runner: {{ tags: [azure-plan] }}, identity: none }}\n",
        plan_profile()
    );
    let file = fleet(&format!(
        "rules:\n  - {{ match: {{ groups: 'platform/*' }}, profiles: [plan] }}\n  - {{ match: {{ groups: 'platform/payments/web' }}, profiles: [deep] }}\nprofiles:\n{profiles}"
    ));
    let sandbox = Sandbox::new(&file).await;
    sandbox.lose_hooks();
    let payments = sandbox.world.gitlab.create_group(Some(42), "payments");
    let shown = plan(&sandbox, &[], false).await;
    assert!(!shown.out.contains("can go to"), "{}", shown.out);
    let web = sandbox.world.gitlab.create_group(Some(payments), "web");
    let expected = format!(
        "error: a job with the tag `azure-plan` below `platform/payments/web` can go to runner/g{web}-deep or to runner/g{payments}-plan of `platform/payments`"
    );
    for targets in [&[][..], &["platform/payments"], &["platform/payments/web"], &["platform/**"]] {
        let shown = plan(&sandbox, targets, false).await;
        assert_eq!(shown.out.matches(&expected).count(), 1, "{targets:?}: {}", shown.out);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_parked_units_and_administrators_steps_are_said() {
    let id = "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-admin/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-tf";
    let sandbox = Sandbox::new(&fleet(&format!(
        "rules:\n  - {{ match: {{ groups: 'platform/*' }}, profiles: [tf] }}\nprofiles:\n  tf: {{ runner: {{ tags: [tf] }}, identity: {{ existing: ['{id}'], expect: [{{ role: Reader, scope: {} }}] }} }}",
        crate::deeds::APP
    )))
    .await;
    sandbox.world.azure.add_existing_identity(id, BTreeMap::new());
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let shown = plan(&sandbox, &[], false).await;
    for part in [
        "administrator: RightMissing",
        "    az role assignment create --assignee-object-id ",
        "1 needs an administrator",
    ] {
        assert!(shown.out.contains(part), "no `{part}` in\n{}", shown.out);
    }
    let units = json!([format!("runner/g{group}-tf")]);
    let document: Value = serde_json::from_str(&plan(&sandbox, &[], true).await.out).unwrap();
    let named: Vec<&Value> =
        document["units"].as_array().unwrap().iter().map(|unit| &unit["unit"]).collect();
    assert_eq!(named.len(), 2, "the identity is a unit of its own: {named:?}");
    assert!(named.contains(&&units[0]), "{named:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_program_plans_from_a_file_of_settings_without_a_queue() {
    let sandbox = Sandbox::settled_child(FLEET).await;
    let file = sandbox.env_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let without = text.lines().filter(|line| !line.starts_with(BUS)).collect::<Vec<_>>();
    std::fs::write(&file, without.join("\n")).unwrap();
    let file = file.to_str().unwrap();
    let healthy = run(&["plan", "--env-file", file, "--detailed-exitcode"]).await;
    assert_eq!(healthy.code, 0, "{}\n{}", healthy.out, healthy.talk);
    assert!(
        healthy.out.ends_with(
            "fleet nonprod: 0 to create, 0 to change, 0 to delete, 1 as they should be\n"
        ),
        "{}",
        healthy.out
    );
    assert_eq!(healthy.talk, "", "a pipe sees no progress");
    let other = sandbox.folder.join("other.yaml");
    let changed = FLEET.replace("tags: [azure-plan]", "tags: [azure-read]");
    std::fs::write(&other, changed).unwrap();
    let arguments =
        ["plan", "--env-file", file, "--fleet", other.to_str().unwrap(), "--detailed-exitcode"];
    let changed = run(&arguments).await;
    assert_eq!(changed.code, 2, "{}\n{}", changed.out, changed.talk);
    assert!(changed.out.contains("tags: [\"azure-plan\"] → [\"azure-read\"]"), "{}", changed.out);
    let seen = run_at_terminal(&["status", "--env-file", file]).await;
    assert!(!seen.contains("units"), "one list is no progress: {seen:?}");
    sandbox.lose_hooks();
    sandbox.world.gitlab.create_group(Some(42), "other");
    let seen = run_at_terminal(&["plan", "--env-file", file]).await;
    assert!(seen.contains("read 1 of 2 units") && seen.ends_with("\r\u{1b}[K"), "{seen:?}");
    let missing =
        run(&["plan", "--env-file", "/nowhere/settings.env", "--detailed-exitcode"]).await;
    assert_eq!((missing.code, missing.out.as_str()), (1, ""), "2 would mean changes");
    let missing = run(&["plan", "--env-file", "/nowhere/settings.env"]).await;
    assert_eq!((missing.code, missing.out.as_str()), (2, ""));
    assert_eq!(missing.talk, "error: there is no file /nowhere/settings.env\n");
    for flag in ["--detailed-exitcode", "-detailed-exitcode", "--detailed-exitcode=yes"] {
        let misspelt = run(&["plan", "--env-fil", file, flag]).await;
        assert_eq!((misspelt.code, misspelt.out.as_str()), (1, ""), "{flag}: 2 would mean changes");
        assert!(misspelt.talk.contains("error: unexpected argument '-"), "{}", misspelt.talk);
    }
    assert_eq!(run(&["plan", "--env-fil", file]).await.code, 2);
    assert_eq!(run(&["plan", "--detailed-exitcode", "--help"]).await.code, 0);
    assert_eq!(run(&["--version"]).await.code, 0);
    let help = run(&["plan", "--help"]).await;
    assert!(
        help.code == 0 && help.out.contains("forerunner plan platform/payments"),
        "{}",
        help.out
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_fleet_is_read_within_what_the_services_allow() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    sandbox.lose_hooks();
    for number in 0..300 {
        sandbox.world.gitlab.create_group(Some(42), &format!("team-{number}"));
    }
    sandbox.world.wire.forget_calls();
    let shown = plan(&sandbox, &[], false).await;
    assert_eq!(shown.code, 2, "{}", shown.talk);
    assert!(!shown.out.contains("could not be read"), "{}", shown.out);
    assert_eq!(shown.out.matches("create runner `plan ").count(), 300);
    // The targets are read in bulk: one by one GitLab lets 400 pass in a minute.
    let calls = sandbox.own_calls();
    let one_by_one = calls.iter().filter(|call| call.contains("?with_projects=false"));
    assert_eq!(one_by_one.count(), 0);
    // A service that asks for a pause gets it, and nothing is left out.
    let limited = |times| Fault {
        service: Service::Gitlab,
        method: Some("GET"),
        path: "/runners?".into(),
        times,
        what: What::Answer {
            status: 429,
            headers: vec![("retry-after", "60".to_owned())],
            body: "{\"message\":\"429 Too Many Requests\"}".into(),
        },
    };
    sandbox.world.wire.add_fault(limited(2));
    let before = sandbox.world.clock.now();
    let again = plan(&sandbox, &[], false).await;
    assert_eq!(again.out, shown.out);
    let waited = sandbox.world.clock.now().duration_since(before).as_secs();
    assert!((60..=240).contains(&waited), "{waited} s");
    // For ever is told in the end, and what was not tried too.
    sandbox.world.wire.add_fault(limited(usize::MAX));
    let refused = plan(&sandbox, &["platform/*"], false).await;
    assert_eq!(refused.code, 1);
    assert!(refused.out.contains("300 could not be read"), "{}", refused.out);
}
