//! What a job signs in as: managed identities, existing ones, shared ones, and when a runner opens for them.

use crate::{
    deeds::{APP, PLAIN, READER, fleet, plan_fleet, plan_profile},
    harness::Sandbox,
};
use forerunner::sandbox::azure::Credential;
use jiff::SignedDuration;
use serde_json::json;

const IDENTITIES: &str = "/subscriptions/00000000-0000-4000-8000-000000003333/resourceGroups/rg-tf/providers/Microsoft.ManagedIdentity/userAssignedIdentities";

/// A profile on two existing identities that an administrator is expected to have made readers.
fn existing_fleet() -> String {
    fleet(&format!(
        "rules:
  - {{ match: {{ groups: 'platform/*' }}, profiles: [tf] }}
profiles:
  tf:
    runner: {{ tags: [terraform] }}
    identity:
      existing: [{IDENTITIES}/id-one, {IDENTITIES}/id-two]
      expect: [{{ role: Reader, scope: {APP} }}]"
    ))
}

/// Fills an identity up with other people's credentials until `room` is left.
fn fill(sandbox: &Sandbox, name: &str, room: usize) {
    for number in room..20 {
        let credential = Credential {
            name: format!("somebody-{number}"),
            issuer: "https://issuer.example.com/".into(),
            subject: format!("repo:{number}"),
            audiences: vec!["api://AzureADTokenExchange".into()],
        };
        sandbox.world.azure.edit_credential(&format!("{IDENTITIES}/{name}"), credential);
    }
}

/// The subjects of our own credentials on an identity.
fn ours(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let credentials = sandbox.world.azure.credentials(&format!("{IDENTITIES}/{name}"));
    let ours = credentials.into_iter().filter(|one| one.name.starts_with("forerunner-"));
    ours.map(|one| one.subject).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_managed_identity_is_tagged_trusted_and_given_its_roles() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let key = format!("g{group}-plan");
    sandbox.assert_ready(&format!("runner/{key}"));
    let identity = &sandbox.world.azure.identities()[0];
    assert_eq!(identity.name, format!("id-nonprod--{key}"));
    let managers = sandbox.world.kubernetes.get("namespaces", "", "forerunner-nonprod").unwrap();
    let tag = |name: &str| identity.tags.get(name).map(String::as_str);
    assert_eq!(tag("forerunner-fleet"), Some("nonprod"));
    assert_eq!(tag("forerunner-installation"), managers["metadata"]["uid"].as_str());
    assert_eq!(tag("forerunner-key"), Some(key.as_str()));
    assert_eq!(tag("costCenter"), Some("4711"));
    assert_eq!(tag("forerunner-credentials").map(str::len), Some(16));
    let credentials = sandbox.world.azure.credentials(&identity.id);
    assert_eq!(credentials.len(), 1);
    assert_eq!(credentials[0].issuer, sandbox.world.kubernetes.issuer());
    assert_eq!(credentials[0].subject, format!("system:serviceaccount:ci-nonprod--{key}:job"));
    assert_eq!(credentials[0].audiences, ["api://AzureADTokenExchange"]);
    let calls = sandbox.own_calls();
    let at = |start: &str, part: &str| {
        let found = calls.iter().position(|call| call.starts_with(start) && call.contains(part));
        found.unwrap_or_else(|| panic!("no {start} {part}"))
    };
    let trusted = at("Arm PUT", "/federatedIdentityCredentials/");
    assert!(trusted < at("Arm PATCH", "userAssignedIdentities"), "a digest never runs ahead");
    let account =
        sandbox.world.kubernetes.get("serviceaccounts", &format!("ci-nonprod--{key}"), "job");
    let client = &account.unwrap()["metadata"]["annotations"]["azure.workload.identity/client-id"];
    assert_eq!(*client, json!(identity.client_id.to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_assignment_comes_back_under_the_same_id() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let principal = sandbox.world.azure.identities()[0].principal_id;
    let find = || {
        let all = sandbox.world.azure.assignments().into_iter();
        all.filter(|one| one.principal_id == principal).collect::<Vec<_>>()
    };
    let before = find();
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].role.to_string(), READER);
    assert_eq!(before[0].scope, APP);
    assert_eq!(before[0].principal_type, "ServicePrincipal");
    assert!(sandbox.world.azure.remove_assignment(before[0].name));
    sandbox.wake(&format!("runner/g{group}-plan"));
    sandbox.settle().await;
    assert_eq!(find(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_opens_when_its_identity_has_settled_and_at_once_without_one() {
    let settle = SignedDuration::from_mins(2);
    let minute = SignedDuration::from_mins(1);
    let cases = [
        (plan_profile(), "plan", settle, settle + minute),
        (PLAIN.to_owned(), "plain", SignedDuration::ZERO, minute),
    ];
    for (profile, name, least, most) in cases {
        let file = fleet(&format!(
            "rules:\n  - {{ match: {{ groups: 'platform/*' }}, profiles: [{name}] }}\nprofiles:\n{profile}"
        ));
        let sandbox = Sandbox::new(&file).await;
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        sandbox.pass(SignedDuration::from_secs(10)).await;
        let made = sandbox.runner(&format!("g{group}-{name}"));
        assert!(made.paused && made.maintenance_note.starts_with("forerunner:"), "{made:?}");
        sandbox.settle().await;
        let opened = sandbox.runner(&format!("g{group}-{name}"));
        assert!(!opened.paused && opened.maintenance_note.is_empty(), "{opened:?}");
        let created = sandbox.first_call("POST", "/user/runners").unwrap();
        let opened = sandbox.first_call("PUT", "/api/v4/runners/").unwrap();
        let waited = opened.duration_since(created);
        assert!(waited >= least && waited < most, "{name}: opened after {waited:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_on_existing_identities_are_handed_out_by_their_own_rounds() {
    let sandbox = Sandbox::new(&existing_fleet()).await;
    fill(&sandbox, "id-one", 1);
    fill(&sandbox, "id-two", 1);
    let groups = ["a", "b", "c"].map(|name| sandbox.world.gitlab.create_group(Some(42), name));
    sandbox.settle().await;
    let held = [ours(&sandbox, "id-one"), ours(&sandbox, "id-two")];
    assert_eq!(held.each_ref().map(Vec::len), [1, 1], "{held:?}\n{}", sandbox.story());
    let units = groups.map(|group| format!("runner/g{group}-tf"));
    let ready = units.iter().filter(|unit| sandbox.is_ready(unit)).count();
    assert_eq!(ready, 2, "{}", sandbox.story());
    let parked = units.iter().find(|unit| sandbox.is_parked(unit)).unwrap();
    let reason = sandbox.ready(parked).1;
    assert!(
        reason.contains("already holds 20") && reason.contains("identity.existing"),
        "{reason}"
    );
    // An administrator lists another or makes room: the sweep brings it back.
    assert!(sandbox.world.azure.remove_credential(&format!("{IDENTITIES}/id-two"), "somebody-5"));
    sandbox.pass_minutes(25).await;
    sandbox.assert_ready(parked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_a_listed_runner_is_trusted_by_an_existing_identity() {
    let sandbox = Sandbox::new(&existing_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "a");
    sandbox.settle().await;
    sandbox.assert_ready(&format!("runner/g{group}-tf"));
    let before = ours(&sandbox, "id-one");
    assert_eq!(before, [format!("system:serviceaccount:ci-nonprod--g{group}-tf:job")]);
    // Labels and annotations can be copied by whoever may edit an account.
    let claims = [("default", "job", format!("g{group}-tf")), ("default", "job", "g99-tf".into()), (&format!("ci-nonprod--g{group}-tf"), "other", format!("g{group}-tf"))]
        .map(|(namespace, name, key)| {
            json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {
                    "name": name, "namespace": namespace,
                    "labels": { "app.kubernetes.io/managed-by": "forerunner", "forerunner.dev/fleet": "nonprod", "forerunner.dev/key": key },
                    "annotations": { "forerunner.dev/identity": format!("{IDENTITIES}/id-one") },
                },
            })
        });
    for claim in claims {
        sandbox.world.kubernetes.apply_as_admin(claim).unwrap();
    }
    sandbox.wake(&sandbox.identity_unit("id-one"));
    sandbox.settle().await;
    assert_eq!(ours(&sandbox, "id-one"), before);
}

impl Sandbox {
    /// The unit of an existing identity, as an earlier round wrote it down.
    pub(crate) fn identity_unit(&self, name: &str) -> String {
        let maps = self.world.kubernetes.list("configmaps", "forerunner-nonprod");
        let records = maps.iter().filter_map(|map| map["data"]["record.json"].as_str());
        let units = records.filter_map(|text| {
            let record: serde_json::Value = serde_json::from_str(text).unwrap();
            record["unit"].as_str().map(str::to_owned)
        });
        let mut units = units.filter(|unit| unit.starts_with(&format!("identity/{name}.")));
        units.next().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expected_right_that_is_missing_is_an_administrators_step() {
    let sandbox = Sandbox::new(&existing_fleet()).await;
    let identities = sandbox.world.azure.identities();
    let one = identities.iter().find(|identity| identity.name == "id-one").unwrap();
    let assignments = sandbox.world.azure.assignments();
    let right = assignments.iter().find(|right| right.principal_id == one.principal_id).unwrap();
    assert!(sandbox.world.azure.remove_assignment(right.name));
    let group = sandbox.world.gitlab.create_group(Some(42), "a");
    sandbox.settle().await;
    let unit = format!("runner/g{group}-tf");
    sandbox.assert_ready(&unit);
    let step = sandbox.condition(&unit, "NeedsAdministrator");
    let command = format!(
        "az role assignment create --assignee-object-id {} --assignee-principal-type ServicePrincipal --role \"Reader\" --scope \"{APP}\"",
        one.principal_id
    );
    assert_eq!(step["message"], json!(command), "{}", sandbox.story());
    assert_eq!(step["status"], json!(true));
    // Done by an administrator, the next sweep sees it.
    sandbox.world.azure.assign_role(&right.scope, right.role, right.principal_id, None);
    sandbox.sweep().await;
    assert_eq!(sandbox.condition(&unit, "NeedsAdministrator"), json!(null));
    sandbox.assert_ready(&unit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_of_one_profile_can_share_one_domain() {
    let profile = format!(
        "  plan: {{ runner: {{ tags: [azure-plan] }}, isolation: profile, identity: {{ managed: {{ roles: [{{ role: Reader, scope: {APP} }}] }} }} }}"
    );
    let rules = "rules:\n  - { match: { groups: 'platform/*' }, profiles: [plan] }\nprofiles:\n";
    let sandbox = Sandbox::new(&fleet(&format!("{rules}{profile}"))).await;
    let groups = ["a", "b"].map(|name| sandbox.world.gitlab.create_group(Some(42), name));
    sandbox.settle().await;
    let namespace = "ci-nonprod--domain-plan";
    for group in groups {
        sandbox.assert_ready(&format!("runner/g{group}-plan"));
        let binding = format!("runner-g{group}-plan");
        let found = sandbox.world.kubernetes.get("rolebindings", namespace, &binding).unwrap();
        assert_eq!(found["subjects"][0]["name"], json!(binding));
    }
    sandbox.assert_ready("domain/plan");
    let identities = sandbox.world.azure.identities();
    assert_eq!(identities.len(), 1);
    assert_eq!(identities[0].name, "id-nonprod--domain-plan");
    assert_eq!(sandbox.world.azure.credentials(&identities[0].id).len(), 1);
    let namespaces = sandbox.world.kubernetes.list("namespaces", "");
    let jobs = namespaces.iter().filter_map(|one| one["metadata"]["name"].as_str());
    assert_eq!(jobs.filter(|name| name.starts_with("ci-")).collect::<Vec<_>>(), [namespace]);
    let created = sandbox.own_writes();
    let puts = created.iter().filter(|call| call.contains("Arm PUT"));
    assert_eq!(puts.count(), 3, "identity, credential and role, once each: {created:#?}");
}

/// Seed 401624 of the histories: the round that came meanwhile had nothing to do, and no other followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_waits_while_its_shared_domain_goes_away_and_is_made_anew() {
    let profile = plan_profile().replace("  plan: { ", "  plan: { isolation: profile, ");
    let rules = "rules:\n  - { match: { groups: 'platform/*' }, profiles: [plan] }\nprofiles:\n";
    let sandbox = Sandbox::new(&fleet(&format!("{rules}{profile}"))).await;
    let first = sandbox.world.gitlab.create_group(Some(42), "a");
    sandbox.settle().await;
    let (kubernetes, namespace) = (&sandbox.world.kubernetes, "ci-nonprod--domain-plan");
    let held = |finalizers: serde_json::Value| {
        let metadata = json!({ "name": "held", "namespace": namespace, "finalizers": finalizers });
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        kubernetes.apply_as_admin(object).unwrap();
    };
    held(json!(["example.com/cleanup"]));
    assert!(kubernetes.delete_as_admin("namespaces", "", namespace));
    let second = sandbox.world.gitlab.create_group(Some(42), "b");
    let units = [first, second].map(|group| format!("runner/g{group}-plan"));
    assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
    sandbox.pass_minutes(90).await;
    for unit in &units {
        assert!(!sandbox.is_parked(unit), "{}", sandbox.status(unit));
        assert_eq!(sandbox.ready(unit).0, "Progressing", "{}", sandbox.status(unit));
    }
    held(json!([]));
    sandbox.pass_minutes(30).await;
    units.iter().for_each(|unit| sandbox.assert_ready(unit));
}
