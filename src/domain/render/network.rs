//! Who may talk to whom: job pods reach DNS and the world, not the cluster; managers reach GitLab and the API server.
//! A policy only adds: another one that allows everything opens what ours keeps shut.

use super::{
    Context,
    cidr::{Cidr, collapse},
    egress::{PLATFORM, dns, port, range, to},
    manager_container::METRICS_PORT,
    metadata::{domain_labels, matching, metadata, object, runner_labels},
};
use crate::domain::{
    kubernetes::{Kind, Object, ObjectName},
    names,
    spec::{ClusterAccess, RunnerSpec},
};
use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicySpec,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use std::{collections::BTreeSet, net::IpAddr};
use url::{Host, Url};

/// IPv6 is shut unless `allow` has some.
const WORLD: &str = "0.0.0.0/0";
/// What stands for the cluster's ranges where the file names none.
const PRIVATE: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

/// Nobody connects to a job pod. It reaches DNS, the fleet's `allow` list and HTTPS outside, but neither the metadata
/// endpoint nor the cluster's ranges nor the API server (unless the profile has `kubernetesApi`).
pub fn job_network_policy(spec: &RunnerSpec, ctx: &Context<'_>) -> Object {
    let namespace = names::job_namespace(&ctx.fleet.name, spec);
    let name = ObjectName::new(Kind::NetworkPolicy, &namespace, &names::job_bounds(spec));
    let api_server: Vec<_> = ctx.api_server.iter().filter_map(v4).collect();
    let withheld = if spec.kubernetes.kubernetes_api { &[] } else { api_server.as_slice() };
    let ranges = &ctx.fleet.cluster.network.cluster_ranges;
    let ranges: Vec<&str> = if ranges.is_empty() {
        PRIVATE.to_vec()
    } else {
        ranges.iter().map(String::as_str).collect()
    };
    let ranges = ranges.into_iter().filter_map(Cidr::parse);
    let except = collapse(platform().chain(ranges).chain(withheld.iter().copied()));
    let mut egress = vec![dns()];
    egress.extend(range(WORLD, &except, &web_ports(ctx)));
    egress.extend(proxy(ctx));
    egress.extend(allowed(ctx, withheld));
    if spec.kubernetes.kubernetes_api {
        let ports = api_ports(ctx);
        egress.extend(api_server.iter().map(|address| to(&address.to_string(), &[], &ports)));
    }
    policy(name, domain_labels(spec, ctx), LabelSelector::default(), None, egress)
}

/// A manager reaches DNS, GitLab and the API server, whose address behind the cluster's own is not stable enough for a
/// list; not the metadata endpoint: it would find the node's identity there. Its metrics port, which shows more than
/// metrics, is open to namespaces labelled `forerunner.dev/metrics: "true"` alone.
pub fn manager_network_policy(spec: &RunnerSpec, ctx: &Context<'_>) -> Object {
    let namespace = &ctx.fleet.cluster.managers_namespace;
    let name = ObjectName::new(Kind::NetworkPolicy, namespace, &names::manager(&spec.key));
    let ports = web_ports(ctx).union(&api_ports(ctx)).copied().collect();
    let mut egress = vec![dns()];
    egress.extend(range(WORLD, &collapse(platform()), &ports));
    egress.extend(proxy(ctx));
    egress.extend(allowed(ctx, &[]));
    let metrics = NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer {
            namespace_selector: Some(matching([(names::LABEL_METRICS, "true")])),
            ..NetworkPolicyPeer::default()
        }]),
        ports: Some(vec![port("TCP", METRICS_PORT)]),
    };
    let pods = matching([(names::LABEL_KEY, &spec.key.to_string())]);
    policy(name, runner_labels(spec, ctx), pods, Some(vec![metrics]), egress)
}

fn policy(
    name: ObjectName,
    labels: super::metadata::Texts,
    pods: LabelSelector,
    ingress: Option<Vec<NetworkPolicyIngressRule>>,
    egress: Vec<NetworkPolicyEgressRule>,
) -> Object {
    let typed = NetworkPolicy {
        metadata: metadata(&name, labels),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress,
            egress: Some(egress),
        }),
    };
    object(name, &typed)
}

/// The fleet's `allow` list; an entry without ports means 443.
fn allowed(ctx: &Context<'_>, withheld: &[Cidr]) -> Vec<NetworkPolicyEgressRule> {
    // An entry that is exactly a withheld address was written on purpose.
    let entries = ctx.fleet.cluster.network.allow.iter();
    let rule = |entry: &crate::domain::spec::Allowed| {
        let own = Cidr::parse(&entry.cidr);
        let withheld = withheld.iter().copied().filter(|address| Some(*address) != own);
        let forbidden: Vec<_> = platform().chain(withheld).collect();
        let mut ports: BTreeSet<u16> = entry.ports.iter().copied().collect();
        if ports.is_empty() {
            ports.insert(443);
        }
        range(&entry.cidr, &forbidden, &ports)
    };
    entries.filter_map(rule).collect()
}

/// A proxy that is named by its address; one named by a host needs an entry in `allow`: a policy knows no names.
fn proxy(ctx: &Context<'_>) -> Option<NetworkPolicyEgressRule> {
    let proxy = Url::parse(&ctx.fleet.cluster.proxy.as_ref()?.https).ok()?;
    let Host::Ipv4(address) = proxy.host()? else { return None };
    let forbidden: Vec<_> = platform().collect();
    range(&address.to_string(), &forbidden, &BTreeSet::from([proxy.port_or_known_default()?]))
}

fn platform() -> impl Iterator<Item = Cidr> {
    PLATFORM.into_iter().filter_map(Cidr::parse)
}

fn v4(address: &IpAddr) -> Option<Cidr> {
    Cidr::parse(&address.to_canonical().to_string())
}

/// HTTPS, and the port of a GitLab that listens elsewhere.
fn web_ports(ctx: &Context<'_>) -> BTreeSet<u16> {
    BTreeSet::from([443, ctx.fleet.gitlab.url.port_or_known_default().unwrap_or(443)])
}

/// Where the API server listens. Engines that look behind the service address see a self-made cluster's 6443.
fn api_ports(ctx: &Context<'_>) -> BTreeSet<u16> {
    match ctx.fleet.cluster.access {
        ClusterAccess::Aks(_) => BTreeSet::from([443]),
        ClusterAccess::Kubeconfig(_) => BTreeSet::from([443, 6443]),
    }
}
