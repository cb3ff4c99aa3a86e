//! Who may do what in Azure through the fleet's jobs, for whoever has to answer for it. Only reads.

use super::View;
use crate::{
    domain::{
        azure::{GivenRole, Identity, ResourceId},
        fleet::{
            Allowance, Exception, Fleet, IdentityTemplate, Profile, TargetFacts, WantedState, roles,
        },
        ids::{ProfileName, RunnerKey, TargetId, Unit},
        names,
        selector::Selector,
        spec::{Grant, IdentitySpec, Isolation},
    },
    reconcile::{Failure, tree},
};
use futures::{future::join_all, join};
use jiff::{Timestamp, civil::Date};
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Every identity that the fleet's jobs sign in with.
#[derive(Debug, Default, Serialize)]
pub struct AccessReport {
    pub identities: Vec<IdentityAccess>,
    /// What could not be read: rights may be missing here because of it.
    pub problems: Vec<String>,
}

/// One identity: what it may do, and whose jobs are it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityAccess {
    pub id: ResourceId,
    pub kind: IdentityKind,
    /// Missing where the identity is not there, or not shown to us.
    pub principal_id: Option<Uuid>,
    pub reached_by: Vec<Reach>,
    pub rights: Vec<Right>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityKind {
    /// forerunner made it.
    Managed,
    /// An administrator made it; forerunner only adds who may sign in.
    Existing,
}

/// A target whose jobs sign in as the identity: those of a group are the jobs of every project below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// Its path when read.
    pub path: String,
    pub target: TargetId,
    #[serde(serialize_with = "as_text")]
    pub profile: ProfileName,
    /// Only jobs on protected branches and tags.
    pub protected: bool,
    /// `target`: the identity is this target's own; `profile`: all of the profile share it.
    pub isolation: &'static str,
    /// It is one of several identities that the profile names: which one a target got, its status says.
    pub one_of_several: bool,
    /// Why its runner takes no jobs now.
    pub held: Option<String>,
}

/// A role at a scope that the identity has, or should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Right {
    pub role: String,
    pub role_id: Uuid,
    pub scope: ResourceId,
    pub given_by: Giver,
    /// Who gave it, where that was not forerunner and Azure says.
    pub given_by_principal: Option<Uuid>,
    pub standing: RightStanding,
    /// The condition on the assignment, which narrows it.
    pub condition: Option<String>,
    /// Who answers for what the defaults forbid, and until when.
    pub exceptions: Vec<Answerable>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Giver {
    Forerunner,
    Others,
    Nobody,
}

/// How a right stands to what the file asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RightStanding {
    AsAsked,
    /// The file asks for it and it is not there.
    Missing,
    /// It is there and the file does not ask for it.
    NotAsked,
}

/// An exception of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answerable {
    pub name: String,
    pub until: Date,
    pub ended: bool,
}

/// What is known of one identity before its rights are looked up.
#[derive(Default)]
struct Known {
    reached_by: BTreeSet<Reach>,
    asked: BTreeSet<Grant>,
    profiles: BTreeSet<ProfileName>,
    principal: Option<Uuid>,
}

impl View {
    /// Reads GitLab's tree, the fleet's identities, and the assignments where the file gives or expects roles; Resource
    /// Graph adds what lies elsewhere in those subscriptions.
    ///
    /// `of` keeps the identities that these targets reach. Errors: without GitLab's tree there is no report.
    pub async fn access(&self, of: &[Selector]) -> Result<AccessReport, Failure> {
        let targets = tree::targets(&self.clients, &self.fleet).await?;
        let now = self.clock.now();
        let mut known: BTreeMap<(IdentityKind, ResourceId), Known> = BTreeMap::new();
        for read in &targets {
            let hold = read.hold.as_ref().map(|hold| hold.message());
            for (identity, reach, asked) in reaches(&self.fleet, &read.facts, hold, now) {
                let one = known.entry(identity).or_default();
                one.profiles.insert(reach.profile.clone());
                one.reached_by.insert(reach);
                one.asked.extend(asked);
            }
        }
        let mut problems = Vec::new();
        self.look_up(&mut known, &mut problems).await;
        let scopes: BTreeSet<ResourceId> = known
            .values()
            .flat_map(|one| one.asked.iter().map(|grant| grant.scope.clone()))
            .chain(self.fleet.guardrails().scopes.iter().cloned())
            .collect();
        let given = self.given(&scopes, &known, &mut problems).await;
        let mut identities: Vec<IdentityAccess> = known
            .into_iter()
            .filter(|(_, one)| {
                of.is_empty()
                    || one.reached_by.iter().any(|reach| of.iter().any(|word| takes(word, reach)))
            })
            .map(|((kind, id), one)| IdentityAccess {
                rights: rights(&self.fleet, &one, &given, now),
                kind,
                id,
                principal_id: one.principal,
                reached_by: one.reached_by.into_iter().collect(),
            })
            .collect();
        identities.sort_by(|left, right| left.id.name().cmp(right.id.name()));
        Ok(AccessReport { identities, problems })
    }

    /// Finds the principals, and the managed identities that no rule gives any more.
    async fn look_up(
        &self,
        known: &mut BTreeMap<(IdentityKind, ResourceId), Known>,
        problems: &mut Vec<String>,
    ) {
        let settings = self.fleet.settings();
        let arm = self.clients.arm();
        let managed = async {
            let azure = settings.azure.as_ref()?;
            Some(arm.identities_in(azure.subscription, &azure.resource_group).await)
        };
        for (id, by) in self.fleet.existing_identities().into_values() {
            known.entry((IdentityKind::Existing, id)).or_default().profiles.extend(by);
        }
        let lent: Vec<ResourceId> = known
            .keys()
            .filter(|(kind, _)| *kind == IdentityKind::Existing)
            .map(|(_, id)| id.clone())
            .collect();
        let lent_read = join_all(lent.iter().map(|id| arm.identity(id)));
        let (managed, lent_read) = join!(managed, lent_read);
        let found: Vec<Identity> = match managed {
            None => vec![],
            Some(Ok(Some(all))) => all,
            Some(Ok(None)) => {
                problems.push("Azure shows no list of the managed identities".to_owned());
                vec![]
            }
            Some(Err(error)) => {
                problems.push(format!("the managed identities: {}", Failure::from(error).text));
                vec![]
            }
        };
        let ours = found.into_iter().filter(|one| {
            one.tags.get(names::TAG_FLEET).map(String::as_str) == Some(settings.name.as_str())
        });
        for identity in ours {
            let one = known.entry((IdentityKind::Managed, identity.id.clone())).or_default();
            one.principal = Some(identity.principal_id);
        }
        for (id, read) in lent.into_iter().zip(lent_read) {
            match read {
                Ok(Some(identity)) => {
                    let one = known.entry((IdentityKind::Existing, id)).or_default();
                    one.principal = Some(identity.principal_id);
                }
                Ok(None) => problems.push(format!(
                    "identity `{}` does not exist, or forerunner may not read it",
                    id.name()
                )),
                Err(error) => problems.push(format!(
                    "identity `{}`: {}",
                    id.name(),
                    Failure::from(error).text
                )),
            }
        }
    }

    /// What others and we gave to the known principals, by principal.
    async fn given(
        &self,
        scopes: &BTreeSet<ResourceId>,
        known: &BTreeMap<(IdentityKind, ResourceId), Known>,
        problems: &mut Vec<String>,
    ) -> BTreeMap<Uuid, Vec<GivenRole>> {
        let arm = self.clients.arm();
        let outermost: Vec<&ResourceId> = scopes
            .iter()
            .filter(|scope| !scopes.iter().any(|outer| outer != *scope && outer.contains(scope)))
            .collect();
        let subscriptions: BTreeSet<Uuid> = scopes
            .iter()
            .chain(known.keys().map(|(_, id)| id))
            .filter_map(|scope| scope.subscription()?.parse().ok())
            .collect();
        let subscriptions: Vec<Uuid> = subscriptions.into_iter().collect();
        let listed = join_all(outermost.iter().map(|scope| arm.given_at(scope)));
        let elsewhere = async {
            match subscriptions.is_empty() {
                true => Ok(vec![]),
                false => arm.graph_given(&subscriptions).await,
            }
        };
        let (listed, elsewhere) = join!(listed, elsewhere);
        let mut all = Vec::new();
        for (scope, read) in outermost.into_iter().zip(listed) {
            match read {
                Ok(Some(found)) => all.extend(found),
                Ok(None) => problems.push(format!(
                    "the rights at `{scope}`: it does not exist, or forerunner may not read it"
                )),
                Err(error) => {
                    problems
                        .push(format!("the rights at `{scope}`: {}", Failure::from(error).text));
                }
            }
        }
        match elsewhere {
            // What a list shows is true now; Resource Graph lags.
            Ok(found) => {
                all.extend(found.into_iter().filter(|one| {
                    !scopes.iter().any(|scope| scope.contains(&one.assignment.scope))
                }))
            }
            Err(error) => problems.push(format!(
                "rights elsewhere than the file gives or expects any are not shown: {}",
                Failure::from(error).text
            )),
        }
        let principals: BTreeSet<Uuid> = known.values().filter_map(|one| one.principal).collect();
        let mut given: BTreeMap<Uuid, Vec<GivenRole>> = BTreeMap::new();
        for one in all {
            let of = given.entry(one.assignment.principal_id).or_default();
            if principals.contains(&one.assignment.principal_id) && !of.contains(&one) {
                of.push(one);
            }
        }
        given
    }
}

type Reached = ((IdentityKind, ResourceId), Reach, Vec<Grant>);

/// Which identities a target's jobs sign in with, and what these are to be allowed.
fn reaches(
    fleet: &Fleet,
    facts: &TargetFacts,
    hold: Option<String>,
    now: Timestamp,
) -> Vec<Reached> {
    let mut found = Vec::new();
    for wanted in fleet.wanted_at(facts, now) {
        let Some(profile) = fleet.profile(&wanted.profile) else { continue };
        let key = RunnerKey { target: facts.id, profile: wanted.profile.clone() };
        let (asked, held) = match &wanted.state {
            WantedState::Runner(spec) => (asked(&spec.identity), hold.clone()),
            WantedState::NeedsValue { placeholder } => {
                (vec![], Some(format!("needs {placeholder}")))
            }
            WantedState::Withdrawn { reason } => (vec![], Some(format!("withdrawn: {reason}"))),
            WantedState::OutsideGuardrails { problems, .. } => {
                (vec![], Some(format!("outside the guardrails: {}", problems.join("; "))))
            }
            WantedState::ExceptionEnded { exception, until } => {
                (vec![], Some(format!("the exception {exception} ended on {until}")))
            }
            WantedState::AnchorMoved { anchor, .. } => {
                (vec![], Some(format!("the anchor group {anchor} has moved")))
            }
        };
        let identities = identities(fleet, profile, &key);
        let reach = Reach {
            path: facts.path.clone(),
            target: facts.id,
            profile: wanted.profile,
            protected: profile.runner.protected,
            isolation: match profile.isolation {
                Isolation::Target => "target",
                Isolation::Profile => "profile",
            },
            one_of_several: identities.len() > 1,
            held,
        };
        let each = identities.into_iter().map(|id| (id, reach.clone(), asked.clone()));
        found.extend(each);
    }
    found
}

fn asked(identity: &IdentitySpec) -> Vec<Grant> {
    match identity {
        IdentitySpec::None => vec![],
        IdentitySpec::Managed { roles: grants, .. }
        | IdentitySpec::Existing { expect: grants, .. } => grants.clone(),
    }
}

fn identities(
    fleet: &Fleet,
    profile: &Profile,
    key: &RunnerKey,
) -> Vec<(IdentityKind, ResourceId)> {
    match &profile.identity {
        IdentityTemplate::None => vec![],
        IdentityTemplate::Managed { .. } => {
            let settings = fleet.settings();
            let name = names::identity(&settings.name, &names::domain_key(key, profile.isolation));
            let azure = settings.azure.as_ref();
            let id = azure.and_then(|azure| {
                ResourceId::new(&format!(
                    "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}",
                    azure.subscription, azure.resource_group
                ))
            });
            id.map(|id| (IdentityKind::Managed, id)).into_iter().collect()
        }
        IdentityTemplate::Existing { candidates, .. } => {
            candidates.iter().map(|id| (IdentityKind::Existing, id.clone())).collect()
        }
    }
}

/// What is there, and then what is asked for and is not.
fn rights(
    fleet: &Fleet,
    known: &Known,
    given: &BTreeMap<Uuid, Vec<GivenRole>>,
    now: Timestamp,
) -> Vec<Right> {
    let held = known.principal.and_then(|principal| given.get(&principal));
    let held = held.map_or(&[][..], Vec::as_slice);
    let asks = |role: Uuid, scope: &ResourceId| {
        known.asked.iter().find(|grant| grant.role == role && grant.scope == *scope)
    };
    let mut rights: Vec<Right> = held
        .iter()
        .map(|GivenRole { assignment, by }| {
            let own =
                names::role_assignment(&assignment.scope, assignment.principal_id, assignment.role);
            let ours = assignment.name == own;
            let asked = asks(assignment.role, &assignment.scope);
            Right {
                role: role_name(assignment.role, asked),
                role_id: assignment.role,
                scope: assignment.scope.clone(),
                given_by: if ours { Giver::Forerunner } else { Giver::Others },
                given_by_principal: by.filter(|_| !ours),
                standing: match asked {
                    Some(_) => RightStanding::AsAsked,
                    None => RightStanding::NotAsked,
                },
                condition: assignment.condition.clone(),
                exceptions: exceptions(fleet, known, assignment.role, &assignment.scope, now),
            }
        })
        .collect();
    let is_there = |grant: &Grant| {
        held.iter().any(|GivenRole { assignment, .. }| {
            assignment.role == grant.role && assignment.scope == grant.scope
        })
    };
    let missing = known.asked.iter().filter(|grant| !is_there(grant)).map(|grant| Right {
        role: grant.role_name.clone(),
        role_id: grant.role,
        scope: grant.scope.clone(),
        given_by: Giver::Nobody,
        given_by_principal: None,
        standing: RightStanding::Missing,
        condition: None,
        exceptions: exceptions(fleet, known, grant.role, &grant.scope, now),
    });
    rights.extend(missing);
    rights.sort_by(|left, right| {
        (right.standing, &left.scope, &left.role).cmp(&(left.standing, &right.scope, &right.role))
    });
    rights
}

fn role_name(role: Uuid, asked: Option<&Grant>) -> String {
    let built_in = roles::BUILT_IN.iter().find(|known| known.id == role);
    match (built_in, asked) {
        (Some(known), _) => known.name.to_owned(),
        (None, Some(grant)) => grant.role_name.clone(),
        (None, None) => role.to_string(),
    }
}

/// Who answers for this right: by its own exception, or by one that its profile needs whatever the right.
fn exceptions(
    fleet: &Fleet,
    known: &Known,
    role: Uuid,
    scope: &ResourceId,
    now: Timestamp,
) -> Vec<Answerable> {
    let profiles = known.profiles.iter().filter_map(|name| fleet.profile(name));
    let mut found: Vec<Answerable> = Vec::new();
    for profile in profiles {
        let concerns = |exception: &&Exception| match &exception.allows {
            Allowance::WideWriter { role_name, scope: template } => {
                let of_role = profile.grants().iter().any(|grant| {
                    grant.role == role && grant.role_name == *role_name && grant.scope == *template
                });
                // With a placeholder the file's text says less than the right's own scope.
                let of_scope =
                    template.contains('{') || template.eq_ignore_ascii_case(scope.as_str());
                of_role && of_scope
            }
            Allowance::IdentityOnInstance
            | Allowance::IdentityOnUntagged
            | Allowance::IdentityOnPrivileged
            | Allowance::UnprotectedWriter => true,
        };
        for exception in profile.exceptions.iter().filter(concerns) {
            let one = Answerable {
                name: exception.name.clone(),
                until: exception.until,
                ended: exception.ended(now),
            };
            if !found.contains(&one) {
                found.push(one);
            }
        }
    }
    found
}

fn as_text<S: Serializer>(name: &ProfileName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

fn takes(selector: &Selector, reach: &Reach) -> bool {
    match selector {
        Selector::Unit(Unit::Runner(key)) => {
            key.target == reach.target && key.profile == reach.profile
        }
        Selector::Unit(Unit::Domain(profile)) => *profile == reach.profile,
        Selector::Unit(Unit::Target(target)) | Selector::Target(target) => *target == reach.target,
        Selector::Unit(Unit::Identity(_)) => false,
        Selector::Path(pattern) => pattern.matches(&reach.path),
        Selector::All => true,
    }
}
