//! Lets events happen to a sandbox, and keeps what is so whatever forerunner saw of it.

use super::{
    disturb::{disturb, make_a_twin},
    event::{Disturbance, Event},
    fleet::{CONTRIBUTOR, EXISTING, Fleet, Freeze, NAMES, READER},
    orders::Meant,
};
use crate::{
    deeds::APP,
    disturbed::entries,
    harness::Sandbox,
    invariants::{
        record::Truth,
        snapshot::{MANAGERS, key_of},
    },
};
use forerunner::sandbox::{azure::Assignment, gitlab::RunnerView};
use jiff::{SignedDuration, Span, tz::TimeZone};
use std::collections::{BTreeMap, BTreeSet};

const PLATFORM: u64 = 42;
const DIRECTORY: &str = "rg-runner-identities";

/// A group that the history made.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) id: u64,
    pub(super) name: &'static str,
    /// Right below `platform`.
    pub(super) inside: bool,
    pub(super) archived: bool,
    pub(super) doomed: bool,
    pub(super) destroyed: bool,
}

/// What is so, whatever forerunner has seen of it.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) fleet: Fleet,
    pub(super) groups: Vec<Group>,
    pub(super) projects: Vec<u64>,
    /// The group outside that groups are moved to.
    pub(super) outside: u64,
    /// forerunner's rights in Azure while it has lost them.
    rights: Vec<Assignment>,
    /// Neither a lost lock nor a death so far.
    sessions_are_sure: bool,
    /// A person confirmed what the brake or a round holds.
    pub(super) confirmed: bool,
    /// What an operator told to remove.
    pub(super) removals: Vec<Meant>,
    /// Whose tokens an operator revoked.
    pub(super) revocations: Vec<Meant>,
    /// Runners that somebody took the marker from, and whose they were.
    unmarked: BTreeMap<u64, String>,
    /// Those of them whose Secret and status people took as well: nobody's, by decision 0022.
    pub(super) erased: BTreeSet<u64>,
    /// Runners that another process of forerunner made, and left.
    made_elsewhere: BTreeSet<u64>,
}

impl Facts {
    pub(super) fn new(fleet: Fleet, outside: u64) -> Self {
        Self {
            fleet,
            groups: vec![],
            projects: vec![],
            outside,
            rights: vec![],
            sessions_are_sure: true,
            confirmed: false,
            removals: vec![],
            revocations: vec![],
            unmarked: BTreeMap::new(),
            erased: BTreeSet::new(),
            made_elsewhere: BTreeSet::new(),
        }
    }

    /// Units that are wanted: the file gives them, and their target is there.
    pub(super) fn wanted(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for group in self.groups.iter().filter(|group| !group.destroyed) {
            if !group.inside || self.fleet.withdrawn.contains(&group.id) {
                continue;
            }
            for profile in self.fleet.asks(group.name) {
                all.insert(format!("runner/g{}-{}", group.id, profile.name()));
            }
        }
        if self.fleet.projects {
            all.extend(self.projects.iter().map(|id| format!("runner/p{id}-plain")));
        }
        if all.iter().any(|unit| unit.ends_with("-shared")) {
            all.insert("domain/shared".to_owned());
        }
        all
    }

    pub(super) fn truth(&self, sandbox: &Sandbox) -> Truth {
        let roles = if self.fleet.writes { vec![READER, CONTRIBUTOR] } else { vec![READER] };
        Truth {
            wanted: self.wanted(),
            roles: roles.into_iter().map(str::to_owned).collect(),
            scopes: vec![APP.to_owned()],
            issuer: sandbox.world.kubernetes.issuer(),
            deletions: self.fleet.deletions,
            removes_foreign_rights: self.fleet.removes_foreign_rights,
            freeze: self.fleet.freeze.as_ref().map(|freeze| freeze.from..=freeze.to),
            confirmed: self.confirmed,
            ordered: self.removals.iter().flat_map(|meant| meant.units(self)).collect(),
            revoked: self.revocations.iter().flat_map(|meant| meant.units(self)).collect(),
            made_elsewhere: self.made_elsewhere.clone(),
            sessions_are_sure: self.sessions_are_sure,
        }
    }

    pub(super) fn group(
        &mut self,
        number: usize,
        fits: impl Fn(&Group) -> bool,
    ) -> Option<&mut Group> {
        let mut fitting: Vec<&mut Group> =
            self.groups.iter_mut().filter(|group| !group.destroyed && fits(group)).collect();
        let at = number.checked_rem(fitting.len())?;
        Some(fitting.swap_remove(at))
    }

    pub(super) async fn happen(&mut self, sandbox: &Sandbox, event: &Event) {
        let gitlab = &sandbox.world.gitlab;
        let plain = |group: &Group| !group.archived && !group.doomed;
        match event {
            Event::Pass { minutes } => sandbox.pass(SignedDuration::from_mins(*minutes)).await,
            Event::Leap { minutes } => {
                let then = sandbox.world.clock.now() + SignedDuration::from_mins(*minutes);
                sandbox.leap_to(&then.to_string());
            }
            Event::Sweep => _ = sandbox.world.host().unwrap().run_timer_now("sweep"),
            Event::NewGroup => {
                let taken = |name: &&str| {
                    self.groups.iter().any(|group| group.name == *name && !group.destroyed)
                };
                let free = NAMES.iter().find(|name| !taken(name));
                if let Some(name) = free.filter(|_| self.groups.len() < 4) {
                    let id = gitlab.create_group(Some(PLATFORM), name);
                    let (inside, archived, doomed, destroyed) = (true, false, false, false);
                    self.groups.push(Group { id, name, inside, archived, doomed, destroyed });
                }
            }
            Event::NewProject if self.projects.is_empty() => {
                self.projects.push(gitlab.create_project(PLATFORM, "tools"));
            }
            Event::NewProject => {}
            Event::Rename { group, name } => {
                let taken = self.groups.iter().any(|one| one.name == *name && !one.destroyed);
                if let Some(group) = self.group(*group, plain).filter(|_| !taken) {
                    gitlab.rename_group(group.id, name);
                    group.name = name;
                }
            }
            Event::MoveOut { group } => {
                let outside = self.outside;
                if let Some(group) = self.group(*group, |one| plain(one) && one.inside) {
                    gitlab.transfer_group(group.id, Some(outside));
                    group.inside = false;
                }
            }
            Event::MoveIn { group } => {
                if let Some(group) = self.group(*group, |one| plain(one) && !one.inside) {
                    gitlab.transfer_group(group.id, Some(PLATFORM));
                    group.inside = true;
                }
            }
            Event::Archive { group } => {
                if let Some(group) = self.group(*group, plain) {
                    gitlab.archive_group(group.id);
                    group.archived = true;
                }
            }
            Event::Unarchive { group } => {
                if let Some(group) = self.group(*group, |group| group.archived) {
                    gitlab.unarchive_group(group.id);
                    group.archived = false;
                }
            }
            Event::Doom { group } => {
                if let Some(group) = self.group(*group, plain) {
                    gitlab.schedule_group_deletion(group.id);
                    group.doomed = true;
                }
            }
            Event::Restore { group } => {
                if let Some(group) = self.group(*group, |group| group.doomed) {
                    gitlab.restore_group(group.id);
                    group.doomed = false;
                }
            }
            Event::Destroy { group } => {
                if let Some(group) = self.group(*group, |_| true) {
                    gitlab.destroy_group(group.id);
                    group.destroyed = true;
                }
            }
            Event::Everywhere { profile } => {
                toggle(&mut self.fleet.everywhere, *profile);
                self.deploy(sandbox).await;
            }
            Event::Only { name, profile } => {
                toggle(self.fleet.only.entry(*name).or_default(), *profile);
                self.deploy(sandbox).await;
            }
            Event::Projects => {
                self.fleet.projects = !self.fleet.projects;
                self.deploy(sandbox).await;
            }
            Event::Withdraw { group } => {
                let Some(id) = self.group(*group, |_| true).map(|group| group.id) else { return };
                toggle(&mut self.fleet.withdrawn, id);
                self.deploy(sandbox).await;
            }
            Event::Retag => {
                self.fleet.edition += 1;
                self.deploy(sandbox).await;
            }
            Event::Guardrails => {
                self.fleet.writes = !self.fleet.writes;
                self.deploy(sandbox).await;
            }
            Event::Freeze { days, restore, revoke } => {
                let today = sandbox.world.clock.now().to_zoned(TimeZone::UTC).date();
                let to = today + Span::new().days(*days);
                let new = Freeze { from: today, to, restore: *restore, revoke: *revoke };
                self.fleet.freeze = Some(new).filter(|_| self.fleet.freeze.is_none());
                self.deploy(sandbox).await;
            }
            Event::NotAdministrator => gitlab.set_admin(gitlab.admin_user(), false),
            Event::Administrator => gitlab.set_admin(gitlab.admin_user(), true),
            Event::RightsInAzureLost => self.lose_rights(sandbox),
            Event::RightsInAzureBack => self.regain_rights(sandbox),
            Event::Dies { call, after } => {
                self.sessions_are_sure = false;
                sandbox.world.wire.crash_at(*call, Event::moment(*after));
            }
            Event::LocksLost => {
                self.sessions_are_sure = false;
                sandbox.world.service_bus.lose_locks("rounds").unwrap();
            }
            Event::Ordered(order) => order.give(self, sandbox),
            Event::Else(Disturbance::Twinned { runner }) => {
                let before: BTreeSet<u64> = gitlab.runners().iter().map(|one| one.id).collect();
                make_a_twin(sandbox, *runner).await;
                let after = gitlab.runners().into_iter().map(|one| one.id);
                self.made_elsewhere.extend(after.filter(|id| !before.contains(id)));
            }
            Event::Else(other) => {
                let before = gitlab.runners();
                disturb(sandbox, other);
                self.note_what_is_erased(sandbox, &before);
            }
        }
    }

    /// Who takes the marker, the Secret and the status of a runner leaves nothing that names it; nor does who takes a twin's marker.
    fn note_what_is_erased(&mut self, sandbox: &Sandbox, before: &[RunnerView]) {
        for runner in before {
            let now = sandbox.world.gitlab.runner(runner.id);
            let is_unmarked = now.is_some_and(|now| key_of(&now.description).is_none());
            if let Some(key) = key_of(&runner.description).filter(|_| is_unmarked) {
                self.unmarked.insert(runner.id, key);
            }
        }
        let is_named = |id: u64, key: &str| {
            let secret = format!("runner-{key}-config");
            let secret = sandbox.world.kubernetes.get("secrets", MANAGERS, &secret);
            let kept = secret.iter().flat_map(entries).any(|(kept, _)| kept == id);
            kept || sandbox.status(&format!("runner/{key}"))["entity"] == id
        };
        let erased = self.unmarked.iter().filter(|(id, key)| !is_named(**id, key));
        self.erased.extend(erased.map(|(id, _)| *id));
    }

    pub(super) async fn deploy(&self, sandbox: &Sandbox) {
        sandbox.deploy(&self.fleet.text()).await;
    }

    /// Every right that forerunner has at the identities' group and where it may give roles.
    fn lose_rights(&mut self, sandbox: &Sandbox) {
        let azure = &sandbox.world.azure;
        let own = sandbox.world.forerunner_user();
        let all = azure.assignments().into_iter();
        let lost = all.filter(|one| {
            one.principal_id.to_string() == own
                && (one.scope.ends_with(DIRECTORY) || one.scope == APP || one.scope == EXISTING)
        });
        for assignment in lost {
            azure.remove_assignment(assignment.name);
            self.rights.push(assignment);
        }
    }

    pub(super) fn regain_rights(&mut self, sandbox: &Sandbox) {
        for Assignment { scope, role, principal_id, condition, .. } in self.rights.drain(..) {
            sandbox.world.azure.assign_role(&scope, role, principal_id, condition.as_deref());
        }
    }
}

fn toggle<T: Ord>(set: &mut BTreeSet<T>, one: T) {
    if !set.remove(&one) {
        set.insert(one);
    }
}
