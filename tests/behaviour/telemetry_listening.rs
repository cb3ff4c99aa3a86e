//! What a handler in a sandbox lets out by OTLP, read as a collector reads it, and what it writes.

use crate::{
    harness::{Heard, START, Sandbox},
    telemetry::{Received, collector},
};
use forerunner::{
    clock::Clock,
    telemetry::{
        build,
        console::Console,
        metrics::{self, Values},
    },
};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::ExportMetricsServiceRequest as Metrics,
        trace::v1::ExportTraceServiceRequest as Traces,
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{metric::Data, number_data_point},
};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// A collector and a console, and a clock that the sandbox has too. For tests with more than one thread: what is left at
/// the end is sent from a thread that waits for it.
pub(crate) struct Listening {
    pub(crate) clock: Clock,
    pub(crate) console: Console,
    heard: Heard,
    received: Received,
}

/// A number, or how many values came to which sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Point {
    Value(f64),
    Values { count: u64, sum: f64 },
}

/// Points by name and attributes, such as `forerunner.calls{service=gitlab,status_class=2xx}`.
pub(crate) type Points = BTreeMap<String, Point>;

impl Listening {
    pub(crate) async fn begin() -> Self {
        let (endpoint, received) = collector().await;
        let (console, clock) = (Console::memory(), Clock::frozen(START.parse().unwrap()));
        let (telemetry, dispatch) = build(Some(&endpoint), clock.clone(), console.clone()).unwrap();
        Self { clock, console, heard: Heard { telemetry, dispatch }, received }
    }

    pub(crate) fn heard(&self) -> Option<Heard> {
        Some(self.heard.clone())
    }

    /// With a sandbox, and what is said there.
    pub(crate) async fn beside(fleet: &str) -> (Self, Sandbox) {
        let listening = Self::begin().await;
        let sandbox = Sandbox::at(fleet, listening.clock.clone(), listening.heard()).await;
        (listening, sandbox)
    }

    /// What the collector knows now. Every point must be one that the table names.
    pub(crate) async fn points(&self) -> Points {
        self.heard.telemetry.flush().await;
        read(&self.received)
    }
    /// The names of all spans that left, each with the keys of its attributes.
    pub(crate) async fn spans(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.heard.telemetry.flush().await;
        let received = self.received.lock().unwrap();
        let mut spans: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (_, body) in received.iter().filter(|(path, _)| path == "/v1/traces") {
            let request = Traces::decode(body.clone()).unwrap();
            let all = request.resource_spans.iter().flat_map(|of| &of.scope_spans);
            for span in all.flat_map(|of| &of.spans) {
                let keys = span.attributes.iter().map(|one| one.key.clone());
                spans.entry(span.name.clone()).or_default().extend(keys);
            }
        }
        spans
    }

    /// The audit events so far, in their order.
    pub(crate) fn audit(&self) -> Vec<serde_json::Value> {
        let out = self.console.stdout();
        let lines = out.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &serde_json::Value| line["target"] == "audit").collect()
    }
}

/// What a collector knows. Every point must be one that the table names.
pub(crate) fn read(received: &Received) -> Points {
    let received = received.lock().unwrap();
    let last = received.iter().rfind(|(path, _)| path == "/v1/metrics").expect("metrics left");
    let request = Metrics::decode(last.1.clone()).unwrap();
    let mut points = Points::new();
    for one in request.resource_metrics.iter().flat_map(|of| &of.scope_metrics) {
        for metric in &one.metrics {
            let told = metrics::ALL.iter().find(|known| known.name == metric.name);
            let told = told.unwrap_or_else(|| panic!("no metric {} is told of", metric.name));
            assert_eq!((told.unit, told.description), (&*metric.unit, &*metric.description));
            for (attributes, point) in of_data(metric.data.as_ref().unwrap()) {
                check(told, &attributes);
                let words: Vec<String> =
                    attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let name = match words.is_empty() {
                    true => metric.name.clone(),
                    false => format!("{}{{{}}}", metric.name, words.join(",")),
                };
                assert_eq!(points.insert(name.clone(), point), None, "{name}");
            }
        }
    }
    points
}

/// Every attribute is one of the metric's, and its value is one of few.
fn check(metric: &metrics::Metric, attributes: &BTreeMap<String, String>) {
    let keys: BTreeSet<&str> = attributes.keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = metric.attributes.iter().map(|one| one.name).collect();
    assert_eq!(keys, known, "{}", metric.name);
    for attribute in metric.attributes {
        let value = &attributes[attribute.name];
        match attribute.values {
            Values::Of(words) => assert!(words.contains(&value.as_str()), "{value}: {words:?}"),
            Values::Bounded(_) => {
                let fits = value.len() <= 40
                    && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                assert!(fits, "{}: `{value}` is no word", metric.name);
            }
        }
    }
}

fn of_data(data: &Data) -> Vec<(BTreeMap<String, String>, Point)> {
    let number = |point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
        let value = match point.value.unwrap() {
            number_data_point::Value::AsDouble(value) => value,
            number_data_point::Value::AsInt(value) => value as f64,
        };
        (attributes(&point.attributes), Point::Value(value))
    };
    match data {
        Data::Gauge(gauge) => gauge.data_points.iter().map(number).collect(),
        Data::Sum(sum) => sum.data_points.iter().map(number).collect(),
        Data::Histogram(histogram) => {
            let point = |one: &opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint| {
                let (count, sum) = (one.count, one.sum.unwrap());
                (attributes(&one.attributes), Point::Values { count, sum })
            };
            histogram.data_points.iter().map(point).collect()
        }
        Data::ExponentialHistogram(_) | Data::Summary(_) => panic!("we have none of these"),
    }
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum")]
    let text = |one: &KeyValue| match one.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{}: {other:?} is neither text nor a number", one.key),
    };
    attributes.iter().map(|one| (one.key.clone(), text(one))).collect()
}
