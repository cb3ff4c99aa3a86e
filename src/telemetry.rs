//! Logs, traces and metrics: JSON lines for the host, and OTLP where a collector is configured.

pub mod audit;
pub mod console;
pub(crate) mod meters;
pub mod metrics;
mod otlp;
pub(crate) mod words;

use crate::{clock::Clock, config::Settings};
use console::{Console, JsonLine};
use meters::Meters;
use opentelemetry::{
    Context, KeyValue,
    metrics::MeterProvider,
    propagation::TextMapPropagator,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_sdk::{
    Resource, metrics::SdkMeterProvider, propagation::TraceContextPropagator,
    trace::SdkTracerProvider,
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tracing::{Dispatch, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, fmt::format::JsonFields, layer::SubscriberExt};
use url::Url;
use uuid::Uuid;

/// How long an answer may wait for its telemetry to leave.
pub const FLUSH_MAX: Duration = Duration::from_secs(2);
/// How long it waits while the collector is known not to answer.
const FLUSH_IN_VAIN: Duration = Duration::from_millis(100);
/// Libraries speak only when something is wrong; OpenTelemetry's own notes would feed on themselves.
const FILTER: &str = "info,opentelemetry=off,opentelemetry_sdk=off,opentelemetry_otlp=off,\
                      opentelemetry_http=off,hyper=warn,hyper_util=warn,reqwest=warn,h2=warn,rustls=warn,\
                      azure_core=warn,azure_identity=warn,azure_messaging_servicebus=warn,kube=warn,tower=warn";

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the OTLP exporter could not be built")]
    Exporter { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the audit cannot be written to {}; name another file with --audit", file.display())]
    AuditFile { file: PathBuf, source: std::io::Error },
    #[error("logging was already set up in this process")]
    AlreadyStarted,
}

/// Sends what was recorded; cheap to clone.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

struct Inner {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    /// Only where anything leaves: at rest they would cost memory for nobody.
    meters: Option<Meters>,
    /// Whether anything leaves this process.
    exports: bool,
    /// Whether the last flush failed: said once, not per invocation.
    silent: AtomicBool,
    flushes_asked: AtomicU64,
    flushes_done: tokio::sync::Mutex<Flushed>,
}

/// Sets up this process: JSON lines on stdout and stderr, OTLP if the settings have a collector. Needs to run inside
/// the runtime.
pub fn start(settings: &Settings, clock: Clock) -> Result<Telemetry, StartError> {
    let (telemetry, dispatch) = build(settings.otlp_endpoint.as_ref(), clock, Console::process())?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| StartError::AlreadyStarted)?;
    Ok(telemetry)
}

/// For who writes from a desk: only the audit's lines, at the end of `file`.
///
/// Errors: a file that cannot be written. Then nothing else may be.
pub fn start_audit(file: &Path, clock: Clock) -> Result<(), StartError> {
    let console = Console::appending_to(file)
        .map_err(|source| StartError::AuditFile { file: file.to_owned(), source })?;
    let lines =
        tracing_subscriber::fmt::layer().event_format(JsonLine::new(clock)).with_writer(console);
    let filter = EnvFilter::new(format!("off,{}=info", audit::TARGET));
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    let dispatch = Dispatch::new(subscriber);
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| StartError::AlreadyStarted)
}

/// The same without touching the process, so that a test can look at it. Spans always have ids, collector or not,
/// so that messages carry a trace on.
pub fn build(
    endpoint: Option<&Url>,
    clock: Clock,
    console: Console,
) -> Result<(Telemetry, Dispatch), StartError> {
    let resource = Resource::builder()
        .with_service_name("forerunner")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        // Processes run side by side: without it their counters would be one, and go up and down.
        .with_attribute(KeyValue::new("service.instance.id", Uuid::new_v4().to_string()))
        .build();
    // The host's sampling flag is about its own telemetry: it is unset wherever the host exports nothing.
    let mut traces = SdkTracerProvider::builder()
        .with_sampler(opentelemetry_sdk::trace::Sampler::AlwaysOn)
        .with_resource(resource.clone());
    let mut metrics = SdkMeterProvider::builder().with_resource(resource);
    if let Some(endpoint) = endpoint {
        let exporters = otlp::exporters(endpoint)?;
        traces = traces.with_batch_exporter(exporters.traces);
        metrics = metrics.with_periodic_exporter(exporters.metrics);
    }
    let exports = endpoint.is_some();
    let telemetry = Telemetry::new(traces.build(), metrics.build(), exports, clock.clone());
    let spans = tracing_opentelemetry::layer()
        .with_tracer(telemetry.0.traces.tracer("forerunner"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false);
    let lines = tracing_subscriber::fmt::layer()
        .event_format(JsonLine::new(clock))
        .fmt_fields(JsonFields::new())
        .log_internal_errors(false)
        .with_writer(console);
    let subscriber = tracing_subscriber::registry()
        .with(EnvFilter::new(FILTER))
        .with(telemetry.0.meters.clone())
        .with(spans)
        .with(lines);
    Ok((telemetry, Dispatch::new(subscriber)))
}

impl Telemetry {
    /// Records nothing and sends nothing.
    pub fn off() -> Self {
        let (traces, metrics) = (SdkTracerProvider::builder(), SdkMeterProvider::builder());
        Self::new(traces.build(), metrics.build(), false, Clock::system())
    }

    fn new(
        traces: SdkTracerProvider,
        metrics: SdkMeterProvider,
        exports: bool,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner {
            meters: exports.then(|| Meters::new(&metrics.meter("forerunner"), clock)),
            traces,
            metrics,
            exports,
            silent: AtomicBool::new(false),
            flushes_asked: AtomicU64::new(0),
            flushes_done: tokio::sync::Mutex::default(),
        }))
    }

    /// Counts one answered invocation.
    pub(crate) fn record(&self, function: &'static str, status: u16, took: Duration) {
        if let Some(meters) = &self.0.meters {
            meters.invocation(function, status, took);
        }
    }

    /// Sends what ended so far, within [`FLUSH_MAX`]. The host may freeze or kill the process once it has its answer.
    /// Those who ask while a flush runs share the next one.
    pub async fn flush(&self) {
        if !self.0.exports {
            return;
        }
        let mine = self.0.flushes_asked.fetch_add(1, Ordering::SeqCst) + 1;
        let was_silent = self.0.silent.load(Ordering::SeqCst);
        let bound = if was_silent { FLUSH_IN_VAIN } else { FLUSH_MAX };
        // On its own, so that one that takes too long goes on, alone, and later ones do not pile up on threads.
        let flush = tokio::spawn(self.clone().flush_up_to(mine));
        let left = matches!(tokio::time::timeout(bound, flush).await, Ok(Ok(true)));
        self.0.silent.store(!left, Ordering::SeqCst);
        if !left && !was_silent {
            tracing::warn!("telemetry does not reach its collector; the work goes on without it");
        }
    }

    async fn flush_up_to(self, mine: u64) -> bool {
        let mut done = self.0.flushes_done.lock().await;
        if done.upto >= mine {
            return done.left;
        }
        let upto = self.0.flushes_asked.load(Ordering::SeqCst);
        let inner = self.0.clone();
        let flush = move || {
            let (traces, metrics) = (inner.traces.force_flush(), inner.metrics.force_flush());
            traces.is_ok() && metrics.is_ok()
        };
        let left = tokio::task::spawn_blocking(flush).await.unwrap_or(false);
        *done = Flushed { upto, left };
        left
    }
}

/// The last flush that ended: whom it served, and whether everything left.
#[derive(Default)]
struct Flushed {
    upto: u64,
    left: bool,
}

/// The current span as a `traceparent`, for a message or a call that carries the trace on.
pub fn traceparent() -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.remove("traceparent")
}

/// Makes a span that was not entered yet continue the trace that a request's headers or a message carry.
/// Text that is no `traceparent` begins a new trace.
pub fn continue_trace(span: &Span, traceparent: Option<&str>) {
    if let Some(context) = traceparent.and_then(remote) {
        // Fails only for a span that nobody records.
        let _ = span.set_parent(context);
    }
}

/// Points from `span` to the span that is current now.
pub(crate) fn link_current(span: &Span) {
    let current = Span::current().context().span().span_context().clone();
    if current.is_valid() {
        span.add_link(current);
    }
}

/// The 32 hex digits by which a trace is looked up.
pub(crate) fn trace_id(span: &Span) -> Option<String> {
    let context = span.context().span().span_context().clone();
    context.is_valid().then(|| context.trace_id().to_string())
}

fn remote(traceparent: &str) -> Option<Context> {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    context.span().span_context().is_valid().then_some(context)
}
