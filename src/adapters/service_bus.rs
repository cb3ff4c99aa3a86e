//! Sending to Service Bus through `azure_messaging_servicebus`, given our own transport (docs/decisions/0003, azure.md §9).

use super::{
    http::{Http, Repeat, Request, Response, TransportError, chain},
    tokens::{self, AUDIENCE_SERVICE_BUS, Tokens},
};
use crate::domain::class::Class;
use async_trait::async_trait;
use azure_core_021::{
    self as azure_core, Body, BytesStream, HttpClient, StatusCode, headers::Headers,
};
use azure_messaging_servicebus::service_bus::{QueueClient, SendMessageOptions};
use http::{HeaderName, Method, header};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde::Serialize;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};
use url::Url;

/// One message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub body: String,
    /// What duplicate detection goes by, at most 128 characters.
    pub message_id: String,
    pub session_id: Option<String>,
    /// Not delivered before; rounded up to a whole second.
    pub scheduled_for: Option<Timestamp>,
}

/// A Service Bus namespace with our token.
#[derive(Clone)]
pub struct ServiceBus {
    http: Http,
    tokens: Tokens,
    /// Such as `sb-x.servicebus.windows.net`.
    host: String,
}

/// The batch form; with any parameter behind it Service Bus takes the whole array for one message.
const CONTENT_TYPE: &str = "application/vnd.microsoft.servicebus.json";
const LETTERS_PER_BATCH: usize = 100;
const BYTES_PER_BATCH: usize = 200_000;

impl ServiceBus {
    /// `host` is the namespace's full name, `ServiceBus__fullyQualifiedNamespace`.
    pub fn new(http: Http, tokens: Tokens, host: &str) -> Self {
        Self { http, tokens, host: host.trim_end_matches('/').to_owned() }
    }

    /// Sends letters in their order, as few batches as the limits allow; `POST /{queue}/messages` → 201.
    ///
    /// Safe to repeat where the queue detects duplicates, which ours do. After an error some batches may have been taken:
    /// send all again under the same ids.
    pub async fn send(&self, queue: &str, letters: &[Letter]) -> Result<(), Error> {
        for batch in batches(letters) {
            self.send_batch(queue, &batch).await?;
        }
        Ok(())
    }

    async fn send_batch(&self, queue: &str, body: &str) -> Result<(), Error> {
        let mut outcome = self.post(queue, body).await?;
        if outcome.status == StatusCode::Unauthorized {
            self.tokens.forget(AUDIENCE_SERVICE_BUS);
            outcome = self.post(queue, body).await?;
        }
        outcome.check(queue)
    }

    /// One try. The crate's error keeps no header, so the outcome is what our own transport saw.
    async fn post(&self, queue: &str, body: &str) -> Result<Outcome, Error> {
        let token = self.tokens.bearer(AUDIENCE_SERVICE_BUS).await;
        let token = token.map_err(|source| Error::Token { queue: queue.to_owned(), source })?;
        let carrier = Arc::new(Carrier {
            http: self.http.clone(),
            host: self.host.clone(),
            token,
            seen: Mutex::default(),
        });
        // The policy's name and key sign what the carrier throws away.
        let namespace = self.host.split('.').next().unwrap_or_default();
        let client = QueueClient::new(carrier.clone(), namespace, queue, "unused", "unused");
        let client = client.map_err(|error| Error::unsendable(queue, &error))?;
        let content_type = Some(CONTENT_TYPE.to_owned());
        let options =
            SendMessageOptions { content_type, broker_properties: None, custom_properties: None };
        let sent = client.send_message(body, Some(options)).await;
        let seen = carrier.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (seen, sent) {
            (Some(Ok(outcome)), _) => Ok(outcome),
            (Some(Err(error)), _) => Err(Error::transport(queue, &error)),
            (None, Err(error)) => Err(Error::unsendable(queue, &error)),
            (None, Ok(())) => Err(Error::Unsendable {
                queue: queue.to_owned(),
                reason: "the client sent nothing".to_owned(),
            }),
        }
    }
}

impl fmt::Debug for ServiceBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceBus({})", self.host)
    }
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Service Bus gave no answer for queue `{queue}`: {reason}")]
    Unreachable { queue: String, reason: String, class: Class },
    #[error("no token to send to queue `{queue}`")]
    Token { queue: String, source: tokens::Error },
    #[error("Service Bus does not accept our token for queue `{queue}`")]
    Unauthorized { queue: String },
    #[error(
        "Service Bus does not let us send to queue `{queue}`: our identity needs Azure Service Bus Data Sender on it, or its quota is used up"
    )]
    Forbidden { queue: String },
    #[error("there is no queue `{queue}`")]
    NoSuchQueue { queue: String },
    #[error("a message is too large for queue `{queue}`")]
    TooLarge { queue: String },
    #[error("Service Bus limits what we send to queue `{queue}`")]
    Throttled { queue: String, after: Option<SignedDuration> },
    #[error("Service Bus cannot take messages for queue `{queue}` now ({status})")]
    Unavailable { queue: String, status: u16, after: Option<SignedDuration> },
    #[error("Service Bus refused what we sent to queue `{queue}` ({status})")]
    Refused { queue: String, status: u16 },
    #[error("nothing can be sent to queue `{queue}`: {reason}")]
    Unsendable { queue: String, reason: String },
}

impl Error {
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { class, .. } => *class,
            Self::Token { source, .. } => source.class(),
            Self::Unauthorized { .. } => Class::Retry { after: None },
            Self::Throttled { after, .. } | Self::Unavailable { after, .. } => {
                Class::Retry { after: *after }
            }
            Self::Forbidden { .. }
            | Self::NoSuchQueue { .. }
            | Self::TooLarge { .. }
            | Self::Refused { .. }
            | Self::Unsendable { .. } => Class::Permanent,
        }
    }

    fn transport(queue: &str, source: &TransportError) -> Self {
        let (queue, reason) = (queue.to_owned(), chain(source));
        Self::Unreachable { queue, reason, class: source.class() }
    }

    fn unsendable(queue: &str, error: &azure_core::Error) -> Self {
        Self::Unsendable { queue: queue.to_owned(), reason: error.to_string() }
    }
}

/// What an answer comes down to; bodies are text or XML and say no more than the status.
struct Outcome {
    status: StatusCode,
    after: Option<SignedDuration>,
}

impl Outcome {
    fn check(self, queue: &str) -> Result<(), Error> {
        let (queue, after) = (queue.to_owned(), self.after);
        match u16::from(self.status) {
            200..=299 => Ok(()),
            401 => Err(Error::Unauthorized { queue }),
            403 => Err(Error::Forbidden { queue }),
            404 | 410 => Err(Error::NoSuchQueue { queue }),
            413 => Err(Error::TooLarge { queue }),
            429 => Err(Error::Throttled { queue, after }),
            status @ (408 | 500..=599) => Err(Error::Unavailable { queue, status, after }),
            status => Err(Error::Refused { queue, status }),
        }
    }
}

/// The transport of one send: our token for the crate's signature, the configured host for the built-in one.
struct Carrier {
    http: Http,
    host: String,
    token: SecretString,
    seen: Mutex<Option<Result<Outcome, TransportError>>>,
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Carrier({})", self.host)
    }
}

#[async_trait]
impl HttpClient for Carrier {
    async fn execute_request(
        &self,
        request: &azure_core::Request,
    ) -> azure_core::Result<azure_core::Response> {
        let lost = |words: &'static str| {
            azure_core::Error::message(azure_core::error::ErrorKind::Io, words)
        };
        let outgoing =
            self.outgoing(request).ok_or_else(|| lost("the request cannot be carried"))?;
        let answer = self.http.send(outgoing).await;
        let result = match &answer {
            Ok(Response { status, body, .. }) => {
                let status = StatusCode::try_from(status.as_u16());
                let status = status.unwrap_or(StatusCode::InternalServerError);
                let stream = Box::pin(BytesStream::new(body.clone()));
                Ok(azure_core::Response::new(status, Headers::new(), stream))
            }
            Err(_) => Err(lost("no answer")),
        };
        let seen = answer.map(|answer| Outcome {
            status: StatusCode::try_from(answer.status.as_u16())
                .unwrap_or(StatusCode::InternalServerError),
            after: answer.retry_after,
        });
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        result
    }
}

impl Carrier {
    fn outgoing(&self, request: &azure_core::Request) -> Option<Request> {
        let method = Method::from_bytes(request.method().to_string().as_bytes()).ok()?;
        let path = request.path_and_query();
        let url = Url::parse(&format!("https://{}{path}", self.host)).ok()?;
        let Body::Bytes(body) = request.body() else { return None };
        let mut outgoing = Request::new(method, url).body(body.clone());
        for (name, value) in request.headers().iter() {
            let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
            if name != header::AUTHORIZATION {
                outgoing = outgoing.header(name, value.as_str());
            }
        }
        // Every letter has an id by which a second copy is dropped.
        Some(outgoing.bearer(&self.token).repeat(Repeat::Safe))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Wire<'a> {
    body: &'a str,
    broker_properties: BrokerProperties<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BrokerProperties<'a> {
    message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_enqueue_time_utc: Option<String>,
}

/// The JSON arrays to send, within the limits; a letter beyond them goes alone and is refused by the queue.
fn batches(letters: &[Letter]) -> Vec<String> {
    let mut batches: Vec<(usize, String)> = Vec::new();
    for letter in letters {
        let wire = Wire {
            body: &letter.body,
            broker_properties: BrokerProperties {
                message_id: &letter.message_id,
                session_id: letter.session_id.as_deref(),
                scheduled_enqueue_time_utc: letter.scheduled_for.map(http_date),
            },
        };
        let text = serde_json::to_string(&wire).expect("a letter's keys are strings");
        match batches.last_mut() {
            Some((count, batch))
                if *count < LETTERS_PER_BATCH
                    && batch.len() + text.len() + 2 <= BYTES_PER_BATCH =>
            {
                *count += 1;
                batch.push(',');
                batch.push_str(&text);
            }
            Some(_) | None => batches.push((1, format!("[{text}"))),
        }
    }
    batches.into_iter().map(|(_, batch)| batch + "]").collect()
}

/// `Mon, 23 Nov 2026 10:00:00 GMT`; a fraction of a second rounds up, so that nothing comes early.
fn http_date(at: Timestamp) -> String {
    let whole = if at.subsec_nanosecond() > 0 {
        Timestamp::from_second(at.as_second() + 1).unwrap_or(Timestamp::MAX)
    } else {
        at
    };
    whole.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn letter(body: &str) -> Letter {
        Letter {
            body: body.to_owned(),
            message_id: "id-1".to_owned(),
            session_id: None,
            scheduled_for: None,
        }
    }

    #[test]
    fn a_batch_has_the_documented_shape() {
        let scheduled = Letter {
            session_id: Some("runner/g42-tf".to_owned()),
            scheduled_for: Some("2026-11-23T09:59:59.25Z".parse().unwrap()),
            ..letter("{\"v\":1}")
        };
        let sent = batches(&[scheduled, letter("x")]);
        let [sent] = sent.as_slice() else { panic!("{sent:?}") };
        assert_eq!(
            serde_json::from_str::<Value>(sent).unwrap(),
            json!([
                {"Body": "{\"v\":1}", "BrokerProperties": {"MessageId": "id-1",
                    "SessionId": "runner/g42-tf",
                    "ScheduledEnqueueTimeUtc": "Mon, 23 Nov 2026 10:00:00 GMT"}},
                {"Body": "x", "BrokerProperties": {"MessageId": "id-1"}},
            ])
        );
    }

    #[test]
    fn batches_keep_to_both_limits() {
        let check = |count: usize, length: usize, expected: &[usize]| {
            let letters = vec![letter(&"x".repeat(length)); count];
            let sent = batches(&letters);
            let sizes: Vec<_> = sent
                .iter()
                .map(|batch| serde_json::from_str::<Vec<Value>>(batch).unwrap().len())
                .collect();
            assert_eq!(sizes, expected, "{count} of {length}");
            assert!(sent.iter().all(|batch| batch.len() <= BYTES_PER_BATCH || length > 190_000));
        };
        check(0, 1, &[]);
        check(100, 1, &[100]);
        check(201, 1, &[100, 100, 1]);
        check(5, 90_000, &[2, 2, 1]);
        check(2, 250_000, &[1, 1]);
    }

    #[test]
    fn each_status_has_its_class() {
        let check = |status: u16, class: Option<Class>| {
            let status = StatusCode::try_from(status).unwrap();
            let outcome = Outcome { status, after: None };
            assert_eq!(outcome.check("rounds").err().map(|error| error.class()), class, "{status}");
        };
        let retry = Some(Class::Retry { after: None });
        check(201, None);
        check(401, retry);
        for status in [400, 403, 404, 410, 413] {
            check(status, Some(Class::Permanent));
        }
        for status in [429, 500, 503] {
            check(status, retry);
        }
    }
}
