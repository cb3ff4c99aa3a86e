//! A managed identity: one of the domain's own, with its tags, its credential and its roles.

use super::DomainDraft;
use crate::domain::{
    azure::{FederatedCredential, Identity, ResourceId},
    ids::{FleetName, InstallationId},
    names,
    observed::{DomainObserved, IdentityObserved},
    plan::{
        Draft,
        rights::{self, foreign_rights, missing_grants, surplus_rights},
    },
    render::Context,
    spec::{Grant, RunnerSpec},
    step::{Given, Step, StepId},
};
use std::collections::BTreeMap;

pub(super) fn draft_managed(
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
            let tag = |name: &str| identity.tags.get(name).map(String::as_str);
            let of_fleet = tag(names::TAG_FLEET) == Some(context.fleet.name.as_str());
            let elsewhere = tag(names::TAG_INSTALLATION)
                .is_some_and(|installation| installation != context.installation.0);
            let remedy = if of_fleet && elsewhere {
                "it is of another installation of this fleet: if the cluster was rebuilt, run `forerunner adopt --fleet`"
                    .to_owned()
            } else {
                let marks = [names::TAG_FLEET, names::TAG_INSTALLATION, names::TAG_KEY];
                let marks = marks.map(|mark| format!("{mark}={}", tags[mark]));
                format!(
                    "if it was ours, give them back (`az tag update --resource-id \"{id}\" --operation merge --tags {}`); a stranger's is \
                     renamed or removed",
                    marks.join(" ")
                )
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
    rights::draft_surplus(draft, context, &surplus_rights(roles, assignments));
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
    let whole = trusted && missing.is_empty();
    domain.seen = identity.as_ref().filter(|_| whole).map(|identity| identity.principal_id);
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

pub(crate) fn is_ours(
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
