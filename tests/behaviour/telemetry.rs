//! Every invocation can be followed: by its lines, and by a trace that goes from the host through the queue.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::fakes::{Answered, Ending, NOW, TOKEN, World, app_with, call, settings};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Request, StatusCode, Uri},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use forerunner::{
    clock::Clock,
    domain::message::{Message, Reason},
    telemetry::{self, FLUSH_MAX, Telemetry, console::Console},
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tracing::Dispatch;
use url::Url;

const INVOCATION: &str = "11111111-2222-4333-8444-00000000abcd";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const CREATE: &str = r#"{"event_name":"group_create","group_id":42}"#;

pub(crate) type Received = Arc<Mutex<Vec<(String, Bytes)>>>;

/// An OTLP collector that keeps what it gets. Tests with one have a second thread: what is left when a test ends is
/// sent from a thread that waits for it.
pub(crate) async fn collector() -> (Url, Received) {
    let received = Received::default();
    let keep = async |State(received): State<Received>, uri: Uri, body: Bytes| {
        received.lock().unwrap().push((uri.path().to_owned(), body));
    };
    let service = Router::new().fallback(keep).with_state(received.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(axum::serve(listener, service).into_future());
    (url, received)
}

fn build(endpoint: Option<&Url>) -> (Telemetry, Dispatch, Console) {
    let console = Console::memory();
    let clock = Clock::frozen(NOW.parse().unwrap());
    let (telemetry, dispatch) = telemetry::build(endpoint, clock, console.clone()).unwrap();
    (telemetry, dispatch, console)
}

async fn hook(world: &Arc<World>, telemetry: &Telemetry) -> Answered {
    let app = app_with(world, settings(&[("GITLAB_HOOK_TOKENS", TOKEN)]), telemetry.clone());
    let request = Request::post("/api/gitlab_hook")
        .header("traceparent", PARENT)
        .header("x-azure-functions-invocationid", INVOCATION)
        .header("x-gitlab-event", "System Hook")
        .header("x-gitlab-token", TOKEN)
        .body(Body::from(CREATE))
        .unwrap();
    call(app, request).await
}

async fn round(world: &Arc<World>, telemetry: &Telemetry, message: &Message) -> Answered {
    let app = app_with(world, settings(&[]), telemetry.clone());
    let data = STANDARD.encode(message.encode());
    let body = json!({ "Data": { "message": data }, "Metadata": { "MessageId": "\"m-1\"" } });
    let request = Request::post("/round")
        .header("x-azure-functions-invocationid", INVOCATION)
        .body(Body::from(body.to_string()))
        .unwrap();
    call(app, request).await
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn bodies(received: &Received, path: &str) -> Vec<u8> {
    let received = received.lock().unwrap();
    received.iter().filter(|(at, _)| at == path).flat_map(|(_, body)| body.to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn traces_and_metrics_have_left_by_otlp_when_the_answer_comes() {
    let (endpoint, received) = collector().await;
    let (telemetry, dispatch, _) = build(Some(&endpoint));
    let _guard = tracing::dispatcher::set_default(&dispatch);
    let world = Arc::new(World::default());
    assert_eq!(hook(&world, &telemetry).await.status, StatusCode::OK);
    let traces = bodies(&received, "/v1/traces");
    let trace: Vec<u8> = hex::decode(TRACE).unwrap();
    let parent: Vec<u8> = hex::decode(&PARENT[36..52]).unwrap();
    for (part, what) in [
        (&trace[..], "the host's trace id"),
        (&parent, "the host's span id"),
        (b"gitlab_hook", "the span's name"),
        (INVOCATION.as_bytes(), "the invocation's id"),
        (b"forerunner", "the service's name"),
    ] {
        assert!(contains(&traces, part), "{what} is missing");
    }
    let metrics = bodies(&received, "/v1/metrics");
    assert!(contains(&metrics, b"forerunner.invocations"));
    assert!(contains(&metrics, b"forerunner.invocation.duration"));
    assert!(!contains(&traces, TOKEN.as_bytes()) && !contains(&metrics, TOKEN.as_bytes()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_message_carries_the_trace_into_its_round() {
    let (endpoint, received) = collector().await;
    let (telemetry, dispatch, console) = build(Some(&endpoint));
    let _guard = tracing::dispatcher::set_default(&dispatch);
    let world = Arc::new(World::default());
    hook(&world, &telemetry).await;
    let message = world.sent.lock().unwrap()[0].1.message.clone();
    let carried = message.traceparent.clone().unwrap();
    assert_eq!(&carried[3..35], TRACE);
    assert_ne!(&carried[36..52], &PARENT[36..52], "our own span, not the host's");
    received.lock().unwrap().clear();
    round(&Arc::new(World { ending: Ending::Failed, ..World::default() }), &telemetry, &message)
        .await;
    let traces = bodies(&received, "/v1/traces");
    assert!(contains(&traces, &hex::decode(TRACE).unwrap()));
    assert!(contains(&traces, &hex::decode(&carried[36..52]).unwrap()));
    let line: Value = serde_json::from_str(console.stderr().lines().last().unwrap()).unwrap();
    assert_eq!(line["function"], "round");
}

/// Without a collector too: the trace goes on, for whoever collects elsewhere.
#[tokio::test]
async fn lines_are_flat_json_with_the_invocation_on_the_stream_that_grades_them() {
    let (telemetry, dispatch, console) = build(None);
    let _guard = tracing::dispatcher::set_default(&dispatch);
    let world = Arc::new(World::default());
    hook(&world, &telemetry).await;
    assert_eq!(
        &world.sent.lock().unwrap()[0].1.message.traceparent.as_ref().unwrap()[3..35],
        TRACE
    );
    let stdout = console.stdout();
    let line: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    for (key, value) in [
        ("level", json!("INFO")),
        ("timestamp", json!(NOW)),
        ("invocation.id", json!(INVOCATION)),
        ("function", json!("gitlab_hook")),
        ("trace.id", json!(TRACE)),
        ("unit", json!("target/g42")),
        ("message", json!("`group_create` wakes `target/g42`")),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
    assert_eq!(console.stderr(), "");
    let foreign =
        Message::wake("target/g1".parse().unwrap(), Reason::Sweep, "a warning".to_owned());
    let failing = Arc::new(World { ending: Ending::Failed, ..World::default() });
    round(&failing, &telemetry, &foreign).await;
    tracing::warn!("recovers by itself");
    tracing::error!(cause = "a Warning", "warned in vain");
    let stderr = console.stderr();
    let lines: Vec<Value> =
        stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["invocation.id"], INVOCATION);
    for (text, line) in stderr.lines().zip(&lines) {
        let graded_as_warning = text.to_lowercase().contains("warn");
        assert_eq!(graded_as_warning, line["level"] == "WARN", "{text}");
    }
    assert_eq!(lines.last().unwrap()["message"], "warned in vain");
    assert_eq!(lines.last().unwrap()["cause"], "a Warning");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_collector_that_is_down_or_silent_holds_no_answer_up_and_is_named_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let down = {
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", gone.local_addr().unwrap()).parse().unwrap()
    };
    for (endpoint, rounds) in [(silent, 1), (down, 2)] {
        let (telemetry, dispatch, console) = build(Some(&endpoint));
        let _guard = tracing::dispatcher::set_default(&dispatch);
        let started = Instant::now();
        for _ in 0..rounds {
            assert_eq!(hook(&Arc::default(), &telemetry).await.status, StatusCode::OK);
        }
        assert!(started.elapsed() < FLUSH_MAX * rounds + Duration::from_secs(3));
        assert_eq!(console.stderr().matches("does not reach its collector").count(), 1);
    }
}
