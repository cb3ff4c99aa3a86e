//! The handler as a part of this process, on a runtime of its own: ending the runtime drops every future and task
//! of the handler at once, as a process that dies drops them.

use super::{Error, worker::Build};
use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use std::{collections::BTreeMap, io, net::Ipv4Addr, thread};
use tokio::sync::oneshot;

/// A running handler; it ends when this is dropped.
pub(super) struct InProcess {
    pub(super) stop: oneshot::Sender<()>,
    /// Answers when nothing of the handler runs any more.
    pub(super) ended: oneshot::Receiver<()>,
}

/// Binds `listener`'s port, builds the router on the new runtime and serves it there.
pub(super) async fn start(
    build: Build,
    settings: BTreeMap<String, String>,
    listener: std::net::TcpListener,
) -> Result<InProcess, Error> {
    let (stop, stopped) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let (ready, built) = oneshot::channel();
    let run = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "the handler got no runtime");
                return;
            }
        };
        runtime.block_on(async move {
            tokio::select! {
                _ = stopped => {}
                served = serve(build, settings, listener, ready) => {
                    if let Err(error) = served {
                        tracing::error!(%error, "the handler stopped listening");
                    }
                }
            }
        });
        runtime.shutdown_background();
        let _nobody_waits = end.send(());
    };
    let refused = |source| Error::CommandRefused { command: "the handler".to_owned(), source };
    thread::Builder::new().name("handler".to_owned()).spawn(run).map_err(refused)?;
    let gone = |_| Error::HandlerEnded { code: "a panic".to_owned(), said: String::new() };
    built.await.map_err(gone)?;
    Ok(InProcess { stop, ended })
}

/// A free port, taken at once so that nobody else gets it.
pub(super) fn listen() -> io::Result<(u16, std::net::TcpListener)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    Ok((listener.local_addr()?.port(), listener))
}

async fn serve(
    build: Build,
    settings: BTreeMap<String, String>,
    listener: std::net::TcpListener,
    ready: oneshot::Sender<()>,
) -> io::Result<()> {
    let router: Router = build(settings).await;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let _gave_up = ready.send(());
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _broken = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
