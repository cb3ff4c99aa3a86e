//! A Kubernetes API server with the controllers that forerunner meets, and a kubelet's view for what runs in pods.
//!
//! Objects are JSON; the schema, the merging and the refusals are written here and share nothing with the client.

mod admission;
mod api;
mod apply;
mod confinement;
mod defaults;
mod deployments;
mod discovery;
mod fields;
mod kinds;
mod kubelet;
mod lists;
mod merge;
mod namespaces;
mod pod_security;
mod pods;
mod quantity;
mod rbac;
mod real;
mod schema;
mod selectors;
mod status;
mod store;
mod tokens;
mod validate;
mod verbs;
mod workload_identity;

pub use confinement::Confinement;
pub use kubelet::{ManagerPod, MountedSecret};
pub(in crate::sandbox) use real::kubeconfig;
pub use real::{Refusal, Unusable};

use crate::{
    clock::Clock,
    sandbox::actor::{Actor, Due},
};
use axum::Router;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::{Key, State, Task};

/// More than any world of ours has to do at one instant: what needs more goes round in circles.
const TASKS_MAX: usize = 100_000;

/// The configuration of the workload-identity webhook.
const WEBHOOK: &str = "azure-wi-webhook-mutating-webhook-configuration";

/// One simulated cluster; a clone is the same cluster. It is its own [`Actor`].
#[derive(Clone)]
pub struct Kubernetes {
    clock: Clock,
    state: Arc<Mutex<State>>,
    /// Where another server holds the truth, and `state` a copy of it.
    real: Option<Arc<real::Real>>,
}

/// What the cluster is like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The same seed gives the same uids and generated names.
    pub seed: u64,
    /// `iss` of service-account tokens, byte for byte, with its last slash.
    pub issuer: String,
    /// As `/version` says it.
    pub version: String,
    /// The tenant of the workload-identity webhook, for accounts that name none.
    pub tenant_id: String,
    /// Whether the workload-identity webhook is installed.
    pub workload_identity: bool,
    /// Whom the shipped admission policy confines, once its binding is there.
    pub confinement: Option<Confinement>,
    /// From everything mounted to Ready.
    pub start_delay: Duration,
    /// From a Secret's change to its sight in pods that mount it.
    pub refresh_lag: Duration,
    /// From the deletion of a namespace to its end.
    pub namespace_end: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            issuer: "https://westeurope.oic.prod-aks.azure.com/\
                     00000000-0000-4000-8000-000000000001/00000000-0000-4000-8000-000000000002/"
                .to_owned(),
            version: "v1.34.4".to_owned(),
            tenant_id: "00000000-0000-4000-8000-000000000001".to_owned(),
            workload_identity: true,
            confinement: None,
            start_delay: Duration::from_secs(3),
            refresh_lag: Duration::from_secs(60),
            namespace_end: Duration::from_secs(5),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

impl User {
    fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
        }
    }

    fn administrator() -> Self {
        Self { name: "admin".to_owned(), groups: vec!["system:masters".to_owned()] }.authenticated()
    }

    fn service_account(namespace: &str, name: &str) -> Self {
        let groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ];
        Self { name: format!("system:serviceaccount:{namespace}:{name}"), groups }.authenticated()
    }

    fn authenticated(mut self) -> Self {
        if !self.is_authenticated() {
            self.groups.push("system:authenticated".to_owned());
        }
        self
    }

    fn is_authenticated(&self) -> bool {
        self.groups.iter().any(|group| group == "system:authenticated")
    }

    fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == "system:masters")
    }
}

/// Says whom a token of somebody else belongs to, if it is good.
pub type Accept = Arc<dyn Fn(&str) -> Option<User> + Send + Sync>;

impl Kubernetes {
    /// A new cluster with the namespaces, the role and the webhook that every AKS cluster has.
    pub fn new(clock: Clock, settings: Settings) -> Self {
        let webhook = settings.workload_identity;
        let now = clock.now();
        let state = Arc::new(Mutex::new(State::new(settings)));
        let kubernetes = Self { clock, state, real: None };
        for name in ["default", "kube-system", "kube-public"] {
            kubernetes.install(json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
            }));
        }
        kubernetes.install(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "cluster-admin"},
            "rules": [
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                {"nonResourceURLs": ["*"], "verbs": ["*"]},
            ],
        }));
        if webhook {
            kubernetes.install(json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": WEBHOOK},
                "webhooks": [],
            }));
        }
        let mut state = kubernetes.state();
        state.advance(store::after(now, Duration::from_secs(1)));
        drop(state);
        kubernetes
    }

    fn install(&self, object: Value) {
        self.apply_as_admin(object).expect("what every cluster has is valid");
    }

    /// The tenant of the workload-identity webhook, for accounts that name none.
    pub fn belong_to(&self, tenant_id: String) {
        self.state().settings.tenant_id = tenant_id;
    }

    pub fn router(&self) -> Router {
        match &self.real {
            Some(real) => real.router(self),
            None => Router::new().fallback(api::answer).with_state(self.clone()),
        }
    }

    /// Lets this bearer token in.
    pub fn add_token(&self, token: &str, user: User) {
        self.state().tokens.push((token.to_owned(), user));
    }

    /// Asks `accept` about every token that is neither added nor the cluster's own: Entra's, on AKS.
    pub fn accept_tokens(&self, accept: Accept) {
        self.state().accept = Some(accept);
    }

    /// Whom the admission policy confines from now on, while its binding exists.
    pub fn confine(&self, confinement: Confinement) {
        self.state().settings.confinement = Some(confinement);
    }

    /// The public keys of service-account tokens, as a JSON Web Key Set.
    pub fn key_set(&self) -> Value {
        tokens::key_set()
    }

    pub fn issuer(&self) -> String {
        self.state().settings.issuer.clone()
    }

    /// Tokens are issued by somebody else from now on, as after a rebuild.
    pub fn issue_as(&self, issuer: &str) {
        self.state().settings.issuer = issuer.to_owned();
    }

    /// The object, if it is there; `namespace` is empty for the cluster's own.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state().find(plural, namespace, name).cloned()
    }

    /// All objects of a kind, in one namespace or (empty) in all.
    pub fn list(&self, plural: &str, namespace: &str) -> Vec<Value> {
        let namespace = (!namespace.is_empty()).then_some(namespace);
        self.state().list(plural, namespace).cloned().collect()
    }

    /// Applies an object with force as an administrator. Errors: the server's `Status`.
    pub fn apply_as_admin(&self, object: Value) -> Result<Value, Value> {
        self.apply_for("administrator", object)
    }

    /// The same, its fields in the name of `manager`: what another program would have applied.
    pub fn apply_for(&self, manager: &str, object: Value) -> Result<Value, Value> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = kinds::find_by_name(&text(&object["apiVersion"]), &text(&object["kind"]))
            .ok_or_else(|| status::Status::no_such_path().body())?;
        let namespace = text(&object["metadata"]["namespace"]);
        let name = text(&object["metadata"]["name"]);
        let user = User::administrator();
        let call = self.call_as(&user, manager);
        let mut state = self.state();
        verbs::apply(&mut state, &call, kind, &namespace, &name, object, true)
            .map(|(object, _)| object)
            .map_err(|refusal| refusal.body())
    }

    /// Writes an object's status as its controller would; whether it was there.
    pub fn report(&self, plural: &str, namespace: &str, name: &str, status: &Value) -> bool {
        let user = User::administrator();
        let call = self.call_as(&user, "controller");
        let mut state = self.state();
        let Some(kind) = kinds::find_by_plural(plural) else { return false };
        let key = Key::new(kind.plural, namespace, name);
        let sent = json!({ "status": status });
        verbs::update_status(&mut state, &call, key, kind, &sent).is_ok()
    }

    /// Changes an object as a person with an editor would; whether it was there and the change was taken.
    pub fn edit(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> bool {
        let user = User::administrator();
        let call = self.call_as(&user, "kubectl-edit");
        let mut state = self.state();
        let Some(kind) = kinds::find_by_plural(plural) else { return false };
        let Some(mut object) = state.find(plural, namespace, name).cloned() else { return false };
        change(&mut object);
        verbs::update(&mut state, &call, kind, namespace, name, object).is_ok()
    }

    /// Deletes as an administrator, in the background; whether it was there.
    pub fn delete_as_admin(&self, plural: &str, namespace: &str, name: &str) -> bool {
        let user = User::administrator();
        let call = self.call_as(&user, "administrator");
        let mut state = self.state();
        let Some(kind) = kinds::find_by_plural(plural) else { return false };
        let deletion = verbs::Deletion::default();
        verbs::delete(&mut state, &call, kind, namespace, name, &deletion).is_ok()
    }

    /// Lets images that contain `text` be unpullable; `None` ends it.
    pub fn fail_image_pulls(&self, text: Option<&str>) {
        self.change_faults(|faults| faults.unpullable = text.map(str::to_owned));
    }

    /// Lets containers of images that contain `text` end at once, again and again; `None` ends it.
    pub fn crash_containers(&self, text: Option<&str>) {
        self.change_faults(|faults| faults.crashing = text.map(str::to_owned));
    }

    /// Whether no node has room for a new pod. On a real server: whether the node that is played takes none by itself.
    pub fn set_unschedulable(&self, unschedulable: bool) {
        self.change_faults(|faults| faults.unschedulable = unschedulable);
    }

    /// From everything mounted to Ready.
    pub fn set_start_delay(&self, delay: Duration) {
        self.state().settings.start_delay = delay;
    }

    /// From a Secret's change to its sight in pods that mount it.
    pub fn set_refresh_lag(&self, lag: Duration) {
        self.state().settings.refresh_lag = lag;
    }

    /// Makes every continue token handed out so far too old.
    pub fn expire_continue_tokens(&self) {
        self.state().compact();
    }

    /// Lets no call of this user in this namespace through from now on: 429, as a priority level without seats does.
    pub fn throttle(&self, user: &str, namespace: &str) {
        self.state().throttled.push((user.to_owned(), namespace.to_owned()));
    }

    /// Everything stored, by `plural/namespace/name`; what Secrets hold only as digests.
    pub fn dump(&self) -> Value {
        let state = self.state();
        let mut dump = serde_json::Map::new();
        for (key, object) in state.objects() {
            let mut object = object.clone();
            if key.plural == "secrets" {
                let values = object.get_mut("data").and_then(Value::as_object_mut);
                for value in values.into_iter().flat_map(|data| data.values_mut()) {
                    let text = value.as_str().unwrap_or_default();
                    *value = format!("sha256:{}", hex::encode(Sha256::digest(text))).into();
                }
            }
            dump.insert(format!("{}/{}/{}", key.plural, key.namespace, key.name), object);
        }
        Value::Object(dump)
    }

    fn call_as<'a>(&self, user: &'a User, manager: &str) -> verbs::Call<'a> {
        verbs::Call { user, manager: manager.to_owned(), dry_run: false, now: self.clock.now() }
    }

    fn change_faults(&self, change: impl FnOnce(&mut pods::Faults)) {
        let now = self.clock.now();
        let mut state = self.state();
        change(&mut state.faults);
        let stuck: Vec<Key> = state
            .objects()
            .filter(|(key, pod)| key.plural == "pods" && pods::started(pod).is_none())
            .map(|(key, _)| key.clone())
            .collect();
        for pod in stuck {
            state.schedule(Task::StartPod(pod.namespace, pod.name), now);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Does all that is due; whether anything was.
    fn advance(&mut self, now: Timestamp) -> bool {
        let mut done = 0;
        while let Some(task) = self.next_task(now) {
            done += 1;
            assert!(done < TASKS_MAX, "{task:?} comes again and again at {now}");
            match task {
                Task::Furnish(namespace) => namespaces::furnish(self, &namespace, now),
                Task::EmptyNamespace(namespace) => namespaces::empty(self, &namespace, now),
                Task::EndNamespace(namespace) => namespaces::end(self, &namespace, now),
                Task::Roll(namespace, name) | Task::RollLater(namespace, name) => {
                    deployments::roll(self, &namespace, &name, now);
                }
                Task::StartPod(namespace, name) => pods::start(self, &namespace, &name, now),
                Task::StopPod(namespace, name) => {
                    self.remove(&Key::new("pods", &namespace, &name), now);
                }
                // Being due is all: what is visible is computed when somebody looks.
                Task::RefreshMount(namespace, name) => self.refresh(namespace, name, now),
                Task::Collect(namespace, uid) => {
                    deployments::collect(self, &namespace, &uid, now);
                }
            }
        }
        done > 0
    }
}

impl Actor for Kubernetes {
    fn act(&self, now: Timestamp) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            match &self.real {
                Some(real) => real.act(self, now).await | self.state().advance(now),
                None => self.state().advance(now),
            }
        })
    }

    fn due(&self) -> Option<Due> {
        let state = self.state();
        let Some(next) = state.next_due() else {
            // Somebody else's cluster changes without us.
            let soon = store::after(self.clock.now(), Duration::from_secs(1));
            return self.real.is_some().then_some(Due::Background(soon));
        };
        // One answer has to do: while there is work, an earlier background task counts as some.
        Some(if state.has_work() { Due::Work(next) } else { Due::Background(next) })
    }
}
