//! The one HTTP client, against servers on loopback.

use super::stub::{Stub, clock, reply};
use forerunner::adapters::http::{Http, HttpSettings, Loopback, Repeat, Request, TransportError};
use http::Method;
use jiff::SignedDuration;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

const URL: &str = "https://service.example.com/api/v4/groups/42?with_projects=false";

fn get() -> Request {
    Request::get(URL.parse().unwrap())
}

fn post(repeat: Repeat) -> Request {
    Request::new(Method::POST, URL.parse().unwrap()).repeat(repeat)
}

#[tokio::test]
async fn a_loopback_host_is_asked_in_plain_http_by_its_own_name() {
    let stub = Stub::answering(|_, _| reply(200, "hello")).await;
    let http = stub.http(&["service.example.com"]);
    let answer = http.send(get()).await.unwrap();
    assert_eq!(answer.text(), "hello");
    let seen = stub.seen();
    assert_eq!(seen[0].line(), "GET /api/v4/groups/42?with_projects=false");
    assert_eq!(seen[0].header("host"), Some("service.example.com"));
    assert!(seen[0].header("user-agent").unwrap().starts_with("forerunner/"));
}

#[tokio::test]
async fn a_passing_server_error_is_repeated_once_and_only_where_that_is_safe() {
    let check = async |request: Request, failures: usize, status: u16, calls: usize| {
        let answer = move |before, _: &_| reply(if before < failures { 503 } else { 200 }, "");
        let stub = Stub::answering(answer).await;
        let answer = stub.http(&["service.example.com"]).send(request).await.unwrap();
        assert_eq!((answer.status.as_u16(), stub.seen().len()), (status, calls));
    };
    check(get(), 1, 200, 2).await;
    check(get(), 9, 503, 2).await;
    check(post(Repeat::Safe), 1, 200, 2).await;
    check(post(Repeat::Never), 1, 503, 1).await;
}

#[tokio::test]
async fn a_throttled_call_is_not_repeated_before_its_time() {
    let stub = Stub::answering(|_, _| reply(429, "").header("retry-after", "30")).await;
    let answer = stub.http(&["service.example.com"]).send(get()).await.unwrap();
    assert_eq!(answer.retry_after, Some(SignedDuration::from_secs(30)));
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn a_date_to_retry_after_is_counted_from_our_own_clock() {
    let date = "Mon, 23 Nov 2026 10:02:00 GMT";
    let stub = Stub::answering(|_, _| reply(503, "").header("retry-after", date)).await;
    let answer = stub.http(&["service.example.com"]).send(get()).await.unwrap();
    assert_eq!(answer.retry_after, Some(SignedDuration::from_mins(2)));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let elsewhere = |_, _: &_| reply(302, "").header("location", "http://127.0.0.1:9/elsewhere");
    let stub = Stub::answering(elsewhere).await;
    let answer = stub.http(&["service.example.com"]).send(get()).await.unwrap();
    assert_eq!((answer.status.as_u16(), stub.seen().len()), (302, 1));
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_an_error() {
    let stub = Stub::answering(|before, _| reply(200, "x".repeat(100 + before))).await;
    let settings = HttpSettings {
        loopback: vec![Loopback::new("service.example.com", stub.port)],
        response_bytes_max: 100,
        ..HttpSettings::default()
    };
    let http = Http::new(settings, clock());
    assert_eq!(http.send(get()).await.unwrap().body.len(), 100);
    let error = http.send(get()).await.unwrap_err();
    assert!(matches!(error, TransportError::TooLarge { limit: 100, .. }), "{error:?}");
}

/// A server that takes each connection's first request and closes without a word.
async fn silent() -> (u16, Arc<AtomicUsize>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, taken, tasks)
}

fn http_to(port: u16) -> Http {
    let loopback = vec![Loopback::new("service.example.com", port)];
    Http::new(HttpSettings { loopback, ..HttpSettings::default() }, clock())
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_only_where_that_is_safe() {
    for (repeat, expected) in [(Repeat::Never, 1), (Repeat::Safe, 2)] {
        let (port, taken, _tasks) = silent().await;
        let error = http_to(port).send(post(repeat)).await.unwrap_err();
        assert!(matches!(error, TransportError::Broken { .. }), "{error:?}");
        assert_eq!(taken.load(Ordering::SeqCst), expected, "{repeat:?}");
    }
}

#[tokio::test]
async fn what_was_never_sent_is_tried_again_whatever_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = http_to(port).send(post(Repeat::Never)).await.unwrap_err();
    assert!(matches!(error, TransportError::Unreached { .. }), "{error:?}");
    // The server comes up between the two tries, which are at least 50 ms apart.
    let http = http_to(port);
    let sending = tokio::spawn(async move { http.send(post(Repeat::Never)).await });
    tokio::task::yield_now().await;
    let _server = keep_alive_server(port).await;
    assert_eq!(sending.await.unwrap().unwrap().text(), "ok");
}

/// Answers every request with `ok` and keeps connections open until it is dropped with all of them.
async fn keep_alive_server(port: u16) -> JoinSet<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                while stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    tasks
}

#[tokio::test]
async fn a_server_that_came_back_is_reached_in_spite_of_kept_connections() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let http = http_to(free);
    for _ in 0..3 {
        let mut server = keep_alive_server(free).await;
        for _ in 0..2 {
            assert_eq!(http.send(post(Repeat::Never)).await.unwrap().text(), "ok");
        }
        server.shutdown().await;
    }
}

#[tokio::test]
async fn an_error_names_the_host_and_nothing_that_was_sent() {
    let (port, _, _tasks) = silent().await;
    let url = "https://service.example.com/path-of-ours?token=made-up".parse().unwrap();
    let error = http_to(port).send(Request::get(url)).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("service.example.com"), "{text}");
    assert!(!text.contains("made-up") && !text.contains("path-of-ours"), "{text}");
}
