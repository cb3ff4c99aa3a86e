//! What may befall a fleet.

use super::{
    fleet::{NAMES, Profile},
    orders::Order,
};
use forerunner::sandbox::wire::{Moment, Service};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

/// One thing that happens. Groups and parts are named by number, so that a shorter history still means something: number
/// `n` is the n-th that is there then, counted round.
#[derive(Clone, Debug)]
pub(super) enum Event {
    // Time and forerunner's own timer.
    Pass {
        minutes: i64,
    },
    /// Nothing happens meanwhile: nobody polls, nothing is delivered.
    Leap {
        minutes: i64,
    },
    Sweep,
    // The tree.
    NewGroup,
    NewProject,
    Rename {
        group: usize,
        name: &'static str,
    },
    MoveOut {
        group: usize,
    },
    MoveIn {
        group: usize,
    },
    Archive {
        group: usize,
    },
    Unarchive {
        group: usize,
    },
    Doom {
        group: usize,
    },
    Restore {
        group: usize,
    },
    Destroy {
        group: usize,
    },
    // The file.
    Everywhere {
        profile: Profile,
    },
    Only {
        name: &'static str,
        profile: Profile,
    },
    Projects,
    Withdraw {
        group: usize,
    },
    Retag,
    Guardrails,
    /// Begins one today, or ends it.
    Freeze {
        days: i64,
        restore: bool,
        revoke: bool,
    },
    NotAdministrator,
    Administrator,
    RightsInAzureLost,
    RightsInAzureBack,
    // forerunner itself.
    Dies {
        call: usize,
        after: bool,
    },
    LocksLost,
    // An operator, by message.
    Ordered(Order),
    // Everybody else.
    Else(Disturbance),
}

/// What people and services do; `Twinned` is a second entity that another process of forerunner's made before it died.
#[derive(Clone, Debug)]
pub(super) enum Disturbance {
    Retagged { runner: usize },
    Untagged { runner: usize },
    Unmarked { runner: usize },
    PausedByPerson { runner: usize },
    RunnerDeleted { runner: usize },
    TokenReset { runner: usize },
    Deleted { kind: &'static str, object: usize },
    Scaled { object: usize },
    ImageEdited { object: usize },
    PolicyOpened { object: usize },
    NamespaceOpened { object: usize },
    Hooks { loss: u8, twice: u8, disorder: u8 },
    HooksAsUsual,
    Refuses { service: Service, status: u16, times: usize },
    Loses { service: Service, after: bool, times: usize },
    AnswersEmpty { list: usize, times: usize },
    Maintenance { on: bool },
    QueueThrottles { times: usize },
    CompletionsLost { times: usize },
    ImagesMissing { on: bool },
    InAzure(usize, AzureEdit),
    InSecret(usize, SecretEdit),
    Twinned { runner: usize },
}

/// What people do to the n-th identity of ours.
#[derive(Clone, Copy, Debug)]
pub(super) enum AzureEdit {
    IdentityDeleted,
    IdentityRetagged,
    CredentialDeleted,
    CredentialEdited,
    CredentialAdded,
    RoleTaken,
    RoleAdded,
}

/// What people do to the n-th manager's Secret.
#[derive(Clone, Copy, Debug)]
pub(super) enum SecretEdit {
    /// `config.toml` says something else than rendered.
    Concurrent,
    /// The manager's stable id is another.
    SystemId,
    /// The id of the entry is another.
    Id,
    /// The entry has a token that is nobody's.
    TokenOfNobody,
    /// The entry has the token of another runner, where there is one.
    TokenOfAnother,
    /// No entry is left.
    NoEntry,
    /// The file is no TOML.
    Broken,
    /// The file is gone.
    NoFile,
}

impl SecretEdit {
    const ALL: [Self; 8] = [
        Self::Concurrent,
        Self::SystemId,
        Self::Id,
        Self::TokenOfNobody,
        Self::TokenOfAnother,
        Self::NoEntry,
        Self::Broken,
        Self::NoFile,
    ];
}

const KINDS: [&str; 9] = [
    "deployments",
    "networkpolicies",
    "rolebindings",
    "resourcequotas",
    "limitranges",
    "serviceaccounts",
    "namespaces",
    "secrets",
    "configmaps",
];
/// All that forerunner calls in these worlds: who it is tells the host's own endpoint, so nothing is asked of Entra.
pub(super) const SERVICES: [Service; 6] = [
    Service::Gitlab,
    Service::Arm,
    Service::Kubernetes,
    Service::ServiceBus,
    Service::KeyVault,
    Service::Identity,
];

impl Event {
    pub(super) fn moment(after: bool) -> Moment {
        if after { Moment::AfterEffect } else { Moment::BeforeEffect }
    }

    pub(super) fn draw(random: &mut StdRng) -> Self {
        let n = random.random_range(0..12_usize);
        let service = *SERVICES.choose(random).unwrap();
        let name = *NAMES.choose(random).unwrap();
        let profile = *Profile::ALL.choose(random).unwrap();
        let edit = |edit| Self::Else(Disturbance::InAzure(n, edit));
        match random.random_range(0..119) {
            0..5 => Self::Pass { minutes: random.random_range(1..8) },
            5..12 => Self::Leap { minutes: random.random_range(1..40) },
            12..14 => Self::Leap { minutes: random.random_range(60..1800) },
            14..22 => Self::Sweep,
            22..26 => Self::NewGroup,
            26 => Self::NewProject,
            27..29 => Self::Rename { group: n, name },
            29 => Self::MoveOut { group: n },
            30 => Self::MoveIn { group: n },
            31 => Self::Archive { group: n },
            32 => Self::Unarchive { group: n },
            33 => Self::Doom { group: n },
            34 => Self::Restore { group: n },
            35..37 => Self::Destroy { group: n },
            37..39 => Self::Everywhere { profile },
            39..42 => Self::Only { name, profile },
            42 => Self::Projects,
            43 => Self::Withdraw { group: n },
            44 => Self::Retag,
            45 => Self::Guardrails,
            46 => Self::Else(Disturbance::Retagged { runner: n }),
            47 => Self::Else(Disturbance::Untagged { runner: n }),
            48 => Self::Else(Disturbance::Unmarked { runner: n }),
            49 => Self::Else(Disturbance::PausedByPerson { runner: n }),
            50..52 => Self::Else(Disturbance::RunnerDeleted { runner: n }),
            52 => Self::Else(Disturbance::TokenReset { runner: n }),
            53..55 => edit(AzureEdit::IdentityDeleted),
            55 => edit(AzureEdit::IdentityRetagged),
            56 => edit(AzureEdit::CredentialDeleted),
            57 => edit(AzureEdit::CredentialEdited),
            58 => edit(AzureEdit::CredentialAdded),
            59 => edit(AzureEdit::RoleTaken),
            60 => edit(AzureEdit::RoleAdded),
            61..68 => {
                Self::Else(Disturbance::Deleted { kind: KINDS.choose(random).unwrap(), object: n })
            }
            68 => Self::Else(Disturbance::Scaled { object: n }),
            69 => Self::Else(Disturbance::ImageEdited { object: n }),
            70 => Self::Else(Disturbance::PolicyOpened { object: n }),
            71 => Self::Else(Disturbance::NamespaceOpened { object: n }),
            72..75 => Self::Else(Disturbance::Hooks {
                loss: random.random_range(0..=100),
                twice: random.random_range(0..=100),
                disorder: random.random_range(0..120),
            }),
            75 => Self::Else(Disturbance::HooksAsUsual),
            76..79 | 110..112 => Self::Else(Disturbance::Refuses {
                service,
                status: *[429, 500, 502, 503, 401, 403].choose(random).unwrap(),
                times: random.random_range(1..25),
            }),
            79..83 | 112..114 => Self::Else(Disturbance::Loses {
                service,
                after: random.random_bool(0.6),
                times: random.random_range(1..6),
            }),
            83..86 => Self::Else(Disturbance::AnswersEmpty {
                list: random.random_range(0..9),
                times: random.random_range(1..5),
            }),
            86 => Self::Else(Disturbance::Maintenance { on: random.random_bool(0.5) }),
            87 => Self::NotAdministrator,
            88 => Self::Administrator,
            89 => Self::RightsInAzureLost,
            90 => Self::RightsInAzureBack,
            91 => Self::Else(Disturbance::QueueThrottles { times: random.random_range(1..6) }),
            92 => Self::Else(Disturbance::CompletionsLost { times: random.random_range(1..4) }),
            93 => Self::Else(Disturbance::ImagesMissing { on: random.random_bool(0.5) }),
            94..99 => {
                Self::Dies { call: random.random_range(0..60), after: random.random_bool(0.5) }
            }
            99 => Self::LocksLost,
            100..108 => Self::Ordered(Order::draw(random)),
            114..117 => {
                Self::Else(Disturbance::InSecret(n, *SecretEdit::ALL.choose(random).unwrap()))
            }
            117..119 => Self::Else(Disturbance::Twinned { runner: n }),
            _ => Self::Freeze {
                days: random.random_range(0..3),
                restore: random.random_bool(0.5),
                revoke: random.random_bool(0.5),
            },
        }
    }
}
