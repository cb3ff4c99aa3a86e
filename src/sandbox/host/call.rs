//! One HTTP/1.1 call to the handler on loopback.

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{io, net::Ipv4Addr};
use tokio::net::TcpStream;

#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Nobody listens: the call did not reach the handler.
    #[error("the handler cannot be reached: {0}")]
    Refused(io::Error),
    #[error("the connection to the handler broke")]
    Broken(#[source] hyper::Error),
}

/// A connection for one request.
pub(super) struct Connection(http1::SendRequest<Body>);

pub(super) async fn connect(port: u16) -> Result<Connection, CallError> {
    let stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(CallError::Refused)?;
    let _slower_at_worst = stream.set_nodelay(true);
    let handshake = http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(CallError::Broken)?;
    tokio::spawn(async move {
        // Whoever waits for the answer hears of a broken connection.
        let _broken = connection.await;
    });
    Ok(Connection(sender))
}

impl Connection {
    pub(super) async fn send(
        mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, CallError> {
        self.0.send_request(request).await.map_err(CallError::Broken)
    }
}

/// Reads an answer to its end.
pub(super) async fn read(
    response: Response<Incoming>,
) -> Result<(http::response::Parts, Bytes), CallError> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(CallError::Broken)?;
    Ok((parts, body.to_bytes()))
}

/// A body of unknown length, which goes out in chunks.
pub(super) fn chunked(body: Vec<u8>) -> Body {
    Body::from_stream(futures::stream::once(std::future::ready(Ok::<_, io::Error>(body))))
}
