//! The HTTP side: from a request to a verb on an object.
//! Source: <https://kubernetes.io/docs/reference/using-api/api-concepts/>

use super::{
    Kubernetes, User, admission,
    confinement::Write,
    discovery,
    kinds::{self, Kind},
    lists, pods,
    rbac::{self, Attributes},
    selectors::Selector,
    status::Status,
    store::{Key, State},
    tokens,
    verbs::{self, Call, Deletion},
};
use axum::{
    Json,
    body::{Body, Bytes},
    extract::State as Shared,
    http::{HeaderMap, Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// More than any request of ours; the real limit is about 3 MiB.
const BODY_MAX: usize = 3 * 1024 * 1024;

pub(super) async fn answer(
    Shared(kubernetes): Shared<Kubernetes>,
    request: Request<Body>,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_MAX).await else {
        return Status::too_large(BODY_MAX).into_response();
    };
    let now = kubernetes.clock.now();
    let mut state = kubernetes.state();
    state.advance(now);
    let query = parts.uri.query().unwrap_or_default();
    let request = Asked {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        headers: parts.headers,
        body,
        now,
    };
    let answered = request.answer(&mut state);
    let metadata_only =
        request.header(header::ACCEPT.as_str()).contains("as=PartialObjectMetadata");
    match answered {
        Ok((status, body)) if metadata_only => (status, Json(partial(body))).into_response(),
        Ok((status, body)) => (status, Json(body)).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Objects without everything but their metadata.
fn partial(body: Value) -> Value {
    const VERSION: &str = "meta.k8s.io/v1";
    let one = |object: &Value| {
        json!({
            "kind": "PartialObjectMetadata", "apiVersion": VERSION, "metadata": object["metadata"],
        })
    };
    if body["kind"] == "Status" {
        return body;
    }
    match body["items"].as_array() {
        Some(items) => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": VERSION,
            "metadata": body["metadata"], "items": items.iter().map(one).collect::<Vec<_>>(),
        }),
        None => one(&body),
    }
}

/// One request.
struct Asked {
    method: Method,
    path: String,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
    now: Timestamp,
}

/// The resource a path names.
struct Resource {
    kind: &'static Kind,
    namespace: String,
    /// Empty for the collection.
    name: String,
    subresource: String,
}

type Answer = Result<(StatusCode, Value), Status>;

impl Resource {
    fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..]
                if !rest.is_empty() && !["status", "finalize"].contains(&rest[0]) =>
            {
                (*namespace, rest)
            }
            rest => ("", rest),
        };
        let (plural, rest) = rest.split_first()?;
        let kind = kinds::find(group, version, plural)?;
        let (name, subresource) = match rest {
            [] => ("", ""),
            [name] => (*name, ""),
            [name, subresource] => (*name, *subresource),
            _ => return None,
        };
        let fits = kind.namespaced || namespace.is_empty();
        let decode = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
        };
        fits.then(|| Self {
            kind,
            namespace: decode(namespace),
            name: decode(name),
            subresource: subresource.to_owned(),
        })
    }
}

fn is_throttled(state: &State, user: &User, resource: &Resource) -> bool {
    let mut throttled = state.throttled.iter();
    throttled.any(|(name, namespace)| *name == user.name && *namespace == resource.namespace)
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn option(&self, name: &str) -> &str {
        self.query.get(name).map(String::as_str).unwrap_or_default()
    }

    fn answer(&self, state: &mut State) -> Answer {
        if let Some(published) = self.published(state) {
            return Ok((StatusCode::OK, published));
        }
        let user = self.user(state)?;
        match Resource::parse(&self.path) {
            Some(resource) if is_throttled(state, &user, &resource) => {
                Err(Status::too_many_requests())
            }
            Some(resource) => self.act(state, &user, &resource),
            None => self.describe(state, &user),
        }
    }

    /// What anybody may read: the keys of the tokens. AKS publishes them below the issuer, at a host of its own; the
    /// server shows them at its root, to whoever has a right to the path.
    fn published(&self, state: &State) -> Option<Value> {
        let issuer = &state.settings.issuer;
        let host = url::Url::parse(issuer).ok()?.host_str()?.to_owned();
        if self.method != Method::GET || self.header(header::HOST.as_str()) != host {
            return None;
        }
        self.token_keys(state)
    }

    fn token_keys(&self, state: &State) -> Option<Value> {
        let issuer = &state.settings.issuer;
        if self.path.ends_with("/.well-known/openid-configuration") {
            return Some(tokens::configuration(issuer));
        }
        self.path.ends_with("/openid/v1/jwks").then(tokens::key_set)
    }

    fn user(&self, state: &State) -> Result<User, Status> {
        match self.header(header::AUTHORIZATION.as_str()).split_once(' ') {
            None => Ok(User::anonymous()),
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                tokens::authenticate(state, token.trim(), self.now).ok_or_else(Status::unauthorized)
            }
            Some(_) => Err(Status::unauthorized()),
        }
    }

    /// Paths that are no resource.
    fn describe(&self, state: &State, user: &User) -> Answer {
        let verb = self.method.as_str().to_lowercase();
        if !rbac::path_allowed(state, user, &verb, &self.path) {
            return Err(Status::forbidden_path(&user.name, &verb, &self.path));
        }
        match self.path.as_str() {
            "/version" => Ok((StatusCode::OK, discovery::version(&state.settings.version))),
            "/readyz" | "/livez" | "/healthz" => Ok((StatusCode::OK, json!("ok"))),
            path => match self.token_keys(state) {
                Some(keys) => Ok((StatusCode::OK, keys)),
                None => Ok((StatusCode::OK, discovery::resources(path)?)),
            },
        }
    }

    fn act(&self, state: &mut State, user: &User, resource: &Resource) -> Answer {
        let verb = self.verb(resource)?;
        self.check_media_type()?;
        let asked = attributes(verb, resource);
        rbac::authorize(state, user, resource.kind, &asked)?;
        let kind = resource.kind;
        if kind.kind == "SelfSubjectAccessReview" {
            return Ok((StatusCode::CREATED, rbac::review(state, user, &self.json()?)));
        }
        let call = Call {
            user,
            manager: self.manager(),
            dry_run: self.option("dryRun") == "All",
            now: self.now,
        };
        let (namespace, name) = (resource.namespace.as_str(), resource.name.as_str());
        match (resource.subresource.as_str(), verb) {
            ("token", "create") if kind.kind == "ServiceAccount" => {
                return self.token(state, user, resource);
            }
            ("status", "get") if kind.has_status => {
                return Ok((StatusCode::OK, verbs::existing(state, kind, namespace, name)?));
            }
            ("status", "update" | "patch") if kind.has_status => {
                let key = Key::new(kind.plural, namespace, name);
                let sent = self.json()?;
                return Ok((StatusCode::OK, verbs::update_status(state, &call, key, kind, &sent)?));
            }
            ("", _) => {}
            _ => return Err(Status::no_such_path()),
        }
        let done = match verb {
            "get" => verbs::existing(state, kind, namespace, name)?,
            "list" => lists::list(state, kind, &self.wanted(namespace)?)?,
            "create" => {
                let made = verbs::create(state, &call, kind, namespace, self.json()?)?;
                return Ok((StatusCode::CREATED, made));
            }
            "update" => verbs::update(state, &call, kind, namespace, name, self.json()?)?,
            "patch" => return self.patch(state, &call, resource),
            "delete" => verbs::delete(state, &call, kind, namespace, name, &self.deletion()?)?,
            "deletecollection" => self.delete_all(state, &call, resource)?,
            _ => return Err(Status::method_not_allowed()),
        };
        Ok((StatusCode::OK, done))
    }

    fn verb(&self, resource: &Resource) -> Result<&'static str, Status> {
        let one = !resource.name.is_empty();
        let watch = ["true", "1"].contains(&self.option("watch"));
        match (self.method.as_str(), one) {
            ("GET" | "HEAD", true) => Ok("get"),
            ("GET" | "HEAD", false) if watch => Ok("watch"),
            ("GET" | "HEAD", false) => Ok("list"),
            ("POST", true) if !resource.subresource.is_empty() => Ok("create"),
            ("POST", false) => Ok("create"),
            ("PUT", true) => Ok("update"),
            ("PATCH", true) => Ok("patch"),
            ("DELETE", true) => Ok("delete"),
            ("DELETE", false) => Ok("deletecollection"),
            _ => Err(Status::method_not_allowed()),
        }
    }

    /// Only JSON, and YAML for an apply: what speaks protobuf has to be told.
    fn check_media_type(&self) -> Result<(), Status> {
        let given = self.header(header::CONTENT_TYPE.as_str());
        let known = ["json", "yaml"].iter().any(|known| given.contains(known));
        if self.body.is_empty() || given.is_empty() || known {
            Ok(())
        } else {
            Err(Status::unsupported_media_type(given))
        }
    }

    fn json(&self) -> Result<Value, Status> {
        let Ok(text) = std::str::from_utf8(&self.body) else {
            return Err(Status::bad_request("the body is no UTF-8 text"));
        };
        let read: Option<Value> =
            serde_json::from_str(text).ok().or_else(|| serde_saphyr::from_str(text).ok());
        match read {
            Some(value) if value.is_object() => Ok(value),
            Some(_) | None => Err(Status::bad_request("the body is no object in JSON or YAML")),
        }
    }

    /// Who owns what is written: `fieldManager`, else the program's name.
    fn manager(&self) -> String {
        match self.option("fieldManager") {
            "" => {
                let agent = self.header(header::USER_AGENT.as_str());
                let name = agent.split('/').next().unwrap_or_default();
                if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
            }
            manager => manager.to_owned(),
        }
    }

    fn wanted(&self, namespace: &str) -> Result<lists::Wanted, Status> {
        Ok(lists::Wanted {
            namespace: namespace.to_owned(),
            selector: Selector::parse(self.option("labelSelector"), self.option("fieldSelector"))?,
            limit: self.option("limit").parse().unwrap_or(0),
            continued: self.option("continue").to_owned(),
        })
    }

    fn patch(&self, state: &mut State, call: &Call<'_>, resource: &Resource) -> Answer {
        let Resource { kind, namespace, name, .. } = resource;
        let given = self.header(header::CONTENT_TYPE.as_str());
        let given = given.split(';').next().unwrap_or_default().trim();
        match given {
            "application/merge-patch+json" => {
                let patch = self.json()?;
                let done = verbs::merge_patch(state, call, kind, namespace, name, &patch)?;
                Ok((StatusCode::OK, done))
            }
            "application/apply-patch+yaml" => {
                if self.option("fieldManager").is_empty() {
                    return Err(Status::missing_manager());
                }
                if state.find(kind.plural, namespace, name).is_none() {
                    let asked = attributes("create", resource);
                    rbac::authorize(state, call.user, kind, &asked)?;
                }
                let force = ["true", "1"].contains(&self.option("force"));
                let config = self.json()?;
                let (done, new) = verbs::apply(state, call, kind, namespace, name, config, force)?;
                Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, done))
            }
            other => Err(Status::unsupported_media_type(other)),
        }
    }

    fn deletion(&self) -> Result<Deletion, Status> {
        let options = if self.body.is_empty() { json!({}) } else { self.json()? };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let of_query = |name: &str| (!self.option(name).is_empty()).then(|| self.option(name));
        Ok(Deletion {
            uid: text(&options["preconditions"]["uid"]),
            resource_version: text(&options["preconditions"]["resourceVersion"]),
            propagation: of_query("propagationPolicy")
                .map(str::to_owned)
                .or_else(|| text(&options["propagationPolicy"]))
                .unwrap_or_default(),
            grace: of_query("gracePeriodSeconds")
                .and_then(|seconds| seconds.parse().ok())
                .or_else(|| options["gracePeriodSeconds"].as_u64()),
        })
    }

    fn delete_all(
        &self,
        state: &mut State,
        call: &Call<'_>,
        resource: &Resource,
    ) -> Result<Value, Status> {
        if resource.kind.kind != "Pod" {
            return Err(Status::method_not_allowed());
        }
        let mut wanted = self.wanted(&resource.namespace)?;
        wanted.limit = 0;
        let found = lists::list(state, resource.kind, &wanted)?;
        let grace = self.deletion()?.grace;
        for pod in found["items"].as_array().into_iter().flatten() {
            let text = |name: &str| pod["metadata"][name].as_str().unwrap_or_default();
            let key = Key::new("pods", text("namespace"), text("name"));
            let write = Write {
                kind: resource.kind,
                subresource: "",
                namespace: &key.namespace,
                name: &key.name,
                object: None,
                old: Some(pod),
            };
            admission::validate(state, call.user, &write)?;
            if !call.dry_run {
                pods::delete(state, &key, grace, call.now);
            }
        }
        Ok(found)
    }

    /// `POST …/serviceaccounts/NAME/token`
    fn token(&self, state: &State, user: &User, resource: &Resource) -> Answer {
        let Resource { kind, namespace, name, .. } = resource;
        let request = self.json()?;
        let write = Write {
            kind,
            subresource: "token",
            namespace,
            name,
            object: Some(&request),
            old: None,
        };
        admission::validate(state, user, &write)?;
        verbs::existing(state, kind, namespace, name)?;
        let spec = &request["spec"];
        let pod = match spec["boundObjectRef"]["name"].as_str() {
            Some(pod) if spec["boundObjectRef"]["kind"] == "Pod" => {
                let found = verbs::existing(state, kinds::known("pods"), namespace, pod)?;
                let uid = found["metadata"]["uid"].as_str().unwrap_or_default();
                Some((pod.to_owned(), uid.to_owned()))
            }
            Some(_) | None => None,
        };
        let audiences = spec["audiences"].as_array().into_iter().flatten();
        let wanted = tokens::Wanted {
            namespace,
            account: name,
            audiences: audiences.filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            seconds: spec["expirationSeconds"].as_i64().unwrap_or(3600).max(600),
            pod,
        };
        let (token, expires) =
            tokens::issue(state, &wanted, self.now).ok_or_else(|| Status::not_found(kind, name))?;
        let mut answer = request.clone();
        answer["kind"] = "TokenRequest".into();
        answer["apiVersion"] = "authentication.k8s.io/v1".into();
        answer["spec"]["expirationSeconds"] = wanted.seconds.into();
        answer["status"] =
            json!({"token": token, "expirationTimestamp": super::apply::stamp(expires)});
        Ok((StatusCode::CREATED, answer))
    }
}

/// What the request is to the authorizer.
fn attributes(verb: &str, resource: &Resource) -> Attributes {
    let kind = resource.kind;
    let called = match resource.subresource.as_str() {
        "" => kind.plural.to_owned(),
        subresource => format!("{}/{subresource}", kind.plural),
    };
    let name = resource.name.clone();
    // A namespace lies, for the authorizer, in itself.
    let namespace =
        if kind.kind == "Namespace" { name.clone() } else { resource.namespace.clone() };
    Attributes {
        verb: verb.to_owned(),
        group: kind.group.to_owned(),
        resource: called,
        namespace,
        name,
    }
}
