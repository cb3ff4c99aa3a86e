//! Thousands of settled runners in a sandbox: of each the plan that makes it, carried out as the services would, and then one
//! round, which finds nothing to do and writes down what it saw.

use crate::{
    healthy::{CEILINGS, Case, Cluster, below},
    scene::Scene,
};
use forerunner::{
    adapters::{
        gitlab::{Gitlab, TokenSource},
        http::{Http, HttpSettings, Loopback},
    },
    domain::{
        azure::Identity,
        fleet::Fleet,
        gitlab::EntitySettings,
        ids::{GroupId, InstallationId, RunnerId},
        kubernetes::{Kind, Object},
        message::{Message, Reason},
        names,
        plan::runner,
        render::{self, Context, Entry},
        settling::Settling,
        step::{Given, Step},
    },
    reconcile::Outcome,
    sandbox::{
        azure::{Assignment, Credential},
        gitlab::RunnerEdit,
        wire::Call,
    },
};
use futures::{StreamExt, stream};
use jiff::SignedDuration;
use secrecy::SecretString;
use serde_json::json;
use std::fmt::Write;

/// The groups at the top, each with a subscription for its teams' roles: Azure lets one have 4,000 assignments.
const TOP: [(&str, u64); 4] = [("north", 42), ("east", 43), ("south", 44), ("west", 45)];
/// How many rounds run at once.
const AT_ONCE: usize = 8;
/// So many rounds spend what Azure and GitLab let one caller spend before they refuse, and after the pause it is there again.
const TOGETHER: usize = 50;
const PAUSE: SignedDuration = SignedDuration::from_secs(20);

/// A runner and a managed identity with one role for every team.
pub(crate) fn file(runners: usize) -> String {
    let scope =
        |at: u64| format!("/subscriptions/00000000-0000-4000-8000-{at:012}/resourceGroups/app");
    let mut text = "version: 1
fleet: nonprod
gitlab: { url: https://gitlab.example.com, token: { keyVault: kv-fleet, secret: gitlab-token } }
azure: { subscription: 00000000-0000-4000-8000-00000000f00d, resourceGroup: rg-runner-identities, location: westeurope }
cluster:
  resourceId: /subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-aks/providers/Microsoft.ContainerService/managedClusters/aks
  images: { runner: 19.4.0 }
".to_owned();
    let mut add = |line: String| writeln!(text, "{line}").expect("a string takes all");
    let all = |one: fn(&str, u64) -> String| TOP.map(|(name, id)| one(name, id)).join(", ");
    add(format!("anchors: {{ {} }}", all(|name, id| format!("{name}: {id}"))));
    let rule = |name: &str, _| format!("{{ match: {{ groups: '{name}/*' }}, profiles: [{name}] }}");
    add(format!("rules: [{}]", all(rule)));
    add("profiles:".to_owned());
    for (name, id) in TOP {
        let roles = format!("[{{ role: Reader, scope: {} }}]", scope(id));
        add(format!(
            "  {name}: {{ runner: {{ tags: [azure] }}, identity: {{ managed: {{ roles: {roles} }} }} }}"
        ));
    }
    let scopes = TOP.map(|(_, id)| scope(id)).join(", ");
    let never = "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-forerunner";
    add(format!(
        "guardrails: {{ roles: [Reader], scopes: [{scopes}], never: [{never}], runners: {runners}, creations: {{ perHour: {runners} }} }}"
    ));
    text
}

/// Makes so many runners, and settles each by a round of its own.
pub(crate) async fn settle(scene: &Scene, fleet: &Fleet, runners: usize) {
    let seed = Seed::of(scene, fleet);
    let mut units = Vec::new();
    for number in 0..runners {
        units.push(seed.make(TOP[number % TOP.len()], &format!("team-{number}")).await);
    }
    let rounds = scene.rounds();
    let round = |unit: String| {
        let unit = unit.parse().expect("it was made of a key");
        let message = Message::wake(unit, Reason::Sweep, "bench".to_owned());
        let rounds = &rounds;
        async move {
            let outcome = rounds.round(&message).await;
            assert!(matches!(outcome, Outcome::Done(_)), "{}: {outcome:?}", message.unit);
        }
    };
    scene.world.wire.forget_calls();
    for some in units.chunks(TOGETHER) {
        stream::iter(some.iter().cloned())
            .map(round)
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
        let calls = scene.world.wire.calls().into_iter();
        let writes: Vec<Call> = calls.filter(|call| call.is_ours() && changes(call)).collect();
        let others = writes.iter().find(|call| !call.path.contains("/configmaps/status-runner-"));
        assert!(others.is_none(), "what was made is not what a round makes: {others:?}");
        assert_eq!(writes.len(), some.len(), "each round writes its status, and that is all");
        scene.world.wire.forget_calls();
        scene.turn(PAUSE);
    }
    assert!(scene.is_ready(&units[0]), "{}", scene.status(&units[0]));
}

/// Queries by POST change nothing.
pub(crate) fn changes(call: &Call) -> bool {
    let asks =
        ["listClusterUserCredential", "/graphql", "Microsoft.ResourceGraph", "/runners/verify"];
    call.is_write() && !asks.iter().any(|path| call.path.contains(path))
}

/// What every runner is made with.
struct Seed<'a> {
    scene: &'a Scene,
    fleet: &'a Fleet,
    cluster: Cluster,
    gitlab: Gitlab,
}

impl<'a> Seed<'a> {
    fn of(scene: &'a Scene, fleet: &'a Fleet) -> Self {
        let world = &scene.world;
        let managers = &fleet.settings().cluster.managers_namespace;
        let namespace = world.kubernetes.get("namespaces", "", managers);
        let uid =
            namespace.and_then(|object| object["metadata"]["uid"].as_str().map(str::to_owned));
        let cluster = Cluster {
            installation: InstallationId(uid.expect("an administrator made it")),
            // A host that a sandbox plays has no address that a pod could misuse.
            api_server: vec![],
            issuer: world.kubernetes.issuer(),
        };
        let url = &fleet.settings().gitlab.url;
        let port = world.address("gitlab").expect("it is served").port();
        let host = url.host_str().expect("GitLab has a name");
        let http =
            HttpSettings { loopback: vec![Loopback::new(host, port)], ..HttpSettings::default() };
        let token = TokenSource::Given(SecretString::from(world.gitlab.admin_token()));
        let gitlab = Gitlab::new(Http::new(http, scene.clock.clone()), url.clone(), token);
        Self { scene, fleet, cluster, gitlab }
    }

    /// Makes a team's group with everything that its runner has; answers the runner's unit.
    async fn make(&self, (path, above): (&str, u64), name: &str) -> String {
        let world = &self.scene.world;
        let group = world.gitlab.create_group(Some(above), name);
        let facts = below(GroupId(above), path, GroupId(group), name);
        let case = Case::of(self.fleet, &self.cluster, facts);
        let now = self.scene.clock.now();
        let settings = self.fleet.settings();
        let plan = runner::plan(&case.spec, settings, &case.observed, CEILINGS, now);
        let context = Context {
            fleet: settings,
            installation: &self.cluster.installation,
            api_server: &self.cluster.api_server,
            gitlab_ca: None,
        };
        let mut identity: Option<Identity> = None;
        let mut kept: Option<(RunnerId, SecretString)> = None;
        for node in &plan.steps {
            match &node.step {
                Step::CreateRunner { settings, .. } => {
                    kept = Some(self.register(&case, settings).await)
                }
                Step::KeepToken { .. } => {
                    let (runner, token) = kept.as_ref().expect("the entity comes first");
                    let entry = Entry { runner: *runner, token };
                    let secret = render::config_secret(&case.spec, &context, &[entry]);
                    self.apply(secret, identity.as_ref());
                }
                Step::CreateIdentity { id, tags, .. } => {
                    let made = world.azure.add_existing_identity(&id.to_string(), tags.clone());
                    identity = Some(Identity {
                        id: id.clone(),
                        principal_id: made.principal_id,
                        client_id: made.client_id,
                        tenant_id: world.azure.tenant_id(),
                        location: made.location,
                        tags: made.tags,
                    });
                }
                Step::TagIdentity { id, tags } => {
                    world.azure.edit_identity_tags(&id.to_string(), tags.clone());
                }
                Step::TrustServiceAccount { identity, credential } => {
                    let credential = Credential {
                        name: credential.name.clone(),
                        issuer: credential.issuer.clone(),
                        subject: credential.subject.clone().unwrap_or_default(),
                        audiences: credential.audiences.clone(),
                    };
                    world.azure.edit_credential(&identity.to_string(), credential);
                }
                Step::AssignRole { grant, principal, description } => {
                    let principal_id = match (principal, &identity) {
                        (Given::Known(principal), _) => *principal,
                        (Given::From(_), Some(identity)) => identity.principal_id,
                        (Given::From(_), None) => panic!("the identity comes first"),
                    };
                    world.azure.put_assignment(Assignment {
                        name: names::role_assignment(&grant.scope, principal_id, grant.role),
                        scope: grant.scope.to_string(),
                        role: grant.role,
                        principal_id,
                        principal_type: "ServicePrincipal".to_owned(),
                        description: Some(description.clone()),
                        condition: None,
                    });
                }
                Step::Apply { object, client: Some(_) } => {
                    let client = identity.as_ref().map(|one| (one.client_id, one.tenant_id));
                    let account = render::job_account(&case.spec, &context, client);
                    assert_eq!(account.name, object.name, "no other object has a client");
                    self.apply(account, identity.as_ref());
                }
                Step::Apply { object, client: None } => {
                    self.apply(object.clone(), identity.as_ref())
                }
                Step::BookCreation { .. } | Step::RehearseSecret { .. } => {}
                Step::NoteRollout { .. }
                | Step::NoteRevoked { .. }
                | Step::ReplaceToken { .. }
                | Step::RewriteSecret { .. }
                | Step::UpdateRunner { .. }
                | Step::PauseRunner { .. }
                | Step::DeleteTwin { .. }
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
                | Step::RemoveRunner { .. } => {
                    panic!("no step of a runner that is made: {}", node.step)
                }
            }
        }
        format!("runner/{}", case.spec.key)
    }

    /// Registers the entity, polls as its manager, and opens it.
    async fn register(&self, case: &Case, settings: &EntitySettings) -> (RunnerId, SecretString) {
        let made = self.gitlab.create_runner(case.spec.key.target, settings).await;
        let made = made.expect("GitLab takes what a plan asks");
        let system_id = names::system_id(&self.cluster.installation, &case.spec.key);
        let polled = self.gitlab.verify(&made.token, &system_id).await;
        polled.expect("GitLab knows the token that it just gave");
        let open = RunnerEdit {
            paused: Some(false),
            maintenance_note: Some(String::new()),
            ..RunnerEdit::default()
        };
        self.scene.world.gitlab.edit_runner(made.id.0, open);
        (made.id, made.token)
    }

    /// A Deployment's manager runs, and its identity has settled.
    fn apply(&self, mut object: Object, identity: Option<&Identity>) {
        render::stamp(&mut object);
        let is_manager = object.name.kind == Kind::Deployment;
        if let (true, Some(identity)) = (is_manager, identity) {
            let since = self.scene.clock.now() - SignedDuration::from_hours(1);
            let mark = Settling { since, of: identity.principal_id };
            render::annotate(&mut object, names::ANNOTATION_SETTLING_SINCE, &mark.to_string());
        }
        let kubernetes = &self.scene.world.kubernetes;
        let applied = kubernetes.apply_for(names::FIELD_MANAGER, object.body);
        applied.unwrap_or_else(|refusal| panic!("{} is refused: {refusal}", object.name));
        if is_manager {
            let status = json!({
                "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
                "availableReplicas": 1,
                "conditions": [{ "type": "Available", "status": "True" }],
            });
            let namespace = object.name.namespace.unwrap_or_default();
            assert!(kubernetes.report("deployments", &namespace, &object.name.name, &status));
        }
    }
}
