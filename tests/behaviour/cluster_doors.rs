//! How a cluster is reached: closed doors are named, a rotated CA is looked up again, a plugin is asked for a token.

use super::{
    azure_answers::tokens,
    kubernetes_answers::kubeconfig,
    stub::{Stub, clock, reply},
    tls::{Certified, TlsServer, certified},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use forerunner::{
    adapters::{
        azure::Arm,
        http::{Http, HttpSettings},
        kubernetes::{Access, Error, Kubernetes},
    },
    domain::{
        azure::ResourceId,
        class::Class,
        kubernetes::{Kind, ObjectName},
    },
};
use serde_json::{Value, json};
use std::path::PathBuf;
use uuid::Uuid;

const CLUSTER: &str =
    "/subscriptions/1/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/aks";

fn namespace() -> ObjectName {
    ObjectName::of_cluster(Kind::Namespace, "ci-a")
}

/// An AKS cluster at an address where nobody answers, as ARM describes it.
async fn unreachable(properties: Value) -> (Error, usize) {
    let stub = Stub::answering(move |_, call| {
        if call.uri.starts_with("/msi") {
            return reply(
                200,
                json!({"access_token": "t", "expires_on": "1999999999", "resource": "r",
                    "token_type": "Bearer"}),
            );
        }
        if call.uri.contains("listClusterUserCredential") {
            let text = kubeconfig("").replace("api.example.com:443", "127.0.0.1:1");
            let value = BASE64_STANDARD.encode(text);
            return reply(200, json!({"kubeconfigs": [{"name": "clusterUser", "value": value}]}));
        }
        if properties.is_null() {
            return reply(403, json!({"error": {"code": "AuthorizationFailed"}}));
        }
        reply(200, json!({"id": CLUSTER, "properties": properties}))
    })
    .await;
    let http = stub.http(&["management.azure.com"]);
    let arm = Arm::new(http.clone(), tokens(&stub));
    let cluster = ResourceId::new(CLUSTER).unwrap();
    let access = Access::Aks { arm, tokens: tokens(&stub), cluster };
    let error = Kubernetes::new(http, access).get(&namespace()).await.unwrap_err();
    let never = stub.seen().iter().filter(|call| call.uri.contains("AdminCredential")).count();
    (error, never)
}

#[tokio::test]
async fn a_cluster_behind_a_closed_door_names_the_door() {
    let check = async |properties: Value, words: &[&str]| {
        let (error, administrators) = unreachable(properties).await;
        assert_eq!(error.class(), Class::Retry { after: None });
        assert_eq!(administrators, 0, "local accounts are never asked for");
        let text = error.to_string();
        assert!(text.contains("127.0.0.1 could not be reached"), "{text}");
        for words in words {
            assert!(text.contains(words), "`{words}` is missing: {text}");
        }
        assert_eq!(text.contains(';'), !words.is_empty(), "{text}");
    };
    check(json!({}), &[]).await;
    check(Value::Null, &[]).await;
    let ranges = json!({"apiServerAccessProfile": {"authorizedIPRanges": ["192.0.2.0/24", "198.51.100.7/32"]},
        "disableLocalAccounts": true});
    let words = ["192.0.2.0/24, 198.51.100.7/32 alone", "--api-server-authorized-ip-ranges"];
    check(ranges, &words).await;
    let private = json!({"apiServerAccessProfile": {"enablePrivateCluster": true}});
    check(private, &["it is a private cluster", "private DNS zone"]).await;
    let stopped = json!({"powerState": {"code": "Stopped"}});
    check(stopped, &["az aks start --ids"]).await;
}

/// A kubeconfig that is gone with this.
struct Kubeconfig(PathBuf);

impl Kubeconfig {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("forerunner-doors-{}", Uuid::new_v4())))
    }

    fn write(&self, port: u16, trusted: &Certified, user: &Value) {
        let cluster = json!({"server": format!("https://localhost:{port}"),
            "certificate-authority-data": BASE64_STANDARD.encode(&trusted.pem)});
        let text = json!({"clusters": [{"name": "k", "cluster": cluster}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "users": [{"name": "u", "user": user}]});
        std::fs::write(&self.0, text.to_string()).unwrap();
    }
}

impl Drop for Kubeconfig {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_rotated_ca_is_read_again_once() {
    let (old, new) = (certified("localhost"), certified("localhost"));
    let (before, after) = (TlsServer::start(&old, &[]).await, TlsServer::start(&new, &[]).await);
    let user = json!({"token": "made-up"});
    let file = Kubeconfig::new();
    file.write(before.port, &old, &user);
    let http = Http::new(HttpSettings::default(), clock());
    let kubernetes = Kubernetes::new(http.clone(), Access::Kubeconfig(file.0.clone()));
    // The server answers no JSON, which is reached all the same.
    let reached = async |kubernetes: &Kubernetes| {
        matches!(kubernetes.get(&namespace()).await, Err(Error::Unreadable { .. }))
    };
    assert!(reached(&kubernetes).await);

    // The kubeconfig still has the old CA for a server with the new one: looked up again, and refused.
    file.write(after.port, &old, &user);
    let stale = Kubernetes::new(http, Access::Kubeconfig(file.0.clone()));
    let error = stale.get(&namespace()).await.unwrap_err();
    assert!(matches!(error, Error::Untrusted { .. }), "{error:?}");
    assert_eq!((error.class(), after.connections()), (Class::Permanent, 2));
    // Now the new one is there, and the same client finds it.
    file.write(after.port, &new, &user);
    assert!(reached(&stale).await);
}

#[tokio::test]
async fn a_rotated_ca_is_found_within_one_call() {
    let (old, new) = (certified("localhost"), certified("localhost"));
    let server = TlsServer::start(&new, &[]).await;
    let file = Kubeconfig::new();
    // The plugin runs whenever the kubeconfig is read: it stands for whoever writes the new CA meanwhile.
    let fresh = Kubeconfig::new();
    fresh.write(server.port, &new, &json!({"token": "made-up"}));
    let script = format!(
        "cp '{}' '{}'; echo '{{\"status\": {{\"token\": \"made-up\"}}}}'",
        fresh.0.display(),
        file.0.display()
    );
    let plugin = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh",
        "args": ["-c", script], "interactiveMode": "Never"}});
    file.write(server.port, &old, &plugin);
    let http = Http::new(HttpSettings::default(), clock());
    let kubernetes = Kubernetes::new(http, Access::Kubeconfig(file.0.clone()));
    let answer = kubernetes.get(&namespace()).await;
    assert!(matches!(answer, Err(Error::Unreadable { .. })), "reached: {answer:?}");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_plugins_token_that_expired_is_asked_for_again() {
    let stub = Stub::answering(|_, call| match call.header("authorization") {
        Some("Bearer second") => reply(200, json!({"metadata": {"name": "ci-a", "uid": "u"}})),
        _ => reply(401, json!({"kind": "Status", "reason": "Unauthorized"})),
    })
    .await;
    let (file, marker) = (Kubeconfig::new(), Kubeconfig::new());
    let script = format!(
        "t=first; if [ -e '{0}' ]; then t=second; fi; : > '{0}'; echo \"{{\\\"status\\\": {{\\\"token\\\": \\\"$t\\\"}}}}\"",
        marker.0.display()
    );
    let user = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "sh", "args": ["-c", script]}});
    let text = json!({"clusters": [{"name": "k", "cluster": {"server": "https://api.example.com"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "users": [{"name": "u", "user": user}]});
    std::fs::write(&file.0, text.to_string()).unwrap();
    let kubernetes =
        Kubernetes::new(stub.http(&["api.example.com"]), Access::Kubeconfig(file.0.clone()));
    assert!(kubernetes.get(&namespace()).await.unwrap().is_some());
    assert_eq!(stub.seen().len(), 2);
}
