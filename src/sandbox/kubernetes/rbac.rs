//! Who may do what: the rules of stored roles and bindings, and what every authenticated user may do.
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>

use super::{User, kinds::Kind, status::Status, store::State};
use serde_json::{Value, json};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    pub(super) verb: String,
    pub(super) group: String,
    /// With its subresource: `pods/log`.
    pub(super) resource: String,
    /// Empty for all namespaces and for the cluster's own objects.
    pub(super) namespace: String,
    /// Empty where the request names none.
    pub(super) name: String,
}

pub(super) fn authorize(
    state: &State,
    user: &User,
    kind: &Kind,
    asked: &Attributes,
) -> Result<(), Status> {
    if allowed(state, user, asked) {
        return Ok(());
    }
    let place = match asked.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let why = format!(
        "User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {place}",
        user.name, asked.verb, asked.resource, asked.group
    );
    Err(Status::forbidden(kind, &asked.name, &why))
}

pub(super) fn allowed(state: &State, user: &User, asked: &Attributes) -> bool {
    if user.is_master() {
        return true;
    }
    if asked.resource == "selfsubjectaccessreviews" && asked.verb == "create" {
        return user.is_authenticated();
    }
    rules_of(state, user, &asked.namespace).iter().any(|rule| grants(rule, asked))
}

/// Paths that are no resource: discovery and health.
pub(super) fn path_allowed(state: &State, user: &User, verb: &str, path: &str) -> bool {
    const PUBLIC: [&str; 4] = ["/version", "/healthz", "/livez", "/readyz"];
    if user.is_master() || PUBLIC.contains(&path) {
        return true;
    }
    let discovery = ["/.well-known/openid-configuration", "/openid/v1/jwks"].contains(&path);
    if discovery && user.groups.iter().any(|group| group == "system:serviceaccounts") {
        return true;
    }
    if user.is_authenticated() && (path == "/api" || path.starts_with("/api")) {
        return true;
    }
    rules_of(state, user, "").iter().any(|rule| {
        has(rule, "verbs", verb)
            && texts(rule, "nonResourceURLs").any(|url| {
                url == path || url.strip_suffix('*').is_some_and(|start| path.starts_with(start))
            })
    })
}

/// Refuses whoever would hand out rights they do not hold and may not bind or escalate.
pub(super) fn refuse_escalation(
    state: &State,
    user: &User,
    kind: &Kind,
    object: &Value,
) -> Result<(), Status> {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let (verb, plural, role, rules) = match kind.kind {
        "RoleBinding" | "ClusterRoleBinding" => {
            let role = object["roleRef"]["name"].as_str().unwrap_or_default();
            let cluster = object["roleRef"]["kind"] == "ClusterRole";
            let plural = if cluster { "clusterroles" } else { "roles" };
            let place = if cluster { "" } else { namespace };
            let found = state.find(plural, place, role);
            let rules = found.map(|found| found["rules"].clone());
            ("bind", plural, role.to_owned(), rules)
        }
        "Role" | "ClusterRole" => {
            ("escalate", kind.plural, name.to_owned(), Some(object["rules"].clone()))
        }
        _ => return Ok(()),
    };
    let asked = Attributes {
        verb: verb.to_owned(),
        group: "rbac.authorization.k8s.io".to_owned(),
        resource: plural.to_owned(),
        namespace: namespace.to_owned(),
        name: role.clone(),
    };
    if allowed(state, user, &asked) {
        return Ok(());
    }
    let Some(rules) = rules else {
        let role_kind = super::kinds::known(plural);
        return Err(Status::not_found(role_kind, &role));
    };
    let held = rules_of(state, user, namespace);
    let missing: Vec<String> = rules
        .as_array()
        .into_iter()
        .flatten()
        .filter(|rule| !covered(rule, &held))
        .map(display)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let groups: Vec<String> = user.groups.iter().map(|group| format!("\"{group}\"")).collect();
    let why = format!(
        "user \"{}\" (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        missing.join("\n")
    );
    Err(Status::forbidden(kind, name, &why))
}

/// All rules that hold for the user in a namespace; with none, those of the cluster.
fn rules_of(state: &State, user: &User, namespace: &str) -> Vec<Value> {
    let mut rules = Vec::new();
    let mut bound = |binding: &Value, namespace: &str| {
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        if !subjects.into_iter().any(|subject| is_subject(user, subject, namespace)) {
            return;
        }
        let role = binding["roleRef"]["name"].as_str().unwrap_or_default();
        let role = match binding["roleRef"]["kind"].as_str() {
            Some("ClusterRole") => state.find("clusterroles", "", role),
            _ => state.find("roles", namespace, role),
        };
        let granted = role.and_then(|role| role["rules"].as_array());
        rules.extend(granted.into_iter().flatten().cloned());
    };
    state.list("clusterrolebindings", None).for_each(|binding| bound(binding, ""));
    if !namespace.is_empty() {
        state.list("rolebindings", Some(namespace)).for_each(|binding| bound(binding, namespace));
    }
    rules
}

fn is_subject(user: &User, subject: &Value, namespace: &str) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => user.name == name,
        Some("Group") => user.groups.iter().any(|group| group == name),
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or(namespace);
            user.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

fn grants(rule: &Value, asked: &Attributes) -> bool {
    let names: Vec<&str> = texts(rule, "resourceNames").collect();
    has(rule, "verbs", &asked.verb)
        && has(rule, "apiGroups", &asked.group)
        && has_resource(rule, &asked.resource)
        && (names.is_empty() || names.contains(&asked.name.as_str()))
}

fn has(rule: &Value, list: &str, wanted: &str) -> bool {
    texts(rule, list).any(|text| text == "*" || text == wanted)
}

fn has_resource(rule: &Value, wanted: &str) -> bool {
    let sub = wanted.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    texts(rule, "resources")
        .any(|text| text == "*" || text == wanted || sub.as_deref() == Some(text))
}

fn texts<'a>(rule: &'a Value, list: &str) -> impl Iterator<Item = &'a str> {
    rule[list].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether every single right of the rule is held.
fn covered(rule: &Value, held: &[Value]) -> bool {
    let names: Vec<&str> = texts(rule, "resourceNames").collect();
    let names = if names.is_empty() { vec![""] } else { names };
    let mut all = true;
    for verb in texts(rule, "verbs") {
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                for name in &names {
                    let asked = Attributes {
                        verb: verb.to_owned(),
                        group: group.to_owned(),
                        resource: resource.to_owned(),
                        namespace: String::new(),
                        name: (*name).to_owned(),
                    };
                    all &= held.iter().any(|rule| grants(rule, &asked));
                }
            }
        }
        for url in texts(rule, "nonResourceURLs") {
            all &= held
                .iter()
                .any(|rule| has(rule, "verbs", verb) && has(rule, "nonResourceURLs", url));
        }
    }
    all
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`
fn display(rule: &Value) -> String {
    let mut parts = Vec::new();
    for (label, list) in [
        ("APIGroups", "apiGroups"),
        ("Resources", "resources"),
        ("ResourceNames", "resourceNames"),
        ("NonResourceURLs", "nonResourceURLs"),
        ("Verbs", "verbs"),
    ] {
        let items: Vec<String> = texts(rule, list).map(|text| format!("\"{text}\"")).collect();
        if !items.is_empty() {
            parts.push(format!("{label}:[{}]", items.join(" ")));
        }
    }
    format!("{{{}}}", parts.join(", "))
}

/// Answers a SelfSubjectAccessReview.
pub(super) fn review(state: &State, user: &User, review: &Value) -> Value {
    let asked = &review["spec"]["resourceAttributes"];
    let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
    let allowed = if asked.is_null() {
        let path = &review["spec"]["nonResourceAttributes"];
        let text = |name: &str| path[name].as_str().unwrap_or_default();
        path_allowed(state, user, text("verb"), text("path"))
    } else {
        let resource = match text("subresource").as_str() {
            "" => text("resource"),
            sub => format!("{}/{sub}", text("resource")),
        };
        let asked = Attributes {
            verb: text("verb"),
            group: text("group"),
            resource,
            namespace: text("namespace"),
            name: text("name"),
        };
        self::allowed(state, user, &asked)
    };
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "metadata": {}, "spec": review["spec"], "status": {"allowed": allowed},
    })
}
