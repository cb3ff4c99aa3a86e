//! The round of an existing identity: the one writer of its federated credentials, which hands out its places.

use super::{
    Draft, Plan,
    domain::{CREDENTIALS_MAX, SOON},
};
use crate::domain::{
    azure::{FederatedCredential, Identity, ResourceId},
    fleet::Fleet,
    ids::{FleetName, RunnerKey, TargetId, Unit},
    kubernetes::{Object, ObjectName},
    names,
    spec::Isolation,
    status::{ConditionKind, Finding},
    step::{Step, StepId},
};
use std::collections::BTreeSet;

/// What the round of an existing identity looks at.
#[derive(Clone, Debug)]
pub struct IdentityRound {
    pub id: ResourceId,
    pub issuer: String,
    /// `None`: it does not exist, or we may not see it.
    pub identity: Option<Identity>,
    /// `None` with it.
    pub credentials: Option<Vec<FederatedCredential>>,
    /// Every job account of the fleet that names this identity and needs it.
    pub accounts: Vec<Object>,
    /// Those that name it elsewhere, such as where jobs of their profile ran before.
    pub former: Vec<Object>,
    /// Which managers are bound where; only asked for where there are former accounts.
    pub bindings: Vec<Object>,
    /// Those that name it and need it no longer.
    pub returning: Vec<Object>,
}

/// Where a job account stands that may name the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Jobs of its profile run there.
    Present,
    /// They did, before the file said another one; or somebody says so.
    Former,
}

/// What the round does not touch, and looks at again once it may.
#[derive(Clone, Debug, Default)]
pub struct Resting {
    /// Units that an operator holds.
    pub held: BTreeSet<Unit>,
    /// A freeze allows at most what was there before.
    pub frozen: bool,
}

impl Resting {
    /// Whether nothing may be done for the unit of this key. `restores`: it would only be as it was.
    fn stops(&self, key: Option<&str>, restores: bool) -> bool {
        let unit = key.and_then(names::unit_of_key);
        unit.is_some_and(|unit| self.held.contains(&unit)) || (self.frozen && !restores)
    }
}

/// Where a job account stands whose profile lists the identity. It may ask for it if namespace and name are those of its key's, too:
/// labels and annotations alone prove nothing, for who may edit an account could write them. One that stands elsewhere gets nothing.
pub fn place(fleet: &Fleet, id: &ResourceId, account: &Object) -> Option<Place> {
    let (profile, isolation, target) = match names::unit_of_key(account.label(names::LABEL_KEY)?)? {
        Unit::Runner(key) => (key.profile, Isolation::Target, key.target),
        Unit::Domain(profile) => (profile, Isolation::Profile, TargetId::Instance),
        Unit::Target(_) | Unit::Identity(_) => return None,
    };
    let lists = fleet
        .existing_identities()
        .get(&names::identity_unit(id))
        .is_some_and(|(_, by)| by.contains(&profile));
    let found = fleet.profile(&profile)?;
    let key = RunnerKey { target, profile: profile.clone() };
    let namespace = names::namespace_of(
        &fleet.settings().name,
        &key,
        isolation,
        found.kubernetes.namespace.as_deref(),
    );
    let name = found.kubernetes.service_account.as_deref().unwrap_or(names::JOB_ACCOUNT);
    let is_present = found.isolation == isolation
        && account.name.namespace.as_deref() == Some(&namespace)
        && account.name.name == name;
    lists.then_some(if is_present { Place::Present } else { Place::Former })
}

/// What a job account's answer begins with once its domain leaves.
const GIVEN_BACK: &str = "returned ";

/// What a job account says that needs its credential no longer: only the identity's own round takes it away.
pub fn given_back(id: &ResourceId) -> String {
    format!("{GIVEN_BACK}{id}")
}

/// Whether a job account has said so.
pub fn gives_back(account: &Object) -> bool {
    let answer = account.annotation(names::ANNOTATION_IDENTITY_ANSWER);
    answer.is_some_and(|answer| answer.starts_with(GIVEN_BACK))
}

/// Grants the oldest accounts first and marks those for which there is no room.
pub fn plan(fleet: &FleetName, observed: &IdentityRound, resting: &Resting) -> Plan {
    let mut draft = Draft::default();
    let name = observed.id.name();
    let (Some(identity), Some(credentials)) = (&observed.identity, &observed.credentials) else {
        draft.block(format!("identity `{name}` does not exist, or forerunner may not read it"));
        return draft.finish(SOON);
    };
    let mut accounts: Vec<&Object> = observed.accounts.iter().collect();
    accounts.sort_by_key(|account| {
        let created = account.body["metadata"]["creationTimestamp"].as_str().unwrap_or_default();
        (created.to_owned(), account.name.clone())
    });
    let mut places = CREDENTIALS_MAX.saturating_sub(credentials.len());
    let mut last: Option<StepId> = None;
    let mut asked = BTreeSet::new();
    let mut put_off = 0;
    for account in accounts {
        let Some(wanted) = credential_of(fleet, account, &observed.issuer) else { continue };
        asked.insert(wanted.name.clone());
        let held = credentials.contains(&wanted);
        let replaces = credentials.iter().any(|one| one.name == wanted.name);
        let granted = held || replaces || places > 0;
        if granted && !held {
            // Whoever is put off keeps its place.
            places = places.saturating_sub(usize::from(!replaces));
        }
        let told = account.annotation(names::ANNOTATION_IDENTITY_ANSWER);
        let is_done = granted == held && told == Some(&answer(&observed.id, granted));
        let restores = held || told == Some(&answer(&observed.id, true));
        if !is_done && resting.stops(account.label(names::LABEL_KEY), restores) {
            put_off += 1;
            continue;
        }
        if granted && !held {
            let step =
                Step::TrustServiceAccount { identity: observed.id.clone(), credential: wanted };
            // One at a time: Entra refuses concurrent writes under one identity (azure.md §4.3).
            last = Some(draft.add(step, last));
        }
        draft_answer(&mut draft, &observed.id, account, granted, last.filter(|_| !held));
        // Made anew it has other ids, under the name that was granted.
        let client = identity.client_id.to_string();
        if granted && account.annotation(names::ANNOTATION_CLIENT) != Some(&client) {
            wake_owner(&mut draft, account);
        }
    }
    // Nothing is taken from under a job: as long as a manager is bound there, it can run some (decision 0026).
    let used = observed.former.iter().filter(|account| is_bound(account, &observed.bindings));
    let used = used.filter_map(|account| credential_of(fleet, account, &observed.issuer));
    let used: BTreeSet<String> = used.map(|one| one.name).collect();
    // A credential of ours that no account asks for is a door for nobody: the complete list of accounts says so. One
    // for another issuer may be another installation's, unless an account of ours gives it back.
    let prefix = names::credential_prefix(fleet);
    let returned = |one: &FederatedCredential| {
        let mut keys =
            observed.returning.iter().filter_map(|account| account.label(names::LABEL_KEY));
        keys.any(|key| names::is_credential_of(fleet, key, &one.name))
    };
    let surplus = credentials.iter().filter(|one| {
        one.name.starts_with(&prefix)
            && (one.issuer == observed.issuer || returned(one))
            && !asked.contains(&one.name)
            && !used.contains(&one.name)
    });
    for credential in surplus {
        if resting.stops(names::key_of_credential(fleet, &credential.name), false) {
            put_off += 1;
            continue;
        }
        let (identity, name) = (observed.id.clone(), credential.name.clone());
        last = Some(draft.add(Step::RemoveCredential { identity, name }, last));
    }
    for account in &observed.returning {
        wake_owner(&mut draft, account);
    }
    let left = credentials.iter().filter(|one| used.contains(&one.name)).count();
    draft.find(finding(put_off, left, CREDENTIALS_MAX - places));
    draft.finish(SOON)
}

/// What waits is not as it should be, though no round but a later one mends it: the sweep looks again.
fn finding(put_off: usize, left: usize, taken: usize) -> Finding {
    let fails = |reason, message| Finding::fails(ConditionKind::IdentityReady, reason, message);
    match (put_off, left) {
        (0, 0) => Finding::holds(
            ConditionKind::IdentityReady,
            "Granted",
            format!("{taken} of {CREDENTIALS_MAX} places are taken"),
        ),
        (0, left) => fails(
            "StillBound",
            format!(
                "{left} credential(s) stay as long as a manager can run jobs where they ran before"
            ),
        ),
        (put_off, _) => fails(
            "PutOff",
            format!("{put_off} place(s) are given or taken once a hold or a freeze is over"),
        ),
    }
}

/// Whether a manager of the account's profile is bound in its namespace.
fn is_bound(account: &Object, bindings: &[Object]) -> bool {
    let unit = |object: &Object| object.label(names::LABEL_KEY).and_then(names::unit_of_key);
    let profile = match unit(account) {
        Some(Unit::Runner(key)) => key.profile,
        Some(Unit::Domain(profile)) => profile,
        Some(Unit::Target(_) | Unit::Identity(_)) | None => return false,
    };
    bindings.iter().filter(|one| one.name.namespace == account.name.namespace).any(|one| {
        let Some(Unit::Runner(key)) = unit(one) else { return false };
        key.profile == profile && one.name.name == names::manager(&key)
    })
}

/// The credential that a job account needs, from the account alone.
fn credential_of(fleet: &FleetName, account: &Object, issuer: &str) -> Option<FederatedCredential> {
    let namespace = account.name.namespace.as_deref()?;
    let key = account.label(names::LABEL_KEY)?;
    let subject = names::subject(namespace, &account.name.name);
    Some(FederatedCredential {
        name: names::credential(fleet, key, issuer, &subject),
        issuer: issuer.to_owned(),
        subject: Some(subject),
        audiences: vec![names::AUDIENCE.to_owned()],
    })
}

/// What an account is told.
fn answer(id: &ResourceId, granted: bool) -> String {
    format!("{} {id}", if granted { "granted" } else { "refused" })
}

/// Tells the account, and wakes the runner that waits for the answer.
fn draft_answer(
    draft: &mut Draft,
    id: &ResourceId,
    account: &Object,
    granted: bool,
    after: Option<StepId>,
) {
    let answer = answer(id, granted);
    if account.annotation(names::ANNOTATION_IDENTITY_ANSWER) == Some(&answer) {
        return;
    }
    let name: ObjectName = account.name.clone();
    draft.add(Step::AnswerAccount { account: name, answer }, after);
    wake_owner(draft, account);
}

/// Wakes the unit whose account it is.
fn wake_owner(draft: &mut Draft, account: &Object) {
    if let Some(unit) = account.label(names::LABEL_KEY).and_then(names::unit_of_key) {
        draft.wake(unit);
    }
}
