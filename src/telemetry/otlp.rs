//! OTLP over HTTP with protobuf bodies, sent by an HTTP client of ours: the exporter's own would bring a second TLS
//! provider.

use super::StartError;
use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    MetricExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
};
use std::time::Duration;
use url::{Host, Url};

/// Traces and metrics leave one after the other, both within [`super::FLUSH_MAX`]; what does not leave is dropped, as a
/// repeat would make the next answer wait.
const EXPORT_MAX: Duration = Duration::from_millis(900);

pub(super) struct Exporters {
    pub(super) traces: SpanExporter,
    pub(super) metrics: MetricExporter,
}

/// Exporters that post to `v1/traces` and `v1/metrics` below `endpoint`.
pub(super) fn exporters(endpoint: &Url) -> Result<Exporters, StartError> {
    let client = Client::new(endpoint)?;
    let base = endpoint.as_str().trim_end_matches('/');
    let traces = SpanExporter::builder()
        .with_http()
        .with_http_client(client.clone())
        .with_endpoint(format!("{base}/v1/traces"))
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(EXPORT_MAX)
        .with_retry_policy(RetryPolicy::disabled())
        .build();
    let metrics = MetricExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(format!("{base}/v1/metrics"))
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(EXPORT_MAX)
        .with_retry_policy(RetryPolicy::disabled())
        .build();
    Ok(Exporters {
        traces: traces.map_err(|error| StartError::Exporter { source: error.into() })?,
        metrics: metrics.map_err(|error| StartError::Exporter { source: error.into() })?,
    })
}

/// Exporters run on threads of their own; the request itself needs the runtime.
#[derive(Clone, Debug)]
struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

impl Client {
    fn new(endpoint: &Url) -> Result<Self, StartError> {
        // Refused when the process already has its provider, which is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().timeout(EXPORT_MAX);
        let local = match endpoint.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        let builder = if local { builder.no_proxy() } else { builder };
        let http =
            builder.build().map_err(|error| StartError::Exporter { source: error.into() })?;
        Ok(Self { http, runtime: tokio::runtime::Handle::current() })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let exchange = async move {
            let response = http.execute(request.try_into()?).await?;
            let status = response.status();
            let body = response.bytes().await?;
            let mut answer = Response::new(body);
            *answer.status_mut() = status;
            Ok(answer)
        };
        self.runtime.spawn(exchange).await?
    }
}
