//! The trust domain: namespace, job account, identity, credential and roles: what decides what a job may do in Azure.

use super::{
    Draft, Plan, identity,
    rights::{self, foreign_rights, missing_grants},
};
use crate::domain::{
    azure::{FederatedCredential, Identity, ResourceId},
    ids::{FleetName, InstallationId, Unit},
    kubernetes::{Kind, Object, ObjectName},
    names,
    observed::{Candidate, DomainObserved, IdentityObserved},
    render::{self, Context},
    spec::{FleetSettings, Grant, IdentitySpec, RunnerSpec},
    status::{ConditionKind, Finding},
    step::{Given, Step, StepId},
};
use jiff::SignedDuration;
use std::collections::BTreeMap;

/// How soon to look again at what other machines are still doing.
pub(crate) const SOON: SignedDuration = SignedDuration::from_secs(15);
/// An identity holds this many federated credentials and no more (azure.md §4.2).
pub const CREDENTIALS_MAX: usize = 20;

/// What the runner's own part of a plan needs to know of its domain's part.
#[derive(Debug, Default)]
pub(crate) struct DomainDraft {
    /// The step that makes the job namespace, if it has to be made.
    pub(crate) namespace: Option<StepId>,
    /// Whether credential and every role were seen, so that settling may begin.
    pub(crate) seen: bool,
    /// Whether the profile has an identity at all.
    pub(crate) has_identity: bool,
    /// Whether jobs have, or get in this round, a namespace of ours that stays.
    pub(crate) usable: bool,
}

/// Plans the round of a domain that a whole profile shares.
pub fn plan(spec: &RunnerSpec, fleet: &FleetSettings, observed: &DomainObserved) -> Plan {
    let mut draft = Draft::default();
    let context = Context {
        fleet,
        installation: &observed.installation,
        api_server: &observed.api_server,
        gitlab_ca: observed.gitlab_ca.as_deref(),
    };
    let domain = draft_domain(&mut draft, spec, &context, observed);
    let deployed = if draft.has_steps() {
        Finding::fails(
            ConditionKind::Deployed,
            "Progressing",
            "the domain's objects are being applied",
        )
    } else {
        Finding::holds(ConditionKind::Deployed, "Applied", "every object of the domain is in place")
    };
    draft.find(deployed);
    draft.find(identity_finding(&domain, domain.seen));
    draft.finish(SOON)
}

/// Whether `settled` jobs can sign in.
pub(crate) fn identity_finding(domain: &DomainDraft, settled: bool) -> Finding {
    match (domain.has_identity, settled) {
        (false, _) => {
            Finding::holds(ConditionKind::IdentityReady, "NotWanted", "the profile has no identity")
        }
        (true, true) => {
            Finding::holds(ConditionKind::IdentityReady, "Settled", "a job can sign in")
        }
        (true, false) => Finding::fails(
            ConditionKind::IdentityReady,
            "Spreading",
            "identity, credential and roles have to spread before a job can count on them",
        ),
    }
}

/// Whom the job account's annotations name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AccountIdentity<'a> {
    /// The identity a job signs in as, once it exists.
    identity: Option<&'a Identity>,
    /// The existing identity that the account asks for.
    asks: Option<&'a ResourceId>,
}

/// Every object of the domain, as it should be.
pub(crate) fn objects(
    spec: &RunnerSpec,
    context: &Context<'_>,
    account: AccountIdentity<'_>,
) -> Vec<Object> {
    let client = account.identity.map(|identity| (identity.client_id, identity.tenant_id));
    let mut objects = Vec::new();
    if spec.kubernetes.namespace.is_none() {
        objects.push(render::job_namespace(spec, context));
        objects.push(render::default_account(spec, context));
    }
    let mut job_account = render::job_account(spec, context, client);
    if let Some(asks) = account.asks {
        render::annotate(&mut job_account, names::ANNOTATION_IDENTITY, asks.as_str());
    }
    objects.push(job_account);
    objects.push(render::quota(spec, context));
    objects.push(render::limit_range(spec, context));
    objects.push(render::job_network_policy(spec, context));
    objects.iter_mut().for_each(render::stamp);
    objects
}

/// The names of those objects: what a round has to look for.
pub fn object_names(fleet: &FleetName, spec: &RunnerSpec) -> Vec<ObjectName> {
    let namespace = names::job_namespace(fleet, spec);
    let account = names::job_account(spec);
    let bounds = names::job_bounds(spec);
    vec![
        ObjectName::of_cluster(Kind::Namespace, &namespace),
        ObjectName::new(Kind::ServiceAccount, &namespace, "default"),
        ObjectName::new(Kind::ServiceAccount, &namespace, &account),
        ObjectName::new(Kind::ResourceQuota, &namespace, &bounds),
        ObjectName::new(Kind::LimitRange, &namespace, &bounds),
        ObjectName::new(Kind::NetworkPolicy, &namespace, &bounds),
    ]
}

pub(crate) fn draft_domain(
    draft: &mut Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &DomainObserved,
) -> DomainDraft {
    let mut domain =
        DomainDraft { has_identity: spec.identity != IdentitySpec::None, ..DomainDraft::default() };
    if !namespace_is_usable(draft, spec, context, observed) {
        return domain;
    }
    domain.usable = true;
    draft_strangers(draft, observed);
    let account = ObjectName::new(
        Kind::ServiceAccount,
        &names::job_namespace(&context.fleet.name, spec),
        &names::job_account(spec),
    );
    let (made, named) = match (&spec.identity, &observed.identity) {
        (IdentitySpec::Managed { tags, roles, .. }, IdentityObserved::Managed { identity, .. }) => {
            let made = draft_managed(draft, &mut domain, spec, context, observed, tags, roles);
            // A stranger's identity of that name is not named to jobs.
            let key = names::domain_key(&spec.key, spec.isolation);
            let ours =
                |one: &&Identity| is_ours(one, &context.fleet.name, context.installation, &key);
            (made, AccountIdentity { identity: identity.as_ref().filter(ours), asks: None })
        }
        (
            IdentitySpec::Existing { expect, .. },
            IdentityObserved::Existing { issuer, candidates },
        ) => {
            let wanted = credential(spec, &context.fleet.name, issuer);
            let live = observed.object(&account);
            let chosen = choose(candidates, &wanted, live);
            if live.is_some_and(identity::gives_back) {
                // It was leaving and is wanted again.
                let keys = vec![names::ANNOTATION_IDENTITY_ANSWER];
                draft.add(Step::DropAnnotations { object: account.clone(), keys }, []);
            }
            (None, draft_existing(draft, &mut domain, spec, &chosen, expect))
        }
        (IdentitySpec::None | IdentitySpec::Managed { .. } | IdentitySpec::Existing { .. }, _) => {
            (None, AccountIdentity::default())
        }
    };
    for object in objects(spec, context, named) {
        let live = observed.object(&object.name);
        let is_account = object.name == account;
        let client = made.filter(|_| is_account);
        if client.is_none() && live.is_some_and(|live| render::differs(&object, live).is_none()) {
            continue;
        }
        let is_namespace = object.name.kind == Kind::Namespace;
        let needs: Vec<StepId> = domain.namespace.into_iter().chain(client).collect();
        let step = draft.add(Step::Apply { object, client }, needs);
        if is_namespace {
            domain.namespace = Some(step);
        }
    }
    domain
}

/// What others put into the job namespace: whoever may bind there may give a job rights or reach into it, and a policy
/// only ever opens. Theirs all the same: told with the command that takes it away.
fn draft_strangers(draft: &mut Draft, observed: &DomainObserved) {
    let of = |kind: Kind| observed.strangers.iter().filter(move |one| one.name.kind == kind);
    let commands = |kind: &str, strangers: Vec<&Object>| {
        let commands = strangers.into_iter().map(|one| {
            let ObjectName { namespace, name, .. } = &one.name;
            let namespace = namespace.as_deref().unwrap_or_default();
            format!("kubectl delete {kind} {name} --namespace {namespace}")
        });
        commands.collect::<Vec<_>>().join("; ")
    };
    let bindings: Vec<&Object> = of(Kind::RoleBinding).collect();
    if !bindings.is_empty() {
        draft.find(Finding::holds(
            ConditionKind::NeedsAdministrator,
            "ForeignBinding",
            format!(
                "others have rights in the job namespace that forerunner did not give, and may reach what jobs can do; {}",
                commands("rolebinding", bindings)
            ),
        ));
    }
    let opens = |one: &&Object| {
        ["egress", "ingress"]
            .iter()
            .any(|way| one.body["spec"][way].as_array().is_some_and(|rules| !rules.is_empty()))
    };
    let policies: Vec<&Object> = of(Kind::NetworkPolicy).filter(opens).collect();
    if !policies.is_empty() {
        draft.find(Finding::holds(
            ConditionKind::NeedsAdministrator,
            "ForeignPolicy",
            format!(
                "another policy opens what forerunner's keeps shut to jobs; {}",
                commands("networkpolicy", policies)
            ),
        ));
    }
}

/// A namespace that is going away is waited for; one that is not ours is never touched.
fn namespace_is_usable(
    draft: &mut Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &DomainObserved,
) -> bool {
    let name = names::job_namespace(&context.fleet.name, spec);
    let Some(live) = observed.object(&ObjectName::of_cluster(Kind::Namespace, &name)) else {
        if spec.kubernetes.namespace.is_some() {
            draft.block(format!(
                "namespace `{name}` does not exist: an administrator makes it, or leave `kubernetes.namespace` out"
            ));
        }
        return spec.kubernetes.namespace.is_none();
    };
    if live.is_terminating() {
        draft.wait_patiently(
            SignedDuration::from_secs(30),
            format!("namespace `{name}` is going away"),
        );
        return false;
    }
    let installation = live.label(names::LABEL_INSTALLATION);
    let ours = live.label(names::LABEL_FLEET) == Some(context.fleet.name.as_str())
        && installation.is_none_or(|id| id == context.installation.0);
    if !ours {
        let label = format!("{}={}", names::LABEL_FLEET, context.fleet.name);
        draft.block(format!(
            "namespace `{name}` is not ours: it lacks the label {label}, or another installation made it"
        ));
    }
    ours
}

fn draft_managed(
    draft: &mut Draft,
    domain: &mut DomainDraft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &DomainObserved,
    tags: &BTreeMap<String, String>,
    roles: &[Grant],
) -> Option<StepId> {
    let IdentityObserved::Managed { issuer, id, identity, credentials, assignments } =
        &observed.identity
    else {
        return None;
    };
    let key = names::domain_key(&spec.key, spec.isolation);
    let location =
        context.fleet.azure.as_ref().map(|azure| azure.location.clone()).unwrap_or_default();
    let tags = with_marker_tags(tags, &context.fleet.name, context.installation, &key);
    let wanted = credential(spec, &context.fleet.name, issuer);
    let made = match identity {
        None => {
            let step = Step::CreateIdentity { id: id.clone(), location, tags: tags.clone() };
            Some(draft.add(step, []))
        }
        Some(identity) if !is_ours(identity, &context.fleet.name, context.installation, &key) => {
            let of_fleet = identity.tags.get(names::TAG_FLEET).map(String::as_str);
            let remedy = if of_fleet == Some(context.fleet.name.as_str()) {
                "it is of another installation of this fleet: if the cluster was rebuilt, run `forerunner adopt --fleet`"
            } else {
                "remove or rename it, or give it the tags forerunner-fleet, forerunner-installation and forerunner-key"
            };
            draft.block(format!(
                "identity `{}` exists and does not bear our tags: {remedy}",
                id.name()
            ));
            return None;
        }
        Some(_) => None,
    };
    let trusted = credentials.contains(&wanted);
    let trust = (!trusted).then(|| {
        let step = Step::TrustServiceAccount { identity: id.clone(), credential: wanted.clone() };
        draft.add(step, made)
    });
    draft_tags(draft, id, identity.as_ref(), tags, credentials, &wanted, trust);
    let foreign = foreign_rights(roles, assignments);
    let removed = rights::draft_foreign(draft, spec, context, id, credentials, &foreign);
    let missing = missing_grants(roles, assignments);
    for grant in &missing {
        let principal = match (identity, made) {
            (Some(identity), _) => Given::Known(identity.principal_id),
            (None, Some(step)) => Given::From(step),
            (None, None) => continue,
        };
        let description =
            names::assignment_description(&context.fleet.name, context.installation, &key);
        let assign = Step::AssignRole { grant: (*grant).clone(), principal, description };
        match rights::in_the_way(grant, assignments).map(|narrowed| removed.get(&narrowed.name)) {
            None => draft.add(assign, made),
            Some(Some(gone)) => draft.add(assign, [*gone]),
            // Told with the command that clears the way.
            Some(None) => continue,
        };
    }
    if trusted {
        draft_surplus(draft, context, id, &key, credentials, &wanted);
    }
    domain.seen = identity.is_some() && trusted && missing.is_empty();
    made
}

/// Credentials of ours for another issuer or subject, such as of a cluster that was rebuilt: doors for nobody, once the
/// one of today is there.
fn draft_surplus(
    draft: &mut Draft,
    context: &Context<'_>,
    id: &ResourceId,
    key: &str,
    credentials: &[FederatedCredential],
    wanted: &FederatedCredential,
) {
    let ours = |one: &&FederatedCredential| {
        one.name != wanted.name && names::is_credential_of(&context.fleet.name, key, &one.name)
    };
    let mut last = None;
    for surplus in credentials.iter().filter(ours) {
        let (identity, name) = (id.clone(), surplus.name.clone());
        // One at a time: Entra refuses concurrent writes under one identity (azure.md §4.3).
        last = Some(draft.add(Step::RemoveCredential { identity, name }, last));
    }
}

/// The tags follow the credential: a digest that runs ahead would hide a missing credential from the sweep.
fn draft_tags(
    draft: &mut Draft,
    id: &ResourceId,
    identity: Option<&Identity>,
    mut tags: BTreeMap<String, String>,
    credentials: &[FederatedCredential],
    wanted: &FederatedCredential,
    trust: Option<StepId>,
) {
    let mut after: Vec<FederatedCredential> =
        credentials.iter().filter(|credential| credential.name != wanted.name).cloned().collect();
    after.push(wanted.clone());
    tags.insert(names::TAG_CREDENTIALS.to_owned(), credentials_digest(&after));
    if identity.is_none_or(|identity| {
        tags.iter().any(|(key, value)| identity.tags.get(key) != Some(value))
    }) {
        // A person's extra tags stay.
        let mut all = identity.map(|identity| identity.tags.clone()).unwrap_or_default();
        all.extend(tags);
        draft.add(Step::TagIdentity { id: id.clone(), tags: all }, trust);
    }
}

fn with_marker_tags(
    tags: &BTreeMap<String, String>,
    fleet: &FleetName,
    installation: &InstallationId,
    key: &str,
) -> BTreeMap<String, String> {
    let mut all = tags.clone();
    all.insert(names::TAG_FLEET.to_owned(), fleet.to_string());
    all.insert(names::TAG_INSTALLATION.to_owned(), installation.to_string());
    all.insert(names::TAG_KEY.to_owned(), key.to_owned());
    all
}

fn is_ours(
    identity: &Identity,
    fleet: &FleetName,
    installation: &InstallationId,
    key: &str,
) -> bool {
    let tag = |name: &str| identity.tags.get(name).map(String::as_str);
    tag(names::TAG_FLEET) == Some(fleet.as_str())
        && tag(names::TAG_INSTALLATION) == Some(&installation.0)
        && tag(names::TAG_KEY) == Some(key)
}

/// The one credential of this domain.
pub(crate) fn credential(
    spec: &RunnerSpec,
    fleet: &FleetName,
    issuer: &str,
) -> FederatedCredential {
    let subject = names::subject(&names::job_namespace(fleet, spec), &names::job_account(spec));
    let key = names::domain_key(&spec.key, spec.isolation);
    FederatedCredential {
        name: names::credential(fleet, &key, issuer, &subject),
        issuer: issuer.to_owned(),
        subject: Some(subject),
        audiences: vec![names::AUDIENCE.to_owned()],
    }
}

/// Digest of an identity's credentials, in any order.
pub fn credentials_digest(credentials: &[FederatedCredential]) -> String {
    let mut pairs: Vec<String> = credentials
        .iter()
        .map(|one| {
            let FederatedCredential { name, issuer, subject, audiences } = one;
            format!(
                "{name}|{issuer}|{}|{}",
                subject.as_deref().unwrap_or_default(),
                audiences.join(",")
            )
        })
        .collect();
    pairs.sort();
    names::hash(&pairs.join("\n"))[..16].to_owned()
}

fn draft_existing<'a>(
    draft: &mut Draft,
    domain: &mut DomainDraft,
    spec: &RunnerSpec,
    chosen: &Choice<'a>,
    expect: &[Grant],
) -> AccountIdentity<'a> {
    let candidate = match *chosen {
        Choice::Holds(candidate) => {
            domain.seen = true;
            candidate
        }
        Choice::Ask(candidate) => {
            draft.wake(Unit::Identity(names::identity_unit(&candidate.id)));
            draft.wait(SOON, format!("identity `{}` to answer", candidate.id.name()));
            candidate
        }
        Choice::Missing(id) => {
            draft.block(format!(
                "identity `{}` does not exist, or forerunner may not read it: an administrator makes it, or corrects `identity.existing`",
                id.name()
            ));
            return AccountIdentity::default();
        }
        Choice::Full => {
            draft.block(format!(
                "every identity of profile `{}` already holds {CREDENTIALS_MAX} federated credentials: list another one under `identity.existing`",
                spec.key.profile
            ));
            return AccountIdentity::default();
        }
    };
    rights::draft_expected(draft, candidate, expect);
    AccountIdentity { identity: candidate.identity.as_ref(), asks: Some(&candidate.id) }
}

enum Choice<'a> {
    Holds(&'a Candidate),
    Ask(&'a Candidate),
    Missing(&'a ResourceId),
    Full,
}

/// The one holding the account's credential, else the first of the list with room; one that refused comes last, and is
/// asked again once it has room.
fn choose<'a>(
    candidates: &'a [Candidate],
    wanted: &FederatedCredential,
    account: Option<&Object>,
) -> Choice<'a> {
    if let Some(holder) = candidates.iter().find(|candidate| candidate.credentials.contains(wanted))
    {
        return Choice::Holds(holder);
    }
    let answer = account.and_then(|account| account.annotation(names::ANNOTATION_IDENTITY_ANSWER));
    let refused =
        answer.and_then(|answer| answer.strip_prefix("refused ")).and_then(ResourceId::new);
    let with_room = candidates.iter().filter(|candidate| {
        candidate.identity.is_some() && candidate.credentials.len() < CREDENTIALS_MAX
    });
    let best = with_room.min_by_key(|candidate| refused.as_ref() == Some(&candidate.id));
    match (best, candidates.iter().find(|candidate| candidate.identity.is_none())) {
        (Some(first), _) => Choice::Ask(first),
        (None, Some(missing)) => Choice::Missing(&missing.id),
        (None, None) => Choice::Full,
    }
}
