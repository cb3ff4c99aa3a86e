//! Logs, traces and metrics: JSON lines for the host, and OTLP where a collector is configured.

pub mod console;
mod otlp;

use crate::{clock::Clock, config::Settings};
use console::{Console, JsonLine};
use opentelemetry::{
    Context, KeyValue,
    metrics::{Counter, Histogram, MeterProvider},
    propagation::TextMapPropagator,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_sdk::{
    Resource, metrics::SdkMeterProvider, propagation::TraceContextPropagator,
    trace::SdkTracerProvider,
};
use std::{
    collections::HashMap,
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

/// How long an answer may wait for its telemetry to leave.
pub const FLUSH_MAX: Duration = Duration::from_secs(2);
/// How long it waits while the collector is known not to answer.
const FLUSH_IN_VAIN: Duration = Duration::from_millis(100);
/// Libraries speak only when something is wrong; OpenTelemetry's own notes would feed on themselves.
const FILTER: &str = "info,opentelemetry=off,opentelemetry_sdk=off,opentelemetry_otlp=off,\
                      opentelemetry_http=off,hyper=warn,hyper_util=warn,reqwest=warn,h2=warn,rustls=warn";

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the OTLP exporter could not be built")]
    Exporter { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("logging was already set up in this process")]
    AlreadyStarted,
}

/// Sends what was recorded; cheap to clone.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

struct Inner {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    invocations: Counter<u64>,
    duration: Histogram<f64>,
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
    let telemetry = Telemetry::new(traces.build(), metrics.build(), endpoint.is_some());
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
    let subscriber =
        tracing_subscriber::registry().with(EnvFilter::new(FILTER)).with(spans).with(lines);
    Ok((telemetry, Dispatch::new(subscriber)))
}

impl Telemetry {
    /// Records nothing and sends nothing.
    pub fn off() -> Self {
        Self::new(SdkTracerProvider::builder().build(), SdkMeterProvider::builder().build(), false)
    }

    fn new(traces: SdkTracerProvider, metrics: SdkMeterProvider, exports: bool) -> Self {
        let meter = metrics.meter("forerunner");
        Self(Arc::new(Inner {
            invocations: meter.u64_counter("forerunner.invocations").build(),
            duration: meter.f64_histogram("forerunner.invocation.duration").with_unit("s").build(),
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
        let labels = [
            KeyValue::new("function", function),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ];
        self.0.invocations.add(1, &labels);
        self.0.duration.record(took.as_secs_f64(), &labels);
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
