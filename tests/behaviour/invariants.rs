//! What must never happen, whatever befalls a fleet: one function each over what was seen of a sandbox.
//!
//! A [`Recorder`](record::Recorder) sees every call of forerunner that had an effect, with the world before and after it. An
//! invariant is asked about all of them; it answers one line a violation.

pub(crate) mod record;
mod rogue;
pub(crate) mod snapshot;

use jiff::{SignedDuration, tz::TimeZone};
use record::{Deed, Evidence, Sweep};
use snapshot::{Permit, Snapshot};
use std::collections::{BTreeMap, BTreeSet};

/// An invariant: its name, and what of the evidence breaks it.
pub(crate) type Invariant = (&'static str, fn(&Evidence) -> Vec<String>);

pub(crate) const INVARIANTS: [Invariant; 11] = [
    ("no two entities of one runner serve", no_two_entities_serve),
    ("nothing unmarked is touched", nothing_unmarked_is_touched),
    ("nothing goes without a permit", nothing_goes_without_a_permit),
    ("nothing wanted goes on an unsure read", nothing_wanted_goes),
    ("the brake holds over a day", the_brake_holds),
    ("no right above the guardrails is given", no_right_above_the_guardrails),
    ("a unit has one writer", a_unit_has_one_writer),
    ("the only copy of a token is never lost", no_token_is_lost),
    ("what is held is left alone", nothing_held_is_written),
    ("nothing goes in a freeze", nothing_goes_in_a_freeze),
    ("no twin stays for long", no_twin_stays),
];

/// Everything that broke, in the order of the list above.
pub(crate) fn broken(evidence: &Evidence) -> Vec<String> {
    let of = |(name, check): &Invariant| {
        check(evidence).into_iter().map(|line| format!("{name}: {line}")).collect::<Vec<_>>()
    };
    let mut all: Vec<String> = INVARIANTS.iter().flat_map(of).collect();
    all.extend(no_secret_is_told(evidence).into_iter().map(|line| format!("a secret: {line}")));
    all
}

/// A twin is made and removed in peace: it never takes jobs beside the one that stays.
fn no_two_entities_serve(evidence: &Evidence) -> Vec<String> {
    let serving = |snapshot: &Snapshot| {
        let mut keys: BTreeMap<String, usize> = BTreeMap::new();
        for entity in snapshot.entities.values().filter(|entity| !entity.paused) {
            *keys.entry(entity.key.clone()).or_default() += 1;
        }
        keys.into_iter().filter(|(_, count)| *count > 1).map(|(key, _)| key)
    };
    let new = |deed: &Deed| {
        let before: BTreeSet<String> = serving(&deed.before).collect();
        serving(&deed.after).filter(|key| !before.contains(key)).collect::<Vec<_>>()
    };
    evidence.each(|deed| new(deed).into_iter().map(|key| format!("two serve as {key}")).collect())
}

/// What forerunner changes or deletes, forerunner made.
fn nothing_unmarked_is_touched(evidence: &Evidence) -> Vec<String> {
    evidence.each(|deed| {
        let Some(name) = deed.touches() else { return vec![] };
        let given = name.contains("/roleassignments/") || name.contains("/federatedidentity");
        let allowed = deed.before.truth.removes_foreign_rights && deed.method == "DELETE" && given;
        // The cluster makes this one in every namespace, in ours too.
        let namespace = name.strip_suffix("/serviceaccounts/default");
        let furnished = deed.method == "PATCH"
            && namespace.is_some_and(|namespace| deed.made_before.contains(namespace));
        let elsewhere = &deed.before.truth.made_elsewhere;
        let unseen = elsewhere.iter().any(|id| name == format!("runner {id}"));
        match deed.made_before.contains(&name) || allowed || furnished || unseen {
            true => vec![],
            false => vec![format!("{name} was not made by forerunner")],
        }
    })
}

/// Identity, namespace, manager, Secret and last entity of a unit go by a permit of the day.
fn nothing_goes_without_a_permit(evidence: &Evidence) -> Vec<String> {
    evidence.each(|deed| {
        let gone = deed.destroys().filter(|unit| !deed.before.permits.contains_key(unit));
        gone.into_iter().map(|unit| format!("{unit} had no permit")).collect()
    })
}

/// Whatever a list said: what the file wants and GitLab has is not taken away, but by an operator's order.
fn nothing_wanted_goes(evidence: &Evidence) -> Vec<String> {
    evidence.each(|deed| {
        let wanted = |unit: &String| deed.before.truth.wanted.contains(unit);
        let gone = deed.destroys().filter(|unit| wanted(unit) && !is_ordered(deed, unit));
        gone.into_iter().map(|unit| format!("{unit} is wanted")).collect()
    })
}

/// The unit goes because an operator named it.
fn is_ordered(deed: &Deed, unit: &String) -> bool {
    deed.before.truth.ordered.contains(unit)
        && deed.before.permits.get(unit) == Some(&Permit::Ordered)
}

/// The unit goes because an operator confirmed what was leaving.
fn is_confirmed(deed: &Deed, unit: &String) -> bool {
    deed.before.truth.confirmed && deed.before.permits.get(unit) == Some(&Permit::Confirmed)
}

/// In no 24 hours more units go without an operator's word than min(`max`, max(2, `percent` of the fleet)).
fn the_brake_holds(evidence: &Evidence) -> Vec<String> {
    let day = SignedDuration::from_hours(24);
    let destroys = |deed: &Deed| {
        deed.destroys().filter(|unit| !is_ordered(deed, unit) && !is_confirmed(deed, unit))
    };
    let going: Vec<(&Deed, String)> =
        evidence.deeds.iter().filter_map(|deed| Some((deed, destroys(deed)?))).collect();
    let mut broken = Vec::new();
    for (last, _) in &going {
        let within = |deed: &Deed, time: SignedDuration| {
            deed.at <= last.at && last.at.duration_since(deed.at) < time
        };
        let units: BTreeSet<&String> =
            going.iter().filter(|(deed, _)| within(deed, day)).map(|(_, unit)| unit).collect();
        // The permit may be a day older than the act, and the fleet was larger then.
        let before = evidence.deeds.iter().filter(|deed| within(deed, day + day));
        let fleet = before.map(|deed| deed.before.managers).max().unwrap_or_default();
        let (max, percent) = last.before.truth.deletions;
        let limit = max.min((fleet * percent / 100).max(2));
        if units.len() > limit {
            broken.push(format!("{} units of {fleet} until {}: {units:?}", units.len(), last.at));
        }
    }
    broken
}

/// A role is one of the guardrails', at or below one of their scopes, for an identity that forerunner made; and a credential
/// lets in a job account of this fleet's namespaces and nobody else.
fn no_right_above_the_guardrails(evidence: &Evidence) -> Vec<String> {
    evidence.each(|deed| {
        if deed.method != "PUT" {
            return vec![];
        }
        let (path, properties) = (deed.path.to_lowercase(), &deed.request["properties"]);
        let truth = &deed.before.truth;
        if let Some((scope, _)) = path.split_once("/providers/microsoft.authorization/roleassign") {
            let role = properties["roleDefinitionId"].as_str().unwrap_or_default();
            let principal = properties["principalId"].as_str().unwrap_or_default();
            let within = |of: &String| {
                let rest = scope.strip_prefix(&of.to_lowercase());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let mut broken = Vec::new();
            if !truth.roles.iter().any(|allowed| role.ends_with(allowed.as_str())) {
                broken.push(format!("role {role}"));
            }
            if !truth.scopes.iter().any(within) {
                broken.push(format!("scope {scope}"));
            }
            if !deed.after.principals.contains_key(principal) {
                broken.push(format!("principal {principal} is no identity of ours"));
            }
            return broken;
        }
        if path.contains("/federatedidentitycredentials/") {
            let subject = properties["subject"].as_str().unwrap_or_default();
            let issuer = properties["issuer"].as_str().unwrap_or_default();
            let ours = subject.starts_with("system:serviceaccount:ci-nonprod--");
            if !ours || issuer != truth.issuer {
                return vec![format!("{subject} of {issuer} may sign in")];
            }
        }
        vec![]
    })
}

/// Whoever writes a unit's parts works on a message of the unit's session.
fn a_unit_has_one_writer(evidence: &Evidence) -> Vec<String> {
    evidence.each(|deed| {
        let unit = deed.unit().filter(|_| deed.after.truth.sessions_are_sure);
        // An existing identity's unit ends in a digest of its whole id.
        let holds = |unit: &String| {
            let mut sessions = deed.after.sessions.iter();
            sessions.any(|held| held == unit || held.starts_with(&format!("{unit}.")))
        };
        let unheld = unit.filter(|unit| !holds(unit));
        unheld
            .map(|unit| format!("{unit} while {:?} ran", deed.after.sessions))
            .into_iter()
            .collect()
    })
}

/// The token of the unit is replaced because an operator said so.
fn is_revoked(deed: &Deed, unit: &String) -> bool {
    deed.before.truth.revoked.contains(unit) && deed.before.revocations.contains(unit)
}

/// What a Secret holds a live token of keeps one, as long as it is there and nothing permits its end.
fn no_token_is_lost(evidence: &Evidence) -> Vec<String> {
    evidence.each(|deed| {
        let lost = |id: &&u64| {
            let after = deed.after.entities.get(id);
            let permitted = |key: &str| {
                let unit = format!("runner/{key}");
                deed.before.permits.contains_key(&unit) || is_revoked(deed, &unit)
            };
            !deed.after.live.contains_key(id) && after.is_some_and(|entity| !permitted(&entity.key))
        };
        deed.before.live.keys().filter(lost).map(|id| format!("of runner {id}")).collect()
    })
}

/// A round that was under way when the hold came may end.
const ENDS: SignedDuration = SignedDuration::from_mins(10);

/// Nothing of a unit is written while an operator holds it, but another token where its own is revoked.
fn nothing_held_is_written(evidence: &Evidence) -> Vec<String> {
    let mut since = BTreeMap::new();
    evidence.each(|deed| {
        let holds = deed.before.holds.iter().map(|(unit, until)| (unit.clone(), *until));
        holds.for_each(|hold| _ = since.entry(hold).or_insert(deed.at));
        let held = deed.owner().and_then(|unit| {
            let until = *deed.before.holds.get(&unit)?;
            (deed.at < until && !is_revoked(deed, &unit)).then_some((unit, until))
        });
        let held = held.filter(|hold| deed.at.duration_since(since[hold]) >= ENDS);
        held.map(|(unit, until)| format!("{unit} until {until}")).into_iter().collect()
    })
}

/// Whatever a freeze allows, removals are not among it.
fn nothing_goes_in_a_freeze(evidence: &Evidence) -> Vec<String> {
    evidence.each(|deed| {
        let today = deed.at.to_zoned(TimeZone::UTC).date();
        let is_frozen = deed.before.truth.freeze.as_ref().is_some_and(|days| days.contains(&today));
        deed.destroys().filter(|_| is_frozen).into_iter().collect()
    })
}

/// One sweep and the rounds that it wakes take a twin away (docs/drift.md, *a twin with our marker*): that needs no permit, and
/// the brake does not count it. One that somebody polls with waits for a person's word; a unit that is held, ordered away, or
/// parked and not due is left alone.
fn no_twin_stays(evidence: &Evidence) -> Vec<String> {
    let of = |sweep: &Sweep| {
        let (before, after) = (&sweep.before, &sweep.after);
        let is_looked_at = |unit: &String| {
            before.truth.wanted.contains(unit)
                && after.truth.wanted.contains(unit)
                && !before.holds.contains_key(unit)
                && !sweep.parked.contains(unit)
                && before.permits.get(unit) != Some(&Permit::Ordered)
        };
        let mut keys: BTreeMap<&String, Vec<u64>> = BTreeMap::new();
        for (id, entity) in &before.entities {
            if after.entities.contains_key(id) && is_looked_at(&format!("runner/{}", entity.key)) {
                keys.entry(&entity.key).or_default().push(*id);
            }
        }
        // One stays: the one whose token is kept, else the lowest id.
        let twins = keys.into_values().flat_map(|ids| {
            let live = ids.iter().find(|id| after.live.contains_key(id));
            let kept = live.or(ids.first()).copied();
            ids.into_iter().filter(move |id| Some(*id) != kept && !after.entities[id].used)
        });
        twins.map(|id| format!("runner {id} ({})", sweep.at)).collect::<Vec<_>>()
    };
    evidence.sweeps.iter().flat_map(of).collect()
}

/// No token is in a message, a log line or anything that is told of a unit.
fn no_secret_is_told(evidence: &Evidence) -> Vec<String> {
    let holds = |text: &&String| {
        evidence.secrets.iter().any(|secret| secret.len() > 12 && text.contains(secret.as_str()))
    };
    let told = evidence.told.iter().filter(holds);
    told.map(|text| text.chars().take(60).collect::<String>()).collect()
}
