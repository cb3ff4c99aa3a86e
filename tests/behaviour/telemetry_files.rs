//! What is written about telemetry is true: the page has every metric, span and field, and the dashboard and the alert
//! rules ask for nothing that does not exist.

use crate::{deeds::plan_fleet, telemetry_listening::Listening};
use forerunner::telemetry::metrics::{self, Kind, Metric, Values};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

fn file(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A metric's line on the page.
fn row(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let attributes: Vec<String> = metric
        .attributes
        .iter()
        .map(|one| match one.values {
            Values::Of(words) => format!("`{}`: {}", one.name, words.join(", ")),
            Values::Bounded(words) => format!("`{}` ({words})", one.name),
        })
        .collect();
    let attributes = attributes.join("; ");
    format!(
        "| `{}` | {kind} | `{}` | {attributes} | {} |",
        metric.name, metric.unit, metric.description
    )
}

#[test]
fn the_page_has_every_metric_as_the_code_has_it() {
    let page = file("docs/telemetry.md");
    let told: Vec<&str> = page.lines().filter(|line| line.starts_with("| `forerunner.")).collect();
    let expected: Vec<String> = metrics::ALL.iter().map(row).collect();
    assert_eq!(told, expected, "the table should be:\n{}", expected.join("\n"));
}

/// The names in the first column below a heading of the page, such as `unit` of "| `unit` | …".
fn listed(page: &str, heading: &str) -> BTreeSet<String> {
    let (_, part) = page.split_once(&format!("\n## {heading}\n")).expect(heading);
    let part = part.split("\n## ").next().unwrap();
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_has_every_span_and_every_field_of_a_line() {
    let (listening, sandbox) = Listening::beside(&plan_fleet()).await;
    sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.put_on_queue("{}", "target/g1");
    sandbox.settle().await;
    sandbox.sweep().await;
    let page = file("docs/telemetry.md");
    let (spans, attributes) = (listed(&page, "Spans"), listed(&page, "Attributes of spans"));
    for (name, keys) in listening.spans().await {
        assert!(spans.contains(&name), "the page has no span `{name}`");
        for key in keys {
            assert!(attributes.contains(&key), "the page has no attribute `{key}` of `{name}`");
        }
    }
    let fields = listed(&page, "Lines");
    let said = listening.console.stdout() + &listening.console.stderr();
    for line in said.lines() {
        let line: Map<String, Value> = serde_json::from_str(line).unwrap();
        if line["target"] == "audit" {
            continue;
        }
        let speaker = line["target"].as_str().unwrap();
        assert!(speaker.starts_with("forerunner") || line["level"] == "WARN", "{line:?}");
        for key in line.keys() {
            assert!(fields.contains(key), "the page has no field `{key}`: {line:?}");
        }
    }
}

/// Every field of an event is explained on the page, by the names of the schema.
#[test]
fn the_page_explains_every_field_of_an_audit_event() {
    let listed = listed(&file("docs/telemetry.md"), "Audit events");
    let schema = forerunner::telemetry::audit::schema();
    let known: BTreeSet<String> =
        schema["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(listed, known);
}

/// A metric's names in Prometheus, with the labels that each has, and their words where they are few.
fn in_prometheus() -> BTreeMap<String, BTreeMap<String, Option<&'static [&'static str]>>> {
    let mut names = BTreeMap::new();
    for metric in metrics::ALL {
        let unit = match metric.unit {
            "s" => "_seconds",
            "d" => "_days",
            unit => {
                assert!(unit.starts_with('{'), "{unit} has no name in Prometheus");
                ""
            }
        };
        let base = format!("{}{unit}", metric.name.replace('.', "_"));
        let labels = metric.attributes.iter().map(|one| {
            let words = match one.values {
                Values::Of(words) => Some(words),
                Values::Bounded(_) => None,
            };
            (one.name.replace('.', "_"), words)
        });
        let labels: BTreeMap<_, _> = labels.collect();
        match metric.kind {
            Kind::Counter => _ = names.insert(format!("{base}_total"), labels),
            Kind::Gauge => _ = names.insert(base, labels),
            Kind::Histogram(_) => {
                let mut by_bucket = labels.clone();
                by_bucket.insert("le".to_owned(), None);
                names.insert(format!("{base}_bucket"), by_bucket);
                names.insert(format!("{base}_count"), labels.clone());
                names.insert(format!("{base}_sum"), labels);
            }
        }
    }
    names
}

/// Every metric, label and word of an expression exists. Answers the metrics that it asks for.
fn check(expression: &str) -> BTreeSet<String> {
    let known = in_prometheus();
    let mut asked = BTreeSet::new();
    let mut labels: BTreeSet<&str> = BTreeSet::new();
    for (at, _) in expression.match_indices("forerunner_") {
        let rest = &expression[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let of = known.get(name).unwrap_or_else(|| panic!("no metric {name}: {expression}"));
        labels.extend(of.keys().map(String::as_str));
        asked.insert(name.to_owned());
        let Some(matchers) = rest.strip_prefix('{') else { continue };
        for matcher in matchers.split('}').next().unwrap().split(',') {
            let (label, value) = matcher.split_once(['=', '!']).expect("label and value");
            let words = of.get(label).unwrap_or_else(|| panic!("{name} has no {label}"));
            let value = value.trim_start_matches(['=', '~']).trim_matches('"');
            for word in value.split('|') {
                let known = words.is_none_or(|words| words.contains(&word));
                assert!(known, "{name}: {label} is never `{word}`");
            }
        }
    }
    assert!(!asked.is_empty(), "{expression} asks for nothing of ours");
    for by in expression.split("by (").skip(1) {
        for label in by.split(')').next().unwrap().split(',').map(str::trim) {
            assert!(labels.contains(label), "no label {label}: {expression}");
        }
    }
    let (open, close) = (expression.matches('(').count(), expression.matches(')').count());
    assert_eq!(open, close, "{expression}");
    asked
}

#[test]
fn the_dashboard_asks_for_what_exists_and_for_every_metric() {
    let dashboard: Value = serde_json::from_str(&file("deploy/telemetry/dashboard.json")).unwrap();
    let mut asked = BTreeSet::new();
    let mut places = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(places.insert(panel["gridPos"].to_string()), "two panels in one place: {panel}");
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            asked.extend(check(expression));
            let legend = target["legendFormat"].as_str().unwrap();
            for label in legend.split("{{").skip(1).map(|part| part.split("}}").next().unwrap()) {
                assert!(expression.contains(label), "{legend}: {expression}");
            }
        }
    }
    for metric in metrics::ALL {
        let name = metric.name.replace('.', "_");
        assert!(asked.iter().any(|one| one.starts_with(&name)), "no panel shows {}", metric.name);
    }
}

#[test]
fn every_alert_asks_for_what_exists_and_says_what_to_do() {
    let rules: Value = serde_saphyr::from_str(&file("deploy/telemetry/alerts.yaml")).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    let mut names = BTreeSet::new();
    let reasons = [
        "LostSightOf",
        "AnchorMoved",
        "ForeignRights",
        "ForeignManager",
        "ForeignBinding",
        "ForeignPolicy",
    ];
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name), "{name} twice");
        check(rule["expr"].as_str().unwrap());
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}");
        for text in ["summary", "description"] {
            assert!(
                rule["annotations"][text].as_str().is_some_and(|text| text.len() > 20),
                "{name}"
            );
        }
    }
    assert!(names.len() >= 12, "{names:?}");
    // Reasons are words of the planner: an alert on one that nobody gives would never fire.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = ["domain", "reconcile"].map(|folder| sources(&source.join(folder))).concat();
    let expressions: String = rules.iter().map(|rule| rule["expr"].to_string()).collect();
    assert!(expressions.contains("ReachesNever"), "what reaches too far raises an alarm");
    for reason in reasons {
        assert!(expressions.contains(reason), "no alert on {reason}");
        assert!(sources.contains(&format!("\"{reason}\"")), "no unit is ever {reason}");
    }
}

/// A process that a dead letter woke has 1 as the first value of its counter, and of that `increase` makes 0.
#[test]
fn an_alert_on_a_rise_also_rings_for_what_a_fresh_process_begins_with() {
    let rules: Value = serde_saphyr::from_str(&file("deploy/telemetry/alerts.yaml")).unwrap();
    let mut rises = BTreeSet::new();
    for rule in rules["groups"][0]["rules"].as_array().unwrap() {
        let expression = rule["expr"].as_str().unwrap();
        let Some((_, asked)) = expression.split_once("increase(") else { continue };
        let (asked, rest) = asked.split_once("[1h])").expect("an hour's rise");
        // By series: in the sum, an older process beside it would hide the fresh one.
        let fresh =
            format!("(last_over_time({asked}[1h]) unless last_over_time({asked}[1h] offset 1h))");
        let (risen, begun) = expression.split_once(" or ").unwrap_or_else(|| panic!("{rule}"));
        assert_eq!(begun, risen.replace(&format!("(increase({asked}[1h]))"), &fresh), "{rest}");
        rises.insert(rule["alert"].as_str().unwrap().to_owned());
    }
    for rare in ["ForerunnerDeadLetters", "ForerunnerForeignMessages"] {
        assert!(rises.contains(rare), "{rises:?}");
    }
}

/// All code of a folder, however deep.
fn sources(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.map(|path| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(extension) if extension == "rs" => std::fs::read_to_string(path).unwrap(),
        _ => String::new(),
    });
    texts.collect()
}
