//! What the NetworkPolicies let through, address by address.

use super::example::{World, company, default_profile, plain};
use forerunner::domain::{kubernetes::Object, render};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Whether an egress rule of the policy admits a TCP connection to an address outside the cluster's pods.
fn reaches(policy: &Object, address: &str, port: u16) -> bool {
    let rules = policy.body["spec"]["egress"].as_array().unwrap();
    rules.iter().any(|rule| {
        let ports = rule["ports"].as_array().unwrap();
        let open = ports.iter().any(|own| own["protocol"] == "TCP" && own["port"] == port);
        let peers = rule["to"].as_array().unwrap();
        open && peers.iter().any(|peer| {
            let block = &peer["ipBlock"];
            let except = block["except"].as_array().into_iter().flatten();
            block["cidr"].as_str().is_some_and(|cidr| holds(cidr, address))
                && !except.into_iter().any(|cidr| holds(cidr.as_str().unwrap(), address))
        })
    })
}

fn holds(cidr: &str, address: &str) -> bool {
    let (network, length) = cidr.split_once('/').unwrap();
    let Ok(network) = network.parse::<Ipv4Addr>() else { return false };
    let bits =
        |address: Ipv4Addr| u64::from(u32::from(address)) >> (32 - length.parse::<u32>().unwrap());
    bits(network) == bits(address.parse().unwrap())
}

fn jobs(world: &World) -> Object {
    render::job_network_policy(&default_profile(), &world.context())
}

fn manager(world: &World) -> Object {
    render::manager_network_policy(&default_profile(), &world.context())
}

#[test]
fn jobs_reach_the_world_and_not_the_cluster() {
    let policy = jobs(&company());
    let check = |address: &str, port: u16, reached: bool| {
        assert_eq!(reaches(&policy, address, port), reached, "{address}:{port}");
    };
    check("140.82.121.3", 443, true);
    check("140.82.121.3", 22, false);
    check("140.82.121.3", 8443, true); // GitLab's own port
    check("169.254.169.254", 80, false);
    check("169.254.169.254", 443, false);
    check("168.63.129.16", 443, false);
    check("10.244.3.4", 443, false);
    check("10.1.2.3", 443, false);
    check("20.31.4.5", 443, false); // the API server, though `allow` holds a range around it
    check("20.31.4.6", 443, true);
    check("10.50.0.10", 443, true); // `allow`
    check("10.50.0.10", 22, true);
    check("10.60.0.7", 3128, true);
    check("169.254.10.10", 53, true); // LocalDNS
    check("169.254.169.254", 53, false);
}

#[test]
fn without_ranges_in_the_file_no_private_address_is_reached() {
    let policy = jobs(&plain());
    for (address, reached) in [
        ("10.9.9.9", false),
        ("172.20.0.1", false),
        ("192.168.1.1", false),
        ("169.254.169.254", false),
        ("172.32.0.1", true),
        ("140.82.121.3", true),
    ] {
        assert_eq!(reaches(&policy, address, 443), reached, "{address}");
    }
}

#[test]
fn a_profile_that_uses_the_kubernetes_api_reaches_its_server_alone() {
    let world = company();
    let mut spec = default_profile();
    Arc::make_mut(&mut spec.kubernetes).kubernetes_api = true;
    let policy = render::job_network_policy(&spec, &world.context());
    assert!(reaches(&policy, "20.31.4.5", 443) && reaches(&policy, "10.0.0.4", 443));
    assert!(!reaches(&policy, "10.0.0.5", 443));
}

#[test]
fn managers_reach_gitlab_and_the_api_server_but_not_the_nodes_identity() {
    for (world, port) in [(company(), 8443), (plain(), 6443)] {
        let policy = manager(&world);
        for (address, port, reached) in [
            ("10.0.0.4", 443, true),
            ("20.31.4.5", 443, true),
            ("140.82.121.3", port, true),
            ("140.82.121.3", 22, false),
            ("169.254.169.254", 80, false),
            ("169.254.169.254", 443, false),
            ("168.63.129.16", 443, false),
        ] {
            assert_eq!(reaches(&policy, address, port), reached, "{address}:{port}");
        }
    }
}

#[test]
fn nobody_can_allow_the_metadata_endpoint_by_a_wider_range() {
    let mut world = company();
    for cidr in ["0.0.0.0/0", "169.254.0.0/16", "169.254.169.0/24", "168.0.0.0/8"] {
        world.fleet.cluster.network.allow[0].cidr = cidr.to_owned();
        for policy in [jobs(&world), manager(&world)] {
            for address in ["169.254.169.254", "168.63.129.16"] {
                assert!(!reaches(&policy, address, 443), "{cidr}: {}", policy.name);
            }
        }
    }
}

#[test]
fn a_proxy_named_by_its_address_is_reached() {
    let mut world = company();
    let proxy = world.fleet.cluster.proxy.as_mut().unwrap();
    proxy.https = "http://10.1.2.3:8080".to_owned();
    for policy in [jobs(&world), manager(&world)] {
        assert!(reaches(&policy, "10.1.2.3", 8080), "{}", policy.name);
        assert!(!reaches(&policy, "10.1.2.4", 8080), "{}", policy.name);
    }
}

#[test]
fn a_cluster_range_that_is_everything_leaves_dns_and_what_is_allowed() {
    let mut world = company();
    world.fleet.cluster.network.cluster_ranges = vec!["0.0.0.0/1".into(), "128.0.0.0/1".into()];
    let policy = jobs(&world);
    assert!(!reaches(&policy, "140.82.121.3", 443));
    assert!(reaches(&policy, "10.50.0.10", 443) && reaches(&policy, "169.254.10.10", 53));
}

#[test]
fn nobody_connects_to_a_job_and_only_monitoring_to_a_manager() {
    let (jobs, manager) = (jobs(&company()), manager(&company()));
    for policy in [&jobs, &manager] {
        assert_eq!(policy.body["spec"]["policyTypes"], serde_json::json!(["Ingress", "Egress"]));
    }
    assert_eq!(jobs.body["spec"]["podSelector"], serde_json::json!({}));
    assert!(jobs.body["spec"].get("ingress").is_none());
    let ingress = &manager.body["spec"]["ingress"][0];
    let selector = &ingress["from"][0]["namespaceSelector"]["matchLabels"];
    assert_eq!(selector["forerunner.dev/metrics"], "true");
    assert_eq!(ingress["ports"][0]["port"], 9252);
}

#[test]
fn blocks_are_as_few_as_cover_the_same() {
    let policy = jobs(&company());
    let except = &policy.body["spec"]["egress"][1]["to"][0]["ipBlock"]["except"];
    let expected =
        ["10.0.0.0/15", "10.244.0.0/16", "20.31.4.5/32", "168.63.129.16/32", "169.254.0.0/16"];
    assert_eq!(*except, serde_json::json!(expected));
}
