//! What looks like ours and is not: nothing of it is adopted, reset, deleted or edited, and it gains nothing.

use crate::{
    disturbed::{MANAGED, check_all, entries, inventory, settle},
    harness::Sandbox,
};
use forerunner::sandbox::gitlab::RunnerView;
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt};

const MANAGERS: &str = "forerunner-nonprod";
/// Contributor, and a scope of the fleet's own role.
const CONTRIBUTOR: uuid::Uuid = uuid::Uuid::from_u128(0xb249_88ac_6180_42a0_ab88_20f7_382d_d24c);
const DATA: &str = "/subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/data";

/// Somebody with all rights over one group, and no others.
struct Owner<'a> {
    sandbox: &'a Sandbox,
    token: String,
}

impl<'a> Owner<'a> {
    fn of_group(sandbox: &'a Sandbox, group: u64) -> Self {
        let gitlab = &sandbox.world.gitlab;
        let user = gitlab.add_user(&format!("mallory{group}"), false);
        gitlab.add_group_member(group, user, 50);
        Self { sandbox, token: gitlab.create_access_token(user, &["api"]) }
    }

    /// Makes a runner as anybody may in their own group or project; answers its id.
    async fn create_runner(&self, scope: Value, description: &str) -> u64 {
        let mut body =
            json!({ "description": description, "tag_list": "azure-plan", "paused": false });
        let scope = scope.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(scope);
        let answer = self.post("user/runners", &body).await;
        answer["id"].as_u64().unwrap_or_else(|| panic!("GitLab refused: {answer}"))
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let address = self.sandbox.world.address("gitlab").unwrap();
        let request = reqwest::Client::new()
            .post(format!("http://{address}/api/v4/{path}"))
            .header("Host", "gitlab.example.com")
            .header("Private-Token", &self.token)
            .json(body);
        request.send().await.unwrap().json().await.unwrap()
    }
}

/// A group's runner that its owner made; answers its id.
pub(crate) async fn runner_of(sandbox: &Sandbox, group: u64, description: &str) -> u64 {
    let scope = json!({ "runner_type": "group_type", "group_id": group });
    Owner::of_group(sandbox, group).create_runner(scope, description).await
}

/// A runner that an administrator made by hand, anywhere; answers its id.
pub(crate) async fn runner_at(sandbox: &Sandbox, scope: Value, description: &str) -> u64 {
    let token = sandbox.world.gitlab.admin_token();
    Owner { sandbox, token }.create_runner(scope, description).await
}

pub(crate) fn installation(sandbox: &Sandbox) -> String {
    let namespace = sandbox.world.kubernetes.get("namespaces", "", MANAGERS).unwrap();
    namespace["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// The same marker as the unit's own entity will have.
fn marker(unit: &str, installation: &str) -> String {
    format!("plan [forerunner:nonprod:{installation}:{}:1]", unit.trim_start_matches("runner/"))
}

fn group_of(unit: &str) -> u64 {
    unit.trim_start_matches("runner/g").split('-').next().unwrap().parse().unwrap()
}

/// Where somebody else's runner is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Elsewhere,
    Above,
    ProjectBelow,
    GroupBelow,
}

#[derive(Clone, Copy, Debug)]
enum When {
    Before,
    After,
}

#[derive(Clone, Copy, Debug)]
struct Forgery(Place, When);

impl fmt::Display for Forgery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

async fn forge(sandbox: &Sandbox, unit: &str, place: Place) -> u64 {
    let gitlab = &sandbox.world.gitlab;
    let group = group_of(unit);
    let text = marker(unit, &installation(sandbox));
    let of_group = |group: u64| json!({ "runner_type": "group_type", "group_id": group });
    let (owned, scope) = match place {
        Place::Elsewhere => {
            let other = gitlab.create_group(None, "elsewhere");
            (other, of_group(other))
        }
        Place::Above => (42, of_group(42)),
        Place::GroupBelow => {
            let below = gitlab.create_group(Some(group), "below");
            (below, of_group(below))
        }
        Place::ProjectBelow => {
            let project = gitlab.create_project(group, "app");
            (group, json!({ "runner_type": "project_type", "project_id": project }))
        }
    };
    Owner::of_group(sandbox, owned).create_runner(scope, &text).await
}

/// Wakes the unit as an operator would, and lets everything settle.
async fn look_again(sandbox: &Sandbox, unit: &str) {
    crate::two_writers::process(sandbox)
        .wake(vec![unit.parse().unwrap()], "look-again")
        .await
        .unwrap();
    sandbox.settle().await;
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// What of a runner nobody but its owner may change.
fn kept(runner: Option<RunnerView>) -> Value {
    json!(runner)
}

#[test]
fn a_forged_marker_on_another_owners_runner_gains_nothing() {
    use Place::{Above, Elsewhere, GroupBelow, ProjectBelow};
    let places = [Elsewhere, Above, ProjectBelow, GroupBelow];
    let cases: Vec<Forgery> = places
        .into_iter()
        .flat_map(|place| [Forgery(place, When::Before), Forgery(place, When::After)])
        .collect();
    check_all(&cases, async |Forgery(place, when)| {
        let sandbox = Sandbox::new(MANAGED.fleet).await;
        let unit = (MANAGED.begin)(&sandbox);
        if let When::After = when {
            settle(&sandbox, &unit).await?;
        }
        let forged = forge(&sandbox, &unit, place).await;
        let before = kept(sandbox.world.gitlab.runner(forged));
        settle(&sandbox, &unit).await?;
        look_again(&sandbox, &unit).await;
        let after = kept(sandbox.world.gitlab.runner(forged));
        ensure(before == after, || format!("it was touched: {before} became {after}"))?;
        let kept: Vec<u64> = sandbox
            .world
            .kubernetes
            .list("secrets", MANAGERS)
            .iter()
            .flat_map(entries)
            .map(|(id, _)| id)
            .collect();
        let runners = sandbox.world.gitlab.runners();
        let own: Vec<u64> = runners.iter().map(|one| one.id).filter(|id| *id != forged).collect();
        ensure(own.len() == 1 && kept == own, || {
            format!("runners {own:?}, kept {kept:?}\n{}", sandbox.story())
        })?;
        ensure(sandbox.is_ready(&unit), || sandbox.status(&unit).to_string())
    });
}

#[test]
fn a_runner_without_our_marker_is_let_alone() {
    crate::disturbed::run(async {
        let sandbox = Sandbox::new(MANAGED.fleet).await;
        let unit = (MANAGED.begin)(&sandbox);
        let group = group_of(&unit);
        let owner = Owner::of_group(&sandbox, group);
        let scope = json!({ "runner_type": "group_type", "group_id": group });
        let theirs = owner.create_runner(scope, "plan").await;
        let before = kept(sandbox.world.gitlab.runner(theirs));
        settle(&sandbox, &unit).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(kept(sandbox.world.gitlab.runner(theirs)), before);
        assert_eq!(sandbox.world.gitlab.runners().len(), 2);
    });
}

/// Settles a unit that must end parked, and answers why it is.
async fn parked(sandbox: &Sandbox, unit: &str) -> Result<String, String> {
    let settled = sandbox.world.settle(SignedDuration::from_hours(3)).await;
    settled.map_err(|error| format!("{error}\n{}", sandbox.story()))?;
    // Once more by the sweep: what is parked is tried again, and gains nothing by it.
    sandbox.pass(SignedDuration::from_mins(25)).await;
    let settled = sandbox.world.settle(SignedDuration::from_hours(3)).await;
    settled.map_err(|error| format!("{error}\n{}", sandbox.story()))?;
    let status = sandbox.status(unit);
    let reason = status["parked"]["reason"].as_str();
    reason.map(str::to_owned).ok_or_else(|| format!("not parked: {status}\n{}", sandbox.story()))
}

#[test]
fn an_identity_of_our_name_without_our_tags_is_let_alone() {
    crate::disturbed::run(async {
        let sandbox = Sandbox::new(MANAGED.fleet).await;
        let unit = (MANAGED.begin)(&sandbox);
        let name = format!("id-nonprod--{}", unit.trim_start_matches("runner/"));
        let id = format!(
            "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-runner-identities/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
        );
        let azure = &sandbox.world.azure;
        let tags = BTreeMap::from([("owner".to_owned(), "somebody".to_owned())]);
        let theirs = azure.add_existing_identity(&id, tags.clone());
        let reason = parked(&sandbox, &unit).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(
            reason.contains("does not bear our tags: if it was ours, give them back"),
            "{reason}"
        );
        let now = azure.identities().into_iter().find(|one| one.id == theirs.id).unwrap();
        assert_eq!(now.tags, tags);
        assert_eq!(azure.credentials(&theirs.id).len(), 0);
        let given = azure.assignments();
        assert!(given.iter().all(|one| one.principal_id != theirs.principal_id), "{given:?}");
        // No job signs in as it, and the runner is not opened.
        let accounts = sandbox.world.kubernetes.list("serviceaccounts", "");
        let client = theirs.client_id.to_string();
        assert!(!json!(accounts).to_string().contains(&client));
        assert!(sandbox.world.gitlab.runners().iter().all(|runner| runner.paused));
    });
}

/// An object that somebody made under a name of ours.
#[derive(Clone)]
struct Squatter {
    plural: &'static str,
    object: fn(&str) -> Value,
    /// What must not have come to be beside it, as plural and namespace.
    never: &'static [(&'static str, &'static str)],
}

impl fmt::Display for Squatter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.plural)
    }
}

fn metadata(namespace: &str, name: &str) -> Value {
    json!({ "namespace": namespace, "name": name, "labels": { "team": "somebody" } })
}

fn their_secret(key: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata(MANAGERS, &format!("runner-{key}-config")),
        "data": { "theirs": "dGhlaXJz" } })
}

fn their_deployment(key: &str) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(MANAGERS, &format!("runner-{key}")),
        "spec": { "replicas": 0, "selector": { "matchLabels": { "app": "theirs" } }, "template": {
            "metadata": { "labels": { "app": "theirs" } },
            "spec": { "containers": [{ "name": "theirs", "image": "registry.example.com/theirs:1" }] } } } })
}

fn their_account(key: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(MANAGERS, &format!("runner-{key}")) })
}

fn their_policy(key: &str) -> Value {
    json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": metadata(MANAGERS, &format!("runner-{key}")), "spec": { "podSelector": {} } })
}

fn their_namespace(key: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": format!("ci-nonprod--{key}"), "labels": { "team": "somebody" } } })
}

const SQUATTERS: [Squatter; 5] = [
    Squatter { plural: "secrets", object: their_secret, never: &[("deployments", MANAGERS)] },
    Squatter { plural: "deployments", object: their_deployment, never: &[] },
    Squatter {
        plural: "serviceaccounts",
        object: their_account,
        never: &[("deployments", MANAGERS)],
    },
    Squatter { plural: "networkpolicies", object: their_policy, never: &[] },
    Squatter {
        plural: "namespaces",
        object: their_namespace,
        never: &[
            ("rolebindings", "ci-nonprod--KEY"),
            ("resourcequotas", "ci-nonprod--KEY"),
            ("limitranges", "ci-nonprod--KEY"),
            ("networkpolicies", "ci-nonprod--KEY"),
        ],
    },
];

#[test]
fn an_object_of_our_name_without_our_labels_is_let_alone() {
    check_all(&SQUATTERS, async |squatter| {
        let sandbox = Sandbox::new(MANAGED.fleet).await;
        // Only the shipped admission policy would refuse; forerunner must not even try.
        let policies = sandbox.world.kubernetes.list("validatingadmissionpolicybindings", "");
        for policy in policies {
            let name = policy["metadata"]["name"].as_str().unwrap();
            let kubernetes = &sandbox.world.kubernetes;
            kubernetes.delete_as_admin("validatingadmissionpolicybindings", "", name);
        }
        let unit = (MANAGED.begin)(&sandbox);
        let key = unit.trim_start_matches("runner/");
        let object = (squatter.object)(key);
        sandbox.world.kubernetes.apply_as_admin(object.clone()).map_err(|why| why.to_string())?;
        let find = || {
            let (namespace, name) = (&object["metadata"]["namespace"], &object["metadata"]["name"]);
            let namespace = namespace.as_str().unwrap_or_default();
            sandbox.world.kubernetes.get(squatter.plural, namespace, name.as_str().unwrap())
        };
        let theirs = |object: Option<Value>| {
            let object = object.unwrap_or_default();
            json!([
                object["metadata"]["labels"],
                object["metadata"]["annotations"],
                object["spec"],
                object["data"],
                object["metadata"]["uid"]
            ])
        };
        let before = theirs(find());
        let reason = parked(&sandbox, &unit).await?;
        ensure(reason.contains("not ours"), || format!("it says: {reason}"))?;
        let after = theirs(find());
        ensure(before == after, || format!("{before} became {after}"))?;
        for (plural, namespace) in squatter.never {
            let namespace = namespace.replace("KEY", key);
            let found = sandbox.world.kubernetes.list(plural, &namespace);
            ensure(found.is_empty(), || format!("{plural} in {namespace}: {found:?}"))?;
        }
        Ok(())
    });
}

#[test]
fn the_marker_of_another_installation_stops_the_units_writes_in_gitlab() {
    crate::disturbed::run(async {
        let sandbox = Sandbox::new(MANAGED.fleet).await;
        let unit = (MANAGED.begin)(&sandbox);
        let group = group_of(&unit);
        let owner = Owner::of_group(&sandbox, group);
        let scope = json!({ "runner_type": "group_type", "group_id": group });
        let text = marker(&unit, "00000000-0000-4000-8000-0000000000ff");
        let theirs = owner.create_runner(scope, &text).await;
        let before = kept(sandbox.world.gitlab.runner(theirs));
        let reason = parked(&sandbox, &unit).await.unwrap_or_else(|error| panic!("{error}"));
        assert!(reason.contains("forerunner adopt --fleet"), "{reason}");
        assert_eq!(kept(sandbox.world.gitlab.runner(theirs)), before);
        let writes = sandbox.own_calls().into_iter().filter(|call| call.starts_with("Gitlab "));
        let reads = ["Gitlab GET ", "Gitlab POST /api/graphql"];
        let writes = writes.filter(|call| !reads.iter().any(|read| call.starts_with(read)));
        let writes: Vec<String> = writes.collect();
        assert_eq!(writes, [""; 0], "{}", sandbox.story());
    });
}

#[test]
fn a_role_that_an_administrator_gave_under_another_name_is_not_given_twice() {
    crate::disturbed::run(async {
        let sandbox = Sandbox::new(MANAGED.fleet).await;
        let unit = (MANAGED.begin)(&sandbox);
        settle(&sandbox, &unit).await.unwrap_or_else(|error| panic!("{error}"));
        let before = inventory(&sandbox);
        let azure = &sandbox.world.azure;
        let ours = azure.assignments().into_iter();
        let mut ours = ours.filter(|one| one.role == CONTRIBUTOR && one.scope == DATA);
        let ours = ours.next().unwrap_or_else(|| panic!("{:?}", azure.assignments()));
        assert!(azure.remove_assignment(ours.name));
        azure.assign_role(DATA, CONTRIBUTOR, ours.principal_id, None);
        look_again(&sandbox, &unit).await;
        assert_eq!(inventory(&sandbox), before, "{}", sandbox.story());
        assert!(sandbox.is_ready(&unit));
    });
}
