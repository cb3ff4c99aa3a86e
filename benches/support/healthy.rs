//! What a round sees of a runner that is not there yet, and of one that is as it should be.

use forerunner::domain::{
    azure::{Identity, ResourceId, RoleAssignment},
    fleet::{Fleet, TargetFacts, WantedState},
    gitlab::{Entity, EntityKind, Manager},
    ids::{GroupId, InstallationId, RunnerId, TargetId},
    kubernetes::{Object, ObjectName},
    ledger::Ledger,
    names,
    observed::{
        DomainObserved, EntryObserved, IdentityObserved, Observed, SecretObserved, TokenCheck,
    },
    plan::{
        domain,
        runner::{self, Ceilings},
    },
    render::{self, Context, Entry},
    settling::Settling,
    spec::{FleetSettings, IdentitySpec, RunnerSpec},
    step::Step,
};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde_json::json;
use std::{collections::BTreeMap, net::IpAddr};
use uuid::Uuid;

pub(crate) const CEILINGS: Ceilings = Ceilings { runners: 10_000, creations_per_hour: 10_000 };

const FLEET: &str = r#"
version: 1
fleet: nonprod
gitlab: { url: https://gitlab.example.com, token: { keyVault: kv-fleet, secret: gitlab-token } }
azure: { subscription: 00000000-0000-4000-8000-00000000f00d, resourceGroup: rg-runner-identities, location: westeurope }
cluster:
  resourceId: /subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-aks/providers/Microsoft.ContainerService/managedClusters/aks
  images: { runner: 19.4.0 }
anchors: { platform: 42 }
rules:
  - { match: { groups: "platform/*" }, profiles: [plan] }
profiles:
  plan:
    runner: { tags: [azure-plan] }
    identity:
      managed: { roles: [{ role: Reader, scope: /subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/app }] }
guardrails:
  roles: [Reader]
  scopes: [/subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/app]
"#;

pub(crate) fn fleet() -> Fleet {
    Fleet::parse(FLEET, None, now()).expect("the fleet of the bench is valid").0
}

pub(crate) fn now() -> Timestamp {
    Timestamp::constant(1_795_507_200, 0)
}

/// What all runners of a fleet share.
pub(crate) struct Cluster {
    pub(crate) installation: InstallationId,
    pub(crate) api_server: Vec<IpAddr>,
    pub(crate) issuer: String,
}

/// A group in a top-level group.
pub(crate) fn below(above: GroupId, path: &str, id: GroupId, name: &str) -> TargetFacts {
    TargetFacts {
        id: TargetId::Group(id),
        path: format!("{path}/{name}"),
        ancestors: vec![(above, path.to_owned())],
        personal: false,
    }
}

/// One runner with what a round saw of it.
pub(crate) struct Case {
    pub(crate) facts: TargetFacts,
    pub(crate) spec: RunnerSpec,
    pub(crate) observed: Observed,
}

impl Case {
    /// Nothing is there.
    pub(crate) fn empty(fleet: &Fleet, group: u64) -> Self {
        let cluster = Cluster {
            installation: InstallationId("00000000-0000-4000-8000-0000000000aa".to_owned()),
            api_server: vec![[192, 0, 2, 1].into()],
            issuer: "https://issuer.example.com/".to_owned(),
        };
        let facts = below(GroupId(42), "platform", GroupId(group), &format!("team-{group}"));
        Self::of(fleet, &cluster, facts)
    }

    /// The same for any group of a certain cluster's fleet.
    pub(crate) fn of(fleet: &Fleet, cluster: &Cluster, facts: TargetFacts) -> Self {
        let mut wanted = fleet.wanted_at(&facts, now()).into_iter();
        let Some(WantedState::Runner(spec)) = wanted.next().map(|wanted| wanted.state) else {
            panic!("the rule gives every group below the anchor a runner")
        };
        let spec = *spec;
        let settings = fleet.settings();
        let IdentitySpec::Managed { name, .. } = &spec.identity else {
            panic!("the profile has a managed identity")
        };
        let id = ResourceId::new(&format!(
            "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-runner-identities/providers/\
             Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
        ));
        let names = domain::object_names(&settings.name, &spec);
        let domain = DomainObserved {
            strangers: vec![],
            installation: cluster.installation.clone(),
            api_server: cluster.api_server.clone(),
            gitlab_ca: None,
            objects: names.into_iter().map(|name| (name, None)).collect(),
            identity: IdentityObserved::Managed {
                issuer: cluster.issuer.clone(),
                id: id.expect("it begins with a slash"),
                identity: None,
                credentials: vec![],
                assignments: vec![],
            },
        };
        let observed = Observed {
            domain,
            entities: vec![],
            busy: std::collections::BTreeSet::new(),
            managers: BTreeMap::new(),
            secret: SecretObserved::Absent,
            deployment: None,
            pods: vec![],
            manager_account: None,
            manager_policy: None,
            binding: None,
            left: None,
            left_places: vec![],
            ledger: Ledger::default(),
            runners: std::collections::BTreeSet::new(),
            status: None,
            waiting: vec![],
        };
        Self { facts, spec, observed }
    }

    /// Everything is there, its manager polls, and jobs can sign in since long ago.
    pub(crate) fn healthy(fleet: &Fleet, group: u64) -> Self {
        let mut case = Self::empty(fleet, group);
        let settings = fleet.settings();
        case.make_identity(settings);
        case.make_objects(settings);
        case.make_entity(settings);
        case
    }

    /// As the plan of the empty case has it.
    fn make_identity(&mut self, settings: &FleetSettings) {
        let plan = runner::plan(&self.spec, settings, &self.observed, CEILINGS, now());
        let IdentityObserved::Managed { id, identity, credentials, assignments, .. } =
            &mut self.observed.domain.identity
        else {
            return;
        };
        let principal_id = Uuid::from_u128(7);
        for node in &plan.steps {
            match &node.step {
                Step::TrustServiceAccount { credential, .. } => {
                    credentials.push(credential.clone())
                }
                Step::TagIdentity { tags, .. } => {
                    *identity = Some(Identity {
                        id: id.clone(),
                        principal_id,
                        client_id: Uuid::from_u128(8),
                        tenant_id: Uuid::from_u128(9),
                        location: "westeurope".to_owned(),
                        tags: tags.clone(),
                    });
                }
                Step::AssignRole { grant, description, .. } => assignments.push(RoleAssignment {
                    name: names::role_assignment(&grant.scope, principal_id, grant.role),
                    scope: grant.scope.clone(),
                    role: grant.role,
                    principal_id,
                    description: Some(description.clone()),
                    condition: None,
                }),
                Step::BookCreation { .. }
                | Step::NoteRollout { .. }
                | Step::NoteRevoked { .. }
                | Step::RehearseSecret { .. }
                | Step::CreateRunner { .. }
                | Step::ReplaceToken { .. }
                | Step::KeepToken { .. }
                | Step::RewriteSecret { .. }
                | Step::UpdateRunner { .. }
                | Step::PauseRunner { .. }
                | Step::DeleteTwin { .. }
                | Step::CreateIdentity { .. }
                | Step::Apply { .. }
                | Step::ScaleToZero { .. }
                | Step::MarkSettling { .. }
                | Step::AnswerAccount { .. }
                | Step::MarkLeaving { .. }
                | Step::RestartManager { .. }
                | Step::DropAnnotations { .. }
                | Step::RemoveObject { .. }
                | Step::RemoveRole { .. }
                | Step::RemoveCredential { .. }
                | Step::RemoveIdentity { .. }
                | Step::RemoveRunner { .. } => {}
            }
        }
    }

    fn make_objects(&mut self, settings: &FleetSettings) {
        let Self { spec, observed, .. } = self;
        let domain = &observed.domain;
        let context = Context {
            fleet: settings,
            installation: &domain.installation,
            api_server: &domain.api_server,
            gitlab_ca: None,
        };
        let client = domain.identity.managed().map(|one| (one.client_id, one.tenant_id));
        let runner = RunnerId(4711);
        let token = SecretString::from("made-up-token");
        let stamped = |mut object: Object| {
            render::stamp(&mut object);
            object
        };
        let objects = [
            render::job_namespace(spec, &context),
            render::default_account(spec, &context),
            render::job_account(spec, &context, client),
            render::quota(spec, &context),
            render::limit_range(spec, &context),
            render::job_network_policy(spec, &context),
        ]
        .map(stamped);
        let objects: BTreeMap<ObjectName, Option<Object>> =
            objects.map(|object| (object.name.clone(), Some(object))).into();
        let mut secret =
            stamped(render::config_secret(spec, &context, &[Entry { runner, token: &token }]));
        secret.body["metadata"]["resourceVersion"] = json!("7");
        let mut deployment = stamped(render::deployment(spec, &context, 1));
        let since = now() - SignedDuration::from_hours(1);
        if let Some(Identity { principal_id: of, .. }) = domain.identity.managed() {
            let mark = Settling { since, of: *of };
            render::annotate(&mut deployment, names::ANNOTATION_SETTLING_SINCE, &mark.to_string());
        }
        deployment.body["metadata"]["generation"] = json!(1);
        deployment.body["status"] = json!({
            "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
            "conditions": [{ "type": "Available", "status": "True" }],
        });
        observed.manager_account = Some(stamped(render::manager_account(spec, &context)));
        observed.manager_policy = Some(stamped(render::manager_network_policy(spec, &context)));
        observed.binding = Some(stamped(render::binding(spec, &context)));
        let entries = vec![EntryObserved { runner, token, check: TokenCheck::NotAsked }];
        observed.secret = SecretObserved::Present { object: secret, entries };
        observed.deployment = Some(deployment);
        observed.domain.objects = objects;
    }

    fn make_entity(&mut self, settings: &FleetSettings) {
        let Self { spec, observed, .. } = self;
        let id = RunnerId(4711);
        let installation = &observed.domain.installation;
        let marker = forerunner::domain::marker::Marker {
            fleet: settings.name.clone(),
            installation: installation.clone(),
            key: spec.key.clone(),
            generation: 1,
        };
        observed.managers.insert(
            id,
            vec![Manager {
                system_id: names::system_id(installation, &spec.key),
                contacted_at: Some(now()),
                version: None,
            }],
        );
        observed.entities.push(Entity {
            id,
            description: marker.description(),
            kind: EntityKind::of(spec.key.target),
            owners: vec![spec.key.target],
            paused: false,
            tags: spec.runner.tags.clone(),
            run_untagged: spec.runner.run_untagged,
            locked: spec.runner.locked,
            protected: spec.runner.protected,
            maximum_timeout: Some(spec.runner.maximum_timeout),
            maintenance_note: None,
            contacted_at: Some(now()),
            created_at: Some(now()),
            busy: Some(false),
        });
    }
}
