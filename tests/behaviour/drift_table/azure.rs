//! Azure's rows beyond single edits.

use super::{Settled, mended};
use forerunner::sandbox::wire::Service;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_rebuild_the_new_issuer_is_trusted_before_the_old_one_goes() {
    let settled = Settled::new().await;
    let sandbox = &settled.sandbox;
    let identity = sandbox.world.azure.identities().remove(0);
    let old = sandbox.world.azure.credentials(&identity.id).remove(0);
    let issuer = "https://westeurope.oic.prod-aks.azure.com/rebuilt/";
    sandbox.world.change_issuer(issuer);
    // What ARM says of the cluster is believed for ten minutes.
    sandbox.pass_minutes(11).await;
    sandbox.world.wire.forget_calls();
    sandbox.sweep().await;
    let now = sandbox.world.azure.credentials(&identity.id);
    let [new] = &now[..] else { panic!("{now:?}\n{}", sandbox.status(&settled.unit)) };
    assert_eq!((new.issuer.as_str(), &new.subject), (issuer, &old.subject));
    sandbox.assert_ready(&settled.unit);
    let calls = sandbox.world.wire.calls();
    let at = |method: &str, name: &str| {
        let own = calls.iter().position(|call| {
            call.service == Service::Arm && call.method == method && call.path.contains(name)
        });
        own.unwrap_or_else(|| panic!("no {method} of {name}"))
    };
    assert!(at("PUT", &new.name) < at("DELETE", &old.name), "the new one first");
    let writes = sandbox.own_writes().len();
    sandbox.sweep().await;
    assert_eq!(sandbox.own_writes().split_off(writes), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_audience_and_a_credential_of_ours_too_many_are_mended() {
    mended("audience", |settled| {
        let azure = &settled.sandbox.world.azure;
        let id = azure.identities().remove(0).id;
        let mut credential = azure.credentials(&id).remove(0);
        credential.audiences = vec!["api://elsewhere".into()];
        azure.edit_credential(&id, credential);
    })
    .await;
    mended("too many", |settled| {
        let azure = &settled.sandbox.world.azure;
        let id = azure.identities().remove(0).id;
        let mut credential = azure.credentials(&id).remove(0);
        let stem = credential.name.len() - 8;
        credential.name.replace_range(stem.., "00000000");
        credential.subject = "system:serviceaccount:of-yesterday:job".into();
        azure.edit_credential(&id, credential);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_made_anew_with_other_ids_is_taken_up_where_it_bears_our_tags() {
    let settled = Settled::new().await;
    let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
    let old = azure.identities().remove(0);
    assert!(azure.remove_identity(&old.id));
    let new = azure.add_existing_identity(&old.id, old.tags.clone());
    assert_ne!((new.principal_id, new.client_id), (old.principal_id, old.client_id));
    sandbox.sweep().await;
    sandbox.assert_ready(&settled.unit);
    let account = sandbox.world.kubernetes.get("serviceaccounts", &settled.jobs(), "job").unwrap();
    let client = &account["metadata"]["annotations"]["azure.workload.identity/client-id"];
    assert_eq!(*client, new.client_id.to_string().as_str());
    assert_eq!(azure.credentials(&new.id).len(), 1);
    assert!(azure.assignments().iter().any(|one| one.principal_id == new.principal_id));
}
