//! A world small enough to judge plans by: it takes steps as the services would and is asked whether it serves.

mod asked;

use crate::domain::{
    azure::{FederatedCredential, Identity, ResourceId, RoleAssignment},
    gitlab::{Entity, EntityChange, EntityKind, EntitySettings, Manager},
    ids::{InstallationId, RunnerId, RunnerKey, TargetId},
    kubernetes::{Kind, Object, ObjectName},
    ledger::{Book, Ledger},
    marker::Marker,
    names,
    observed::{
        DomainObserved, EntryObserved, IdentityObserved, Observed, SecretObserved, TokenCheck,
    },
    plan::{Plan, domain, runner},
    render::{self, Context, Entry},
    spec::{FleetSettings, IdentitySpec, RunnerSpec},
    step::{Given, Product, RolloutWord, Step},
};
use asked::{fleet, spec};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

pub(super) const CEILINGS: runner::Ceilings =
    runner::Ceilings { runners: 100, creations_per_hour: 100 };
const ISSUER: &str = "https://issuer.example.com/";

#[derive(Clone)]
pub(super) struct World {
    pub(super) fleet: FleetSettings,
    pub(super) spec: RunnerSpec,
    pub(super) installation: InstallationId,
    pub(super) now: Timestamp,
    pub(super) entities: Vec<Entity>,
    /// The one token of each entity that GitLab knows.
    pub(super) tokens: BTreeMap<RunnerId, String>,
    pub(super) managers: BTreeMap<RunnerId, Vec<Manager>>,
    pub(super) secret: Option<Vec<(RunnerId, String)>>,
    pub(super) objects: BTreeMap<ObjectName, Object>,
    pub(super) identity: Option<Identity>,
    pub(super) credentials: Vec<FederatedCredential>,
    pub(super) assignments: Vec<RoleAssignment>,
    pub(super) book: Option<Book>,
    counter: u64,
}

impl World {
    pub(super) fn empty(with_identity: bool) -> Self {
        Self {
            fleet: fleet(),
            spec: spec(with_identity),
            installation: InstallationId("uid-1".into()),
            now: "2026-11-24T08:00:00Z".parse().unwrap(),
            entities: vec![],
            tokens: BTreeMap::new(),
            managers: BTreeMap::new(),
            secret: None,
            objects: BTreeMap::new(),
            identity: None,
            credentials: vec![],
            assignments: vec![],
            book: None,
            counter: 100,
        }
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            fleet: &self.fleet,
            installation: &self.installation,
            api_server: &[],
            gitlab_ca: None,
        }
    }

    pub(super) fn plan(&self) -> Plan {
        runner::plan(&self.spec, &self.fleet, &self.observe(), CEILINGS, self.now)
    }

    fn marker(&self) -> Marker {
        let (fleet, key) = (self.fleet.name.clone(), self.spec.key.clone());
        Marker { fleet, installation: self.installation.clone(), key, generation: 1 }
    }

    /// An entity of ours as a dead round left it: paused, its token in nobody's hands.
    pub(super) fn add_entity(&mut self) -> RunnerId {
        let settings = EntitySettings {
            description: self.marker().description(),
            tags: self.spec.runner.tags.clone(),
            run_untagged: false,
            locked: false,
            protected: true,
            maximum_timeout: Some(3600),
            maintenance_note: Some(runner::NOTE_NOT_OPEN.into()),
            paused: true,
        };
        self.create(self.spec.key.target, &settings)
    }

    pub(super) fn create(&mut self, owner: TargetId, settings: &EntitySettings) -> RunnerId {
        self.counter += 1;
        let id = RunnerId(self.counter);
        let mut entity = Entity {
            id,
            description: String::new(),
            kind: EntityKind::of(owner),
            owners: vec![owner],
            paused: false,
            tags: vec![],
            run_untagged: false,
            locked: false,
            protected: false,
            maximum_timeout: None,
            maintenance_note: None,
            contacted_at: None,
            created_at: Some(self.now),
            busy: Some(false),
        };
        set(&mut entity, &EntityChange::from(settings));
        self.entities.push(entity);
        self.managers.insert(id, vec![]);
        self.tokens.insert(id, format!("token-{}", self.counter));
        id
    }

    fn reset(&mut self, id: RunnerId) -> String {
        self.counter += 1;
        let token = format!("token-{}", self.counter);
        self.tokens.insert(id, token.clone());
        token
    }

    pub(super) fn observe(&self) -> Observed {
        let manager = names::manager(&self.spec.key);
        let managers = &self.fleet.cluster.managers_namespace;
        let get = |kind, namespace: &str| {
            self.objects.get(&ObjectName::new(kind, namespace, &manager)).cloned()
        };
        let jobs = names::job_namespace(&self.fleet.name, &self.spec);
        let wanted = domain::object_names(&self.fleet.name, &self.spec);
        let domain = DomainObserved {
            installation: self.installation.clone(),
            api_server: vec![],
            gitlab_ca: None,
            strangers: vec![],
            objects: wanted
                .into_iter()
                .map(|name| (name.clone(), self.objects.get(&name).cloned()))
                .collect(),
            identity: match &self.spec.identity {
                IdentitySpec::Managed { name, .. } => IdentityObserved::Managed {
                    issuer: ISSUER.into(),
                    id: ResourceId::new(&format!("/subscriptions/1/identities/{name}")).unwrap(),
                    identity: self.identity.clone(),
                    credentials: self.credentials.clone(),
                    assignments: self.assignments.clone(),
                },
                IdentitySpec::None | IdentitySpec::Existing { .. } => IdentityObserved::NotWanted,
            },
        };
        let ledger = Ledger {
            resource_version: self.book.as_ref().map(|_| "1".to_owned()),
            book: self.book.clone().unwrap_or_default(),
        };
        Observed {
            domain,
            entities: self.entities.clone(),
            busy: BTreeSet::new(),
            managers: self.managers.clone(),
            secret: self.observe_secret(),
            deployment: get(Kind::Deployment, managers),
            pods: vec![],
            manager_account: get(Kind::ServiceAccount, managers),
            manager_policy: get(Kind::NetworkPolicy, managers),
            binding: get(Kind::RoleBinding, &jobs),
            left: None,
            left_places: vec![],
            ledger,
            runners: BTreeSet::new(),
            status: None,
            waiting: vec![],
        }
    }

    fn observe_secret(&self) -> SecretObserved {
        let Some(entries) = &self.secret else { return SecretObserved::Absent };
        let tokens: Vec<SecretString> =
            entries.iter().map(|(_, token)| token.clone().into()).collect();
        let rendered: Vec<Entry<'_>> = entries
            .iter()
            .zip(&tokens)
            .map(|((runner, _), token)| Entry { runner: *runner, token })
            .collect();
        let mut object = render::config_secret(&self.spec, &self.context(), &rendered);
        object.body["metadata"]["resourceVersion"] = json!("7");
        let check = |token: &str| {
            let known = self.tokens.iter().find(|(_, one)| *one == token);
            known.map_or(TokenCheck::Refused, |(id, _)| TokenCheck::BelongsTo(*id))
        };
        let entries = entries.iter().map(|(runner, token)| EntryObserved {
            runner: *runner,
            token: token.clone().into(),
            check: check(token),
        });
        SecretObserved::Present { object, entries: entries.collect() }
    }

    /// Does what the services would do; answers what the step leaves for others.
    pub(super) fn apply(
        &mut self,
        step: &Step,
        given: &dyn Fn(crate::domain::step::StepId) -> Product,
    ) -> Product {
        match step {
            Step::BookCreation { unit, generation, at, ledger, .. } => {
                self.book = Some(ledger.book.with(unit, *generation, *at))
            }
            Step::NoteRollout { unit, word, ledger } => {
                self.book = Some(match word {
                    RolloutWord::Begins { at, .. } => ledger.book.rolling(unit, *at),
                    RolloutWord::Failed { reason } => ledger.book.rollout_failed(unit, reason),
                    RolloutWord::Ends => ledger.book.rolled(unit),
                })
            }
            Step::NoteRevoked { unit, at, ledger } => {
                self.book = Some(ledger.book.revoked(unit, *at));
            }
            Step::RehearseSecret { .. } => {}
            Step::CreateRunner { target, settings } => {
                let runner = self.create(*target, settings);
                return Product::Token { runner, token: self.tokens[&runner].clone().into() };
            }
            Step::ReplaceToken { runner, .. } => {
                let token = self.reset(*runner);
                return Product::Token { runner: *runner, token: token.into() };
            }
            Step::KeepToken { from, .. } => {
                let Product::Token { runner, token } = given(*from) else {
                    panic!("a token comes from its step")
                };
                self.secret = Some(vec![(runner, token.expose_secret().to_owned())]);
            }
            Step::RewriteSecret { entries, .. } => {
                let plain = entries
                    .iter()
                    .map(|(runner, token)| (*runner, token.expose_secret().to_owned()));
                self.secret = Some(plain.collect());
            }
            Step::UpdateRunner { runner, change, .. } => {
                let entity = self.entities.iter_mut().find(|entity| entity.id == *runner);
                set(entity.expect("only what was observed is updated"), change);
            }
            Step::PauseRunner { runner, note, .. } => {
                let entity = self.entities.iter_mut().find(|entity| entity.id == *runner);
                let entity = entity.expect("only what was observed is paused");
                entity.paused = true;
                entity.maintenance_note = Some(note.clone());
            }
            Step::DeleteTwin { runner } => self.entities.retain(|entity| entity.id != *runner),
            Step::CreateIdentity { id, location, tags } => {
                self.counter += 1;
                let identity = Identity {
                    id: id.clone(),
                    principal_id: Uuid::from_u128(self.counter.into()),
                    client_id: Uuid::from_u128(u128::from(self.counter) << 64),
                    tenant_id: Uuid::from_u128(9),
                    location: location.clone(),
                    tags: tags.clone(),
                };
                self.identity = Some(identity.clone());
                return Product::Identity(identity);
            }
            Step::TagIdentity { tags, .. } => {
                self.identity.as_mut().expect("made before it is tagged").tags = tags.clone();
            }
            Step::TrustServiceAccount { credential, .. } => {
                assert!(self.identity.is_some(), "a credential needs its identity");
                self.credentials.retain(|one| one.name != credential.name);
                self.credentials.push(credential.clone());
            }
            Step::AssignRole { grant, principal, description } => {
                let principal = match principal {
                    Given::Known(principal) => *principal,
                    Given::From(step) => match given(*step) {
                        Product::Identity(identity) => identity.principal_id,
                        Product::Nothing | Product::Token { .. } => {
                            panic!("a principal comes from its identity")
                        }
                    },
                };
                self.assignments.push(RoleAssignment {
                    name: names::role_assignment(&grant.scope, principal, grant.role),
                    scope: grant.scope.clone(),
                    role: grant.role,
                    principal_id: principal,
                    description: Some(description.clone()),
                    condition: None,
                });
            }
            Step::Apply { object, client } => {
                let mut object = object.clone();
                if let Some(Product::Identity(identity)) = client.map(given) {
                    let client = Some((identity.client_id, identity.tenant_id));
                    object = render::job_account(&self.spec, &self.context(), client);
                    render::stamp(&mut object);
                }
                let jobs = names::job_namespace(&self.fleet.name, &self.spec);
                if object.name.namespace.as_deref() == Some(&jobs) {
                    let namespace = ObjectName::of_cluster(Kind::Namespace, &jobs);
                    assert!(
                        self.objects.contains_key(&namespace),
                        "{} needs its namespace",
                        object.name
                    );
                }
                if let Some(old) = self.objects.get(&object.name)
                    && let Some(since) = old.annotation(names::ANNOTATION_SETTLING_SINCE)
                {
                    let since = since.to_owned();
                    render::annotate(&mut object, names::ANNOTATION_SETTLING_SINCE, &since);
                }
                self.objects.insert(object.name.clone(), object);
            }
            Step::MarkSettling { deployment, mark } => {
                let object =
                    self.objects.get_mut(deployment).expect("only what was observed is marked");
                render::annotate(object, names::ANNOTATION_SETTLING_SINCE, &mark.to_string());
            }
            Step::AnswerAccount { .. }
            | Step::ScaleToZero { .. }
            | Step::MarkLeaving { .. }
            | Step::RestartManager { .. }
            | Step::DropAnnotations { .. }
            | Step::RemoveObject { .. }
            | Step::RemoveRole { .. }
            | Step::RemoveCredential { .. }
            | Step::RemoveIdentity { .. }
            | Step::RemoveRunner { .. } => panic!("no step of a runner that may serve"),
        }
        Product::Nothing
    }

    /// Applies the steps that `lands` lets through, in order; what needs one that did not land does not land either.
    pub(super) fn act(&mut self, plan: &Plan, lands: impl Fn(usize) -> bool) {
        let mut products: Vec<Option<Product>> = vec![None; plan.steps.len()];
        for (at, node) in plan.steps.iter().enumerate() {
            if node.needs.iter().all(|need| products[need.0].is_some()) && lands(at) {
                let known = products.clone();
                let given = |step: crate::domain::step::StepId| {
                    known[step.0].clone().unwrap_or(Product::Nothing)
                };
                products[at] = Some(self.apply(&node.step, &given));
            }
        }
    }

    /// Time goes by: the Deployment gets its pod, whose manager polls if its token is good.
    pub(super) fn pass(&mut self, by: SignedDuration) {
        self.now += by;
        let system_id = names::system_id(&self.installation, &self.spec.key);
        let name = runner::deployment_name(&self.fleet, &self.spec);
        if let Some(deployment) = self.objects.get_mut(&name) {
            deployment.body["metadata"]["generation"] = json!(1);
            deployment.body["status"] = json!({
                "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
                "conditions": [{ "type": "Available", "status": "True" }],
            });
            for (_, token) in self.secret.iter().flatten() {
                let known = self.tokens.iter().find(|(_, one)| *one == token).map(|(id, _)| *id);
                if let Some(seen) = known.and_then(|id| self.managers.get_mut(&id)) {
                    seen.retain(|manager| manager.system_id != system_id);
                    seen.push(Manager {
                        system_id: system_id.clone(),
                        contacted_at: Some(self.now),
                        version: None,
                    });
                }
            }
        }
    }

    /// What done means, without asking the planner.
    pub(super) fn serves(&self) -> Result<(), String> {
        let key: &RunnerKey = &self.spec.key;
        let here = |entity: &&Entity| {
            Marker::find(&entity.description).is_some_and(|marker| marker.key == *key)
        };
        let ours: Vec<&Entity> = self
            .entities
            .iter()
            .filter(|entity| entity.owners == [key.target])
            .filter(here)
            .collect();
        let [entity] = ours[..] else { return Err(format!("{} entities", ours.len())) };
        let entries = self.secret.as_ref().ok_or("no secret")?;
        let [(runner, token)] = &entries[..] else {
            return Err(format!("{} entries", entries.len()));
        };
        if *runner != entity.id || self.tokens.get(runner) != Some(token) {
            return Err("the Secret's token is not the entity's".into());
        }
        if entity.paused {
            return Err("still paused".into());
        }
        if let IdentitySpec::Managed { roles, .. } = &self.spec.identity {
            let identity = self.identity.as_ref().ok_or("no identity")?;
            let given = roles.iter().all(|grant| {
                self.assignments.iter().any(|one| {
                    one.principal_id == identity.principal_id
                        && one.role == grant.role
                        && one.scope == grant.scope
                })
            });
            let account = ObjectName::new(
                Kind::ServiceAccount,
                &names::job_namespace(&self.fleet.name, &self.spec),
                &names::job_account(&self.spec),
            );
            let client = self
                .objects
                .get(&account)
                .and_then(|one| one.annotation("azure.workload.identity/client-id"));
            if !given
                || self.credentials.is_empty()
                || client != Some(&identity.client_id.to_string())
            {
                return Err("a job could not sign in with its rights".into());
            }
        }
        Ok(())
    }
}

fn set(entity: &mut Entity, change: &EntityChange) {
    fn put<T: Clone>(place: &mut T, value: Option<&T>) {
        if let Some(value) = value {
            place.clone_from(value);
        }
    }
    put(&mut entity.description, change.description.as_ref());
    put(&mut entity.tags, change.tags.as_ref());
    put(&mut entity.run_untagged, change.run_untagged.as_ref());
    put(&mut entity.locked, change.locked.as_ref());
    put(&mut entity.protected, change.protected.as_ref());
    put(&mut entity.paused, change.paused.as_ref());
    put(&mut entity.maximum_timeout, change.maximum_timeout.map(Some).as_ref());
    put(&mut entity.maintenance_note, change.maintenance_note.clone().map(Some).as_ref());
}
