//! What callers of HTTP functions meet.

use super::world::{Reply, World, on_http, start};
use axum::{body::Body, extract::Request};
use forerunner::sandbox::host::{HttpMode, Keys, Verdict};
use serde_json::json;
use std::collections::BTreeMap;

async fn world(mode: HttpMode) -> World {
    let functions = [
        ("gitlab_hook", on_http("gitlab", "anonymous")),
        ("fleet", on_http("fleet/{name?}", "function")),
        ("purge", on_http("purge", "admin")),
    ];
    let world = World::with(&functions, start(), |_, settings| {
        settings.http_mode = Some(mode);
        settings.keys = Keys {
            master: Some("made-up-master".into()),
            host: vec!["made-up-host".into()],
            functions: BTreeMap::from([("fleet".to_owned(), vec!["made-up-fleet".into()])]),
        };
    });
    world.await.unwrap()
}

#[tokio::test]
async fn the_host_checks_keys_and_routes_before_the_handler_hears_of_anything() {
    let world = world(HttpMode::Proxied).await;
    let cases = [
        ("/api/gitlab", None, 200),
        ("/API/Gitlab", None, 200),
        ("/api/nothing", None, 404),
        ("/gitlab", None, 404),
        ("/gitlab_hook", None, 404),
        ("/", None, 404),
        ("/api/fleet", None, 401),
        ("/api/fleet", Some("wrong"), 401),
        ("/api/fleet", Some("made-up-fleet"), 200),
        ("/api/fleet", Some("made-up-host"), 200),
        ("/api/fleet", Some("made-up-master"), 200),
        ("/api/fleet/one?code=made-up-fleet", None, 200),
        ("/api/fleet?code=wrong", None, 401),
        ("/api/purge", Some("made-up-host"), 401),
        ("/api/purge", Some("made-up-master"), 200),
    ];
    let mut heard = 0;
    for (path, key, status) in cases {
        let mut ask = Request::get(path);
        if let Some(key) = key {
            ask = ask.header("x-functions-key", key);
        }
        let (parts, _) = world.ask(ask.body(Body::empty()).unwrap()).await;
        assert_eq!(parts.status, status, "{path} {key:?}");
        heard += usize::from(status == 200);
        assert_eq!(world.handler.calls().len(), heard, "{path} {key:?}");
    }
}

#[tokio::test]
async fn a_function_takes_only_its_methods() {
    let mut function = on_http("gitlab", "anonymous");
    function["bindings"][0]["methods"] = json!(["post"]);
    let world = World::new(&[("gitlab_hook", function)]).await;
    for (method, status) in [("POST", 200), ("GET", 404)] {
        let ask = Request::builder().method(method).uri("/api/gitlab");
        let (parts, _) = world.ask(ask.body(Body::empty()).unwrap()).await;
        assert_eq!(parts.status, status, "{method}");
    }
}

fn hook() -> Request {
    Request::post("/api/gitlab?b=2&a=1&b=3%20x")
        .header("Host", "fn.example.org")
        .header("User-Agent", "GitLab/18.0.1")
        .header("Content-Type", "application/json")
        .header("Content-Encoding", "identity")
        .header("Content-Length", "2")
        .header("X-Azure-Functions-InvocationId", "forged")
        .body(Body::from("{}"))
        .unwrap()
}

#[tokio::test]
async fn a_proxied_request_arrives_as_it_was_sent() {
    let world = world(HttpMode::Proxied).await;
    let headers = vec![("X-Answer".to_owned(), "yes".to_owned())];
    world.handler.reply(Reply::Now { status: 503, headers, body: "busy".to_owned() });
    let (parts, body) = world.ask(hook()).await;
    assert_eq!((parts.status.as_u16(), body.as_str()), (503, "busy"));
    assert_eq!(parts.headers["x-answer"], "yes");
    let seen = &world.handler.calls()[0];
    assert_eq!((seen.path.as_str(), seen.body.as_str()), ("/api/gitlab?b=2&a=1&b=3%20x", "{}"));
    assert_eq!(seen.header("host"), Some("fn.example.org"));
    assert_eq!(seen.header("user-agent"), Some("GitLab/18.0.1"));
    assert_eq!(seen.header("content-encoding"), Some("identity"));
    let record = &world.host.invocations()[0];
    let id = record.invocation_id.to_string();
    assert_eq!(seen.header("x-azure-functions-invocationid"), Some(id.as_str()));
    assert_eq!(seen.header("x-ms-invocation-id"), Some(id.as_str()));
    assert_eq!(record.verdict, Verdict::Success, "any answer is a success of the invocation");
}

#[tokio::test]
async fn a_forwarded_request_is_put_together_anew() {
    let world = world(HttpMode::Forwarded).await;
    world.ask(hook()).await;
    let seen = &world.handler.calls()[0];
    assert_eq!((seen.path.as_str(), seen.body.as_str()), ("/api/gitlab?b=2%2C3+x&a=1", "{}"));
    assert_eq!(
        seen.header("user-agent"),
        Some("GitLab/18.0.1 Azure-Functions-Host/4.1052.300.26370")
    );
    assert_eq!(seen.header("content-encoding"), None);
    assert_eq!(seen.header("x-ms-invocation-id"), None);
    assert_ne!(seen.header("x-azure-functions-invocationid"), Some("forged"));
}

#[tokio::test]
async fn forwarding_loses_a_body_without_a_length_and_proxying_keeps_it() {
    for (mode, expected) in [(HttpMode::Forwarded, ""), (HttpMode::Proxied, "hello")] {
        let world = world(mode).await;
        let ask = Request::post("/api/gitlab").header("Transfer-Encoding", "chunked");
        let pieces = futures::stream::once(async { Ok::<_, std::io::Error>("hello") });
        world.ask(ask.body(Body::from_stream(pieces)).unwrap()).await;
        assert_eq!(world.handler.calls()[0].body, expected, "{mode:?}");
    }
}

#[tokio::test]
async fn a_wrapped_request_is_told_in_an_envelope() {
    let world = world(HttpMode::Wrapped).await;
    let body = r#"{"kind":"x","list":[1]}"#;
    let ask = Request::post("/api/fleet/prod?code=made-up-fleet&q=1&q=2")
        .header("Host", "fn.example.org")
        .header("X-Functions-Key", "made-up-fleet")
        .header("Content-Length", body.len().to_string());
    world
        .handler
        .reply(Reply::json(200, r#"{"Outputs":{"res":{"statusCode":201,"body":{"a":1}}}}"#));
    let (parts, answer) = world.ask(ask.body(Body::from(body)).unwrap()).await;
    assert_eq!((parts.status.as_u16(), answer.as_str()), (201, "{\n  \"a\": 1\n}"));
    let seen = world.handler.calls()[0].clone();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/fleet"));
    let envelope = seen.json();
    let request = &envelope["Data"]["req"];
    assert_eq!(request["Url"], "http://fn.example.org/api/fleet/prod?code=made-up-fleet&q=1&q=2");
    assert_eq!(request["Query"], json!({"code": "made-up-fleet", "q": "1,2"}));
    assert_eq!(request["Params"], json!({"name": "prod"}));
    assert_eq!(request["Body"], body);
    assert_eq!(request["Headers"]["X-Functions-Key"], json!(["made-up-fleet"]));
    let metadata = &envelope["Metadata"];
    assert_eq!((&metadata["name"], &metadata["q"]), (&json!("\"prod\""), &json!("\"1,2\"")));
    assert_eq!((&metadata["kind"], &metadata["list"]), (&json!("\"x\""), &json!(null)));
    assert_eq!(metadata["code"], json!(null));
}

#[tokio::test]
async fn a_handler_that_dies_gives_its_caller_a_500() {
    let world = world(HttpMode::Proxied).await;
    world.handler.reply(Reply::Never);
    let (answer, ()) = tokio::join!(world.ask(hook()), async {
        world.handler.arrived(1).await;
        world.host.kill();
    });
    assert_eq!(answer.0.status, 500);
    assert!(matches!(world.host.invocations()[0].verdict, Verdict::Failure(_)));
    let (answer, restarted) = tokio::join!(world.ask(hook()), world.host.restart());
    restarted.unwrap();
    assert_eq!(answer.0.status, 200, "a call waits for a handler that starts");
}
