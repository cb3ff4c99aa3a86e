//! The words that metrics are told apart by: closed sets, so that no metric grows with the fleet.

use crate::domain::fleet_status::FindingKind;

/// An enum whose members each have one word.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$of:meta])* $member:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum $name {
            $($(#[$of])* $member,)+
        }

        impl $name {
            /// Every word there is.
            pub(super) const WORDS: &'static [&'static str] = &[$($word),+];

            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$member => $word,)+
                }
            }
        }
    };
}

words! {
    /// Whom a call of ours goes to.
    Called {
        Gitlab = "gitlab",
        Arm = "arm",
        Graph = "graph",
        KeyVault = "key_vault",
        Kubernetes = "kubernetes",
        ServiceBus = "service_bus",
        Entra = "entra",
        /// Nobody said.
        Other = "other",
    }
}

words! {
    /// How a call ended.
    StatusClass {
        Success = "2xx",
        Redirection = "3xx",
        Refusal = "4xx",
        Throttled = "429",
        Failure = "5xx",
        /// No answer came.
        None = "none",
    }
}

impl StatusClass {
    pub(super) fn of(status: Option<u16>) -> Self {
        match status {
            Some(429) => Self::Throttled,
            Some(300..=399) => Self::Redirection,
            Some(400..=499) => Self::Refusal,
            Some(500..) => Self::Failure,
            Some(0..=299) => Self::Success,
            None => Self::None,
        }
    }
}

words! {
    /// What a service counts against a limit.
    Quota {
        Calls = "calls",
        Reads = "reads",
        Writes = "writes",
        Deletes = "deletes",
    }
}

words! {
    /// How a round ended.
    RoundEnd {
        /// Nothing was left to do.
        Settled = "settled",
        /// It is looked at again: it did something, or waits for something.
        Waits = "waits",
        /// A target's round woke its runners.
        Woke = "woke",
        /// Nothing is left of the unit.
        Gone = "gone",
        /// The mode lets nothing be carried out.
        Observed = "observed",
        /// A freeze lets it not be carried out yet.
        Frozen = "frozen",
        /// Somebody's rule stands in the way, and an administrator lifts it.
        NeedsAdministrator = "needs_administrator",
        /// Failed for now.
        Retried = "retried",
        /// Failed for good, or too often.
        Parked = "parked",
        /// `fleet.yaml` is not valid.
        NoFleet = "no_fleet",
        /// What comes next could not be queued: the broker delivers again.
        Unqueued = "unqueued",
    }
}

words! {
    /// How much of the fleet a sweep saw.
    SweepEnd {
        Whole = "whole",
        /// Some list could not be read: nothing was permitted.
        Partial = "partial",
        Failed = "failed",
    }
}

words! {
    /// What became of a delivery.
    HookEnd {
        Woke = "woke",
        Ignored = "ignored",
        /// It did not prove itself.
        Refused = "refused",
        Malformed = "malformed",
        /// The queue did not take it.
        Unqueued = "unqueued",
    }
}

words! {
    /// How what is differs from what should be.
    DriftKind {
        Missing = "missing",
        Different = "different",
        Surplus = "surplus",
    }
}

words! {
    /// What it is that differs.
    DriftThing {
        Runner = "runner",
        Token = "token",
        Identity = "identity",
        Credential = "credential",
        Role = "role",
        Namespace = "namespace",
        Account = "account",
        Binding = "binding",
        Quota = "quota",
        Policy = "policy",
        Secret = "secret",
        Deployment = "deployment",
        /// An annotation of ours, a record, any other object.
        Note = "note",
    }
}

words! {
    /// What sweeps find of the fleet as a whole, as its status has it.
    Found {
        ReachesNever = "ReachesNever",
        AdmissionPolicy = "AdmissionPolicy",
        ManagerRole = "ManagerRole",
        Overlap = "Overlap",
        ForeignRunner = "ForeignRunner",
        IdentityWebhook = "IdentityWebhook",
        LookAlike = "LookAlike",
        StrayIdentity = "StrayIdentity",
        OrphanedRole = "OrphanedRole",
        RoleBeyondReach = "RoleBeyondReach",
        LimitNear = "LimitNear",
        Unwatched = "Unwatched",
    }
}

impl Found {
    pub(super) fn of(kind: FindingKind) -> Self {
        match kind {
            FindingKind::ReachesNever => Self::ReachesNever,
            FindingKind::AdmissionPolicy => Self::AdmissionPolicy,
            FindingKind::ManagerRole => Self::ManagerRole,
            FindingKind::Overlap => Self::Overlap,
            FindingKind::ForeignRunner => Self::ForeignRunner,
            FindingKind::IdentityWebhook => Self::IdentityWebhook,
            FindingKind::LookAlike => Self::LookAlike,
            FindingKind::StrayIdentity => Self::StrayIdentity,
            FindingKind::OrphanedRole => Self::OrphanedRole,
            FindingKind::RoleBeyondReach => Self::RoleBeyondReach,
            FindingKind::LimitNear => Self::LimitNear,
            FindingKind::Unwatched => Self::Unwatched,
        }
    }
}
