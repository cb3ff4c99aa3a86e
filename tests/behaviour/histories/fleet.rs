//! The fleets that histories are about: a policy file that changes, and what it asks for.

use crate::deeds::{APP, HEAD};
use jiff::civil::Date;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use std::collections::{BTreeMap, BTreeSet};

/// The names of groups below `platform`; a rule may be for one of them alone.
pub(super) const NAMES: [&str; 5] = ["payments", "network", "billing", "search", "ledger"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Profile {
    /// A managed identity that reads.
    Plan,
    /// A managed identity that writes.
    Apply,
    /// A managed identity and a namespace that all its runners share.
    Shared,
    /// An administrator's identity.
    Existing,
    /// No identity.
    Plain,
}

impl Profile {
    pub(super) const ALL: [Self; 5] =
        [Self::Plan, Self::Apply, Self::Shared, Self::Existing, Self::Plain];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Apply => "apply",
            Self::Shared => "shared",
            Self::Existing => "tf",
            Self::Plain => "plain",
        }
    }
}

pub(super) const EXISTING: &str = "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-people/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-tf";
pub(super) const READER: &str = crate::deeds::READER;
pub(super) const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";

/// The one entry of `guardrails.freeze`, by the days of UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Freeze {
    pub(super) from: Date,
    pub(super) to: Date,
    pub(super) restore: bool,
    pub(super) revoke: bool,
}

impl Freeze {
    fn text(&self) -> String {
        let Self { from, to, .. } = self;
        let allowed = [("restore", self.restore), ("revoke", self.revoke)];
        let allowed = allowed.into_iter().filter(|(_, allowed)| *allowed).map(|(name, _)| name);
        let allow = allowed.collect::<Vec<_>>().join(", ");
        format!("{{ from: {from}, to: {to}, allow: [{allow}] }}")
    }
}

/// What the policy file says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fleet {
    /// What every group below `platform` gets.
    pub(super) everywhere: BTreeSet<Profile>,
    /// What groups of one name get besides.
    pub(super) only: BTreeMap<&'static str, BTreeSet<Profile>>,
    /// Whether projects right below `platform` get the plain profile.
    pub(super) projects: bool,
    /// Groups that are withdrawn, by id.
    pub(super) withdrawn: BTreeSet<u64>,
    /// Changes the tags of every profile.
    pub(super) edition: u32,
    /// Whether `guardrails` allow the writing role.
    pub(super) writes: bool,
    pub(super) removes_foreign_rights: bool,
    pub(super) resumes_paused: bool,
    /// `guardrails.deletions`: max and percent.
    pub(super) deletions: (usize, usize),
    pub(super) grace_minutes: u32,
    pub(super) freeze: Option<Freeze>,
    /// Profiles that are no longer in the file.
    forgotten: BTreeSet<Profile>,
}

impl Fleet {
    pub(super) fn draw(random: &mut StdRng) -> Self {
        let some = |random: &mut StdRng, most| {
            let count = random.random_range(0..=most);
            Profile::ALL.choose_multiple(random, count).copied().collect::<BTreeSet<_>>()
        };
        let everywhere = some(random, 2);
        let mut only = BTreeMap::new();
        for name in NAMES.choose_multiple(random, 2) {
            only.insert(*name, some(random, 2));
        }
        if everywhere.is_empty() && only.values().all(BTreeSet::is_empty) {
            only.insert(NAMES[0], BTreeSet::from([Profile::Plan]));
        }
        Self {
            everywhere,
            only,
            projects: random.random_bool(0.3),
            withdrawn: BTreeSet::new(),
            edition: 1,
            writes: true,
            removes_foreign_rights: random.random_bool(0.3),
            resumes_paused: random.random_bool(0.3),
            deletions: if random.random_bool(0.7) { (50, 100) } else { (10, 20) },
            grace_minutes: *[2, 90].choose(random).unwrap(),
            freeze: None,
            forgotten: BTreeSet::new(),
        }
    }

    /// Takes a profile out of the file, and out of every rule.
    pub(super) fn forget(&mut self, profile: Profile) {
        self.everywhere.remove(&profile);
        self.only.values_mut().for_each(|profiles| _ = profiles.remove(&profile));
        self.forgotten.insert(profile);
    }

    /// What it asks for a group of this name right below `platform`.
    pub(super) fn asks(&self, name: &str) -> BTreeSet<Profile> {
        let own = self.only.iter().filter(|(of, _)| **of == name).flat_map(|(_, all)| all);
        self.everywhere.iter().chain(own).copied().collect()
    }

    pub(super) fn text(&self) -> String {
        let list = |profiles: &BTreeSet<Profile>| {
            profiles.iter().map(|profile| profile.name()).collect::<Vec<_>>().join(", ")
        };
        let mut rules = String::new();
        let groups = self.only.iter().map(|(name, profiles)| (*name, profiles));
        for (name, profiles) in [("*", &self.everywhere)].into_iter().chain(groups) {
            if !profiles.is_empty() {
                let profiles = list(profiles);
                rules += &format!(
                    "  - {{ match: {{ groups: 'platform/{name}' }}, profiles: [{profiles}] }}\n"
                );
            }
        }
        if self.projects {
            rules += "  - { match: { projects: 'platform/*' }, profiles: [plain] }\n";
        }
        let rules =
            if rules.is_empty() { "rules: []\n".to_owned() } else { format!("rules:\n{rules}") };
        let withdrawn = self.withdrawn.iter().map(|id| format!("{{ group: {id}, reason: SEC-1 }}"));
        let withdrawn = withdrawn.collect::<Vec<_>>().join(", ");
        let drift = format!(
            "drift: {{ foreignRights: {}, paused: {} }}",
            if self.removes_foreign_rights { "remove" } else { "report" },
            if self.resumes_paused { "resume" } else { "keep" },
        );
        let tag = |profile: Profile| format!("{}-{}", profile.name(), self.edition);
        let managed = |profile: Profile, role: &str, more: &str| {
            format!(
                "  {}: {{ runner: {{ tags: [{}] }}, {drift}, {more}identity: {{ settle: 20s, managed: {{ roles: [{{ role: {role}, scope: {APP} }}] }} }} }}\n",
                profile.name(),
                tag(profile)
            )
        };
        let roles = if self.writes { "Reader, Contributor" } else { "Reader" };
        let (max, percent) = self.deletions;
        let freeze = self.freeze.as_ref().map(Freeze::text).unwrap_or_default();
        format!(
            "{HEAD}withdrawn: [{withdrawn}]\n{rules}profiles:\n{}{}{}  tf: {{ runner: {{ tags: [{}] }}, {drift}, identity: {{ settle: 20s, existing: [{EXISTING}], expect: [{{ role: Reader, scope: {APP} }}] }} }}\n  plain: {{ runner: {{ tags: [{}] }}, {drift}, identity: none }}\nguardrails:\n  roles: [{roles}]\n  scopes: [{APP}]\n  runners: 500\n  creations: {{ perHour: 50 }}\n  grace: {}m\n  deletions: {{ max: {max}, percent: {percent} }}\n  freeze: [{freeze}]\n",
            managed(Profile::Plan, "Reader", ""),
            managed(Profile::Apply, "Contributor", ""),
            match self.forgotten.contains(&Profile::Shared) {
                true => String::new(),
                false => managed(Profile::Shared, "Contributor", "isolation: profile, "),
            },
            tag(Profile::Existing),
            tag(Profile::Plain),
            self.grace_minutes,
        )
    }
}
