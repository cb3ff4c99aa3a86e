//! What all runners of the fleet share: GitLab, Azure, the cluster.

use super::{
    amount, guardrails, identity, labels,
    problem::{At, Findings},
    profile,
    raw::{RawAllowed, RawCluster, RawFleet, RawGitlab},
};
use crate::domain::{
    azure::ResourceId,
    ids::FleetName,
    names,
    spec::{
        Allowed, AzureSettings, ClusterAccess, ClusterSettings, FleetSettings, GitlabSettings,
        Images, Network, Proxy, Reach, SweepCalls, VaultSecret,
    },
};
use url::Url;
use uuid::Uuid;

/// Managers that roll at once.
const IN_FLIGHT: u32 = 5;
pub(super) const RUNNER_VERSION: &str = "19.4.0";

pub(super) fn settings(
    raw: &RawFleet,
    digest: &str,
    at: &At,
    findings: &mut Findings<'_>,
) -> Option<FleetSettings> {
    let name = findings.accept(&at.key("fleet"), FleetName::new(&raw.fleet), "");
    let gitlab = gitlab(&raw.gitlab, &at.key("gitlab"), findings);
    let azure = match &raw.azure {
        None => Some(None),
        Some(azure) => {
            let at = at.key("azure");
            identity::azure_tags(&azure.tags, &at.key("tags"), findings);
            let known = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '(' | ')');
            let group = &azure.resource_group;
            if !(1..=90).contains(&group.len()) || !group.chars().all(known) || group.ends_with('.')
            {
                findings.error(
                    &at.key("resourceGroup"),
                    format!("`{group}` is no name of a resource group"),
                    "",
                );
            }
            let subscription = Uuid::parse_str(&azure.subscription)
                .map_err(|_| format!("`{}` is no id of a subscription", azure.subscription));
            findings.accept(&at.key("subscription"), subscription, "").map(|subscription| {
                Some(AzureSettings {
                    subscription,
                    resource_group: group.clone(),
                    location: azure.location.clone(),
                    tags: azure.tags.clone(),
                })
            })
        }
    };
    let cluster = cluster(&raw.cluster, name.as_ref(), &at.key("cluster"), findings);
    Some(FleetSettings {
        name: name?,
        digest: digest.to_owned(),
        mode: profile::mode(raw.mode),
        gitlab: gitlab?,
        azure: azure?,
        cluster: cluster?,
        rollout_in_flight: raw.rollout.as_ref().and_then(|one| one.in_flight).unwrap_or(IN_FLIGHT),
        sweep_calls: sweep_calls(raw),
        reach: Reach::default(),
    })
}

fn sweep_calls(raw: &RawFleet) -> SweepCalls {
    let default = SweepCalls::default();
    let Some(raw) = raw.sweep.as_ref().and_then(|sweep| sweep.calls.as_ref()) else {
        return default;
    };
    SweepCalls {
        azure: raw.azure.unwrap_or(default.azure),
        gitlab: raw.gitlab.unwrap_or(default.gitlab),
    }
}

fn gitlab(raw: &RawGitlab, at: &At, findings: &mut Findings<'_>) -> Option<GitlabSettings> {
    let key = at.key("url");
    let url = Url::parse(raw.url.trim_end_matches('/'))
        .map_err(|error| format!("`{}`: {error}", raw.url));
    let url = findings.accept(&key, url, "write such as https://gitlab.example.com");
    if let Some(url) = &url {
        if url.scheme() != "https" {
            findings.error(&key, "is not https: the runners' tokens would go in the clear", "");
        }
        let plain = url.username().is_empty() && url.password().is_none();
        if !plain || url.query().is_some() || url.fragment().is_some() {
            findings.error(
                &key,
                "has more than a host and a path",
                "write such as https://gitlab.example.com",
            );
        }
    }
    let token = at.key("token");
    for (name, text, least, most) in
        [("keyVault", &raw.token.key_vault, 3, 24), ("secret", &raw.token.secret, 1, 127)]
    {
        let known = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !(least..=most).contains(&text.len()) || !text.chars().all(known) {
            let reason = format!("`{text}` is no name that Key Vault has");
            findings.error(
                &token.key(name),
                reason,
                "the name alone, of letters, digits and hyphens",
            );
        }
    }
    Some(GitlabSettings {
        url: url?,
        ca_file: raw.ca_file.as_ref().map(Into::into),
        token: VaultSecret { vault: raw.token.key_vault.clone(), secret: raw.token.secret.clone() },
    })
}

fn cluster(
    raw: &RawCluster,
    fleet: Option<&FleetName>,
    at: &At,
    findings: &mut Findings<'_>,
) -> Option<ClusterSettings> {
    let access = match (&raw.resource_id, &raw.kubeconfig) {
        (Some(id), None) => {
            findings.accept(&at.key("resourceId"), cluster_id(id), "").map(ClusterAccess::Aks)
        }
        (None, Some(path)) => Some(ClusterAccess::Kubeconfig(path.into())),
        (Some(_), Some(_)) | (None, None) => {
            let remedy = "the ARM id of an AKS cluster, or a kubeconfig for any other";
            findings.error(at, "needs either `resourceId` or `kubeconfig`", remedy);
            None
        }
    };
    let images = raw.images.as_ref();
    let runner = images.and_then(|images| images.runner.clone());
    if let Some(version) = &runner {
        profile::version(version, &at.key("images").key("runner"), findings);
    }
    labels::check(&raw.labels, &at.key("labels"), findings);
    for (key, name) in [
        ("managersNamespace", &raw.managers_namespace),
        ("managerClusterRole", &raw.manager_cluster_role),
    ] {
        if name.as_ref().is_some_and(|name| !profile::is_label(name)) {
            findings.error(
                &at.key(key),
                "is no name that Kubernetes takes",
                "lower-case letters, digits and inner hyphens, 63 at most",
            );
        }
    }
    let network = network(raw, &at.key("network"), findings);
    Some(ClusterSettings {
        access: access?,
        images: Images {
            registry: images
                .and_then(|images| images.registry.as_ref())
                .map(|registry| registry.trim_end_matches('/').to_owned()),
            runner: runner.unwrap_or_else(|| RUNNER_VERSION.to_owned()),
            pull_secrets: images.map(|images| images.pull_secrets.clone()).unwrap_or_default(),
        },
        proxy: raw
            .proxy
            .as_ref()
            .map(|proxy| Proxy { https: proxy.https.clone(), no: proxy.no.clone() }),
        labels: raw.labels.clone(),
        network,
        managers_namespace: managers_namespace(raw, fleet?, at, findings),
        manager_cluster_role: manager_cluster_role(raw, fleet?, at, findings),
    })
}

/// The namespace of all managers, which is never one that jobs of ours would get.
fn managers_namespace(
    raw: &RawCluster,
    fleet: &FleetName,
    at: &At,
    findings: &mut Findings<'_>,
) -> String {
    let Some(name) = &raw.managers_namespace else { return names::managers_namespace(fleet) };
    if name.starts_with(&names::job_namespace_prefix(fleet)) {
        let remedy = "runner tokens lie there, and jobs do not: give it a name of its own";
        findings.error(&at.key("managersNamespace"), "is named like a job namespace", remedy);
    }
    name.clone()
}

/// The ClusterRole of managers. Under the name of forerunner's own, whichever is applied last would be both.
fn manager_cluster_role(
    raw: &RawCluster,
    fleet: &FleetName,
    at: &At,
    findings: &mut Findings<'_>,
) -> String {
    let name = raw.manager_cluster_role.as_deref().unwrap_or(names::MANAGER_CLUSTER_ROLE);
    if name == names::own_rights(fleet) {
        let reason = format!("is `{name}`, and so is the role of this fleet's forerunner");
        let remedy = "managers would get its rights: give theirs another name";
        findings.error(&at.key("managerClusterRole"), reason, remedy);
    }
    name.to_owned()
}

fn cluster_id(text: &str) -> Result<ResourceId, String> {
    let wrong = || {
        format!(
            "`{text}` is no id of an AKS cluster; write such as /subscriptions/ID/resourceGroups/NAME/providers/\
             Microsoft.ContainerService/managedClusters/NAME"
        )
    };
    let id = guardrails::scope(text).map_err(|_| wrong())?;
    let lower = id.lower();
    let fits = lower.contains("/providers/microsoft.containerservice/managedclusters/")
        && lower.matches('/').count() == 8;
    if fits { Ok(id) } else { Err(wrong()) }
}

fn network(raw: &RawCluster, at: &At, findings: &mut Findings<'_>) -> Network {
    let mut network = Network::default();
    let Some(raw) = &raw.network else { return network };
    for (index, text) in raw.cluster_ranges.iter().enumerate() {
        let at = at.key("clusterRanges").index(index);
        network.cluster_ranges.extend(findings.accept(&at, amount::cidr(text), ""));
    }
    for (index, allowed) in raw.allow.iter().enumerate() {
        let at = at.key("allow").index(index);
        let (cidr, ports) = match allowed {
            RawAllowed::Cidr(cidr) => (findings.accept(&at, amount::cidr(cidr), ""), Vec::new()),
            RawAllowed::Ports(some) => {
                if some.ports.contains(&0) {
                    findings.error(&at.key("ports"), "has port 0", "");
                }
                (findings.accept(&at.key("cidr"), amount::cidr(&some.cidr), ""), some.ports.clone())
            }
        };
        network.allow.extend(cidr.map(|cidr| Allowed { cidr, ports }));
    }
    network
}
