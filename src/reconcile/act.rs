//! Carries out a plan. Independent branches run at once; a step whose needs failed is left to the next round.

use super::{Clients, Failure, keep_token, ledger, prepare::Seen, tell};
use crate::{
    adapters::kubernetes::{DryRun, Force, Preconditions},
    domain::{
        azure::{Identity, RoleAssignment},
        class::Class,
        gitlab::EntityChange,
        ids::{InstallationId, RunnerId, Unit},
        kubernetes::Object,
        ledger::{Book, Ledger, Turn},
        names,
        plan::{Node, Plan, rights::take_away},
        render::{self, Context},
        spec::{FleetSettings, RunnerSpec},
        step::{Given, Product, RolloutWord, Step, StepId},
    },
    telemetry::audit,
};
use futures::{StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use tracing::{info, warn};

/// What a plan was made for: all that its steps may still have to render.
pub(super) struct Scene<'a> {
    pub(super) fleet: &'a FleetSettings,
    pub(super) installation: &'a InstallationId,
    pub(super) api_server: &'a [IpAddr],
    /// PEM text of `gitlab.caFile`.
    pub(super) gitlab_ca: Option<&'a str>,
    /// Missing in the round of an existing identity, which renders nothing.
    pub(super) spec: Option<&'a RunnerSpec>,
}

impl Scene<'_> {
    pub(super) fn context(&self) -> Context<'_> {
        Context {
            fleet: self.fleet,
            installation: self.installation,
            api_server: self.api_server,
            gitlab_ca: self.gitlab_ca,
        }
    }
}

/// What became of a plan.
#[derive(Debug, Default)]
pub(super) struct Acted {
    /// One line a step that was done.
    pub(super) did: Vec<String>,
    pub(super) failures: Vec<Failure>,
    /// The entity that was made. Whatever befalls its marker and our Secret before the next round, the unit knows its id.
    pub(super) made: Option<RunnerId>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Done,
    Failed,
}

pub(super) async fn act(clients: &Clients, plan: &Plan, seen: &Seen, scene: &Scene<'_>) -> Acted {
    let mut states = vec![State::Waiting; plan.steps.len()];
    let mut products: Vec<Product> = vec![Product::Nothing; plan.steps.len()];
    let mut running = FuturesUnordered::new();
    let mut acted = Acted::default();
    loop {
        for (at, Node { step, needs }) in plan.steps.iter().enumerate() {
            if states[at] != State::Waiting {
                continue;
            }
            if needs.iter().any(|need| states[need.0] == State::Failed) {
                states[at] = State::Failed;
            } else if needs.iter().all(|need| states[need.0] == State::Done) {
                states[at] = State::Running;
                let given =
                    Givens(needs.iter().map(|need| (*need, products[need.0].clone())).collect());
                let deed = tell::deed(step, seen, scene);
                running.push(async move {
                    (at, audit::doing(deed, perform(clients, scene, step, &given)).await)
                });
            }
        }
        let Some((at, result)) = running.next().await else { return acted };
        let step = &plan.steps[at].step;
        match result {
            Ok(product) => {
                info!(step = %step, "did: {step}");
                states[at] = State::Done;
                if let (Step::CreateRunner { .. }, Product::Token { runner, .. }) = (step, &product)
                {
                    acted.made = Some(*runner);
                }
                products[at] = product;
                acted.did.push(step.to_string());
            }
            Err(failure) => {
                states[at] = State::Failed;
                acted.failures.push(failure.during(step));
            }
        }
    }
}

/// What the steps before this one left for it.
struct Givens(Vec<(StepId, Product)>);

impl Givens {
    fn of(&self, step: StepId) -> &Product {
        self.0.iter().find(|(id, _)| *id == step).map_or(&Product::Nothing, |(_, product)| product)
    }
}

async fn perform(
    clients: &Clients,
    scene: &Scene<'_>,
    step: &Step,
    given: &Givens,
) -> Result<Product, Failure> {
    match step {
        Step::BookCreation { unit, generation, at, per_hour, runners_max, made, ledger } => {
            let booking = Booking {
                unit,
                generation: *generation,
                at: *at,
                per_hour: *per_hour,
                runners_max: *runners_max,
                made,
            };
            book_creation(clients, scene, &booking, ledger.clone()).await?;
        }
        Step::NoteRollout { unit, word, ledger } => {
            note_rollout(clients, scene, unit, word, ledger.clone()).await?;
        }
        Step::NoteRevoked { unit, at, ledger } => {
            let note = |book: &Book| Ok(Some(book.revoked(unit, *at)));
            ledger::write(clients, &scene.context(), ledger.clone(), note).await?;
        }
        Step::RehearseSecret { object } => rehearse(clients, object).await?,
        Step::CreateRunner { target, settings } => {
            let made = clients.gitlab().create_runner(*target, settings).await?;
            return Ok(Product::Token { runner: made.id, token: made.token });
        }
        Step::ReplaceToken { runner, .. } => {
            let made = clients.gitlab().reset_token(*runner).await?;
            return Ok(Product::Token { runner: *runner, token: made.token });
        }
        Step::KeepToken { from, secret, beside, version, verifier } => {
            let Product::Token { runner, token } = given.of(*from) else {
                return Err(Failure::retry("the token to keep was not made"));
            };
            let new = keep_token::NewToken { runner: *runner, token: token.clone() };
            keep_token::keep(clients, scene, secret, beside, new, version.clone(), verifier)
                .await?;
        }
        Step::RewriteSecret { secret: _, entries, version } => {
            let object = keep_token::render(scene, entries)?;
            clients.kubernetes().replace(&at_version(object, version), DryRun::No).await?;
        }
        Step::UpdateRunner { runner, change, .. } => {
            clients.gitlab().update_runner(*runner, change).await?
        }
        Step::PauseRunner { runner, note, may_be_refused } => {
            let change = EntityChange {
                paused: Some(true),
                maintenance_note: Some(note.clone()),
                ..EntityChange::default()
            };
            match clients.gitlab().update_runner(*runner, &change).await {
                Err(error) if *may_be_refused && error.class() == Class::Permanent => {
                    info!("GitLab refuses to pause runner {runner}; scaling to zero stands for it");
                }
                result => result?,
            }
        }
        Step::DeleteTwin { runner } => clients.gitlab().delete_runner(*runner).await?,
        Step::CreateIdentity { id, location, tags } => {
            let identity = clients.arm().put_identity(id, location, tags).await?;
            return Ok(Product::Identity(identity));
        }
        Step::TagIdentity { id, tags } => {
            clients.arm().patch_identity_tags(id, tags).await?;
        }
        Step::TrustServiceAccount { identity, credential } => {
            clients.arm().put_credential(identity, credential).await?;
        }
        Step::AssignRole { grant, principal, description } => {
            let principal = match (principal, principal_of(principal, given)) {
                (Given::Known(principal), _) => *principal,
                (Given::From(_), Some(principal)) => principal,
                (Given::From(_), None) => return Err(Failure::retry("the identity was not made")),
            };
            let assignment = RoleAssignment {
                name: names::role_assignment(&grant.scope, principal, grant.role),
                scope: grant.scope.clone(),
                role: grant.role,
                principal_id: principal,
                description: Some(description.clone()),
                condition: None,
            };
            clients.arm().put_assignment(&assignment).await?;
        }
        Step::Apply { object, client } => {
            let object = match client.map(|step| given.of(step)) {
                Some(Product::Identity(identity)) => job_account(scene, identity)?,
                Some(Product::Nothing | Product::Token { .. }) | None => object.clone(),
            };
            clients
                .kubernetes()
                .apply(&object, names::FIELD_MANAGER, Force::Yes, DryRun::No)
                .await?;
        }
        Step::ScaleToZero { deployment } => {
            let forgotten = json!({ names::ANNOTATION_SETTLING_SINCE: null });
            let patch =
                json!({ "metadata": { "annotations": forgotten }, "spec": { "replicas": 0 } });
            clients.kubernetes().patch_merge(deployment, &patch).await?;
        }
        Step::MarkSettling { deployment, mark } => {
            let annotations = json!({ names::ANNOTATION_SETTLING_SINCE: mark.to_string() });
            let patch = json!({ "metadata": { "annotations": annotations } });
            clients.kubernetes().patch_merge(deployment, &patch).await?;
        }
        Step::AnswerAccount { account, answer } => {
            let patch = json!({ "metadata": { "annotations": { names::ANNOTATION_IDENTITY_ANSWER: answer } } });
            clients.kubernetes().patch_merge(account, &patch).await?;
        }
        Step::MarkLeaving { object, at } => {
            // What has gone meanwhile has to spread anew when the runner comes back.
            let annotations = json!({
                names::ANNOTATION_LEAVING_SINCE: at.map(|at| at.to_string()),
                names::ANNOTATION_SETTLING_SINCE: null,
            });
            let patch = json!({ "metadata": { "annotations": annotations } });
            clients.kubernetes().patch_merge(object, &patch).await?;
        }
        Step::RestartManager { deployment, at } => {
            let annotations = json!({ names::ANNOTATION_RESTARTED_AT: at.to_string() });
            let patch =
                json!({ "spec": { "template": { "metadata": { "annotations": annotations } } } });
            clients.kubernetes().patch_merge(deployment, &patch).await?;
        }
        Step::DropAnnotations { object, keys } => {
            let gone: BTreeMap<&str, Value> = keys.iter().map(|key| (*key, Value::Null)).collect();
            let patch = json!({ "metadata": { "annotations": gone } });
            clients.kubernetes().patch_merge(object, &patch).await?;
        }
        Step::RemoveObject { object, uid } => {
            let preconditions = Preconditions { uid: uid.clone(), resource_version: None };
            clients.kubernetes().delete(object, &preconditions).await?;
        }
        Step::RemoveRole { assignment, may_be_refused } => {
            let RoleAssignment { scope, name, .. } = assignment;
            match clients.arm().delete_assignment(scope, *name).await {
                Err(error) if error.class() == Class::Permanent => {
                    let failure = Failure::from(error);
                    if !may_be_refused {
                        // A lock's own words say more.
                        let step = failure.step.or(Some(("RightStays", take_away(assignment))));
                        return Err(Failure { step, ..failure });
                    }
                    let text = failure.text;
                    warn!("role assignment {name} on {scope} stays, an orphan to be: {text}");
                }
                result => result?,
            }
        }
        Step::RemoveCredential { identity, name } => {
            clients.arm().delete_credential(identity, name).await?
        }
        Step::RemoveIdentity { id } => clients.arm().delete_identity(id).await?,
        Step::RemoveRunner { runner } => clients.gitlab().delete_runner(*runner).await?,
    }
    Ok(Product::Nothing)
}

fn principal_of(principal: &Given<uuid::Uuid>, given: &Givens) -> Option<uuid::Uuid> {
    let Given::From(step) = principal else { return None };
    match given.of(*step) {
        Product::Identity(identity) => Some(identity.principal_id),
        Product::Nothing | Product::Token { .. } => None,
    }
}

/// The job account, naming the identity that was made a moment ago.
fn job_account(scene: &Scene<'_>, identity: &Identity) -> Result<Object, Failure> {
    let spec = scene.spec.ok_or_else(|| Failure::permanent("this unit has no job account"))?;
    let mut object =
        render::job_account(spec, &scene.context(), Some((identity.client_id, identity.tenant_id)));
    render::stamp(&mut object);
    Ok(object)
}

fn at_version(mut object: Object, version: &str) -> Object {
    object.body["metadata"]["resourceVersion"] = version.into();
    object
}

/// Proves that the Secret can be written before a token exists that would have no home.
async fn rehearse(clients: &Clients, object: &Object) -> Result<(), Failure> {
    let kubernetes = clients.kubernetes();
    match kubernetes.get(&object.name).await? {
        None => kubernetes.create(object, DryRun::Yes).await?,
        Some(live) => {
            let version = live.resource_version().unwrap_or_default().to_owned();
            kubernetes.replace(&at_version(object.clone(), &version), DryRun::Yes).await?
        }
    };
    Ok(())
}

#[derive(Clone, Copy)]
struct Booking<'a> {
    unit: &'a Unit,
    generation: u32,
    at: Timestamp,
    per_hour: u32,
    runners_max: u32,
    made: &'a BTreeSet<Unit>,
}

/// Books a creation, unless a dead round did: a ceiling counts what is booked, so two rounds never share the last place.
async fn book_creation(
    clients: &Clients,
    scene: &Scene<'_>,
    booking: &Booking<'_>,
    read: Ledger,
) -> Result<(), Failure> {
    let Booking { unit, generation, at, per_hour, runners_max, made } = *booking;
    ledger::write(clients, &scene.context(), read, |book| {
        if book.has(unit, generation, at) {
            return Ok(None);
        }
        if !book.has_room(per_hour, at) {
            return Err(Failure::conflict(
                "other rounds took the last of guardrails.creations.perHour",
            ));
        }
        if !book.has_place(unit, runners_max, made, at) {
            return Err(Failure::conflict("other rounds took the last of guardrails.runners"));
        }
        Ok(Some(book.with(unit, generation, at)))
    })
    .await
}

/// Writes down how far the change that rolls a manager is.
async fn note_rollout(
    clients: &Clients,
    scene: &Scene<'_>,
    unit: &Unit,
    word: &RolloutWord,
    read: Ledger,
) -> Result<(), Failure> {
    ledger::write(clients, &scene.context(), read, |book| match word {
        RolloutWord::Begins { at, in_flight } => match book.turn(unit, *in_flight, *at) {
            Turn::Has => Ok(None),
            Turn::Free => Ok(Some(book.rolling(unit, *at))),
            Turn::Full | Turn::Stopped(_) => {
                Err(Failure::conflict("other rounds took the last of rollout.inFlight"))
            }
        },
        RolloutWord::Failed { reason } => Ok(Some(book.rollout_failed(unit, reason))),
        RolloutWord::Ends => Ok(Some(book.rolled(unit))),
    })
    .await
}
