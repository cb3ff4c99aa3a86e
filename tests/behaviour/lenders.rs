//! The round of an existing identity writes what is many units': it leaves alone whom an operator holds, and gives nobody anything
//! new in a freeze.

use crate::{
    harness::Sandbox,
    lent_credentials::{IDENTITY, file, names},
};
use forerunner::sandbox::{
    azure::Credential,
    wire::{Fault, Service, What},
};
use jiff::SignedDuration;
use serde_json::{Value, json};

/// What a job account says of the identity that it names.
const NAMED: &str = "forerunner.dev/identity";
const ANSWER: &str = "forerunner.dev/identity-answer";

impl Sandbox {
    fn is_lent_to(&self, group: u64) -> bool {
        names(self).iter().any(|name| name.contains(&format!("--g{group}-tf-")))
    }

    fn says(&self, group: u64, annotation: &str) -> Value {
        let namespace = format!("ci-nonprod--g{group}-tf");
        let account = self.world.kubernetes.get("serviceaccounts", &namespace, "job");
        account.map_or(Value::Null, |one| one["metadata"]["annotations"][annotation].clone())
    }

    /// Somebody takes an annotation off a job account.
    fn silence(&self, group: u64, annotation: &str) {
        let namespace = format!("ci-nonprod--g{group}-tf");
        let edit = |account: &mut Value| {
            account["metadata"]["annotations"].as_object_mut().unwrap().remove(annotation);
        };
        self.world.kubernetes.edit("serviceaccounts", &namespace, "job", edit);
    }

    /// Somebody deletes every credential of the identity.
    fn take_all_credentials(&self) {
        for name in names(self) {
            assert!(self.world.azure.remove_credential(IDENTITY, &name));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_holds_is_left_alone_by_the_round_of_an_existing_identity_too() {
    let sandbox = Sandbox::new(&file("*")).await;
    let gitlab = &sandbox.world.gitlab;
    let [held, other] = ["payments", "billing"].map(|name| gitlab.create_group(Some(42), name));
    sandbox.settle().await;
    sandbox.lose_hooks();
    let order = json!({"command": "hold", "targets": [format!("g{held}")], "by": "jane", "why": "incident 7", "until": "2026-11-24T20:00:00Z"});
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    let unit = format!("runner/g{held}-tf");
    assert_eq!(sandbox.ready(&unit).0, "Held");

    // What somebody takes is given back to the other alone.
    let before = sandbox.world.azure.credentials(IDENTITY);
    sandbox.take_all_credentials();
    sandbox.silence(held, ANSWER);
    sandbox.sweep().await;
    assert!(sandbox.is_lent_to(other), "{}", sandbox.story());
    assert!(!sandbox.is_lent_to(held), "{:?}", names(&sandbox));
    assert!(sandbox.says(held, ANSWER).is_null(), "{}", sandbox.says(held, ANSWER));
    let lender = sandbox.identity_unit("id-tf");
    assert_eq!(sandbox.ready(&lender).0, "PutOff", "{}", sandbox.status(&lender));

    // What nobody asks for any more is taken from the other alone.
    for one in before {
        sandbox.world.azure.edit_credential(IDENTITY, one);
    }
    let mut stray = sandbox.world.azure.credentials(IDENTITY).remove(0);
    let nobody = "forerunner-nonprod--g999-tf-0a1b2c3d";
    (stray.name, stray.subject) = (nobody.into(), "system:serviceaccount:nowhere:job".into());
    sandbox.world.azure.edit_credential(IDENTITY, stray);
    sandbox.silence(held, NAMED);
    sandbox.sweep().await;
    assert!(!names(&sandbox).iter().any(|name| name == nobody), "{:?}", names(&sandbox));
    assert!(sandbox.is_lent_to(held), "{}", sandbox.story());

    // Over, all is mended.
    sandbox.take_all_credentials();
    sandbox.sweep().await;
    assert!(!sandbox.is_lent_to(held) && sandbox.is_lent_to(other));
    sandbox.leap_to("2026-11-24T21:00:00Z");
    sandbox.sweep().await;
    assert!(sandbox.is_lent_to(held) && sandbox.is_lent_to(other), "{}", sandbox.story());
    assert_eq!(sandbox.says(held, ANSWER), json!(format!("granted {IDENTITY}")));
    for unit in [&unit, &format!("runner/g{other}-tf"), &lender] {
        sandbox.assert_ready(unit);
    }
}

/// The fleet while `guardrails.freeze` lasts.
fn frozen(allow: &str) -> String {
    format!("{}  freeze: [{{ from: 2026-11-24, to: 2026-11-26, allow: [{allow}] }}]\n", file("*"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_freeze_a_place_is_given_back_at_most_and_none_is_given_or_taken() {
    for (allow, restored) in [("restore", true), ("revoke", false)] {
        let sandbox = Sandbox::new(&file("*")).await;
        let served = sandbox.world.gitlab.create_group(Some(42), "payments");
        sandbox.settle().await;
        // Somebody asks, and has no answer yet.
        sandbox.world.wire.add_fault(Fault {
            service: Service::Arm,
            method: Some("PUT"),
            path: "/federatedIdentityCredentials/".into(),
            times: 1000,
            what: What::Answer { status: 500, headers: vec![], body: "{}".into() },
        });
        let late = sandbox.world.gitlab.create_group(Some(42), "late");
        sandbox.pass(SignedDuration::from_mins(1)).await;
        assert_eq!(sandbox.says(late, NAMED), json!(IDENTITY), "{}", sandbox.story());
        assert!(sandbox.says(late, ANSWER).is_null() && !sandbox.is_lent_to(late));
        sandbox.lose_hooks();
        sandbox.deploy(&frozen(allow)).await;
        sandbox.world.wire.clear_faults();

        sandbox.take_all_credentials();
        let nobody = "forerunner-nonprod--g999-tf-0a1b2c3d".to_owned();
        let stray = Credential {
            name: nobody.clone(),
            issuer: sandbox.world.kubernetes.issuer(),
            subject: "system:serviceaccount:nowhere:job".into(),
            audiences: vec!["api://AzureADTokenExchange".into()],
        };
        sandbox.world.azure.edit_credential(IDENTITY, stray);
        sandbox.pass_minutes(25).await;
        assert_eq!(sandbox.is_lent_to(served), restored, "{allow}: {}", sandbox.story());
        assert!(!sandbox.is_lent_to(late), "{allow}: {}", sandbox.story());
        assert!(names(&sandbox).contains(&nobody), "{allow}: {:?}", names(&sandbox));
        let lender = sandbox.identity_unit("id-tf");
        let reason = if restored { "PutOff" } else { "Frozen" };
        assert_eq!(sandbox.ready(&lender).0, reason, "{}", sandbox.status(&lender));

        sandbox.leap_to("2026-11-27T08:00:00Z");
        sandbox.sweep().await;
        assert!(sandbox.is_lent_to(served) && sandbox.is_lent_to(late), "{}", sandbox.story());
        assert!(!names(&sandbox).contains(&nobody), "{allow}: {:?}", names(&sandbox));
        for unit in [&format!("runner/g{served}-tf"), &format!("runner/g{late}-tf"), &lender] {
            sandbox.assert_ready(unit);
        }
    }
}
