//! A GitLab delivery is proven, queued once, and answered; nothing it says gets any further.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::fakes::{Answered, Ending, NOW, TOKEN, World, app, app_with, call, settings, vectors};
use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use forerunner::{
    domain::message::Reason,
    telemetry::{self, Telemetry, console::Console},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

fn delivery(headers: &Value, body: &str) -> Request<Body> {
    let mut request = Request::post("/api/gitlab_hook");
    for (name, value) in headers.as_object().unwrap() {
        request = request.header(name, value.as_str().unwrap());
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

fn proven() -> Value {
    json!({ "X-Gitlab-Event": "System Hook", "X-Gitlab-Token": TOKEN, "Idempotency-Key": "delivery-1" })
}

const CREATE: &str =
    r#"{"event_name":"group_create","group_id":42,"full_path":"platform/network"}"#;

#[tokio::test]
async fn every_vector_wakes_its_target_or_nothing() {
    for vector in vectors("gitlab-hooks") {
        let (name, expect) = (&vector["name"], &vector["expect"]);
        let world = Arc::new(World::default());
        let hook = settings(&[("GITLAB_HOOK_TOKENS", "test-secret-token")]);
        let app = app_with(&world, hook, Telemetry::off());
        let request = delivery(&vector["headers"], &vector["body"].to_string());
        let answered = call(app, request).await;
        assert_eq!(answered.status, StatusCode::OK, "{name}");
        let sent = world.sent.lock().unwrap();
        if expect["relevant"] == false {
            assert!(sent.is_empty(), "{name}");
            assert_eq!(answered.json(), json!({ "queued": null }), "{name}");
            continue;
        }
        let [(queue, outgoing)] = sent.as_slice() else { panic!("{name}: {sent:?}") };
        let target = &expect["target"];
        let unit = format!("target/{}{}", &target["kind"].as_str().unwrap()[..1], target["id"]);
        assert_eq!((queue.as_str(), &outgoing.session_id), ("rounds", &unit), "{name}");
        assert_eq!(outgoing.message.unit.to_string(), unit, "{name}");
        assert_eq!(outgoing.message.reason, Reason::Hook, "{name}");
        assert_eq!(outgoing.message.event.as_deref(), expect["event"].as_str(), "{name}");
        let id = vector["headers"].get("Idempotency-Key");
        let id = id.or(vector["headers"].get("X-Gitlab-Webhook-UUID")).unwrap();
        assert_eq!(*id, outgoing.message.cause, "{name}");
        let now: Timestamp = NOW.parse().unwrap();
        assert_eq!(outgoing.scheduled_for, Some(now + SignedDuration::from_secs(1)), "{name}");
        assert_eq!(answered.json(), json!({ "queued": unit }), "{name}");
    }
}

#[tokio::test]
async fn signature_vectors_pass_or_are_refused() {
    for case in vectors("gitlab-signature")[0].as_array().unwrap() {
        let world = Arc::new(World::default());
        let signing =
            settings(&[("GITLAB_HOOK_SIGNING_SECRETS", case["signing_token"].as_str().unwrap())]);
        let mut headers = case["headers"].clone();
        headers["X-Gitlab-Event"] = json!("System Hook");
        let request = delivery(&headers, case["raw_body"].as_str().unwrap());
        let answered = call(app_with(&world, signing, Telemetry::off()), request).await;
        let valid = case["expect"]["valid"] == true;
        let expected = if valid { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        assert_eq!(answered.status, expected, "{}", case["name"]);
        assert_eq!(world.sent.lock().unwrap().len(), usize::from(valid), "{}", case["name"]);
    }
}

#[tokio::test]
async fn a_delivery_that_does_not_prove_itself_is_refused_before_it_is_read() {
    let wrong =
        json!({ "X-Gitlab-Event": "System Hook", "X-Gitlab-Token": "another made-up token" });
    let none = json!({ "X-Gitlab-Event": "System Hook" });
    for (headers, pairs) in [
        (&wrong, &[("GITLAB_HOOK_TOKENS", TOKEN)][..]),
        (&none, &[("GITLAB_HOOK_TOKENS", TOKEN)]),
        (&proven(), &[]),
    ] {
        for body in [CREATE, "{"] {
            let world = Arc::new(World::default());
            let app = app_with(&world, settings(pairs), Telemetry::off());
            let answered = call(app, delivery(headers, body)).await;
            assert_eq!(answered.status, StatusCode::UNAUTHORIZED, "{headers} {body}");
            assert!(world.sent.lock().unwrap().is_empty());
        }
    }
}

async fn answer(world: &Arc<World>, headers: &Value, body: &str) -> Answered {
    call(app(world), delivery(headers, body)).await
}

#[tokio::test]
async fn only_what_a_rule_could_match_is_queued() {
    let group_webhook = json!({ "X-Gitlab-Event": "Subgroup Hook", "X-Gitlab-Token": TOKEN });
    let unmatched = CREATE.replace("platform/network", "unmatched/network");
    let cases = [
        (proven(), CREATE.to_owned(), StatusCode::OK, 1),
        (proven(), unmatched.clone(), StatusCode::OK, 0),
        (proven(), unmatched.replace("_create", "_destroy"), StatusCode::OK, 1),
        (proven(), CREATE.replace("group_create", "key_create"), StatusCode::OK, 0),
        (group_webhook, CREATE.to_owned(), StatusCode::OK, 0),
        (proven(), "{".to_owned(), StatusCode::BAD_REQUEST, 0),
        (proven(), r#"{"event_name":"group_create"}"#.to_owned(), StatusCode::BAD_REQUEST, 0),
    ];
    for (headers, body, status, queued) in cases {
        let world = Arc::new(World::default());
        let answered = answer(&world, &headers, &body).await;
        assert_eq!(answered.status, status, "{body}");
        assert!(!answered.text.is_empty(), "{body}");
        assert_eq!(world.sent.lock().unwrap().len(), queued, "{body}");
    }
}

#[tokio::test]
async fn a_delivery_that_comes_twice_has_one_message_id() {
    let world = Arc::new(World::default());
    for _ in 0..2 {
        answer(&world, &proven(), CREATE).await;
    }
    let sent = world.sent.lock().unwrap();
    assert_eq!(sent[0].1.message_id, sent[1].1.message_id);
}

/// Or duplicate detection could drop it as the twin of a message whose round ran before this event.
#[tokio::test]
async fn a_message_that_reached_the_queue_after_its_time_is_sent_again() {
    let world = Arc::new(World::default());
    let app = app(&world);
    *world.slow_once.lock().unwrap() = Some(app.clock.clone());
    assert_eq!(call(app, delivery(&proven(), CREATE)).await.status, StatusCode::OK);
    let sent = world.sent.lock().unwrap();
    let [(_, late), (_, again)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_ne!(late.message_id, again.message_id);
    assert!(late.scheduled_for < again.scheduled_for);
}

#[tokio::test]
async fn a_queue_that_does_not_take_the_message_makes_the_delivery_fail() {
    for queue in [Ending::Failed, Ending::Never] {
        let world = Arc::new(World { queue, ..World::default() });
        let answered = answer(&world, &proven(), CREATE).await;
        assert_eq!(answered.status, StatusCode::SERVICE_UNAVAILABLE, "{queue:?}");
        assert!(answered.json()["error"].is_string());
    }
}

#[tokio::test]
async fn a_body_past_the_cap_is_refused_whoever_sent_it() {
    let padded = |size: usize| format!("{CREATE}{}", " ".repeat(size - CREATE.len()));
    let world = Arc::new(World::default());
    assert_eq!(answer(&world, &proven(), &padded(1 << 20)).await.status, StatusCode::OK);
    for headers in [proven(), json!({})] {
        let answered = answer(&world, &headers, &padded((1 << 20) + 1)).await;
        assert_eq!(answered.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}

#[tokio::test]
async fn nothing_of_a_delivery_but_ids_is_logged_or_told() {
    let console = Console::memory();
    let clock = forerunner::clock::Clock::frozen(NOW.parse().unwrap());
    let (telemetry, dispatch) = telemetry::build(None, clock, console.clone()).unwrap();
    let _guard = tracing::dispatcher::set_default(&dispatch);
    let wrong = json!({ "X-Gitlab-Event": "System Hook", "X-Gitlab-Token": "a-wrong-made-up-token",
        "webhook-id": "delivery\u{e4}", "Idempotency-Key": "delivery-7" });
    let bodies = [
        CREATE,
        r#"{"event_name":"group_create","leak":"a-body-text"}"#,
        r#"{"leak":"a-body-text"#,
    ];
    let mut told = String::new();
    for headers in [proven(), wrong] {
        for body in bodies {
            let hook = settings(&[("GITLAB_HOOK_TOKENS", TOKEN)]);
            let app = app_with(&Arc::default(), hook, telemetry.clone());
            told += &call(app, delivery(&headers, body)).await.text;
        }
    }
    let logged = console.stdout() + &console.stderr();
    assert!(logged.contains("delivery-1") && logged.contains("delivery-7"), "{logged}");
    for text in [TOKEN, "a-wrong-made-up-token", "a-body-text", "platform/network"] {
        assert!(!logged.contains(text) && !told.contains(text), "{text}: {logged} {told}");
    }
}
