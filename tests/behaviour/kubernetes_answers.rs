//! The Kubernetes adapter against answers in an API server's shapes: what it asks and what it makes of them.

use super::stub::{Reply, Seen, Stub, clock, reply};
use base64::{Engine, prelude::BASE64_STANDARD};
use forerunner::{
    adapters::{
        azure::Arm,
        kubernetes::{Access, DryRun, Error, Force, Kubernetes, Preconditions},
        tokens::{Credential, Tokens},
    },
    domain::{
        azure::ResourceId,
        kubernetes::{Kind, Object, ObjectName},
    },
};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::path::PathBuf;

const HOSTS: &[&str] = &["api.example.com", "management.azure.com"];

pub(crate) fn kubeconfig(token: &str) -> String {
    json!({"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://api.example.com:443"}}],
        "users": [{"name": "u", "user": {"token": token}}]})
    .to_string()
}

/// A kubeconfig file that is gone with this.
struct File(PathBuf);

impl File {
    fn new(token: &str) -> Self {
        let name = format!("forerunner-kubeconfig-{}", uuid::Uuid::new_v4());
        let file = Self(std::env::temp_dir().join(name));
        file.write(token);
        file
    }

    fn write(&self, token: &str) {
        std::fs::write(&self.0, kubeconfig(token)).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn cluster(
    answer: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static,
) -> (Stub, Kubernetes, File) {
    let stub = Stub::answering(answer).await;
    let file = File::new("made-up");
    let kubernetes = Kubernetes::new(stub.http(HOSTS), Access::Kubeconfig(file.0.clone()));
    (stub, kubernetes, file)
}

fn status(code: u16, reason: &str) -> Reply {
    reply(code, json!({"kind": "Status", "code": code, "reason": reason, "message": "words"}))
}

fn secret() -> ObjectName {
    ObjectName::new(Kind::Secret, "fleet", "runner-config")
}

fn object(name: &ObjectName) -> Object {
    let (api_version, kind, _) = name.kind.wire();
    let body = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name.name}});
    Object { name: name.clone(), body }
}

#[tokio::test]
async fn an_object_is_found_or_not() {
    let (stub, kubernetes, _file) = cluster(|before, _| {
        if before == 0 {
            reply(200, json!({"metadata": {"name": "runner-config", "resourceVersion": "7"}}))
        } else {
            status(404, "NotFound")
        }
    })
    .await;
    let found = kubernetes.get(&secret()).await.unwrap().unwrap();
    assert_eq!(found.resource_version(), Some("7"));
    assert_eq!(kubernetes.get(&secret()).await.unwrap(), None);
    let seen = stub.seen();
    assert_eq!(seen[0].line(), "GET /api/v1/namespaces/fleet/secrets/runner-config");
    assert_eq!(seen[0].header("authorization"), Some("Bearer made-up"));
    assert_eq!(seen[0].header("host"), Some("api.example.com"));
}

#[tokio::test]
async fn an_apply_is_strict_and_says_who_and_how() {
    let check = async |force, dry_run, query: &str| {
        let (stub, kubernetes, _file) = cluster(|_, call| reply(200, &call.body)).await;
        let name = ObjectName::of_cluster(Kind::Namespace, "ci-a");
        kubernetes.apply(&object(&name), "forerunner", force, dry_run).await.unwrap();
        let seen = stub.seen();
        assert_eq!(seen[0].line(), format!("PATCH /api/v1/namespaces/ci-a?{query}"));
        assert_eq!(seen[0].header("content-type"), Some("application/apply-patch+yaml"));
        assert_eq!(seen[0].json(), object(&name).body);
    };
    check(Force::Yes, DryRun::No, "&force=true&fieldManager=forerunner&fieldValidation=Strict")
        .await;
    check(Force::No, DryRun::Yes, "&dryRun=All&fieldManager=forerunner&fieldValidation=Strict")
        .await;
}

#[tokio::test]
async fn a_conflicting_apply_tells_who_holds_the_field() {
    let (_stub, kubernetes, _file) = cluster(|_, _| {
        reply(
            409,
            json!({"reason": "Conflict", "message": "conflict with \"kubectl\": .spec.replicas"}),
        )
    })
    .await;
    let name = ObjectName::new(Kind::Deployment, "fleet", "runner-a");
    let error = kubernetes.apply(&object(&name), "forerunner", Force::No, DryRun::No).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "somebody else wrote Deployment fleet/runner-a: conflict with \"kubectl\": .spec.replicas"
    );
}

#[tokio::test]
async fn making_and_replacing_are_never_repeated() {
    let (stub, kubernetes, _file) = cluster(|_, _| status(500, "InternalError")).await;
    assert!(kubernetes.create(&object(&secret()), DryRun::No).await.is_err());
    assert!(kubernetes.replace(&object(&secret()), DryRun::Yes).await.is_err());
    assert_eq!(
        stub.lines(),
        [
            "POST /api/v1/namespaces/fleet/secrets?&fieldManager=forerunner",
            "PUT /api/v1/namespaces/fleet/secrets/runner-config?&dryRun=All&fieldManager=forerunner",
        ]
    );
}

#[tokio::test]
async fn a_second_writer_is_told_apart() {
    let check = async |code: u16, reason: &'static str| {
        let (_stub, kubernetes, _file) = cluster(move |_, _| status(code, reason)).await;
        let created = kubernetes.create(&object(&secret()), DryRun::No).await.unwrap_err();
        let replaced = kubernetes.replace(&object(&secret()), DryRun::No).await.unwrap_err();
        (created, replaced)
    };
    let (created, _) = check(409, "AlreadyExists").await;
    assert!(matches!(created, Error::AlreadyExists { .. }), "{created:?}");
    let (_, replaced) = check(409, "Conflict").await;
    assert!(matches!(replaced, Error::Conflict { .. }), "{replaced:?}");
    let (created, replaced) = check(404, "NotFound").await;
    assert!(matches!(created, Error::NotFound { .. }), "the namespace: {created:?}");
    assert!(matches!(replaced, Error::Conflict { .. }), "the object: {replaced:?}");
}

#[tokio::test]
async fn a_list_is_read_in_pages_and_begun_again_when_it_expired() {
    let item = |name: &str| json!({"metadata": {"name": name, "namespace": "fleet"}});
    let (stub, kubernetes, _file) =
        cluster(move |before, call| match (before, call.uri.contains("continue")) {
            (_, false) => reply(200, json!({"metadata": {"continue": "t"}, "items": [item("a")]})),
            (1, true) => status(410, "Expired"),
            (_, true) => reply(200, json!({"metadata": {}, "items": [item("b")]})),
        })
        .await;
    let listed = kubernetes.list(Kind::Secret, None, Some("a=b")).await.unwrap();
    let names: Vec<_> = listed.iter().map(|object| object.name.to_string()).collect();
    assert_eq!(names, ["Secret fleet/a", "Secret fleet/b"]);
    assert_eq!(listed[0].body["kind"], "Secret", "items come without it");
    let first = "GET /api/v1/secrets?&labelSelector=a%3Db&limit=500";
    let second = format!("{first}&continue=t");
    assert_eq!(stub.lines(), [first, &second, first, &second]);
}

#[tokio::test]
async fn a_list_that_keeps_expiring_is_an_error() {
    let (stub, kubernetes, _file) = cluster(|_, _| status(410, "Expired")).await;
    let error = kubernetes.list(Kind::Pod, Some("ci-a"), None).await.unwrap_err();
    assert!(matches!(error, Error::Expired { .. }), "{error:?}");
    assert_eq!(stub.seen().len(), 3);
}

#[tokio::test]
async fn a_deletion_holds_its_preconditions() {
    let (stub, kubernetes, _file) = cluster(|before, _| match before {
        0 => reply(200, "{}"),
        1 => status(404, "NotFound"),
        _ => status(409, "Conflict"),
    })
    .await;
    let only = Preconditions { uid: Some("u".to_owned()), resource_version: None };
    kubernetes.delete(&secret(), &only).await.unwrap();
    kubernetes.delete(&secret(), &Preconditions::default()).await.unwrap();
    assert!(kubernetes.delete(&secret(), &only).await.is_err());
    let body = stub.seen()[0].json();
    assert_eq!(body["preconditions"], json!({"uid": "u"}));
    assert_eq!(stub.seen()[1].json()["preconditions"], Value::Null);
}

#[tokio::test]
async fn a_merge_changes_what_it_names() {
    let (stub, kubernetes, _file) = cluster(|_, _| reply(200, "{}")).await;
    let patch = json!({"metadata": {"annotations": {"a": null}}});
    kubernetes.patch_merge(&secret(), &patch).await.unwrap();
    let seen = &stub.seen()[0];
    assert_eq!(seen.header("content-type"), Some("application/merge-patch+json"));
    assert_eq!(seen.json(), patch);
}

#[tokio::test]
async fn a_renewed_kubeconfig_is_read_after_a_refusal() {
    let (stub, kubernetes, file) = cluster(|_, call| match call.header("authorization") {
        Some("Bearer new") => reply(200, "{}"),
        _ => status(401, "Unauthorized"),
    })
    .await;
    let error = kubernetes.get(&secret()).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    assert_eq!(stub.seen().len(), 2);
    file.write("new");
    kubernetes.get(&secret()).await.unwrap();
    kubernetes.get(&secret()).await.unwrap();
    assert_eq!(stub.seen().len(), 5, "the new token is kept");
}

#[tokio::test]
async fn a_broken_connection_and_a_missing_file_are_told_apart() {
    let (stub, kubernetes, _file) = cluster(|_, _| reply(200, "{}")).await;
    drop(stub);
    tokio::task::yield_now().await;
    let error = kubernetes.get(&secret()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let stub = Stub::answering(|_, _| reply(200, "{}")).await;
    let access = Access::Kubeconfig("no-such-kubeconfig".into());
    let error = Kubernetes::new(stub.http(HOSTS), access).get(&secret()).await.unwrap_err();
    assert!(error.to_string().contains("no-such-kubeconfig"), "{error}");
}

#[tokio::test]
async fn an_aks_cluster_is_asked_with_our_own_token_at_the_address_arm_gives() {
    let stub = Stub::answering(|_, call| {
        if call.uri.starts_with("/msi") {
            let resource = call.uri.split("resource=").nth(1).unwrap();
            return reply(
                200,
                json!({"access_token": format!("for-{}", &resource[..8]),
                "expires_on": "1999999999", "resource": "r", "token_type": "Bearer"}),
            );
        }
        if call.uri.contains("listClusterUserCredential") {
            let value = BASE64_STANDARD.encode(kubeconfig(""));
            return reply(200, json!({"kubeconfigs": [{"name": "clusterUser", "value": value}]}));
        }
        reply(200, json!({"metadata": {"name": "ci-a", "uid": "u"}}))
    })
    .await;
    let endpoint = format!("http://127.0.0.1:{}/msi/token", stub.port).parse().unwrap();
    let header = SecretString::from("made-up");
    let credential = Credential::ManagedIdentity { endpoint, header, client_id: None };
    let tokens = Tokens::new(stub.http(HOSTS), clock(), credential);
    let arm = Arm::new(stub.http(HOSTS), tokens.clone());
    let cluster = ResourceId::new("/subscriptions/1/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/aks").unwrap();
    let kubernetes = Kubernetes::new(stub.http(HOSTS), Access::Aks { arm, tokens, cluster });
    let name = ObjectName::of_cluster(Kind::Namespace, "ci-a");
    for _ in 0..2 {
        kubernetes.get(&name).await.unwrap().unwrap();
    }
    let seen = stub.seen();
    let credentials = seen.iter().filter(|call| call.uri.contains("listClusterUser")).count();
    assert_eq!(credentials, 1, "the address is kept");
    let last = seen.last().unwrap();
    assert_eq!(last.header("authorization"), Some("Bearer for-6dae42f8"));
    assert_eq!(last.header("host"), Some("api.example.com"));
}

#[tokio::test]
async fn a_clusters_issuer_and_address_are_told_as_they_are() {
    let issuer = "https://issuer.example.com/with/slash/";
    let (stub, kubernetes, _file) =
        cluster(move |_, _| reply(200, json!({"issuer": issuer, "jwks_uri": "x"}))).await;
    assert_eq!(kubernetes.oidc_issuer().await.unwrap(), issuer);
    assert_eq!(kubernetes.server().await.unwrap().host_str(), Some("api.example.com"));
    assert_eq!(stub.lines(), ["GET /.well-known/openid-configuration"]);
}

#[tokio::test]
async fn the_address_is_looked_up_again_after_the_cluster_was_not_reached() {
    let (stub, kubernetes, file) = cluster(|_, _| reply(200, "{}")).await;
    let moved = kubeconfig("made-up").replace("api.example.com:443", "127.0.0.1:1");
    std::fs::write(&file.0, moved).unwrap();
    assert!(kubernetes.get(&secret()).await.is_err());
    file.write("made-up");
    assert!(kubernetes.get(&secret()).await.is_ok());
    assert_eq!(stub.seen().len(), 1);
}
