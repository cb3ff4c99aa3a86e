//! `host.json` with the app settings that override it, as far as it concerns a custom handler.
//!
//! Source: functions-host.md §1.2 and §5.

use super::{Error, HttpMode, time_span};
use jiff::SignedDuration;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// App settings of this beginning reach into host.json, `__` between the names.
const OVERRIDE: &str = "AzureFunctionsJobHost__";

pub(super) struct HostJson {
    pub(super) executable: String,
    pub(super) arguments: Vec<String>,
    pub(super) working_directory: Option<String>,
    /// Whether a line on stderr is an error unless it says otherwise.
    pub(super) stderr_is_for_errors: bool,
    pub(super) http_mode: HttpMode,
    pub(super) initialization_timeout: SignedDuration,
    /// None is unlimited.
    pub(super) function_timeout: Option<SignedDuration>,
    pub(super) route_prefix: String,
    pub(super) has_extension_bundle: bool,
    pub(super) service_bus: ServiceBusOptions,
}

/// `extensions.serviceBus`.
pub(super) struct ServiceBusOptions {
    pub(super) max_auto_lock_renewal: SignedDuration,
    pub(super) max_concurrent_calls: usize,
    pub(super) max_concurrent_sessions: usize,
    pub(super) session_idle_timeout: SignedDuration,
    pub(super) max_message_batch_size: usize,
}

/// Reads host.json and lays the overriding settings over it.
pub(super) fn read(
    mut document: Value,
    settings: &BTreeMap<String, String>,
) -> Result<HostJson, Error> {
    for (name, value) in settings {
        if let Some(path) = strip_prefix(name, OVERRIDE) {
            set(&mut document, path, value);
        }
    }
    let root = Section(&document);
    if root.text("version").as_deref() != Some("2.0") {
        return Err(wrong("\"version\" must be \"2.0\""));
    }
    if root.member("retry").is_some() {
        return Err(wrong(
            "a top-level \"retry\" also applies to Service Bus functions: leave it out",
        ));
    }
    let handler = root.section("customHandler");
    let description = handler.section("description");
    if description.0.is_null() {
        return Err(wrong("Missing worker Description."));
    }
    let executable = description.text("defaultExecutablePath").filter(|path| !path.is_empty());
    let executable = executable
        .ok_or_else(|| wrong("WorkerDescription DefaultExecutablePath cannot be empty"))?;
    let mut arguments = description.list("arguments");
    arguments.extend(description.text("defaultWorkerPath"));
    arguments.extend(description.list("workerArguments"));
    let http_mode = if handler.flag("enableProxyingHttpRequest", false)? {
        HttpMode::Proxied
    } else if handler.flag("enableForwardingHttpRequest", false)? {
        HttpMode::Forwarded
    } else {
        HttpMode::Wrapped
    };
    let bundle = root.section("extensionBundle");
    let extensions = root.section("extensions");
    Ok(HostJson {
        executable: expand(&executable, settings).unwrap_or(executable),
        arguments: arguments.iter().filter_map(|argument| expand(argument, settings)).collect(),
        working_directory: description.text("workingDirectory"),
        stderr_is_for_errors: description.flag("useStdErrorStreamForErrorsOnly", true)?,
        http_mode,
        initialization_timeout: handler
            .duration("initializationTimeout", SignedDuration::from_secs(30))?,
        function_timeout: function_timeout(root)?,
        route_prefix: extensions.section("http").text("routePrefix").unwrap_or("api".to_owned()),
        has_extension_bundle: bundle.text("id").is_some() && bundle.text("version").is_some(),
        service_bus: service_bus(extensions.section("serviceBus"))?,
    })
}

fn service_bus(section: Section<'_>) -> Result<ServiceBusOptions, Error> {
    let renewal = section.duration("maxAutoLockRenewalDuration", SignedDuration::from_mins(5))?;
    let calls_per_session = section.count("maxConcurrentCallsPerSession", 1)?;
    if calls_per_session != 1 {
        return Err(wrong("\"maxConcurrentCallsPerSession\" other than 1 is not simulated"));
    }
    let retry = section.section("clientRetryOptions");
    let try_timeout = retry.duration("tryTimeout", SignedDuration::from_secs(60))?;
    Ok(ServiceBusOptions {
        // A negative span means without limit.
        max_auto_lock_renewal: if renewal.is_negative() { SignedDuration::MAX } else { renewal },
        max_concurrent_calls: section.count("maxConcurrentCalls", 16)?,
        max_concurrent_sessions: section.count("maxConcurrentSessions", 8)?,
        session_idle_timeout: section.duration("sessionIdleTimeout", try_timeout)?,
        max_message_batch_size: section.count("maxMessageBatchSize", 1000)?,
    })
}

fn function_timeout(root: Section<'_>) -> Result<Option<SignedDuration>, Error> {
    let Some(text) = root.text("functionTimeout") else {
        return Ok(Some(SignedDuration::from_mins(30)));
    };
    if text == "-1" {
        return Ok(None);
    }
    let limit = time_span::parse(&text).filter(|limit| *limit >= SignedDuration::from_secs(1));
    limit.map(Some).ok_or_else(|| wrong("\"functionTimeout\" is no time span of 1 s or more"))
}

/// Replaces each `%NAME%` by the setting of that name; nothing where one is missing.
pub(super) fn expand(text: &str, settings: &BTreeMap<String, String>) -> Option<String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        let Some((name, after)) = after.split_once('%') else { break };
        expanded.push_str(before);
        expanded.push_str(setting(settings, name)?);
        rest = after;
    }
    expanded.push_str(rest);
    Some(expanded)
}

/// An app setting; case does not matter in its name.
pub(super) fn setting<'a>(settings: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    let exact = settings.get(name);
    let found = exact.or_else(|| {
        let mut all = settings.iter();
        all.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    });
    found.map(String::as_str)
}

fn strip_prefix<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = name.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Writes one overriding setting; text that is JSON of an array or object becomes that.
fn set(document: &mut Value, path: &str, text: &str) {
    let mut place = document;
    for name in path.split("__") {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(members) = place else { return };
        let known = members.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
        place = members.entry(known.unwrap_or_else(|| name.to_owned())).or_insert(Value::Null);
    }
    let structured = text.starts_with(['[', '{']).then(|| serde_json::from_str(text).ok());
    *place = structured.flatten().unwrap_or_else(|| text.into());
}

fn wrong(what: &str) -> Error {
    Error::HostJson(what.to_owned())
}

/// An object whose names are read without regard to case and whose values may be text, as .NET has it.
#[derive(Clone, Copy)]
struct Section<'a>(&'a Value);

impl<'a> Section<'a> {
    fn member(self, name: &str) -> Option<&'a Value> {
        let members = self.0.as_object()?;
        let found = members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    fn section(self, name: &str) -> Section<'a> {
        Section(self.member(name).unwrap_or(&Value::Null))
    }

    fn text(self, name: &str) -> Option<String> {
        match self.member(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn list(self, name: &str) -> Vec<String> {
        let items = self.member(name).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
    }

    fn flag(self, name: &str, default: bool) -> Result<bool, Error> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let read = text.to_lowercase().parse();
        read.map_err(|_| Error::HostJson(format!("\"{name}\" is neither true nor false")))
    }

    fn count(self, name: &str, default: usize) -> Result<usize, Error> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let read = text.parse().ok().filter(|count| *count > 0);
        read.ok_or_else(|| Error::HostJson(format!("\"{name}\" is no number above 0")))
    }

    fn duration(self, name: &str, default: SignedDuration) -> Result<SignedDuration, Error> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let read = time_span::parse(&text);
        read.ok_or_else(|| Error::HostJson(format!("\"{name}\" is no time span such as 00:05:00")))
    }
}
