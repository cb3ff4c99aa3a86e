//! What the Functions host sends is understood, and every answer is one that it takes as meant.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::fakes::{Answered, Ending, TOKEN, World, app, call, post, vectors};
use axum::{
    body::{Body, Bytes},
    http::{Method, Request, StatusCode},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use forerunner::{
    domain::message::{Message, Reason},
    functions::router::router,
};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn message(unit: &str) -> Message {
    Message::wake(unit.parse().unwrap(), Reason::Sweep, "sweep-1".to_owned())
}

/// An envelope as the host makes it with `dataType: binary`.
fn envelope(body: &[u8], session: &str) -> String {
    json!({
        "Data": { "message": STANDARD.encode(body) },
        "Metadata": {
            "MessageId": "\"m-1\"", "SessionId": format!("\"{session}\""), "DeliveryCount": "2",
            "SequenceNumber": "44", "Client": {}, "MessageActions": {},
            "ApplicationProperties": { "DeadLetterReason": "MaxDeliveryCountExceeded" },
        },
    })
    .to_string()
}

fn ours(unit: &str) -> String {
    envelope(&message(unit).encode(), unit)
}

const TIMER: &str = r#"{"Data":{"timer":{"Schedule":{"AdjustForDST":true},"ScheduleStatus":null,"IsPastDue":false}},"Metadata":{}}"#;

fn ending(ending: Ending) -> Arc<World> {
    Arc::new(World { ending, ..World::default() })
}

/// Where a vector's function is played by one of ours.
fn path_of(vector: &Value) -> &'static str {
    match vector["request"]["path"].as_str().unwrap() {
        "/" => "/",
        "/ProcessSession" | "/ProcessPlain" | "/testFunctionName" => "/round",
        "/Tick" => "/sweep",
        "/HttpTrigger" => "/health",
        "/api/hooks/in" => "/api/gitlab_hook",
        "/api/hello" => "/api/health",
        other => panic!("no function of ours plays {other}"),
    }
}

#[tokio::test]
async fn every_request_of_the_vectors_is_answered_as_the_host_wants() {
    for vector in vectors("functions-host") {
        let (name, request) = (&vector["name"], &vector["request"]);
        if vector["kind"] == "emulator-must-not-produce" {
            continue;
        }
        let mut builder = Request::builder()
            .method(request["method"].as_str().unwrap().parse::<Method>().unwrap())
            .uri(path_of(&vector))
            .header("X-Gitlab-Token", TOKEN);
        for (key, value) in request["headers"].as_object().unwrap() {
            if !matches!(key.as_str(), "Transfer-Encoding" | "Content-Length") {
                builder = builder.header(key, value.as_str().unwrap());
            }
        }
        let body = match request["body"].as_str() {
            Some(text) => text.to_owned(),
            None if request["body"].is_null() => String::new(),
            None => request["body"].to_string(),
        };
        let answered = call(app(&Arc::default()), builder.body(Body::from(body)).unwrap()).await;
        let wrapped = request["method"] == "POST" && !path_of(&vector).starts_with("/api/");
        if vector["kind"] == "handler-must-refuse" {
            assert!(!answered.status.is_success(), "{name}: {answered:?}");
        } else if wrapped {
            assert!(answered.succeeds(), "{name}: {answered:?}");
        } else {
            assert_eq!(answered.status, StatusCode::OK, "{name}");
            assert!(!answered.text.is_empty(), "{name}");
        }
    }
}

#[tokio::test]
async fn our_message_reaches_its_round_however_it_is_encoded() {
    let unit = "runner/g42-terraform";
    let text = String::from_utf8(message(unit).encode()).unwrap();
    let twice = json!({ "Data": { "m": json!(text).to_string() }, "Metadata": {} }).to_string();
    let batch = |element: &str| {
        json!({ "Data": { "m": json!([element]).to_string() }, "Metadata": {} }).to_string()
    };
    let bodies = [ours(unit), twice, batch(&text), batch(&STANDARD.encode(&text))];
    for body in bodies {
        let world = ending(Ending::Done);
        let answered = post(app(&world), "/round", body.clone()).await;
        assert!(answered.succeeds(), "{body}: {answered:?}");
        assert_eq!(answered.json()["Logs"], json!(["settled"]), "{body}");
        assert_eq!(*world.rounds.lock().unwrap(), [message(unit)], "{body}");
    }
}

#[tokio::test]
async fn what_is_no_message_of_ours_is_parked_and_ends() {
    let ours = message("target/g42").encode();
    let cases = [
        (envelope(b"hello", "s"), &b"hello"[..], "the body is not JSON"),
        (envelope(b"", "s"), b"", "the body is not JSON"),
        (envelope(&ours, "target/g43"), &ours, "its session is not its unit"),
    ];
    for (body, kept, reason) in cases {
        for path in ["/round", "/dead_letter"] {
            if path == "/dead_letter" && reason.contains("session") {
                continue; // dead letters are read without sessions
            }
            let world = ending(Ending::Done);
            let answered = post(app(&world), path, body.clone()).await;
            assert!(answered.succeeds(), "{path}: {answered:?}");
            let parked = world.parked.lock().unwrap();
            let [what] = parked.as_slice() else { panic!("{path}: {parked:?}") };
            assert_eq!((what.body.as_slice(), what.reason.as_str()), (kept, reason), "{path}");
            assert_eq!(what.message_id.as_deref(), Some("m-1"));
            assert!(world.rounds.lock().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn an_envelope_that_cannot_be_decoded_is_refused_and_wakes_nothing() {
    for path in ["/round", "/sweep", "/dead_letter", "/gitlab_hook", "/fleet", "/health"] {
        for body in
            ["", "null", "{}", "[]", "no JSON", r#"{"Data":{"m":5}}"#, r#"{"Data":{"m":"\"half"}}"#]
        {
            let world = ending(Ending::Done);
            let answered = post(app(&world), path, body).await;
            assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{path} {body}");
            assert!(answered.json()["error"].is_string(), "{path} {body}");
            let untouched = world.rounds.lock().unwrap().is_empty()
                && world.parked.lock().unwrap().is_empty()
                && *world.sweeps.lock().unwrap() == 0;
            assert!(untouched, "{path} {body}");
        }
    }
}

#[tokio::test]
async fn an_unknown_function_is_not_found() {
    for path in ["/rotate", "/commands", "/Round", "/api/round", "/api", "/round/x"] {
        let answered = post(app(&Arc::default()), path, ours("target/g1")).await;
        assert_eq!(answered.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answered.json()["error"].is_string(), "{path}");
    }
    let get = Request::get("/round").body(Body::empty()).unwrap();
    assert_eq!(call(app(&Arc::default()), get).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_failure_a_panic_and_a_passed_deadline_are_never_a_success() {
    for how in [Ending::Failed, Ending::Panic, Ending::Never] {
        for (path, body) in [("/round", ours("target/g1")), ("/sweep", TIMER.to_owned())] {
            let answered = post(app(&ending(how)), path, body).await;
            assert_eq!(answered.status, StatusCode::INTERNAL_SERVER_ERROR, "{how:?} {path}");
            assert!(answered.json()["error"].is_string(), "{how:?} {path}");
        }
    }
}

#[tokio::test]
async fn a_dead_letter_is_recorded_and_ends_even_if_it_cannot_be() {
    for how in [Ending::Done, Ending::Failed, Ending::Panic, Ending::Never] {
        let world = ending(how);
        let answered = post(app(&world), "/dead_letter", ours("target/g42")).await;
        assert!(answered.succeeds(), "{how:?}: {answered:?}");
        let letters = world.letters.lock().unwrap();
        let [letter] = letters.as_slice() else { panic!("{letters:?}") };
        assert_eq!(letter.message, message("target/g42"));
        assert_eq!(letter.reason.as_deref(), Some("MaxDeliveryCountExceeded"));
        assert_eq!(letter.delivery_count, Some(2));
    }
}

#[tokio::test]
async fn a_timer_wakes_one_sweep() {
    let world = ending(Ending::Done);
    let answered = post(app(&world), "/sweep", TIMER).await;
    assert!(answered.succeeds(), "{answered:?}");
    assert_eq!(*world.sweeps.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_queue_body_may_be_three_times_the_largest_message() {
    let largest = envelope(&vec![b'x'; 1 << 20], "s");
    let text = json!({ "Data": { "m": json!("\u{1}".repeat(400_000)).to_string() } }).to_string();
    assert!(text.len() > 2_000_000);
    for body in [largest, text] {
        assert!(post(app(&ending(Ending::Done)), "/round", body).await.succeeds());
    }
    let endless = vec![b'x'; 3_300_000];
    let answered = post(app(&ending(Ending::Done)), "/round", endless).await;
    assert_eq!(answered.status, StatusCode::PAYLOAD_TOO_LARGE);
    let dropped = post(app(&ending(Ending::Done)), "/dead_letter", vec![b'x'; 3_300_000]).await;
    assert!(dropped.succeeds(), "{dropped:?}");
}

fn request(method: &str, headers: &Value, body: &str) -> String {
    json!({ "Data": { "req": { "Url": "https://app/api/x", "Method": method, "Query": {},
        "Headers": headers, "Params": {}, "Identities": [], "Body": body } }, "Metadata": {} })
    .to_string()
}

#[tokio::test]
async fn an_http_function_answers_wrapped_and_forwarded_alike() {
    let hook = r#"{"event_name":"group_create","group_id":42}"#;
    let good = json!({ "X-Gitlab-Token": [TOKEN], "X-Gitlab-Event": ["System Hook"] });
    let cases = [
        ("GET", "health", json!({}), ""),
        ("GET", "fleet", json!({}), ""),
        ("POST", "gitlab_hook", good.clone(), hook),
        ("POST", "gitlab_hook", good, "{"),
        ("POST", "gitlab_hook", json!({}), hook),
    ];
    for (method, name, headers, body) in cases {
        let wrapped =
            post(app(&Arc::default()), &format!("/{name}"), request(method, &headers, body)).await;
        assert!(wrapped.succeeds(), "{name}: {wrapped:?}");
        let res = &wrapped.json()["Outputs"]["res"];
        let mut forwarded = Request::builder().method(method).uri(format!("/api/{name}"));
        for (key, values) in headers.as_object().unwrap() {
            forwarded = forwarded.header(key, values[0].as_str().unwrap());
        }
        let direct = call(app(&Arc::default()), forwarded.body(Body::from(body)).unwrap()).await;
        assert_eq!(res["statusCode"], direct.status.as_u16(), "{name}");
        assert_eq!(res["body"], direct.text.as_str(), "{name}");
        assert_eq!(
            res["headers"]["Content-Type"],
            direct.headers["content-type"].to_str().unwrap()
        );
    }
}

#[tokio::test]
async fn health_has_exactly_three_fields() {
    let request = Request::get("/api/health").body(Body::empty()).unwrap();
    let answered = call(app(&Arc::default()), request).await;
    let expected = json!({ "ready": true, "version": "1.2.3", "configuration": "d1ge57" });
    assert_eq!(answered.json(), expected);
}

/// Raw HTTP/1.1 over TCP, with and without a length, twice on one connection.
#[tokio::test]
async fn chunked_and_sized_bodies_are_both_read() {
    let world = ending(Ending::Done);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, router(Arc::new(app(&world)))).into_future());
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let body = ours("target/g42");
    let (head, tail) = body.split_at(100);
    let chunked = format!(
        "POST /round HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json; charset=utf-8\r\n\
         Transfer-Encoding: chunked\r\n\r\n64\r\n{head}\r\n{:x}\r\n{tail}\r\n0\r\n\r\n",
        tail.len()
    );
    let sized = format!(
        "POST /round HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(format!("{chunked}{sized}").as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    assert_eq!(world.rounds.lock().unwrap().len(), 2);
    server.abort();
}

/// What the host learns from our files is what the router serves.
#[tokio::test]
async fn every_declared_function_is_served_under_its_one_name() {
    let root = env!("CARGO_MANIFEST_DIR");
    let read =
        |path: String| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let host = read(format!("{root}/host.json"));
    assert_eq!(host["customHandler"]["description"]["defaultExecutablePath"], "forerunner");
    assert_eq!(host["customHandler"]["description"]["arguments"], json!(["handler"]));
    assert_eq!(host["extensions"]["http"]["routePrefix"], "api");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(format!("{root}/functions")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let trigger = read(format!("{root}/functions/{name}/function.json"))["bindings"][0].clone();
        let answered: Answered = match trigger["type"].as_str().unwrap() {
            "httpTrigger" => {
                assert_eq!(trigger["route"], name.as_str());
                let method = trigger["methods"][0].as_str().unwrap().to_uppercase();
                let uri = format!("/api/{name}");
                let request = Request::builder().method(method.as_str()).uri(uri);
                call(app(&Arc::default()), request.body(Body::empty()).unwrap()).await
            }
            "serviceBusTrigger" => {
                assert_eq!(
                    (&trigger["dataType"], &trigger["connection"]),
                    (&json!("binary"), &json!("ServiceBus"))
                );
                post(app(&Arc::default()), &format!("/{name}"), ours("target/g1")).await
            }
            "timerTrigger" => {
                assert_eq!(trigger["schedule"], "%SweepSchedule%");
                post(app(&Arc::default()), &format!("/{name}"), TIMER).await
            }
            other => panic!("{other}"),
        };
        let expected =
            if name == "gitlab_hook" { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
        assert_eq!(answered.status, expected, "{name}");
        names.push(name);
    }
    names.sort();
    assert_eq!(
        names,
        ["approval", "command", "dead_letter", "fleet", "gitlab_hook", "health", "round", "sweep"]
    );
}

#[tokio::test]
async fn a_batch_fails_as_a_whole() {
    let bytes = message("target/g1").encode();
    let texts = json!([STANDARD.encode(&bytes), STANDARD.encode(&bytes)]);
    let body = json!({ "Data": { "m": texts.to_string() }, "Metadata": {} }).to_string();
    let done = post(app(&ending(Ending::Done)), "/round", Bytes::from(body.clone())).await;
    assert_eq!(done.json()["Logs"], json!(["settled", "settled"]));
    let failed = post(app(&ending(Ending::Failed)), "/round", body).await;
    assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
}
