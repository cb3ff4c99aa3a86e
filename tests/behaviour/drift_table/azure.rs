//! Azure's rows beyond single edits.

use super::Settled;
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
