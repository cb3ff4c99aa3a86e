//! What lies between a simulated service and whoever calls it: latency, faults, crashes and the list of calls.
//!
//! Every server of the sandbox is started by [`Wire::serve`], so each call of each service passes here.

use crate::clock::Clock;
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tower::ServiceExt;

/// Shared by all servers of one sandbox; a clone is the same wire.
#[derive(Clone)]
pub struct Wire(Arc<Inner>);

struct Inner {
    clock: Clock,
    state: Mutex<State>,
    crashed: Notify,
}

#[derive(Default)]
struct State {
    latency: Vec<(Service, Duration)>,
    calls: Vec<Call>,
    faults: Vec<Fault>,
    crash: Option<(usize, Moment)>,
    hold: Option<(usize, Gate)>,
    product_calls: usize,
    observers: Vec<(Vec<Service>, Observer)>,
}

/// Told of each exchange before its answer leaves.
pub type Observer = Arc<dyn Fn(&Exchange) + Send + Sync>;

/// A request and the answer that the simulated service itself gave it, whether or not that arrived. Holds secrets: not for
/// logs. Has no `Debug` for that reason.
pub struct Exchange {
    pub service: Service,
    pub method: String,
    /// Path and query.
    pub path: String,
    /// See [`Call::caller`].
    pub caller: String,
    /// The body, and as what it was sent; empty without one.
    pub request: Bytes,
    pub request_type: String,
    pub status: u16,
    pub answer: Bytes,
    pub answer_type: String,
}

/// Where one call waits.
struct Gate {
    reached: oneshot::Sender<()>,
    opened: oneshot::Receiver<()>,
}

/// A call that [`Wire::hold_at`] keeps from having its effect. It goes on when this is dropped.
pub struct Held {
    reached: Option<oneshot::Receiver<()>>,
    _open: oneshot::Sender<()>,
}

impl Held {
    /// Waits until the call has arrived; for ever if it never does.
    pub async fn reached(&mut self) {
        let Some(reached) = self.reached.take() else { return };
        if reached.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Which simulated service a call went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    Gitlab,
    Identity,
    Entra,
    Arm,
    KeyVault,
    ServiceBus,
    Kubernetes,
    Host,
}

/// One call as it went over the wire. No bodies: they hold secrets.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    pub at: jiff::Timestamp,
    pub service: Service,
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Missing where the call was never answered.
    pub status: Option<u16>,
    /// The first word of the caller's `User-Agent`, such as `forerunner/0.1.0`.
    pub caller: String,
}

impl Call {
    /// Whether forerunner itself made this call, and not a manager, a job or a person.
    pub fn is_ours(&self) -> bool {
        self.caller.starts_with("forerunner/")
    }

    /// Whether it can have changed anything.
    pub fn is_write(&self) -> bool {
        self.method != "GET" && self.method != "HEAD"
    }
}

/// Something that goes wrong on the wire.
#[derive(Clone, Debug)]
pub struct Fault {
    pub service: Service,
    /// Only this method, or any.
    pub method: Option<&'static str>,
    /// Only a path and query that contain this text; empty means any.
    pub path: String,
    /// How many calls it hits before it is over.
    pub times: usize,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    /// The connection breaks and nothing has happened.
    DropBeforeEffect,
    /// It has happened, but the answer is lost.
    DropAfterEffect,
    /// The call is taken and never answered; nothing has happened.
    Hang,
    /// Another answer instead; nothing has happened.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
}

/// When the calling process dies, as seen from the call it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    BeforeEffect,
    AfterEffect,
}

/// A running server; it ends when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner { clock, state: Mutex::default(), crashed: Notify::new() }))
    }

    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// How long each call to `service` takes before it has its effect.
    pub fn set_latency(&self, service: Service, latency: Duration) {
        let mut state = self.state();
        state.latency.retain(|(of, _)| *of != service);
        state.latency.push((service, latency));
    }

    pub fn add_fault(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Lets the process that makes forerunner's `call`th call from now (from 0) die around it: the call
    /// is never answered and [`Wire::crashed`] wakes up.
    pub fn crash_at(&self, call: usize, moment: Moment) {
        let mut state = self.state();
        state.product_calls = 0;
        state.crash = Some((call, moment));
    }

    /// Whether the crash that [`Wire::crash_at`] asked for is still to come.
    pub fn awaits_crash(&self) -> bool {
        self.state().crash.is_some()
    }

    /// Keeps forerunner's `call`th call from now (from 0) waiting before it has its effect.
    pub fn hold_at(&self, call: usize) -> Held {
        let (reached, is_reached) = oneshot::channel();
        let (open, opened) = oneshot::channel();
        let mut state = self.state();
        state.product_calls = 0;
        state.hold = Some((call, Gate { reached, opened }));
        Held { reached: Some(is_reached), _open: open }
    }

    /// Waits for the crash that [`Wire::crash_at`] asked for.
    pub async fn crashed(&self) {
        self.0.crashed.notified().await;
    }

    /// All calls so far, in the order in which they were answered or lost.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    pub fn forget_calls(&self) {
        self.state().calls.clear();
    }

    /// Shows `observer` too every exchange with these services from now on. Their bodies are read whole, so none of them may
    /// answer without end.
    pub fn observe(&self, services: &[Service], observer: Observer) {
        self.state().observers.push((services.to_vec(), observer));
    }

    /// Serves `router` on loopback, on `port` or any free one.
    pub async fn serve(
        &self,
        service: Service,
        port: Option<u16>,
        router: Router,
    ) -> io::Result<Server> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.unwrap_or(0))).await?;
        let address = listener.local_addr()?;
        let wire = self.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (wire, router) = (wire.clone(), router.clone());
                connections.spawn(async move {
                    let answer = hyper::service::service_fn(move |request| {
                        wire.clone().answer(service, router.clone(), request)
                    });
                    let _broken_connection =
                        hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                            .serve_connection(TokioIo::new(stream), answer)
                            .await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Server { address, task })
    }

    async fn answer(
        self,
        service: Service,
        router: Router,
        request: Request<hyper::body::Incoming>,
    ) -> Result<Response<Body>, Lost> {
        let request = request.map(Body::new);
        let mut call = Call {
            at: self.0.clock.now(),
            service,
            method: request.method().to_string(),
            path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            status: None,
            caller: caller(request.headers()),
        };
        let Met { latency, fault, crash, gate } = self.meet(&call);
        if let Some(Gate { reached, opened }) = gate {
            // Whoever holds it may have stopped looking; dropping the other end opens it.
            let _unseen = reached.send(());
            let _opened = opened.await;
        }
        if !latency.is_zero() {
            #[expect(
                clippy::disallowed_methods,
                reason = "the network between us and a service takes time"
            )]
            tokio::time::sleep(latency).await;
        }
        if crash == Some(Moment::BeforeEffect) {
            return self.die(call).await;
        }
        match fault {
            Some(What::DropBeforeEffect) => {
                self.record(call);
                return Err(Lost);
            }
            Some(What::Answer { status, headers, body }) => {
                call.status = Some(status);
                self.record(call);
                return Ok(made_up(status, &headers, body));
            }
            Some(What::Hang) => {
                self.record(call);
                return std::future::pending().await;
            }
            Some(What::DropAfterEffect) | None => {}
        }
        let response = self.ask(&call, router, request).await;
        if crash == Some(Moment::AfterEffect) {
            return self.die(call).await;
        }
        if fault.is_some() {
            self.record(call);
            return Err(Lost);
        }
        call.status = Some(response.status().as_u16());
        self.record(call);
        Ok(response)
    }

    /// Lets the service answer, before the observers' eyes if it has any.
    async fn ask(&self, call: &Call, router: Router, request: Request<Body>) -> Response<Body> {
        let observers: Vec<Observer> = self
            .state()
            .observers
            .iter()
            .filter(|(services, _)| services.contains(&call.service))
            .map(|(_, observer)| observer.clone())
            .collect();
        if observers.is_empty() {
            let Ok(response) = router.oneshot(request).await;
            return response;
        }
        let (parts, body) = request.into_parts();
        let asked = whole(body).await;
        let request_type = content_type(&parts.headers);
        let Ok(response) =
            router.oneshot(Request::from_parts(parts, Body::from(asked.clone()))).await;
        let (parts, body) = response.into_parts();
        let answer = whole(body).await;
        let exchange = Exchange {
            service: call.service,
            method: call.method.clone(),
            path: call.path.clone(),
            caller: call.caller.clone(),
            request: asked,
            request_type,
            status: parts.status.as_u16(),
            answer: answer.clone(),
            answer_type: content_type(&parts.headers),
        };
        observers.iter().for_each(|observer| observer(&exchange));
        Response::from_parts(parts, Body::from(answer))
    }

    /// Counts the call and says what is to happen to it.
    fn meet(&self, call: &Call) -> Met {
        let mut state = self.state();
        let latency = state
            .latency
            .iter()
            .find(|(of, _)| *of == call.service)
            .map_or(Duration::ZERO, |(_, by)| *by);
        let fault = state.faults.iter_mut().find(|fault| {
            fault.times > 0
                && fault.service == call.service
                && fault.method.is_none_or(|method| method == call.method)
                && call.path.contains(&fault.path)
        });
        let fault = fault.map(|fault| {
            fault.times -= 1;
            fault.what.clone()
        });
        let (mut crash, mut gate) = (None, None);
        if call.is_ours() {
            let number = state.product_calls;
            state.product_calls += 1;
            crash = state.crash.take_if(|(at, _)| *at == number).map(|(_, moment)| moment);
            gate = state.hold.take_if(|(at, _)| *at == number).map(|(_, gate)| gate);
        }
        Met { latency, fault, crash, gate }
    }

    async fn die(&self, call: Call) -> Result<Response<Body>, Lost> {
        self.record(call);
        self.0.crashed.notify_one();
        std::future::pending().await
    }

    fn record(&self, call: Call) {
        self.state().calls.push(call);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to happen to a call.
struct Met {
    latency: Duration,
    fault: Option<What>,
    crash: Option<Moment>,
    gate: Option<Gate>,
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// All that could be read; a caller that breaks off has said no more.
async fn whole(body: Body) -> Bytes {
    to_bytes(body, usize::MAX).await.unwrap_or_default()
}

/// Ends the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection was lost")]
struct Lost;

fn caller(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    agent.and_then(|agent| agent.split_whitespace().next()).unwrap_or_default().to_owned()
}

fn made_up(status: u16, headers: &[(&'static str, String)], body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}
