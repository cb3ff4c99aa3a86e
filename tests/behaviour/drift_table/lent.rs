//! Identities that an administrator made: what is lent, expected and depended on.

use super::{Settled, rights::CONDITION};
use crate::deeds::APP;
use forerunner::sandbox::{
    azure::{Assignment, Identity},
    wire::{Fault, Service, What},
};

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

    pub(super) fn promised(&self) -> Assignment {
        let (principal, all) = (self.lender().principal_id, self.sandbox.world.azure.assignments());
        all.into_iter().find(|one| one.principal_id == principal).unwrap()
    }

    /// A sweep that wakes nobody and writes nothing.
    async fn assert_rests(&self, why: &str) {
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
