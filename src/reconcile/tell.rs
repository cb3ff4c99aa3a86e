//! What a round and a sweep tell whoever watches from outside: metrics, and whom an audit event names. Decides nothing.

use super::{
    Clients, Failure,
    act::Scene,
    inventory::Inventory,
    prepare::{Prepared, Seen},
    preview::{self, Action, Change},
};
use crate::{
    domain::{
        command::Order,
        fleet::{Fleet, TargetFacts},
        ids::ProfileName,
        kubernetes::Kind,
        ledger::Book,
        message::Message,
        status::ConditionKind,
        step::Step,
    },
    telemetry::{
        audit::{self, Deed, Origin},
        meters,
        words::{DriftKind, DriftThing},
    },
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::Value;
use std::collections::BTreeSet;
use tracing::debug;

/// Why a round writes.
pub(super) fn origin(fleet: &Fleet, message: &Message, rule: Option<String>) -> Origin {
    Origin {
        unit: Some(message.unit.to_string()),
        reason: Some(message.reason.as_str()),
        actor: Order::claimed_in(&message.cause).map(str::to_owned),
        cause: message.cause.clone(),
        rule,
        ..of_fleet(fleet)
    }
}

/// Why a sweep writes.
pub(super) fn origin_of_sweep(fleet: &Fleet, now: Timestamp) -> Origin {
    let cause = format!("sweep-{}", now.as_second());
    Origin { reason: Some("sweep"), cause, ..of_fleet(fleet) }
}

/// Why a command writes.
pub(super) fn origin_of_order(fleet: &Fleet, order: &Order) -> Origin {
    let (actor, cause) = (Some(order.by.clone()), order.cause());
    Origin { reason: Some("command"), actor, cause, ..of_fleet(fleet) }
}

/// Why a person writes from a desk: to `adopt`, to `drop`.
pub(super) fn origin_of_person(
    fleet: &Fleet,
    deed: &str,
    by: Option<String>,
    now: Timestamp,
) -> Origin {
    let cause = format!("{deed}-{}", now.as_second());
    Origin { reason: Some("command"), actor: by, cause, ..of_fleet(fleet) }
}

/// A marker that is rewritten.
pub(super) fn remarking(what: String, path: &str, old: String, new: String) -> Deed {
    let change = audit::Change { path: path.to_owned(), old: Some(old), new: Some(new) };
    Deed { what, action: audit::Action::Change, changes: vec![change] }
}

fn of_fleet(fleet: &Fleet) -> Origin {
    let settings = fleet.settings();
    Origin {
        fleet: settings.name.to_string(),
        fleet_digest: settings.digest.clone(),
        ..Origin::default()
    }
}

/// Which rules give a target this profile, such as `rules[0]: platform/*`.
pub(super) fn rule(fleet: &Fleet, facts: &TargetFacts, profile: &ProfileName) -> Option<String> {
    let name = &fleet.profile(profile)?.name;
    let rules = fleet.reasons(facts).into_iter().enumerate();
    let giving = rules.filter(|(_, (rule, why))| why.matches() && rule.profiles.contains(name));
    let told: Vec<String> = giving.map(|(at, (_, why))| format!("rules[{at}]: {why}")).collect();
    Some(told.join("; ")).filter(|told| !told.is_empty())
}

/// A step as an audit event tells it.
pub(super) fn deed(step: &Step, seen: &Seen, scene: &Scene<'_>) -> Deed {
    let Change { action, what, fields, .. } = preview::of_step(step, seen, scene);
    let changes = fields.into_iter().map(|field| audit::Change {
        path: field.path,
        old: field.old,
        new: field.new,
    });
    Deed { what, action: told(action), changes: changes.collect() }
}

fn told(action: Action) -> audit::Action {
    match action {
        Action::Create => audit::Action::Create,
        Action::Change => audit::Action::Change,
        Action::Delete => audit::Action::Delete,
        Action::Note => audit::Action::Note,
    }
}

/// What of the ledger another book changes: entries that come and go.
pub(super) fn changes_of_book(before: &Book, after: &Book) -> Vec<audit::Change> {
    let [before, after] =
        [before, after].map(|book| serde_json::to_value(book).expect("a book is plain data"));
    let mut changes = Vec::new();
    let keys = [&before, &after].into_iter().filter_map(|book| book.as_object());
    let keys: BTreeSet<&String> = keys.flat_map(|book| book.keys()).collect();
    for key in keys {
        let [old, new] = [&before, &after].map(|book| book[key].as_array().cloned());
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        let gone = old.iter().filter(|one| !new.contains(one));
        let come = new.iter().filter(|one| !old.contains(one));
        let text = |one: &Value| Some(one.to_string());
        let path = || key.clone();
        changes.extend(gone.map(|one| audit::Change { path: path(), old: text(one), new: None }));
        changes.extend(come.map(|one| audit::Change { path: path(), old: None, new: text(one) }));
    }
    changes
}

/// Counts what is amiss with a unit that had been ready: what else has steps is still being made.
pub(super) fn drift(prepared: &Prepared, scene: &Scene<'_>) {
    if !prepared.before.as_ref().is_some_and(|before| before.is_ready()) {
        return;
    }
    for node in &prepared.plan.steps {
        let kind = match preview::of_step(&node.step, &prepared.seen, scene).action {
            Action::Create => DriftKind::Missing,
            Action::Change => DriftKind::Different,
            Action::Delete => DriftKind::Surplus,
            Action::Note => continue,
        };
        meters::drift(kind, thing(&node.step));
    }
}

fn thing(step: &Step) -> DriftThing {
    match step {
        Step::CreateRunner { .. }
        | Step::UpdateRunner { .. }
        | Step::PauseRunner { .. }
        | Step::DeleteTwin { .. }
        | Step::RemoveRunner { .. } => DriftThing::Runner,
        Step::ReplaceToken { .. } => DriftThing::Token,
        Step::RehearseSecret { .. } | Step::KeepToken { .. } | Step::RewriteSecret { .. } => {
            DriftThing::Secret
        }
        Step::CreateIdentity { .. } | Step::TagIdentity { .. } | Step::RemoveIdentity { .. } => {
            DriftThing::Identity
        }
        Step::TrustServiceAccount { .. } | Step::RemoveCredential { .. } => DriftThing::Credential,
        Step::AssignRole { .. } | Step::RemoveRole { .. } => DriftThing::Role,
        Step::Apply { object, .. } => of_kind(object.name.kind),
        Step::RemoveObject { object, .. } => of_kind(object.kind),
        Step::ScaleToZero { .. } | Step::RestartManager { .. } => DriftThing::Deployment,
        Step::BookCreation { .. }
        | Step::NoteRollout { .. }
        | Step::NoteRevoked { .. }
        | Step::MarkSettling { .. }
        | Step::AnswerAccount { .. }
        | Step::MarkLeaving { .. }
        | Step::DropAnnotations { .. } => DriftThing::Note,
    }
}

fn of_kind(kind: Kind) -> DriftThing {
    match kind {
        Kind::Namespace => DriftThing::Namespace,
        Kind::ServiceAccount => DriftThing::Account,
        Kind::RoleBinding | Kind::ClusterRole => DriftThing::Binding,
        Kind::ResourceQuota | Kind::LimitRange => DriftThing::Quota,
        Kind::NetworkPolicy => DriftThing::Policy,
        // An administrator's: no step of ours is about them.
        Kind::ValidatingAdmissionPolicy
        | Kind::ValidatingAdmissionPolicyBinding
        | Kind::MutatingWebhookConfiguration => DriftThing::Policy,
        Kind::Secret => DriftThing::Secret,
        Kind::Deployment => DriftThing::Deployment,
        Kind::ConfigMap | Kind::Pod => DriftThing::Note,
    }
}

/// Times the way from the hook to a runner that may take jobs, once it is there.
pub(super) fn online(message: &Message, prepared: &Prepared, now: Timestamp) {
    let was_ready = prepared.before.as_ref().is_some_and(|before| before.is_ready());
    let online = prepared.plan.finding(ConditionKind::Online).is_some_and(|online| online.status);
    if let (Some(since), true, false) = (message.since, online, was_ready) {
        meters::online(now.duration_since(since));
    }
}

/// What a sweep knows of all units, and how long our own token lives.
pub(super) async fn swept(clients: &Clients, inventory: &Inventory, now: Timestamp) {
    meters::units(&inventory.tally);
    meters::slices(&inventory.slices);
    match days_left(clients, now).await {
        Ok(days) => meters::token_days(days),
        // Other calls say more plainly what is wrong with it.
        Err(failure) => debug!("how long our own token lives is not known: {}", failure.text),
    }
}

async fn days_left(clients: &Clients, now: Timestamp) -> Result<Option<f64>, Failure> {
    let token = clients.gitlab().token_self().await?;
    let end = token.expires_at.and_then(|day| day.to_zoned(TimeZone::UTC).ok());
    let left: Option<SignedDuration> = end.map(|end| end.timestamp().duration_since(now));
    Ok(left.map(|left| left.as_secs_f64() / 86_400.0))
}
