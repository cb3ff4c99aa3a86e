//! Identities that an administrator made: what is lent, expected and depended on.

use super::{Settled, plan_for, rights::CONDITION};
use crate::deeds::{APP, READER};
use forerunner::sandbox::{
    azure::{Assignment, Identity},
    gitlab::{JobStatus, NewJob},
    wire::{Fault, Service, What},
};
use jiff::SignedDuration;
use serde_json::{Value, json};

const ID: &str = "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-admin/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-tf";
/// No guardrail reaches it.
const BEYOND: &str = "/subscriptions/00000000-0000-4000-8000-000000003333/resourceGroups/data";

/// A profile that expects its administrator's identity to read this scope.
pub(super) fn expecting(scope: &str) -> String {
    format!(
        "  plan: {{ runner: {{ tags: [tf] }}, identity: {{ existing: ['{ID}'], expect: [{{ role: Reader, scope: {scope} }}] }} }}\n"
    )
}

fn shared(profile: &str) -> String {
    profile.replace("  plan: { ", "  plan: { isolation: profile, ")
}

impl Settled {
    fn lender(&self) -> Identity {
        let all = self.sandbox.world.azure.identities();
        all.into_iter().find(|one| one.id.ends_with("/id-tf")).unwrap()
    }

    /// Somebody deletes the identity and makes one of the same name.
    fn renew_lender(&self) -> Identity {
        let (old, azure) = (self.lender(), &self.sandbox.world.azure);
        assert!(azure.remove_identity(&old.id));
        let new = azure.add_existing_identity(&old.id, old.tags);
        assert_ne!((new.principal_id, new.client_id), (old.principal_id, old.client_id));
        new
    }

    /// Whom jobs in this namespace sign in as.
    fn client(&self, namespace: &str) -> Value {
        let account = self.sandbox.world.kubernetes.get("serviceaccounts", namespace, "job");
        account.unwrap()["metadata"]["annotations"]["azure.workload.identity/client-id"].clone()
    }

    pub(super) fn promised(&self) -> Assignment {
        let (principal, all) = (self.lender().principal_id, self.sandbox.world.azure.assignments());
        all.into_iter().find(|one| one.principal_id == principal).unwrap()
    }

    /// A sweep that wakes nobody and writes nothing.
    pub(super) async fn assert_rests(&self, why: &str) {
        self.sandbox.world.wire.forget_calls();
        self.sandbox.sweep().await;
        let calls = self.sandbox.own_calls();
        let woke = calls.iter().any(|call| call.starts_with("ServiceBus"));
        assert!(!woke, "{why}: {calls:#?}");
        assert_eq!(self.sandbox.own_writes(), Vec::<String>::new(), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_tells_of_an_expected_right_that_is_taken_or_narrowed_until_it_is_back() {
    for (profile, unit) in [
        (expecting(APP), None),
        (expecting(BEYOND), None),
        (shared(&expecting(APP)), Some("domain/plan")),
        (shared(&expecting(BEYOND)), Some("domain/plan")),
    ] {
        let settled = Settled::with(&profile).await;
        let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
        let unit = unit.unwrap_or(&settled.unit);
        sandbox.assert_ready(unit);
        settled.assert_rests("as expected").await;
        let given = settled.promised();
        for narrowed in [false, true] {
            let was = match narrowed {
                true => azure.narrow_assignment(given.name, Some(CONDITION)),
                false => azure.remove_assignment(given.name),
            };
            assert!(was);
            sandbox.sweep().await;
            let told = sandbox.condition(unit, "NeedsAdministrator");
            assert_eq!(told["reason"], "RightMissing", "{profile}: {}", sandbox.status(unit));
            let command = format!("--scope \"{}\"", given.scope);
            assert!(told["message"].as_str().unwrap().contains(&command), "{told}");
            let writes = sandbox.own_writes().len();
            sandbox.sweep().await;
            assert_eq!(sandbox.own_writes().split_off(writes), Vec::<String>::new(), "told once");
            azure.put_assignment(given.clone());
            sandbox.sweep().await;
            assert!(sandbox.condition(unit, "NeedsAdministrator").is_null(), "{profile}");
            sandbox.assert_ready(unit);
            settled.assert_rests("mended").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_no_list_shows_this_time_are_not_taken_for_gone() {
    for scope in [APP, BEYOND] {
        let settled = Settled::with(&expecting(scope)).await;
        let sandbox = &settled.sandbox;
        let answer = || What::Answer { status: 500, headers: vec![], body: "{}".into() };
        sandbox.world.wire.add_fault(Fault {
            service: Service::Arm,
            method: Some("GET"),
            path: "/roleAssignments".into(),
            times: 1000,
            what: answer(),
        });
        sandbox.world.wire.forget_calls();
        sandbox.sweep().await;
        let woke = sandbox.own_calls().iter().any(|call| call.starts_with("ServiceBus"));
        assert!(!woke, "{scope}: {:#?}", sandbox.own_calls());
        sandbox.assert_ready(&settled.unit);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_beyond_the_guardrails_are_looked_for_in_turn_within_the_calls_of_a_sweep() {
    let second = format!("{BEYOND}-too");
    let expect = format!("scope: {BEYOND} }}, {{ role: Reader, scope: {second} }}]");
    let profile = expecting(BEYOND).replace(&format!("scope: {BEYOND} }}]"), &expect);
    let file = super::plan_for("platform/*", &profile) + "sweep: { calls: { azure: 1 } }\n";
    let settled = Settled::of(&file, &[]).await;
    let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
    let principal = settled.lender().principal_id;
    let given: Vec<Assignment> =
        azure.assignments().into_iter().filter(|one| one.principal_id == principal).collect();
    assert_eq!(given.len(), 2, "{given:?}");
    // Whose turn the next sweep's is shows in what it tells.
    for right in &given {
        assert!(azure.remove_assignment(right.name));
        let (mut sweeps, told) = (0, || sandbox.condition(&settled.unit, "NeedsAdministrator"));
        while told().is_null() && sweeps < 2 {
            sandbox.sweep().await;
            sweeps += 1;
        }
        assert_eq!(told()["reason"], "RightMissing", "{}: {sweeps}", right.scope);
        azure.put_assignment(right.clone());
        sandbox.sweep().await;
        assert!(told().is_null(), "{}", told());
    }
    sandbox.world.wire.forget_calls();
    sandbox.sweep().await;
    let calls = sandbox.own_calls();
    let asked =
        calls.iter().filter(|call| call.contains("/data") && call.contains("/roleAssignments"));
    assert_eq!(asked.count(), 1, "{calls:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_identity_of_the_list_takes_the_place_of_one_that_is_gone() {
    let second = format!("{ID}-too");
    let profile = expecting(APP).replace(&format!("['{ID}']"), &format!("['{ID}', '{second}']"));
    let settled = Settled::with(&profile).await;
    let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
    assert!(azure.remove_identity(ID));
    sandbox.sweep().await;
    sandbox.assert_ready(&settled.unit);
    let left = azure.identities().remove(0);
    assert!(left.id.ends_with("/id-tf-too"), "{left:?}");
    assert_eq!(settled.client(&settled.jobs()), json!(left.client_id));
    assert_eq!(azure.credentials(&left.id).len(), 1);
    settled.assert_rests("on the second").await;
    let of_second = |one: &Assignment| one.principal_id == left.principal_id;
    let right = azure.assignments().into_iter().find(of_second).unwrap();
    assert!(azure.remove_assignment(right.name));
    sandbox.sweep().await;
    let told = sandbox.condition(&settled.unit, "NeedsAdministrator");
    assert_eq!(told["reason"], "RightMissing", "{}", sandbox.status(&settled.unit));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrators_identity_made_anew_is_taken_up_and_its_missing_rights_are_told() {
    // By a sweep, and by a round of the identity alone.
    for (profile, domain, by_sweep) in [
        (expecting(APP), None, true),
        (expecting(APP), None, false),
        (shared(&expecting(BEYOND)), Some("domain/plan"), true),
        (shared(&expecting(BEYOND)), Some("domain/plan"), false),
    ] {
        let settled = Settled::with(&profile).await;
        let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
        let unit = domain.unwrap_or(&settled.unit);
        let jobs = domain.map_or(settled.jobs(), |_| "ci-nonprod--domain-plan".to_owned());
        let role = settled.promised();
        let new = settled.renew_lender();
        if !by_sweep {
            sandbox.wake(&sandbox.identity_unit("id-tf"));
            sandbox.settle().await;
        }
        sandbox.sweep().await;
        assert_eq!(azure.credentials(&new.id).len(), 1, "{profile}");
        assert_eq!(settled.client(&jobs), json!(new.client_id), "{}", sandbox.status(unit));
        let told = sandbox.condition(unit, "NeedsAdministrator");
        assert_eq!(told["reason"], "RightMissing", "{}", sandbox.status(unit));
        let command = format!("--assignee-object-id {}", new.principal_id);
        assert!(told["message"].as_str().unwrap().contains(&command), "{told}");
        azure.assign_role(&role.scope, role.role, new.principal_id, None);
        sandbox.sweep().await;
        assert!(sandbox.condition(unit, "NeedsAdministrator").is_null());
        sandbox.assert_ready(unit);
        sandbox.assert_ready(&settled.unit);
        settled.assert_rests("taken up").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_depends_on_an_administrators_identity_says_that_it_is_gone_and_comes_back_with_it()
{
    for (profile, domain) in
        [(expecting(APP), None), (shared(&expecting(APP)), Some("domain/plan"))]
    {
        let settled = Settled::with(&profile).await;
        let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
        let unit = domain.unwrap_or(&settled.unit);
        let (runner, old) = (sandbox.runner(&settled.key).id, settled.lender());
        assert!(azure.remove_identity(&old.id));
        sandbox.sweep().await;
        let (reason, message) = sandbox.ready(unit);
        assert_eq!(reason, "Parked", "{}", sandbox.status(unit));
        assert!(message.contains("identity `id-tf` does not exist"), "{message}");
        settled.assert_rests("it waits for its own time").await;
        let new = azure.add_existing_identity(&old.id, old.tags);
        let reader = READER.parse().unwrap();
        azure.assign_role(APP, reader, new.principal_id, None);
        sandbox.pass_minutes(40).await;
        sandbox.assert_ready(unit);
        sandbox.assert_ready(&settled.unit);
        assert_eq!(azure.credentials(&new.id).len(), 1, "{profile}");
        assert_eq!(sandbox.runner(&settled.key).id, runner, "nothing else was made anew");
        settled.assert_rests("back").await;
    }
}

/// A manager runs jobs where it is bound, until it has its new `config.toml` and the last job there has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_jobs_run_in_no_more_loses_its_credential_once_nobody_is_bound_there() {
    let (alone, together) = (expecting(APP), shared(&expecting(APP)));
    for (from, to) in [(&together, &alone), (&alone, &together)] {
        let settled = Settled::with(from).await;
        let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
        sandbox.leap_to("2026-11-26T08:00:00Z");
        let own = settled.jobs();
        let (old, new) = match from == &together {
            true => ("ci-nonprod--domain-plan", own.as_str()),
            false => (own.as_str(), "ci-nonprod--domain-plan"),
        };
        let trusted = || {
            let all = azure.credentials(&settled.lender().id).into_iter();
            let mut all: Vec<String> = all.map(|one| one.subject).collect();
            all.sort();
            all
        };
        let places = |of: &[&str]| {
            let of = of.iter().map(|place| format!("system:serviceaccount:{place}:job"));
            let mut of: Vec<String> = of.collect();
            of.sort();
            of
        };
        assert_eq!(trusted(), places(&[old]));
        let group = settled.key[1..].split('-').next().unwrap().parse().unwrap();
        let project = sandbox.world.gitlab.create_project(group, "ledger");
        let job = NewJob {
            tags: vec!["tf".into()],
            script: vec!["sleep 1800".into()],
            ..NewJob::default()
        };
        let job = sandbox.world.gitlab.create_job(project, job);
        sandbox.pass(SignedDuration::from_secs(10)).await;
        let status = || sandbox.world.gitlab.job(job).unwrap().status;
        assert_eq!(status(), JobStatus::Running);

        sandbox.deploy(&plan_for("platform/*", to)).await;
        sandbox.pass_minutes(20).await;
        let lender = sandbox.identity_unit("id-tf");
        sandbox.wake(&lender);
        sandbox.pass_minutes(1).await;
        assert_eq!(status(), JobStatus::Running);
        assert_eq!(trusted(), places(&[old, new]), "{}", sandbox.story());
        assert_eq!(sandbox.ready(&lender).0, "StillBound", "{}", sandbox.status(&lender));
        let binding = format!("runner-{}", settled.key);
        let bound = || sandbox.world.kubernetes.get("rolebindings", old, &binding).is_some();
        assert!(bound());

        sandbox.pass_minutes(30).await;
        assert_eq!(status(), JobStatus::Success);
        assert!(!bound(), "{}", sandbox.status(&settled.unit));
        assert_eq!(trusted(), places(&[new]), "{}", sandbox.story());
        sandbox.assert_ready(&settled.unit);
        sandbox.assert_ready(&lender);
        let writes = sandbox.own_writes().len();
        sandbox.sweep().await;
        assert_eq!(sandbox.own_writes().split_off(writes), Vec::<String>::new());
    }
}

/// Nothing is taken from under a job to make room for where it will run next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_places_count_as_long_as_jobs_can_run_in_the_old_one() {
    let settled = Settled::with(&expecting(APP)).await;
    let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
    let lender = settled.lender().id;
    for number in 1..20 {
        let name = format!("somebody-{number}");
        let mut one = azure.credentials(&lender).remove(0);
        (one.name, one.subject) = (name, format!("repo:{number}"));
        azure.edit_credential(&lender, one);
    }
    sandbox.deploy(&plan_for("platform/*", &shared(&expecting(APP)))).await;
    sandbox.pass_minutes(25).await;
    let of = |namespace: &str| {
        let subject = format!("system:serviceaccount:{namespace}:job");
        azure.credentials(&lender).iter().any(|one| one.subject == subject)
    };
    assert!(of(&settled.jobs()) && !of("ci-nonprod--domain-plan"), "{}", sandbox.story());
    let (reason, message) = sandbox.ready("domain/plan");
    assert!(reason == "Parked" && message.contains("already holds 20"), "{reason}: {message}");
    // An administrator makes room for one more.
    assert!(azure.remove_credential(&lender, "somebody-5"));
    sandbox.pass_minutes(40).await;
    assert!(!of(&settled.jobs()) && of("ci-nonprod--domain-plan"), "{}", sandbox.story());
    sandbox.assert_ready(&settled.unit);
}
