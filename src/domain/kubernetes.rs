//! Kubernetes objects as plain data: a name and a JSON body.

use serde_json::Value;
use std::fmt;

/// The kinds we make or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Namespace,
    ServiceAccount,
    RoleBinding,
    ClusterRole,
    ResourceQuota,
    LimitRange,
    NetworkPolicy,
    Secret,
    ConfigMap,
    Deployment,
    Pod,
    /// An administrator's, like the next two: only looked at.
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
    MutatingWebhookConfiguration,
}

const ADMISSION: &str = "admissionregistration.k8s.io/v1";

impl Kind {
    /// `apiVersion`, `kind` and the plural of the path.
    pub fn wire(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Namespace => ("v1", "Namespace", "namespaces"),
            Self::ServiceAccount => ("v1", "ServiceAccount", "serviceaccounts"),
            Self::RoleBinding => ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
            Self::ClusterRole => ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
            Self::ResourceQuota => ("v1", "ResourceQuota", "resourcequotas"),
            Self::LimitRange => ("v1", "LimitRange", "limitranges"),
            Self::NetworkPolicy => ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
            Self::Secret => ("v1", "Secret", "secrets"),
            Self::ConfigMap => ("v1", "ConfigMap", "configmaps"),
            Self::Deployment => ("apps/v1", "Deployment", "deployments"),
            Self::Pod => ("v1", "Pod", "pods"),
            Self::ValidatingAdmissionPolicy => {
                (ADMISSION, "ValidatingAdmissionPolicy", "validatingadmissionpolicies")
            }
            Self::ValidatingAdmissionPolicyBinding => {
                (ADMISSION, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings")
            }
            Self::MutatingWebhookConfiguration => {
                (ADMISSION, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
            }
        }
    }
}

/// Which object: kind, namespace (none for the cluster's own) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    pub kind: Kind,
    pub namespace: Option<String>,
    pub name: String,
}

impl ObjectName {
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: Some(namespace.to_owned()), name: name.to_owned() }
    }

    pub fn of_cluster(kind: Kind, name: &str) -> Self {
        Self { kind, namespace: None, name: name.to_owned() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, kind, _) = self.kind.wire();
        match &self.namespace {
            Some(namespace) => write!(f, "{kind} {namespace}/{}", self.name),
            None => write!(f, "{kind} {}", self.name),
        }
    }
}

/// An object as it should be applied, or as the server showed it. Holds no Secret's data outside a Secret.
#[derive(Clone, PartialEq)]
pub struct Object {
    pub name: ObjectName,
    /// With `apiVersion`, `kind` and `metadata.name`.
    pub body: Value,
}

impl fmt::Debug for Object {
    /// A Secret's body stays out of every log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.kind {
            Kind::Secret => write!(f, "{} {{…}}", self.name),
            Kind::Namespace
            | Kind::ServiceAccount
            | Kind::RoleBinding
            | Kind::ClusterRole
            | Kind::ResourceQuota
            | Kind::LimitRange
            | Kind::NetworkPolicy
            | Kind::ConfigMap
            | Kind::Deployment
            | Kind::Pod
            | Kind::ValidatingAdmissionPolicy
            | Kind::ValidatingAdmissionPolicyBinding
            | Kind::MutatingWebhookConfiguration => write!(f, "{} {}", self.name, self.body),
        }
    }
}

impl Object {
    pub fn label(&self, key: &str) -> Option<&str> {
        self.body["metadata"]["labels"][key].as_str()
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.body["metadata"]["annotations"][key].as_str()
    }

    pub fn resource_version(&self) -> Option<&str> {
        self.body["metadata"]["resourceVersion"].as_str()
    }

    pub fn is_terminating(&self) -> bool {
        self.body["metadata"]["deletionTimestamp"].is_string()
    }
}
