//! Outputs of a wrapped invocation to Service Bus queues: a body and nothing else (functions-host.md §3.5).

use super::{Function, verdict::Said};
use crate::sandbox::service_bus::{Properties, ServiceBus};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

/// Sends what the function's output bindings are given. Keys without a binding are ignored.
pub(super) fn bind(function: &Function, said: &Said, bus: &ServiceBus) -> Result<(), String> {
    for output in &function.outputs {
        let returned = said.return_value.as_ref();
        let value = match output.name.as_str() {
            "$return" => returned,
            name => said.outputs.get(name).or_else(|| {
                returned.and_then(Value::as_object).and_then(|object| object.get(name))
            }),
        };
        let Some(body) = value.and_then(|value| bytes(value, output.binary)) else { continue };
        bus.send_as_operator(&output.queue, body, Properties::default())
            .map_err(|error| format!("output `{}` cannot be bound: {error}", output.name))?;
    }
    Ok(())
}

/// Text that happens to be base64 is decoded, unless the binding is binary.
fn bytes(value: &Value, binary: bool) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) => {
            let decoded = (!binary).then(|| BASE64_STANDARD.decode(text).ok()).flatten();
            Some(decoded.unwrap_or_else(|| text.clone().into_bytes()))
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(value.to_string().into_bytes())
        }
    }
}
