//! Tells whether what is asked of a runner is what it was when a round last settled it.

use crate::domain::{
    fleet::{Fleet, WantedState},
    names,
    plan::hold::Hold,
    spec::{Reach, SweepCalls},
};

/// What every runner of a fleet is asked beside its own specification; made once for many runners.
pub(super) struct Desires {
    shared: String,
    /// Digest of what the guardrails let forerunner give.
    ceiling: String,
}

impl Desires {
    /// Another version may render other objects from the same file, so it is part of what is asked.
    pub(super) fn of(fleet: &Fleet) -> Self {
        let mut settings = fleet.settings().clone();
        // The digest of the whole file changes with every comment in it.
        settings.digest.clear();
        // How forerunner paces itself asks nothing of any runner.
        settings.rollout_in_flight = 0;
        settings.sweep_calls = SweepCalls::default();
        // Nor does where it may give rights.
        settings.reach = Reach::default();
        let shared = format!("{}|{settings:?}", env!("CARGO_PKG_VERSION"));
        let guardrails = fleet.guardrails();
        let ceiling =
            format!("{:?}{:?}{:?}", guardrails.roles, guardrails.scopes, guardrails.never);
        Self { shared: names::hash(&shared), ceiling: names::hash(&ceiling) }
    }

    /// Digest of what is asked of a shared domain; of one that nobody shares any more, that it has no right beyond the guardrails.
    pub(super) fn of_domain(&self, wanted: Option<&WantedState>) -> String {
        match wanted {
            Some(_) => self.digest(wanted, None),
            None => names::hash(&format!("nothing|{}", self.ceiling))[..16].to_owned(),
        }
    }

    /// Digest of what is asked of one runner. `None`: nothing asks for it.
    pub(super) fn digest(&self, wanted: Option<&WantedState>, hold: Option<&Hold>) -> String {
        let text = match wanted {
            Some(wanted) => format!("{}|{wanted:?}|{hold:?}", self.shared),
            None => format!("nothing|{hold:?}"),
        };
        names::hash(&text)[..16].to_owned()
    }
}
