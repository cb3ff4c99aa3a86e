//! What an administrator applied to the cluster, held against what the file asks to be applied.

use crate::domain::{
    fleet::Fleet,
    fleet_status::{Finding, FindingKind},
    kubernetes::{Kind, Object, ObjectName},
    names,
    render::{self, administrator::AdministratorInput},
};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

/// An object that is an administrator's, as forerunner may see it.
#[derive(Clone, Debug)]
pub enum Seen {
    /// 404 by its own name.
    Absent,
    /// forerunner may not look, and why.
    Hidden(String),
    Found(Object),
}

/// What a sweep looked at.
#[derive(Clone, Debug)]
pub struct ClusterObserved {
    pub manager_role: Seen,
    pub policy: Seen,
    pub policy_binding: Seen,
    /// The RoleBinding that gives forerunner its rights in the managers' namespace: it says who forerunner is here.
    pub own_binding: Seen,
    /// Only looked for where a profile has an identity.
    pub webhook: Option<Seen>,
}

/// The names to look for.
pub fn manager_role(fleet: &Fleet) -> ObjectName {
    ObjectName::of_cluster(Kind::ClusterRole, &fleet.settings().cluster.manager_cluster_role)
}

pub fn policy(fleet: &Fleet, kind: Kind) -> ObjectName {
    ObjectName::of_cluster(kind, &names::own_rights(&fleet.settings().name))
}

pub fn own_binding(fleet: &Fleet) -> ObjectName {
    let settings = fleet.settings();
    let name = names::own_rights(&settings.name);
    ObjectName::new(Kind::RoleBinding, &settings.cluster.managers_namespace, &name)
}

pub fn webhook() -> ObjectName {
    ObjectName::of_cluster(Kind::MutatingWebhookConfiguration, names::IDENTITY_WEBHOOK)
}

pub fn findings(fleet: &Fleet, observed: &ClusterObserved, now: Timestamp) -> Vec<Finding> {
    let users = users(&observed.own_binding);
    let mut found = Vec::new();
    found.extend(judge_role(fleet, &observed.manager_role, now));
    found.extend(judge_policy(fleet, observed, &users, now));
    let name = policy(fleet, Kind::ValidatingAdmissionPolicyBinding);
    let wanted = shipped(fleet, "", "ValidatingAdmissionPolicyBinding");
    let binding = judge_admission(&name, &[wanted], &observed.policy_binding, &users, now);
    found.extend(binding);
    if let Some(Seen::Absent) = &observed.webhook {
        let message = format!(
            "the cluster has no {}: job pods get no token to sign in to Azure with",
            webhook()
        );
        let remedy = match &fleet.settings().cluster.access {
            crate::domain::spec::ClusterAccess::Aks(id) => {
                format!("az aks update --ids {id} --enable-oidc-issuer --enable-workload-identity")
            }
            crate::domain::spec::ClusterAccess::Kubeconfig(_) => {
                "install the azure-workload-identity webhook in the cluster".to_owned()
            }
        };
        found.push(Finding::new(FindingKind::IdentityWebhook, message, remedy, now));
    }
    let all = [&observed.manager_role, &observed.policy, &observed.policy_binding];
    let hidden = all.into_iter().chain(&observed.webhook).filter_map(|seen| match seen {
        Seen::Hidden(reason) => Some(reason.as_str()),
        Seen::Absent | Seen::Found(_) => None,
    });
    let hidden: Vec<&str> = hidden.collect();
    if !hidden.is_empty() {
        let message = format!("forerunner may not look after the cluster: {}", hidden.join("; "));
        let own = names::own_rights(&fleet.settings().name);
        let select = format!(".metadata.name == \"{own}\"");
        let remedy = command(&users, &select, "apply");
        found.push(Finding::new(FindingKind::Unwatched, message, remedy, now));
    }
    found
}

/// Whom the cluster knows forerunner as.
fn users(binding: &Seen) -> Vec<String> {
    let Seen::Found(binding) = binding else { return vec![] };
    let subjects = binding.body["subjects"].as_array().into_iter().flatten();
    let users = subjects.filter(|subject| subject["kind"] == "User");
    users.filter_map(|subject| subject["name"].as_str().map(str::to_owned)).collect()
}

/// The object that an administrator applies, with this user for forerunner.
fn shipped(fleet: &Fleet, user: &str, kind: &str) -> Value {
    let settings = fleet.settings();
    let privileged = fleet.privileged_namespaces();
    let input = AdministratorInput {
        fleet: &settings.name,
        managers_namespace: &settings.cluster.managers_namespace,
        manager_cluster_role: &settings.cluster.manager_cluster_role,
        forerunner_user: user,
        privileged_namespaces: &privileged,
    };
    let objects = render::administrator::administrator(&input, &[]);
    objects.into_iter().find(|object| object["kind"] == kind).unwrap_or_default()
}

/// The same for a command; a word stands for whom nobody knows.
pub fn principal(observed: &ClusterObserved) -> String {
    first(&users(&observed.own_binding))
}

fn first(users: &[String]) -> String {
    users.first().cloned().unwrap_or_else(|| "PRINCIPAL".to_owned())
}

/// Prints the object for this fleet and gives it to the cluster.
fn command(users: &[String], select: &str, verb: &str) -> String {
    let principal = first(users);
    format!(
        "forerunner admin-steps --json --principal {principal} | jq '.objects[] | select({select})' | kubectl {verb} -f -"
    )
}

fn judge_role(fleet: &Fleet, seen: &Seen, now: Timestamp) -> Option<Finding> {
    let name = manager_role(fleet);
    let finding = |message: String, verb: &str| {
        let remedy = format!(
            "forerunner check --rights --json fleet.yaml | jq .clusterRole | kubectl {verb} -f -"
        );
        Some(Finding::new(FindingKind::ManagerRole, message, remedy, now))
    };
    let live = match seen {
        Seen::Hidden(_) => return None,
        Seen::Absent => {
            return finding(format!("{name} does not exist: no manager can run jobs"), "apply");
        }
        Seen::Found(live) => live,
    };
    let asked = render::manager_cluster_role(&name.name, &fleet.sample_runners());
    let (wanted, live) = (rights(&asked.body), rights(&live.body));
    let list = |rights: BTreeSet<&Right>| {
        let rights = rights.into_iter().take(SHOWN).map(Right::to_string);
        rights.collect::<Vec<_>>().join(", ")
    };
    let (more, less) =
        (list(live.difference(&wanted).collect()), list(wanted.difference(&live).collect()));
    let message = match (more.is_empty(), less.is_empty()) {
        (true, true) => return None,
        (false, true) => format!("{name} lets every manager do more than the file asks: {more}"),
        (true, false) => format!("{name} lacks what managers need: {less}"),
        (false, false) => {
            format!("{name} was changed: more than the file asks: {more}; missing: {less}")
        }
    };
    finding(message, "replace")
}

/// Rights of one role that are named in one finding.
const SHOWN: usize = 8;

/// One verb on one resource.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    verb: String,
    group: String,
    resource: String,
    /// Objects it is restricted to; empty: all.
    names: Vec<String>,
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { verb, group, resource, names } = self;
        let dot = if group.is_empty() { "" } else { "." };
        write!(f, "{verb} {resource}{dot}{group}")?;
        match names.as_slice() {
            [] => Ok(()),
            [..] => write!(f, " ({})", names.join(", ")),
        }
    }
}

fn rights(role: &Value) -> BTreeSet<Right> {
    let texts = |rule: &Value, key: &str| -> Vec<String> {
        let list = rule[key].as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let mut names = texts(rule, "resourceNames");
        names.sort();
        for verb in texts(rule, "verbs") {
            for group in texts(rule, "apiGroups") {
                for resource in texts(rule, "resources") {
                    let (verb, group) = (verb.clone(), group.clone());
                    all.insert(Right { verb, group, resource, names: names.clone() });
                }
            }
            let paths = texts(rule, "nonResourceURLs").into_iter();
            all.extend(paths.map(|resource| {
                let (verb, group) = (verb.clone(), String::new());
                Right { verb, group, resource, names: vec![] }
            }));
        }
    }
    all
}

fn judge_policy(
    fleet: &Fleet,
    observed: &ClusterObserved,
    users: &[String],
    now: Timestamp,
) -> Option<Finding> {
    let name = policy(fleet, Kind::ValidatingAdmissionPolicy);
    let wanted: Vec<Value> =
        users.iter().map(|user| shipped(fleet, user, "ValidatingAdmissionPolicy")).collect();
    judge_admission(&name, &wanted, &observed.policy, users, now)
}

/// One of `wanted` must be there, field by field.
fn judge_admission(
    name: &ObjectName,
    wanted: &[Value],
    seen: &Seen,
    users: &[String],
    now: Timestamp,
) -> Option<Finding> {
    let (_, kind, _) = name.kind.wire();
    let finding = |message: String, verb: &str| {
        let remedy = command(users, &format!(".kind == \"{kind}\""), verb);
        Some(Finding::new(FindingKind::AdmissionPolicy, message, remedy, now))
    };
    let live = match seen {
        Seen::Hidden(_) => return None,
        Seen::Absent => {
            let message = format!(
                "{name} does not exist: nothing confines forerunner, or who has stolen its identity"
            );
            return finding(message, "apply");
        }
        Seen::Found(live) => without_defaults(&live.body["spec"]),
    };
    let mut edits = wanted.iter().map(|wanted| edited(&wanted["spec"], &live));
    let Some(first) = edits.next() else {
        return finding(
            format!("{name} confines nobody whom forerunner's RoleBinding names"),
            "replace",
        );
    };
    let first = first?;
    if edits.any(|edit| edit.is_none()) {
        return None;
    }
    let message = format!("{name} is not as it was shipped: spec.{first} differs");
    finding(message, "replace")
}

/// The first field that is not as shipped. A confinement must not hold more either: an exception is a field too.
fn edited(wanted: &Value, live: &Value) -> Option<String> {
    render::value_differences(wanted, live).into_iter().next().map(|difference| difference.path)
}

/// What every API server fills in where nothing is said.
fn without_defaults(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for key in ["matchConstraints", "matchResources"] {
        let Some(matching) = spec.get_mut(key).and_then(Value::as_object_mut) else { continue };
        let is_default = |key: &str, value: &Value| match key {
            "matchPolicy" => value == "Equivalent",
            "namespaceSelector" | "objectSelector" => {
                value.as_object().is_some_and(serde_json::Map::is_empty)
            }
            _ => false,
        };
        matching.retain(|key, value| !is_default(key, value));
        let rules = matching.get_mut("resourceRules").and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten().filter_map(Value::as_object_mut) {
            rule.retain(|key, value| key != "scope" || value != "*");
        }
    }
    spec
}
