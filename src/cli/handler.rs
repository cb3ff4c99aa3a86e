//! `forerunner handler`: what the Functions host starts.

use crate::{
    clock::Clock,
    config::Settings,
    functions::{app::App, queue::Queue, router::router, work::Work},
    telemetry,
};
use axum::serve::ListenerExt;
use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
};
use tokio::net::TcpListener;
use tracing::{error, info};

/// Why the handler does not serve.
#[derive(Debug, thiserror::Error)]
enum Fatal {
    #[error(transparent)]
    Setting(#[from] crate::config::Error),
    #[error(transparent)]
    Telemetry(#[from] telemetry::StartError),
    #[error("port {port} of 127.0.0.1 cannot be had")]
    Port { port: u16, source: std::io::Error },
    #[error("serving ended")]
    Serve { source: std::io::Error },
}

/// Serves the host until the process is killed, which is how the host ends it. Never ends with 0: the host does not
/// restart a handler that does (functions-host.md §1.6).
pub async fn run(
    settings: Settings,
    work: Arc<dyn Work>,
    queue: Arc<dyn Queue>,
    clock: Clock,
) -> ExitCode {
    let Err(fatal) = serve(settings, work, queue, clock).await;
    // Also where logging could not be set up; the host keeps the last lines of stderr with its own error.
    let mut lines = format!("error: {fatal}\n");
    let mut cause = std::error::Error::source(&fatal);
    while let Some(error) = cause {
        lines += &format!("  caused by: {error}\n");
        cause = error.source();
    }
    let _ = std::io::stderr().write_all(lines.as_bytes());
    ExitCode::FAILURE
}

async fn serve(
    settings: Settings,
    work: Arc<dyn Work>,
    queue: Arc<dyn Queue>,
    clock: Clock,
) -> Result<std::convert::Infallible, Fatal> {
    let port = settings.port()?;
    let telemetry = telemetry::start(&settings, clock.clone())?;
    // One JSON line instead of several lines of plain text.
    std::panic::set_hook(Box::new(|panic| error!("{panic}")));
    let app = Arc::new(App::new(settings, clock, queue, work, telemetry));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // Last of all: the host takes any answer for readiness.
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| Fatal::Port { port, source })?.tap_io(|stream| {
        // Answers are small; a refusal only costs time.
        let _ = stream.set_nodelay(true);
    });
    info!(port, version = env!("CARGO_PKG_VERSION"), "forerunner listens on port {port}");
    let ended = axum::serve(listener, router(app)).await;
    let source = ended.err().unwrap_or_else(|| std::io::Error::other("the server stopped"));
    Err(Fatal::Serve { source })
}
