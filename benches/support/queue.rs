//! A queue that takes everything, and remembers how long it took over each message.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};
use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

/// Serves the token endpoint and the queue `rounds` on one port.
pub(crate) struct Queue {
    pub(crate) port: u16,
    inner: Arc<Inner>,
}

struct Inner {
    /// How long an answer takes.
    answers_after: AtomicU64,
    /// Microseconds by the number in the message's cause.
    took: Vec<AtomicU64>,
}

impl Queue {
    /// Takes messages whose cause is [`cause`] of a number below `messages`.
    pub(crate) async fn start(messages: usize) -> Self {
        let took = (0..messages).map(|_| AtomicU64::new(0)).collect();
        let inner = Arc::new(Inner { answers_after: AtomicU64::new(0), took });
        let router = Router::new()
            .route("/msi/token", get(token))
            .route("/rounds/messages", post(take))
            .with_state(inner.clone());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("loopback has free ports");
        let port = listener.local_addr().expect("it is bound").port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, inner }
    }

    pub(crate) fn answer_after(&self, time: Duration) {
        self.inner.answers_after.store(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// How long the queue itself took over that message; `None` where it never came.
    pub(crate) fn took(&self, message: usize) -> Option<Duration> {
        let took = self.inner.took.get(message)?.load(Ordering::Relaxed);
        (took > 0).then(|| Duration::from_micros(took))
    }
}

/// The delivery id that makes a hook's message known again.
pub(crate) fn cause(message: usize) -> String {
    format!("bench-{message}")
}

async fn token() -> Json<Value> {
    Json(json!({
        "access_token": "made-up-token",
        "expires_on": "4102444800",
        "resource": "https://servicebus.azure.net",
        "token_type": "Bearer",
    }))
}

async fn take(State(inner): State<Arc<Inner>>, body: String) -> StatusCode {
    let begun = Instant::now();
    let wait = Duration::from_micros(inner.answers_after.load(Ordering::Relaxed));
    if !wait.is_zero() {
        #[expect(clippy::disallowed_methods, reason = "a queue far away takes its time")]
        tokio::time::sleep(wait).await;
    }
    let number = body.split("bench-").nth(1).map(|rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse::<usize>()
    });
    let Some(took) = number.and_then(Result::ok).and_then(|number| inner.took.get(number)) else {
        return StatusCode::BAD_REQUEST;
    };
    took.store((begun.elapsed().as_micros() as u64).max(1), Ordering::Relaxed);
    StatusCode::CREATED
}
