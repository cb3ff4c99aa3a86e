//! Receiving by REST, as tools do (azure.md §9.3). A queue that is empty answers at once and does not wait for
//! the `timeout` of the query.

use super::{Delivery, Error, Lock, ServiceBus, broker_properties, wire_error::refuse};
use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::SignedDuration;
use uuid::Uuid;

/// `POST QUEUE/messages/head` → 201 with the message, its lock in `Location`; 204 where there is none.
pub(super) fn peek_lock(
    bus: &ServiceBus,
    source: &str,
    headers: &HeaderMap,
) -> Result<Response, Error> {
    let Some(delivery) = bus.receive(source, SignedDuration::ZERO)? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let Lock { sequence_number, token, .. } = &delivery.lock;
    let host = host.unwrap_or_else(|| bus.namespace());
    let location = format!("https://{host}/{source}/messages/{sequence_number}/{token}");
    let mut response = answer(StatusCode::CREATED, &delivery);
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// `DELETE QUEUE/messages/head` → 200 with the message, which is gone then.
pub(super) fn receive_and_delete(bus: &ServiceBus, source: &str) -> Result<Response, Error> {
    let Some(delivery) = bus.receive(source, SignedDuration::ZERO)? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    bus.complete(&delivery.lock)?;
    Ok(answer(StatusCode::OK, &delivery))
}

/// On the lock's address: `DELETE` completes, `PUT` abandons, `POST` renews.
pub(super) fn settle(
    bus: &ServiceBus,
    method: &Method,
    source: &str,
    sequence_number: &str,
    token: &str,
) -> Result<Response, Error> {
    let lock = Lock {
        source: source.to_owned(),
        sequence_number: sequence_number.parse().map_err(|_| Error::LockLost)?,
        token: Uuid::parse_str(token).map_err(|_| Error::LockLost)?,
    };
    match method.as_str() {
        "DELETE" => bus.complete(&lock)?,
        "PUT" => bus.abandon(&lock)?,
        "POST" => drop(bus.renew(&lock)?),
        _ => return Ok(refuse(StatusCode::METHOD_NOT_ALLOWED, "not offered here")),
    }
    Ok(StatusCode::OK.into_response())
}

fn answer(status: StatusCode, delivery: &Delivery) -> Response {
    let message = &delivery.message;
    let mut response = (status, message.body.clone()).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    let mut tell = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    let told = broker_properties::received(delivery).to_string();
    tell(HeaderName::from_static("brokerproperties"), &told);
    if let Some(content_type) = &message.properties.content_type {
        tell(header::CONTENT_TYPE, content_type);
    }
    for (name, value) in &message.properties.application_properties {
        if let Ok(name) = HeaderName::try_from(name.as_str()) {
            tell(name, &value.to_string());
        }
    }
    response
}
