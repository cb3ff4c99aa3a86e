//! One change to the world, with every choice already made: acting on it looks nothing up and decides nothing.

use super::{
    azure::{FederatedCredential, Identity, ResourceId, RoleAssignment},
    gitlab::{EntityChange, EntitySettings},
    ids::{RunnerId, TargetId, Unit},
    kubernetes::{Object, ObjectName},
    ledger::Ledger,
    settling::Settling,
    spec::Grant,
};
use jiff::Timestamp;
use secrecy::SecretString;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};
use uuid::Uuid;

/// Position of a step in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub usize);

/// Something a step needs that is either known already or another step's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given<T> {
    Known(T),
    /// The identity that this step makes.
    From(StepId),
}

#[derive(Clone, Debug)]
pub enum Step {
    /// Write down that a runner entity is about to be made, at the version the ledger was read at.
    BookCreation {
        unit: Unit,
        generation: u32,
        at: Timestamp,
        per_hour: u32,
        runners_max: u32,
        /// The runners that had a manager when the round looked.
        made: BTreeSet<Unit>,
        ledger: Ledger,
    },
    /// Write down how far the change that rolls a unit's manager is.
    NoteRollout {
        unit: Unit,
        word: RolloutWord,
        ledger: Ledger,
    },
    /// Write down that a unit has another token than it had at `at`.
    NoteRevoked {
        unit: Unit,
        at: Timestamp,
        ledger: Ledger,
    },
    /// Try the Secret's write without doing it: a token must not be made that nobody can keep.
    RehearseSecret {
        object: Object,
    },
    /// Create the runner in GitLab, paused; its token goes to the step that keeps it.
    CreateRunner {
        target: TargetId,
        settings: EntitySettings,
    },
    /// Have GitLab make another token of a runner that exists, whose present one nobody kept or everybody may have.
    ReplaceToken {
        runner: RunnerId,
        why: String,
    },
    /// Put the token of `from` into the manager's Secret and ask GitLab whether it is good.
    KeepToken {
        from: StepId,
        secret: ObjectName,
        /// Entries that stay beside the new one.
        beside: Vec<(RunnerId, SecretString)>,
        /// The version the Secret was read at; `None`: there was none.
        version: Option<String>,
        verifier: String,
    },
    /// Bring the Secret's settings up to date around the tokens it has.
    RewriteSecret {
        secret: ObjectName,
        entries: Vec<(RunnerId, SecretString)>,
        version: String,
    },
    /// Change an entity's settings, marker included; opening and pausing are among them.
    UpdateRunner {
        runner: RunnerId,
        change: EntityChange,
        why: &'static str,
    },
    /// Keep an entity from taking jobs, and write down that it was us. `may_be_refused`: scaling to zero stands for it.
    PauseRunner {
        runner: RunnerId,
        note: String,
        may_be_refused: bool,
    },
    /// Remove an entity that another one of ours stands for, and that nobody has polled with or an operator let go.
    DeleteTwin {
        runner: RunnerId,
    },

    CreateIdentity {
        id: ResourceId,
        location: String,
        tags: BTreeMap<String, String>,
    },
    /// Replace the identity's tags.
    TagIdentity {
        id: ResourceId,
        tags: BTreeMap<String, String>,
    },
    /// Let one Kubernetes service account sign in as the identity.
    TrustServiceAccount {
        identity: ResourceId,
        credential: FederatedCredential,
    },
    AssignRole {
        grant: Grant,
        principal: Given<Uuid>,
        description: String,
    },

    /// Server-side apply. `client`: whose client and tenant id the job account's annotations get.
    Apply {
        object: Object,
        client: Option<StepId>,
    },
    /// Let the manager finish its jobs and go; the next apply of a runner that may serve brings it back. What its identity has
    /// spreads anew then: who knows what it loses meanwhile.
    ScaleToZero {
        deployment: ObjectName,
    },
    /// Write down on the Deployment when a round first saw the credential and all roles, and whose.
    MarkSettling {
        deployment: ObjectName,
        mark: Settling,
    },
    /// Answer a job account that asked for this existing identity.
    AnswerAccount {
        account: ObjectName,
        answer: String,
    },

    /// Write down since when a runner leaves: on its Deployment, or on its manager's binding in a namespace that its jobs have left.
    /// `None`: it stays after all.
    MarkLeaving {
        object: ObjectName,
        at: Option<Timestamp>,
    },
    /// Let a manager begin anew, with what its Secret says now.
    RestartManager {
        deployment: ObjectName,
        at: Timestamp,
    },
    /// Take our annotations off an administrator's object.
    DropAnnotations {
        object: ObjectName,
        keys: Vec<&'static str>,
    },
    /// Delete an object of ours, if it is still the one that was read.
    RemoveObject {
        object: ObjectName,
        uid: Option<String>,
    },
    /// Take a role back. `may_be_refused`: the identity goes all the same, or it is told already.
    RemoveRole {
        assignment: RoleAssignment,
        may_be_refused: bool,
    },
    /// Let nobody sign in by this credential of ours any more.
    RemoveCredential {
        identity: ResourceId,
        name: String,
    },
    RemoveIdentity {
        id: ResourceId,
    },
    /// Delete the entity of a unit that leaves.
    RemoveRunner {
        runner: RunnerId,
    },
}

/// What becomes of a change that rolls a manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutWord {
    /// It takes one of `in_flight` places.
    Begins { at: Timestamp, in_flight: u32 },
    /// The manager does not come back: nobody else begins.
    Failed { reason: String },
    /// The manager polls again, or is to poll no more.
    Ends,
}

/// What a step leaves for those that need it.
#[derive(Clone, Debug)]
pub enum Product {
    Nothing,
    Identity(Identity),
    Token { runner: RunnerId, token: SecretString },
}

/// Which service a step writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    Gitlab,
    Azure,
    Kubernetes,
}

impl Step {
    pub fn service(&self) -> Service {
        match self {
            Self::CreateRunner { .. }
            | Self::ReplaceToken { .. }
            | Self::UpdateRunner { .. }
            | Self::PauseRunner { .. }
            | Self::DeleteTwin { .. }
            | Self::RemoveRunner { .. } => Service::Gitlab,
            Self::CreateIdentity { .. }
            | Self::TagIdentity { .. }
            | Self::TrustServiceAccount { .. }
            | Self::AssignRole { .. }
            | Self::RemoveRole { .. }
            | Self::RemoveCredential { .. }
            | Self::RemoveIdentity { .. } => Service::Azure,
            Self::BookCreation { .. }
            | Self::NoteRollout { .. }
            | Self::NoteRevoked { .. }
            | Self::RehearseSecret { .. }
            | Self::KeepToken { .. }
            | Self::RewriteSecret { .. }
            | Self::Apply { .. }
            | Self::ScaleToZero { .. }
            | Self::MarkSettling { .. }
            | Self::AnswerAccount { .. }
            | Self::MarkLeaving { .. }
            | Self::RestartManager { .. }
            | Self::DropAnnotations { .. }
            | Self::RemoveObject { .. } => Service::Kubernetes,
        }
    }

    /// Whether it does nothing but take away what an identity can do. Azure may refuse that for as long as somebody's lock stays.
    pub fn only_takes(&self) -> bool {
        matches!(self, Self::RemoveRole { .. } | Self::RemoveCredential { .. })
    }
}

impl fmt::Display for Step {
    /// One line for people; never a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BookCreation { unit, .. } => {
                write!(f, "book the creation of {unit} in the ledger")
            }
            Self::NoteRollout { unit, word, .. } => match word {
                RolloutWord::Begins { .. } => write!(f, "begin to roll the manager of {unit}"),
                RolloutWord::Failed { .. } => write!(f, "note that {unit} stops the rollout"),
                RolloutWord::Ends => write!(f, "note that the manager of {unit} has rolled"),
            },
            Self::RehearseSecret { object } => write!(f, "rehearse writing {}", object.name),
            Self::CreateRunner { target, settings } => {
                write!(f, "create runner `{}` for {target}", settings.description)
            }
            Self::NoteRevoked { unit, .. } => {
                write!(f, "note that the old token of {unit} is worthless")
            }
            Self::ReplaceToken { runner, why } => {
                write!(f, "replace the token of runner {runner}: {why}")
            }
            Self::KeepToken { secret, .. } => write!(f, "keep the token in {secret}"),
            Self::RewriteSecret { secret, .. } => write!(f, "bring {secret} up to date"),
            Self::UpdateRunner { runner, why, .. } => write!(f, "{why} runner {runner}"),
            Self::PauseRunner { runner, .. } => write!(f, "pause runner {runner}"),
            Self::DeleteTwin { runner } => {
                write!(f, "delete runner {runner}, a twin")
            }
            Self::CreateIdentity { id, .. } => write!(f, "create identity {}", id.name()),
            Self::TagIdentity { id, .. } => write!(f, "tag identity {}", id.name()),
            Self::TrustServiceAccount { identity, credential } => {
                let subject = credential.subject.as_deref().unwrap_or("nobody");
                write!(f, "let {subject} sign in as {}", identity.name())
            }
            Self::AssignRole { grant, .. } => {
                write!(f, "assign {} on {}", grant.role_name, grant.scope)
            }
            Self::Apply { object, .. } => write!(f, "apply {}", object.name),
            Self::ScaleToZero { deployment } => write!(f, "scale {deployment} to zero"),
            Self::MarkSettling { deployment, .. } => {
                write!(f, "note on {deployment} since when the identity settles")
            }
            Self::AnswerAccount { account, answer } => {
                let word = answer.split(' ').next().unwrap_or_default();
                write!(f, "answer {account}: {word}")
            }
            Self::MarkLeaving { object, at: Some(_) } => {
                write!(f, "note on {object} since when its runner leaves")
            }
            Self::MarkLeaving { object, at: None } => {
                write!(f, "note on {object} that its runner stays")
            }
            Self::RestartManager { deployment, .. } => write!(f, "restart {deployment}"),
            Self::DropAnnotations { object, .. } => write!(f, "take our annotations off {object}"),
            Self::RemoveObject { object, .. } => write!(f, "delete {object}"),
            Self::RemoveRole { assignment, .. } => {
                write!(f, "take back role {} on {}", assignment.role, assignment.scope)
            }
            Self::RemoveCredential { identity, name } => {
                write!(f, "delete credential {name} of identity {}", identity.name())
            }
            Self::RemoveIdentity { id } => write!(f, "delete identity {}", id.name()),
            Self::RemoveRunner { runner } => write!(f, "delete runner {runner}"),
        }
    }
}
