//! The sandbox's Service Bus keeps the rules that the real one has, over the wire and in process.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode, header},
};
use forerunner::{
    clock::Clock,
    sandbox::service_bus::{Error, Properties, QueueSettings, Sent, ServiceBus, State},
};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

const BATCH: &str = "application/vnd.microsoft.servicebus.json";
const NO_RENEWAL: SignedDuration = SignedDuration::ZERO;

struct Bus {
    bus: ServiceBus,
    clock: Clock,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

fn start() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// `plain` without and `rounds` with sessions, the latter with duplicate detection; two deliveries each.
fn bus() -> Bus {
    let clock = Clock::frozen(start());
    let bus = ServiceBus::new(clock.clone(), "sb-x.servicebus.windows.net", 7);
    let plain = QueueSettings { max_delivery_count: 2, ..QueueSettings::default() };
    bus.create_queue("plain", plain.clone());
    let rounds = QueueSettings {
        requires_session: true,
        duplicate_detection: Some(SignedDuration::from_mins(10)),
        message_size_max: 1_000,
        ..plain
    };
    bus.create_queue("rounds", rounds);
    bus.accept_tokens(Arc::new(|token| token == "good"));
    Bus { bus, clock }
}

impl Bus {
    fn turn(&self, seconds: i64) {
        self.clock.turn_to(self.clock.now() + SignedDuration::from_secs(seconds));
    }

    async fn call(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.bus.router().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn post(&self, queue: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask("POST", &format!("/{queue}/messages?timeout=60"), headers, body).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::AUTHORIZATION, "Bearer good");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.call(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    fn send(&self, queue: &str, id: &str, session: Option<&str>) -> Sent {
        let properties = Properties {
            message_id: Some(id.to_owned()),
            session_id: session.map(ToOwned::to_owned),
            ..Properties::default()
        };
        self.bus.send_as_operator(queue, id, properties).unwrap()
    }

    fn ids(&self, queue: &str) -> Vec<String> {
        let messages = self.bus.messages(queue);
        messages.into_iter().filter_map(|message| message.properties.message_id).collect()
    }
}

/// Queue, headers, body, status.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, u16);

#[tokio::test]
async fn a_send_is_refused_for_what_the_real_queue_refuses() {
    let session = ("BrokerProperties", r#"{"SessionId":"s"}"#);
    let long = format!(r#"{{"SessionId":"{}"}}"#, "s".repeat(129));
    let batch = ("Content-Type", BATCH);
    let charset = ("Content-Type", "application/vnd.microsoft.servicebus.json; charset=utf-8");
    let large = "x".repeat(1_001);
    let cases: &[Case] = &[
        ("rounds", &[session], "{}", 201),
        ("ROUNDS", &[session], "{}", 201),
        ("plain", &[], "{}", 201),
        ("nowhere", &[session], "{}", 410),
        ("rounds", &[], "{}", 400),
        ("rounds", &[session], &large, 403),
        ("rounds", &[("BrokerProperties", "{")], "{}", 400),
        ("rounds", &[("BrokerProperties", &long)], "{}", 400),
        ("plain", &[("BrokerProperties", r#"{"SessionId":"a","PartitionKey":"b"}"#)], "", 400),
        ("plain", &[("BrokerProperties", r#"{"ScheduledEnqueueTimeUtc":"soon"}"#)], "", 400),
        ("plain", &[batch], r#"[{"Body":"a"},{"Body":"b"}]"#, 201),
        ("plain", &[charset], r#"[{"Body":"a"}]"#, 400),
        ("plain", &[batch], r#"{"Body":"a"}"#, 400),
        ("rounds", &[batch], r#"[{"Body":"a"}]"#, 400),
    ];
    for (queue, headers, body, expected) in cases {
        let answer = bus().post(queue, headers, body).await;
        assert_eq!(answer.status, *expected, "{queue} {headers:?} {body}: {}", answer.body);
        assert_eq!(answer.body.is_empty(), *expected == 201, "{}", answer.body);
    }
}

#[tokio::test]
async fn only_an_accepted_bearer_token_gets_in() {
    let cases = [(None, 401), (Some("Bearer bad"), 401), (Some("SharedAccessSignature sr=x"), 401)];
    for (token, expected) in cases.into_iter().chain([(Some("Bearer good"), 201)]) {
        let mut request = Request::post("/plain/messages");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let answer = bus().call(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, expected, "{token:?}");
    }
}

#[tokio::test]
async fn a_throttled_send_has_no_effect() {
    let bus = bus();
    bus.bus.throttle(1, StatusCode::SERVICE_UNAVAILABLE);
    let refused = bus.post("plain", &[], "x").await;
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("50009"), "{}", refused.body);
    assert_eq!(bus.bus.depth("plain"), 0);
    assert_eq!(bus.post("plain", &[], "x").await.status, 201);
}

#[tokio::test]
async fn a_batch_is_kept_whole_or_not_at_all() {
    let bus = bus();
    let batch = [("Content-Type", BATCH)];
    let half = r#"[{"Body":"a","BrokerProperties":{"SessionId":"s"}},{"Body":"b"}]"#;
    assert_eq!(bus.post("rounds", &batch, half).await.status, 400);
    assert_eq!(bus.bus.depth("rounds"), 0);
}

#[tokio::test]
async fn the_recorded_batch_arrives_with_all_it_says() {
    let text = include_str!("../vectors/azure/10-servicebus-batch-201.json");
    let vector: Value = serde_json::from_str(text).unwrap();
    let bus = bus();
    let settings = QueueSettings { requires_session: true, ..QueueSettings::default() };
    bus.bus.create_queue("runner-work", settings);
    let body = vector["request"]["body"].to_string();
    let answer = bus.post("runner-work", &[("Content-Type", BATCH)], &body).await;
    assert_eq!(answer.status, vector["response"]["status"]);
    let messages = bus.bus.messages("runner-work");
    let [message] = &messages[..] else { panic!("{messages:?}") };
    let at: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
    assert_eq!(message.state, State::Scheduled(at));
    assert_eq!(message.expires_at, at + SignedDuration::from_hours(1));
    assert_eq!(message.json(), Some(json!({"runner": 42})));
    assert_eq!(message.properties.message_id.as_deref(), Some("runner-42-gen-7"));
    assert_eq!(message.properties.session_id.as_deref(), Some("id-team-a"));
    assert_eq!(message.properties.application_properties["kind"], "reconcile");
}

#[tokio::test]
async fn a_copy_is_dropped_and_its_sender_told_that_all_is_well() {
    let bus = bus();
    let later = r#"{"SessionId":"s","MessageId":"m","ScheduledEnqueueTimeUtc":"Sun, 01 Mar 2026 12:05:00 GMT"}"#;
    let now = r#"{"SessionId":"s","MessageId":"m"}"#;
    for properties in [later, now, now] {
        let answer = bus.post("rounds", &[("BrokerProperties", properties)], "x").await;
        assert_eq!(answer.status, 201, "{properties}");
    }
    assert_eq!(bus.bus.depth("rounds"), 1, "the scheduled message takes part");
    bus.turn(10 * 60);
    assert_eq!(bus.send("rounds", "m", Some("s")), Sent::Enqueued(3), "the window is over");
    assert_eq!(bus.send("plain", "m", None), Sent::Enqueued(1));
    assert_eq!(bus.send("plain", "m", None), Sent::Enqueued(2), "no detection, no copy");
}

#[test]
fn a_scheduled_message_arrives_in_its_time_behind_those_that_came_before() {
    let bus = bus();
    let scheduled_enqueue_time = Some(start() + SignedDuration::from_secs(30));
    let properties = Properties {
        message_id: Some("late".to_owned()),
        scheduled_enqueue_time,
        ..Properties::default()
    };
    assert_eq!(bus.bus.send_as_operator("plain", "x", properties).unwrap(), Sent::Scheduled(1));
    assert_eq!(bus.bus.next_change("plain"), scheduled_enqueue_time);
    assert!(!bus.bus.has_waiting("plain"));
    bus.send("plain", "early", None);
    bus.turn(30);
    assert_eq!(bus.ids("plain"), ["early", "late"]);
    let late = &bus.bus.messages("plain")[1];
    assert_eq!((late.sequence_number, Some(late.enqueued_at)), (3, scheduled_enqueue_time));
}

#[test]
fn a_message_that_fails_too_often_becomes_a_dead_letter() {
    let bus = bus();
    bus.send("plain", "m", None);
    for count in 1..=2 {
        let delivery = bus.bus.receive("plain", NO_RENEWAL).unwrap().unwrap();
        assert_eq!(delivery.delivery_count, count);
        bus.bus.abandon(&delivery.lock).unwrap();
        assert_eq!(bus.bus.abandon(&delivery.lock), Err(Error::LockLost));
    }
    assert_eq!(bus.bus.depth("plain"), 0);
    let dead = bus.bus.dead_letters("plain");
    assert_eq!(dead[0].dead_letter_reason.as_deref(), Some("MaxDeliveryCountExceeded"));
    assert_eq!(dead[0].dead_letter_source.as_deref(), Some("plain"));
    for _ in 0..5 {
        let delivery = bus.bus.receive("plain/$DeadLetterQueue", NO_RENEWAL).unwrap().unwrap();
        bus.bus.abandon(&delivery.lock).unwrap();
    }
    assert_eq!(bus.bus.dead_letters("plain").len(), 1, "a dead letter stays one");
}

#[test]
fn a_lock_ends_with_time_and_counts_as_a_failed_delivery() {
    let bus = bus();
    bus.send("plain", "m", None);
    let first = bus.bus.receive("plain", NO_RENEWAL).unwrap().unwrap();
    assert!(bus.bus.receive("plain", NO_RENEWAL).unwrap().is_none());
    bus.turn(59);
    bus.bus.renew(&first.lock).unwrap();
    bus.turn(59);
    assert!(bus.bus.receive("plain", NO_RENEWAL).unwrap().is_none(), "it was renewed");
    bus.turn(1);
    let second = bus.bus.receive("plain", SignedDuration::from_mins(5)).unwrap().unwrap();
    assert_eq!(second.delivery_count, 2);
    assert_eq!(bus.bus.complete(&first.lock), Err(Error::LockLost));
    bus.turn(299);
    bus.bus.complete(&second.lock).unwrap();
    assert_eq!(bus.bus.depth("plain"), 0);
}

#[test]
fn a_session_has_one_receiver_and_keeps_its_order() {
    let bus = bus();
    for (id, session) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        bus.send("rounds", id, Some(session));
    }
    let body = |delivery: Option<forerunner::sandbox::service_bus::Delivery>| {
        delivery.map(|delivery| (delivery.message.text(), delivery.lock))
    };
    let refused = bus.bus.receive("rounds", NO_RENEWAL).unwrap_err();
    assert_eq!(refused, Error::NeedsSession { queue: "rounds".to_owned() });
    let a = bus.bus.accept_session("rounds", NO_RENEWAL).unwrap().unwrap();
    let b = bus.bus.accept_session("rounds", NO_RENEWAL).unwrap().unwrap();
    assert_eq!((a.id.as_str(), b.id.as_str()), ("a", "b"));
    assert!(bus.bus.accept_session("rounds", NO_RENEWAL).unwrap().is_none());
    let (first, lock) = body(bus.bus.receive_in(&a).unwrap()).unwrap();
    bus.bus.abandon(&lock).unwrap();
    let (again, lock) = body(bus.bus.receive_in(&a).unwrap()).unwrap();
    assert_eq!((first.as_str(), again.as_str()), ("a1", "a1"), "the head of the line blocks");
    bus.bus.complete(&lock).unwrap();
    let (next, lock) = body(bus.bus.receive_in(&a).unwrap()).unwrap();
    assert_eq!(next, "a2");
    bus.turn(60);
    assert_eq!(bus.bus.complete(&lock), Err(Error::LockLost), "it ended with the session's");
    assert_eq!(bus.bus.receive_in(&a).unwrap_err(), Error::LockLost);
    let a = bus.bus.accept_session("rounds", NO_RENEWAL).unwrap().unwrap();
    let again = bus.bus.receive_in(&a).unwrap().unwrap();
    assert_eq!((again.message.text().as_str(), again.delivery_count), ("a2", 2));
}

#[test]
fn an_unread_message_goes_when_its_time_to_live_is_over() {
    let bus = bus();
    let time_to_live = Some(SignedDuration::from_secs(5));
    let properties = Properties { time_to_live, ..Properties::default() };
    bus.bus.send_as_operator("plain", "x", properties).unwrap();
    assert_eq!(bus.bus.depth("plain"), 1);
    bus.turn(5);
    assert_eq!(bus.bus.depth("plain"), 0);
}

#[tokio::test]
async fn tools_receive_over_the_wire() {
    let bus = bus();
    let properties =
        [("BrokerProperties", r#"{"MessageId":"m","Label":"l"}"#), ("Kind", r#""round""#)];
    bus.post("plain", &properties, "hello").await;
    let head = "/plain/messages/head?timeout=5";
    let locked = bus.ask("POST", head, &[], "").await;
    assert_eq!((locked.status, locked.body.as_str()), (201, "hello"));
    let told: Value =
        serde_json::from_slice(locked.headers["brokerproperties"].as_bytes()).unwrap();
    assert_eq!(told["DeliveryCount"], 1);
    assert_eq!((&told["MessageId"], &told["Label"]), (&json!("m"), &json!("l")));
    assert_eq!(locked.headers["kind"], r#""round""#);
    assert_eq!(bus.ask("POST", head, &[], "").await.status, 204);
    let location = locked.headers[header::LOCATION].to_str().unwrap();
    let path = location.strip_prefix("https://sb-x.servicebus.windows.net").unwrap().to_owned();
    assert_eq!(bus.ask("POST", &path, &[], "").await.status, 200, "renewed");
    assert_eq!(bus.ask("PUT", &path, &[], "").await.status, 200, "abandoned");
    assert_eq!(bus.ask("DELETE", &path, &[], "").await.status, 404, "the lock is gone");
    let gone = bus.ask("DELETE", head, &[], "").await;
    assert_eq!((gone.status, gone.body.as_str()), (200, "hello"));
    assert_eq!(bus.bus.depth("plain"), 0);
    bus.post("plain", &[], "more").await;
    let locked = bus.ask("POST", head, &[], "").await;
    let location = locked.headers[header::LOCATION].to_str().unwrap();
    let path = location.strip_prefix("https://sb-x.servicebus.windows.net").unwrap().to_owned();
    assert_eq!(bus.ask("DELETE", &path, &[], "").await.status, 200, "completed");
    assert_eq!(bus.bus.depth("plain"), 0);
    assert_eq!(bus.ask("POST", "/rounds/messages/head", &[], "").await.status, 400);
    let dead = bus.ask("POST", "/rounds/$DeadLetterQueue/messages/head", &[], "").await;
    assert_eq!(dead.status, 204);
    assert_eq!(bus.ask("POST", "/nowhere/messages/head", &[], "").await.status, 410);
}

#[test]
fn the_dump_holds_queues_and_dead_letters() {
    let bus = bus();
    bus.send("plain", "m", None);
    let delivery = bus.bus.receive("plain", NO_RENEWAL).unwrap().unwrap();
    bus.bus.dead_letter(&delivery.lock, "because", "of this").unwrap();
    bus.send("plain", "n", None);
    let dump = bus.bus.dump();
    let plain = &dump["queues"]["plain"];
    assert_eq!(plain["messages"][0]["messageId"], "n");
    assert_eq!(plain["deadLetters"][0]["deadLetterReason"], "because");
}
