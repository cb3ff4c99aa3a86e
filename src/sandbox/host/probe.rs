//! Whether the handler is ready (functions-host.md §1.4).

use super::{
    Error,
    call::{self, CallError},
};
use axum::body::Body;
use hyper::Request;
use jiff::SignedDuration;
use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// Time between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(25);
/// A handler that takes longer for `GET /` is refused: the real host would wait for it, and so hide it. Long enough for one
/// that shares a busy machine's two cores with a hundred tests.
const PROBE_ANSWER_MAX: Duration = Duration::from_secs(10);
/// `GET /` every 25 ms until there is any answer, however it looks. Only the waits count towards `limit`.
pub(super) async fn probe(port: u16, limit: SignedDuration) -> Result<(), Error> {
    let limit = Duration::try_from(limit).unwrap_or_default();
    let mut waited = Duration::ZERO;
    loop {
        let begun = Instant::now();
        match tokio::time::timeout(PROBE_ANSWER_MAX, ping(port)).await {
            Ok(Err(CallError::Refused(_))) => {}
            // A broken connection is a sign of life as well.
            Ok(Ok(()) | Err(CallError::Broken(_))) => return Ok(()),
            Err(_) => {
                return Err(Error::HandlerSlow { milliseconds: begun.elapsed().as_millis() });
            }
        }
        if waited >= limit {
            return Err(Error::HandlerNotReady { seconds: limit.as_secs_f64() });
        }
        #[expect(clippy::disallowed_methods, reason = "the real host probes every 25 ms")]
        tokio::time::sleep(PROBE_EVERY).await;
        waited += PROBE_EVERY;
    }
}

async fn ping(port: u16) -> Result<(), CallError> {
    let mut request = Request::new(Body::empty());
    if let Ok(host) = format!("{}:{port}", Ipv4Addr::LOCALHOST).parse() {
        request.headers_mut().insert(http::header::HOST, host);
    }
    let response = call::connect(port).await?.send(request).await?;
    call::read(response).await.map(drop)
}
