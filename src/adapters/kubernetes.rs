//! The Kubernetes API of one cluster, objects as plain JSON (runner-on-kubernetes.md §9).

mod cluster;
mod connection;
mod error;
mod exec;
mod kubeconfig;
mod page;

pub use cluster::Access;
pub use error::Error;

use super::http::{Http, Response};
use crate::domain::{
    kubernetes::{Kind, Object, ObjectName},
    names::FIELD_MANAGER,
};
use bytes::Bytes;
use connection::Connection;
use kube::core::{
    params::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams},
    request::Request,
};
use serde::Deserialize;
use serde_json::Value;
use std::{fmt, sync::Arc};
use tokio::sync::Mutex;
use url::Url;

/// Whether an apply takes fields from other field managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    Yes,
    No,
}

/// Whether a write is only tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun {
    Yes,
    No,
}

/// What must still be true of an object for its deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

/// Objects in one page of a list.
const PAGE: u32 = 500;
/// How often a list is begun again because its continuation expired.
const LIST_STARTS_MAX: usize = 3;

/// One cluster. Cheap to clone. How to reach it is asked at the first call, kept, and asked again once it could not be
/// reached: its address or its CA may be another by then.
#[derive(Clone)]
pub struct Kubernetes(Arc<Inner>);

struct Inner {
    http: Http,
    access: Access,
    connection: Mutex<Option<Arc<Connection>>>,
}

impl Kubernetes {
    pub fn new(http: Http, access: Access) -> Self {
        Self(Arc::new(Inner { http, access, connection: Mutex::new(None) }))
    }

    /// The API server's address.
    pub async fn server(&self) -> Result<Url, Error> {
        Ok(self.connection().await?.server().clone())
    }

    /// The issuer of service-account tokens, byte for byte as its discovery document has it.
    ///
    /// `GET /.well-known/openid-configuration` → 200. For a cluster that ARM does not know; AKS tells it there.
    pub async fn oidc_issuer(&self) -> Result<String, Error> {
        let what = "the cluster's token issuer";
        let request = http::Request::get("/.well-known/openid-configuration").body(Vec::new());
        let request = request.map_err(kube::core::request::Error::BuildRequest);
        let body = self.call(what, Kind::ServiceAccount, request).await?;
        Ok(read::<Discovery>(what, &body)?.issuer)
    }

    /// Reads one object; `None` when there is none, or no such namespace.
    pub async fn get(&self, name: &ObjectName) -> Result<Option<Object>, Error> {
        let request = requests(name).get(&name.name, &GetParams::default());
        match self.object(name, request).await {
            Ok(object) => Ok(Some(object)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects of a kind in a namespace, or in the cluster, that match a label selector; 500 a call. A list whose
    /// continuation expired (410) is begun again.
    pub async fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        label_selector: Option<&str>,
    ) -> Result<Vec<Object>, Error> {
        self.fold(kind, namespace, label_selector, Vec::push).await
    }

    /// The same for lists too long to hold: each object is taken into one value and dropped, page by page. A list
    /// that is begun again begins with an empty value.
    pub async fn fold<A: Default>(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        label_selector: Option<&str>,
        take: impl Fn(&mut A, Object),
    ) -> Result<A, Error> {
        let mut expired = None;
        for _ in 0..LIST_STARTS_MAX {
            match self.fold_once(kind, namespace, label_selector, &take).await {
                Err(error @ Error::Expired { .. }) => expired = Some(error),
                other => return other,
            }
        }
        Err(expired.expect("the loop ran at least once"))
    }

    async fn fold_once<A: Default>(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        label_selector: Option<&str>,
        take: &impl Fn(&mut A, Object),
    ) -> Result<A, Error> {
        let what = describe_list(kind, namespace);
        let requests = Request::new(collection(kind, namespace));
        let mut parameters = ListParams::default().limit(PAGE);
        parameters.label_selector = label_selector.map(str::to_owned);
        let mut taken = A::default();
        loop {
            let body = self.call(&what, kind, requests.list(&parameters)).await?;
            let mut take = |object| take(&mut taken, object);
            let next = page::read(kind, &body, &mut take).map_err(|_| unreadable(&what))?;
            match next {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(taken),
            }
        }
    }

    /// Server-side apply: makes the object, or sets the fields of `object` and drops those that `field_manager` set
    /// before. Unknown and duplicate fields are errors. Safe to repeat.
    ///
    /// Errors: without force [`Error::Conflict`] names who else holds which field.
    pub async fn apply(
        &self,
        object: &Object,
        field_manager: &str,
        force: Force,
        dry_run: DryRun,
    ) -> Result<Object, Error> {
        let mut parameters = PatchParams::apply(field_manager).validation_strict();
        parameters.force = force == Force::Yes;
        parameters.dry_run = dry_run == DryRun::Yes;
        let patch = Patch::Apply(&object.body);
        let request = requests(&object.name).patch(&object.name.name, &parameters, &patch);
        self.object(&object.name, request).await
    }

    /// Makes an object that must not exist yet; POST, never repeated.
    ///
    /// Errors: [`Error::AlreadyExists`].
    pub async fn create(&self, object: &Object, dry_run: DryRun) -> Result<Object, Error> {
        let request = requests(&object.name).create(&post(dry_run), json(&object.body));
        self.object(&object.name, request).await
    }

    /// Puts `object` in the place of what was read; PUT at the `metadata.resourceVersion` that its body holds, never
    /// repeated.
    ///
    /// Errors: [`Error::Conflict`] when somebody wrote since, or deleted it.
    pub async fn replace(&self, object: &Object, dry_run: DryRun) -> Result<Object, Error> {
        let request =
            requests(&object.name).replace(&object.name.name, &post(dry_run), json(&object.body));
        match self.object(&object.name, request).await {
            Err(Error::NotFound { what }) => {
                Err(Error::Conflict { what, reason: "it is gone".to_owned() })
            }
            other => other,
        }
    }

    /// Merges `patch` into an object; PATCH, safe to repeat. `null` takes a field away.
    pub async fn patch_merge(&self, name: &ObjectName, patch: &Value) -> Result<Object, Error> {
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
        let request = requests(name).patch(&name.name, &parameters, &Patch::Merge(patch));
        self.object(name, request).await
    }

    /// Deletes an object and what it owns; a 404 is as good. The answer comes before the object is gone.
    ///
    /// Errors: [`Error::Conflict`] when a precondition fails.
    pub async fn delete(
        &self,
        name: &ObjectName,
        preconditions: &Preconditions,
    ) -> Result<(), Error> {
        let mut parameters = DeleteParams::background();
        if *preconditions != Preconditions::default() {
            let Preconditions { uid, resource_version } = preconditions.clone();
            parameters.preconditions =
                Some(kube::core::params::Preconditions { uid, resource_version });
        }
        let request = requests(name).delete(&name.name, &parameters);
        match self.call(&name.to_string(), name.kind, request).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn object(&self, name: &ObjectName, request: Built) -> Result<Object, Error> {
        let what = name.to_string();
        let body = self.call(&what, name.kind, request).await?;
        Ok(Object { name: name.clone(), body: read(&what, &body)? })
    }

    async fn call(&self, what: &str, kind: Kind, request: Built) -> Result<Bytes, Error> {
        let request = request
            .map_err(|error| Error::NotSent { what: what.to_owned(), reason: error.to_string() })?;
        let failed = match self.send(what, request.clone()).await {
            Ok(response) => return error::check(what, kind, response),
            Err(failed) => failed,
        };
        if !matches!(failed, Error::Untrusted { .. }) {
            return Err(self.0.access.explain(failed).await);
        }
        // The CA was rotated, perhaps: it is looked up again, and nothing was sent yet.
        error::check(what, kind, self.send(what, request).await?)
    }

    /// Forgets how the cluster is reached where that failed.
    async fn send(&self, what: &str, request: http::Request<Vec<u8>>) -> Result<Response, Error> {
        let connection = self.connection().await?;
        let answer = connection.send(what, request).await;
        if answer.is_err() {
            self.disconnect(&connection).await;
        }
        answer
    }

    async fn connection(&self) -> Result<Arc<Connection>, Error> {
        let mut kept = self.0.connection.lock().await;
        if let Some(connection) = &*kept {
            return Ok(connection.clone());
        }
        let connection = Arc::new(Connection::open(&self.0.http, &self.0.access).await?);
        Ok(kept.insert(connection).clone())
    }

    async fn disconnect(&self, broken: &Arc<Connection>) {
        let mut kept = self.0.connection.lock().await;
        if kept.as_ref().is_some_and(|connection| Arc::ptr_eq(connection, broken)) {
            *kept = None;
        }
    }
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kubernetes({:?})", self.0.access)
    }
}

type Built = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

fn requests(name: &ObjectName) -> Request {
    Request::new(collection(name.kind, name.namespace.as_deref()))
}

fn collection(kind: Kind, namespace: Option<&str>) -> String {
    let (api_version, _, plural) = kind.wire();
    let root = if api_version.contains('/') { "/apis" } else { "/api" };
    match namespace {
        Some(namespace) => format!("{root}/{api_version}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{api_version}/{plural}"),
    }
}

fn describe_list(kind: Kind, namespace: Option<&str>) -> String {
    let (_, _, plural) = kind.wire();
    namespace.map_or_else(|| format!("all {plural}"), |name| format!("the {plural} of `{name}`"))
}

fn post(dry_run: DryRun) -> PostParams {
    PostParams { dry_run: dry_run == DryRun::Yes, field_manager: Some(FIELD_MANAGER.to_owned()) }
}

fn json(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}

/// A parse error may quote a Secret, so it is not passed on.
fn read<T: serde::de::DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|_| unreadable(what))
}

fn unreadable(what: &str) -> Error {
    Error::Unreadable { what: what.to_owned(), reason: "it is not the JSON we know".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_and_named_groups_have_their_own_paths() {
        let check = |kind, namespace, expected: &str| {
            assert_eq!(collection(kind, namespace), expected);
        };
        check(Kind::Namespace, None, "/api/v1/namespaces");
        check(Kind::Secret, Some("a"), "/api/v1/namespaces/a/secrets");
        check(Kind::Deployment, None, "/apis/apps/v1/deployments");
        check(
            Kind::RoleBinding,
            Some("a"),
            "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings",
        );
    }
}
