//! The one HTTP client: every call to GitLab, Azure, Kubernetes and Service Bus goes through [`Http::send`].
//!
//! It follows no redirect, repeats at most once and only what is safe to repeat, and connects to nothing before its
//! first use. A host that the loopback table names is reached as plain HTTP on 127.0.0.1, below everything else.

mod addresses;
mod error;
mod loopback;
mod measure;
mod message;
mod proxy;
mod repeat;

pub use error::{NoCertificate, TransportError};
pub use loopback::Loopback;
pub use message::{Repeat, Request, Response};
pub use proxy::Proxy;

use crate::{
    clock::Clock,
    telemetry::{audit, words::Called},
};
use bytes::{Bytes, BytesMut};
use reqwest::{Certificate, Client, ClientBuilder, Method, redirect};
use std::{
    fmt,
    sync::{Arc, Once, OnceLock},
    time::{Duration, Instant},
};
use url::Url;

/// How to reach the world.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Hosts that a sandbox on this machine plays.
    pub loopback: Vec<Loopback>,
    /// What HTTPS goes through; plain HTTP, which is loopback alone, never does.
    pub proxy: Option<Proxy>,
    /// Until TCP and TLS stand.
    pub connect_timeout: Duration,
    /// From the start of a try to the last byte of its answer.
    pub total_timeout: Duration,
    /// An answer with more bytes than this is an error.
    pub response_bytes_max: usize,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            loopback: Vec::new(),
            proxy: None,
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(30),
            response_bytes_max: 16 << 20,
        }
    }
}

/// The client. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Http {
    inner: Arc<Inner>,
    called: Called,
}

struct Inner {
    settings: Arc<HttpSettings>,
    clock: Clock,
    trust: Trust,
    /// For plain HTTP: loopback and the identity endpoint, which must never go through a proxy.
    plain: Arc<OnceLock<Result<Client, String>>>,
    /// Made at the first HTTPS call: reading the system's certificates takes longer than a hook may.
    secure: OnceLock<Result<Client, String>>,
}

enum Trust {
    /// The system's certificates and these.
    SystemAnd(Vec<Certificate>),
    /// These PEM certificates and no other.
    Only(Vec<u8>),
}

impl Http {
    /// Trusts what the system trusts, and opens no connection.
    pub fn new(settings: HttpSettings, clock: Clock) -> Self {
        install_crypto_provider();
        let inner = Arc::new(Inner {
            settings: Arc::new(settings),
            clock,
            trust: Trust::SystemAnd(Vec::new()),
            plain: Arc::default(),
            secure: OnceLock::new(),
        });
        Self { inner, called: Called::Other }
    }

    /// The same client, saying whom its calls go to.
    pub(crate) fn to(&self, called: Called) -> Self {
        Self { inner: self.inner.clone(), called }
    }

    /// A client with the same settings that also trusts the certificates of `pem`, for a GitLab with a private authority.
    pub fn trusting_also(&self, pem: &[u8]) -> Result<Self, NoCertificate> {
        let certificates = Certificate::from_pem_bundle(pem)
            .map_err(|error| NoCertificate::Broken { reason: chain(&error) })?;
        match certificates.is_empty() {
            true => Err(NoCertificate::Missing),
            false => Ok(self.trusting(Trust::SystemAnd(certificates))),
        }
    }

    /// A client with the same settings that trusts the certificates of `pem` alone, for a cluster's API server.
    pub fn trusting_only(&self, pem: Vec<u8>) -> Self {
        self.trusting(Trust::Only(pem))
    }

    fn trusting(&self, trust: Trust) -> Self {
        let inner = Arc::new(Inner {
            settings: self.inner.settings.clone(),
            clock: self.inner.clock.clone(),
            trust,
            plain: self.inner.plain.clone(),
            secure: OnceLock::new(),
        });
        Self { inner, called: self.called }
    }

    /// Sends a request and reads the whole answer, whatever its status. A redirect is an answer like any other.
    ///
    /// Repeats once, after at most a second: anything while no connection was made; what is marked
    /// [`Repeat::Safe`] also after a broken connection and a passing server error.
    #[tracing::instrument(name = "http", level = "debug", skip_all, fields(
        http.request.method = %request.method,
        server.address = request.url.host_str(),
        url.path = request.url.path(),
        http.response.status_code,
    ))]
    pub async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let answer = self.send_twice(&request).await;
        if let Ok(response) = &answer {
            let status = response.status.as_u16();
            tracing::Span::current().record("http.response.status_code", status);
        }
        answer
    }

    async fn send_twice(&self, request: &Request) -> Result<Response, TransportError> {
        if !request.pause.is_zero() {
            self.wait(request.pause.min(repeat::PAUSE_MAX)).await;
        }
        let first = self.try_once(request).await;
        let Some(pause) = repeat::pause(request.repeat, &first, repeat::jitter()) else {
            return first;
        };
        self.wait(pause).await;
        self.try_once(request).await
    }

    /// Under a clock that stands still nothing comes of waiting, and the next call is as late as it can be.
    async fn wait(&self, pause: Duration) {
        if self.inner.clock.stands_still() {
            return tokio::task::yield_now().await;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that waits, for at most a second"
        )]
        tokio::time::sleep(pause).await;
    }

    async fn try_once(&self, request: &Request) -> Result<Response, TransportError> {
        let began = Instant::now();
        let outcome = self.exchange(request).await;
        measure::tell(self.called, request, &outcome, began.elapsed());
        if !request.reads {
            let status = outcome.as_ref().ok().map(|answer| answer.status.as_u16());
            let now = self.inner.clock.now();
            audit::wrote(self.called, &request.method, request.url.path(), status, now);
        }
        outcome
    }

    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        let host = request.url.host_str().unwrap_or_default().to_owned();
        let route = loopback::route(&self.inner.settings.loopback, &request.url);
        let url = route.as_ref().unwrap_or(&request.url);
        let client = self.client(url)?;
        let mut outgoing = client
            .request(request.method.clone(), url.clone())
            .headers(request.headers.clone())
            .body(request.body.clone());
        // Left out by reqwest where a body is empty, and asked for by what stands before Azure's services.
        let takes_body = [Method::POST, Method::PUT, Method::PATCH].contains(&request.method);
        if takes_body && request.body.is_empty() {
            outgoing = outgoing.header(reqwest::header::CONTENT_LENGTH, 0);
        }
        if route.is_some() {
            outgoing = outgoing.header(reqwest::header::HOST, authority(&request.url));
        }
        let broken = |error| TransportError::from_reqwest(&host, error);
        let answer = outgoing.send().await.map_err(broken)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let retry_after = repeat::retry_after(&headers, self.inner.clock.now());
        let body = self.read_body(answer, &host).await?;
        Ok(Response { status, headers, body, retry_after })
    }

    async fn read_body(
        &self,
        mut answer: reqwest::Response,
        host: &str,
    ) -> Result<Bytes, TransportError> {
        let limit = self.inner.settings.response_bytes_max;
        let too_large = || TransportError::TooLarge { host: host.to_owned(), limit };
        if answer.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) =
            answer.chunk().await.map_err(|error| TransportError::from_reqwest_body(host, error))?
        {
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    fn client(&self, url: &Url) -> Result<&Client, TransportError> {
        let made = if url.scheme() == "https" {
            self.inner.secure.get_or_init(|| self.secure_client())
        } else {
            self.inner.plain.get_or_init(|| {
                // Building the TLS side with no certificates at all is cheap, and it is never used.
                finish(self.builder().tls_certs_only([]))
            })
        };
        made.as_ref().map_err(|reason| TransportError::NoClient { reason: reason.clone() })
    }

    fn secure_client(&self) -> Result<Client, String> {
        let builder = match &self.inner.trust {
            Trust::SystemAnd(extra) => self.builder().tls_certs_merge(extra.iter().cloned()),
            Trust::Only(pem) => {
                let only = Certificate::from_pem_bundle(pem).map_err(|error| chain(&error))?;
                self.builder().tls_certs_only(only)
            }
        };
        match &self.inner.settings.proxy {
            Some(proxy) => finish(builder.proxy(proxy.carry().map_err(|error| chain(&error))?)),
            None => finish(builder),
        }
    }

    fn builder(&self) -> ClientBuilder {
        let settings = &self.inner.settings;
        Client::builder()
            // Ours is in the settings: the library would read the environment by itself.
            .no_proxy()
            .redirect(redirect::Policy::none())
            .user_agent(concat!("forerunner/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.total_timeout)
            // Shorter than any load balancer's own limit, so that we seldom write into a closed connection.
            .pool_idle_timeout(Duration::from_secs(50))
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

fn finish(builder: ClientBuilder) -> Result<Client, String> {
    builder.build().map_err(|error| chain(&error))
}

/// `host` or `host:port`, as a client that is not redirected would send it.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

fn install_crypto_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that somebody installed one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
