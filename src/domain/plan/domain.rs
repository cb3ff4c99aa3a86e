//! The trust domain: namespace, job account, identity, credential and roles: what decides what a job may do in Azure.

mod existing;
mod managed;

pub use managed::credentials_digest;
pub(crate) use managed::{credential, is_ours};

use super::{Draft, Plan, identity, left::draft_left, unlabelled};
use crate::domain::{
    azure::{Identity, ResourceId},
    ids::FleetName,
    kubernetes::{Kind, Object, ObjectName},
    names,
    observed::{Candidate, DomainObserved, IdentityObserved},
    render::{self, Context},
    spec::{FleetSettings, IdentitySpec, RunnerSpec},
    status::{ConditionKind, Finding},
    step::{Step, StepId},
};
use existing::{choose, draft_existing};
use jiff::SignedDuration;
use managed::draft_managed;
use uuid::Uuid;

/// How soon to look again at what other machines are still doing.
pub(crate) const SOON: SignedDuration = SignedDuration::from_secs(15);
/// An identity holds this many federated credentials and no more (azure.md §4.2).
pub const CREDENTIALS_MAX: usize = 20;

/// What the runner's own part of a plan needs to know of its domain's part.
#[derive(Debug, Default)]
pub(crate) struct DomainDraft {
    /// The step that makes the job namespace, if it has to be made.
    pub(crate) namespace: Option<StepId>,
    /// The principal whose credential and every role were seen, so that settling may begin.
    pub(crate) seen: Option<Uuid>,
    /// Whether the profile has an identity at all.
    pub(crate) has_identity: bool,
    /// Whether jobs have, or get in this round, a namespace of ours that stays.
    pub(crate) usable: bool,
    /// Whether nothing of it is left to be made or mended.
    pub(crate) stands: bool,
}

/// Plans the round of a domain that a whole profile shares. `left`: the identity that it had before.
pub fn plan(
    spec: &RunnerSpec,
    fleet: &FleetSettings,
    observed: &DomainObserved,
    left: Option<&Candidate>,
) -> Plan {
    let mut draft = Draft::default();
    let context = Context {
        fleet,
        installation: &observed.installation,
        api_server: &observed.api_server,
        gitlab_ca: observed.gitlab_ca.as_deref(),
    };
    let domain = draft_domain(&mut draft, spec, &context, observed);
    let deployed = if draft.mends() {
        Finding::fails(
            ConditionKind::Deployed,
            "Progressing",
            "the domain's objects are being applied",
        )
    } else {
        Finding::holds(ConditionKind::Deployed, "Applied", "every object of the domain is in place")
    };
    draft.find(deployed);
    draft.find(identity_finding(&domain, domain.seen.is_some()));
    draft_left(&mut draft, &context, &names::domain_key(&spec.key, spec.isolation), left);
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

/// Into a draft that holds nothing else yet.
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
    domain.stands = !draft.mends();
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
    let is_labelled = live.label(names::LABEL_FLEET) == Some(context.fleet.name.as_str());
    let ours = is_labelled && installation.is_none_or(|id| id == context.installation.0);
    if !is_labelled {
        draft.block(unlabelled(&live.name, &context.fleet.name));
    } else if !ours {
        draft.block(format!("namespace `{name}` is not ours: another installation made it"));
    }
    ours
}
