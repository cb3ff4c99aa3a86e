//! The kinds of object this API server knows, and where they live.

use super::schema;

/// One resource of the API.
#[derive(Debug)]
pub(super) struct Kind {
    /// Empty for the core group.
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    pub(super) namespaced: bool,
    /// `metadata.generation` counts changes of the spec.
    pub(super) has_generation: bool,
    /// `status` is a subresource: what is sent on the main path is ignored.
    pub(super) has_status: bool,
}

impl Kind {
    pub(super) fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `deployments.apps`, as error texts call the resource.
    pub(super) fn resource(&self) -> String {
        qualified(self.plural, self.group)
    }

    /// `Deployment.apps`, as the text of an invalid object calls it.
    pub(super) fn qualified_kind(&self) -> String {
        qualified(self.kind, self.group)
    }

    pub(super) fn fields(&self) -> &'static schema::Type {
        schema::of(self.kind)
    }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

const fn kind(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> Kind {
    Kind {
        group,
        version,
        kind,
        plural,
        namespaced: true,
        has_generation: false,
        has_status: false,
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

static KINDS: &[Kind] = &[
    Kind { namespaced: false, has_status: true, ..kind("", "v1", "Namespace", "namespaces") },
    kind("", "v1", "ServiceAccount", "serviceaccounts"),
    kind("", "v1", "Secret", "secrets"),
    kind("", "v1", "ConfigMap", "configmaps"),
    Kind { has_generation: true, has_status: true, ..kind("", "v1", "Pod", "pods") },
    kind("", "v1", "Event", "events"),
    Kind { has_status: true, ..kind("", "v1", "ResourceQuota", "resourcequotas") },
    kind("", "v1", "LimitRange", "limitranges"),
    Kind {
        has_generation: true,
        has_status: true,
        ..kind("apps", "v1", "Deployment", "deployments")
    },
    Kind {
        has_generation: true,
        has_status: true,
        ..kind("apps", "v1", "ReplicaSet", "replicasets")
    },
    Kind {
        has_generation: true,
        ..kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
    },
    Kind {
        has_generation: true,
        has_status: true,
        ..kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
    },
    kind(RBAC, "v1", "Role", "roles"),
    kind(RBAC, "v1", "RoleBinding", "rolebindings"),
    Kind { namespaced: false, ..kind(RBAC, "v1", "ClusterRole", "clusterroles") },
    Kind { namespaced: false, ..kind(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings") },
    Kind {
        namespaced: false,
        has_generation: true,
        has_status: true,
        ..kind(ADMISSION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies")
    },
    Kind {
        namespaced: false,
        has_generation: true,
        ..kind(
            ADMISSION,
            "v1",
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
        )
    },
    Kind {
        namespaced: false,
        has_generation: true,
        ..kind(ADMISSION, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
    },
    Kind {
        has_generation: true,
        ..kind("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies")
    },
];

/// Plural resources that can only be created, never stored.
pub(super) static ACCESS_REVIEW: Kind = Kind {
    namespaced: false,
    ..kind("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews")
};

pub(super) fn all() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().chain([&ACCESS_REVIEW])
}

pub(super) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    all().find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

pub(super) fn find_by_plural(plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.plural == plural)
}

pub(super) fn find_by_name(api_version: &str, name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.api_version() == api_version && kind.kind == name)
}

/// A kind this file lists; for the controllers, which know what they ask for.
pub(super) fn known(plural: &str) -> &'static Kind {
    find_by_plural(plural).expect("the controllers name only kinds of the table above")
}
