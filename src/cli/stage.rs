//! What administrators would have done before a fleet can live, worked out from its file, for a sandbox to hold.

use crate::{
    domain::{
        azure::ResourceId,
        fleet::{Fleet, IdentityTemplate, WantedState},
        ids::GroupId,
        render::administrator::{AdministratorInput, administrator},
        spec::{ClusterAccess, IdentitySpec},
    },
    sandbox::{kubernetes::Confinement, stage::Stage},
};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

use super::check::delegation_condition;

/// Where the cluster of a fleet that names a kubeconfig is said to be.
const CLUSTER: &str = "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-aks/providers/\
                       Microsoft.ContainerService/managedClusters/aks";

/// A world in which this fleet's administrators have done their part.
pub fn stage(fleet: &Fleet, seed: u64) -> Stage {
    let settings = fleet.settings().clone();
    let privileged = fleet.privileged_namespaces();
    let specs = fleet.sample_runners();
    let cluster = match &settings.cluster.access {
        ClusterAccess::Aks(id) => id.to_string(),
        ClusterAccess::Kubeconfig(_) => CLUSTER.to_owned(),
    };
    let azure = settings.azure.as_ref();
    let condition = delegation_condition(fleet.guardrails());
    let delegations =
        fleet.guardrails().scopes.iter().map(|scope| (scope.to_string(), condition.clone()));
    Stage {
        seed,
        gitlab_url: settings.gitlab.url.to_string(),
        groups: anchors(fleet),
        vault: settings.gitlab.token.vault.clone(),
        secret: settings.gitlab.token.secret.clone(),
        cluster,
        identities: azure.map(|azure| {
            format!("/subscriptions/{}/resourceGroups/{}", azure.subscription, azure.resource_group)
        }),
        scopes: scopes(fleet),
        delegations: delegations.collect(),
        watched: fleet.guardrails().never.iter().map(ToString::to_string).collect(),
        existing: existing(fleet),
        objects: Box::new(move |user| {
            let input = AdministratorInput {
                fleet: &settings.name,
                managers_namespace: &settings.cluster.managers_namespace,
                manager_cluster_role: &settings.cluster.manager_cluster_role,
                forerunner_user: user,
                privileged_namespaces: &privileged,
            };
            administrator(&input, &specs)
        }),
    }
}

/// What the shipped admission policy holds forerunner to; the sandbox puts in the user.
pub fn confinement(fleet: &Fleet) -> Confinement {
    let cluster = &fleet.settings().cluster;
    Confinement {
        policy: crate::domain::names::own_rights(&fleet.settings().name),
        user: String::new(),
        fleet_label: crate::domain::names::LABEL_FLEET.to_owned(),
        fleet: fleet.settings().name.to_string(),
        managers_namespace: cluster.managers_namespace.clone(),
        managers_cluster_role: cluster.manager_cluster_role.clone(),
    }
}

/// Anchors with their ids; groups above them get any.
fn anchors(fleet: &Fleet) -> Vec<(u64, String)> {
    let mut groups: Vec<(u64, String)> =
        fleet.anchors().map(|(path, GroupId(id))| (id, path.to_owned())).collect();
    let known: BTreeSet<String> = groups.iter().map(|(_, path)| path.clone()).collect();
    let above = groups.iter().flat_map(|(_, path)| {
        path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect::<Vec<_>>()
    });
    let missing: BTreeSet<String> = above.filter(|path| !known.contains(path)).collect();
    groups.extend(missing.into_iter().map(|path| (0, path)));
    // Parents first, and ids in order below one parent: they only count up.
    groups.sort_by_key(|(id, path)| (path.matches('/').count(), *id));
    groups
}

/// Where the runners of the targets that the file names get their roles.
fn scopes(fleet: &Fleet) -> Vec<String> {
    let named = fleet.named_targets().map(|named| fleet.facts_of(named.kind, named.path));
    let wanted = named.flat_map(|facts| fleet.wanted(&facts));
    let specs = wanted.filter_map(|wanted| match wanted.state {
        WantedState::Runner(spec) => Some(spec),
        WantedState::NeedsValue { .. }
        | WantedState::Withdrawn { .. }
        | WantedState::OutsideGuardrails { .. }
        | WantedState::ExceptionEnded { .. }
        | WantedState::AnchorMoved { .. } => None,
    });
    let grants = specs.flat_map(|spec| match spec.identity {
        IdentitySpec::Managed { roles, .. } => roles,
        IdentitySpec::None | IdentitySpec::Existing { .. } => vec![],
    });
    let scopes: BTreeSet<ResourceId> = grants.map(|grant| grant.scope).collect();
    scopes.iter().map(ToString::to_string).collect()
}

/// Existing identities with the rights that profiles expect of them, where the file fixes them.
fn existing(fleet: &Fleet) -> Vec<(String, Vec<(Uuid, String)>)> {
    let mut found: BTreeMap<ResourceId, Vec<(Uuid, String)>> = BTreeMap::new();
    for profile in fleet.profiles() {
        let IdentityTemplate::Existing { candidates, .. } = &profile.identity else { continue };
        let grants = profile.grants().iter().filter(|grant| !grant.scope.contains('{'));
        let grants: Vec<(Uuid, String)> =
            grants.map(|grant| (grant.role, grant.scope.clone())).collect();
        for id in candidates {
            found.entry(id.clone()).or_default().extend(grants.clone());
        }
    }
    found.into_iter().map(|(id, grants)| (id.to_string(), grants)).collect()
}
