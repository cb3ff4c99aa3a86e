//! The pod of a job as gitlab-runner's executor asks for it, beside the one that the sandbox's manager asks for. Both as
//! the server keeps them.

use serde_json::Value;
use std::collections::BTreeMap;

/// What the two need not share, as a part of a path.
const APART: [(&str, &str); 9] = [
    ("annotations.job.runner.gitlab.com/id", "is the job's own"),
    ("annotations.job.runner.gitlab.com/url", "is the job's own"),
    ("env[CI_JOB_ID]", "is the job's own"),
    ("env[CI_JOB_URL]", "is the job's own"),
    ("env[CI_PIPELINE_ID]", "is the job's own"),
    (".command", "the sandbox's manager leaves it to the image to keep a container up"),
    (".stdin", "and enters it by exec"),
    ("env[CI_SERVER_TLS_CA_FILE]", "it lays no file beside a script"),
    ("env[FF_", "it knows the feature flags of the file, not what others are without one"),
];

/// What only one has, or has otherwise; the real one first. `budget` is that of the pod.
pub(super) fn differences(real: &Value, played: &Value) -> Vec<String> {
    let [real, played] = [real, played].map(|pod| {
        let mut lines = BTreeMap::new();
        for part in ["labels", "annotations", "ownerReferences"] {
            flatten(part, &pod["metadata"][part], &mut lines);
        }
        flatten("spec", &pod["spec"], &mut lines);
        flatten("budget", &pod["budget"], &mut lines);
        lines.retain(|path, _| !APART.iter().any(|(apart, _)| path.contains(apart)));
        lines
    });
    let mut different = Vec::new();
    for path in real.keys().chain(played.keys().filter(|path| !real.contains_key(*path))) {
        let [real, played] =
            [&real, &played].map(|lines| lines.get(path).map_or("nothing", String::as_str));
        if real != played {
            different.push(format!("{path}: {real} is {played}"));
        }
    }
    different
}

/// Lists by the names of what is in them, or as sets. The last number of a mount is the job's.
fn flatten(path: &str, value: &Value, lines: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                flatten(&format!("{path}.{name}"), value, lines);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                let name = item["name"].as_str().or(item.as_str());
                let name = name.map_or_else(|| at.to_string(), str::to_owned);
                flatten(&format!("{path}[{name}]"), item, lines);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let own = value.as_str().filter(|_| {
                path.ends_with("[logs].mountPath") || path.ends_with("[scripts].mountPath")
            });
            let own = own.and_then(|path| Some(format!("{}-N", path.rsplit_once('-')?.0)));
            lines.insert(path.to_owned(), own.unwrap_or_else(|| value.to_string()));
        }
    }
}
