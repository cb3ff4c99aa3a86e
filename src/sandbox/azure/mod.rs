//! The sandbox's Azure: managed-identity tokens, Entra's token exchange, ARM, Resource Graph and Key Vault.
//!
//! Contract: azure.md, §12 above all. Nothing here acts by itself: lags and expiries are read off the clock when
//! somebody asks. Authorization is real: a token says who calls, and only role assignments say what they may do.

mod administrator;
mod answer;
mod arm;
mod authorization;
mod call;
mod condition;
mod dump;
mod entra;
mod graph;
mod identity_endpoint;
mod key_vault;
mod obstacles;
mod roles;
mod scope;
mod settings;
mod state;
mod throttle;
mod token;

pub use administrator::ClusterSettings;
pub use obstacles::Lock;
pub use settings::{Lag, Lags, Settings};
pub use state::{Assignment, Credential, Identity};
pub use token::Caller;

use crate::clock::Clock;
use axum::{Router, body::Body, http::Request};
use entra::issuers::Issuers;
use state::State;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use uuid::Uuid;

/// The host of ARM in every link that it gives out.
const ARM_HOST: &str = "management.azure.com";

/// One tenant with its subscriptions; a clone is the same Azure.
#[derive(Clone)]
pub struct Azure(Arc<Inner>);

struct Inner {
    clock: Clock,
    settings: Settings,
    state: Mutex<State>,
    issuers: Issuers,
}

impl Azure {
    pub fn new(clock: Clock, settings: Settings) -> Self {
        let state = Mutex::new(State::new(&settings));
        Self(Arc::new(Inner { clock, settings, state, issuers: Issuers::default() }))
    }

    pub fn tenant_id(&self) -> Uuid {
        self.state().tenant
    }

    /// What `X-IDENTITY-HEADER` must hold: the app setting `IDENTITY_HEADER`.
    pub fn identity_header(&self) -> String {
        self.state().identity_header.clone()
    }

    /// The app service's token endpoint: `GET /msi/token`.
    pub fn identity_router(&self) -> Router {
        let azure = self.clone();
        Router::new().fallback(move |request: Request<Body>| async move {
            identity_endpoint::answer(&azure, request).await.into_response()
        })
    }

    /// `login.microsoftonline.com`.
    pub fn entra_router(&self) -> Router {
        let azure = self.clone();
        Router::new().fallback(move |request: Request<Body>| async move {
            entra::answer(&azure, request).await.into_response()
        })
    }

    /// `management.azure.com`.
    pub fn arm_router(&self) -> Router {
        let azure = self.clone();
        Router::new().fallback(move |request: Request<Body>| async move {
            arm::answer(&azure, request).await.into_response()
        })
    }

    /// Every `*.vault.azure.net`; the `Host` says which.
    pub fn key_vault_router(&self) -> Router {
        let azure = self.clone();
        Router::new().fallback(move |request: Request<Body>| async move {
            key_vault::answer(&azure, request).await.into_response()
        })
    }

    /// Where the discovery document and the keys of `issuer` are fetched: plain HTTP at `address`.
    pub fn trust_issuer(&self, issuer: &str, address: SocketAddr) {
        self.0.issuers.trust(issuer, address);
    }

    /// Who a token of ours speaks for, if it is meant for `audience` and has not expired. For the services that
    /// are not this one: the cluster's API server, the queue.
    pub fn authenticate(&self, token: &str, audience: &str) -> Option<Caller> {
        let caller = token::read(&self.state().signing_key, token)?;
        let valid = token::is_for(&caller.audience, audience)
            && caller.expires_at.as_second() > self.0.clock.now().as_second();
        valid.then_some(caller)
    }

    /// Whether role assignments let `principal` do `action` (a control-plane action) at `scope`.
    pub fn may(&self, principal: Uuid, action: &str, scope: &str) -> bool {
        authorization::may(&self.state(), principal, action, scope, &condition::Judged::default())
    }

    /// Whether role assignments let `principal` do `action` (a data action) at `scope`.
    pub fn may_with_data(&self, principal: Uuid, action: &str, scope: &str) -> bool {
        authorization::may_with_data(&self.state(), principal, action, scope)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
