//! Rows of `fleet.yaml`: what changes there is drift like any other.

use super::Settled;
use crate::{
    azure_obstacles::IDENTITIES,
    deeds::{APP, PLAIN, fleet, plan_profile},
    harness::Sandbox,
};
use forerunner::sandbox::gitlab::{JobStatus, NewJob};
use jiff::SignedDuration;
use serde_json::json;

/// The settled world under another file.
async fn under(settled: &Settled, rest: &str) {
    settled.sandbox.deploy(&fleet(rest)).await;
    settled.sandbox.sweep().await;
}

pub(super) const RULE: &str = "rules:\n  - { match: { groups: 'platform/*' }, profiles: [plan] }\n";

/// The file whose one profile says this, too.
fn profile(rest: &str) -> String {
    fleet(&format!("{RULE}profiles:\n  plan: {{ runner: {{ tags: [azure-plan] }}, {rest} }}\n"))
}

fn managed() -> String {
    format!("identity: {{ managed: {{ roles: [{{ role: Reader, scope: {APP} }}] }} }}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_profile_makes_nothing_anew() {
    let settled = Settled::new().await;
    let (entity, whole) = (settled.sandbox.runner(&settled.key).id, settled.whole());
    let renamed = plan_profile().replace("  plan: { ", "  read: { was: plan, ");
    under(&settled, &format!("{}profiles:\n{renamed}", RULE.replace("[plan]", "[read]"))).await;
    assert_eq!(settled.sandbox.runner(&settled.key).id, entity);
    assert_eq!(settled.whole(), whole);
    settled.sandbox.assert_ready(&settled.unit);
}

/// Another profile in its place: nothing in the file speaks of the first any more.
fn without_the_profile() -> String {
    format!("{}profiles:\n{PLAIN}", RULE.replace("[plan]", "[plain]").replace("/*", "/elsewhere"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_profile_gave_goes_whole_when_the_profile_is_gone() {
    let settled = Settled::new().await;
    let sandbox = &settled.sandbox;
    sandbox.leap_to("2026-11-26T08:00:00Z");
    under(&settled, &without_the_profile()).await;
    assert_eq!(sandbox.ready(&settled.unit).0, "Leaving", "{}", sandbox.status(&settled.unit));
    let mine = sandbox.runner(&settled.key);
    assert!(mine.paused && sandbox.replicas(&settled.key) == json!(0), "{mine:?}");
    sandbox.leap_to("2026-12-08T08:00:00Z");
    sandbox.sweep().await;
    assert_eq!(sandbox.keys().len(), 0, "{}", sandbox.status(&settled.unit));
    assert_eq!(sandbox.world.azure.identities().len(), 0);
    let kubernetes = &sandbox.world.kubernetes;
    assert!(kubernetes.get("namespaces", "", &settled.jobs()).is_none());
    assert!(sandbox.replicas(&settled.key).is_null() && sandbox.status(&settled.unit).is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_file_no_longer_gives_is_said_held_or_kept_as_each_row_says() {
    for (row, reason, replicas) in [
        ("rule gone", "NotWanted", 1),
        ("profile gone", "NotWanted", 1),
        ("withdrawn", "Withdrawn", 0),
        ("outside", "OutsideGuardrails", 0),
        ("exception ended", "ExceptionEnded", 0),
    ] {
        let settled = Settled::new().await;
        let sandbox = &settled.sandbox;
        let group = settled.key.trim_start_matches('g').split('-').next().unwrap().to_owned();
        let profiles = format!("profiles:\n{}", plan_profile());
        match row {
            "rule gone" => {
                under(
                    &settled,
                    &format!("{}{profiles}", RULE.replace("platform/*", "platform/elsewhere")),
                )
                .await;
            }
            "profile gone" => under(&settled, &without_the_profile()).await,
            "withdrawn" => {
                let withdrawn = format!("withdrawn: [{{ group: {group}, reason: SEC-1182 }}]\n");
                under(&settled, &format!("{RULE}{withdrawn}{profiles}")).await;
            }
            "outside" => {
                let lower =
                    fleet(&format!("{RULE}{profiles}")).replace("roles: [Reader, ", "roles: [");
                sandbox.deploy(&lower).await;
                sandbox.sweep().await;
            }
            _ => {
                let writer = format!(
                    "  plan: {{ runner: {{ tags: [azure-plan], protected: false }}, exceptions: [{{ allow: unprotectedWriter, exception: CHG1, until: 2026-11-25 }}], identity: {{ managed: {{ roles: [{{ role: Contributor, scope: {APP} }}] }} }} }}\n"
                );
                under(&settled, &format!("{RULE}profiles:\n{writer}")).await;
                sandbox.assert_ready(&settled.unit);
                sandbox.leap_to("2026-11-27T08:00:00Z");
                sandbox.sweep().await;
            }
        }
        assert_eq!(
            sandbox.ready(&settled.unit).0,
            reason,
            "{row}: {}",
            sandbox.status(&settled.unit)
        );
        assert_eq!(sandbox.replicas(&settled.key), json!(replicas), "{row}");
        assert_eq!(sandbox.runner(&settled.key).paused, replicas == 0, "{row}");
        assert_eq!(sandbox.world.azure.identities().len(), 1, "{row}: nothing is taken away yet");
        // It is given again, and undone.
        if row != "exception ended" {
            under(&settled, &format!("{RULE}{profiles}")).await;
            sandbox.pass_minutes(15).await;
            sandbox.assert_ready(&settled.unit);
            assert_eq!(sandbox.replicas(&settled.key), json!(1), "{row}");
        }
    }
}

/// A profile that has no identity any more, or shares one: the old one can do nothing then, and a person deletes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_the_file_has_no_use_for_can_do_nothing_any_more() {
    let managed = managed();
    let shared = format!("isolation: profile, {managed}");
    for (from, to) in [
        (managed.as_str(), "identity: none"),
        (&managed, &shared),
        (&shared, "isolation: profile, identity: none"),
    ] {
        let sandbox = Sandbox::new(&profile(from)).await;
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        sandbox.settle().await;
        let old = sandbox.world.azure.identities().remove(0);
        let unit = match from.starts_with("isolation") {
            true => "domain/plan".to_owned(),
            false => format!("runner/g{group}-plan"),
        };
        let azure = &sandbox.world.azure;
        let can = || {
            let all = azure.assignments().into_iter();
            let rights = all.filter(|one| one.principal_id == old.principal_id).count();
            (rights, azure.credentials(&old.id).len())
        };
        assert_eq!(can(), (1, 1), "{from}");
        sandbox.deploy(&profile(to)).await;
        sandbox.sweep().await;
        sandbox.pass_minutes(15).await;
        assert_eq!(can(), (0, 0), "{from} → {to}: {}", sandbox.story());
        sandbox.assert_ready(&format!("runner/g{group}-plan"));
        let told = sandbox.condition(&unit, "NeedsAdministrator");
        let command = format!("az identity delete --ids \"{}\"", old.id).to_lowercase();
        assert_eq!(told["reason"], "IdentityLeft", "{from} → {to}: {told}");
        assert!(told["message"].as_str().unwrap().to_lowercase().contains(&command), "{told}");
        let writes = sandbox.own_writes().len();
        sandbox.sweep().await;
        assert_eq!(sandbox.own_writes().split_off(writes), Vec::<String>::new(), "{from}");
        assert!(azure.remove_identity(&old.id));
        if to == shared {
            // So is the namespace of its own.
            let own = format!("ci-nonprod--g{group}-plan");
            let command = format!("kubectl delete namespace {own}");
            assert!(told["message"].as_str().unwrap().contains(&command), "{told}");
            assert!(sandbox.world.kubernetes.delete_as_admin("namespaces", "", &own));
        }
        sandbox.sweep().await;
        assert!(sandbox.condition(&unit, "NeedsAdministrator").is_null(), "{from} → {to}");
    }
}

/// Azure refused one of its rights, so that no round ever saw it whole; or its manager, which remembers that one did, went with the
/// change of the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_nothing_in_the_cluster_tells_of_can_do_nothing_any_more_either() {
    let below = format!("{APP}/providers/Microsoft.Storage/storageAccounts/one");
    let reader = |scope: &str| format!("{{ role: Reader, scope: {scope} }}");
    let roles = format!("{}, {}", reader(APP), reader(&below));
    for (row, file) in [
        ("never whole", profile(&format!("identity: {{ managed: {{ roles: [{roles}] }} }}"))),
        ("manager gone", profile(&managed())),
    ] {
        let sandbox = Sandbox::new(&file).await;
        let (azure, kubernetes) = (&sandbox.world.azure, &sandbox.world.kubernetes);
        azure.add_resource(&below);
        azure.deny_by_assignment(&below, "of-the-blueprint");
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        let (key, unit) = (format!("g{group}-plan"), format!("runner/g{group}-plan"));
        sandbox.settle().await;
        assert_eq!(sandbox.is_ready(&unit), row == "manager gone", "{}", sandbox.status(&unit));
        let old = azure.identities().remove(0);
        let can = || {
            let all = azure.assignments().into_iter();
            let rights = all.filter(|one| one.principal_id == old.principal_id).count();
            (rights, azure.credentials(&old.id).len())
        };
        assert_eq!(can(), (1, 1), "{row}: {}", sandbox.story());
        if row == "manager gone" {
            let manager = format!("runner-{key}");
            assert!(kubernetes.delete_as_admin("deployments", "forerunner-nonprod", &manager));
        }
        sandbox.deploy(&profile("identity: none")).await;
        sandbox.sweep().await;
        sandbox.pass_minutes(15).await;
        assert_eq!(can(), (0, 0), "{row}: {}", sandbox.story());
        sandbox.assert_ready(&unit);
        let told = sandbox.condition(&unit, "NeedsAdministrator");
        assert_eq!(told["reason"], "IdentityLeft", "{row}: {told}");
    }
}

/// Every runner has a namespace and an identity of its own by then, and a job that began before is left its.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_that_a_profile_shares_no_more_goes_once_the_last_runner_has_moved_out() {
    let managed = managed();
    let sandbox = Sandbox::new(&profile(&format!("isolation: profile, {managed}"))).await;
    let (gitlab, azure) = (&sandbox.world.gitlab, &sandbox.world.azure);
    let [busy, idle] = ["busy", "idle"].map(|name| gitlab.create_group(Some(42), name));
    sandbox.settle().await;
    sandbox.leap_to("2026-11-26T08:00:00Z");
    let old = azure.identities().remove(0);
    let can = || {
        let all = azure.assignments().into_iter();
        let rights = all.filter(|one| one.principal_id == old.principal_id).count();
        (rights, azure.credentials(&old.id).len())
    };
    let start = |project| {
        let job = NewJob {
            tags: vec!["azure-plan".into()],
            script: vec!["sleep 1800".into()],
            ..NewJob::default()
        };
        gitlab.create_job(project, job)
    };
    let project = gitlab.create_project(busy, "ledger");
    let job = start(project);
    sandbox.pass(SignedDuration::from_secs(10)).await;
    assert_eq!(gitlab.job(job).unwrap().status, JobStatus::Running);

    sandbox.deploy(&profile(&managed)).await;
    sandbox.pass_minutes(20).await;
    assert_eq!(azure.identities().len(), 3, "{}", sandbox.story());
    assert_eq!(can(), (1, 1), "a job still signs in: {}", sandbox.status("domain/plan"));
    assert_eq!(gitlab.job(job).unwrap().status, JobStatus::Running);
    let [busy, idle] = [busy, idle].map(|group| format!("g{group}-plan"));
    let bound = |key: &str| {
        let shared = "ci-nonprod--domain-plan";
        sandbox.world.kubernetes.get("rolebindings", shared, &format!("runner-{key}")).is_some()
    };
    assert!(bound(&busy) && !bound(&idle), "{}", sandbox.story());

    sandbox.pass_minutes(30).await;
    assert_eq!(gitlab.job(job).unwrap().status, JobStatus::Success);
    assert!(!bound(&busy), "{}", sandbox.status(&format!("runner/{busy}")));
    assert_eq!(sandbox.ready("domain/plan").0, "Leaving", "{}", sandbox.status("domain/plan"));
    assert_eq!(can(), (0, 1), "{}", sandbox.story());
    for key in [&busy, &idle] {
        sandbox.assert_ready(&format!("runner/{key}"));
    }
    let writes = sandbox.own_writes().len();
    sandbox.sweep().await;
    assert_eq!(sandbox.own_writes().split_off(writes), Vec::<String>::new());
    // What is taken now is taken where the runner lives.
    let job = start(project);
    sandbox.pass(SignedDuration::from_secs(10)).await;
    assert_eq!(gitlab.job(job).unwrap().status, JobStatus::Running);
    sandbox.pass_minutes(40).await;

    sandbox.leap_to("2026-12-08T08:00:00Z");
    sandbox.sweep().await;
    assert_eq!(azure.identities().len(), 2, "{}", sandbox.status("domain/plan"));
    let kubernetes = &sandbox.world.kubernetes;
    assert!(kubernetes.get("namespaces", "", "ci-nonprod--domain-plan").is_none());
    assert!(sandbox.status("domain/plan").is_null());
    for key in [&busy, &idle] {
        sandbox.assert_ready(&format!("runner/{key}"));
    }
}

/// Whichever way a profile's runners move, a policy keeps them from the identity of the new place: their jobs run on in the old one, and
/// begin in the new one when they can sign in there, and no sooner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_goes_on_where_its_jobs_ran_until_they_can_run_where_the_file_says() {
    let own = profile(&managed());
    let shared = profile(&format!("isolation: profile, {}", managed()));
    for (from, to) in [(&own, &shared), (&shared, &own)] {
        let sandbox = Sandbox::new(from).await;
        let (gitlab, azure) = (&sandbox.world.gitlab, &sandbox.world.azure);
        let group = gitlab.create_group(Some(42), "payments");
        let (key, unit) = (format!("g{group}-plan"), format!("runner/g{group}-plan"));
        let project = gitlab.create_project(group, "ledger");
        sandbox.settle().await;
        sandbox.assert_ready(&unit);
        let run = async || sandbox.assert_a_job_runs(project, "azure-plan").await;
        run().await;
        azure.deny_by_policy(IDENTITIES, "require-cost-center");
        sandbox.world.wire.forget_calls();
        sandbox.deploy(to).await;
        for _ in 0..3 {
            sandbox.pass_minutes(10).await;
            run().await;
        }
        let config = format!("/secrets/runner-{key}-config");
        assert_eq!(sandbox.first_call("PUT", &config), None, "{}", sandbox.story());
        assert!(!sandbox.runner(&key).paused, "{}", sandbox.status(&unit));
        let status = sandbox.status(&unit).to_string();
        assert!(!status.contains("az identity delete"), "its jobs still sign in as it: {status}");
        azure.clear_obstacles();
        for _ in 0..3 {
            sandbox.pass_minutes(10).await;
            run().await;
        }
        sandbox.assert_ready(&unit);
        let given = sandbox.first_call("PUT", "/roleAssignments/").unwrap();
        let told = sandbox.first_call("PUT", &config).unwrap();
        let spread = told.duration_since(given);
        assert!(spread >= SignedDuration::from_mins(2), "{spread}: {}", sandbox.story());
    }
}

/// The file shares it again before its time: nothing of it has to be made anew but what was taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_that_is_shared_again_before_its_time_serves_on_and_each_namespace_is_told() {
    let managed = managed();
    let shared = profile(&format!("isolation: profile, {managed}"));
    let sandbox = Sandbox::new(&shared).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    let (unit, own) = (format!("runner/g{group}-plan"), format!("ci-nonprod--g{group}-plan"));
    sandbox.settle().await;
    sandbox.leap_to("2026-11-26T08:00:00Z");
    for (file, domain) in [(profile(&managed), "Leaving"), (shared.clone(), "Settled")] {
        sandbox.deploy(&file).await;
        sandbox.sweep().await;
        sandbox.pass_minutes(30).await;
        sandbox.assert_ready(&unit);
        assert_eq!(sandbox.ready("domain/plan").0, domain, "{}", sandbox.status("domain/plan"));
    }
    let (azure, kubernetes) = (&sandbox.world.azure, &sandbox.world.kubernetes);
    let binding = format!("runner-g{group}-plan");
    let live = kubernetes.get("rolebindings", "ci-nonprod--domain-plan", &binding).unwrap();
    assert!(live["metadata"]["annotations"]["forerunner.dev/leaving-since"].is_null(), "{live}");
    // Its manager has no business there any more; the namespace is a person's to delete.
    assert!(kubernetes.get("rolebindings", &own, &binding).is_none(), "{}", sandbox.story());
    let told = sandbox.condition(&unit, "NeedsAdministrator");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains(&format!("kubectl delete namespace {own}")), "{told}");
    kubernetes.delete_as_admin("namespaces", "", &own);
    let left = azure.identities().into_iter().find(|one| one.name.contains("--g")).unwrap();
    assert!(azure.remove_identity(&left.id));
    sandbox.pass_minutes(15).await;
    assert!(sandbox.condition(&unit, "NeedsAdministrator").is_null(), "{}", sandbox.status(&unit));
}
