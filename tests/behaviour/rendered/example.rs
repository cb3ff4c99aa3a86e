//! Three runners that differ in all that shows in Kubernetes.

use forerunner::domain::{
    azure::ResourceId,
    ids::{FleetName, InstallationId},
    render::Context,
    spec::{
        Allowed, Amount, AzureSettings, Cache, ClusterAccess, ClusterSettings, FleetSettings,
        GitlabSettings, Grant, IdentitySpec, Images, Isolation, KubernetesSettings, Mode, Network,
        Pods, Proxy, Reach, RunnerSettings, RunnerSpec, SweepCalls, VaultSecret,
    },
};
use jiff::SignedDuration;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use uuid::Uuid;

/// A fleet, what a round resolved, and a private GitLab's CA.
pub(crate) struct World {
    pub(crate) fleet: FleetSettings,
    pub(crate) installation: InstallationId,
    pub(crate) api_server: Vec<IpAddr>,
    pub(crate) gitlab_ca: Option<String>,
}

impl World {
    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            fleet: &self.fleet,
            installation: &self.installation,
            api_server: &self.api_server,
            gitlab_ca: self.gitlab_ca.as_deref(),
        }
    }
}

/// A fleet with everything set: mirror, proxy, labels, ranges.
pub(crate) fn company() -> World {
    let fleet = FleetSettings {
        name: FleetName::new("nonprod").unwrap(),
        digest: "sha256:0000".to_owned(),
        mode: Mode::Enforce,
        gitlab: GitlabSettings {
            url: "https://gitlab.example.com:8443/git".parse().unwrap(),
            ca_file: Some("root.pem".into()),
            token: VaultSecret { vault: "kv-fleet".to_owned(), secret: "gitlab-token".to_owned() },
        },
        azure: Some(AzureSettings {
            subscription: Uuid::from_u128(1),
            resource_group: "rg-runner-identities".to_owned(),
            location: "westeurope".to_owned(),
            tags: BTreeMap::new(),
        }),
        cluster: ClusterSettings {
            access: ClusterAccess::Aks(aks()),
            images: Images {
                registry: Some("acr.example.io/mirror".to_owned()),
                runner: "19.4.0".to_owned(),
                pull_secrets: texts(["acr-pull"]),
            },
            proxy: Some(Proxy {
                https: "http://proxy.example.com:3128".to_owned(),
                no: texts([".example.com"]),
            }),
            labels: map([("team", "ci"), ("forerunner.dev/fleet", "not-this-one")]),
            network: Network {
                cluster_ranges: texts(["10.244.0.0/16", "10.0.0.0/16", "10.1.0.0/16"]),
                allow: vec![
                    allowed("10.50.0.10/32", &[443, 22]),
                    allowed("10.60.0.0/24", &[3128]),
                    allowed("20.0.0.0/8", &[]),
                    allowed("169.254.169.254/32", &[80]),
                    allowed("fd00:1::/64", &[443]),
                ],
            },
            managers_namespace: "forerunner-nonprod".to_owned(),
            manager_cluster_role: "forerunner-manager".to_owned(),
        },
        rollout_in_flight: 5,
        sweep_calls: SweepCalls::default(),
        reach: Reach::default(),
    };
    World {
        fleet,
        installation: InstallationId("3f2a8c1e-0000-4000-8000-000000000001".to_owned()),
        api_server: vec!["20.31.4.5".parse().unwrap(), "10.0.0.4".parse().unwrap()],
        gitlab_ca: Some("-- a made-up certificate --\n".to_owned()),
    }
}

/// The smallest fleet: GitLab.com, any cluster, nothing set.
pub(crate) fn plain() -> World {
    let mut world = company();
    world.fleet.gitlab.url = "https://gitlab.com".parse().unwrap();
    let cluster = &mut world.fleet.cluster;
    cluster.access = ClusterAccess::Kubeconfig("kubeconfig".into());
    cluster.images =
        Images { registry: None, runner: "19.4.0".to_owned(), pull_secrets: Vec::new() };
    cluster.proxy = None;
    cluster.labels.clear();
    cluster.network = Network::default();
    world.api_server.clear();
    world.gitlab_ca = None;
    world
}

/// `pods: hardened` with a managed identity, and most settings filled in.
pub(crate) fn hardened() -> RunnerSpec {
    let mut spec = plain_spec("g42-apply");
    spec.runner.maximum_timeout = 10800;
    spec.identity = IdentitySpec::Managed {
        name: "id-nonprod--g42-apply".to_owned(),
        tags: BTreeMap::new(),
        roles: vec![Grant {
            role: Uuid::from_u128(7),
            role_name: "Contributor".to_owned(),
            scope: ResourceId::new("/subscriptions/2222/resourceGroups/app").unwrap(),
        }],
    };
    spec.pods = Pods::Hardened;
    let kubernetes = Arc::make_mut(&mut spec.kubernetes);
    kubernetes.services = false;
    kubernetes.allowed_images = texts(["registry.example.com/ci/*"]);
    kubernetes.pull_policy = texts(["always"]);
    kubernetes.pull_secrets = texts(["registry-pull"]);
    kubernetes.cpu = amount("500m", "2");
    kubernetes.memory = amount("512Mi", "2Gi");
    kubernetes.ephemeral_storage = amount("1Gi", "8Gi");
    kubernetes.helper_cpu = amount("100m", "500m");
    kubernetes.helper_memory = amount("128Mi", "512Mi");
    kubernetes.node_selector = map([("kubernetes.io/arch", "arm64")]);
    kubernetes.tolerations = map([("ci=true", "NoSchedule")]);
    kubernetes.priority_class = Some("ci-jobs".to_owned());
    kubernetes.environment = map([("TF_IN_AUTOMATION", "true")]);
    kubernetes.cache = Some(Cache {
        account: "stcicache".to_owned(),
        container: "runner-cache".to_owned(),
        domain: "blob.core.windows.net".to_owned(),
    });
    kubernetes.quota = map([("limits.memory", "64Gi"), ("pods", "40")]);
    kubernetes.pod_disruption_budget = true;
    spec
}

/// `pods: image-build` on an administrator's identity, its trust domain shared by the profile.
pub(crate) fn image_build() -> RunnerSpec {
    let mut spec = plain_spec("p7-images");
    spec.identity = IdentitySpec::Existing {
        candidates: vec![ResourceId::new("/subscriptions/1/resourceGroups/rg/id-images").unwrap()],
        expect: Vec::new(),
    };
    spec.isolation = Isolation::Profile;
    spec.pods = Pods::ImageBuild;
    Arc::make_mut(&mut spec.kubernetes).services = false;
    Arc::make_mut(&mut spec.kubernetes).extra =
        "kubernetes = { dns_policy = 'none' }\nclone_url = 'https://clone.example.com'"
            .parse()
            .unwrap();
    spec
}

/// `pods: standard` for the instance, no identity, services allowed.
pub(crate) fn default_profile() -> RunnerSpec {
    plain_spec("i-default")
}

fn plain_spec(key: &str) -> RunnerSpec {
    RunnerSpec {
        key: key.parse().unwrap(),
        runner: RunnerSettings {
            tags: Vec::new(),
            run_untagged: true,
            protected: false,
            locked: true,
            maximum_timeout: 3600,
            concurrent: 10,
            request_concurrency: 4,
        },
        identity: IdentitySpec::None,
        isolation: Isolation::Target,
        identity_settle: SignedDuration::from_mins(2),
        pods: Pods::Standard,
        kubernetes: Arc::new(KubernetesSettings {
            namespace: None,
            service_account: None,
            image: "registry.example.com/ci/base:1".to_owned(),
            allowed_images: Vec::new(),
            allowed_services: Vec::new(),
            services: true,
            pull_policy: Vec::new(),
            pull_secrets: Vec::new(),
            cpu: Amount::default(),
            memory: Amount::default(),
            ephemeral_storage: Amount::default(),
            helper_cpu: Amount::default(),
            helper_memory: Amount::default(),
            service_cpu: Amount::default(),
            service_memory: Amount::default(),
            node_selector: BTreeMap::new(),
            tolerations: BTreeMap::new(),
            priority_class: None,
            runtime_class: None,
            environment: BTreeMap::new(),
            cache: None,
            quota: BTreeMap::new(),
            kubernetes_api: false,
            pod_disruption_budget: false,
            poll_timeout: 600,
            extra: toml::Table::new(),
        }),
        mode: Mode::Enforce,
        remove_foreign_rights: false,
        resume_paused: false,
        revoke_foreign: false,
        version_floor: None,
    }
}

fn aks() -> ResourceId {
    let id = "/subscriptions/1/resourceGroups/rg-aks/providers/Microsoft.ContainerService/managedClusters/aks";
    ResourceId::new(id).unwrap()
}

fn allowed(cidr: &str, ports: &[u16]) -> Allowed {
    Allowed { cidr: cidr.to_owned(), ports: ports.to_vec() }
}

fn amount(request: &str, limit: &str) -> Amount {
    Amount { request: Some(request.to_owned()), limit: Some(limit.to_owned()) }
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).into()
}

pub(crate) fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}
