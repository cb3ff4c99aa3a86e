//! One request to the API, and who makes it.

use super::{Gitlab, errors::Refusal, parameters::Parameters, state::State, tokens};
use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, OriginalUri, Path},
    http::{HeaderMap, Request, StatusCode, Uri, header},
};
use std::{collections::HashMap, sync::MutexGuard};

const BODY_BYTES_MAX: usize = 25 * 1024 * 1024;

/// A request with its parameters read; not yet known to be allowed.
pub(super) struct Call {
    pub(super) gitlab: Gitlab,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) parameters: Parameters,
    pub(super) body: Bytes,
    path: HashMap<String, String>,
}

/// What an endpoint asks of the token's scopes (§5.1).
#[derive(Clone, Copy)]
pub(super) enum Access {
    Read,
    Write,
    CreateRunner,
    ReadRunner,
    WriteRunner,
    RotateSelf,
    /// Any valid token.
    Any,
}

impl Access {
    fn scopes(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Read => Some(&["api", "read_api"]),
            Self::Write => Some(&["api"]),
            Self::CreateRunner => Some(&["api", "create_runner"]),
            Self::ReadRunner => Some(&["api", "read_api", "manage_runner"]),
            Self::WriteRunner => Some(&["api", "manage_runner"]),
            Self::RotateSelf => Some(&["api", "self_rotate"]),
            Self::Any => None,
        }
    }
}

/// Who calls; without a user it is anybody from the street.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) user: Option<u64>,
    pub(super) admin: bool,
    pub(super) token: Option<u64>,
}

impl Call {
    /// The state, at the clock's present time and caused by whatever delivery the call names.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.gitlab.lock();
        state.cause = self.header("x-gitlab-event-uuid").and_then(|text| text.parse().ok());
        state
    }

    /// Lets a caller with a good token of a fitting scope in.
    pub(super) fn enter(&self, access: Access) -> Result<(MutexGuard<'_, State>, Caller), Refusal> {
        let mut state = self.state();
        let token = self.token().ok_or_else(Refusal::unauthorized)?;
        let caller = tokens::authenticate(&mut state, &token, access.scopes())?;
        Ok((state, caller))
    }

    /// The same for what is also shown to callers without any token.
    pub(super) fn visit(&self) -> Result<(MutexGuard<'_, State>, Caller), Refusal> {
        if self.token().is_some() {
            return self.enter(Access::Read);
        }
        Ok((self.state(), Caller { user: None, admin: false, token: None }))
    }

    pub(super) fn enter_as_admin(
        &self,
        access: Access,
    ) -> Result<(MutexGuard<'_, State>, Caller), Refusal> {
        let (state, caller) = self.enter(access)?;
        if caller.admin { Ok((state, caller)) } else { Err(Refusal::forbidden()) }
    }

    /// A decoded segment of the path.
    pub(super) fn segment(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// A segment that must be a number.
    pub(super) fn id(&self, name: &str) -> Result<u64, Refusal> {
        let invalid = |_| Refusal::parameter(format!("{name} is invalid"));
        self.segment(name).parse().map_err(invalid)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The credential as it was presented.
    pub(super) fn token(&self) -> Option<String> {
        let bearer = || self.header("authorization")?.strip_prefix("Bearer ");
        self.header("private-token").or_else(bearer).map(ToOwned::to_owned)
    }
}

impl FromRequest<Gitlab> for Call {
    type Rejection = Refusal;

    async fn from_request(request: Request<Body>, gitlab: &Gitlab) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let path = Path::<HashMap<String, String>>::from_request_parts(&mut parts, gitlab)
            .await
            .map_or_else(|_| HashMap::new(), |Path(path)| path);
        let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
            Refusal::message(StatusCode::PAYLOAD_TOO_LARGE, "413 Payload Too Large")
        })?;
        let mut parameters = Parameters::default();
        parameters.add_pairs(parts.uri.query().unwrap_or_default().as_bytes());
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        match kind.and_then(|kind| kind.split(';').next()).map(str::trim) {
            Some("application/json") if !body.is_empty() => parameters.add_json(&body)?,
            Some("application/x-www-form-urlencoded") => parameters.add_pairs(&body),
            Some(_) | None => {}
        }
        // The router has taken the prefix off the other one.
        let Ok(OriginalUri(uri)) = OriginalUri::from_request_parts(&mut parts, gitlab).await;
        let gitlab = gitlab.clone();
        Ok(Self { gitlab, uri, headers: parts.headers, parameters, body, path })
    }
}
