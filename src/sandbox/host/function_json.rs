//! `NAME/function.json`: what wakes a function and what it gives back (functions-host.md §6).

use super::{
    Error,
    host_json::{expand, setting},
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A function as the host has loaded it.
#[derive(Clone, Debug)]
pub struct Function {
    /// The name of its folder.
    pub name: String,
    pub trigger: Trigger,
    /// The trigger's key in `Data`.
    pub binding: String,
    /// Output bindings apart from `http`.
    pub(super) outputs: Vec<Output>,
    /// The name of the `http` output binding, if any.
    pub(super) http_output: Option<String>,
    /// Exactly one input, `httpTrigger`, and one output, `http`: only these are forwarded or proxied.
    pub(super) is_http_in_and_out: bool,
}

/// What wakes a function.
#[derive(Clone, Debug)]
pub enum Trigger {
    Http {
        /// Without the prefix; `{name}` stands for a segment.
        route: String,
        /// Lower case; empty means all.
        methods: Vec<String>,
        level: Level,
    },
    ServiceBus {
        /// The queue, or `NAME/$deadletterqueue`.
        source: String,
        sessions: bool,
        many: bool,
        binary: bool,
        auto_complete: bool,
    },
    Timer {
        /// NCRONTAB with six fields, or a time span.
        schedule: String,
        use_monitor: bool,
        run_on_startup: bool,
    },
}

/// Which key a caller needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Anonymous,
    Function,
    Admin,
}

/// An output binding to a Service Bus queue, which takes a body and nothing else.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) queue: String,
    /// Whether base64 text stays as it is.
    pub(super) binary: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    bindings: Vec<Binding>,
    retry: Option<serde_json::Value>,
    #[serde(default)]
    disabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    r#type: String,
    direction: Option<String>,
    name: String,
    data_type: Option<String>,
    // httpTrigger
    route: Option<String>,
    #[serde(default)]
    methods: Vec<String>,
    auth_level: Option<String>,
    // serviceBusTrigger and serviceBus
    queue_name: Option<String>,
    connection: Option<String>,
    #[serde(default)]
    is_sessions_enabled: bool,
    cardinality: Option<String>,
    auto_complete_messages: Option<bool>,
    // timerTrigger
    schedule: Option<String>,
    use_monitor: Option<bool>,
    #[serde(default)]
    run_on_startup: bool,
}

impl Binding {
    fn is(&self, kind: &str) -> bool {
        self.r#type.eq_ignore_ascii_case(kind)
    }

    fn is_out(&self) -> bool {
        self.direction.as_deref().is_some_and(|direction| direction.eq_ignore_ascii_case("out"))
    }

    fn is_trigger(&self) -> bool {
        self.r#type.to_lowercase().ends_with("trigger")
    }
}

/// Reads one function.json; none where the function is disabled there or by `AzureWebJobs.NAME.Disabled`.
/// `namespace` is the only Service Bus namespace that a connection may mean.
pub(super) fn read(
    name: &str,
    text: &str,
    settings: &BTreeMap<String, String>,
    namespace: &str,
) -> Result<Option<Function>, Error> {
    let wrong = |what: String| Error::Function { function: name.to_owned(), what };
    check_name(name).map_err(wrong)?;
    let document: Document = serde_json::from_str(text)
        .map_err(|error| wrong(format!("function.json cannot be read: {error}")))?;
    let switch = setting(settings, &format!("AzureWebJobs.{name}.Disabled"));
    if document.disabled
        || switch.is_some_and(|text| text == "1" || text.eq_ignore_ascii_case("true"))
    {
        return Ok(None);
    }
    if document.retry.is_some() {
        return Err(wrong("a retry policy is not simulated".to_owned()));
    }
    let bindings = &document.bindings;
    for (index, binding) in bindings.iter().enumerate() {
        if bindings[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&binding.name)) {
            return Err(wrong(format!("two bindings are called `{}`", binding.name)));
        }
    }
    let triggers: Vec<&Binding> = bindings.iter().filter(|binding| binding.is_trigger()).collect();
    let [woken] = triggers[..] else {
        return Err(wrong(format!("it has {} triggers instead of one", triggers.len())));
    };
    let others = bindings.iter().filter(|binding| !binding.is_trigger());
    let mut outputs = Vec::new();
    let mut http_output = None;
    let mut inputs = 1;
    for binding in others {
        if !binding.is_out() {
            inputs += 1;
        }
        if binding.is("http") && binding.is_out() {
            http_output = Some(binding.name.clone());
        } else if binding.is("serviceBus") && binding.is_out() {
            connection(binding, settings, namespace).map_err(wrong)?;
            outputs.push(Output {
                name: binding.name.clone(),
                queue: queue(binding, settings).map_err(wrong)?,
                binary: data_type(binding).map_err(wrong)?,
            });
        } else {
            return Err(wrong(format!("binding type `{}` is not simulated", binding.r#type)));
        }
    }
    let trigger = trigger(name, woken, settings, namespace).map_err(wrong)?;
    Ok(Some(Function {
        name: name.to_owned(),
        is_http_in_and_out: matches!(trigger, Trigger::Http { .. })
            && inputs == 1
            && http_output.is_some()
            && outputs.is_empty(),
        trigger,
        binding: woken.name.clone(),
        outputs,
        http_output,
    }))
}

fn trigger(
    name: &str,
    binding: &Binding,
    settings: &BTreeMap<String, String>,
    namespace: &str,
) -> Result<Trigger, String> {
    if binding.is("httpTrigger") {
        let level = binding.auth_level.as_deref().unwrap_or("function").to_lowercase();
        let route = binding.route.as_deref().unwrap_or(name);
        return Ok(Trigger::Http {
            route: resolve(route, settings)?.trim_matches('/').to_owned(),
            methods: binding.methods.iter().map(|method| method.to_lowercase()).collect(),
            level: serde_json::from_value(level.clone().into())
                .map_err(|_| format!("there is no authLevel `{level}`"))?,
        });
    }
    if binding.is("serviceBusTrigger") {
        connection(binding, settings, namespace)?;
        let cardinality = binding.cardinality.as_deref().unwrap_or("one").to_lowercase();
        return Ok(Trigger::ServiceBus {
            source: queue(binding, settings)?,
            sessions: binding.is_sessions_enabled,
            many: match cardinality.as_str() {
                "one" => false,
                "many" => true,
                _ => return Err(format!("there is no cardinality `{cardinality}`")),
            },
            binary: data_type(binding)?,
            auto_complete: binding.auto_complete_messages.unwrap_or(true),
        });
    }
    if binding.is("timerTrigger") {
        let schedule = binding.schedule.as_deref().ok_or("the timer has no schedule")?;
        return Ok(Trigger::Timer {
            schedule: resolve(schedule, settings)?,
            use_monitor: binding.use_monitor.unwrap_or(true),
            run_on_startup: binding.run_on_startup,
        });
    }
    Err(format!("trigger type `{}` is not simulated", binding.r#type))
}

fn queue(binding: &Binding, settings: &BTreeMap<String, String>) -> Result<String, String> {
    let name = binding.queue_name.as_deref().ok_or("the binding has no queueName")?;
    resolve(name, settings)
}

fn data_type(binding: &Binding) -> Result<bool, String> {
    match binding.data_type.as_deref().unwrap_or("string").to_lowercase().as_str() {
        "string" => Ok(false),
        "binary" => Ok(true),
        other => Err(format!("dataType `{other}` is not simulated")),
    }
}

/// `%SETTING%` must exist here, or the real host does not index the function.
fn resolve(text: &str, settings: &BTreeMap<String, String>) -> Result<String, String> {
    expand(text, settings).ok_or_else(|| format!("`{text}` names an app setting that is missing"))
}

/// Checks that `connection` leads to our namespace, by a connection string or by identity (§6.1).
fn connection(
    binding: &Binding,
    settings: &BTreeMap<String, String>,
    namespace: &str,
) -> Result<(), String> {
    let name = binding.connection.as_deref().filter(|name| !name.is_empty());
    let names = match name {
        Some(name) => vec![name.to_owned(), format!("AzureWebJobs{name}")],
        None => vec!["AzureWebJobsServiceBus".to_owned()],
    };
    let whole = names.iter().find_map(|name| setting(settings, name));
    let host = whole.map(|text| {
        let endpoint = text.split(';').find_map(|part| part.trim().strip_prefix("Endpoint=sb://"));
        endpoint.unwrap_or_default().trim_end_matches('/')
    });
    let host = host.or_else(|| {
        names.iter().find_map(|name| {
            let member = format!("{name}__fullyQualifiedNamespace");
            setting(settings, &member)
        })
    });
    match host {
        Some(host) if host.eq_ignore_ascii_case(namespace) => Ok(()),
        Some(host) => Err(format!("its connection leads to `{host}`, not to `{namespace}`")),
        None => Err(format!("the app setting `{}__fullyQualifiedNamespace` is missing", names[0])),
    }
}

/// `^[a-z][a-z0-9_\-]{0,127}$` without regard to case, and not `host`.
fn check_name(name: &str) -> Result<(), String> {
    let legal = name.len() <= 128
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|each| each.is_ascii_alphanumeric() || each == '_' || each == '-')
        && !name.eq_ignore_ascii_case("host");
    if legal { Ok(()) } else { Err("this is no name for a function".to_owned()) }
}
