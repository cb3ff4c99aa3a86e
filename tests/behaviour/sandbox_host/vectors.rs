//! Every vector of `vectors/functions-host`: the host sends what they say, and judges as they say.

use super::world::{NAMESPACE, Reply, Seen, World, start, trigger};
use axum::{body::Body, extract::Request};
use forerunner::sandbox::{
    actor::{Actor, Due},
    host::{HttpMode, Keys, Verdict},
    service_bus::{Properties, QueueSettings, ServiceBus},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn vector(name: &str) -> Value {
    let path = format!("{}/tests/vectors/functions-host/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_vector_is_one_of_those_tested_here() {
    let folder = format!("{}/tests/vectors/functions-host", env!("CARGO_MANIFEST_DIR"));
    let mut found: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().replace(".json", ""))
        .collect();
    found.sort();
    let tested = [
        "01-probe",
        "02-session-message-text",
        "03-session-message-binary",
        "04-plain-message-polluted",
        "05-timer",
        "06-timer-without-status",
        "07-http-forwarded",
        "08-response-ok",
        "09-response-empty-202",
        "10-response-wrong-media-type",
        "11-response-array",
        "12-response-status-503",
        "13-host-sample-retry-first-attempt",
        "14-host-test-base64-outputs",
        "15-host-test-res-301-headers",
        "16-host-test-forward-path",
    ];
    assert_eq!(found, tested);
}

/// The request with what is random, or a matter of the run, taken from the vector.
fn compare(seen: &Seen, vector: &Value) {
    let request = &vector["request"];
    let name = &vector["name"];
    assert_eq!(
        (&json!(seen.method), &json!(seen.path)),
        (&request["method"], &request["path"]),
        "{name}"
    );
    let expected: BTreeMap<String, String> = request["headers"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap().to_owned()))
        .collect();
    let mut headers: BTreeMap<String, String> = seen
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    if let Some(host) = headers.get_mut("host").filter(|host| host.starts_with("127.0.0.1:")) {
        host.clone_from(&expected["host"]);
    }
    if let Some(id) = headers.get_mut("x-azure-functions-invocationid") {
        let hyphenated = uuid::Uuid::parse_str(id).unwrap().hyphenated().to_string();
        assert_eq!(*id, hyphenated, "{name}: lower case with dashes");
        id.clone_from(&expected["x-azure-functions-invocationid"]);
    }
    assert_eq!(headers, expected, "{name}");
    match &request["body"] {
        Value::Null => assert_eq!(seen.body, "", "{name}"),
        Value::String(text) => assert_eq!(seen.body, *text, "{name}"),
        expected @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            assert_eq!(settled(seen.json(), expected), *expected, "{name}")
        }
    }
}

fn settled(mut body: Value, expected: &Value) -> Value {
    let random = [
        "/Metadata/LockToken",
        "/Metadata/Client/Identifier",
        "/Metadata/sys/RandGuid",
        "/Metadata/sys/UtcNow",
    ];
    for place in random {
        if let (Some(value), Some(expected)) = (body.pointer_mut(place), expected.pointer(place)) {
            let text = value.as_str().unwrap().trim_matches('"');
            let guid = text.strip_prefix(&format!("{NAMESPACE}-")).unwrap_or(text);
            let is_time = guid.ends_with('Z') && guid.parse::<Timestamp>().is_ok();
            assert!(is_time || uuid::Uuid::parse_str(guid).is_ok(), "{place} is {value}");
            *value = expected.clone();
        }
    }
    body
}

/// Uses up sequence numbers, so that the next message gets `next`.
fn number_from(bus: &ServiceBus, queue: &str, next: i64) {
    for _ in 1..next {
        let session_id = (queue == "jobs").then(|| "other".to_owned());
        let properties = Properties { session_id, ..Properties::default() };
        bus.send_as_operator(queue, "", properties).unwrap();
        if queue == "jobs" {
            let session = bus.accept_session(queue, SignedDuration::ZERO).unwrap().unwrap();
            let delivery = bus.receive_in(&session).unwrap().unwrap();
            bus.complete(&delivery.lock).unwrap();
            bus.release_session(&session).unwrap();
        } else {
            let delivery = bus.receive(queue, SignedDuration::ZERO).unwrap().unwrap();
            bus.complete(&delivery.lock).unwrap();
        }
    }
}

async fn check_message(
    name: &str,
    sequence_number: i64,
    body: &str,
    message_id: &str,
    failures: usize,
) {
    let vector = vector(name);
    let function = vector["request"]["path"].as_str().unwrap().trim_start_matches('/').to_owned();
    let queue = vector["function"]["queueName"].as_str().unwrap().to_owned();
    let sessions = queue == "jobs";
    let functions = [(function.as_str(), trigger(vector["function"].clone()))];
    let at = start() + SignedDuration::from_millis(1_123);
    let world = World::with(&functions, at, |bus, _| number_from(bus, &queue, sequence_number));
    let world = world.await.unwrap();
    (0..failures).for_each(|_| world.handler.reply(Reply::json(500, "{}")));
    let mut application_properties = serde_json::Map::new();
    if sessions {
        application_properties.insert("tenant".to_owned(), "t1".into());
    }
    let properties = Properties {
        message_id: Some(message_id.to_owned()),
        session_id: sessions.then(|| "group-1".to_owned()),
        application_properties,
        ..Properties::default()
    };
    world.bus.send_as_operator(&queue, body, properties).unwrap();
    world.settle().await;
    compare(world.handler.calls().last().unwrap(), &vector);
}

#[tokio::test]
async fn messages_look_as_the_vectors_have_them() {
    let job = r#"{"id":"job-1","action":"create","retries":3}"#;
    check_message("02-session-message-text", 42, job, "job-1", 0).await;
    check_message("03-session-message-binary", 42, job, "job-1", 1).await;
    let polluted = r#"{"messageId":"from-body","value":1}"#;
    check_message("04-plain-message-polluted", 43, polluted, "r", 0).await;
}

#[tokio::test]
async fn the_probe_looks_as_the_vector_has_it() {
    let world = World::new(&[("Tick", super::world::on_timer("0 0 * * * *"))]).await;
    let seen = world.handler.seen.lock().unwrap()[0].clone();
    compare(&seen, &vector("01-probe"));
}

#[tokio::test]
async fn timers_look_as_the_vectors_have_them() {
    let mut vector_05 = vector("05-timer");
    // The sandbox's clock has milliseconds.
    for member in ["Last", "LastUpdated"] {
        let at = &mut vector_05["request"]["body"]["Data"]["t"]["ScheduleStatus"][member];
        *at = at.as_str().unwrap().replace(".0046551", ".004").into();
    }
    let functions = [("Tick", trigger(vector_05["function"].clone()))];
    let world = World::with(&functions, "2026-08-07T13:34:00Z".parse().unwrap(), |_, _| {});
    let world = world.await.unwrap();
    world.clock.turn_to("2026-08-07T13:35:00.004Z".parse().unwrap());
    world.settle().await;
    world.clock.turn_to("2026-08-07T13:40:00Z".parse().unwrap());
    world.settle().await;
    compare(&world.handler.calls()[1], &vector_05);

    let mut vector_06 = vector("06-timer-without-status");
    // Without a monitor nobody knows of a missed run, so a faithful host never says so; the vector asks handlers
    // to bear it.
    vector_06["request"]["body"]["Data"]["t"]["IsPastDue"] = false.into();
    let world = World::new(&[("Tick", trigger(vector_06["function"].clone()))]).await;
    world.turn(3_600).await;
    compare(&world.handler.calls()[0], &vector_06);
}

async fn check_forwarded(name: &str, key: Option<&str>) {
    let vector = vector(name);
    let request = &vector["request"];
    let function = json!({"bindings": [
        vector["function"],
        {"type": "http", "direction": "out", "name": "res"},
    ]});
    let world = World::with(&[("Hook", function)], start(), |_, settings| {
        settings.http_mode = Some(HttpMode::Forwarded);
        settings.keys = Keys { host: vec!["made-up-key".into()], ..Keys::default() };
    });
    let world = world.await.unwrap();
    let path = request["path"].as_str().unwrap();
    let mut ask = Request::builder().method(request["method"].as_str().unwrap()).uri(path);
    for (name, value) in request["headers"].as_object().unwrap() {
        let value = value.as_str().unwrap();
        let client = value.split(" Azure-Functions-Host/").next().unwrap();
        if !name.starts_with("X-Azure-") && !client.starts_with("Azure-") {
            ask = ask.header(name, client);
        }
    }
    if let Some(key) = key {
        ask = ask.header("x-functions-key", key);
    }
    let body = request["body"].as_str().unwrap_or_default().to_owned();
    let (parts, _) = world.ask(ask.body(Body::from(body)).unwrap()).await;
    assert_eq!(parts.status, 200);
    let mut seen = world.handler.calls()[0].clone();
    let forwarded_key = seen.headers.remove("x-functions-key");
    assert_eq!(forwarded_key.as_ref().map(|key| key.to_str().unwrap()), key);
    compare(&seen, &vector);
}

#[tokio::test]
async fn forwarded_requests_look_as_the_vectors_have_them() {
    check_forwarded("07-http-forwarded", Some("made-up-key")).await;
    check_forwarded("16-host-test-forward-path", None).await;
}

fn reply(vector: &Value) -> Reply {
    let response = &vector["response"];
    let headers = response["headers"].as_object().unwrap().iter();
    Reply::Now {
        status: u16::try_from(response["status"].as_u64().unwrap()).unwrap(),
        headers: headers
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect(),
        body: response["body"].as_str().unwrap().to_owned(),
    }
}

async fn check_message_answer(name: &str) {
    let vector = vector(name);
    let world = World::new(&[("ProcessPlain", super::world::on_queue("plain", false))]).await;
    world.handler.reply(reply(&vector));
    world.send("plain", None, "x");
    world.settle().await;
    let invocations = world.host.invocations();
    let success = vector["expect"]["success"].as_bool().unwrap();
    assert_eq!(invocations[0].verdict == Verdict::Success, success, "{name}");
    let effect = vector["expect"]["hostEffect"].as_str().unwrap();
    if effect == "message completed" {
        assert_eq!((invocations.len(), world.bus.depth("plain")), (1, 0), "{name}");
    } else if effect.starts_with("message abandoned at once") {
        assert_eq!(invocations[1].delivery_count, Some(2), "{name}");
        assert_ne!(invocations[0].invocation_id, invocations[1].invocation_id, "{name}");
    } else {
        assert!(
            effect.starts_with("invocation stays pending until functionTimeout"),
            "{name}: {effect}"
        );
        assert_eq!(invocations[0].verdict, Verdict::Hang);
        assert_eq!((invocations.len(), world.bus.depth("plain")), (1, 1));
        let end = start() + SignedDuration::from_mins(30);
        assert!(!world.bus.has_waiting("plain"), "its lock is kept");
        // The lock is renewed for five minutes and then runs out: the message comes a second time.
        assert_eq!(world.host.due(), Some(Due::Work(start() + SignedDuration::from_mins(5))));
        world.clock.turn_to(end);
        world.settle().await;
        assert_eq!(world.handler.starts.lock().unwrap().len(), 2, "killed and started again");
        assert_eq!(world.host.invocations()[1].delivery_count, Some(2));
        assert_eq!(world.bus.depth("plain"), 0);
    }
}

#[tokio::test]
async fn answers_to_messages_are_judged_as_the_vectors_say() {
    let names = [
        "08-response-ok",
        "09-response-empty-202",
        "10-response-wrong-media-type",
        "11-response-array",
        "12-response-status-503",
    ];
    for name in names {
        check_message_answer(name).await;
    }
}

#[tokio::test]
async fn outputs_that_look_like_base64_become_bytes() {
    let vector = vector("14-host-test-base64-outputs");
    let out = |name: &str| json!({"type": "serviceBus", "direction": "out", "name": name, "queueName": name, "connection": "BUS"});
    let mut function = super::world::on_queue("plain", false);
    function["bindings"].as_array_mut().unwrap().extend([out("output1"), out("output2")]);
    let world = World::with(&[("testFunctionName", function)], start(), |bus, _| {
        bus.create_queue("output1", QueueSettings::default());
        bus.create_queue("output2", QueueSettings::default());
    });
    let world = world.await.unwrap();
    world.handler.reply(reply(&vector));
    world.send("plain", None, "HelloWorld");
    world.settle().await;
    assert_eq!(world.host.invocations()[0].verdict, Verdict::Success);
    assert_eq!(world.bus.messages("output1")[0].text(), "output1Value");
    assert_eq!(world.bus.messages("output2")[0].text(), "output2Value");
    let logs = world.host.logs();
    let user = logs.iter().filter(|line| line.category == "Function.testFunctionName.User");
    let user: Vec<&str> = user.map(|line| line.text.as_str()).collect();
    assert_eq!(user, ["invocation log1", "invocation log2"]);
}

#[tokio::test]
async fn wrapped_http_answers_become_what_the_vectors_say() {
    let cases = [
        ("13-host-sample-retry-first-attempt", 500, "", None),
        ("15-host-test-res-301-headers", 301, "foobar", Some("header2Value")),
    ];
    for (name, status, body, header) in cases {
        let vector = vector(name);
        let world =
            World::new(&[("HttpTrigger", super::world::on_http("HttpTrigger", "anonymous"))]);
        let world = world.await;
        world.handler.reply(reply(&vector));
        let ask = Request::get("/api/HttpTrigger").header("Host", "localhost");
        let (parts, got) = world.ask(ask.body(Body::empty()).unwrap()).await;
        assert_eq!((parts.status.as_u16(), got.as_str()), (status, body), "{name}");
        let got = parts.headers.get("header2").map(|value| value.to_str().unwrap());
        assert_eq!(got, header, "{name}");
        let mut expected = vector.clone();
        // Retry policies are not simulated.
        expected["request"]["body"]["Metadata"].as_object_mut().unwrap().remove("RetryContext");
        compare(&world.handler.calls()[0], &expected);
    }
}
