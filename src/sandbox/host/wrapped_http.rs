//! HTTP functions that get an envelope and answer with one (functions-host.md §4.2).

use super::{
    Inner, Verdict,
    http_front::{Arrived, failed, query},
    invoke::{About, Envelope},
    leak, outputs,
    values::{Members, in_text},
    verdict::Said,
};
use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, request::Parts},
    response::Response,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue, header};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The host refuses longer bodies.
const BODY_MAX: usize = 104_857_600;

pub(super) async fn answer(inner: &Arc<Inner>, arrived: Arrived<'_>) -> Response {
    let Arrived { function, parameters, request } = arrived;
    let (parts, body) = request.into_parts();
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let has_body =
        length.and_then(|text| text.parse::<u64>().ok()).is_some_and(|length| length > 0);
    let body = if has_body {
        match axum::body::to_bytes(body, BODY_MAX).await {
            Ok(body) => Some(body),
            Err(_) => return failed(),
        }
    } else {
        None
    };
    let envelope = envelope(&parts, &parameters, body.as_deref());
    let mut response = Response::new(Body::empty());
    let take = |said: &Said| {
        outputs::bind(function, said, &inner.bus)?;
        if let Some(name) = &function.http_output {
            response = respond(said, name)?;
        }
        Ok(())
    };
    match inner.invoke(function, envelope, About::default(), take).await {
        Verdict::Success => response,
        Verdict::Failure(_) => failed(),
        Verdict::Hang => {
            inner.hang(function, None);
            // The real caller hears nothing until the front end gives up, after 230 s.
            failed()
        }
    }
}

fn envelope(parts: &Parts, parameters: &[(String, String)], body: Option<&[u8]>) -> Envelope {
    let mut joined = Map::new();
    for (name, value) in query(&parts.uri) {
        match joined.get_mut(&name) {
            Some(Value::String(known)) => *known = format!("{known},{value}"),
            Some(_) | None => drop(joined.insert(name, value.into())),
        }
    }
    let mut metadata = Members::default();
    metadata.set("Query", joined.clone().into());
    metadata.set("Headers", headers(&parts.headers, |values| values.join(",").into()));
    let named = joined.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("code"));
    for (name, value) in named {
        metadata.set(name, in_text(value.clone()));
    }
    for (name, value) in parameters {
        metadata.set(name, in_text(value.as_str()));
    }
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let scheme = parts.headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    let parameters: Map<String, Value> =
        parameters.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let mut data = json!({
        "Url": format!("{}://{}{path}", scheme.unwrap_or("http"), host.unwrap_or("localhost")),
        "Method": parts.method.as_str(),
        "Query": joined,
        "Headers": headers(&parts.headers, Value::from),
        "Params": parameters,
        "Identities": [],
    });
    if let Some(body) = body {
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_lowercase();
        let is_binary =
            kind.starts_with("application/octet-stream") || kind.starts_with("multipart/");
        data["Body"] = if is_binary {
            BASE64_STANDARD.encode(body).into()
        } else {
            let text = String::from_utf8_lossy(body);
            leak::apply(&text, &mut metadata);
            text.into()
        };
    }
    Envelope { data, metadata }
}

/// All headers by name, in the usual spelling: the caller's own is lost on the way here.
fn headers(headers: &HeaderMap, write: impl Fn(Vec<String>) -> Value) -> Value {
    let each = headers.keys().map(|name| {
        let values = headers.get_all(name).iter();
        let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        (usual_spelling(name.as_str()), write(values.collect()))
    });
    Value::Object(each.collect())
}

fn usual_spelling(name: &str) -> String {
    let words = name.split('-').map(|word| match word.split_at_checked(1) {
        Some((first, rest)) => first.to_uppercase() + rest,
        None => String::new(),
    });
    words.collect::<Vec<_>>().join("-")
}

/// What the caller gets from `Outputs.NAME`.
fn respond(said: &Said, name: &str) -> Result<Response, String> {
    let output = match said.outputs.get(name) {
        Some(Value::Object(output)) => output,
        None => return Ok(Response::new(Body::from("{}"))),
        Some(_) => return Err(format!("output `{name}` is no object")),
    };
    let member = |wanted: &str| {
        let mut all = output.iter();
        all.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let status = match member("statusCode") {
        None | Some(Value::Null) => Ok(200),
        Some(Value::String(text)) => text.parse().map_err(|_| ()),
        Some(other) => other.as_u64().and_then(|code| u16::try_from(code).ok()).ok_or(()),
    };
    let status = status.ok().and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or_else(|| format!("output `{name}` has no usable statusCode"))?;
    let body = match member("body") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => format!("{other:#}"),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let given = member("headers").and_then(Value::as_object).into_iter().flatten();
    for (name, value) in given {
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let (name, value) = (HeaderName::try_from(name), HeaderValue::try_from(text));
        if let (Ok(name), Ok(value)) = (name, value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}
