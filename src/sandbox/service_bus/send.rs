//! Sending by REST: one message, or a batch of them (azure.md §9.1, §9.2).

use super::{Error, Properties, ServiceBus, broker_properties, wire_error::refuse};
use axum::{
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The media type of a batch; with any parameter the gateway refuses it.
const BATCH: &str = "application/vnd.microsoft.servicebus.json";

/// One message of a batch.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    body: String,
    #[serde(default)]
    is_body_base64: bool,
    broker_properties: Option<broker_properties::Sent>,
    #[serde(default)]
    user_properties: Map<String, Value>,
}

/// `POST QUEUE/messages` → 201 without a body, also for a message that is dropped as a duplicate.
pub(super) fn send(
    bus: &ServiceBus,
    queue: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Error> {
    if let Some(refusal) = throttled(bus) {
        return Ok(refusal);
    }
    let content_type = text(headers, &header::CONTENT_TYPE);
    let media_type = content_type.and_then(|text| text.split(';').next()).unwrap_or_default();
    let messages = if media_type.trim().eq_ignore_ascii_case(BATCH) {
        if content_type.is_some_and(|text| text.contains(';')) {
            let why = format!("a batch is sent as {BATCH} without parameters such as charset");
            return Err(Error::BadMessage(why));
        }
        batch(bus, queue, body)?
    } else {
        vec![single(headers, content_type, body)?]
    };
    bus.send_all(queue, messages)?;
    Ok(StatusCode::CREATED.into_response())
}

fn single(
    headers: &HeaderMap,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<(Vec<u8>, Properties), Error> {
    let name = HeaderName::from_static("brokerproperties");
    let mut properties = match text(headers, &name) {
        Some(text) => broker_properties::parse(text)?,
        None => Properties::default(),
    };
    properties.content_type = content_type.map(ToOwned::to_owned);
    for (name, value) in headers {
        if is_application_property(name)
            && let Ok(value) = value.to_str()
        {
            // A string is in quotes by convention; anything else is a number, a boolean or bare text.
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            properties.application_properties.insert(name.to_string(), value);
        }
    }
    Ok((body.to_vec(), properties))
}

fn batch(bus: &ServiceBus, queue: &str, body: &[u8]) -> Result<Vec<(Vec<u8>, Properties)>, Error> {
    let unreadable =
        |error| Error::BadMessage(format!("the batch is no array of messages: {error}"));
    let members: Vec<Member> = serde_json::from_slice(body).map_err(unreadable)?;
    let size_max = bus.settings(queue).map(|settings| settings.message_size_max);
    if let Some(size_max) = size_max.filter(|size_max| body.len() > *size_max) {
        return Err(Error::TooLarge { size: body.len(), size_max });
    }
    let read = members.into_iter().map(|member| {
        let bytes = if member.is_body_base64 {
            let wrong = |_| Error::BadMessage("Body is no base64".to_owned());
            BASE64_STANDARD.decode(&member.body).map_err(wrong)?
        } else {
            member.body.into_bytes()
        };
        let properties = member.broker_properties.map(broker_properties::read).transpose()?;
        let mut properties = properties.unwrap_or_default();
        properties.application_properties = member.user_properties;
        Ok((bytes, properties))
    });
    read.collect()
}

/// Whether a header of a single message is an application property: any that HTTP, the gateway or a tracer
/// does not use itself.
fn is_application_property(name: &HeaderName) -> bool {
    const OTHERS: [&str; 14] = [
        "accept",
        "accept-encoding",
        "accept-language",
        "authorization",
        "brokerproperties",
        "connection",
        "content-length",
        "content-type",
        "date",
        "expect",
        "host",
        "transfer-encoding",
        "user-agent",
        "via",
    ];
    let name = name.as_str();
    !OTHERS.contains(&name) && !name.starts_with("x-ms-") && !name.starts_with("proxy-")
}

fn throttled(bus: &ServiceBus) -> Option<Response> {
    let mut world = bus.world();
    world.throttle.times = world.throttle.times.checked_sub(1)?;
    let status = world.throttle.status;
    let detail = "The request was terminated because the entity is being throttled. Error code: 50009. \
                  Please wait 2 seconds and try again.";
    Some(refuse(status, detail))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
