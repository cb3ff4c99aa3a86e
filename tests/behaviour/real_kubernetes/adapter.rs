//! Every method of the adapter, as forerunner's own user, on both servers.

use super::target::{APPLY, JSON, MANAGERS, Target, both};
use forerunner::{
    adapters::kubernetes::{DryRun, Error, Force, Kubernetes, Preconditions},
    domain::{
        class::Class,
        kubernetes::{Kind, Object, ObjectName},
    },
};
use serde_json::{Value, json};

const MANAGER: &str = "forerunner";

fn object(name: &ObjectName, rest: Value) -> Object {
    let (api_version, kind, _) = name.kind.wire();
    let mut body =
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name.name}});
    if let Some(namespace) = &name.namespace {
        body["metadata"]["namespace"] = namespace.as_str().into();
    }
    for (key, value) in rest.as_object().unwrap() {
        match (key.as_str(), value.as_object()) {
            ("metadata", Some(fields)) => fields.iter().for_each(|(key, value)| {
                body["metadata"][key] = value.clone();
            }),
            _ => body[key] = value.clone(),
        }
    }
    Object { name: name.clone(), body }
}

fn config_map(name: &str, data: Value) -> Object {
    object(&ObjectName::new(Kind::ConfigMap, MANAGERS, name), json!({"data": data}))
}

async fn apply(kubernetes: &Kubernetes, object: &Object) -> Result<Object, Error> {
    kubernetes.apply(object, MANAGER, Force::No, DryRun::No).await
}

fn deployment(name: &str, image: &str) -> Object {
    let spec = json!({
        "replicas": 0, "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": image}]},
        },
    });
    object(&ObjectName::new(Kind::Deployment, MANAGERS, name), json!({"spec": spec}))
}

#[tokio::test]
async fn an_apply_that_changes_nothing_leaves_the_version_alone() {
    both(async |target| {
        let kubernetes = target.forerunner();
        for object in [config_map("same", json!({"a": "1"})), deployment("same", "img:1")] {
            apply(&kubernetes, &object).await.unwrap();
            // A Deployment's controller writes its status once.
            target
                .eventually("the controllers have seen it", async || {
                    let seen = kubernetes.get(&object.name).await.unwrap().unwrap().body;
                    seen["metadata"]["generation"] == seen["status"]["observedGeneration"]
                })
                .await;
            let first = kubernetes.get(&object.name).await.unwrap().unwrap();
            let again = apply(&kubernetes, &object).await.unwrap();
            let version = |of: &Object| of.resource_version().map(str::to_owned);
            assert_eq!(version(&again), version(&first), "{}: {}", target.name(), object.name);
            let tried = kubernetes.apply(&object, MANAGER, Force::Yes, DryRun::Yes).await.unwrap();
            assert_eq!(version(&tried), version(&first), "{}: dry run", target.name());
        }
    })
    .await;
}

#[tokio::test]
async fn a_field_we_no_longer_want_goes_with_the_next_apply() {
    both(async |target| {
        let kubernetes = target.forerunner();
        apply(&kubernetes, &config_map("fields", json!({"a": "1", "b": "2"}))).await.unwrap();
        let left = apply(&kubernetes, &config_map("fields", json!({"a": "1"}))).await.unwrap();
        assert_eq!(left.body["data"], json!({"a": "1"}), "{}", target.name());
    })
    .await;
}

/// As `kubectl apply --server-side`, `kubectl apply`, and Terraform's provider write.
#[tokio::test]
async fn fields_that_others_hold_are_taken_over_with_force_only() {
    both(async |target| {
        let kubernetes = target.forerunner();
        let name = "taken";
        apply(&kubernetes, &deployment(name, "img:1")).await.unwrap();
        let path = format!("/apis/apps/v1/namespaces/{MANAGERS}/deployments/{name}");
        let other = deployment(name, "img:other").body;
        let by_apply = format!("{path}?fieldManager=Terraform&force=true");
        let token = target.administrator_token();
        let (status, body) = target.call(token, "PATCH", &by_apply, APPLY, &other).await;
        assert_eq!(status, 200, "{body}");
        let ours = deployment(name, "img:1");
        let error = apply(&kubernetes, &ours).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Conflict { .. }), "{}: {text}", target.name());
        for part in ["\"Terraform\"", ".spec.template.spec.containers[name=\"c\"].image"] {
            assert!(text.contains(part), "{}: no {part} in {text}", target.name());
        }
        let taken = kubernetes.apply(&ours, MANAGER, Force::Yes, DryRun::No).await.unwrap();
        let image = &taken.body["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(*image, "img:1", "{}", target.name());
        // An update, as an editor and client-side apply send one, makes its writer an owner of what it changed.
        let merge = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "img:2"}]}}}});
        let by_patch = format!("{path}?fieldManager=kubectl-client-side-apply");
        let strategic = "application/strategic-merge-patch+json";
        let merge_patch = "application/merge-patch+json";
        let kind = if matches!(target, Target::Real(_)) { strategic } else { merge_patch };
        let (status, body) = target.call(token, "PATCH", &by_patch, kind, &merge).await;
        assert_eq!(status, 200, "{body}");
        let error = apply(&kubernetes, &ours).await.unwrap_err().to_string();
        assert!(error.contains("kubectl-client-side-apply"), "{}: {error}", target.name());
        let taken = kubernetes.apply(&ours, MANAGER, Force::Yes, DryRun::No).await.unwrap();
        let image = &taken.body["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(*image, "img:1", "{}", target.name());
        apply(&kubernetes, &ours).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn unknown_and_wrong_fields_are_refused() {
    both(async |target| {
        let kubernetes = target.forerunner();
        let check = async |object: Object, words: &str| {
            let error = apply(&kubernetes, &object).await.unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::Invalid { .. }), "{}: {text}", target.name());
            assert!(text.contains(words), "{}: no `{words}` in `{text}`", target.name());
        };
        let mut unknown = deployment("unknown", "img:1");
        unknown.body["spec"]["replica"] = 1.into();
        check(unknown, "spec.replica").await;
        let mut negative = deployment("negative", "img:1");
        negative.body["spec"]["replicas"] = (-1).into();
        check(negative, "spec.replicas").await;
        apply(&kubernetes, &deployment("fixed", "img:1")).await.unwrap();
        let mut moved = deployment("fixed", "img:1");
        moved.body["spec"]["selector"] = json!({"matchLabels": {"app": "moved"}});
        moved.body["spec"]["template"]["metadata"]["labels"] = json!({"app": "moved"});
        let error = kubernetes.apply(&moved, MANAGER, Force::Yes, DryRun::No).await.unwrap_err();
        assert!(error.to_string().contains("field is immutable"), "{}: {error}", target.name());
    })
    .await;
}

#[tokio::test]
async fn creating_and_replacing_meet_what_is_there() {
    both(async |target| {
        let kubernetes = target.forerunner();
        let name = ObjectName::new(Kind::Secret, MANAGERS, "kept");
        let secret = object(&name, json!({"type": "Opaque", "stringData": {"a": "1"}}));
        kubernetes.create(&secret, DryRun::Yes).await.unwrap();
        assert_eq!(kubernetes.get(&name).await.unwrap(), None, "{}", target.name());
        let made = kubernetes.create(&secret, DryRun::No).await.unwrap();
        let again = kubernetes.create(&secret, DryRun::No).await.unwrap_err();
        assert!(matches!(again, Error::AlreadyExists { .. }), "{}: {again}", target.name());
        let at = |version: Option<&str>| {
            let metadata = json!({"resourceVersion": version});
            object(&name, json!({"type": "Opaque", "data": {"a": "Mg=="}, "metadata": metadata}))
        };
        kubernetes.replace(&at(made.resource_version()), DryRun::Yes).await.unwrap();
        let next = kubernetes.replace(&at(made.resource_version()), DryRun::No).await.unwrap();
        let stale = kubernetes.replace(&at(made.resource_version()), DryRun::No).await.unwrap_err();
        assert!(matches!(stale, Error::Conflict { .. }), "{}: {stale}", target.name());
        let preconditions = Preconditions {
            resource_version: made.resource_version().map(str::to_owned),
            uid: None,
        };
        let kept = kubernetes.delete(&name, &preconditions).await.unwrap_err();
        assert!(matches!(kept, Error::Conflict { .. }), "{}: {kept}", target.name());
        kubernetes.delete(&name, &Preconditions::default()).await.unwrap();
        let gone = kubernetes.replace(&at(next.resource_version()), DryRun::No).await.unwrap_err();
        assert!(matches!(gone, Error::Conflict { .. }), "{}: {gone}", target.name());
        let type_moved = object(&name, json!({"type": "kubernetes.io/tls", "data": {}}));
        let refused = kubernetes.create(&type_moved, DryRun::No).await.unwrap_err();
        assert_eq!(refused.class(), Class::Permanent, "{}: {refused}", target.name());
    })
    .await;
}

#[tokio::test]
async fn a_merge_changes_and_removes_what_it_names() {
    both(async |target| {
        let kubernetes = target.forerunner();
        let map = config_map("merged", json!({"a": "1", "b": "2"}));
        apply(&kubernetes, &map).await.unwrap();
        let patch = json!({"data": {"b": null, "c": "3"}});
        let merged = kubernetes.patch_merge(&map.name, &patch).await.unwrap();
        assert_eq!(merged.body["data"], json!({"a": "1", "c": "3"}), "{}", target.name());
        let missing = ObjectName::new(Kind::ConfigMap, MANAGERS, "missing");
        let error = kubernetes.patch_merge(&missing, &patch).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{}: {error}", target.name());
    })
    .await;
}

#[tokio::test]
async fn lists_are_whole_over_many_pages_and_keep_to_their_labels() {
    both(async |target| {
        let kubernetes = target.forerunner();
        let labelled = |number: usize| {
            let name = ObjectName::new(Kind::ConfigMap, MANAGERS, &format!("many-{number:04}"));
            let labels =
                json!({"metadata": {"labels": {"suite": "many", "odd": (number % 2).to_string()}}});
            object(&name, labels)
        };
        // One more than two pages.
        let all: Vec<Object> = (0..1001).map(labelled).collect();
        for some in all.chunks(50) {
            let made = some.iter().map(|one| kubernetes.create(one, DryRun::No));
            futures::future::try_join_all(made).await.unwrap();
        }
        let count = async |selector: &str| {
            let list = kubernetes.list(Kind::ConfigMap, Some(MANAGERS), Some(selector)).await;
            list.unwrap().len()
        };
        assert_eq!(count("suite=many").await, 1001, "{}", target.name());
        assert_eq!(count("suite=many,odd=1").await, 500, "{}", target.name());
        assert_eq!(count("suite in (many),odd!=1").await, 501, "{}", target.name());
        assert_eq!(count("suite=none").await, 0, "{}", target.name());
    })
    .await;
}

#[tokio::test]
async fn a_continue_token_that_cannot_be_read_is_refused_alike() {
    both(async |target| {
        let path = format!("/api/v1/namespaces/{MANAGERS}/configmaps?limit=1&continue=made-up");
        let (status, body) =
            target.call(target.forerunner_token(), "GET", &path, JSON, &Value::Null).await;
        assert_eq!(
            (status, &body["reason"]),
            (400, &json!("BadRequest")),
            "{}: {body}",
            target.name()
        );
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_is_going_away_takes_nothing_new() {
    both(async |target| {
        let namespace = target.job_namespace("going").await;
        let kubernetes = target.forerunner();
        // Something holds the namespace, so that it stays in `Terminating`.
        let held = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": "held", "namespace": namespace, "finalizers": ["example.com/held"],
        }});
        target.apply_as_administrator(&held).await;
        let name = ObjectName::of_cluster(Kind::Namespace, &namespace);
        let administrator = target.adapter(target.administrator_token());
        administrator.delete(&name, &Preconditions::default()).await.unwrap();
        let going = kubernetes.get(&name).await.unwrap().unwrap();
        assert_eq!(going.body["status"]["phase"], "Terminating", "{}", target.name());
        let account = ObjectName::new(Kind::ServiceAccount, &namespace, "job");
        let error = apply(&kubernetes, &object(&account, json!({}))).await.unwrap_err();
        assert!(matches!(error, Error::NamespaceTerminating { .. }), "{}: {error}", target.name());
        assert_eq!(error.class(), Class::Retry { after: None });
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/held");
        let merge = json!({"metadata": {"finalizers": null}});
        let token = target.administrator_token();
        target.call(token, "PATCH", &path, "application/merge-patch+json", &merge).await;
        target
            .eventually("the namespace is gone", async || {
                kubernetes.get(&name).await.unwrap().is_none()
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn credentials_that_are_wrong_are_told_from_rights_that_are_missing() {
    both(async |target| {
        let name = ObjectName::new(Kind::ConfigMap, MANAGERS, "any");
        let error = target.adapter("made-up-and-wrong").get(&name).await.unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. }), "{}: {error}", target.name());
        let elsewhere = ObjectName::new(Kind::Secret, "kube-system", "any");
        let error = target.forerunner().get(&elsewhere).await.unwrap_err();
        assert!(matches!(error, Error::Forbidden { .. }), "{}: {error}", target.name());
        assert_eq!(error.class(), Class::Permanent);
    })
    .await;
}

#[tokio::test]
async fn an_object_over_the_limit_is_refused() {
    both(async |target| {
        let kubernetes = target.forerunner();
        for (bytes, name) in [((1 << 20) + 1, "large"), (4 << 20, "huge")] {
            let map = config_map(name, json!({"a": "x".repeat(bytes)}));
            let error = kubernetes.create(&map, DryRun::No).await.unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{}: {bytes}: {error}", target.name());
            assert!(error.to_string().len() < 2000, "{}", target.name());
        }
    })
    .await;
}

/// A user needs a right for it that only service accounts have by themselves.
#[tokio::test]
async fn the_issuer_is_told_to_whom_it_may_be_told() {
    both(async |target| {
        let refused = target.forerunner().oidc_issuer().await;
        assert!(matches!(refused, Err(Error::Forbidden { .. })), "{}: {refused:?}", target.name());
        let administrator = target.adapter(target.administrator_token());
        assert_eq!(administrator.oidc_issuer().await.unwrap(), target.issuer());
    })
    .await;
}
