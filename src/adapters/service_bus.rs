//! Sending to Service Bus through `azure_messaging_servicebus`, given our own transport (docs/decisions/0003, azure.md §9).

use super::{
    http::{Http, Repeat, Request, Response, TransportError, chain},
    tokens::{self, Tokens},
};
use crate::{domain::class::Class, telemetry::words::Called};
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
        Self {
            http: http.to(Called::ServiceBus),
            tokens,
            host: host.trim_end_matches('/').to_owned(),
        }
    }

    /// Sends letters in their order, as few batches as the limits allow; `POST /{queue}/messages` → 201.
    ///
    /// Safe to repeat where the queue detects duplicates, which ours do. After an error some batches may have been taken:
    /// send all again under the same ids.
    pub async fn send(&self, queue: &str, letters: &[Letter]) -> Result<(), Error> {
        for batch in batches(letters) {
            self.send_split(queue, batch).await?;
        }
        Ok(())
    }

    /// A batch that is too large goes again in halves, so that one letter beyond the limit holds no other back; it alone is
    /// the error, once all others are sent.
    async fn send_split(&self, queue: &str, letters: &[Letter]) -> Result<(), Error> {
        let mut waiting = vec![letters];
        let mut too_large = None;
        while let Some(letters) = waiting.pop() {
            match self.send_batch(queue, &array(letters)).await {
                Ok(()) => {}
                Err(Error::TooLarge { .. }) if letters.len() > 1 => {
                    let (first, second) = letters.split_at(letters.len() / 2);
                    waiting.extend([second, first]);
                }
                Err(error @ Error::TooLarge { .. }) => too_large = Some(error),
                Err(error) => return Err(error),
            }
        }
        too_large.map_or(Ok(()), Err)
    }

    async fn send_batch(&self, queue: &str, body: &str) -> Result<(), Error> {
        let mut outcome = self.post(queue, body).await?;
        if outcome.status == StatusCode::Unauthorized {
            self.tokens.forget(&self.tokens.cloud().service_bus_audience);
            outcome = self.post(queue, body).await?;
        }
        outcome.check(queue)
    }

    /// One try. The crate's error keeps no header, so the outcome is what our own transport saw.
    async fn post(&self, queue: &str, body: &str) -> Result<Outcome, Error> {
        let token = self.tokens.bearer(&self.tokens.cloud().service_bus_audience).await;
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
        "Service Bus does not let us send to queue `{queue}`: our identity needs Azure Service Bus Data Sender on it, and the namespace has to let our network in"
    )]
    Forbidden { queue: String },
    /// Until somebody takes messages out.
    #[error(
        "queue `{queue}` is full: it takes messages again once what lies in it, dead letters included, is worked off, or with a larger `maxSizeInMegabytes`"
    )]
    QueueFull { queue: String },
    #[error(
        "there is no queue `{queue}` in this namespace: make it as infra/ has it, or correct ServiceBus__fullyQualifiedNamespace"
    )]
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
            Self::QueueFull { .. } => Class::Retry { after: Some(FULL_PAUSE) },
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

/// What an answer comes down to.
struct Outcome {
    status: StatusCode,
    after: Option<SignedDuration>,
    told: Told,
}

/// What the words of a refusal add to its status: one 403 stands for three different things (azure.md §9.1). They are
/// text or XML in no agreed form, so that a word that is not found leaves the status to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    TooLarge,
    QueueFull,
    Throttled,
}

/// Service Bus asks for 2 s where it limits us and names no time.
const THROTTLE_PAUSE: SignedDuration = SignedDuration::from_secs(2);
const FULL_PAUSE: SignedDuration = SignedDuration::from_mins(1);

impl Told {
    fn of(status: u16, body: &str) -> Self {
        let text = body.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match status {
            400 | 403 | 413 if says(&["messagesizeexceeded", "too large", "exceeds the limit"]) => {
                Self::TooLarge
            }
            403 if says(&[
                "quotaexceeded",
                "size quota",
                "maximum entity size",
                "quota exceeded",
            ]) =>
            {
                Self::QueueFull
            }
            429 | 503 if says(&["50009", "50002", "throttled"]) => Self::Throttled,
            _ => Self::Nothing,
        }
    }
}

impl Outcome {
    fn check(self, queue: &str) -> Result<(), Error> {
        let (queue, after) = (queue.to_owned(), self.after);
        let throttled = |queue| Error::Throttled { queue, after: after.or(Some(THROTTLE_PAUSE)) };
        match (u16::from(self.status), self.told) {
            (_, Told::TooLarge) => Err(Error::TooLarge { queue }),
            (_, Told::QueueFull) => Err(Error::QueueFull { queue }),
            (_, Told::Throttled) => Err(throttled(queue)),
            (status, Told::Nothing) => Self::by_status(status, queue, after),
        }
    }

    fn by_status(status: u16, queue: String, after: Option<SignedDuration>) -> Result<(), Error> {
        match status {
            200..=299 => Ok(()),
            401 => Err(Error::Unauthorized { queue }),
            403 => Err(Error::Forbidden { queue }),
            404 | 410 => Err(Error::NoSuchQueue { queue }),
            413 => Err(Error::TooLarge { queue }),
            429 => Err(Error::Throttled { queue, after: after.or(Some(THROTTLE_PAUSE)) }),
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
            told: Told::of(answer.status.as_u16(), &answer.text()),
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

/// The letters that go together, within the limits; a letter beyond them goes alone and is refused by the queue.
fn batches(letters: &[Letter]) -> Vec<&[Letter]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 1);
    for (number, letter) in letters.iter().enumerate() {
        let more = text(letter).len() + 1;
        let full = number - start >= LETTERS_PER_BATCH || bytes + more > BYTES_PER_BATCH;
        if full && number > start {
            batches.push(&letters[start..number]);
            (start, bytes) = (number, 1);
        }
        bytes += more;
    }
    if start < letters.len() {
        batches.push(&letters[start..]);
    }
    batches
}

/// The JSON array that carries letters.
fn array(letters: &[Letter]) -> String {
    let all: Vec<String> = letters.iter().map(text).collect();
    format!("[{}]", all.join(","))
}

fn text(letter: &Letter) -> String {
    let wire = Wire {
        body: &letter.body,
        broker_properties: BrokerProperties {
            message_id: &letter.message_id,
            session_id: letter.session_id.as_deref(),
            scheduled_enqueue_time_utc: letter.scheduled_for.map(http_date),
        },
    };
    serde_json::to_string(&wire).expect("a letter's keys are strings")
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
        let sent = array(&[scheduled, letter("x")]);
        assert_eq!(
            serde_json::from_str::<Value>(&sent).unwrap(),
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
            let sizes: Vec<_> = sent.iter().map(|batch| batch.len()).collect();
            assert_eq!(sizes, expected, "{count} of {length}");
            let fits = |batch: &&[Letter]| array(batch).len() <= BYTES_PER_BATCH;
            assert!(sent.iter().all(fits) || length > 190_000);
        };
        check(0, 1, &[]);
        check(100, 1, &[100]);
        check(201, 1, &[100, 100, 1]);
        check(5, 90_000, &[2, 2, 1]);
        check(2, 250_000, &[1, 1]);
    }

    #[test]
    fn each_refusal_has_its_class_and_its_words() {
        let check = |status: u16, body: &str, class: Class, words: &str| {
            let told = Told::of(status, body);
            let status = StatusCode::try_from(status).unwrap();
            let error = Outcome { status, after: None, told }.check("rounds").unwrap_err();
            assert_eq!(error.class(), class, "{status} {body}");
            assert!(error.to_string().contains(words), "{error}");
        };
        let retry = Class::Retry { after: None };
        let wait = |seconds| Class::Retry { after: Some(SignedDuration::from_secs(seconds)) };
        let permanent = Class::Permanent;
        check(400, "", permanent, "refused what we sent");
        check(401, "", retry, "does not accept our token");
        check(403, "", permanent, "Azure Service Bus Data Sender");
        let full = "<Error><Code>403</Code><Detail>QuotaExceeded: the size quota is reached.</Detail></Error>";
        check(403, full, wait(60), "is full");
        let large =
            "The message (size:300000 bytes) exceeds the limit (262144 bytes) currently allowed.";
        check(403, large, permanent, "too large");
        check(413, "", permanent, "too large");
        check(404, "", permanent, "there is no queue `rounds`");
        check(410, "", permanent, "there is no queue `rounds`");
        check(408, "", retry, "(408)");
        check(429, "", wait(2), "limits what we send");
        let busy =
            "The request was terminated because the entity is being throttled. Error code: 50009.";
        check(503, busy, wait(2), "limits what we send");
        check(503, "<html>busy</html>", retry, "cannot take messages");
        check(500, "", retry, "(500)");
        let outcome = Outcome { status: StatusCode::Created, after: None, told: Told::Nothing };
        assert!(outcome.check("rounds").is_ok());
    }
}
