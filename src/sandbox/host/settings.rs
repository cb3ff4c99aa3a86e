//! How a host is set up.

use super::{Echo, Keys, TimerStore, Worker};
use crate::{clock::Clock, sandbox::service_bus::ServiceBus};
use serde::Serialize;
use std::{collections::BTreeMap, path::PathBuf};

/// What `X-Azure-Functions-HostVersion` says unless told otherwise.
const VERSION: &str = "4.1052.300.26370";

/// How functions with an HTTP trigger and nothing but an HTTP answer are called; all others are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum HttpMode {
    /// As a JSON envelope at `/NAME`.
    Wrapped,
    /// The caller's request again, its body buffered.
    Forwarded,
    /// The caller's request, streamed.
    Proxied,
}

/// How a host is set up; start from [`HostSettings::new`].
#[derive(Clone)]
pub struct HostSettings {
    pub app_root: PathBuf,
    /// What the app gets as environment, and what `%NAME%` in its files stands for.
    pub app_settings: BTreeMap<String, String>,
    pub worker: Worker,
    /// Instead of what host.json says.
    pub http_mode: Option<HttpMode>,
    pub keys: Keys,
    pub clock: Clock,
    pub service_bus: ServiceBus,
    /// What timers remember, as the storage account does; share it to start a second host of the same app.
    pub timers: TimerStore,
    /// Send wrapped bodies in chunks, as Azure does, or with `Content-Length`, as Core Tools do.
    pub chunked: bool,
    /// Send a `traceparent` with each invocation.
    pub traceparent: bool,
    /// One handler for all HTTP functions and one for each other function, as on Flex Consumption.
    pub scale_groups: bool,
    pub version: String,
    /// Where invocation ids, key orders and the like come from.
    pub seed: u64,
    /// Called for each log line.
    pub echo: Option<Echo>,
}

impl HostSettings {
    /// One handler for everything, host.json's HTTP mode, chunked bodies.
    pub fn new(app_root: PathBuf, worker: Worker, clock: Clock, service_bus: ServiceBus) -> Self {
        Self {
            app_root,
            app_settings: BTreeMap::new(),
            worker,
            http_mode: None,
            keys: Keys::default(),
            clock,
            service_bus,
            timers: TimerStore::default(),
            chunked: true,
            traceparent: false,
            scale_groups: false,
            version: VERSION.to_owned(),
            seed: 0,
            echo: None,
        }
    }
}
