//! Credentials that a unit was lent on an administrator's identity go back with it, whatever became of its job account.

use crate::{
    deeds::{APP, fleet},
    removal::{days, settled},
};

const IDENTITY: &str = "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-people/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-tf";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_goes_back_where_the_account_that_named_the_identity_is_gone() {
    let file = |name: &str| {
        fleet(&format!(
            "rules:\n  - {{ match: {{ groups: 'platform/{name}' }}, profiles: [tf] }}\nprofiles:\n  tf: {{ runner: {{ tags: [tf] }}, identity: {{ existing: [{IDENTITY}], expect: [{{ role: Reader, scope: {APP} }}] }} }}\n"
        ))
    };
    let (sandbox, group) = settled(&file("payments")).await;
    assert_eq!(sandbox.world.azure.credentials(IDENTITY).len(), 1);
    sandbox.deploy(&file("nobody")).await;
    sandbox.sweep().await;
    let namespace = format!("ci-nonprod--g{group}-tf");
    sandbox.world.kubernetes.delete_as_admin("serviceaccounts", &namespace, "job");
    for day in [14, 15] {
        sandbox.leap_to(&days(day));
        sandbox.sweep().await;
    }
    let left = sandbox.world.azure.credentials(IDENTITY);
    let names: Vec<&str> = left.iter().map(|one| one.name.as_str()).collect();
    assert!(names.is_empty(), "{names:?}");
    let unit = format!("runner/g{group}-tf");
    assert!(sandbox.status(&unit).is_null(), "{}", sandbox.status(&unit));
}
