//! Everything that a round renders, applied and read back: what the server makes of it is no drift, and what another
//! hand makes of it is.

use super::target::{JSON, Target, both, path};
use crate::rendered::{
    example::{World, company, default_profile, hardened, image_build, map, plain},
    objects,
};
use forerunner::{
    adapters::kubernetes::{DryRun, Force, Kubernetes},
    domain::{
        kubernetes::{Kind, Object},
        names::FIELD_MANAGER,
        render,
        spec::{Amount, Pods, RunnerSpec},
    },
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Metadata that says who wrote when, and not what.
const VOLATILE: [&str; 3] = ["managedFields", "resourceVersion", "generation"];
/// What another hand puts in the place of a text: the first that the server takes. Some fields know a few words only.
const TEXTS: [&str; 22] = [
    "other",
    "b3RoZXI=",
    "7",
    "1m",
    "7Ti",
    "198.51.100.0/24",
    "2001:db8::/64",
    "20.0.0.0/7",
    "20.1.1.1/32",
    "UDP",
    "TCP",
    "Always",
    "Equal",
    "User",
    "restricted",
    "privileged",
    "v1.30",
    "Unconfined",
    "HTTPS",
    "File",
    "Ingress",
    "Egress",
];
/// Fields that nobody can change, or that others in the object hold fast.
const FIXED: [(Kind, &str); 20] = [
    (Kind::Deployment, "/spec/selector/matchLabels/forerunner.dev~1key"),
    (Kind::Deployment, "/spec/strategy/type"),
    (Kind::Deployment, "/spec/template/metadata/labels/forerunner.dev~1key"),
    (Kind::Deployment, "/spec/template/spec/restartPolicy"),
    (Kind::Deployment, "/spec/template/spec/containers/0/livenessProbe/successThreshold"),
    (Kind::Deployment, "/spec/template/spec/containers/0/startupProbe/successThreshold"),
    (Kind::Deployment, "/spec/template/spec/containers/0/securityContext/privileged"),
    (Kind::Deployment, "/spec/template/spec/containers/0/volumeMounts/0/name"),
    (Kind::Deployment, "/spec/template/spec/containers/0/volumeMounts/1/name"),
    (Kind::Deployment, "/spec/template/spec/containers/0/volumeMounts/2/name"),
    (Kind::Deployment, "/spec/template/spec/volumes/0/name"),
    (Kind::Deployment, "/spec/template/spec/volumes/1/name"),
    (Kind::Deployment, "/spec/template/spec/volumes/2/name"),
    (Kind::Deployment, "/spec/template/spec/tolerations/0/effect"),
    (Kind::Deployment, "/spec/template/spec/tolerations/1/effect"),
    (Kind::NetworkPolicy, "/spec/egress/1/to/0/ipBlock/cidr"),
    (Kind::RoleBinding, "/roleRef/apiGroup"),
    (Kind::RoleBinding, "/roleRef/kind"),
    (Kind::RoleBinding, "/roleRef/name"),
    (Kind::Secret, "/type"),
];

/// Runners that differ in all that shows in Kubernetes.
fn examples() -> Vec<(World, RunnerSpec)> {
    let mut proxied = company();
    let proxy = proxied.fleet.cluster.proxy.as_mut().unwrap();
    proxy.https = "http://10.60.0.7:3128".to_owned();
    let mut privileged = default_profile();
    privileged.key = "p9-privileged".parse().unwrap();
    privileged.pods = Pods::Privileged;
    Arc::make_mut(&mut privileged.kubernetes).kubernetes_api = true;
    Arc::make_mut(&mut privileged.kubernetes).runtime_class = Some("kata".to_owned());
    Arc::make_mut(&mut privileged.kubernetes).extra =
        "kubernetes.autoscaler.max_pause_pods = 1".parse().unwrap();
    // As a person writes amounts, and not as the server keeps them.
    let mut amounts = default_profile();
    amounts.key = "g43-amounts".parse().unwrap();
    amounts.runner.concurrent = 100;
    let amount = |request: &str, limit: &str| Amount {
        request: Some(request.to_owned()),
        limit: Some(limit.to_owned()),
    };
    Arc::make_mut(&mut amounts.kubernetes).cpu = amount("0.1", "2000m");
    Arc::make_mut(&mut amounts.kubernetes).memory = amount("0.5Gi", "2048Mi");
    Arc::make_mut(&mut amounts.kubernetes).ephemeral_storage = amount("1e9", "4096Mi");
    Arc::make_mut(&mut amounts.kubernetes).quota = map([
        ("limits.cpu", "1e1"),
        ("limits.memory", "65536Mi"),
        ("requests.cpu", "0.5"),
        ("requests.memory", "1.5Gi"),
        ("requests.ephemeral-storage", "1000Gi"),
        ("pods", "1k"),
    ]);
    vec![
        (company(), hardened()),
        (company(), image_build()),
        (plain(), default_profile()),
        (proxied, privileged),
        (plain(), amounts),
    ]
}

/// As a round writes them, and the live objects. Nobody plays a node here: the managers have no pods.
async fn write_all(target: &Target, world: &World, spec: &RunnerSpec) -> Vec<(Object, Object)> {
    let kubernetes = writer(target, spec);
    let mut written = Vec::new();
    for object in objects(spec, &world.context()) {
        let mut object = object;
        if object.name.kind == Kind::Deployment {
            object = render::deployment(spec, &world.context(), 0);
            render::stamp(&mut object);
        }
        let wrote = if object.name.kind == Kind::Secret {
            kubernetes.create(&object, DryRun::No).await
        } else {
            apply(&kubernetes, &object).await
        };
        wrote.unwrap_or_else(|error| panic!("{}: {}: {error}", target.name(), object.name));
        let live = kubernetes.get(&object.name).await.unwrap().unwrap();
        written.push((object, live));
    }
    written
}

/// forerunner itself; an administrator where only one may, and then under the same name.
fn writer(target: &Target, spec: &RunnerSpec) -> Kubernetes {
    match spec.pods {
        Pods::Privileged => target.adapter(target.administrator_token()),
        Pods::Hardened | Pods::Standard | Pods::ImageBuild => target.forerunner(),
    }
}

async fn apply(
    kubernetes: &Kubernetes,
    object: &Object,
) -> Result<Object, forerunner::adapters::kubernetes::Error> {
    kubernetes.apply(object, FIELD_MANAGER, Force::Yes, DryRun::No).await
}

/// What was found wrong, on which server and where: all of it is told, not the first alone.
type Wrong = std::cell::RefCell<Vec<String>>;

#[tokio::test]
async fn what_a_server_makes_of_our_objects_is_no_drift_and_what_another_hand_does_is() {
    let wrong = Wrong::default();
    both(async |target| {
        for (world, spec) in examples() {
            let written = write_all(target, &world, &spec).await;
            for (object, live) in &written {
                let about = format!("{}: {}", target.name(), object.name);
                assert_eq!(render::differs(object, live), None, "{about}: {}", live.body);
                check_edits(target, &about, object, live, &wrong).await;
                check_additions(target, &about, object, live).await;
            }
            for (object, _) in &written {
                if object.name.kind != Kind::Secret {
                    check_second_apply(target, &spec, object).await;
                    check_repair(target, &spec, object).await;
                }
            }
        }
    })
    .await;
    assert!(wrong.borrow().is_empty(), "{}", wrong.borrow().join("\n"));
}

/// Every single field that we send, changed and taken away by somebody else.
async fn check_edits(target: &Target, about: &str, object: &Object, live: &Object, wrong: &Wrong) {
    let mut pointers = Vec::new();
    collect(&object.body, String::new(), &mut pointers);
    let own = ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"];
    pointers.retain(|pointer| !own.contains(&pointer.as_str()));
    let outcomes = pointers.iter().map(|pointer| async move {
        let taken = change(target, about, object, live, pointer, wrong).await;
        let fixed = FIXED.contains(&(object.name.kind, pointer));
        if taken.is_some() == fixed {
            wrong.borrow_mut().push(format!("{about}: {pointer} takes {taken:?}"));
        }
        let mut without = live.body.clone();
        remove(&mut without, pointer);
        if let Some(edited) = put(target, &without).await {
            check(object, live, &edited, || format!("{about}: without {pointer}"), wrong);
        }
    });
    futures::future::join_all(outcomes).await;
}

/// Another value of the field that the server takes, if it takes any.
async fn change(
    target: &Target,
    about: &str,
    object: &Object,
    live: &Object,
    pointer: &str,
    wrong: &Wrong,
) -> Option<Value> {
    let now = live.body.pointer(pointer);
    let now = now.unwrap_or_else(|| panic!("{about}: no {pointer} in {}", live.body));
    let others: Vec<Value> = match now {
        Value::Bool(now) => vec![json!(!now)],
        Value::Number(now) => {
            let now = now.as_i64().unwrap();
            vec![json!(now + 1), json!(now - 1)]
        }
        Value::String(now) => {
            TEXTS.iter().filter(|text| *text != now).map(|text| json!(text)).collect()
        }
        Value::Object(_) => vec![json!({"matchLabels": {"other": "yes"}})],
        Value::Array(_) => vec![json!(["other"])],
        Value::Null => vec![],
    };
    for other in others {
        let mut body = live.body.clone();
        *body.pointer_mut(pointer).unwrap() = other.clone();
        if let Some(edited) = put(target, &body).await
            && content(&edited.body) != content(&live.body)
        {
            check(object, live, &edited, || format!("{about}: {pointer} is {other}"), wrong);
            return Some(other);
        }
    }
    None
}

/// It is drift exactly where the server did not bring back what was there.
fn check(
    object: &Object,
    live: &Object,
    edited: &Object,
    what: impl Fn() -> String,
    wrong: &Wrong,
) {
    let changed = content(&edited.body) != content(&live.body);
    let found = render::differs(object, edited);
    if found.is_some() != changed {
        let text = format!("{}: drift at {found:?}, changed: {changed}", what());
        wrong.borrow_mut().push(text);
    }
}

fn content(body: &Value) -> Value {
    let mut body = body.clone();
    let fields = body.as_object_mut().unwrap();
    fields.remove("status");
    fields["metadata"].as_object_mut().unwrap().retain(|key, _| !VOLATILE.contains(&key.as_str()));
    body
}

/// What others put beside ours: theirs where Kubernetes merges, drift where it replaces the whole.
async fn check_additions(target: &Target, about: &str, object: &Object, live: &Object) {
    let pod = "/spec/template/spec";
    let additions: BTreeMap<Kind, Vec<(String, Value, bool)>> = BTreeMap::from([
        (
            Kind::Deployment,
            vec![
                (format!("{pod}/containers/-"), json!({"name": "added", "image": "i:1"}), false),
                (format!("{pod}/volumes/-"), json!({"name": "added", "emptyDir": {}}), false),
                (format!("{pod}/nodeSelector/pool"), json!("ci"), true),
                (format!("{pod}/tolerations/-"), json!({"key": "a", "operator": "Exists"}), true),
                (format!("{pod}/containers/0/args/-"), json!("--debug"), true),
                (format!("{pod}/containers/0/lifecycle/preStop/exec/command/-"), json!("x"), true),
                (
                    format!("{pod}/containers/0/securityContext/capabilities/drop/-"),
                    json!("CHOWN"),
                    true,
                ),
                ("/metadata/annotations/example.com~1added".to_owned(), json!("yes"), false),
                ("/spec/template/metadata/labels/added".to_owned(), json!("yes"), false),
            ],
        ),
        (Kind::Namespace, vec![("/metadata/labels/added".to_owned(), json!("yes"), false)]),
        (
            Kind::NetworkPolicy,
            vec![
                ("/spec/egress/-".to_owned(), json!({}), true),
                ("/spec/egress/0/ports/-".to_owned(), json!({"port": 80}), true),
                ("/spec/egress/0/to/-".to_owned(), json!({"ipBlock": {"cidr": "::/0"}}), true),
                ("/spec/egress/0/ports/0/endPort".to_owned(), json!(65535), true),
                ("/spec/podSelector/matchLabels/added".to_owned(), json!("yes"), true),
            ],
        ),
        (
            Kind::RoleBinding,
            vec![(
                "/subjects/-".to_owned(),
                json!({"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"}),
                true,
            )],
        ),
        (
            Kind::LimitRange,
            vec![("/spec/limits/-".to_owned(), json!({"type": "Pod", "max": {"cpu": "1"}}), true)],
        ),
        (
            Kind::ServiceAccount,
            vec![("/imagePullSecrets".to_owned(), json!([{"name": "added"}]), false)],
        ),
    ]);
    for (pointer, value, drift) in additions.get(&object.name.kind).into_iter().flatten() {
        let mut body = live.body.clone();
        add(&mut body, pointer, value);
        let edited = put(target, &body).await;
        let edited = edited.unwrap_or_else(|| panic!("{about}: {pointer} is refused"));
        assert_ne!(content(&edited.body), content(&live.body), "{about}: {pointer} has no effect");
        let found = render::differs(object, &edited);
        assert_eq!(found.is_some(), *drift, "{about}: {pointer}: {found:?}");
    }
}

/// Controllers write a status when they please; whatever else changed was ours.
async fn check_second_apply(target: &Target, spec: &RunnerSpec, object: &Object) {
    let kubernetes = writer(target, spec);
    loop {
        let before = kubernetes.get(&object.name).await.unwrap().unwrap();
        let after = apply(&kubernetes, object).await.unwrap();
        if before.resource_version() == after.resource_version() {
            return;
        }
        let status = |object: &Object| object.body["status"].clone();
        assert_ne!(status(&before), status(&after), "{}: {}", target.name(), object.name);
    }
}

/// In earnest: seen as drift, and gone with the next apply.
async fn check_repair(target: &Target, spec: &RunnerSpec, object: &Object) {
    let kubernetes = writer(target, spec);
    let about = format!("{}: {}", target.name(), object.name);
    let patch = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "kubectl"}}});
    let place = format!("{}?fieldManager=kubectl-edit", path(&object.body));
    let token = target.administrator_token();
    let (status, body) =
        target.call(token, "PATCH", &place, "application/merge-patch+json", &patch).await;
    assert_eq!(status, 200, "{about}: {body}");
    let edited = kubernetes.get(&object.name).await.unwrap().unwrap();
    assert!(render::differs(object, &edited).is_some(), "{about}");
    let mended = apply(&kubernetes, object).await.unwrap();
    assert_eq!(render::differs(object, &mended), None, "{about}");
}

/// As an editor sends an object back, but only tried; what the server would have made of it, unless it refuses.
async fn put(target: &Target, body: &Value) -> Option<Object> {
    let mut body = body.clone();
    // Whatever a controller has written since.
    body["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let place = format!("{}?dryRun=All&fieldManager=kubectl-edit", path(&body));
    let (status, answer) =
        target.call(target.administrator_token(), "PUT", &place, JSON, &body).await;
    match status {
        200 => Some(Object { name: name_of(&answer), body: answer }),
        400 | 422 => None,
        status => panic!("{}: {place}: {status}: {answer}", target.name()),
    }
}

fn name_of(body: &Value) -> forerunner::domain::kubernetes::ObjectName {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    forerunner::domain::kubernetes::ObjectName {
        kind: Kind::Namespace, // `differs` looks at the content alone
        namespace: text(&body["metadata"]["namespace"]),
        name: text(&body["metadata"]["name"]).unwrap_or_default(),
    }
}

/// Everything that has no fields of its own.
fn collect(value: &Value, pointer: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                let key = key.replace('~', "~0").replace('/', "~1");
                collect(value, format!("{pointer}/{key}"), found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                collect(value, format!("{pointer}/{index}"), found);
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => found.push(pointer),
    }
}

fn remove(body: &mut Value, pointer: &str) {
    let (parent, key) = split(pointer);
    let parent = body.pointer_mut(parent).unwrap();
    if let Some(items) = parent.as_array_mut() {
        items.remove(key.parse().unwrap());
    } else {
        parent.as_object_mut().unwrap().remove(&key);
    }
}

/// At the end of a list for `-`; what is missing on the way is made.
fn add(body: &mut Value, pointer: &str, value: &Value) {
    let (parent, key) = split(pointer);
    if body.pointer(parent).is_none_or(Value::is_null) {
        add(body, parent, &json!({}));
    }
    let parent = body.pointer_mut(parent).unwrap();
    match parent.as_array_mut() {
        Some(items) => items.push(value.clone()),
        None => parent[key.as_str()] = value.clone(),
    }
}

fn split(pointer: &str) -> (&str, String) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    (parent, key.replace("~1", "/").replace("~0", "~"))
}
