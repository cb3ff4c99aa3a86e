//! A TLS server on loopback with certificates of its own, one that speaks HTTP/2 where it is asked to.

use axum::{body::Body, http::Request, response::Response};
use forerunner::adapters::http::{Http, HttpSettings};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};

/// A certificate that signs itself, and its key.
pub(crate) struct Certified {
    pub(crate) pem: String,
    der: rcgen::Certificate,
    key: KeyPair,
}

pub(crate) fn certified(name: &str) -> Certified {
    certified_until(name, 2100)
}

/// Valid until the start of that year.
pub(crate) fn certified_until(name: &str, year: i32) -> Certified {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let der = params.self_signed(&key).unwrap();
    Certified { pem: der.pem(), der, key }
}

impl Certified {
    /// What serves with it. `protocols` are what ALPN offers, such as `h2`.
    pub(crate) fn acceptor(&self, protocols: &[&str]) -> TlsAcceptor {
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.der.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// The server; it ends when this is dropped. It answers every request with the protocol it came by, such as `HTTP/2.0`,
/// and its path.
pub(crate) struct TlsServer {
    pub(crate) port: u16,
    connections: Arc<AtomicUsize>,
    pem: String,
    task: JoinHandle<()>,
}

impl TlsServer {
    /// `protocols` are what ALPN offers, such as `h2`.
    pub(crate) async fn start(certified: &Certified, protocols: &[&str]) -> Self {
        let acceptor = certified.acceptor(protocols);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust us ends it here.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let second = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let (io, service) = (TokioIo::new(stream), service_fn(answer));
                    if second {
                        let builder =
                            hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ = builder.serve_connection(io, service).await;
                    } else {
                        let builder = hyper::server::conn::http1::Builder::new();
                        let _ = builder.serve_connection(io, service).await;
                    }
                });
            }
        });
        Self { port, connections, pem: certified.pem.clone(), task }
    }

    /// How many connections were taken.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// A client that trusts the server's certificate.
    pub(crate) fn trusted(&self) -> Http {
        self.client(HttpSettings::default())
    }

    /// The same with other settings.
    pub(crate) fn client(&self, settings: HttpSettings) -> Http {
        let http = Http::new(settings, super::stub::clock());
        http.trusting_also(self.pem.as_bytes()).unwrap()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let text = format!("{:?} {}", request.version(), request.uri().path());
    Ok(Response::new(Body::from(text)))
}
