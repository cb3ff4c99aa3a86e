//! One wrapped invocation: the envelope out, the answer judged, both written down (functions-host.md §2.1, §2.2).

use super::{
    Function, Inner, Verdict, call,
    logs::Level,
    values::{Members, precise},
    verdict::{Said, judge},
    worker::Status,
};
use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use jiff::Timestamp;
use rand::Rng;
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// How long the host may take to notice that its child is gone.
const DEATH_NOTICED_WITHIN: Duration = Duration::from_millis(100);

/// One invocation as the host saw it.
#[derive(Clone, Debug, Serialize)]
pub struct InvocationRecord {
    pub function: String,
    /// New for each delivery.
    pub invocation_id: Uuid,
    /// By the sandbox's clock.
    pub started: Timestamp,
    /// By the machine's clock.
    pub duration: Duration,
    pub verdict: Verdict,
    /// Of the messages that were delivered.
    pub message_ids: Vec<String>,
    /// Of the first message, from 1.
    pub delivery_count: Option<u32>,
}

/// What the record says beyond the call itself.
#[derive(Default)]
pub(super) struct About {
    pub(super) message_ids: Vec<String>,
    pub(super) delivery_count: Option<u32>,
}

/// `Data` of the trigger and `Metadata` without `sys`.
pub(super) struct Envelope {
    pub(super) data: Value,
    pub(super) metadata: Members,
}

impl Inner {
    /// Calls `POST /NAME` and judges the answer. `take` gets what a good answer says, and can fail it still.
    pub(super) async fn invoke(
        self: &Arc<Self>,
        function: &Function,
        envelope: Envelope,
        about: About,
        take: impl FnOnce(&Said) -> Result<(), String>,
    ) -> Verdict {
        let id = self.guid();
        let (started, begun) = (self.clock.now(), Instant::now());
        let verdict = match self.call(function, id, envelope).await {
            Ok(said) => match take(&said) {
                Ok(()) => {
                    let user = format!("Function.{}.User", function.name);
                    said.logs
                        .iter()
                        .for_each(|line| self.logs.say(Level::Information, &user, line));
                    Verdict::Success
                }
                Err(why) => Verdict::Failure(why),
            },
            Err(verdict) => verdict,
        };
        self.record(InvocationRecord {
            function: function.name.clone(),
            invocation_id: id,
            started,
            duration: begun.elapsed(),
            verdict: verdict.clone(),
            message_ids: about.message_ids,
            delivery_count: about.delivery_count,
        });
        verdict
    }

    pub(super) fn record(&self, record: InvocationRecord) {
        let id = record.invocation_id;
        match &record.verdict {
            Verdict::Success => {
                let text = format!("Executed (Succeeded, Id={id})");
                self.say(Level::Information, &record.function, text);
            }
            Verdict::Failure(why) => {
                self.say(
                    Level::Error,
                    &record.function,
                    format!("Executed (Failed, Id={id}): {why}"),
                );
            }
            Verdict::Hang => {}
        }
        self.state().records.push(record);
    }

    /// The two headers of every call to the handler, and `traceparent` where it is wanted.
    pub(super) fn stamp(&self, headers: &mut HeaderMap, invocation: Uuid) {
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("x-azure-functions-hostversion", &self.version);
        set("x-azure-functions-invocationid", &invocation.to_string());
        if self.traceparent {
            let (trace, span): (u128, u64) = self.state().random.random();
            set("traceparent", &format!("00-{trace:032x}-{span:016x}-01"));
        }
    }

    async fn call(
        self: &Arc<Self>,
        function: &Function,
        id: Uuid,
        envelope: Envelope,
    ) -> Result<Said, Verdict> {
        let failure = |why: String| Verdict::Failure(why);
        let group = self.group(function);
        let Status::Ready { port, life } = group.status() else {
            return Err(failure("the handler does not run".to_owned()));
        };
        let body = self.body(function, envelope);
        let request = self.request(function, port, id, body);
        let request = request.map_err(|error| failure(error.to_string()))?;
        let answer = async { call::read(call::connect(port).await?.send(request).await?).await };
        let limit = self.root.host.function_timeout.map(Duration::try_from);
        let limit = limit.and_then(Result::ok).unwrap_or(Duration::MAX);
        let answered = tokio::select! {
            biased;
            answered = tokio::time::timeout(limit, answer) => answered,
            () = group.gone(life) => return Err(failure("the handler was killed".to_owned())),
        };
        let Ok(answered) = answered else {
            self.time_out(function).await;
            return Err(failure("functionTimeout passed".to_owned()));
        };
        let (parts, body) = match answered {
            Ok(answer) => answer,
            Err(error) => {
                // A process that died is noticed a moment later than its connections break; without this wait
                // the message would be given to a dead process again.
                let _alive = tokio::time::timeout(DEATH_NOTICED_WITHIN, group.gone(life)).await;
                return Err(failure(error.to_string()));
            }
        };
        let content_type = parts.headers.get(header::CONTENT_TYPE);
        judge(parts.status, content_type.and_then(|value| value.to_str().ok()), &body)
    }

    fn body(&self, function: &Function, envelope: Envelope) -> Vec<u8> {
        let Envelope { data, mut metadata } = envelope;
        let mut state = self.state();
        // A body can have brought a `sys` of its own, which stays.
        metadata.add(
            "sys",
            json!({
                "MethodName": function.name,
                "UtcNow": format!("{}Z", precise(self.clock.now())),
                "RandGuid": super::guid(&mut state.random),
            }),
        );
        metadata.drop_triggers();
        let metadata = metadata.shuffled(&mut state.random);
        let binding = Value::from(function.binding.as_str());
        format!("{{\"Data\":{{{binding}:{data}}},\"Metadata\":{metadata}}}").into_bytes()
    }

    fn request(
        &self,
        function: &Function,
        port: u16,
        id: Uuid,
        body: Vec<u8>,
    ) -> http::Result<Request<Body>> {
        let mut request = Request::post(format!("/{}", function.name))
            .header(header::HOST, format!("127.0.0.1:{port}"))
            .header(header::USER_AGENT, format!("Azure-Functions-Host/{}", self.version))
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .body(if self.chunked { call::chunked(body) } else { Body::from(body) })?;
        self.stamp(request.headers_mut(), id);
        Ok(request)
    }
}
