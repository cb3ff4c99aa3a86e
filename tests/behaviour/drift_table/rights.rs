//! A role of ours that is there and is not what the file asks.

use super::{Settled, file::RULE, lent::expecting, plan_about_foreign_rights};
use crate::deeds::{APP, fleet, plan_profile};
use forerunner::{
    domain::{azure::ResourceId, names},
    sandbox::{
        azure::{Assignment, Azure, Lock},
        wire::{Fault, Service, What},
    },
};
use uuid::Uuid;

/// Keeps the right from writing rights: a condition as an administrator may add it.
pub(super) const CONDITION: &str =
    "((!(ActionMatches{'Microsoft.Authorization/roleAssignments/write'})))";

/// The runner's own right, as Azure has it.
fn own_role(settled: &Settled) -> (Uuid, Uuid, Uuid) {
    let azure = &settled.sandbox.world.azure;
    let principal = azure.identities().remove(0).principal_id;
    let own = azure.assignments().into_iter().find(|one| one.principal_id == principal).unwrap();
    (own.name, own.role, principal)
}

/// Whether the runner's own right is given as the file says.
fn is_given(settled: &Settled, name: Uuid) -> bool {
    let all = settled.sandbox.world.azure.assignments();
    all.iter().any(|one| one.name == name && one.condition.is_none())
}

/// Somebody puts a condition on the right that we gave.
pub(super) fn narrow(settled: &Settled) {
    let (name, ..) = own_role(settled);
    assert!(settled.sandbox.world.azure.narrow_assignment(name, Some(CONDITION)));
}

/// A right of forerunner's own that nothing asks for any more: its round died before it took it back.
pub(super) fn left_by_a_dead_round(settled: &Settled) {
    let (.., principal_id) = own_role(settled);
    let name = names::role_assignment(&ResourceId::new(APP).unwrap(), principal_id, CONTRIBUTOR);
    settled.sandbox.world.azure.put_assignment(Assignment {
        name,
        scope: APP.into(),
        role: CONTRIBUTOR,
        principal_id,
        principal_type: "ServicePrincipal".into(),
        description: None,
        condition: None,
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_under_a_condition_of_others_is_told_or_makes_way() {
    for remove in [false, true] {
        let settled = Settled::with(&plan_about_foreign_rights(remove)).await;
        let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
        let (name, role, principal) = own_role(&settled);
        assert!(azure.remove_assignment(name));
        let narrowed = azure.assign_role(APP, role, principal, Some(CONDITION));
        sandbox.sweep().await;
        if !remove {
            // Azure holds one assignment of a role to a principal at a scope: ours has to wait.
            let told = sandbox.condition(&settled.unit, "NeedsAdministrator");
            assert_eq!(told["reason"], "ForeignRights", "{}", sandbox.status(&settled.unit));
            let command = format!("roleAssignments/{narrowed}");
            assert!(told["message"].as_str().unwrap().contains(&command), "{told}");
            assert!(!sandbox.is_parked(&settled.unit), "{}", sandbox.status(&settled.unit));
            assert_eq!(sandbox.condition(&settled.unit, "IdentityReady")["status"], false);
            assert!(azure.assignments().iter().any(|one| one.name == narrowed), "theirs");
            let writes = sandbox.own_writes().len();
            sandbox.sweep().await;
            let further = sandbox.own_writes().split_off(writes);
            assert_eq!(further, Vec::<String>::new(), "what Azure would refuse is not tried");
            assert!(azure.remove_assignment(narrowed));
            sandbox.sweep().await;
        }
        assert!(is_given(&settled, name), "{remove}: {}", sandbox.status(&settled.unit));
        assert!(!azure.assignments().iter().any(|one| one.name == narrowed), "{remove}");
        sandbox.assert_ready(&settled.unit);
        assert!(sandbox.condition(&settled.unit, "NeedsAdministrator").is_null());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expected_right_under_a_condition_is_missing_and_the_command_clears_its_way() {
    let settled = Settled::with(&expecting(APP)).await;
    let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
    let given = settled.promised();
    assert!(azure.narrow_assignment(given.name, Some(CONDITION)));
    sandbox.sweep().await;
    let told = sandbox.condition(&settled.unit, "NeedsAdministrator");
    assert_eq!(told["reason"], "RightMissing", "{told}");
    let message = told["message"].as_str().unwrap();
    let delete = message.find(&format!("roleAssignments/{}", given.name));
    let create = message.find("az role assignment create");
    assert!(delete.is_some() && delete < create, "{message}");
    assert!(azure.narrow_assignment(given.name, None));
    sandbox.sweep().await;
    assert!(sandbox.condition(&settled.unit, "NeedsAdministrator").is_null());
    sandbox.assert_ready(&settled.unit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_at_another_scope_is_told_and_ours_is_given_again() {
    let settled = Settled::new().await;
    let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
    let (name, role, principal) = own_role(&settled);
    assert!(azure.remove_assignment(name));
    let below = format!("{APP}/providers/Microsoft.Storage/storageAccounts/one");
    azure.add_resource(&below);
    azure.assign_role(&below, role, principal, None);
    sandbox.sweep().await;
    assert!(is_given(&settled, name), "{}", sandbox.status(&settled.unit));
    let told = sandbox.condition(&settled.unit, "NeedsAdministrator");
    assert_eq!(told["reason"], "ForeignRights", "{told}");
}

/// Another subscription that guardrails let forerunner give roles in.
const OTHER: &str = "/subscriptions/00000000-0000-4000-8000-000000004444/resourceGroups/other";
const CONTRIBUTOR: Uuid = Uuid::from_u128(0xb249_88ac_6180_42a0_ab88_20f7_382d_d24c);
const OWNER: Uuid = Uuid::from_u128(0x8e3a_f657_a8ff_443c_a75c_2fe8_c4bc_b635);

/// A settled world of this profile where guardrails name a second scope.
async fn wide(profile: &str) -> Settled {
    let file = super::plan_for("platform/*", profile);
    let wider = file.replace(&format!("scopes: [{APP}]"), &format!("scopes: [{APP}, {OTHER}]"));
    assert_ne!(file, wider);
    Settled::of(&wider, &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_of_others_is_found_as_far_as_guardrails_reach_and_taken_away_where_they_let_us() {
    let roles = format!("managed: {{ roles: [{{ role: Reader, scope: {APP} }}] }}");
    let none = |remove| plan_about_foreign_rights(remove).replace(&roles, "managed: {}");
    for (profile, scope, role, goes) in [
        (plan_about_foreign_rights(false), OTHER, CONTRIBUTOR, false),
        (plan_about_foreign_rights(true), OTHER, CONTRIBUTOR, true),
        // Nobody lets forerunner take that one away.
        (plan_about_foreign_rights(true), OTHER, OWNER, false),
        (none(false), APP, CONTRIBUTOR, false),
        (none(true), OTHER, CONTRIBUTOR, true),
    ] {
        let settled = wide(&profile).await;
        let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
        settled.assert_rests("healthy").await;
        let principal = azure.identities().remove(0).principal_id;
        let given = azure.assign_role(scope, role, principal, None);
        let is_there = || azure.assignments().iter().any(|one| one.name == given);
        sandbox.sweep().await;
        assert_eq!(is_there(), !goes, "{profile}: {}", sandbox.status(&settled.unit));
        if !goes {
            let told = sandbox.condition(&settled.unit, "NeedsAdministrator");
            assert_eq!(told["reason"], "ForeignRights", "{}", sandbox.status(&settled.unit));
            let command = format!("roleAssignments/{given}");
            assert!(told["message"].as_str().unwrap().contains(&command), "{told}");
            let writes = sandbox.own_writes().len();
            sandbox.sweep().await;
            assert_eq!(sandbox.own_writes().split_off(writes), Vec::<String>::new(), "{profile}");
            assert!(azure.remove_assignment(given));
            sandbox.sweep().await;
        }
        assert!(sandbox.condition(&settled.unit, "NeedsAdministrator").is_null());
        sandbox.assert_ready(&settled.unit);
        settled.assert_rests("mended").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_of_the_guardrails_that_shows_nothing_keeps_no_runner_from_its_own_rights() {
    let settled = wide(&crate::deeds::plan_profile()).await;
    let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
    let (name, role, principal) = own_role(&settled);
    azure.assign_role(OTHER, CONTRIBUTOR, principal, None);
    let body = r#"{"error":{"code":"AuthorizationFailed","message":"no right"}}"#;
    sandbox.world.wire.add_fault(Fault {
        service: Service::Arm,
        method: Some("GET"),
        path: format!("{OTHER}/providers/Microsoft.Authorization/roleAssignments"),
        times: 1000,
        what: What::Answer { status: 403, headers: vec![], body: body.into() },
    });
    sandbox.world.wire.forget_calls();
    sandbox.sweep().await;
    assert!(!sandbox.own_calls().iter().any(|call| call.starts_with("ServiceBus")), "not judged");
    let unseen = sandbox.fleet_status()["unseen"].to_string();
    assert!(unseen.contains(OTHER), "but told: {unseen}");
    assert!(azure.remove_assignment(name));
    sandbox.wake(&settled.unit);
    sandbox.settle().await;
    assert!(is_given(&settled, name), "{role}: {}", sandbox.status(&settled.unit));
    sandbox.assert_ready(&settled.unit);
}

/// Lowered in the file, a right is lowered in Azure. Who stands in the way is told, and no other drift waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_the_file_asks_for_no_more_is_taken_back_or_an_administrators_to_take() {
    let lock = |azure: &Azure| azure.lock(APP, Lock::CannotDelete);
    for (locked, reason, words) in [
        (true, "ScopeLocked", "az lock delete --ids"),
        (false, "RightStays", "az role assignment delete --ids"),
    ] {
        let writer = plan_profile().replace("role: Reader", "role: Contributor");
        let settled = Settled::with(&writer).await;
        let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
        let (_, contributor, principal) = own_role(&settled);
        let given = || -> Vec<Uuid> {
            let all = azure.assignments().into_iter();
            all.filter(|one| one.principal_id == principal).map(|one| one.role).collect()
        };
        let refused = Fault {
            service: Service::Arm,
            method: Some("DELETE"),
            path: "/roleAssignments/".into(),
            times: usize::MAX,
            what: What::Answer { status: 403, headers: vec![], body: "{}".into() },
        };
        if locked {
            lock(azure)
        } else {
            sandbox.world.wire.add_fault(refused)
        }
        sandbox.deploy(&fleet(&format!("{RULE}profiles:\n{}", plan_profile()))).await;
        sandbox.sweep().await;
        for _ in 0..3 {
            assert_eq!(given().len(), 2, "Azure refuses for now: {}", sandbox.story());
            let told = sandbox.condition(&settled.unit, "NeedsAdministrator");
            assert_eq!(told["reason"], reason, "{}", sandbox.status(&settled.unit));
            assert!(told["message"].as_str().unwrap().contains(words), "{told}");
            assert!(!sandbox.is_parked(&settled.unit), "{}", sandbox.status(&settled.unit));
            let writes = sandbox.own_writes().len();
            sandbox.sweep().await;
            let tried = sandbox.own_writes().split_off(writes);
            let tried = tried.iter().filter(|write| write.contains("/roleAssignments/")).count();
            assert_eq!(tried, 1, "each sweep asks again, once");
            let (jobs, bounds) = (settled.jobs(), settled.bounds());
            super::delete(&settled, "networkpolicies", &jobs, &bounds);
            sandbox.sweep().await;
            let policy = sandbox.world.kubernetes.get("networkpolicies", &jobs, &bounds);
            assert!(policy.is_some(), "{}", sandbox.status(&settled.unit));
        }
        sandbox.world.wire.clear_faults();
        azure.clear_obstacles();
        sandbox.sweep().await;
        assert!(given().len() == 1 && !given().contains(&contributor), "{}", sandbox.story());
        sandbox.assert_ready(&settled.unit);
        assert!(sandbox.condition(&settled.unit, "NeedsAdministrator").is_null());
        settled.assert_rests("taken back").await;
    }
}

/// It is its domain's administrator's step: whoever shares the identity serves on meanwhile, and who comes new begins to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_azure_keeps_on_a_shared_identity_holds_up_no_runner() {
    let shared = plan_profile().replace("identity: {", "isolation: profile, identity: {");
    let settled = Settled::with(&shared.replace("role: Reader", "role: Contributor")).await;
    let (sandbox, gitlab) = (&settled.sandbox, &settled.sandbox.world.gitlab);
    sandbox.world.azure.lock(APP, Lock::CannotDelete);
    sandbox.deploy(&fleet(&format!("{RULE}profiles:\n{shared}"))).await;
    let second = gitlab.create_group(Some(42), "second");
    sandbox.world.wire.forget_calls();
    sandbox.pass_minutes(85).await;
    let told = sandbox.condition("domain/plan", "NeedsAdministrator");
    assert_eq!(told["reason"], "ScopeLocked", "{}", sandbox.status("domain/plan"));
    let calls = sandbox.own_calls();
    let tried = |call: &&String| call.contains(" DELETE ") && call.contains("/roleAssignments/");
    let tried = calls.iter().filter(tried).count();
    assert!(tried < 20, "by sweeps and not by every runner's round: {tried}");
    for key in [settled.key.clone(), format!("g{second}-plan")] {
        let unit = format!("runner/{key}");
        assert!(!sandbox.is_parked(&unit), "{}", sandbox.status(&unit));
        sandbox.assert_ready(&unit);
        assert!(!sandbox.runner(&key).paused, "{unit}");
    }
    let project = gitlab.create_project(second, "ledger");
    sandbox.assert_a_job_runs(project, "azure-plan").await;
}

/// One change of the file takes a scope off the guardrails and the role that lay there: no round looks there any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_at_a_scope_that_left_the_file_with_it_is_told_until_it_is_gone() {
    let there = plan_profile().replace(APP, OTHER);
    let settled = wide(&there).await;
    let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
    let (name, role, principal) = own_role(&settled);
    let given = |name| azure.assignments().into_iter().any(|one| one.name == name);
    settled.assert_rests("as the file says").await;
    assert_eq!(sandbox.findings("RoleBeyondReach"), vec![]);
    // Somebody else's, and one that only says that it is ours.
    let described = azure.assignments().into_iter().find(|one| one.name == name).unwrap();
    azure.assign_role(OTHER, CONTRIBUTOR, principal, None);
    azure.put_assignment(Assignment { name: Uuid::from_u128(7), role: OWNER, ..described });
    sandbox.deploy(&fleet(&format!("{RULE}profiles:\n{}", plan_profile()))).await;
    sandbox.pass_minutes(1).await;
    sandbox.sweep().await;
    let [(message, remedy)] = &sandbox.findings("RoleBeyondReach")[..] else {
        panic!("{}", sandbox.fleet_status())
    };
    assert!(message.contains(&principal.to_string()) && message.contains(OTHER), "{message}");
    assert!(message.contains(&role.to_string()), "{message}");
    assert!(remedy.contains(&name.to_string()), "{remedy}");
    assert!(given(name), "a person's to take");
    assert!(azure.remove_assignment(name));
    sandbox.pass_minutes(1).await;
    sandbox.sweep().await;
    assert_eq!(sandbox.findings("RoleBeyondReach"), vec![]);
    sandbox.assert_ready(&settled.unit);
}
