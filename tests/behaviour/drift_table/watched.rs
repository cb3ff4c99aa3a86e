//! What belongs to no unit or is an administrator's: found by one sweep, told with what mends it, touched by nobody.

use super::Settled;
use crate::{
    deeds::{APP, READER, fleet, plan_profile},
    harness::Sandbox,
};
use serde_json::{Value, json};

const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
const AKS: &str = "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-aks";
const OWN: &str = "forerunner-nonprod";
const ROLE: &str = "forerunner-manager";
const POLICIES: &str = "validatingadmissionpolicies";
const BINDINGS: &str = "validatingadmissionpolicybindings";
const WEBHOOKS: &str = "mutatingwebhookconfigurations";
const WEBHOOK: &str = "azure-wi-webhook-mutating-webhook-configuration";

/// Damages, sweeps once: one finding of this kind says so and names what mends it; nobody but the damage changed
/// anything, and the next sweep writes nothing.
pub(super) async fn told(
    row: &str,
    settled: &Settled,
    kind: &str,
    parts: &[&str],
    damage: impl FnOnce(&Settled),
) -> String {
    let sandbox = &settled.sandbox;
    sandbox.sweep().await;
    assert_eq!(sandbox.findings(kind), vec![], "{row}: before");
    damage(settled);
    told_once(row, settled, kind, parts).await
}

/// The same of what is damaged already.
pub(super) async fn told_once(row: &str, settled: &Settled, kind: &str, parts: &[&str]) -> String {
    let sandbox = &settled.sandbox;
    let damaged = administrators(settled);
    sandbox.sweep().await;
    let found = sandbox.findings(kind);
    let [(message, remedy)] = &found[..] else {
        panic!("{row}: {found:#?}\n{}", sandbox.fleet_status())
    };
    for part in parts {
        assert!(
            format!("{message}\n{remedy}").contains(part),
            "{row}: {part}\n{message}\n{remedy}"
        );
    }
    assert_eq!(administrators(settled), damaged, "{row}: not forerunner's to touch");
    let writes = sandbox.own_writes().len();
    sandbox.sweep().await;
    assert_eq!(sandbox.own_writes().split_off(writes), Vec::<String>::new(), "{row}");
    remedy.clone()
}

/// What administrators keep, and every right in Azure.
fn administrators(settled: &Settled) -> Value {
    let world = &settled.sandbox.world;
    let rights = world.azure.assignments().into_iter();
    let rights = rights.map(|one| json!([one.name, one.scope, one.principal_id, one.role]));
    let kinds = ["clusterroles", POLICIES, BINDINGS, WEBHOOKS];
    let objects = kinds.map(|kind| json!(world.kubernetes.list(kind, "")));
    json!([rights.collect::<Vec<_>>(), objects])
}

/// It is mended, and the next sweep tells it no more.
pub(super) async fn over(row: &str, settled: &Settled, kind: &str) {
    settled.sandbox.sweep().await;
    let found = settled.sandbox.findings(kind);
    assert_eq!(found, vec![], "{row}: mended");
    settled.sandbox.assert_ready(&settled.unit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writing_right_that_reaches_what_is_kept_out_is_told_whoever_gave_it() {
    let settled = Settled::new().await;
    let azure = &settled.sandbox.world.azure;
    let identity = azure.identities().remove(0);
    let reader = READER.parse().unwrap();
    // To read there is no danger.
    azure.assign_role(AKS, reader, identity.principal_id, None);
    let parts = ["Contributor on", "rg-aks reaches", "guardrails.never", "role assignment delete"];
    let remedy = told("never", &settled, "ReachesNever", &parts, |_| {
        azure.assign_role(AKS, CONTRIBUTOR.parse().unwrap(), identity.principal_id, None);
    });
    let remedy = remedy.await;
    let given = azure.assignments().into_iter().find(|one| remedy.contains(&one.name.to_string()));
    assert!(azure.remove_assignment(given.unwrap().name));
    over("never", &settled, "ReachesNever").await;
}

/// An identity that an administrator made, below the instance's own.
const EXISTING: &str = "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-admin/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-tf";

async fn existing() -> Settled {
    Settled::with(&format!(
        "  plan: {{ runner: {{ tags: [tf] }}, identity: {{ existing: ['{EXISTING}'], expect: [{{ role: Reader, scope: {APP} }}] }} }}\n"
    ))
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_right_of_an_existing_identity_is_told_too() {
    let settled = existing().await;
    let azure = &settled.sandbox.world.azure;
    let identity = azure.identities().into_iter().find(|one| one.id.ends_with("/id-tf")).unwrap();
    let group =
        "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-runner-identities";
    let owner = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635".parse().unwrap();
    told("existing", &settled, "ReachesNever", &["`id-tf` holds Owner"], |_| {
        azure.assign_role(group, owner, identity.principal_id, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_with_hardly_a_place_left_is_told() {
    let settled = existing().await;
    let azure = &settled.sandbox.world.azure;
    let parts = ["holds 18 of 20 federated credentials", "identity.existing"];
    told("places", &settled, "LimitNear", &parts, |_| {
        let own = azure.credentials(EXISTING).remove(0);
        for number in 1..18 {
            let mut other = own.clone();
            other.name = format!("of-others-{number}");
            other.subject = format!("system:serviceaccount:elsewhere:builder-{number}");
            azure.edit_credential(EXISTING, other);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_with_hardly_an_assignment_left_is_told() {
    let settled = Settled::new().await;
    let azure = &settled.sandbox.world.azure;
    let somebody = azure.add_user();
    let held = |azure: &forerunner::sandbox::azure::Azure| {
        azure.assignments().iter().filter(|one| one.scope.starts_with(APP)).count()
    };
    let fill = |most: usize| {
        for number in held(azure)..most {
            let role = uuid::Uuid::from_u128(u128::try_from(number).unwrap());
            azure.assign_role(APP, role, somebody, None);
        }
    };
    fill(3_599);
    let parts = ["at least 3600 of 4000 role assignments", "take away what nobody needs"];
    told("assignments", &settled, "LimitNear", &parts, |_| fill(3_600)).await;
    let one = azure.assignments().into_iter().find(|one| one.principal_id == somebody).unwrap();
    assert!(azure.remove_assignment(one.name));
    over("assignments", &settled, "LimitNear").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_managers_role_is_told_where_it_is_not_as_the_file_asks() {
    let settled = Settled::new().await;
    let kubernetes = &settled.sandbox.world.kubernetes;
    let whole = kubernetes.get("clusterroles", "", ROLE).unwrap();
    let mut wider = whole.clone();
    wider["rules"].as_array_mut().unwrap().push(
        json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["*"]}),
    );
    let mut narrower = whole.clone();
    narrower["rules"].as_array_mut().unwrap().remove(0);
    let put = |object: &Value| {
        let rules = object["rules"].clone();
        assert!(kubernetes.edit("clusterroles", "", ROLE, |live| live["rules"] = rules));
    };
    let kind = "ManagerRole";
    let more =
        ["more than the file asks: * roles.rbac.authorization.k8s.io", "kubectl replace -f -"];
    told("wider", &settled, kind, &more, |_| put(&wider)).await;
    put(&whole);
    over("wider", &settled, kind).await;
    let less = ["lacks what managers need: create pods, delete pods", "forerunner check --rights"];
    told("narrower", &settled, kind, &less, |_| put(&narrower)).await;
    put(&whole);
    over("narrower", &settled, kind).await;
    let mut both = narrower.clone();
    both["rules"]
        .as_array_mut()
        .unwrap()
        .push(wider["rules"].as_array().unwrap().last().unwrap().clone());
    let other = [
        "was changed: more than the file asks: * roles.rbac.authorization.k8s.io",
        "missing: create pods, delete pods",
    ];
    told("both", &settled, kind, &other, |_| put(&both)).await;
    put(&whole);
    over("both", &settled, kind).await;
    told("gone", &settled, kind, &["does not exist", "kubectl apply -f -"], |_| {
        assert!(kubernetes.delete_as_admin("clusterroles", "", ROLE));
    })
    .await;
    kubernetes.apply_as_admin(bare(whole)).unwrap();
    over("gone", &settled, kind).await;
}

/// What is applied: without what the server wrote.
fn bare(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| ["name", "labels"].contains(&key.as_str()));
    object.as_object_mut().unwrap().remove("status");
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admission_policy_is_told_where_it_is_gone_or_edited() {
    let settled = Settled::new().await;
    let kubernetes = &settled.sandbox.world.kubernetes;
    type Edit = (&'static str, &'static str, &'static str, fn(&mut Value));
    let edits: [Edit; 6] = [
        ("fewer", POLICIES, "spec.validations", |policy| {
            policy["spec"]["validations"].as_array_mut().unwrap().remove(3);
        }),
        ("weaker", POLICIES, "spec.validations[2].expression", |policy| {
            policy["spec"]["validations"][2]["expression"] = "true".into();
        }),
        ("somebody else", POLICIES, "spec.matchConditions[0].expression", |policy| {
            let expression = "request.userInfo.username == 'nobody'";
            policy["spec"]["matchConditions"][0]["expression"] = expression.into();
        }),
        ("an exception", POLICIES, "spec.matchConstraints.namespaceSelector", |policy| {
            policy["spec"]["matchConstraints"]["namespaceSelector"] =
                json!({"matchLabels": {"confined": "yes"}});
        }),
        ("open", POLICIES, "spec.failurePolicy", |policy| {
            policy["spec"]["failurePolicy"] = "Ignore".into();
        }),
        ("only warns", BINDINGS, "spec.validationActions", |binding| {
            binding["spec"]["validationActions"] = json!(["Warn"]);
        }),
    ];
    let kind = "AdmissionPolicy";
    for (row, plural, part, edit) in edits {
        let whole = kubernetes.get(plural, "", OWN).unwrap();
        let parts = [part, "kubectl replace -f -", "forerunner admin-steps --json --principal"];
        told(row, &settled, kind, &parts, |_| assert!(kubernetes.edit(plural, "", OWN, edit)))
            .await;
        let spec = whole["spec"].clone();
        assert!(kubernetes.edit(plural, "", OWN, |live| live["spec"] = spec));
        over(row, &settled, kind).await;
    }
    for plural in [POLICIES, BINDINGS] {
        let whole = kubernetes.get(plural, "", OWN).unwrap();
        told(plural, &settled, kind, &["does not exist", "kubectl apply -f -"], |_| {
            assert!(kubernetes.delete_as_admin(plural, "", OWN));
        })
        .await;
        kubernetes.apply_as_admin(bare(whole)).unwrap();
        over(plural, &settled, kind).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_identity_webhook_is_told_where_a_profile_has_an_identity() {
    let settled = Settled::new().await;
    let kubernetes = &settled.sandbox.world.kubernetes;
    let parts = ["job pods get no token", "az aks update --ids", "--enable-workload-identity"];
    told("webhook", &settled, "IdentityWebhook", &parts, |_| {
        assert!(kubernetes.delete_as_admin(WEBHOOKS, "", WEBHOOK));
    })
    .await;
    // Who has no identity has no need of it.
    let plain = Settled::with("  plan: { runner: { tags: [plan] }, identity: none }\n").await;
    let kubernetes = &plain.sandbox.world.kubernetes;
    assert!(kubernetes.delete_as_admin(WEBHOOKS, "", WEBHOOK));
    plain.sandbox.sweep().await;
    assert_eq!(plain.sandbox.findings("IdentityWebhook"), vec![]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_a_dead_identity_left_behind_is_told() {
    let settled = Settled::new().await;
    let azure = &settled.sandbox.world.azure;
    let identity = azure.identities().remove(0);
    settled.sandbox.sweep().await;
    assert!(azure.remove_identity(&identity.id));
    settled.sandbox.sweep().await;
    settled.sandbox.assert_ready(&settled.unit);
    settled.sandbox.sweep().await;
    let found = settled.sandbox.findings("OrphanedRole");
    let [(message, remedy)] = &found[..] else { panic!("{}", settled.sandbox.fleet_status()) };
    assert!(message.contains(&identity.principal_id.to_string()), "{message}");
    let left = azure.assignments().into_iter().find(|one| remedy.contains(&one.name.to_string()));
    let left = left.unwrap();
    assert_eq!(left.principal_id, identity.principal_id, "not the new one's");
    assert!(azure.remove_assignment(left.name));
    over("orphan", &settled, "OrphanedRole").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_forerunner_may_not_watch_is_told_with_the_right_that_it_lacks() {
    let settled = Settled::new().await;
    let azure = &settled.sandbox.world.azure;
    let user = settled.sandbox.world.forerunner_user().to_owned();
    let managers = format!("{AKS}/providers/Microsoft.ContainerService/managedClusters/aks");
    let command = format!(
        "--assignee-object-id {user} --assignee-principal-type ServicePrincipal --role \"Reader\" --scope \"{managers}\""
    );
    told("no right", &settled, "Unwatched", &["may not see who has rights", &command], |_| {
        for one in azure.assignments() {
            if one.principal_id.to_string() == user && one.role.to_string() == READER {
                assert!(azure.remove_assignment(one.name));
            }
        }
        let cluster_user = "4abbcc35-e782-43d8-92c5-2d3f1bd2253f".parse().unwrap();
        azure.assign_role(&managers, cluster_user, user.parse().unwrap(), None);
    })
    .await;
    let kubernetes = &settled.sandbox.world.kubernetes;
    azure.assign_role(&managers, READER.parse().unwrap(), user.parse().unwrap(), None);
    over("no right", &settled, "Unwatched").await;
    // An older version's rights in the cluster.
    let parts = ["may not look after the cluster", "clusterroles", "kubectl apply -f -"];
    told("older rights", &settled, "Unwatched", &parts, |_| {
        kubernetes.edit("clusterroles", "", OWN, |role| {
            let rules = role["rules"].as_array_mut().unwrap();
            rules.retain(|rule| rule["resourceNames"].is_null());
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_that_a_job_cannot_tell_apart_are_told_where_the_groups_really_are() {
    // As the file alone has it, neither pattern lies below the other.
    let file = fleet(&format!(
        "rules:\n  - {{ match: {{ groups: 'platform/*' }}, profiles: [plan] }}\n  - {{ match: {{ groups: 'platform/payments/web' }}, profiles: [deep] }}\nprofiles:\n{}  deep: {{ runner: {{ tags: [azure-plan] }}, identity: none }}\n",
        plan_profile()
    ));
    let sandbox = Sandbox::new(&file).await;
    let parent = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.sweep().await;
    assert_eq!(sandbox.findings("Overlap"), vec![]);
    let below = sandbox.world.gitlab.create_group(Some(parent), "web");
    sandbox.settle().await;
    sandbox.sweep().await;
    let found = sandbox.findings("Overlap");
    let [(message, remedy)] = &found[..] else { panic!("{}", sandbox.fleet_status()) };
    for part in ["`azure-plan`", "platform/payments", &format!("runner/g{below}-deep")] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(message.contains("different identities") && remedy.contains("other tags"), "{message}");
}
