//! A list that took too long, and a server that lets nobody through.

use super::target::{JSON, MANAGERS, Target, both};
use axum::{
    body::{Body, to_bytes},
    http::{Request, Response},
};
use forerunner::{
    adapters::kubernetes::{DryRun, Error, Force},
    domain::{
        class::Class,
        kubernetes::{Kind, Object, ObjectName},
        names::FIELD_MANAGER,
    },
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::{net::TcpListener, sync::oneshot};

/// One more than a page.
const OBJECTS: usize = 501;

#[tokio::test]
async fn a_list_whose_token_expires_on_the_way_is_begun_again_and_whole() {
    both(async |target| {
        make_maps(target, "expires", OBJECTS).await;
        let between = Between::start(target).await;
        let kubernetes = target.adapter_at(between.port, target.forerunner_token());
        let expire = async {
            let second_page = between.reached.await.unwrap();
            target.expire_continue_tokens();
            target
                .eventually("the token is too old", async || {
                    get(target, &second_page).await.0 == 410
                })
                .await;
            between.open.send(()).unwrap();
        };
        let list = kubernetes.list(Kind::ConfigMap, Some(MANAGERS), Some("suite=expires"));
        let (listed, ()) = tokio::join!(list, expire);
        let names: std::collections::BTreeSet<String> =
            listed.unwrap().into_iter().map(|object| object.name.name).collect();
        assert_eq!(names.len(), OBJECTS, "{}", target.name());
        let seen = between.seen.lock().unwrap().clone();
        let expected = [("first", 200), ("next", 410), ("first", 200), ("next", 200)];
        assert_eq!(seen, expected, "{}", target.name());
    })
    .await;
}

#[tokio::test]
async fn an_expired_list_says_so_and_with_what_it_would_go_on() {
    both(async |target| {
        make_maps(target, "inconsistent", 3).await;
        let path =
            format!("/api/v1/namespaces/{MANAGERS}/configmaps?labelSelector=suite%3Dinconsistent");
        let (status, first) = get(target, &format!("{path}&limit=1")).await;
        assert_eq!(status, 200, "{first}");
        let token = first["metadata"]["continue"].as_str().unwrap();
        let next = format!("{path}&limit=500&continue={token}");
        assert_eq!(get(target, &next).await.0, 200, "{}", target.name());
        target.expire_continue_tokens();
        target.eventually("the token is too old", async || get(target, &next).await.0 == 410).await;
        let (_, expired) = get(target, &next).await;
        let name = target.name();
        assert_eq!(expired["reason"], "Expired", "{name}: {expired}");
        let words =
            "The provided continue parameter is too old to display a consistent list result.";
        assert!(expired["message"].as_str().unwrap().starts_with(words), "{name}: {expired}");
        let token = expired["metadata"]["continue"].as_str().unwrap();
        let (status, rest) = get(target, &format!("{path}&limit=500&continue={token}")).await;
        assert_eq!((status, rest["items"].as_array().unwrap().len()), (200, 2), "{name}: {rest}");
    })
    .await;
}

#[tokio::test]
async fn whoever_gets_no_seat_is_told_how_long_to_wait() {
    both(async |target| {
        let namespace = target.job_namespace("limited").await;
        target.throttle(&namespace).await;
        let kubernetes = target.forerunner();
        let name = ObjectName::new(Kind::ServiceAccount, &namespace, "job");
        let body = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "job", "namespace": namespace}});
        let account = Object { name: name.clone(), body };
        let check = |error: Error| {
            let name = target.name();
            assert!(matches!(error, Error::Throttled { .. }), "{name}: {error:?}");
            // The longer all seats are taken, the longer a real server says.
            let told = matches!(error.class(), Class::Retry { after: Some(after) }
                if after >= SignedDuration::from_secs(1));
            assert!(told, "{name}: {error:?}");
        };
        check(kubernetes.get(&name).await.unwrap_err());
        check(kubernetes.list(Kind::ServiceAccount, Some(&namespace), None).await.unwrap_err());
        check(kubernetes.create(&account, DryRun::No).await.unwrap_err());
        let apply = kubernetes.apply(&account, FIELD_MANAGER, Force::Yes, DryRun::No);
        check(apply.await.unwrap_err());
        // Nobody else is in its way, and nothing of it happened.
        let administrator = target.adapter(target.administrator_token());
        assert_eq!(administrator.get(&name).await.unwrap(), None, "{}", target.name());
        let elsewhere = kubernetes.list(Kind::ConfigMap, Some(MANAGERS), Some("suite=none"));
        assert_eq!(elsewhere.await.unwrap(), [], "{}", target.name());
    })
    .await;
}

async fn make_maps(target: &Target, suite: &str, count: usize) {
    let kubernetes = target.forerunner();
    let maps: Vec<Object> = (0..count)
        .map(|number| {
            let name = ObjectName::new(Kind::ConfigMap, MANAGERS, &format!("{suite}-{number:04}"));
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
                "name": name.name, "namespace": MANAGERS, "labels": {"suite": suite},
            }});
            Object { name, body }
        })
        .collect();
    for some in maps.chunks(50) {
        let made = some.iter().map(|one| kubernetes.create(one, DryRun::No));
        futures::future::try_join_all(made).await.unwrap();
    }
}

async fn get(target: &Target, path: &str) -> (u16, Value) {
    target.call(target.forerunner_token(), "GET", path, JSON, &Value::Null).await
}

/// Passes calls on to the server, and keeps the first that asks for a further page until it is told to go on.
struct Between {
    port: u16,
    /// Path and query of the call that waits.
    reached: oneshot::Receiver<String>,
    open: oneshot::Sender<()>,
    /// Of each call, whether it asked for the first page, and how it was answered.
    seen: Arc<Mutex<Vec<(&'static str, u16)>>>,
}

impl Between {
    async fn start(target: &Target) -> Self {
        let (client, server) = target.upstream();
        let (tell, reached) = oneshot::channel();
        let (open, opened) = oneshot::channel();
        let seen: Arc<Mutex<Vec<(&'static str, u16)>>> = Arc::default();
        let gate = Arc::new(Mutex::new(Some((tell, opened))));
        let noted = seen.clone();
        let answer = move |request: Request<Body>| {
            let (client, server) = (client.clone(), server.clone());
            let (gate, noted) = (gate.clone(), noted.clone());
            async move {
                let (parts, body) = request.into_parts();
                let path = parts.uri.path_and_query().unwrap().to_string();
                let page = if path.contains("continue=") { "next" } else { "first" };
                let wait = match page {
                    "next" => gate.lock().unwrap().take(),
                    _ => None,
                };
                if let Some((tell, opened)) = wait {
                    tell.send(path.clone()).unwrap();
                    opened.await.unwrap();
                }
                let mut headers = parts.headers;
                headers.remove("host");
                let body = to_bytes(body, usize::MAX).await.unwrap();
                let sent = client.request(parts.method, format!("{server}{path}"));
                let answer = sent.headers(headers).body(body).send().await.unwrap();
                noted.lock().unwrap().push((page, answer.status().as_u16()));
                let status = answer.status();
                let body = Body::from(answer.bytes().await.unwrap());
                Response::builder().status(status).body(body).unwrap()
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, reached, open, seen }
    }
}
