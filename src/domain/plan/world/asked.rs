//! What the file asks for in the tests' world.

use crate::domain::{
    azure::ResourceId,
    ids::FleetName,
    spec::{
        Amount, AzureSettings, ClusterAccess, ClusterSettings, FleetSettings, GitlabSettings,
        Grant, IdentitySpec, Images, Isolation, KubernetesSettings, Mode, Network, Pods, Reach,
        RunnerSettings, RunnerSpec, SweepCalls, VaultSecret,
    },
};
use jiff::SignedDuration;
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

pub(in crate::domain::plan) fn fleet() -> FleetSettings {
    FleetSettings {
        name: FleetName::new("nonprod").unwrap(),
        digest: "sha256:1".into(),
        mode: Mode::Enforce,
        gitlab: GitlabSettings {
            url: "https://gitlab.example.com".parse().unwrap(),
            ca_file: None,
            token: VaultSecret { vault: "kv".into(), secret: "gitlab-token".into() },
        },
        azure: Some(AzureSettings {
            subscription: Uuid::from_u128(1),
            resource_group: "rg-identities".into(),
            location: "westeurope".into(),
            tags: BTreeMap::new(),
        }),
        cluster: ClusterSettings {
            access: ClusterAccess::Kubeconfig("kubeconfig".into()),
            images: Images { registry: None, runner: "19.4.0".into(), pull_secrets: vec![] },
            proxy: None,
            labels: BTreeMap::new(),
            network: Network::default(),
            managers_namespace: "forerunner-nonprod".into(),
            manager_cluster_role: "forerunner-manager".into(),
        },
        rollout_in_flight: 5,
        sweep_calls: SweepCalls::default(),
        reach: Reach::default(),
    }
}

pub(in crate::domain::plan) fn spec(with_identity: bool) -> RunnerSpec {
    let scope = ResourceId::new("/subscriptions/1111/resourceGroups/app").unwrap();
    let roles = ["Reader", "AcrPush"].into_iter().zip(2..);
    let grant = |(name, role): (&str, u128)| Grant {
        role: Uuid::from_u128(role),
        role_name: name.into(),
        scope: scope.clone(),
    };
    RunnerSpec {
        key: "g42-apply".parse().unwrap(),
        runner: RunnerSettings {
            tags: vec!["azure-apply".into()],
            run_untagged: false,
            protected: true,
            locked: false,
            maximum_timeout: 3600,
            concurrent: 10,
            request_concurrency: 4,
        },
        identity: match with_identity {
            true => IdentitySpec::Managed {
                name: "id-nonprod--g42-apply".into(),
                tags: BTreeMap::from([("costCenter".into(), "4711".into())]),
                roles: roles.map(grant).collect(),
            },
            false => IdentitySpec::None,
        },
        isolation: Isolation::Target,
        identity_settle: SignedDuration::from_mins(2),
        pods: Pods::Hardened,
        kubernetes: Arc::new(KubernetesSettings {
            namespace: None,
            service_account: None,
            image: "registry.example.com/ci:1".into(),
            allowed_images: vec![],
            allowed_services: vec![],
            services: false,
            pull_policy: vec![],
            pull_secrets: vec![],
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
