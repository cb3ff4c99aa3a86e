//! Where pods may connect to, as the parts of a NetworkPolicy.

use super::{
    cidr::{Cidr, collapse},
    metadata::matching,
};
use k8s_openapi::{
    api::networking::v1::{IPBlock, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use std::collections::BTreeSet;

/// Instance metadata (169.254.169.254, the node's own identity) with every other link-local address, and the platform
/// channel: nobody's business, whatever else is allowed.
pub(super) const PLATFORM: [&str; 2] = ["169.254.0.0/16", "168.63.129.16/32"];

/// The cluster's resolver: its pods, AKS LocalDNS, and the usual address of a node-local cache. A policy that names the
/// pods alone breaks every name once LocalDNS comes with an upgrade (runner-on-kubernetes.md §6.4).
pub(super) fn dns() -> NetworkPolicyEgressRule {
    let pods = NetworkPolicyPeer {
        namespace_selector: Some(matching([("kubernetes.io/metadata.name", "kube-system")])),
        pod_selector: Some(matching([("k8s-app", "kube-dns")])),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicyEgressRule {
        to: Some(vec![pods, block("169.254.10.0/24", &[]), block("169.254.20.10/32", &[])]),
        ports: Some(vec![port("UDP", 53), port("TCP", 53)]),
    }
}

/// One range, less what lies in it and is forbidden. None where the whole range is forbidden: nobody may allow the
/// metadata endpoint by mistake. An IPv6 range holds none of it.
pub(super) fn range(
    cidr: &str,
    forbidden: &[Cidr],
    ports: &BTreeSet<u16>,
) -> Option<NetworkPolicyEgressRule> {
    let Some(own) = Cidr::parse(cidr) else {
        let length = if cidr.contains('/') { "" } else { "/128" };
        return Some(to(&format!("{cidr}{length}"), &[], ports));
    };
    if forbidden.iter().any(|other| other.contains(own)) {
        return None;
    }
    let inside = forbidden.iter().copied().filter(|other| own.contains(*other));
    Some(to(&own.to_string(), &collapse(inside), ports))
}

pub(super) fn to(cidr: &str, except: &[Cidr], ports: &BTreeSet<u16>) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule {
        to: Some(vec![block(cidr, except)]),
        ports: Some(ports.iter().map(|number| port("TCP", *number)).collect()),
    }
}

fn block(cidr: &str, except: &[Cidr]) -> NetworkPolicyPeer {
    let except: Vec<_> = except.iter().map(Cidr::to_string).collect();
    NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: cidr.to_owned(),
            except: (!except.is_empty()).then_some(except),
        }),
        ..NetworkPolicyPeer::default()
    }
}

pub(super) fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(i32::from(number))),
        ..NetworkPolicyPort::default()
    }
}
