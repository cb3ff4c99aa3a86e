//! Credentials that a unit was lent on an administrator's identity go back with it, whatever became of its job account.

use crate::{
    deeds::{APP, fleet},
    harness::Sandbox,
    removal::{days, settled},
};

pub(crate) const IDENTITY: &str = "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-people/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-tf";

/// For groups of this name or pattern, a profile on an administrator's identity.
pub(crate) fn file(name: &str) -> String {
    fleet(&format!(
        "rules:\n  - {{ match: {{ groups: 'platform/{name}' }}, profiles: [tf] }}\nprofiles:\n  tf: {{ runner: {{ tags: [tf] }}, identity: {{ existing: [{IDENTITY}], expect: [{{ role: Reader, scope: {APP} }}] }} }}\n"
    ))
}

/// The unit leaves, and somebody deletes its job account before its grace is over.
async fn leave_without_account(sandbox: &Sandbox, group: u64) {
    sandbox.deploy(&file("nobody")).await;
    sandbox.sweep().await;
    let namespace = format!("ci-nonprod--g{group}-tf");
    assert!(sandbox.world.kubernetes.delete_as_admin("serviceaccounts", &namespace, "job"));
}

async fn outlast_the_grace(sandbox: &Sandbox) {
    for day in [14, 15] {
        sandbox.leap_to(&days(day));
        sandbox.sweep().await;
    }
}

/// Of all credentials on that identity.
pub(crate) fn names(sandbox: &Sandbox) -> Vec<String> {
    sandbox.world.azure.credentials(IDENTITY).into_iter().map(|one| one.name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_goes_back_where_the_account_that_named_the_identity_is_gone() {
    let (sandbox, group) = settled(&file("payments")).await;
    assert_eq!(names(&sandbox).len(), 1);
    leave_without_account(&sandbox, group).await;
    outlast_the_grace(&sandbox).await;
    assert!(names(&sandbox).is_empty(), "{:?}", names(&sandbox));
    let unit = format!("runner/g{group}-tf");
    assert!(sandbox.status(&unit).is_null(), "{}", sandbox.status(&unit));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_another_issuer_that_nobody_asks_for_is_told_and_all_else_goes() {
    let (sandbox, group) = settled(&file("payments")).await;
    leave_without_account(&sandbox, group).await;
    let mut credential = sandbox.world.azure.credentials(IDENTITY).remove(0);
    credential.issuer = "https://another.example.com/".to_owned();
    sandbox.world.azure.edit_credential(IDENTITY, credential.clone());
    outlast_the_grace(&sandbox).await;
    let unit = format!("runner/g{group}-tf");
    let needs = sandbox.condition(&unit, "NeedsAdministrator");
    assert_eq!(needs["reason"], "LentCredential", "{}", sandbox.status(&unit));
    let command = format!(
        "az identity federated-credential delete --ids \"{IDENTITY}/federatedIdentityCredentials/{}\"",
        credential.name
    );
    let message = needs["message"].as_str().unwrap();
    assert!(message.ends_with(&command), "{message}");
    assert_eq!(names(&sandbox), std::slice::from_ref(&credential.name), "it is not touched");
    assert!(sandbox.world.gitlab.runners().is_empty());
    let namespace = format!("ci-nonprod--g{group}-tf");
    assert!(sandbox.world.kubernetes.get("namespaces", "", &namespace).is_none());
    assert!(sandbox.world.azure.remove_credential(IDENTITY, &credential.name));
    sandbox.leap_to(&days(16));
    sandbox.sweep().await;
    assert!(sandbox.status(&unit).is_null(), "{}", sandbox.status(&unit));
}

/// People took the namespace, the manager and what was told of the unit, and its target is destroyed: the manager's account is
/// all that still names it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_a_unit_that_little_names_any_more_goes_back_too() {
    let (sandbox, group) = settled(&file("payments")).await;
    sandbox.lose_hooks();
    sandbox.world.gitlab.destroy_group(group);
    let kubernetes = &sandbox.world.kubernetes;
    for (kind, namespace, name) in [
        ("namespaces", "", format!("ci-nonprod--g{group}-tf")),
        ("deployments", "forerunner-nonprod", format!("runner-g{group}-tf")),
        ("configmaps", "forerunner-nonprod", format!("status-runner-g{group}-tf")),
    ] {
        assert!(kubernetes.delete_as_admin(kind, namespace, &name), "{name}");
    }
    for day in [14, 15, 23, 24] {
        sandbox.leap_to(&days(day));
        sandbox.sweep().await;
    }
    assert!(names(&sandbox).is_empty(), "{:?}", names(&sandbox));
    let left = sandbox.inventory().to_string();
    assert!(!left.contains(&format!("runner-g{group}-tf")), "{left}");
}
